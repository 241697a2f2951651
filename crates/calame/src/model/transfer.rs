//! Models from one memory to another: files are read and written in this machine's.

use std::borrow::Cow;

use super::params::specs;
use super::{Block, Gpt};
use crate::ops::{self, Device};
use crate::tensor::{Alloc, NumberFormat};

impl Gpt {
    /// The model in this machine's memory: itself where `dev` computes there, else a copy.
    pub fn on_host(&self, dev: &Device) -> Cow<'_, Gpt> {
        if dev.is_host() {
            return Cow::Borrowed(self);
        }
        let mut copy = self.zeros_like(&mut Alloc::on_host());
        for ((_, from), (_, to)) in self.tensors().zip(copy.tensors_mut()).filter(|((_, from), _)| !from.is_empty()) {
            ops::read_to_host(dev, from, to);
        }
        Cow::Owned(copy)
    }

    /// A model from this machine's memory, as files are read, in that of `dev`: itself where that is the same.
    ///
    /// # Panics
    /// If the model is not in this machine's memory.
    #[must_use]
    pub fn on_device(self, dev: &Device) -> Gpt {
        if dev.is_host() {
            return self;
        }
        let mut copy = self.zeros_like(&mut Alloc::on(dev));
        for ((_, from), (_, to)) in self.tensors().zip(copy.tensors_mut()).filter(|((_, from), _)| !from.is_empty()) {
            ops::write_from_host(dev, from, to);
        }
        copy
    }

    /// A model in f32 as inference reads it: the matrices of its layers, the token embedding and the head are converted to
    /// `format` (f16 where rows are not whole blocks) and laid out for `dev`. It can only compute forward.
    ///
    /// # Panics
    /// If the model is not in this machine's memory.
    #[must_use]
    pub fn for_inference(mut self, dev: &Device, format: NumberFormat) -> Gpt {
        let config = self.config.clone();
        let mut present = specs(&config);
        let mut next = present.next();
        for (name, tensor) in self.tensors_mut() {
            let Some(spec) = next.take_if(|spec| spec.name == name) else { continue };
            if spec.is_read_by_products() {
                let is_whole = tensor.row_len().is_multiple_of(format.block_len());
                *tensor = ops::weights_of(dev, tensor, if is_whole { format } else { NumberFormat::F16 });
            }
            next = present.next();
        }
        self
    }

    /// Bytes of the matrices that a forward pass reads as a whole, whatever the number of rows: those of all layers and of
    /// the head.
    pub fn matrix_bytes(&self) -> u64 {
        let linears = self.h.iter().flat_map(Block::linears).map(|linear| linear.weight.n_bytes());
        linears.chain([self.head().n_bytes()]).sum()
    }

    /// Zeros of the same shape, adapters too.
    fn zeros_like(&self, alloc: &mut Alloc<'_>) -> Gpt {
        let mut zeros = Gpt::zeros(&self.config, alloc);
        zeros.h.iter_mut().zip(&self.h).for_each(|(to, from)| to.mirror_adapters(from, alloc));
        zeros
    }
}
