//! Models from one memory to another: files are read and written in this machine's.

use std::borrow::Cow;

use super::Gpt;
use crate::ops::{self, Device};
use crate::tensor::Alloc;

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

    /// Zeros of the same shape, adapters too.
    fn zeros_like(&self, alloc: &mut Alloc<'_>) -> Gpt {
        let mut zeros = Gpt::zeros(&self.config, alloc);
        zeros.h.iter_mut().zip(&self.h).for_each(|(to, from)| to.mirror_adapters(from, alloc));
        zeros
    }
}
