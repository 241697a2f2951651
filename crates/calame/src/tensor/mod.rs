//! Arrays: a [`Tensor`] is a [`Storage`] with [`Dims`]; an [`Alloc`] creates every one; a [`View`] is a part of a matrix.

mod alloc;
mod storage;
mod view;

use std::fmt;

pub use alloc::Alloc;
pub use calame_kernels::formats::NumberFormat;
pub use storage::{DeviceBuffer, ElementFormat, Storage};
pub use view::{View, ViewMut};

/// Up to four dimensions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    sizes: [usize; 4],
    rank: usize,
}

impl Dims {
    /// The sizes, outermost first.
    pub fn as_slice(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// The product of the sizes.
    pub fn n_elements(&self) -> usize {
        self.as_slice().iter().product()
    }
}

impl From<&[usize]> for Dims {
    /// # Panics
    /// If there are more than four.
    fn from(given: &[usize]) -> Dims {
        assert!(given.len() <= 4, "Dims: {given:?}");
        let mut sizes = [1; 4];
        sizes[..given.len()].copy_from_slice(given);
        Dims { sizes, rank: given.len() }
    }
}

impl<const N: usize> From<[usize; N]> for Dims {
    fn from(given: [usize; N]) -> Dims {
        const { assert!(N <= 4) };
        let mut sizes = [1; 4];
        sizes[..N].copy_from_slice(&given);
        Dims { sizes, rank: N }
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// A row-major array of numbers, on whichever device its [`Storage`] says.
///
/// A tensor without elements stands for one that is absent: the bias of a layer that has none, the gradient of a frozen
/// parameter.
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    dims: Dims,
}

impl Tensor {
    /// A tensor that is absent.
    pub fn absent() -> Tensor {
        Tensor { storage: Storage::F32(Default::default()), dims: [0].into() }
    }

    /// A tensor over storage that holds its elements; [`Alloc`] is the usual way to create one.
    ///
    /// # Panics
    /// If the storage holds fewer elements than the dimensions say.
    pub fn new(storage: Storage, dims: impl Into<Dims>) -> Tensor {
        let dims = dims.into();
        assert!(
            dims.n_elements() <= storage.n_elements(),
            "Tensor::new: {dims:?} in storage for {} elements",
            storage.n_elements()
        );
        Tensor { storage, dims }
    }

    /// The sizes of the dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.dims.as_slice()
    }

    /// Number of elements: the product of the dimensions.
    pub fn len(&self) -> usize {
        self.dims.n_elements()
    }

    /// Whether it stands for a tensor that is absent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the outermost dimension.
    pub fn n_rows(&self) -> usize {
        self.dims.sizes[0]
    }

    /// Elements under one index of the outermost dimension.
    pub fn row_len(&self) -> usize {
        self.dims.as_slice()[1..].iter().product()
    }

    /// Number of elements that it was created with.
    pub fn capacity(&self) -> usize {
        self.storage.n_elements()
    }

    /// Sets the size of the outermost dimension, within the capacity; nothing is allocated.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn set_rows(&mut self, n_rows: usize) {
        let capacity = self.capacity();
        self.dims.sizes[0] = n_rows;
        assert!(
            self.len() <= capacity,
            "Tensor::set_rows: {:?} exceeds the capacity of {capacity} elements",
            self.dims
        );
    }

    /// Changes the sizes, within the capacity; nothing is allocated.
    ///
    /// # Panics
    /// If the capacity is exceeded.
    pub fn reshape(&mut self, dims: impl Into<Dims>) {
        let capacity = self.capacity();
        self.dims = dims.into();
        assert!(self.len() <= capacity, "Tensor::reshape: {:?} exceeds the capacity of {capacity} elements", self.dims);
    }

    /// The number format of elements in this machine's memory; None for ids, and on another device.
    pub fn format(&self) -> Option<NumberFormat> {
        match &self.storage {
            Storage::F32(_) => Some(NumberFormat::F32),
            Storage::F16(_) => Some(NumberFormat::F16),
            Storage::Bf16(_) => Some(NumberFormat::Bf16),
            Storage::Blocks { format, .. } => Some(*format),
            Storage::Packed(matrix) => Some(matrix.shape().format()),
            Storage::U32(_) | Storage::Gpu(_) => None,
        }
    }

    /// Memory of the elements in bytes: 0 on another device, which alone knows.
    pub fn n_bytes(&self) -> u64 {
        match &self.storage {
            Storage::Packed(matrix) => matrix.shape().n_bytes(),
            Storage::U32(_) => ElementFormat::Ids.n_bytes(self.len() as u64),
            _ => self.format().map_or(0, |format| ElementFormat::Number(format).n_bytes(self.len() as u64)),
        }
    }

    /// Where the elements are and in which format.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The storage, to change its elements.
    pub fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    /// The elements of an f32 tensor in this machine's memory.
    ///
    /// # Panics
    /// If the tensor is stored in another format or on another device.
    pub(crate) fn host(&self) -> &[f32] {
        match &self.storage {
            Storage::F32(buffer) => &buffer[..self.dims.n_elements()],
            other => {
                panic!("Tensor::host: {:?} is stored as {other:?}, expected f32 in this machine's memory", self.dims)
            }
        }
    }

    /// The elements of an f32 tensor in this machine's memory, to change.
    ///
    /// # Panics
    /// As [`host`](Self::host).
    pub(crate) fn host_mut(&mut self) -> &mut [f32] {
        let n = self.len();
        match &mut self.storage {
            Storage::F32(buffer) => &mut buffer[..n],
            other => {
                panic!("Tensor::host: {:?} is stored as {other:?}, expected f32 in this machine's memory", self.dims)
            }
        }
    }

    /// Whether every element of an f32 tensor in this machine's memory is finite.
    ///
    /// # Panics
    /// As [`host`](Self::host).
    pub(crate) fn is_finite(&self) -> bool {
        calame_kernels::all_finite(self.host())
    }

    /// The elements of a tensor of ids in this machine's memory.
    ///
    /// # Panics
    /// If the tensor is stored in another format or on another device.
    pub(crate) fn host_ids(&self) -> &[u32] {
        match &self.storage {
            Storage::U32(ids) => &ids[..self.dims.n_elements()],
            other => panic!("Tensor::host_ids: {:?} is stored as {other:?}, expected u32", self.dims),
        }
    }

    /// The elements of a tensor of ids, to change.
    ///
    /// # Panics
    /// As [`host_ids`](Self::host_ids).
    pub(crate) fn host_ids_mut(&mut self) -> &mut [u32] {
        let n = self.len();
        match &mut self.storage {
            Storage::U32(ids) => &mut ids[..n],
            other => panic!("Tensor::host_ids: {:?} is stored as {other:?}, expected u32", self.dims),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.dims)
    }
}
