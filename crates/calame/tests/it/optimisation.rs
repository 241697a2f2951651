//! How a step uses its batches: accumulation, clipping, decay, schedules, failed steps, and the end of a training.

use std::path::{Path, PathBuf};
use std::time::Duration;

use calame::data::{ShardError, Windows};
use calame::formats::CheckpointError;
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::train::{
    CheckpointConfig, Checkpoints, Decay, Decayed, EvaluationReport, LossAverage, Observer, Outcome, Participants,
    Progress, Remedy, RunConfig, ScheduleConfig, Splits, StepFault, StepReport, Trainer, load_training,
};

use crate::support::{bits, change, values, zeros};

const VOCAB: u64 = 101;
const WINDOW: usize = 16;

fn config() -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig {
        vocab_size: VOCAB as usize,
        n_positions: 32,
        n_embd: 48,
        n_head: 3,
        n_layer: 2,
        dropout: 0.0,
        ..Preset::Tiny.config()
    };
    (config.data.window, config.data.stride, config.data.batch_size) = (WINDOW, WINDOW, 4);
    config.data.drop_last = false;
    (config.train.epochs, config.train.eval_every) = (1, 1000);
    config
}

fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

fn random_tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB) as u32).collect()
}

fn splits_of(config: &RunConfig, train: Vec<u32>) -> Splits {
    let windows = |tokens: Vec<u32>| Windows::new(tokens.into(), WINDOW, WINDOW).unwrap();
    Splits::new(windows(train), windows(random_tokens(3 * WINDOW + 1, 2)), &config.data).unwrap()
}

/// A trainer with `n_windows` training windows.
fn trainer<'a>(dev: &'a Device, config: &'a RunConfig, n_windows: usize) -> Trainer<'a> {
    let gpt = Gpt::fresh(dev, &config.model, 1);
    Trainer::new(dev, config, gpt, splits_of(config, random_tokens(n_windows * WINDOW + 1, 1)))
}

/// AdamW's first moment; after the first step it is the gradient times 1 − β₁.
fn mean_of_gradients(trainer: &Trainer<'_>) -> Gpt {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = trainer.save(&folder.path().join("checkpoints")).unwrap();
    let [mut weights, mut m, mut v] = [(); 3].map(|()| zeros(&trainer.gpt().config));
    load_training(trainer.device(), &checkpoint, [&mut weights, &mut m, &mut v], None).unwrap();
    m
}

#[track_caller]
fn assert_same_gradients(a: &Gpt, b: &Gpt, what: &str) {
    for ((name, a), (_, b)) in a.tensors().zip(b.tensors()) {
        let (a, b) = (values(a), values(b));
        let most = b.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let apart = a.iter().zip(&b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(b.is_empty() || most > 0.0, "{what}: no gradient of {name}");
        assert!(apart <= 1e-5 * most, "{what}: gradients of {name} are {apart} apart, the largest is {most}");
    }
}

/// The first step with `accumulate` batches of `batch_size`, in an epoch of `n_windows`.
fn first_step(dropout: f32, tied_head: bool, n_windows: usize, batch_size: usize, accumulate: usize) -> (f32, Gpt) {
    let mut config = config();
    (config.model.dropout, config.model.tied_head) = (dropout, tied_head);
    (config.data.batch_size, config.train.accumulate) = (batch_size, accumulate);
    let dev = device();
    let mut trainer = trainer(&dev, &config, n_windows);
    let report = trainer.step().unwrap();
    assert_eq!(report.n_tokens, n_windows.min(batch_size * accumulate) * WINDOW);
    (report.loss, mean_of_gradients(&trainer))
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    for dropout in [0.0, 0.1] {
        for tied_head in [true, false] {
            // With three windows the large batch is short, and so is the last of the small ones.
            for n_windows in [4, 3, 9] {
                let (loss, gradients) = first_step(dropout, tied_head, n_windows, 4, 1);
                for (batch_size, accumulate) in [(1, 4), (2, 2), (3, 2)] {
                    if batch_size * accumulate != 4 && n_windows > 4 {
                        continue;
                    }
                    let (found, accumulated) = first_step(dropout, tied_head, n_windows, batch_size, accumulate);
                    let what = format!("{accumulate} × {batch_size} of {n_windows}, dropout {dropout}");
                    assert!((found - loss).abs() <= 1e-6 * loss, "{what}: losses {found} and {loss}");
                    assert_same_gradients(&accumulated, &gradients, &what);
                }
            }
        }
    }
}

#[test]
fn the_last_step_of_an_epoch_uses_the_remaining_batches() {
    let mut config = config();
    (config.data.batch_size, config.train.accumulate, config.train.epochs) = (2, 3, 2);
    let dev = device();
    // Seven batches, the last with one window.
    let mut trainer = trainer(&dev, &config, 13);
    assert_eq!((trainer.steps_per_epoch(), trainer.n_steps_total()), (3, 6));
    let tokens: Vec<usize> = (0..6).map(|_| trainer.step().unwrap().n_tokens / WINDOW).collect();
    assert_eq!(tokens, [6, 6, 1, 6, 6, 1]);
    let Progress { n_steps, epoch, batch, n_tokens_seen, .. } = *trainer.progress();
    assert_eq!((n_steps, epoch, batch, n_tokens_seen), (6, 1, 7, 26 * WINDOW as u64));
}

#[test]
fn the_books_average_is_the_mean_of_means() {
    let dev = device();
    let loss_of = |average, accumulate, n_steps: usize| {
        let mut config = config();
        (config.data.batch_size, config.train.accumulate, config.data.shuffle) = (2, accumulate, false);
        // The rate is so small that the weights do not change.
        (config.train.loss_average, config.train.lr) = (average, 1e-12);
        let mut trainer = trainer(&dev, &config, 3);
        (0..n_steps).map(|_| trainer.step().unwrap().loss).collect::<Vec<f32>>()
    };
    let [two, one] = loss_of(LossAverage::Token, 1, 2)[..] else { panic!("two steps") };
    let (book, token) = (loss_of(LossAverage::Book, 2, 1)[0], loss_of(LossAverage::Token, 2, 1)[0]);
    assert!((two - one).abs() > 1e-3, "batches of the same loss would show nothing");
    assert!((book - (two + one) / 2.0).abs() < 1e-5, "{book} of {two} and {one}");
    assert!((token - (2.0 * two + one) / 3.0).abs() < 1e-5, "{token} of {two} and {one}");
}

fn norm(gradients: &Gpt) -> f64 {
    let squares = gradients.tensors().flat_map(|(_, t)| values(t)).map(|x| f64::from(x).powi(2));
    squares.sum::<f64>().sqrt()
}

#[test]
fn a_large_gradient_is_clipped_and_a_small_one_is_unchanged() {
    let dev = device();
    let step = |clip_norm| {
        let mut config = config();
        config.train.clip_norm = clip_norm;
        let mut trainer = trainer(&dev, &config, 4);
        let report = trainer.step().unwrap();
        (report, mean_of_gradients(&trainer))
    };
    let (plain, gradients) = step(0.0);
    assert_eq!(plain.grad_norm, None);
    let whole = norm(&gradients) / 0.1;
    let (report, clipped) = step(whole / 3.0);
    assert!((f64::from(report.grad_norm.unwrap()) - whole).abs() < 1e-4 * whole, "{report:?}, {whole}");
    assert!((norm(&clipped) / 0.1 - whole / 3.0).abs() < 1e-4 * whole);
    let (_, left) = step(2.0 * whole);
    for ((name, a), (_, b)) in left.tensors().zip(gradients.tensors()) {
        assert!(values(a) == values(b), "{name}");
    }
}

#[test]
fn decay_applies_to_all_or_to_matrices() {
    let dev = device();
    let weights = |decayed, weight_decay| {
        let mut config = config();
        (config.train.decayed, config.train.weight_decay) = (decayed, weight_decay);
        let mut trainer = trainer(&dev, &config, 4);
        trainer.step().unwrap();
        trainer.gpt().clone()
    };
    let (all, matrices, none) =
        (weights(Decayed::All, 0.5), weights(Decayed::Matrices, 0.5), weights(Decayed::All, 0.0));
    for (((name, all), (_, matrices)), (_, none)) in all.tensors().zip(matrices.tensors()).zip(none.tensors()) {
        let path = name.path();
        let is_matrix = path.ends_with("weight") && !path.starts_with("ln_");
        let expected = if is_matrix { all } else { none };
        assert!(values(matrices) == values(expected), "{name}");
        // Biases are initially zero, which decay does not change.
        assert!(!path.ends_with("weight") || all.is_empty() || values(all) != values(none), "{name}: decay shows");
    }
}

/// Follows a training and records everything except plain steps.
#[derive(Default)]
struct Notes {
    seconds: u64,
    lr: Vec<f64>,
    steps: Vec<u64>,
    skipped: Vec<(u64, StepFault)>,
    backs: Vec<(PathBuf, u64)>,
    improved: Vec<u64>,
    evaluations: Vec<(u64, f32)>,
    failures: Vec<String>,
}

impl Observer for Notes {
    type Error = ShardError;

    fn now(&mut self) -> Duration {
        self.seconds += 1;
        Duration::from_secs(self.seconds)
    }

    fn stop_requested(&mut self) -> bool {
        false
    }

    fn step(&mut self, report: &StepReport) -> Result<(), ShardError> {
        self.lr.push(report.lr);
        self.steps.push(report.step);
        Ok(())
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<(), ShardError> {
        self.evaluations.push((report.step, report.val_loss));
        Ok(())
    }

    fn epoch_end(&mut self, _: &Device, _: &Gpt, _: u64, _: u64) -> Result<(), ShardError> {
        Ok(())
    }

    fn skipped(&mut self, report: &StepReport) -> Result<(), ShardError> {
        self.skipped.push((report.step, report.fault.unwrap()));
        Ok(())
    }

    fn rolled_back(&mut self, _: &StepReport, folder: &Path, progress: &Progress) -> Result<(), ShardError> {
        self.backs.push((folder.file_name().unwrap().into(), progress.n_steps));
        Ok(())
    }

    fn improved(&mut self, _: &Gpt, report: &EvaluationReport) -> Result<bool, ShardError> {
        self.improved.push(report.step);
        Ok(true)
    }

    fn checkpoint_failed(&mut self, error: &CheckpointError) {
        self.failures.push(error.to_string());
    }
}

#[test]
fn the_rate_follows_its_schedule() {
    let mut config = config();
    config.schedule =
        ScheduleConfig { decay: Decay::Linear, warmup_steps: 2, final_factor: 0.5, ..ScheduleConfig::default() };
    config.train.lr = 1e-3;
    let dev = device();
    let mut notes = Notes::default();
    let outcome = trainer(&dev, &config, 20).run(&mut notes);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    let expected = [0.5e-3, 1e-3, 1e-3, 0.75e-3, 0.5e-3];
    assert!(notes.lr.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", notes.lr);
    assert_eq!(notes.lr.len(), 5);
}

/// Steps per epoch over a text of one token, which is soon learned. The window of one step is different, so its loss is
/// an outlier.
const STEPS: usize = 140;
const OUTLIER: usize = 130;

fn text_with_an_outlier() -> Vec<u32> {
    let mut tokens = vec![7; STEPS * WINDOW + 1];
    tokens[OUTLIER * WINDOW + 1..(OUTLIER + 1) * WINDOW].copy_from_slice(&random_tokens(WINDOW - 1, 3));
    tokens
}

fn guarded(remedy: Remedy) -> RunConfig {
    let mut config = config();
    (config.data.batch_size, config.data.shuffle) = (1, false);
    (config.guard.remedy, config.guard.z_score) = (remedy, 6.0);
    config.train.lr = 3e-3;
    config
}

#[test]
fn an_outlier_is_skipped_without_a_trace() {
    let (dev, config) = (device(), guarded(Remedy::Skip));
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits_of(&config, text_with_an_outlier()));
    let mut notes = Notes::default();
    assert_eq!(trainer.run(&mut notes).unwrap(), Outcome::Finished);
    let [(130, StepFault::LossOutlier { z, .. })] = notes.skipped[..] else { panic!("{:?}", notes.skipped) };
    assert!(z > 6.0);
    assert_eq!(notes.steps, (0..140).filter(|step| *step != 130).collect::<Vec<u64>>());
    let progress = trainer.progress();
    assert_eq!((progress.n_steps, progress.n_skipped, progress.n_skipped_in_a_row), (140, 1, 0));
    // The result equals that of the same text without this window.
    let mut without = text_with_an_outlier();
    without.drain(OUTLIER * WINDOW..(OUTLIER + 1) * WINDOW);
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut other = Trainer::new(&dev, &config, gpt, splits_of(&config, without));
    assert_eq!(other.run(&mut Notes::default()).unwrap(), Outcome::Finished);
    assert!(bits(trainer.gpt()) == bits(other.gpt()), "the step has left a trace");
}

#[test]
fn a_training_rolls_back_with_a_smaller_rate_and_finally_gives_up() {
    let (dev, config) = (device(), guarded(Remedy::Back));
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits_of(&config, text_with_an_outlier()));
    let folder = tempfile::tempdir().unwrap();
    let settings = CheckpointConfig { every_steps: 8, every_minutes: 0.0, every_epoch: false, ..Default::default() };
    let mut checkpoints = Checkpoints::new(&folder.path().join("checkpoints"), &settings);
    let mut notes = Notes::default();
    // The same window fails again at any rate.
    let outcome = trainer.run_saving(&mut checkpoints, &mut notes);
    assert!(matches!(outcome, Ok(Outcome::Diverged { step: 130, .. })), "{outcome:?}");
    assert_eq!(notes.backs, vec![(PathBuf::from("step-000128"), 128); 10]);
    let after_each: Vec<f64> = notes.lr[OUTLIER..].iter().step_by(2).copied().collect();
    let expected: Vec<f64> = (1..=10).map(|n| 3e-3 * 0.5f64.powi(n)).collect();
    assert_eq!(after_each, expected);
    assert_eq!(notes.failures, Vec::<String>::new());
}

#[test]
fn without_a_checkpoint_there_is_no_rollback() {
    let (dev, config) = (device(), guarded(Remedy::Back));
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits_of(&config, text_with_an_outlier()));
    assert!(matches!(trainer.run(&mut Notes::default()), Ok(Outcome::Diverged { step: 130, .. })));
}

#[test]
fn the_first_gradient_that_is_not_finite_is_named_and_reaches_nothing() {
    let mut config = config();
    (config.guard.remedy, config.model.tied_head) = (Remedy::Skip, false);
    let dev = device();
    let mut gpt = Gpt::fresh(&dev, &config.model, 1);
    // Logits of 1e25 have a finite loss, but the squares of their gradients overflow f32.
    change(&mut gpt.lm_head, |x| x.iter_mut().for_each(|x| *x *= 1e25));
    let before = gpt.clone();
    let mut trainer = Trainer::new(&dev, &config, gpt, splits_of(&config, random_tokens(8 * WINDOW + 1, 1)));
    let report = trainer.step().unwrap();
    assert!(report.loss.is_finite(), "{report:?}");
    let Some(fault @ StepFault::Gradient(name)) = report.fault else { panic!("{report:?}") };
    assert_eq!(name.to_string(), "wte.weight");
    assert_eq!(fault.to_string(), "the gradient of wte.weight is not finite");
    for ((name, a), (_, b)) in trainer.gpt().tensors().zip(before.tensors()) {
        assert!(values(a) == values(b), "{name}");
    }
    assert_eq!(*trainer.progress(), Progress { settled: true, ..Progress::default() });
}

/// Another participant of the training, whose steps are the same, or one of whose numbers is not finite.
#[derive(Clone, Copy, Debug)]
enum Other {
    Alike,
    BadLoss,
    BadGradient,
}

impl Participants for Other {
    fn agree_on_units(&mut self, n_units: f64) -> f64 {
        2.0 * n_units
    }

    fn agree_on_loss(&mut self, loss: f64) -> f64 {
        if matches!(self, Other::BadLoss) { f64::NAN } else { 2.0 * loss }
    }

    fn agree_on_squares(&mut self, sum: f64) -> f64 {
        // The gradient of this test is not summed: it is half of what both participants would have.
        if matches!(self, Other::BadGradient) { f64::NAN } else { 4.0 * sum }
    }
}

#[test]
fn participants_share_losses_and_norms_and_a_failure_of_one_stops_all() {
    let dev = device();
    for clip_norm in [0.0, 1e9] {
        let mut config = config();
        config.train.clip_norm = clip_norm;
        let alone = trainer(&dev, &config, 4).step().unwrap();
        for other in [Other::Alike, Other::BadLoss, Other::BadGradient] {
            let mut trainer = trainer(&dev, &config, 4).with_participants(Box::new(other));
            let before = trainer.gpt().clone();
            let report = trainer.step().unwrap();
            let fails = match other {
                Other::Alike => false,
                Other::BadLoss => true,
                Other::BadGradient => clip_norm > 0.0,
            };
            assert_eq!(report.fault.is_some(), fails, "{other:?}, {report:?}");
            let mut pairs = trainer.gpt().tensors().zip(before.tensors());
            assert_eq!(pairs.all(|((_, a), (_, b))| values(a) == values(b)), fails, "{other:?}");
            match (other, report.fault) {
                (Other::BadLoss, Some(StepFault::Loss(_))) => {}
                (Other::BadGradient, Some(fault @ StepFault::Norm(_))) => {
                    assert_eq!(fault.to_string(), "the norm of the gradient is NaN");
                }
                (_, Some(fault)) => panic!("{other:?}: {fault}"),
                (_, None) => {
                    assert_eq!(report.loss.to_bits(), alone.loss.to_bits());
                    let close = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b;
                    assert!(report.grad_norm.zip(alone.grad_norm).is_none_or(|(a, b)| close(a, b)), "{report:?}");
                }
            }
        }
    }
}

#[test]
fn a_training_whose_validation_does_not_improve_ends_early() {
    let mut config = config();
    (config.train.epochs, config.train.eval_every, config.train.lr) = (60, 2, 3e-3);
    config.early_stopping.patience = 4;
    let dev = device();
    // Random tokens can only be memorised.
    let (mut trainer, mut notes) = (trainer(&dev, &config, 8), Notes::default());
    assert_eq!(trainer.run(&mut notes).unwrap(), Outcome::StoppedEarly);
    let (best_step, best_loss) =
        notes.evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluations");
    let best = trainer.progress().best.unwrap();
    assert_eq!((best.step, best.val_loss, best.n_since), (best_step, best_loss, 4));
    assert_eq!(notes.improved.last(), Some(&best_step));
    assert_eq!(notes.evaluations.last().unwrap().0, best_step + 8);
    assert!(trainer.progress().n_steps < trainer.n_steps_total());
}
