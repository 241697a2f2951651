//! Complete trainings of PyTorch, reproduced number for number: golden/torch_run.json.

use std::time::Duration;

use calame::data::{ShardError, Windows};
use calame::model::{Gpt, Init, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::train::{EvaluationReport, Observer, Outcome, Rng, RunConfig, Splits, StepReport, Trainer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden::folder;

use crate::support::values;

fn runs() -> Vec<Value> {
    let json = std::fs::read_to_string(folder().join("torch_run.json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn config(run: &Value) -> RunConfig {
    let size = |section: &str, key: &str| run[section][key].as_u64().unwrap() as usize;
    let float = |section: &str, key: &str| run[section][key].as_f64().unwrap();
    let mut config = RunConfig::of_preset(Preset::Book);
    config.model = ModelConfig {
        vocab_size: size("config", "vocab_size"),
        n_positions: size("config", "n_positions"),
        n_embd: size("config", "n_embd"),
        n_head: size("config", "n_head"),
        n_layer: size("config", "n_layer"),
        dropout: float("config", "drop_rate") as f32,
        qkv_bias: run["config"]["qkv_bias"].as_bool().unwrap(),
        ..config.model
    };
    let data = &mut config.data;
    (data.batch_size, data.window, data.stride) =
        (size("train", "batch_size"), size("train", "window"), size("train", "stride"));
    let train = &mut config.train;
    (train.epochs, train.eval_every) = (size("train", "epochs") as u64, size("train", "eval_every") as u64);
    (train.eval_batches, train.lr) = (size("train", "eval_batches"), float("train", "lr"));
    (train.weight_decay, train.seed) = (float("train", "weight_decay"), size("config", "seed") as u64);
    train.rng = Rng::Torch;
    config
}

fn windows(run: &Value, part: &str, config: &RunConfig) -> Windows {
    Windows::new(ids(&run[part]).into(), config.data.window, config.data.stride).unwrap()
}

fn splits(run: &Value, config: &RunConfig) -> Splits {
    Splits::new(windows(run, "train_ids", config), windows(run, "val_ids", config), &config.data).unwrap()
}

/// Records the evaluations.
#[derive(Default)]
struct Evaluations(Vec<(u64, f64, f64)>);

impl Observer for Evaluations {
    type Error = ShardError;

    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    fn stop_requested(&mut self) -> bool {
        false
    }

    fn step(&mut self, _: &StepReport) -> Result<(), ShardError> {
        Ok(())
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), ShardError> {
        self.0.push((report.step, f64::from(report.train_loss), f64::from(report.val_loss)));
        Ok(())
    }

    fn epoch_end(&mut self, _: &Device, _: &Gpt, _: u64, _: u64) -> Result<(), ShardError> {
        Ok(())
    }
}

#[test]
fn fresh_weights_are_torchs() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    for run in runs() {
        let config = config(&run);
        let trainer = Trainer::fresh(&dev, &config, splits(&run, &config));
        let mut n_compared = 0;
        for (name, tensor) in trainer.gpt().tensors().filter(|(_, t)| !t.is_empty()) {
            let x = values(tensor);
            match &run["weights"][name.to_string()] {
                // A normalisation layer: ones and zeros.
                Value::Null => {
                    let drawn = if name.path().ends_with("weight") { 1.0 } else { 0.0 };
                    assert!(name.path().starts_with("ln_") && x.iter().all(|&x| x == drawn), "{name}");
                }
                // Normals: on some machines PyTorch uses another library's logarithm and sine.
                Value::Array(bits) => {
                    assert_eq!(bits.len(), x.len());
                    for (x, bits) in x.iter().zip(bits) {
                        let want = f32::from_bits(bits.as_u64().unwrap() as u32);
                        assert!((x - want).abs() <= 1.2e-7, "{name}: {x}, PyTorch's is {want}");
                    }
                    n_compared += 1;
                }
                hash => {
                    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
                    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(hash.as_str(), Some(found.as_str()), "{name}");
                    n_compared += 1;
                }
            }
        }
        assert_eq!(n_compared, run["weights"].as_object().unwrap().len());
    }
}

/// Step by step, like [`Trainer::run`]: the windows and loss of every batch, every evaluation, and the final state of
/// the generator.
#[test]
fn a_training_is_torchs() {
    for run in runs() {
        let config = config(&run);
        let windows = windows(&run, "train_ids", &config);
        let order: Vec<Vec<u32>> = run["order"].as_array().unwrap().iter().map(ids).collect();
        let (losses, evaluations) = (floats(&run["losses"]), run["evaluations"].as_array().unwrap());
        assert_eq!((losses.len(), order.len(), evaluations.len()), (18, 18, 5));
        for isa in Isa::available() {
            let dev = Device::cpu(2, isa, Precision::F32);
            let mut trainer = Trainer::fresh(&dev, &config, splits(&run, &config));
            let mut evaluations = evaluations.iter().map(floats);
            for (step, (want, order)) in losses.iter().zip(&order).enumerate() {
                let report = trainer.step().unwrap();
                let (ids, stride) = (windows.tokens().unwrap(), windows.stride());
                let inputs = order.iter().flat_map(|&i| ids[i as usize * stride..][..windows.window()].to_vec());
                assert_eq!(trainer.inputs(), inputs.collect::<Vec<u32>>(), "the batch of step {step}");
                let apart = (f64::from(report.loss) - want).abs();
                assert!(apart <= 2e-5, "loss {step}: {} is {apart:e} from PyTorch's under {isa}", report.loss);
                if (step as u64).is_multiple_of(config.train.eval_every) {
                    let (ours, theirs) = (trainer.evaluate().unwrap(), evaluations.next().unwrap());
                    let apart = |ours: f32, theirs: f64| (f64::from(ours) - theirs).abs();
                    assert_eq!(theirs[0], step as f64);
                    assert!(apart(ours.train_loss, theirs[1]) <= 2e-5, "training, step {step}: {ours:?}, {theirs:?}");
                    assert!(apart(ours.val_loss, theirs[2]) <= 2e-5, "validation, step {step}: {ours:?}, {theirs:?}");
                }
            }
            let mut script = trainer.savable().state.progress.torch.clone().unwrap();
            assert_eq!(Some(script.generator().random()), run["next"].as_i64(), "the generator at the end");
        }
    }
}

#[test]
fn the_loop_evaluates_where_the_script_does() {
    let run = &runs()[0];
    let (config, dev) = (config(run), Device::cpu(1, Isa::detect(), Precision::F32));
    let mut trainer = Trainer::fresh(&dev, &config, splits(run, &config));
    let mut seen = Evaluations::default();
    let outcome = trainer.run(&mut seen).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let theirs: Vec<Vec<f64>> = run["evaluations"].as_array().unwrap().iter().map(floats).collect();
    // The loop also evaluates after the last step, where the script does not.
    assert_eq!(seen.0.len(), theirs.len() + 1);
    assert_eq!(seen.0.last().unwrap().0, trainer.n_steps_total() - 1);
    for ((step, train, val), theirs) in seen.0.iter().zip(theirs) {
        assert_eq!(*step as f64, theirs[0]);
        assert!((train - theirs[1]).abs() <= 2e-5 && (val - theirs[2]).abs() <= 2e-5, "step {step}");
    }
}

/// A shape that the book's model cannot have is rejected, with the key and the remedy.
#[test]
fn a_shape_that_pytorch_cannot_follow_is_reported() {
    let mut config = config(&runs()[0]);
    assert_eq!(config.validate_fresh_weights(), Ok(()));
    config.model.init = Init::Gpt2;
    let error = config.validate_fresh_weights().unwrap_err().to_string();
    assert!(error.contains("model.init is gpt2: expected pytorch") && error.contains("train.rng=calame"), "{error}");
    (config.model.init, config.model.tied_head) = (Init::Pytorch, true);
    let error = config.validate_fresh_weights().unwrap_err().to_string();
    assert!(error.contains("model.tied_head is true: expected false"), "{error}");
    config.train.rng = Rng::Calame;
    assert_eq!(config.validate_fresh_weights(), Ok(()));
}
