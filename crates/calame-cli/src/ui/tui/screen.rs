//! The contents of the dashboard, without their layout.

use std::time::{Duration, Instant};

use calame::run::metrics::Record;

use crate::training::memory;

/// The most points of a curve: more than the widest terminal has columns of dots.
const MAX_POINTS: usize = 1024;
/// The number of recent steps from which the remaining time is estimated.
const RECENT_STEPS: usize = 20;
/// The most lines of the log that are kept.
const MAX_LINES: usize = 200;

/// A curve of bounded length: when it has too many points, each two are merged into one.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// The number of values that are averaged into a point.
    per_point: u32,
    /// The values of the next point so far: their number, the sum of x, the sum of y.
    pending: (u32, f64, f64),
}

impl Curve {
    /// Adds a value. One that is not finite is skipped.
    pub fn add(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        let (n, sum_x, sum_y) = self.pending;
        self.pending = (n + 1, sum_x + x, sum_y + y);
        if self.pending.0 < self.per_point.max(1) {
            return;
        }
        let (n, sum_x, sum_y) = std::mem::take(&mut self.pending);
        self.points.push((sum_x / f64::from(n), sum_y / f64::from(n)));
        if self.points.len() > MAX_POINTS {
            let middle = |a: f64, b: f64| (a + b) / 2.0;
            let pairs = self.points.chunks(2).filter(|pair| pair.len() == 2);
            self.points = pairs.map(|p| (middle(p[0].0, p[1].0), middle(p[0].1, p[1].1))).collect();
            self.per_point = 2 * self.per_point.max(1);
        }
    }

    /// The points (x, y) in the order of x.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// Figures that do not change during a training.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The path of the run's folder, for the header.
    pub run: String,
    /// The preset and the device in a few words, for the header.
    pub model: String,
    /// Steps of the whole training.
    pub n_steps_total: u64,
    /// Epochs of the whole training.
    pub n_epochs: u64,
    /// Tokens per step, over all accumulated batches.
    pub tokens_per_step: u64,
    /// Floating-point operations per step.
    pub step_operations: f64,
    /// Operations per second that the machine reaches in registers.
    pub peak: f64,
    /// The memory of the whole training as planned, in bytes; 0 if unknown.
    pub planned_bytes: u64,
    /// Size of a checkpoint.
    pub state_bytes: u64,
}

/// The figures of the last step.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastStep {
    pub n_steps: u64,
    pub epoch: u64,
    pub loss: f32,
    pub lr: f64,
    pub grad_norm: Option<f32>,
    pub tokens_per_second: f64,
}

/// Everything that the dashboard shows, apart from the layout.
#[derive(Clone, Debug)]
pub struct Screen {
    pub about: About,
    pub step_loss: Curve,
    pub train_loss: Curve,
    pub val_loss: Curve,
    pub lr: Curve,
    pub grad_norm: Curve,
    pub speed: Curve,
    pub last: LastStep,
    /// Training and validation loss of the last evaluation.
    pub evaluated: Option<(f32, f32)>,
    /// The best validation loss, and its step.
    pub best: Option<(f32, u64)>,
    pub sample: String,
    pub lines: Vec<String>,
    pub held_bytes: Option<u64>,
    /// Whether q was pressed and the question is shown.
    pub is_asking: bool,
    /// Whether the training stops after the current step.
    pub is_stopping: bool,
    /// The time since this program started training, as of the last update.
    pub running: Duration,
    started: Instant,
    /// When each of the last steps ended. The intervals include evaluations.
    ends: Vec<Duration>,
}

impl Screen {
    pub fn new(about: About, n_steps_done: u64) -> Screen {
        Screen {
            about,
            step_loss: Curve::default(),
            train_loss: Curve::default(),
            val_loss: Curve::default(),
            lr: Curve::default(),
            grad_norm: Curve::default(),
            speed: Curve::default(),
            last: LastStep { n_steps: n_steps_done, ..LastStep::default() },
            evaluated: None,
            best: None,
            sample: String::new(),
            lines: Vec::new(),
            held_bytes: None,
            is_asking: false,
            is_stopping: false,
            running: Duration::ZERO,
            started: Instant::now(),
            ends: Vec::new(),
        }
    }

    /// Adds a record of the run's metrics. For a resumed run, all earlier records are added first.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Step { step, epoch, loss, lr, grad_norm, tokens_per_second, .. } => {
                let x = *step as f64;
                self.step_loss.add(x, f64::from(*loss));
                self.lr.add(x, *lr);
                self.speed.add(x, *tokens_per_second);
                if let Some(norm) = grad_norm {
                    self.grad_norm.add(x, f64::from(*norm));
                }
                self.last = LastStep {
                    n_steps: step + 1,
                    epoch: *epoch,
                    loss: *loss,
                    lr: *lr,
                    grad_norm: *grad_norm,
                    tokens_per_second: *tokens_per_second,
                };
            }
            Record::Evaluation { step, train_loss, val_loss, .. } => {
                self.train_loss.add(*step as f64, f64::from(*train_loss));
                self.val_loss.add(*step as f64, f64::from(*val_loss));
                self.evaluated = Some((*train_loss, *val_loss));
                if self.best.is_none_or(|(best, _)| *val_loss < best) {
                    self.best = Some((*val_loss, *step));
                }
            }
            Record::Sample { text, .. } => self.sample.clone_from(text),
            _ => {}
        }
    }

    /// Resets the curves to the state after `n_steps_done` steps, from the records up to there.
    pub fn roll_back(&mut self, records: &[Record], n_steps_done: u64) {
        let Screen { about, sample, lines, held_bytes, is_asking, is_stopping, running, started, ends, .. } =
            self.clone();
        let fresh = Screen::new(about, n_steps_done);
        *self = Screen { sample, lines, held_bytes, is_asking, is_stopping, running, started, ends, ..fresh };
        records.iter().for_each(|record| self.add(record));
    }

    /// Notes that a step has ended now.
    pub fn step_ended(&mut self) {
        let now = self.started.elapsed();
        self.step_ended_at(now);
    }

    pub fn step_ended_at(&mut self, now: Duration) {
        if self.ends.len() > RECENT_STEPS {
            self.ends.remove(0);
        }
        self.ends.push(now);
    }

    /// The remaining seconds at the pace of the last steps, or none before the second step.
    pub fn seconds_left(&self) -> Option<f64> {
        let (first, last) = (self.ends.first()?, self.ends.last()?);
        let n_steps = self.ends.len() - 1;
        let left = self.about.n_steps_total.saturating_sub(self.last.n_steps);
        (n_steps > 0).then(|| (*last - *first).as_secs_f64() / n_steps as f64 * left as f64)
    }

    /// The share of the machine's peak that the last step reached.
    pub fn share_of_peak(&self) -> Option<f64> {
        let step_seconds = self.about.tokens_per_step as f64 / self.last.tokens_per_second;
        let share = self.about.step_operations / step_seconds / self.about.peak;
        (share.is_finite() && share > 0.0).then_some(share)
    }

    pub fn log(&mut self, line: &str) {
        self.lines.extend(line.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
        let surplus = self.lines.len().saturating_sub(MAX_LINES);
        self.lines.drain(..surplus);
    }

    /// Updates the figures that change between records: memory and running time.
    pub fn update_figures(&mut self) {
        self.held_bytes = memory::held_bytes();
        self.running = self.started.elapsed();
    }
}
