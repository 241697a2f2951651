//! Extracts a run's curves from its records.

use super::axis::Axis;
use super::error::PlotError;
use crate::run::metrics::Record;

/// The data of a figure, in tokens and nats per token.
#[derive(Debug)]
pub(super) struct Curves {
    /// (tokens seen, loss) of each evaluation; the loss may be NaN.
    pub train: Vec<(f64, f64)>,
    pub val: Vec<(f64, f64)>,
    /// Right end of the axes, slightly more than the tokens of the last record.
    pub n_tokens: f64,
    pub tokens_per_epoch: Option<f64>,
    /// The lowest and highest finite loss.
    pub losses: (f64, f64),
}

impl Curves {
    pub fn from_records(records: &[Record]) -> Result<Self, PlotError> {
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for record in records {
            if let Record::Evaluation { train_loss, val_loss, n_tokens_seen, .. } = *record {
                train.push((n_tokens_seen as f64, f64::from(train_loss)));
                val.push((n_tokens_seen as f64, f64::from(val_loss)));
            }
        }
        if train.is_empty() {
            let n_records = records.len();
            return Err(PlotError::NoEvaluation { n_records });
        }
        let finite = || train.iter().chain(&val).map(|p| p.1).filter(|l| l.is_finite());
        let losses = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        if losses.0 > losses.1 {
            let n_evaluations = train.len();
            return Err(PlotError::NoFiniteLoss { n_evaluations });
        }
        let n_tokens = records.iter().filter_map(Record::n_tokens_seen).max();
        Ok(Self {
            train,
            val,
            // A file may claim that no tokens were seen, but an axis must have a length. The margin separates the last
            // point from the frame.
            n_tokens: n_tokens.unwrap_or(0).max(1) as f64 * 1.02,
            tokens_per_epoch: tokens_per_epoch(records),
            losses,
        })
    }
}

/// Left edge of the legend as a share of the axis from the left, and its lower edge as a share from below.
const LEGEND_LEFT: f64 = 0.65;
const LEGEND_BOTTOM: f64 = 0.75;

impl Curves {
    /// The loss axis: a twentieth longer than the curves at both ends, and longer at the top if needed to separate the
    /// legend from the curves.
    pub fn loss_axis(&self) -> Axis {
        let (low, high) = self.losses;
        let margin = match (high - low) / 20.0 {
            // If all losses are equal, the axis must still have a length, whatever their magnitude.
            0.0 => high.abs() / 20.0 + 0.1,
            margin => margin,
        };
        let bottom = low - margin;
        let left = LEGEND_LEFT * self.n_tokens;
        let under_legend = highest_from(&self.train, left).max(highest_from(&self.val, left));
        let top = bottom + (under_legend + margin - bottom) / LEGEND_BOTTOM;
        Axis::new(bottom..top.max(high + margin), 6, 0.0)
    }
}

/// The highest finite loss from `left` on, including the point at which the curve enters; −∞ if there is none.
fn highest_from(points: &[(f64, f64)], left: f64) -> f64 {
    let entering = points.windows(2).filter_map(|pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (x0 < left && left < x1).then(|| y0 + (y1 - y0) * (left - x0) / (x1 - x0))
    });
    let inside = points.iter().filter(|(x, _)| *x >= left).map(|(_, y)| *y);
    entering.chain(inside).filter(|loss| loss.is_finite()).fold(f64::NEG_INFINITY, f64::max)
}

/// Number of tokens per epoch, which is equal for all epochs, if the records determine it.
///
/// It is known from an epoch whose last step is followed by a step of the next epoch, or from the end of a run. Ends that
/// older programs wrote do not say whether the last epoch was complete; it is then assumed.
fn tokens_per_epoch(records: &[Record]) -> Option<f64> {
    complete_epoch(records).or_else(|| match *records.iter().rfind(|record| matches!(record, Record::End { .. }))? {
        Record::End { n_tokens_seen, n_epochs: Some(n_epochs), .. } => share(n_tokens_seen, n_epochs),
        Record::End { n_tokens_seen, epoch, .. } => share(n_tokens_seen, epoch as f64),
        _ => None,
    })
}

/// The tokens of an epoch that was followed by another one.
fn complete_epoch(records: &[Record]) -> Option<f64> {
    let is_step = |record: &&Record| matches!(record, Record::Step { .. });
    let last = records.iter().filter(is_step).map(Record::epoch).max()?;
    let next_step = of_epoch(records, last).map(Record::step).min()?;
    let ended = last.checked_sub(1)?;
    let last_step = of_epoch(records, ended)
        .filter(|record| record.step().checked_add(1) == Some(next_step))
        .find_map(Record::n_tokens_seen)?;
    share(last_step, ended as f64)
}

fn of_epoch(records: &[Record], epoch: u64) -> impl Iterator<Item = &Record> {
    records.iter().filter(move |record| record.epoch() == epoch)
}

fn share(n_tokens: u64, n_epochs: f64) -> Option<f64> {
    (n_tokens > 0 && n_epochs > 0.0).then(|| n_tokens as f64 / n_epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, epoch: u64) -> Record {
        Record::Step {
            step,
            epoch,
            loss: 1.0,
            lr: 1e-3,
            grad_norm: None,
            n_tokens_seen: (step + 1) * 100,
            step_seconds: 1.0,
            tokens_per_second: 100.0,
        }
    }

    #[test]
    fn the_tokens_of_an_epoch_come_from_an_epoch_that_ended() {
        let mut records: Vec<Record> = (0..7).map(|i| step(i, i / 3 + 1)).collect();
        // Three steps per epoch; the third epoch has only started.
        assert_eq!(tokens_per_epoch(&records), Some(300.0));
        assert_eq!(tokens_per_epoch(&records[..6]), Some(300.0));
        // Unknown within the first epoch.
        assert_eq!(tokens_per_epoch(&records[..3]), None);
        assert_eq!(tokens_per_epoch(&[]), None);
        // The last step of the epoch is missing from the records, so it may have been longer.
        assert_eq!(tokens_per_epoch(&[step(0, 1), step(4, 2)]), None);
        records.truncate(6);
        records.push(Record::End {
            step: 5,
            epoch: 2,
            n_tokens_seen: 600,
            total_seconds: 6.0,
            best_step: None,
            best_val_loss: None,
            n_epochs: None,
        });
        assert_eq!(tokens_per_epoch(&records[3..]), Some(300.0));
        // The run was extended by more epochs and is within one of them.
        records.push(step(9, 4));
        assert_eq!(tokens_per_epoch(&records), Some(300.0));
    }

    /// Early stopping and `train.max_steps` end runs inside an epoch.
    #[test]
    fn a_run_may_end_inside_an_epoch() {
        let end = |n_steps: u64, n_epochs| Record::End {
            step: n_steps - 1,
            epoch: (n_steps - 1) / 4 + 1,
            n_tokens_seen: n_steps * 100,
            total_seconds: 6.0,
            best_step: None,
            best_val_loss: None,
            n_epochs,
        };
        let run = |n_steps: u64, n_epochs| -> Vec<Record> {
            (0..n_steps).map(|i| step(i, i / 4 + 1)).chain([end(n_steps, n_epochs)]).collect()
        };
        for n_steps in [1, 2, 3, 4, 5, 6, 9] {
            assert_eq!(tokens_per_epoch(&run(n_steps, Some(n_steps as f64 / 4.0))), Some(400.0), "{n_steps} steps");
        }
        // Without the number of epochs, the steps tell as soon as a second epoch has begun.
        assert_eq!(tokens_per_epoch(&run(6, None)), Some(400.0));
    }
}
