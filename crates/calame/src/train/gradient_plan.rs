//! How long the gradients of a step are held.
//!
//! AdamW runs inside backward unless a step clips or examines its gradients: the gradients of one block then serve all, 0.3 GB
//! less for the report's model. The loss is agreed on before backward, so a loss that is not finite changes nothing; a
//! gradient that is not finite reaches the weights unless `guard.remedy` asks for the whole gradient.

use super::config::RunConfig;
use super::guard::Remedy;

/// How gradients reach the optimizer, which decides the memory that they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientPlan {
    /// Each part goes to the optimizer as soon as it is final; blocks share one buffer.
    Fused,
    /// The gradients of several batches are summed; with the last batch each part goes to the optimizer as it becomes
    /// final.
    Accumulated,
    /// The whole gradient is examined before any weight changes: its norm is clipped, or a failed step is skipped or taken
    /// back.
    Whole,
}

impl GradientPlan {
    /// The plan of a run: the one place that decides it.
    pub fn of(config: &RunConfig) -> GradientPlan {
        if config.train.clip_norm > 0.0 || config.guard.remedy != Remedy::Stop {
            GradientPlan::Whole
        } else if config.train.accumulate > 1 {
            GradientPlan::Accumulated
        } else {
            GradientPlan::Fused
        }
    }

    /// Buffers for the gradients of blocks, in a model of `n_layer` blocks.
    pub fn n_buffers(self, n_layer: usize) -> usize {
        match self {
            GradientPlan::Fused => n_layer.min(1),
            GradientPlan::Accumulated | GradientPlan::Whole => n_layer,
        }
    }
}
