//! Detects failed steps: non-finite numbers, and losses or gradients far from those of the previous steps.

use std::collections::VecDeque;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TrainConfigError, Usual};
use crate::model::params::ParamName;

/// Number of previous steps that a new one is compared with.
const N_COMPARED: usize = 100;
/// Minimum number of previous steps for a meaningful comparison.
const FEWEST_COMPARED: usize = 20;

/// What to do about a failed step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// End the training and save its state before the step. Only the loss is checked, before backward, because
    /// gradients go to the optimizer layer by layer.
    #[default]
    Stop,
    /// Skip the batch without an update.
    Skip,
    /// Roll back to the last checkpoint and continue with a smaller learning rate.
    Back,
}

/// Section `[guard]`: how to handle a step whose loss or gradient is not finite, or an outlier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// The remedy for a failed step: `stop`, `skip` or `back`.
    pub remedy: Remedy,
    /// A loss or gradient norm this many standard deviations above the mean of the last 100 steps is an outlier; 0
    /// disables the check.
    pub z_score: f64,
    /// Factor by which the learning rate is multiplied after each rollback.
    pub lr_factor: f64,
}

impl Default for GuardConfig {
    fn default() -> GuardConfig {
        GuardConfig { remedy: Remedy::Stop, z_score: 0.0, lr_factor: 0.5 }
    }
}

impl GuardConfig {
    /// Checks that the values are within their ranges.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        let error = |key, value: f64, expected| Err(TrainConfigError { key, value: value.to_string(), expected });
        if !(self.z_score == 0.0 || (3.0..1e6).contains(&self.z_score)) {
            return error(
                "guard.z_score",
                self.z_score,
                "0, or at least 3 (6 is usual): smaller values affect normal steps",
            );
        }
        if self.z_score > 0.0 && self.remedy == Remedy::Stop {
            return error("guard.z_score", self.z_score, "0, since guard.remedy is stop: set it to skip or back");
        }
        if !(0.0..1.0).contains(&self.lr_factor) || self.lr_factor == 0.0 {
            return error("guard.lr_factor", self.lr_factor, "above 0 and below 1");
        }
        Ok(())
    }
}

/// Why a step failed; no update was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepFault {
    /// The loss is NaN or infinite.
    Loss(f32),
    /// A gradient is not finite; holds the first such parameter in model order.
    Gradient(ParamName),
    /// The norm of the gradient is NaN or infinite, though every gradient of this process is finite: another participant's
    /// is not, or the sum of squares is too large.
    Norm(f32),
    /// The loss is unusually large.
    LossOutlier {
        /// Loss of the failed step.
        found: f32,
        /// Number of standard deviations above the mean of the previous steps.
        z: f32,
    },
    /// The norm of the gradient is unusually large.
    NormOutlier {
        /// Norm of the failed step's gradient.
        found: f32,
        /// Number of standard deviations above the mean of the previous steps.
        z: f32,
    },
}

impl fmt::Display for StepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepFault::Loss(loss) => write!(f, "the loss is {loss}"),
            StepFault::Gradient(name) => write!(f, "the gradient of {name} is not finite"),
            StepFault::Norm(norm) => write!(f, "the norm of the gradient is {norm}"),
            StepFault::LossOutlier { found, z } => {
                write!(f, "the loss is {found:.3}, {z:.1} standard deviations above the mean of the previous steps")
            }
            StepFault::NormOutlier { found, z } => {
                write!(
                    f,
                    "the gradient's norm is {found:.3}, {z:.1} standard deviations above the mean of the previous steps"
                )
            }
        }
    }
}

/// Adds a successful step to those that new ones are compared with. Allocates only at the first call.
pub(super) fn remember(usual: &mut Usual, loss: f32, norm: f32) {
    for (kept, x) in [(&mut usual.losses, loss), (&mut usual.norms, norm)] {
        kept.reserve(N_COMPARED.saturating_sub(kept.len()));
        if kept.len() >= N_COMPARED {
            kept.pop_front();
        }
        kept.push_back(x);
    }
}

/// Returns the outlier of a step, if it has one at `z_score` standard deviations.
pub(super) fn outlier(usual: &Usual, loss: f32, norm: f32, z_score: f64) -> Option<StepFault> {
    if z_score == 0.0 {
        return None;
    }
    let (of_loss, of_norm) = (z(&usual.losses, loss), z(&usual.norms, norm));
    if of_loss > z_score {
        Some(StepFault::LossOutlier { found: loss, z: of_loss as f32 })
    } else if of_norm > z_score {
        Some(StepFault::NormOutlier { found: norm, z: of_norm as f32 })
    } else {
        None
    }
}

/// Number of standard deviations of `x` above the mean; 0 if there are too few values to tell.
fn z(kept: &VecDeque<f32>, x: f32) -> f64 {
    if kept.len() < FEWEST_COMPARED {
        return 0.0;
    }
    let n = kept.len() as f64;
    let mean = kept.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = kept.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    // If losses hardly vary, tiny differences must not be outliers.
    (f64::from(x) - mean) / variance.sqrt().max(1e-3 * mean.abs()).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(n: usize) -> Usual {
        let mut usual = Usual::default();
        (0..n).for_each(|i| remember(&mut usual, 5.0 + (i % 3) as f32 * 0.1, 1.0));
        usual
    }

    #[test]
    fn outliers_are_above_the_last_hundred() {
        let usual = usual(250);
        assert_eq!(usual.losses.len(), N_COMPARED);
        assert_eq!(outlier(&usual, 5.3, 1.0, 6.0), None);
        assert_eq!(outlier(&usual, 1.0, 0.1, 6.0), None, "a smaller value is not an outlier");
        assert!(matches!(outlier(&usual, 9.0, 1.0, 6.0), Some(StepFault::LossOutlier { found: 9.0, z }) if z > 40.0));
        assert!(matches!(outlier(&usual, 5.1, 2.0, 6.0), Some(StepFault::NormOutlier { found: 2.0, .. })));
        assert_eq!(outlier(&usual, 9.0, 9.0, 0.0), None, "0 disables the check");
    }

    #[test]
    fn few_steps_say_nothing() {
        assert_eq!(outlier(&usual(FEWEST_COMPARED - 1), 900.0, 900.0, 6.0), None);
        assert!(outlier(&usual(FEWEST_COMPARED), 900.0, 1.0, 6.0).is_some());
    }

    #[test]
    fn invalid_values_are_reported() {
        let key = |config: GuardConfig| config.validate().unwrap_err().key;
        let skip = || GuardConfig { remedy: Remedy::Skip, ..GuardConfig::default() };
        assert_eq!(GuardConfig::default().validate(), Ok(()));
        assert_eq!(GuardConfig { z_score: 6.0, ..skip() }.validate(), Ok(()));
        assert_eq!(key(GuardConfig { z_score: 1.0, ..skip() }), "guard.z_score");
        assert_eq!(key(GuardConfig { z_score: f64::NAN, ..skip() }), "guard.z_score");
        assert_eq!(key(GuardConfig { z_score: 6.0, ..GuardConfig::default() }), "guard.z_score");
        assert_eq!(key(GuardConfig { lr_factor: 0.0, ..skip() }), "guard.lr_factor");
    }
}
