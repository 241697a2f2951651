//! The training loop: it learns, resumes bit for bit and ends where it should; and the folder of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use calame::data::{ShardError, Windows};
use calame::formats::CheckpointError;
use calame::model::{
    Batch, BatchSlices, Dropout, Gpt, Gradients, ModelConfig, Preset, ReturnAll, Saved, Scratch, Trainable,
};
use calame::ops::{AdamWStep, Device, Isa, Precision, RowSet, adamw};
use calame::rng::{Key, Sequence};
use calame::run::{RunFolder, RunFolderError};
use calame::tensor::Alloc;
use calame::train::{EvaluationReport, Observer, Outcome, Rng, RunConfig, Splits, StepFault, StepReport, Trainer};

use crate::support::{bits, change, zeros};

const VOCAB: u64 = 101;
/// Number of steps per epoch in `config`.
const STEPS_PER_EPOCH: u64 = 5;
const BATCH: usize = 4;
const WINDOW: usize = 16;

/// Two epochs of five steps of 4 × 16 tokens, with dropout.
fn config() -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig {
        vocab_size: VOCAB as usize,
        n_positions: 32,
        n_embd: 48,
        n_head: 3,
        n_layer: 2,
        dropout: 0.1,
        ..Preset::Tiny.config()
    };
    (config.data.window, config.data.stride, config.data.batch_size) = (WINDOW, WINDOW, BATCH);
    config.train.epochs = 2;
    (config.train.eval_every, config.train.eval_batches) = (2, 2);
    config
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB) as u32).collect()
}

/// Tokens that give `n_windows` windows with the length and stride of `config`.
fn tokens_of_windows(n_windows: usize, seed: u64) -> Vec<u32> {
    tokens(n_windows * WINDOW + 1, seed)
}

/// Training batches for `n_steps` steps per epoch, and seven validation windows, so that the last validation batch is
/// short.
fn splits(config: &RunConfig, n_steps: u64) -> Splits {
    let windows = |n, seed| Windows::new(tokens_of_windows(n, seed).into(), WINDOW, WINDOW).unwrap();
    // One window more than full batches use, for `drop_last` to skip.
    let train = windows(n_steps as usize * BATCH + 1, 1);
    Splits::new(train, windows(7, 2), &config.data).unwrap()
}

/// One thread, because the tests themselves run in parallel.
fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

fn trainer<'a>(dev: &'a Device, config: &'a RunConfig) -> Trainer<'a> {
    let gpt = Gpt::fresh(dev, &config.model, config.train.seed);
    Trainer::new(dev, config, gpt, splits(config, STEPS_PER_EPOCH))
}

/// The files of a checkpoint by name: weights, both moments and the progress.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Step(StepReport),
    Evaluation(EvaluationReport),
    EpochEnd { epoch: u64, step: u64, bits: Vec<u32> },
}

/// When to request a stop.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Never,
    /// Right after step n (from 1), before the evaluation and the end of the epoch that follow it.
    AtOnce(u64),
    /// After everything that follows step n.
    Settled(u64),
}

/// Records everything; its clock advances by a second at each call.
struct Recorder {
    stop: Stop,
    events: Vec<Event>,
    n_steps: u64,
    n_questions: u32,
    seconds: u64,
}

impl Recorder {
    /// `n_steps` steps have been made before.
    fn new(stop: Stop, n_steps: u64) -> Recorder {
        Recorder { stop, events: Vec::new(), n_steps, n_questions: 0, seconds: 0 }
    }

    fn evaluations(&self) -> Vec<EvaluationReport> {
        self.events
            .iter()
            .filter_map(|e| if let Event::Evaluation(report) = e { Some(*report) } else { None })
            .collect()
    }
}

impl Observer for Recorder {
    type Error = ShardError;

    fn now(&mut self) -> Duration {
        self.seconds += 1;
        Duration::from_secs(self.seconds)
    }

    fn stop_requested(&mut self) -> bool {
        // The loop asks right after a step, and again before the next one.
        self.n_questions += 1;
        match self.stop {
            Stop::Never => false,
            Stop::AtOnce(n) => self.n_steps >= n,
            Stop::Settled(n) => self.n_steps >= n && self.n_questions == 2,
        }
    }

    fn step(&mut self, report: &StepReport) -> Result<(), ShardError> {
        self.events.push(Event::Step(*report));
        self.n_steps += 1;
        self.n_questions = 0;
        Ok(())
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), ShardError> {
        self.events.push(Event::Evaluation(*report));
        Ok(())
    }

    fn epoch_end(&mut self, _: &Device, gpt: &Gpt, epoch: u64, step: u64) -> Result<(), ShardError> {
        self.events.push(Event::EpochEnd { epoch, step, bits: bits(gpt) });
        Ok(())
    }
}

fn run(trainer: &mut Trainer<'_>, recorder: &mut Recorder) -> Outcome {
    trainer.run(recorder).unwrap()
}

/// A complete training: what the observer saw, and the final weights.
fn whole(dev: &Device, config: &RunConfig) -> (Vec<Event>, Vec<u32>) {
    let (mut trainer, mut recorder) = (trainer(dev, config), Recorder::new(Stop::Never, 0));
    assert_eq!(run(&mut trainer, &mut recorder), Outcome::Finished);
    (recorder.events, bits(trainer.gpt()))
}

#[test]
fn one_batch_is_overfitted() {
    for (tied_head, qkv_bias) in [(true, true), (false, false)] {
        let mut config = config();
        config.model = ModelConfig { dropout: 0.0, tied_head, qkv_bias, ..config.model };
        config.train.lr = 3e-3;
        let dev = device();
        let gpt = Gpt::fresh(&dev, &config.model, 1);
        let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config, 1));
        assert_eq!(trainer.steps_per_epoch(), 1);
        let losses: Vec<f32> = (0..200).map(|_| trainer.step().unwrap().loss).collect();
        let ln_v = (VOCAB as f32).ln();
        assert!((losses[0] - ln_v).abs() < 0.5, "untrained {}, ln V = {ln_v}", losses[0]);
        let last = losses[199];
        assert!(last < 0.1, "after 200 steps on one batch: {last}, tied head: {tied_head}");
    }
}

/// The trainer skips rows that never had a gradient, and its blocks share gradient memory. The weights still equal
/// those of plain AdamW on whole gradients, bit for bit.
#[test]
fn steps_are_those_of_plain_adamw() {
    let mut config = config();
    (config.model.tied_head, config.model.dropout, config.data.shuffle) = (false, 0.0, false);
    // Two thirds of the rows have no token.
    config.model.vocab_size = 3 * VOCAB as usize;
    let (dev, train) = (device(), config.train.clone());
    let mut trainer = trainer(&dev, &config);
    let mut gpt = Gpt::fresh(&dev, &config.model, train.seed);
    let alloc = &mut Alloc::on(&dev);
    let [mut m, mut v] = [(); 2].map(|()| zeros(&config.model));
    let mut grads = Gradients::new(&gpt, None, Trainable::ALL, config.model.n_layer, alloc);
    let mut saved = Saved::for_training(&config.model, BATCH, WINDOW, alloc);
    let mut scratch = Scratch::new(&config.model, BATCH * WINDOW, alloc);
    let mut tensors = Batch::new(BATCH * WINDOW, alloc);
    let mut loader = splits(&config, STEPS_PER_EPOCH).train;
    loader.start_epoch(None);
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for t in 1..=STEPS_PER_EPOCH as i32 {
        trainer.step().unwrap();
        let n_sequences = loader.next_batch(&mut inputs, &mut targets).unwrap();
        let (drop, scale) = (Dropout::Off, 1.0 / inputs.len() as f32);
        tensors.load(&dev, BatchSlices::new(&inputs, &targets, n_sequences));
        gpt.forward_backward(&dev, &tensors, &drop, scale, &mut grads, &mut saved, &mut scratch, &mut ReturnAll);
        let step = AdamWStep {
            lr: train.lr as f32,
            beta1: train.beta1 as f32,
            beta2: train.beta2 as f32,
            eps: train.eps as f32,
            weight_decay: train.weight_decay as f32,
            bias_correction1: (1.0 - train.beta1.powi(t)) as f32,
            bias_correction2: (1.0 - train.beta2.powi(t)) as f32,
            grad_scale: 1.0,
        };
        let trees = gpt.tensors_mut().zip(grads.tensors()).zip(m.tensors_mut().zip(v.tensors_mut()));
        for (((_, w), (_, g)), ((_, m), (_, v))) in trees.filter(|(((_, w), _), _)| !w.is_empty()) {
            adamw(&dev, &step, &RowSet::All, w, &mut g.clone(), m, v);
        }
        grads.zero(&dev);
        assert!(bits(trainer.gpt()) == bits(&gpt), "weights after step {t}");
    }
}

#[test]
fn steps_and_tokens_are_counted() {
    let (dev, config) = (device(), config());
    let (events, _) = whole(&dev, &config);
    let steps: Vec<&StepReport> =
        events.iter().filter_map(|e| if let Event::Step(report) = e { Some(report) } else { None }).collect();
    assert_eq!(steps.len(), 10);
    for (i, report) in (0..).zip(steps) {
        let n_tokens = BATCH * WINDOW;
        assert_eq!((report.step, report.epoch, report.n_tokens), (i, i / STEPS_PER_EPOCH + 1, n_tokens));
        assert_eq!((report.n_tokens_seen, report.step_seconds), ((i + 1) * n_tokens as u64, 1.0));
        assert_eq!(report.lr, config.train.lr);
    }
    let places: Vec<(u64, u64)> = events
        .iter()
        .filter_map(|e| if let Event::EpochEnd { epoch, step, .. } = e { Some((*epoch, *step)) } else { None })
        .collect();
    assert_eq!(places, [(1, 4), (2, 9)]);
}

/// Interrupts a training of ten steps, resumes it with another trainer, and compares everything with an uninterrupted
/// one.
fn resumed_equals_unbroken(config: &RunConfig, n_steps_per_epoch: u64, stop: Stop) {
    let dev = device();
    let folder = tempfile::tempdir().unwrap();
    let begin = |seed| {
        let gpt = Gpt::fresh(&dev, &config.model, seed);
        Trainer::new(&dev, config, gpt, splits(config, n_steps_per_epoch))
    };
    let (mut unbroken, mut all) = (begin(1), Recorder::new(Stop::Never, 0));
    assert_eq!(run(&mut unbroken, &mut all), Outcome::Finished);

    let (mut first, mut before) = (begin(1), Recorder::new(stop, 0));
    assert_eq!(run(&mut first, &mut before), Outcome::Stopped);
    assert_eq!(first.progress().settled, matches!(stop, Stop::Settled(_)));
    let n_steps = first.progress().n_steps;
    let checkpoint = first.save(&folder.path().join("checkpoints")).unwrap();
    drop(first);
    // The weights differ from the first trainer's: everything must come from the checkpoint.
    let (mut second, mut after) = (begin(99), Recorder::new(Stop::Never, n_steps));
    second.resume(&checkpoint).unwrap();
    assert_eq!(run(&mut second, &mut after), Outcome::Finished);

    // Every step, evaluation and end of an epoch occurs exactly once.
    assert_eq!(n_steps, 5);
    assert_eq!([before.events, after.events].concat(), all.events, "{stop:?}");
    let saved = |trainer: &Trainer<'_>, name: &str| files(&trainer.save(&folder.path().join(name)).unwrap());
    let (a, b) = (saved(&unbroken, "a"), saved(&second, "b"));
    assert_eq!(
        a.keys().collect::<Vec<_>>(),
        ["checksums.json", "config.toml", "m.safetensors", "state.json", "v.safetensors", "weights.safetensors"]
    );
    assert!(a == b, "weights, moments or place differ after {stop:?} in epochs of {n_steps_per_epoch}");
}

#[test]
fn ten_steps_are_five_a_resume_and_five() {
    // Step 4, the fifth, is followed by an evaluation, and in epochs of five steps by the end of the first.
    for (n_steps_per_epoch, epochs) in [(5, 2), (10, 1)] {
        for stop in [Stop::AtOnce(5), Stop::Settled(5)] {
            let mut config = config();
            config.train.epochs = epochs;
            resumed_equals_unbroken(&config, n_steps_per_epoch, stop);
        }
    }
    let mut config = config();
    config.model = ModelConfig { tied_head: false, qkv_bias: false, ..config.model };
    config.data.shuffle = false;
    resumed_equals_unbroken(&config, 5, Stop::AtOnce(5));
}

/// A single generator: its state and the order of the current epoch are restored.
#[test]
fn a_run_that_follows_torch_resumes_to_the_bit() {
    let mut config = config();
    config.train.rng = Rng::Torch;
    for (n_steps_per_epoch, epochs, shuffle) in [(5, 2, true), (10, 1, true), (10, 1, false)] {
        for stop in [Stop::AtOnce(5), Stop::Settled(5)] {
            (config.train.epochs, config.data.shuffle) = (epochs, shuffle);
            resumed_equals_unbroken(&config, n_steps_per_epoch, stop);
        }
    }
    let following = |n_threads| whole(&Device::cpu(n_threads, Isa::detect(), Precision::F32), &config);
    assert!(following(1) == following(3), "three threads differ from one");
}

#[test]
fn a_checkpoint_of_another_generator_is_an_error() {
    let (dev, calame) = (device(), config());
    let mut torch = calame.clone();
    torch.train.rng = Rng::Torch;
    let folder = tempfile::tempdir().unwrap();
    for (saved, resumed, parts) in [
        (&calame, &torch, ["torch is none", "since train.rng is torch"]),
        (&torch, &calame, ["torch is a state of PyTorch's generator", "since train.rng is calame"]),
    ] {
        let checkpoint = trainer(&dev, saved).save(folder.path()).unwrap();
        let error = trainer(&dev, resumed).resume(&checkpoint).unwrap_err().to_string();
        assert!(error.contains("state.json") && parts.iter().all(|part| error.contains(part)), "{error}");
    }
    // A state that no generator can have, and one from another epoch than the run's.
    let mut first = trainer(&dev, &torch);
    for _ in 0..7 {
        first.step().unwrap();
    }
    let checkpoint = first.save(folder.path()).unwrap();
    let state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(checkpoint.join("state.json")).unwrap()).unwrap();
    let with = |change: fn(&mut serde_json::Value)| {
        let mut state = state.clone();
        change(&mut state["torch"]);
        fs::write(checkpoint.join("state.json"), state.to_string()).unwrap();
        trainer(&dev, &torch).resume(&checkpoint).map_err(|error| error.to_string())
    };
    assert_eq!(with(|_| ()), Ok(()));
    let error = with(|torch| torch["generator"]["next"] = 700.into()).unwrap_err();
    assert!(error.contains("state.json") && error.contains("`next`: expected at most 624, found 700"), "{error}");
    let error = with(|torch| torch["epoch"]["number"] = 0.into()).unwrap_err();
    assert!(error.contains("torch is in epoch 0: expected a place in epoch 1"), "{error}");
}

/// A step that diverges draws nothing: a second attempt has the same batch and masks.
#[test]
fn a_diverging_step_leaves_torchs_generator_where_it_was() {
    let dev = device();
    let mut config = config();
    (config.train.rng, config.train.lr) = (Rng::Torch, 1e30);
    // One batch per epoch, so that the diverging step also draws an order.
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config, 1));
    assert!(trainer.step().unwrap().loss.is_finite());
    let script = trainer.progress().torch.clone();
    for _ in 0..2 {
        assert!(!trainer.step().unwrap().loss.is_finite());
        assert_eq!(trainer.progress().torch, script);
    }
}

#[test]
fn what_follows_the_last_step_is_done_after_a_resume() {
    let (dev, config) = (device(), config());
    let folder = tempfile::tempdir().unwrap();
    let (events, _) = whole(&dev, &config);
    let (mut first, mut before) = (trainer(&dev, &config), Recorder::new(Stop::AtOnce(10), 0));
    assert_eq!(run(&mut first, &mut before), Outcome::Stopped);
    let checkpoint = first.save(folder.path()).unwrap();
    let (mut second, mut after) = (trainer(&dev, &config), Recorder::new(Stop::Never, 10));
    second.resume(&checkpoint).unwrap();
    assert_eq!(run(&mut second, &mut after), Outcome::Finished);
    assert_eq!(after.events.len(), 2, "the last evaluation, and the end of epoch 2");
    assert_eq!([before.events, after.events].concat(), events);
    let mut nothing = Recorder::new(Stop::Never, 10);
    assert_eq!(run(&mut second, &mut nothing), Outcome::Finished);
    assert_eq!(nothing.events, []);
}

#[test]
fn a_position_that_the_batches_never_reach_is_an_error() {
    let (dev, config) = (device(), config());
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut recorder) = (trainer(&dev, &config), Recorder::new(Stop::Settled(7), 0));
    assert_eq!(run(&mut first, &mut recorder), Outcome::Stopped);
    let checkpoint = first.save(folder.path()).unwrap();
    let state = fs::read_to_string(checkpoint.join("state.json")).unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(changed["batch"], 2);
    for (key, value) in [
        ("batch", serde_json::json!(6)),
        ("batch", serde_json::json!(u64::MAX)),
        ("epoch", serde_json::json!(3)),
        ("epoch", serde_json::json!(u64::MAX)),
        ("n_tokens_seen", serde_json::json!(u64::MAX)),
    ] {
        let was = changed[key].clone();
        changed[key] = value;
        fs::write(checkpoint.join("state.json"), changed.to_string()).unwrap();
        changed[key] = was;
        let mut second = trainer(&dev, &config);
        let error = second.resume(&checkpoint).unwrap_err();
        assert!(matches!(error, CheckpointError::Place { .. }), "{key}: {error}");
        assert!(error.to_string().contains("step-000007") && error.to_string().contains("5 steps per epoch"));
        assert_eq!(second.progress().n_steps, 0);
    }
    // The checkpoint is intact, but the text has changed: six steps per epoch.
    fs::write(checkpoint.join("state.json"), state).unwrap();
    let gpt = zeros(&config.model);
    let error = Trainer::new(&dev, &config, gpt, splits(&config, 6)).resume(&checkpoint).unwrap_err();
    assert!(error.to_string().contains("start a new run"), "{error}");
    trainer(&dev, &config).resume(&checkpoint).unwrap();

    // Before the first step nothing can be incomplete.
    let start = trainer(&dev, &config).save(folder.path()).unwrap();
    let state = fs::read_to_string(start.join("state.json")).unwrap();
    fs::write(start.join("state.json"), state.replace("true", "false")).unwrap();
    assert!(matches!(trainer(&dev, &config).resume(&start), Err(CheckpointError::Place { .. })));
}

#[test]
fn a_run_gives_the_same_bits_with_one_two_and_three_threads() {
    let config = config();
    let with = |n_threads| whole(&Device::cpu(n_threads, Isa::detect(), Precision::F32), &config);
    let one = with(1);
    assert!(with(2) == one, "two threads differ from one");
    assert!(with(3) == one, "three threads differ from one");
}

#[test]
fn evaluations_do_not_touch_the_training() {
    let dev = device();
    let with = |every, batches, eval_batch_size| {
        let mut config = config();
        (config.train.eval_every, config.train.eval_batches) = (every, batches);
        config.data.eval_batch_size = eval_batch_size;
        let (mut trainer, mut recorder) = (trainer(&dev, &config), Recorder::new(Stop::Never, 0));
        run(&mut trainer, &mut recorder);
        let losses: Vec<f32> = recorder
            .events
            .iter()
            .filter_map(|e| if let Event::Step(report) = e { Some(report.loss) } else { None })
            .collect();
        (recorder.evaluations().len(), losses, bits(trainer.gpt()))
    };
    let (n, losses, weights) = with(2, 2, 0);
    // After steps 0, 2, 4, 6 and 8, and after the last one, 9.
    assert_eq!(n, 6);
    for (every, batches, eval_batch_size, n) in [(1, 1, 0, 10), (3, 100, 0, 4), (1000, 2, 0, 2), (2, 2, 7, 6)] {
        let (n_evaluations, other_losses, other_weights) = with(every, batches, eval_batch_size);
        assert_eq!(n_evaluations, n, "every {every}");
        assert!(other_losses == losses && other_weights == weights, "every {every}, {batches} batches");
    }
}

#[test]
fn a_diverging_training_ends_with_the_weights_before_it() {
    let dev = device();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.train.lr = 1e30;
    let mut once = trainer(&dev, &config);
    let start = once.save(&folder.path().join("checkpoints")).unwrap();
    assert!(once.step().unwrap().loss.is_finite());
    assert_eq!(once.gpt().first_not_finite(&dev), None);

    let (mut trainer, mut recorder) = (trainer(&dev, &config), Recorder::new(Stop::Never, 0));
    for attempt in 0..3 {
        // A second attempt has the same batch and the same result.
        let Outcome::Diverged { step: 1, fault: StepFault::Loss(loss) } = run(&mut trainer, &mut recorder) else {
            panic!("attempt {attempt} did not diverge at step 1");
        };
        assert!(!loss.is_finite());
        assert_eq!(bits(trainer.gpt()), bits(once.gpt()));
        assert_eq!(trainer.progress(), &calame::train::Progress { settled: true, ..once.progress().clone() });
    }
    let n_steps = recorder.events.iter().filter(|e| matches!(e, Event::Step(_))).count();
    assert_eq!((n_steps, recorder.evaluations().len()), (1, 1));

    // The diverged trainer restores an earlier state without a trace.
    trainer.resume(&start).unwrap();
    trainer.step().unwrap();
    assert_eq!(bits(trainer.gpt()), bits(once.gpt()));
}

#[test]
fn weights_that_are_not_finite_diverge_at_the_first_step() {
    let (dev, config) = (device(), config());
    for bad in [f32::NAN, f32::INFINITY] {
        let mut gpt = Gpt::fresh(&dev, &config.model, 1);
        change(&mut gpt.h[1].mlp.c_fc.weight, |x| x[5] = bad);
        let before = bits(&gpt);
        let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config, STEPS_PER_EPOCH));
        let mut recorder = Recorder::new(Stop::Never, 0);
        assert!(matches!(run(&mut trainer, &mut recorder), Outcome::Diverged { step: 0, .. }));
        assert_eq!(bits(trainer.gpt()), before);
        assert_eq!(recorder.events, []);
    }
}

#[test]
fn an_evaluation_is_the_mean_of_the_batches_means() {
    let dev = device();
    for (eval_batch_size, n_batches) in [(0, 1), (0, 100), (3, 100), (3, 2), (7, 5)] {
        let mut config = config();
        config.train.eval_batches = n_batches;
        config.data.eval_batch_size = eval_batch_size;
        let mut trainer = trainer(&dev, &config);
        trainer.step().unwrap();
        let report = trainer.evaluate().unwrap();
        let size = if eval_batch_size == 0 { BATCH } else { eval_batch_size };
        let by_hand = |n_windows: usize, seed| {
            let ids = tokens_of_windows(n_windows, seed);
            let mut means = Vec::new();
            for batch in (0..n_windows).collect::<Vec<usize>>().chunks(size).take(n_batches) {
                let rows = |shift| -> Vec<u32> {
                    batch.iter().flat_map(|w| &ids[w * WINDOW + shift..(w + 1) * WINDOW + shift]).copied().collect()
                };
                let alloc = &mut Alloc::on(&dev);
                let mut saved = Saved::for_evaluation(&config.model, batch.len(), WINDOW, alloc);
                let mut scratch = Scratch::new(&config.model, batch.len() * WINDOW, alloc);
                let mut tensors = Batch::new(batch.len() * WINDOW, alloc);
                tensors.load(&dev, BatchSlices::new(&rows(0), &rows(1), batch.len()));
                let sum = trainer.gpt().loss(&dev, &tensors, &mut saved, &mut scratch);
                means.push(sum / (batch.len() * WINDOW) as f64);
            }
            (means.iter().sum::<f64>() / means.len() as f64) as f32
        };
        let n_train = STEPS_PER_EPOCH as usize * BATCH + 1;
        assert_eq!((report.train_loss, report.val_loss), (by_hand(n_train, 1), by_hand(7, 2)), "batches of {size}");
        assert_eq!((report.step, report.epoch, report.n_tokens_seen), (0, 1, (BATCH * WINDOW) as u64));
    }
}

#[test]
fn a_seed_decides_everything() {
    let dev = device();
    let with = |seed| {
        let mut config = config();
        config.train.seed = seed;
        whole(&dev, &config)
    };
    let (a, b) = (with(1), with(2));
    assert!(with(1) == a, "the same seed agrees");
    assert_ne!(a.1, b.1);
    // Order and dropout too, not only the initial weights.
    let from_the_same_weights = |seed| {
        let mut config = config();
        config.train.seed = seed;
        let mut trainer = Trainer::new(&dev, &config, Gpt::fresh(&dev, &config.model, 7), splits(&config, 5));
        trainer.step().unwrap().loss
    };
    assert_eq!(from_the_same_weights(1), from_the_same_weights(1));
    assert_ne!(from_the_same_weights(1), from_the_same_weights(2));
}

#[test]
fn an_observers_error_ends_the_training() {
    struct Full(u64);
    #[derive(Debug, PartialEq)]
    struct Failure(String);
    impl From<ShardError> for Failure {
        fn from(error: ShardError) -> Failure {
            Failure(error.to_string())
        }
    }
    impl Observer for Full {
        type Error = Failure;
        fn now(&mut self) -> Duration {
            Duration::ZERO
        }
        fn stop_requested(&mut self) -> bool {
            false
        }
        fn step(&mut self, report: &StepReport) -> Result<(), Self::Error> {
            if report.step == self.0 { Err(Failure("disk full".to_owned())) } else { Ok(()) }
        }
        fn evaluation(&mut self, _: &EvaluationReport) -> Result<(), Self::Error> {
            Ok(())
        }
        fn epoch_end(&mut self, _: &Device, _: &Gpt, _: u64, _: u64) -> Result<(), Self::Error> {
            Ok(())
        }
    }
    let (dev, config) = (device(), config());
    let mut trainer = trainer(&dev, &config);
    assert_eq!(trainer.run(&mut Full(3)), Err(Failure("disk full".to_owned())));
    assert_eq!((trainer.progress().n_steps, trainer.progress().settled), (4, false));
}

// The folder of a run.

#[cfg(unix)]
#[test]
fn a_run_is_trained_by_one_program_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = RunFolder::create(&path, &config(), "{}", false).unwrap();
    assert!(!run.is_in_use());
    let lock = run.lock().unwrap();
    assert!(run.is_in_use());
    assert!(matches!(run.lock(), Err(RunFolderError::Lock(_))));
    let replaced = RunFolder::create(&path, &config(), "{}", true);
    assert!(matches!(replaced, Err(RunFolderError::Lock(_))), "nor replaced");
    drop(lock);
    assert!(!run.is_in_use());
    run.lock().unwrap();
    RunFolder::create(&path, &config(), "{}", true).unwrap();
}

#[test]
fn a_run_folder_keeps_every_value() {
    let parent = tempfile::tempdir().unwrap();
    for preset in Preset::ALL {
        let path = parent.path().join("deeper/runs").join(preset.name());
        let mut config = RunConfig::of_preset(preset);
        config.data.inputs = vec!["a \"quoted\" path".to_owned(), "très.txt".to_owned()];
        (config.train.lr, config.train.beta2, config.model.dropout) = (1.0 / 3.0, 0.9995, 0.123_456_79);
        config.sample.prompt = "two\nlines # and = signs".to_owned();
        let folder = RunFolder::create(&path, &config, "{\"a\": 1}", false).unwrap();
        assert_eq!(folder.path(), path);
        let (opened, read) = RunFolder::open(&path).unwrap();
        assert_eq!((opened.clone(), read), (folder, config.clone()));
        assert_eq!(opened.tokenizer_json().unwrap(), "{\"a\": 1}");
        config.device.threads = 3;
        opened.write_config(&config).unwrap();
        assert_eq!(RunFolder::open(&path).unwrap().1, config);
        assert_eq!(files(&path).keys().collect::<Vec<_>>(), ["config.toml", "tokenizer.json"], "no left-over");
    }
    assert_eq!(fs::read_dir(parent.path().join("deeper/runs")).unwrap().count(), Preset::ALL.len(), "no left-over");
}

#[test]
fn an_existing_run_is_replaced_only_when_asked() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let config = config();
    let folder = RunFolder::create(&path, &config, "{}", false).unwrap();
    folder.add_sample(1, "first").unwrap();
    folder.add_sample(2, "second").unwrap();
    let samples = fs::read_to_string(path.join("samples.txt")).unwrap();
    assert!(samples.find("epoch 1\nfirst").unwrap() < samples.find("epoch 2\nsecond").unwrap());

    let error = RunFolder::create(&path, &config, "{}", false).unwrap_err();
    assert!(matches!(error, RunFolderError::Exists { .. }));
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("--overwrite"), "{message}");
    assert_eq!(fs::read_to_string(path.join("samples.txt")).unwrap(), samples);

    // Leftovers of a killed program next to it do not matter.
    fs::create_dir(parent.path().join(".run.77-0.partial")).unwrap();
    fs::write(parent.path().join(".run.77-0.partial/config.toml"), "half").unwrap();
    RunFolder::create(&path, &config, "{}", true).unwrap();
    assert_eq!(files(&path).keys().collect::<Vec<_>>(), ["config.toml", "tokenizer.json"]);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_not_a_run_is_never_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let config = config();
    let folder = parent.path().join("letters");
    fs::create_dir(&folder).unwrap();
    // Replacing an empty folder loses nothing.
    RunFolder::create(&folder, &config, "{}", false).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("letter.txt"), "dear").unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "dear").unwrap();
    for (path, kept) in [(&folder, folder.join("letter.txt")), (&file, file.clone())] {
        for overwrite in [false, true] {
            let error = RunFolder::create(path, &config, "{}", overwrite).unwrap_err();
            assert!(matches!(error, RunFolderError::NotARun { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        assert_eq!(fs::read_to_string(kept).unwrap(), "dear");
    }
    // A folder of another program whose settings have the same name, and a run in which somebody keeps a file.
    fs::write(folder.join("config.toml"), "title = \"letters\"\n[params]\nversion = \"1\"\n").unwrap();
    let run = parent.path().join("run");
    RunFolder::create(&run, &config, "{}", false).unwrap();
    for (name, of_other) in [("notes.txt", true), ("model/README.md", true), ("model/config.json", false)] {
        fs::create_dir_all(run.join(name).parent().unwrap()).unwrap();
        fs::write(run.join(name), "dear").unwrap();
        let replaced = RunFolder::create(&run, &config, "{}", true);
        assert_eq!(replaced.is_err(), of_other, "{name}: {replaced:?}");
        if let Err(error) = replaced {
            assert!(matches!(error, RunFolderError::NotARun { .. }) && error.to_string().contains(name), "{error}");
            assert_eq!(fs::read_to_string(run.join(name)).unwrap(), "dear");
            fs::remove_file(run.join(name)).unwrap();
        }
    }
    let error = RunFolder::create(&folder, &config, "{}", true).unwrap_err();
    assert!(matches!(error, RunFolderError::NotARun { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.join("letter.txt")).unwrap(), "dear");
    // A folder cannot be created below a file.
    let error = RunFolder::create(&file.join("run"), &config, "{}", true).unwrap_err();
    assert!(matches!(error, RunFolderError::File(_)), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear");
}

#[test]
fn a_run_that_cannot_be_parsed_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let message = || RunFolder::open(&path).unwrap_err().to_string();
    assert_eq!(message(), format!("{}: no such file or folder", path.display()));
    fs::create_dir(&path).unwrap();
    assert!(message().contains("holds no run") && message().contains(path.to_str().unwrap()));
    RunFolder::create(&path, &config(), "{}", false).unwrap();
    let text = fs::read_to_string(path.join("config.toml")).unwrap();
    let with = |text: &str| {
        fs::write(path.join("config.toml"), text).unwrap();
        let message = message();
        assert!(message.contains("config.toml"), "{message}");
        message
    };
    for section in ["model", "data", "tokenizer", "train", "sample", "device"] {
        let unknown = with(&text.replace(&format!("[{section}]\n"), &format!("[{section}]\nlearning_speed = 1\n")));
        assert!(unknown.contains("unknown field `learning_speed`"), "{unknown}");
    }
    let unknown = with(&format!("speed = 1\n{text}"));
    assert!(unknown.contains("unknown field `speed`"), "{unknown}");
    assert!(with(&text.replace("epochs = 2", "epochs = \"two\"")).contains("epochs"));
    assert!(with(&text.replace("epochs = 2", "epochs = -2")).contains("epochs"));
    assert!(with(&text.replace("n_layer = 2\n", "")).contains("n_layer"));
    with(&text[..text.len() / 2]);
    with("\u{0}\u{1}");
    fs::remove_file(path.join("tokenizer.json")).unwrap();
    fs::write(path.join("config.toml"), &text).unwrap();
    let error = RunFolder::open(&path).unwrap().0.tokenizer_json().unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn checkpoints_of_a_finished_run_are_removed() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&parent.path().join("run"), &config(), "{}", false).unwrap();
    folder.remove_checkpoints().unwrap();
    fs::create_dir_all(folder.checkpoints().join("step-000001")).unwrap();
    folder.remove_checkpoints().unwrap();
    assert!(!folder.checkpoints().exists());
}
