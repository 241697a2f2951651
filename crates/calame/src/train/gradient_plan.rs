//! How long the gradients of a step are kept in memory.
//!
//! Unless gradients are clipped or checked, AdamW runs inside the backward pass. With one batch per step, all blocks
//! then share one gradient buffer, which saves 0.3 GB for the report's model.
//!
//! The loss is checked before the backward pass, so a non-finite loss changes no weights. A non-finite gradient is only
//! detected with [`GradientPlan::Whole`]; otherwise it reaches the weights.

use super::config::RunConfig;
use super::guard::Remedy;

/// How gradients reach the optimizer. The plan determines how much memory they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientPlan {
    /// Each part is passed to the optimizer as soon as it is final. All blocks share one buffer.
    Fused,
    /// The gradients of several batches are summed. During the last batch, each part is passed to the optimizer as soon
    /// as it is final.
    Accumulated,
    /// The whole gradient is checked before any weight changes. Its norm can be clipped, and a failed step can be
    /// skipped or rolled back.
    Whole,
}

impl GradientPlan {
    /// Selects the plan of a run. No other code makes this choice.
    pub fn of(config: &RunConfig) -> GradientPlan {
        if config.train.clip_norm > 0.0 || config.guard.remedy != Remedy::Stop {
            GradientPlan::Whole
        } else if config.train.accumulate > 1 {
            GradientPlan::Accumulated
        } else {
            GradientPlan::Fused
        }
    }

    /// Number of block gradient buffers for a model of `n_layer` blocks.
    pub fn n_buffers(self, n_layer: usize) -> usize {
        match self {
            GradientPlan::Fused => n_layer.min(1),
            GradientPlan::Accumulated | GradientPlan::Whole => n_layer,
        }
    }
}
