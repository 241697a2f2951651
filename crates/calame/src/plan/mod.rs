//! Estimates the resources of a training before its first step: memory by kind, steps, operations and disk space. Time
//! follows from the measured speed of the machine.

mod inference;

use crate::data::LISTED_WINDOWS;
use crate::infer::generation_bytes;
use crate::model::{ParameterBytes, TrainingMemory, TrainingSizes, gradient_and_moment_bytes};
use crate::ops::{Isa, Precision};
use crate::train::{GradientPlan, Rng, RunConfig};

pub use inference::{Processor, all_logits_bytes, evaluation_bytes, export_bytes, loading_bytes};

/// Properties of the text that a plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextSize {
    /// Number of tokens in the training split.
    pub n_train_tokens: u64,
    /// Number of tokens in the validation split.
    pub n_validation_tokens: u64,
    /// Number of samples per training epoch.
    pub n_windows: u64,
    /// Number of samples in the validation split.
    pub n_validation_windows: u64,
    /// Whether the tokens stay on disk.
    pub is_in_files: bool,
    /// For each token of the vocabulary, whether it occurs in the training split.
    pub is_used: Vec<bool>,
}

impl TextSize {
    /// Number of tokens held in memory during a training.
    pub fn n_in_memory(&self) -> u64 {
        if self.is_in_files { 0 } else { self.n_train_tokens.saturating_add(self.n_validation_tokens) }
    }

    /// Marks the tokens that occur in a piece of the training split; ids of `vocab_size` and more are ignored.
    pub fn use_tokens(&mut self, tokens: &[u32], vocab_size: usize) {
        self.is_used.resize(vocab_size, false);
        for &token in tokens {
            if let Some(is_used) = self.is_used.get_mut(token as usize) {
                *is_used = true;
            }
        }
    }
}

/// Properties of the machine that a plan needs.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Precision of matrix products.
    pub precision: Precision,
    /// Number of threads that compute.
    pub n_threads: usize,
    /// Bytes used by the program without the model: its own and the tokenizer's.
    pub program_bytes: u64,
}

/// The purpose of a block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// The model's parameters, in f32.
    Weights,
    /// Gradients of the parameters, as many as the gradient plan holds at a time.
    Gradients,
    /// The two moments that AdamW stores for each parameter.
    Moments,
    /// Activations that forward saves for backward.
    Activations,
    /// Activations of an evaluation.
    Evaluation,
    /// Scratch memory of forward and backward.
    Scratch,
    /// Logits of one chunk of the head.
    Logits,
    /// Packed panels of matrix products, and attention's work space.
    WorkSpace,
    /// Stored dropout masks of a run that follows PyTorch.
    Masks,
    /// The tokens of the text, and the orders of its samples.
    Text,
    /// Keys and values while a sample is generated.
    Sample,
    /// The copy of weights and moments from which checkpoints are written in the background.
    Copy,
    /// The program itself and its tokenizer.
    Program,
}

impl MemoryKind {
    /// The name printed in tables.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Weights => "weights",
            MemoryKind::Gradients => "gradients",
            MemoryKind::Moments => "moments",
            MemoryKind::Activations => "activations",
            MemoryKind::Evaluation => "evaluation",
            MemoryKind::Scratch => "scratch",
            MemoryKind::Logits => "logits",
            MemoryKind::WorkSpace => "work space",
            MemoryKind::Masks => "masks",
            MemoryKind::Text => "text",
            MemoryKind::Sample => "sample",
            MemoryKind::Copy => "copy",
            MemoryKind::Program => "program",
        }
    }
}

/// Disk space in bytes, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The saved model at the end of the run.
    pub model: u64,
    /// Checkpoints with weights and both moments, at their largest number, including one being written.
    pub checkpoints: u64,
    /// The last state, which stays so that more epochs can be trained; part of `checkpoints`.
    pub last_state: u64,
    /// Metrics, event files and samples.
    pub records: u64,
    /// The loss plot in three formats.
    pub plot: u64,
}

impl Disk {
    /// Sum of all purposes.
    pub fn total(&self) -> u64 {
        [self.checkpoints, self.records, self.plot].into_iter().fold(self.model, u64::saturating_add)
    }
}

/// The measured speed of a machine for each part of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Seconds per training step.
    pub step_seconds: f64,
    /// Additional seconds of the first step, which touches memory for the first time.
    pub first_touch_seconds: f64,
    /// Seconds per evaluation of both splits.
    pub evaluation_seconds: f64,
    /// Seconds per generated sample.
    pub sample_seconds: f64,
    /// Bytes per second written to the disk, including the sync.
    pub disk_bytes_per_second: f64,
}

/// The estimated resources of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Number of parameters; a tied head counts once.
    pub n_parameters: usize,
    /// Bytes by purpose. The peak memory is their sum.
    pub memory: Vec<(MemoryKind, u64)>,
    /// Number of tokens in the steps of an epoch.
    pub tokens_per_epoch: u64,
    /// Number of tokens per step.
    pub tokens_per_step: u64,
    /// Number of steps per epoch.
    pub steps_per_epoch: u64,
    /// Number of steps of the whole training.
    pub n_steps: u64,
    /// Number of steps already completed.
    pub n_steps_done: u64,
    /// Number of evaluations still to be made.
    pub n_evaluations: u64,
    /// Number of samples still to be generated.
    pub n_samples: u64,
    /// Floating-point operations per step; see
    /// [`ModelConfig::step_operations`](crate::model::ModelConfig::step_operations).
    pub step_operations: f64,
    /// Disk space in bytes, by purpose.
    pub disk: Disk,
}

/// Upper estimates of the bytes per step in metrics.jsonl and in TensorBoard's file, per evaluation, and per sample
/// without its text.
const STEP_RECORD_BYTES: u64 = 330;
const EVALUATION_RECORD_BYTES: u64 = 320;
const SAMPLE_RECORD_BYTES: u64 = 600;
/// Bytes of the plot's three files.
const PLOT_BYTES: u64 = 250_000;
/// Bytes of tokenizer.json twice (GPT-2's), config.toml and config.json.
const TOKENIZER_BYTES: u64 = 4_500_000;

impl Plan {
    /// Plans a run with resolved settings, of which `n_steps_done` steps are completed.
    pub fn of(config: &RunConfig, text: &TextSize, machine: &Machine, n_steps_done: u64) -> Plan {
        let data = config.data.resolved();
        let parameters = ParameterBytes::of(&config.model);
        let (b, n_windows) = (data.batch_size as u64, text.n_windows);
        let n_batches = if data.drop_last { n_windows / b.max(1) } else { n_windows.div_ceil(b.max(1)) };
        let accumulate = (config.train.accumulate as u64).max(1);
        let steps_per_epoch = n_batches.div_ceil(accumulate);
        let n_steps = config.train.n_steps(steps_per_epoch);
        // After step 0, then at regular intervals, and after the last step.
        let every = config.train.eval_every.max(1);
        let is_extra = n_steps > 0 && !(n_steps - 1).is_multiple_of(every);
        let evaluations_of = |n: u64| n.div_ceil(every) + u64::from(is_extra && n == n_steps);
        let samples_of = |n_steps: u64| n_steps.checked_div(steps_per_epoch).unwrap_or(0);
        let n_samples = match config.sample.max_tokens {
            0 => 0,
            _ => samples_of(n_steps) - samples_of(n_steps_done.min(n_steps)),
        };
        let tokens_per_batch = b * data.window as u64;
        // The newest ones, plus the one written before the oldest is removed. Best models: one for each of these
        // checkpoints, plus the one being written.
        let n_states = config.checkpoint.keep as u64 + 1;
        let n_models = 3 * n_states + if config.early_stopping.is_on() { n_states + 1 } else { 0 };
        let n_evaluations = evaluations_of(n_steps) - evaluations_of(n_steps_done.min(n_steps));
        Plan {
            n_parameters: config.model.n_parameters(),
            memory: memory(config, text, machine, &parameters, n_steps_done > 0),
            tokens_per_epoch: if data.drop_last {
                n_batches * tokens_per_batch
            } else {
                n_windows * data.window as u64
            },
            tokens_per_step: tokens_per_batch.saturating_mul(accumulate),
            steps_per_epoch,
            n_steps,
            n_steps_done,
            n_evaluations,
            n_samples,
            step_operations: config.model.step_operations(data.batch_size, data.window) * accumulate as f64,
            disk: Disk {
                model: parameters.all + TOKENIZER_BYTES,
                checkpoints: parameters.all.saturating_mul(n_models),
                last_state: if config.checkpoint.at_end { parameters.all.saturating_mul(3) } else { 0 },
                records: n_steps
                    .saturating_mul(STEP_RECORD_BYTES)
                    .saturating_add(evaluations_of(n_steps).saturating_mul(EVALUATION_RECORD_BYTES))
                    .saturating_add(samples_of(n_steps).saturating_mul(SAMPLE_RECORD_BYTES)),
                plot: PLOT_BYTES,
            },
        }
    }

    /// Sum of the memory of all purposes, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add)
    }

    /// Estimated seconds for the remaining steps, evaluations, samples and saving.
    pub fn seconds(&self, pace: &Pace) -> f64 {
        let n_steps = self.n_steps.saturating_sub(self.n_steps_done) as f64;
        n_steps * pace.step_seconds
            + pace.first_touch_seconds
            + self.n_evaluations as f64 * pace.evaluation_seconds
            + self.n_samples as f64 * pace.sample_seconds
            + self.disk.model as f64 / pace.disk_bytes_per_second
    }
}

fn memory(
    config: &RunConfig,
    text: &TextSize,
    machine: &Machine,
    parameters: &ParameterBytes,
    is_resumed: bool,
) -> Vec<(MemoryKind, u64)> {
    let (data, model) = (config.data.resolved(), &config.model);
    let sizes = TrainingSizes {
        n_sequences: data.batch_size,
        n_evaluated: data.eval_batch_size,
        n_positions: data.window,
        stores_masks: config.train.rng == Rng::Torch,
    };
    let training = TrainingMemory::of(model, sizes, machine.isa, machine.precision, machine.n_threads);
    // Rows of tokens that do not occur are never touched, unless the head is tied and gives each row a gradient.
    let untouched = if model.tied_head {
        0
    } else {
        parameters.wte - touched_bytes(&text.is_used, 4 * model.n_embd as u64).min(parameters.wte)
    };
    let n_buffers = GradientPlan::of(config).n_buffers(model.n_layer);
    let (gradients, moments) = gradient_and_moment_bytes(model, n_buffers);
    let has_listed_order = |n: u64| !text.is_in_files || n <= LISTED_WINDOWS as u64;
    let listed = |n: u64| if has_listed_order(n) { n } else { 0 };
    let n_train_order = listed(text.n_windows);
    let n_order = n_train_order.saturating_mul(2).saturating_add(listed(text.n_validation_windows));
    let n_tokens = text.n_in_memory();
    let sample = match config.sample.max_tokens {
        0 => 0,
        // A token is rarely shorter than three bytes.
        n => generation_bytes(model, 0, config.sample.prompt.len() / 3, n),
    };
    vec![
        (MemoryKind::Weights, parameters.all),
        (MemoryKind::Gradients, gradients - untouched),
        // Moments read from a checkpoint are touched completely.
        (MemoryKind::Moments, moments - if is_resumed { 0 } else { 2 * untouched }),
        (MemoryKind::Activations, training.saved),
        (MemoryKind::Evaluation, training.saved_evaluation),
        (MemoryKind::Scratch, training.scratch),
        (MemoryKind::Logits, training.loss),
        (MemoryKind::WorkSpace, training.pool),
        (MemoryKind::Masks, training.masks),
        // Ids have 4 bytes. Two loaders of the training split and one of the validation split have an order each (ids
        // and bits), and the trainer has another.
        (MemoryKind::Text, training.batch + 4 * n_tokens + 4 * (n_order + n_train_order) + n_order / 8),
        (MemoryKind::Sample, sample),
        (MemoryKind::Copy, if config.checkpoint.copy { parameters.all.saturating_mul(3) } else { 0 }),
        (MemoryKind::Program, machine.program_bytes),
    ]
}

/// Bytes that the system provides for a table of rows of which only some are touched: whole small pages.
fn touched_bytes(is_touched: &[bool], row_bytes: u64) -> u64 {
    let (table, page) = (row_bytes * is_touched.len() as u64, 4096);
    let (mut n_pages, mut next) = (0, 0);
    for (row, _) in is_touched.iter().enumerate().filter(|(_, touched)| **touched) {
        let (first, last) = (row as u64 * row_bytes / page, ((row as u64 + 1) * row_bytes - 1) / page);
        n_pages += (last + 1).saturating_sub(first.max(next));
        next = last + 1;
    }
    (n_pages * page).min(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn machine() -> Machine {
        Machine { isa: Isa::Portable, precision: Precision::F32, n_threads: 2, program_bytes: 7 }
    }

    fn text() -> TextSize {
        let mut text = TextSize { n_train_tokens: 5000, n_validation_tokens: 500, ..TextSize::default() };
        (text.n_windows, text.n_validation_windows) = (39, 3);
        text.use_tokens(&[1, 2, 40_000, 60_000], 50_257);
        text
    }

    #[test]
    fn touched_rows_take_whole_pages() {
        let mut rows = vec![false; 1000];
        assert_eq!(touched_bytes(&rows, 1024), 0);
        rows[4] = true;
        rows[7] = true;
        assert_eq!(touched_bytes(&rows, 1024), 4096);
        rows[8] = true;
        assert_eq!(touched_bytes(&rows, 1024), 2 * 4096);
        // A row that crosses a page border.
        assert_eq!(touched_bytes(&[false, true], 6000), 8192);
        assert_eq!(touched_bytes(&[true; 1000], 4096), 4_096_000);
    }

    #[test]
    fn steps_evaluations_and_samples_are_counted_as_the_trainer_makes_them() {
        let mut config = RunConfig::of_preset(Preset::Book);
        (config.train.epochs, config.train.eval_every) = (3, 5);
        let plan = Plan::of(&config, &text(), &machine(), 0);
        assert_eq!((plan.steps_per_epoch, plan.n_steps, plan.tokens_per_step), (9, 27, 1024));
        // After steps 0, 5, 10, 15, 20 and 25, and after the last one, 26.
        assert_eq!((plan.n_evaluations, plan.n_samples), (7, 3));
        let left = Plan::of(&config, &text(), &machine(), 10);
        assert_eq!((left.n_evaluations, left.n_samples), (5, 2));
        // All moments are read from the checkpoint.
        assert!(left.memory_bytes() > plan.memory_bytes());
        let pace = Pace {
            step_seconds: 2.0,
            first_touch_seconds: 1.0,
            evaluation_seconds: 3.0,
            sample_seconds: 4.0,
            disk_bytes_per_second: 1e30,
        };
        assert!((left.seconds(&pace) - (17.0 * 2.0 + 1.0 + 5.0 * 3.0 + 2.0 * 4.0)).abs() < 1e-9);
        config.data.drop_last = false;
        assert_eq!(Plan::of(&config, &text(), &machine(), 0).steps_per_epoch, 10);
    }

    #[test]
    fn whole_gradients_copies_and_accumulated_batches_are_counted() {
        let of = |plan: &Plan, kind| plan.memory.iter().find(|(k, _)| *k == kind).map(|(_, bytes)| *bytes).unwrap();
        let mut config = RunConfig::of_preset(Preset::Book);
        let plain = Plan::of(&config, &text(), &machine(), 0);
        assert_eq!(of(&plain, MemoryKind::Copy), 0);
        config.train.accumulate = 4;
        config.checkpoint.copy = true;
        let plan = Plan::of(&config, &text(), &machine(), 0);
        // Nine batches in the epoch.
        assert_eq!((plan.steps_per_epoch, plan.tokens_per_step, plan.tokens_per_epoch), (3, 4096, 9 * 1024));
        assert_eq!(plan.step_operations, 4.0 * plain.step_operations);
        let block = ParameterBytes::of(&config.model).block;
        assert_eq!(of(&plan, MemoryKind::Gradients) - of(&plain, MemoryKind::Gradients), 11 * block);
        assert_eq!(of(&plan, MemoryKind::Copy), 12 * plan.n_parameters as u64);
        assert_eq!(plan.disk.checkpoints, 9 * 4 * plan.n_parameters as u64);
        config.early_stopping.patience = 3;
        assert_eq!(Plan::of(&config, &text(), &machine(), 0).disk.checkpoints, 13 * 4 * plan.n_parameters as u64);
    }

    #[test]
    fn rows_of_tokens_that_never_come_take_nothing_unless_the_head_is_tied() {
        let of = |plan: &Plan, kind| plan.memory.iter().find(|(k, _)| *k == kind).map(|(_, bytes)| *bytes).unwrap();
        let mut config = RunConfig::of_preset(Preset::Book);
        let plan = Plan::of(&config, &text(), &machine(), 0);
        let all = 4 * plan.n_parameters as u64;
        let wte = 4 * 50_257 * 768;
        // Tokens 1 and 2 are in pages 0 to 2, token 40,000 in one more.
        assert_eq!(of(&plan, MemoryKind::Moments) - 2 * (all - wte), 2 * 4 * 4096);
        assert!(of(&plan, MemoryKind::Gradients) < all - wte);
        config.model.tied_head = true;
        let tied = Plan::of(&config, &text(), &machine(), 0);
        assert_eq!(of(&tied, MemoryKind::Moments), 8 * tied.n_parameters as u64);
        assert_eq!(of(&tied, MemoryKind::Program), 7);
    }
}
