//! How parameter trees are created: every tensor has the shape that the table of parameters gives it.

use super::ModelConfig;
use super::params::Param;
use crate::tensor::{Alloc, Dims, Tensor};

/// Creates the tensors of a layer, all zeros.
#[derive(Debug)]
pub struct Zeros<'z, 'd> {
    /// The shape that every tensor follows from.
    pub config: &'z ModelConfig,
    /// Whether the model's own parameters are created: adapters are trained without them.
    pub base: bool,
    /// Creates or counts them.
    pub alloc: &'z mut Alloc<'d>,
}

impl Zeros<'_, '_> {
    /// One parameter; absent where the model does not have it or it is not wanted.
    pub(super) fn tensor(&mut self, param: &'static Param) -> Tensor {
        match self.dims(param) {
            Some(dims) => self.alloc.zeros(dims),
            None => Tensor::absent(),
        }
    }

    /// As [`tensor`](Self::tensor), of which few rows may ever be touched.
    pub(super) fn sparse_tensor(&mut self, param: &'static Param) -> Tensor {
        match self.dims(param) {
            Some(dims) => self.alloc.sparse_zeros(dims),
            None => Tensor::absent(),
        }
    }

    fn dims(&self, param: &'static Param) -> Option<Dims> {
        (self.base && param.is_in(self.config)).then(|| param.dims(self.config))
    }
}
