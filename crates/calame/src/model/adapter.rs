//! Low-rank adapters of linear layers: y += scale·(x·Aᵀ)·Bᵀ on a range of output columns.
//!
//! E. Hu et al., "LoRA: low-rank adaptation of large language models", 2021. Queries, keys and values are three ranges of
//! `c_attn`, so that each can have an adapter of its own.

use std::ops::Range;

use crate::ops::LowRank;
use crate::tensor::{Alloc, Tensor};

/// An adapter of a linear layer; also its gradients and its moments.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Factor A, [rank, C]: from the layer's inputs to the rank.
    pub a: Tensor,
    /// Factor B, [columns, rank]: from the rank to the layer's outputs.
    pub b: Tensor,
    /// The factor of the product: alpha / rank.
    pub scale: f32,
    /// The layer's output columns that it adds to.
    pub columns: Range<usize>,
}

/// Work space of the adapters of all layers.
#[derive(Debug)]
pub struct AdapterScratch {
    /// scale·x·Aᵀ, [R, rank], where R is the rows of x.
    inner: Tensor,
    dinner: Tensor,
}

impl AdapterScratch {
    /// For up to `n_rows` rows and adapters of up to `rank`; absent for a rank of 0.
    pub fn new(n_rows: usize, rank: usize, alloc: &mut Alloc<'_>) -> AdapterScratch {
        let mut tensor = || if rank == 0 { Tensor::absent() } else { alloc.zeros([n_rows, rank]) };
        AdapterScratch { inner: tensor(), dinner: tensor() }
    }

    /// Both for this many rows of an adapter.
    pub(super) fn shaped(&mut self, n_rows: usize, rank: usize) -> (&mut Tensor, &mut Tensor) {
        for tensor in [&mut self.inner, &mut self.dinner] {
            tensor.reshape([n_rows, rank]);
        }
        (&mut self.inner, &mut self.dinner)
    }
}

impl Adapter {
    /// Zeros of the given rank for columns of a layer with `n_inputs` inputs: an adapter that changes nothing.
    pub fn zeros(rank: usize, n_inputs: usize, columns: Range<usize>, scale: f32, alloc: &mut Alloc<'_>) -> Adapter {
        Adapter { a: alloc.zeros([rank, n_inputs]), b: alloc.zeros([columns.len(), rank]), scale, columns }
    }

    /// Zeros of the same shape, for gradients and moments.
    pub fn zeros_like(&self, alloc: &mut Alloc<'_>) -> Adapter {
        let Adapter { a, columns, scale, .. } = self;
        Adapter::zeros(a.n_rows(), a.row_len(), columns.clone(), *scale, alloc)
    }

    /// Whether both have the same rank, columns and scale.
    pub(super) fn is_like(&self, other: &Adapter) -> bool {
        (self.rank(), &self.columns, self.scale) == (other.rank(), &other.columns, other.scale)
    }

    /// The rank: columns of B.
    pub fn rank(&self) -> usize {
        self.a.n_rows()
    }

    pub(super) fn weights(&self) -> LowRank<'_> {
        LowRank { a: &self.a, b: &self.b, scale: self.scale, columns: self.columns.clone() }
    }
}
