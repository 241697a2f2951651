//! Tracks the best evaluation and decides when to stop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Best, TrainConfigError};

/// Section `[early_stopping]`: ends a training when validation no longer improves; the result is the model of the best
/// evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Number of consecutive evaluations without improvement after which the training ends; 0 disables early stopping.
    pub patience: u64,
    /// Minimum improvement of the validation loss to count as a new best, in nats per token.
    pub min_change: f64,
}

impl EarlyStoppingConfig {
    /// Whether early stopping is enabled, so that the result is the best model.
    pub fn is_on(&self) -> bool {
        self.patience > 0
    }

    /// Checks that the values are within their ranges.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        if self.min_change >= 0.0 && self.min_change.is_finite() {
            return Ok(());
        }
        let (key, value) = ("early_stopping.min_change", self.min_change.to_string());
        Err(TrainConfigError { key, value, expected: "0 or more, in nats per token (0.001 is usual)" })
    }
}

/// Updates the best evaluation with one of `val_loss` after `step`; also returns whether it is the new best. NaN never
/// is.
pub(super) fn best_after(best: Option<Best>, step: u64, val_loss: f32, min_change: f64) -> (Option<Best>, bool) {
    let is_new =
        !val_loss.is_nan() && best.is_none_or(|best| f64::from(val_loss) < f64::from(best.val_loss) - min_change);
    if is_new {
        return (Some(Best { step, val_loss, n_since: 0 }), true);
    }
    (best.map(|best| Best { n_since: best.n_since + 1, ..best }), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_lowest_by_enough() {
        let mut best = None;
        let mut news = Vec::new();
        for (step, loss) in (0..).step_by(5).zip([6.0, 5.0, 4.95, f32::NAN, 5.5, 4.8]) {
            let (after, is_new) = best_after(best, step, loss, 0.1);
            best = after;
            news.push(is_new);
        }
        assert_eq!(news, [true, true, false, false, false, true]);
        assert_eq!(best, Some(Best { step: 25, val_loss: 4.8, n_since: 0 }));
        let (after, is_new) = best_after(best, 30, 4.8, 0.0);
        assert_eq!((after.unwrap().n_since, is_new), (1, false), "the same again is no new best");
        assert_eq!(best_after(None, 0, f32::NAN, 0.0), (None, false));
    }
}
