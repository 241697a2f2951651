//! A head that an objective owns, in the place of the model's.

use crate::tensor::{Alloc, Tensor};

/// A head of K outputs that an objective owns, such as a classifier's; also its gradients and its moments.
#[derive(Clone, Debug)]
pub struct Head {
    /// [K, C]: a row for each output.
    pub weight: Tensor,
    /// `[K]`; absent in a head without bias.
    pub bias: Tensor,
}

impl Head {
    /// Zeros with K = `n_outputs` outputs from C = `n_embd` channels.
    pub fn zeros(n_outputs: usize, n_embd: usize, bias: bool, alloc: &mut Alloc<'_>) -> Head {
        let weight = alloc.zeros([n_outputs, n_embd]);
        Head { weight, bias: if bias { alloc.zeros([n_outputs]) } else { Tensor::absent() } }
    }

    /// Zeros of the same shape, for gradients and moments.
    pub fn zeros_like(&self, alloc: &mut Alloc<'_>) -> Head {
        Head::zeros(self.n_outputs(), self.weight.row_len(), !self.bias.is_empty(), alloc)
    }

    /// K: classes of a classifier.
    pub fn n_outputs(&self) -> usize {
        self.weight.n_rows()
    }
}
