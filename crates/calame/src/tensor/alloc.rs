//! The one allocator of tensors: on a device, in this machine's memory, or a count of the bytes that it would take.

use super::storage::{ElementFormat, Storage};
use super::{Dims, NumberFormat, Tensor};
use crate::device::Device;

/// Creates the tensors and lists of a structure, or only adds up their bytes.
///
/// A structure is made by one function of its sizes, whether it will be used or is only planned: a plan cannot drift from
/// what is allocated. The bytes are counted in both cases.
#[derive(Debug)]
pub struct Alloc<'a> {
    target: Target<'a>,
    bytes: u64,
}

#[derive(Debug)]
enum Target<'a> {
    Device(&'a Device),
    Host,
    Count,
}

impl<'a> Alloc<'a> {
    /// Allocates on a device.
    pub fn on(device: &'a Device) -> Alloc<'a> {
        Alloc { target: Target::Device(device), bytes: 0 }
    }

    /// Allocates in this machine's memory, where files are read to and written from.
    pub fn on_host() -> Alloc<'static> {
        Alloc { target: Target::Host, bytes: 0 }
    }

    /// Allocates nothing: tensors are absent and lists are empty, and their bytes are counted.
    pub fn counting() -> Alloc<'static> {
        Alloc { target: Target::Count, bytes: 0 }
    }

    /// Bytes that were asked for so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A tensor of zeros in f32.
    pub fn zeros(&mut self, dims: impl Into<Dims>) -> Tensor {
        self.tensor(dims.into(), ElementFormat::Number(NumberFormat::F32), false)
    }

    /// A tensor of zeros in f32, of which few rows may ever be touched: on a processor memory is taken for these, not for
    /// large pages around them.
    pub fn sparse_zeros(&mut self, dims: impl Into<Dims>) -> Tensor {
        self.tensor(dims.into(), ElementFormat::Number(NumberFormat::F32), true)
    }

    /// A tensor of zeros in any number format.
    ///
    /// # Panics
    /// If its rows are not whole blocks of the format.
    pub fn zeros_as(&mut self, dims: impl Into<Dims>, format: NumberFormat) -> Tensor {
        let dims = dims.into();
        let row_len: usize = dims.as_slice().iter().skip(1).product();
        assert!(row_len.is_multiple_of(format.block_len()), "{dims:?}: rows are not whole blocks of {format}");
        self.tensor(dims, ElementFormat::Number(format), false)
    }

    /// A tensor of token ids, positions or page numbers, all 0.
    pub fn ids(&mut self, dims: impl Into<Dims>) -> Tensor {
        self.tensor(dims.into(), ElementFormat::Ids, false)
    }

    fn tensor(&mut self, dims: Dims, format: ElementFormat, sparse: bool) -> Tensor {
        let n_elements = dims.as_slice().iter().fold(1, |n: u64, &size| n.saturating_mul(size as u64));
        self.bytes = self.bytes.saturating_add(format.n_bytes(n_elements));
        match self.target {
            Target::Device(device) => device.backend().zeros(dims, format, sparse),
            Target::Host => Tensor::new(Storage::on_host(dims.n_elements(), format, sparse), dims),
            Target::Count => Tensor::absent(),
        }
    }

    /// A list of `len` defaults in this machine's memory.
    pub fn list<T: Clone + Default>(&mut self, len: usize) -> Vec<T> {
        self.bytes = self.bytes.saturating_add((len as u64).saturating_mul(size_of::<T>() as u64));
        match self.target {
            Target::Device(_) | Target::Host => vec![T::default(); len],
            Target::Count => Vec::new(),
        }
    }
}
