//! A buffer and its dimensions.

use std::fmt;

use calame_kernels::AlignedVec;

/// Where a tensor's elements are and in which format: matched in [`crate::ops`] alone.
#[derive(Clone, Debug)]
pub enum Buf {
    /// f32 in this machine's memory.
    F32(AlignedVec),
}

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

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.as_slice().iter().product()
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

/// An array of numbers, row-major.
///
/// A tensor without elements stands for one that is not there: the bias of a layer that has none, the gradient of a frozen
/// parameter.
#[derive(Clone)]
pub struct Tensor {
    buf: Buf,
    dims: Dims,
}

impl Tensor {
    /// All zeros.
    pub fn zeros(dims: impl Into<Dims>) -> Tensor {
        let dims = dims.into();
        Tensor { buf: Buf::F32(AlignedVec::zeros(dims.n_elements())), dims }
    }

    /// All zeros, of which few rows may ever be touched: memory is taken for these, not for large pieces around them.
    pub fn sparse_zeros(dims: impl Into<Dims>) -> Tensor {
        let dims = dims.into();
        Tensor { buf: Buf::F32(AlignedVec::sparse_zeros(dims.n_elements())), dims }
    }

    /// A tensor that is not there.
    pub fn absent() -> Tensor {
        Tensor::zeros([0])
    }

    /// A tensor of given elements.
    ///
    /// # Panics
    /// If their number is not that of the dimensions.
    pub fn from_slice(dims: impl Into<Dims>, elements: &[f32]) -> Tensor {
        let mut tensor = Tensor::zeros(dims);
        assert_eq!(elements.len(), tensor.len(), "Tensor::from_slice: elements for {:?}", tensor.dims);
        tensor.as_mut_slice().copy_from_slice(elements);
        tensor
    }

    /// Sizes, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.dims.as_slice()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.n_elements()
    }

    /// Whether it stands for a tensor that is not there.
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

    /// Number of elements that it was made with.
    pub fn room(&self) -> usize {
        let Buf::F32(buf) = &self.buf;
        buf.len()
    }

    /// Makes the outermost dimension `n_rows`, which is at most what the tensor was made with; nothing is allocated.
    ///
    /// # Panics
    /// If there is no room.
    pub fn set_rows(&mut self, n_rows: usize) {
        let room = self.room();
        self.dims.sizes[0] = n_rows;
        assert!(self.len() <= room, "Tensor::set_rows: {:?} in room for {room} elements", self.dims);
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        let Buf::F32(buf) = &self.buf;
        &buf[..self.dims.n_elements()]
    }

    /// The elements, to change.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let n = self.len();
        let Buf::F32(buf) = &mut self.buf;
        &mut buf[..n]
    }
}

/// Where the buffers of a structure come from: memory, or a count of what they would take.
///
/// A structure is made by one function of its sizes, whether it is to be used or only planned: so the plan cannot drift from
/// what is made.
#[derive(Debug)]
pub enum Rooms {
    /// Zeros in memory.
    Real,
    /// Absent tensors and empty lists; their bytes are added up.
    Counted {
        /// So far.
        bytes: u64,
    },
}

impl Rooms {
    /// Counts from 0.
    pub fn counted() -> Rooms {
        Rooms::Counted { bytes: 0 }
    }

    /// The bytes counted; 0 where memory was taken.
    pub fn bytes(&self) -> u64 {
        match self {
            Rooms::Real => 0,
            Rooms::Counted { bytes } => *bytes,
        }
    }

    /// A tensor of zeros.
    pub fn zeros(&mut self, dims: impl Into<Dims>) -> Tensor {
        let dims = dims.into();
        match self {
            Rooms::Real => Tensor::zeros(dims),
            Rooms::Counted { bytes } => {
                let elements = dims.as_slice().iter().fold(1, |n: u64, &size| n.saturating_mul(size as u64));
                *bytes = bytes.saturating_add(elements.saturating_mul(4));
                Tensor::absent()
            }
        }
    }

    /// A list of `len` defaults.
    pub fn list<T: Clone + Default>(&mut self, len: usize) -> Vec<T> {
        match self {
            Rooms::Real => vec![T::default(); len],
            Rooms::Counted { bytes } => {
                *bytes = bytes.saturating_add((len as u64).saturating_mul(size_of::<T>() as u64));
                Vec::new()
            }
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.dims)
    }
}
