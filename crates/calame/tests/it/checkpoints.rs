//! Checkpoints during a training: when they are written, how many are kept, damaged ones, copies in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calame::data::{ShardError, Windows};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::tokenizer::Bpe;
use calame::train::{
    CheckpointConfig, Checkpoints, EvaluationReport, Observer, Outcome, RunConfig, Splits, StepReport, Trainer,
    clear_partial, latest_checkpoint, save_best, sound_checkpoint, take_best, verify_checkpoint,
};

use crate::support::zeros;

struct Silent(u64);

impl Observer for Silent {
    type Error = ShardError;

    fn now(&mut self) -> Duration {
        self.0 += 1;
        Duration::from_secs(self.0)
    }

    fn stop_requested(&mut self) -> bool {
        false
    }

    fn step(&mut self, _: &StepReport) -> Result<(), ShardError> {
        Ok(())
    }

    fn evaluation(&mut self, _: &EvaluationReport) -> Result<(), ShardError> {
        Ok(())
    }

    fn epoch_end(&mut self, _: &Device, _: &Gpt, _: u64, _: u64) -> Result<(), ShardError> {
        Ok(())
    }
}

fn config() -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model =
        ModelConfig { vocab_size: 61, n_positions: 16, n_embd: 32, n_head: 2, n_layer: 1, ..Preset::Tiny.config() };
    (config.data.window, config.data.stride, config.data.batch_size) = (16, 16, 2);
    config.train.epochs = 1;
    config
}

fn splits(config: &RunConfig) -> Splits {
    let windows = |n: usize| {
        let tokens: Vec<u32> = (0..16 * n + 1).map(|i| (i * i % 61) as u32).collect();
        Windows::new(tokens.into(), 16, 16).unwrap()
    };
    Splits::new(windows(20), windows(2), &config.data).unwrap()
}

fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

/// Trains ten steps with a checkpoint after every second one; returns the folder of checkpoints.
fn train(folder: &Path, keep: usize, copy: bool) -> PathBuf {
    let (dev, config) = (device(), config());
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config));
    let settings =
        CheckpointConfig { every_steps: 2, every_minutes: 0.0, every_epoch: false, keep, copy, at_end: false };
    let folder = folder.join("checkpoints");
    let mut checkpoints = Checkpoints::new(&folder, &settings);
    assert_eq!(trainer.run_saving(&mut checkpoints, &mut Silent(0)).unwrap(), Outcome::Finished);
    checkpoints.wait().unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn the_last_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    // The training saves its model at the end and needs no checkpoint there.
    assert_eq!(names(&train(&folder.path().join("two"), 2, false)), ["step-000006", "step-000008"]);
    let all = ["step-000002", "step-000004", "step-000006", "step-000008"];
    assert_eq!(names(&train(&folder.path().join("nine"), 9, false)), all);
}

#[test]
fn a_copy_in_memory_is_written_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (direct, copied) = (train(&folder.path().join("a"), 9, false), train(&folder.path().join("b"), 9, true));
    assert_eq!(names(&direct), names(&copied));
    for checkpoint in names(&direct) {
        for file in names(&direct.join(&checkpoint)) {
            let read = |folder: &Path| fs::read(folder.join(&checkpoint).join(&file)).unwrap();
            assert!(read(&direct) == read(&copied), "{checkpoint}/{file}");
        }
    }
}

#[test]
fn a_flipped_byte_in_any_file_is_detected_and_the_previous_checkpoint_used() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = train(folder.path(), 2, false);
    let newest = latest_checkpoint(&checkpoints).unwrap().unwrap();
    assert!(newest.ends_with("step-000008"));
    assert_eq!(sound_checkpoint(&checkpoints).unwrap().0, Some(newest.clone()));
    let files = names(&newest);
    assert_eq!(files.len(), 6);
    for file in files {
        let path = newest.join(&file);
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let (found, problems) = sound_checkpoint(&checkpoints).unwrap();
            assert!(found.is_some_and(|found| found.ends_with("step-000006")), "{file}, byte {at}");
            let [problem] = &problems[..] else { panic!("{problems:?}") };
            assert!(problem.to_string().contains("step-000008/"), "{problem}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(verify_checkpoint(&newest).is_err(), "{file} is cut");
        fs::remove_file(&path).unwrap();
        assert!(verify_checkpoint(&newest).is_err(), "{file} is gone");
        fs::write(&path, &whole).unwrap();
        verify_checkpoint(&newest).unwrap();
    }
}

#[test]
fn if_all_are_damaged_all_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = train(folder.path(), 2, false);
    for name in names(&checkpoints) {
        fs::write(checkpoints.join(name).join("m.safetensors"), "").unwrap();
    }
    let (found, problems) = sound_checkpoint(&checkpoints).unwrap();
    assert_eq!((found, problems.len()), (None, 2));
}

#[test]
fn a_save_removes_checkpoints_of_later_steps() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = train(folder.path(), 9, false);
    let (dev, config) = (device(), config());
    let mut trainer = Trainer::new(&dev, &config, zeros(&config.model), splits(&config));
    trainer.resume(&checkpoints.join("step-000004")).unwrap();
    trainer.step().unwrap();
    let settings = CheckpointConfig { keep: 3, ..CheckpointConfig::default() };
    Checkpoints::new(&checkpoints, &settings).save(&trainer.savable()).unwrap();
    assert_eq!(names(&checkpoints), ["step-000002", "step-000004", "step-000005"]);
}

#[test]
fn the_best_model_is_kept_while_a_checkpoint_refers_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().join("checkpoints");
    let (dev, mut config) = (device(), config());
    // Evaluations that never improve on the first one.
    (config.train.eval_every, config.early_stopping.patience, config.early_stopping.min_change) = (1, 100, 100.0);
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config));
    save_best(&checkpoints, trainer.gpt(), Bpe::gpt2().as_ref(), 0).unwrap();
    save_best(&checkpoints, trainer.gpt(), Bpe::gpt2().as_ref(), 3).unwrap();
    assert_eq!(trainer.run(&mut Silent(0)).unwrap(), Outcome::Finished);
    assert_eq!(trainer.progress().best.unwrap().step, 0);
    trainer.save(&checkpoints).unwrap();
    assert_eq!(names(&checkpoints), ["best-000000", "step-000010"]);
    let model = folder.path().join("model");
    take_best(&checkpoints, 0, &model).unwrap();
    assert_eq!(names(&checkpoints), ["step-000010"]);
    assert!(model.join("model.safetensors").is_file());
    // Repeated, as after a kill between this call and the end of the run.
    take_best(&checkpoints, 0, &model).unwrap();
}

#[test]
fn a_best_model_survives_an_older_state_that_is_completed_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().join("checkpoints");
    let (dev, config) = (device(), config());
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config));
    trainer.step().unwrap();
    // The order in which they are completed on a slow disk.
    save_best(&checkpoints, trainer.gpt(), Bpe::gpt2().as_ref(), 3).unwrap();
    trainer.save(&checkpoints).unwrap();
    assert_eq!(names(&checkpoints), ["best-000003", "step-000001"]);
}

#[test]
fn best_models_do_not_pile_up_between_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, config) = (device(), config());
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    for step in 0..5 {
        save_best(folder.path(), &gpt, Bpe::gpt2().as_ref(), step).unwrap();
    }
    assert_eq!(names(folder.path()), ["best-000003", "best-000004"]);
    // A state that is being written may refer to any of them; a leftover of a killed program does not.
    fs::create_dir(folder.path().join(".step-000005.77-0.partial")).unwrap();
    fs::create_dir(folder.path().join(".best-000006.77-0.partial")).unwrap();
    save_best(folder.path(), &gpt, Bpe::gpt2().as_ref(), 5).unwrap();
    assert_eq!(names(folder.path()).len(), 5);
    clear_partial(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["best-000003", "best-000004", "best-000005"]);
    save_best(folder.path(), &gpt, Bpe::gpt2().as_ref(), 6).unwrap();
    assert_eq!(names(folder.path()), ["best-000005", "best-000006"]);
    clear_partial(&folder.path().join("none")).unwrap();
}

/// The checkpoint contains the state at the time of the copy, although the training continues meanwhile.
#[test]
fn a_copy_is_of_the_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, config) = (device(), config());
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config));
    let settings = CheckpointConfig { copy: true, ..CheckpointConfig::default() };
    let mut checkpoints = Checkpoints::new(&folder.path().join("a"), &settings);
    trainer.step().unwrap();
    checkpoints.save(&trainer.savable()).unwrap();
    let direct = trainer.save(&folder.path().join("b")).unwrap();
    for _ in 0..5 {
        trainer.step().unwrap();
    }
    checkpoints.wait().unwrap();
    let copied = latest_checkpoint(&folder.path().join("a")).unwrap().unwrap();
    for file in names(&direct) {
        assert!(fs::read(direct.join(&file)).unwrap() == fs::read(copied.join(&file)).unwrap(), "{file}");
    }
}
