//! The allocator of tensors: allocates on a device or in host memory, or only counts the bytes.

use super::storage::{ElementFormat, Storage};
use super::{Dims, NumberFormat, Tensor};
use crate::device::Device;

/// Allocates the tensors and lists of a structure, or only counts their bytes.
///
/// The same constructor both allocates a structure and plans its memory, so a plan cannot diverge from the allocation.
/// Bytes are counted in both cases.
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

    /// Allocates in host memory, as needed to read and write files.
    pub fn on_host() -> Alloc<'static> {
        Alloc { target: Target::Host, bytes: 0 }
    }

    /// Only counts bytes: the tensors are absent and the lists empty.
    pub fn counting() -> Alloc<'static> {
        Alloc { target: Target::Count, bytes: 0 }
    }

    /// Number of bytes requested so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Creates an f32 tensor of zeros.
    pub fn zeros(&mut self, dims: impl Into<Dims>) -> Tensor {
        self.tensor(dims.into(), ElementFormat::Number(NumberFormat::F32), false)
    }

    /// Creates an f32 tensor of zeros of which only a few rows are expected to be touched. On the CPU it uses small
    /// pages, so rows that are never touched take almost no memory.
    pub fn sparse_zeros(&mut self, dims: impl Into<Dims>) -> Tensor {
        self.tensor(dims.into(), ElementFormat::Number(NumberFormat::F32), true)
    }

    /// Creates a tensor of zeros in the given number format.
    ///
    /// # Panics
    /// If a row is not a whole number of the format's blocks.
    pub fn zeros_as(&mut self, dims: impl Into<Dims>, format: NumberFormat) -> Tensor {
        let dims = dims.into();
        let row_len: usize = dims.as_slice().iter().skip(1).product();
        assert!(row_len.is_multiple_of(format.block_len()), "{dims:?}: rows are not whole blocks of {format}");
        self.tensor(dims, ElementFormat::Number(format), false)
    }

    /// Creates a tensor of token ids, positions or page numbers, initialised to 0.
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

    /// Creates a list of `len` default values in host memory.
    pub fn list<T: Clone + Default>(&mut self, len: usize) -> Vec<T> {
        self.bytes = self.bytes.saturating_add((len as u64).saturating_mul(size_of::<T>() as u64));
        match self.target {
            Target::Device(_) | Target::Host => vec![T::default(); len],
            Target::Count => Vec::new(),
        }
    }
}
