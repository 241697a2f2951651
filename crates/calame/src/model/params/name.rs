//! The name of a parameter, which is also its key in checkpoints.

use std::fmt;

use super::table::{Kind, Param};
use crate::model::ModelConfig;

/// The name of a parameter: field path, checkpoint key and log entry in one. Printing it gives `h.3.attn.c_attn.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamName {
    /// The block's number, for a parameter of a block.
    pub block: Option<usize>,
    /// The parameter's entry in the table.
    pub param: &'static Param,
    /// Of a low-rank adapter of the parameter's layer: the adapter's number and factor.
    pub adapter: Option<(usize, Factor)>,
}

/// A factor of a low-rank adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// [rank, C]: reads the layer's inputs.
    A,
    /// [columns, rank]: writes the layer's outputs.
    B,
}

impl ParamName {
    /// The path below the model or the block: that of the layer's weight for an adapter.
    pub fn path(&self) -> &'static str {
        self.param.path
    }

    /// Whether a model of this shape has it.
    pub fn is_in(&self, config: &ModelConfig) -> bool {
        self.param.is_in(config)
    }

    /// Whether it is a bias, of a linear layer or of a normalisation.
    pub fn is_bias(&self) -> bool {
        matches!(self.kind(), Kind::Bias | Kind::Shift)
    }

    /// Whether it is the weight of a linear layer inside a block, which Hugging Face stores as [in, out].
    pub fn is_conv1d(&self) -> bool {
        self.block.is_some() && self.kind().is_linear_weight()
    }

    /// What it is for; initialisation and decay depend on it.
    pub fn kind(&self) -> Kind {
        if self.adapter.is_some() { Kind::LowRank } else { self.param.kind }
    }
}

impl fmt::Display for ParamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(i) = self.block {
            write!(f, "h.{i}.")?;
        }
        match self.adapter {
            None => f.write_str(self.param.path),
            Some((i, factor)) => {
                let layer = self.param.path.trim_end_matches(".weight");
                write!(f, "{layer}.adapters.{i}.{}", if factor == Factor::A { "a" } else { "b" })
            }
        }
    }
}
