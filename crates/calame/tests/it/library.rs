//! The crate as a library: everything a user's program needs, without calame-cli.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calame::data::{DataConfig, Splits};
use calame::device::{Clock, Device, Workload};
use calame::formats::load_model;
use calame::infer::{SamplerConfig, TextEnd, TextGeneration, TextOptions, generate_text};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{self, Isa, Precision};
use calame::run::metrics::{self, Record};
use calame::run::{Recorder, RunFolder, RunListener};
use calame::tensor::Alloc;
use calame::tokenizer::{self, SimpleTokenizer, Tokenizer};
use calame::train::{EarlyStoppingConfig, Outcome, RunConfig, Trainer, sound_checkpoint};

/// A user's program: trains on a string, saves, loads and generates.
#[test]
fn a_users_program() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");

    let text = "A reed pen writes what the hand decides, and no more than that. ".repeat(60);
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.tokenizer.kind = "simple-v2".to_owned();
    (config.train.epochs, config.sample.max_tokens) = (2, 0);
    let tokenizer = config.tokenizer.build(&text)?;
    config.model.vocab_size = tokenizer.n_vocab();
    config.validate()?;
    let (dev, resolved) = config.device.resolve(Workload::Training, None)?;
    config.device = resolved;
    let splits = Splits::from_text(&text, tokenizer.as_ref(), &config.data)?;
    let mut trainer = Trainer::fresh(&dev, &config, splits);
    let start = Instant::now();
    let mut recorder = Recorder::create(&run, &config, tokenizer, false, Box::new(move || start.elapsed()))?;
    let outcome = recorder.train(&mut trainer)?;

    let saved = load_model(&run)?;
    let tokenizer = saved.tokenizer.ok_or("the model has no tokenizer")?;
    let options = TextOptions { max_tokens: 8, ..TextOptions::default() };
    let continued = generate_text(&dev, &saved.gpt, tokenizer.as_ref(), "A reed pen", &options)?;

    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(recorder.listener().texts(), [""; 0]);
    assert!(continued.starts_with("A reed pen") && continued.len() > "A reed pen".len(), "{continued:?}");
    Ok(())
}

fn words() -> Arc<dyn Tokenizer> {
    Arc::new(SimpleTokenizer::v2("A reed pen writes what the hand decides , and no more than that .").unwrap())
}

/// One thread, because the tests themselves run in parallel.
fn device() -> Device {
    Device::cpu(1, Isa::Portable, Precision::F32)
}

/// Two epochs of a few steps, with a model of two small blocks.
fn small() -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    let vocab_size = words().n_vocab();
    config.model =
        ModelConfig { vocab_size, n_positions: 16, n_embd: 16, n_head: 2, n_layer: 2, ..Preset::Tiny.config() };
    config.data = DataConfig { window: 8, stride: 8, batch_size: 4, ..DataConfig::default() };
    (config.train.epochs, config.train.eval_every) = (2, 3);
    config.checkpoint.every_minutes = 0.0;
    config
}

fn splits(config: &RunConfig) -> Splits {
    let text = "A reed pen writes what the hand decides , and no more than that . ".repeat(14);
    Splits::from_text(&text, words().as_ref(), &config.data).unwrap()
}

/// A clock that does not advance, so that two runs write the same files.
fn still() -> Clock {
    Box::new(|| Duration::from_secs(1))
}

fn file(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Requests a stop after a number of recorded steps and collects the warnings.
struct StopAfter {
    n_steps: usize,
    warnings: Vec<String>,
}

impl RunListener for StopAfter {
    fn record(&mut self, record: &Record) {
        if matches!(record, Record::Step { .. }) {
            self.n_steps = self.n_steps.saturating_sub(1);
        }
    }

    fn warning(&mut self, text: &str) {
        self.warnings.push(text.to_owned());
    }

    fn stop_requested(&mut self) -> bool {
        self.n_steps == 0
    }
}

fn with_samples<L>(recorder: Recorder<L>) -> Recorder<L> {
    recorder.with_samples("A reed", |dev, gpt, prompt| {
        let options = TextOptions { max_tokens: 3, ..TextOptions::default() };
        generate_text(dev, gpt, words().as_ref(), prompt, &options)
    })
}

#[test]
fn a_recorder_writes_the_runs_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, config, run) = (device(), small(), folder.path().join("run"));
    let mut trainer = Trainer::fresh(&dev, &config, splits(&config));
    let recorder = Recorder::create(&run, &config, words(), false, still()).unwrap();
    let mut recorder = with_samples(recorder);
    recorder.write_events(still(), "host");
    assert_eq!(recorder.train(&mut trainer).unwrap(), Outcome::Finished);
    assert_eq!(recorder.listener().texts(), [""; 0]);

    let records = metrics::read(&recorder.folder().metrics()).unwrap();
    let count = |is: fn(&Record) -> bool| records.iter().filter(|record| is(record)).count() as u64;
    let n_steps = trainer.n_steps_total();
    assert_eq!(count(|r| matches!(r, Record::Step { .. })), n_steps);
    let has_extra = !(n_steps - 1).is_multiple_of(3);
    assert_eq!(count(|r| matches!(r, Record::Evaluation { .. })), n_steps.div_ceil(3) + u64::from(has_extra));
    assert_eq!(count(|r| matches!(r, Record::Sample { .. })), 2);
    assert!(matches!(records.last(), Some(Record::End { .. })));
    let samples = String::from_utf8(file(&run, "samples.txt")).unwrap();
    assert!(samples.contains("epoch 1\nA reed") && samples.contains("epoch 2\nA reed"), "{samples}");
    assert!(file(&run, "loss-plot.svg").starts_with(b"<"));
    assert_eq!(fs::read_dir(run.join("tensorboard")).unwrap().count(), 1);
    let last = run.join(format!("checkpoints/step-{n_steps:06}"));
    assert!(last.is_dir() && fs::read_dir(run.join("checkpoints")).unwrap().count() == 1, "its last state is kept");
    let saved = load_model(&run).unwrap();
    assert_eq!(crate::support::bits(&saved.gpt), crate::support::bits(trainer.gpt()));

    drop(recorder);
    let again = Recorder::create(&run, &config, words(), false, still()).unwrap_err().to_string();
    assert!(again.contains("exists already"), "{again}");
}

#[test]
fn a_stopped_recorder_resumes_to_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, config) = (device(), small());
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let create = |path: &Path| with_samples(Recorder::create(path, &config, words(), false, still()).unwrap());
    create(&whole).train(&mut Trainer::fresh(&dev, &config, splits(&config))).unwrap();

    let listener = StopAfter { n_steps: 4, warnings: Vec::new() };
    let mut recorder = create(&parts).with_listener(listener);
    let outcome = recorder.train(&mut Trainer::fresh(&dev, &config, splits(&config))).unwrap();
    assert_eq!((outcome, &recorder.listener().warnings[..]), (Outcome::Stopped, &[][..]));
    drop(recorder);

    let (folder, resumed) = RunFolder::open(&parts).unwrap();
    let lock = folder.lock().unwrap();
    let checkpoint = sound_checkpoint(&folder.checkpoints()).unwrap().0.unwrap();
    let json = folder.tokenizer_json().unwrap();
    let tokenizer = tokenizer::read_json(&json, Path::new("tokenizer.json")).unwrap();
    let gpt = Gpt::zeros(&resumed.model, &mut Alloc::on(&dev));
    let mut trainer = Trainer::new(&dev, &resumed, gpt, splits(&resumed));
    let recorder = Recorder::resume(folder, lock, &checkpoint, &mut trainer, tokenizer, still()).unwrap();
    assert_eq!(recorder.n_steps_before(), 4);
    assert_eq!(with_samples(recorder).train(&mut trainer).unwrap(), Outcome::Finished);
    for name in ["metrics.jsonl", "samples.txt", "model/model.safetensors", "model/config.json", "loss-plot.svg"] {
        assert!(file(&whole, name) == file(&parts, name), "{name}");
    }
}

#[test]
fn a_recorder_keeps_the_best_model() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, mut config, run) = (device(), small(), folder.path().join("run"));
    // Validation gets worse at some step, or the last model is the best one; both runs record the best.
    (config.train.epochs, config.train.lr) = (6, 0.1);
    config.early_stopping = EarlyStoppingConfig { patience: 2, ..EarlyStoppingConfig::default() };
    config.validate().unwrap();
    let mut trainer = Trainer::fresh(&dev, &config, splits(&config));
    let mut recorder = Recorder::create(&run, &config, words(), false, still()).unwrap();
    recorder.train(&mut trainer).unwrap();
    let records = metrics::read(&recorder.folder().metrics()).unwrap();
    let Some(Record::End { best_step: Some(step), best_val_loss: Some(loss), .. }) = records.last() else {
        panic!("{:?}", records.last())
    };
    let losses = records.iter().filter_map(|record| match record {
        Record::Evaluation { step, val_loss, .. } => Some((*step, *val_loss)),
        _ => None,
    });
    let best = losses.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!((*step, *loss), best);
    assert!(load_model(&run).is_ok());
}

#[test]
fn a_sample_that_fails_ends_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, config) = (device(), small());
    let recorder = Recorder::create(&folder.path().join("run"), &config, words(), false, still()).unwrap();
    let mut recorder = recorder.with_samples("A reed", |_, _, prompt| Err::<String, _>(format!("no {prompt}")));
    let error = recorder.train(&mut Trainer::fresh(&dev, &config, splits(&config))).unwrap_err();
    assert_eq!(error.to_string(), "no A reed");
}

/// A model with 40 tokens, more than the tokenizer has.
fn wide_model(dev: &Device) -> Gpt {
    Gpt::fresh(dev, &ModelConfig { vocab_size: 40, ..small().model }, 5)
}

#[test]
fn a_text_can_own_what_it_is_made_by() {
    let (dev, tokenizer) = (Arc::new(device()), words());
    let gpt = Arc::new(wide_model(&dev));
    let options = TextOptions {
        sampler: SamplerConfig { temperature: 1.0, ..SamplerConfig::default() },
        max_tokens: 40,
        stop_at_end: false,
        ..TextOptions::default()
    };
    let borrowed = generate_text(&dev, &gpt, tokenizer.as_ref(), "A reed", &options).unwrap();
    let owned = TextGeneration::new(Arc::clone(&dev), Arc::clone(&gpt), Arc::clone(&tokenizer), "A reed", &options);
    drop((dev, gpt));
    // On another thread, like a server's requests.
    let (text, ids) = std::thread::spawn(move || {
        let mut owned = owned.unwrap();
        let mut text = owned.prompt_text().to_owned();
        owned.by_ref().for_each(|piece| text.push_str(&piece.unwrap()));
        (text, owned.new_tokens().to_vec())
    })
    .join()
    .unwrap();
    assert_eq!(text, borrowed);
    assert_eq!(ids.len(), 40);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()), "{ids:?}");
}

#[test]
fn a_text_ends_at_its_end() {
    let (dev, tokenizer) = (device(), words());
    let gpt = wide_model(&dev);
    let sampler = SamplerConfig { temperature: 5.0, ..SamplerConfig::default() };
    let options = TextOptions { sampler, max_tokens: 500, ..TextOptions::default() };
    let mut text = TextGeneration::new(&dev, &gpt, tokenizer.as_ref(), "A reed", &options).unwrap();
    let pieces: String = text.by_ref().map(Result::unwrap).collect();
    let end = tokenizer.end_of_text().unwrap();
    assert!(text.end() == Some(&TextEnd::Token) && text.new_tokens().last() == Some(&end));
    assert!(!text.new_tokens()[..text.new_tokens().len() - 1].contains(&end) && !pieces.contains("<|endoftext|>"));
    assert!(text.next_piece().unwrap().is_none());
    // An empty prompt starts a new text.
    let begun = TextGeneration::new(&dev, &gpt, tokenizer.as_ref(), "", &options).unwrap();
    assert_eq!(begun.prompt_text(), "<|endoftext|>");
}

/// The message of a panic.
fn panic_of(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(f).unwrap_err();
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
}

#[test]
fn a_panic_names_the_operation_and_the_shapes() {
    let zeros = |dims: &[usize]| Alloc::on_host().zeros(dims);
    let layer_norm = panic_of(|| {
        let (x, weight, bias, mut y) = (zeros(&[2, 3]), zeros(&[3]), zeros(&[4]), zeros(&[2, 3]));
        let (mut mean, mut rstd) = (zeros(&[2]), zeros(&[2]));
        let layer = ops::Affine { weight: &weight, bias: &bias, eps: 1e-5 };
        ops::layer_norm_forward(&device(), &x, layer, &mut y, &mut mean, &mut rstd);
    });
    assert!(layer_norm.contains("layer_norm_forward: the sizes do not agree: x [2, 3]"), "{layer_norm}");
    assert!(layer_norm.contains("bias [4]"), "{layer_norm}");
    let write = panic_of(|| ops::write(&device(), &[1.0; 5], &mut zeros(&[2, 3])));
    assert!(write.contains("ops::write: 5 elements for Tensor[2, 3]"), "{write}");
    let logits = panic_of(|| drop(wide_model(&device()).logits(&device(), &[1, 40], 1)));
    assert!(logits.contains("Gpt::logits: token 40 is not one of the model's 40"), "{logits}");
    let forward = panic_of(|| drop(wide_model(&device()).logits(&device(), &[1; 17], 1)));
    assert!(forward.contains("Gpt::forward: sequences of 17 tokens, the model's context is 16"), "{forward}");
}
