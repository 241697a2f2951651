//! Where a tensor's elements are, and in which number format.

use std::any::Any;
use std::fmt;

use calame_kernels::formats::NumberFormat;
use calame_kernels::{AlignedVec, PackedMatrix};
use half::{bf16, f16};

/// A tensor's elements: only [`crate::tensor`] and [`crate::ops`] match on it, so that layers and the
/// training loop are written once for all formats and devices.
#[derive(Clone)]
pub enum Storage {
    /// f32 in this machine's memory: what training computes in.
    F32(AlignedVec),
    /// IEEE half precision in this machine's memory.
    F16(Vec<f16>),
    /// The upper halves of f32 in this machine's memory.
    Bf16(Vec<bf16>),
    /// Token ids, positions and page numbers in this machine's memory.
    U32(Vec<u32>),
    /// Weights in one of ggml's block formats, as a GGUF file stores them.
    Blocks {
        /// How a block stores its elements.
        format: NumberFormat,
        /// Whole blocks, row by row.
        bytes: Vec<u8>,
    },
    /// A matrix of weights in the order in which the processor's products read them: what inference reads.
    Packed(Box<PackedMatrix>),
    /// Memory of a GPU, or of any other device with memory of its own.
    Gpu(Box<dyn DeviceBuffer>),
}

/// Memory of a device other than this machine's processor: only the device that made it looks inside.
pub trait DeviceBuffer: Any + fmt::Debug + Send + Sync {
    /// Elements that it holds.
    fn n_elements(&self) -> usize;
    /// A copy of its own, on the same device.
    fn duplicate(&self) -> Box<dyn DeviceBuffer>;
    /// Itself, for the device to recognise its own type.
    fn as_any(&self) -> &dyn Any;
    /// Itself, to be changed by the device.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl Clone for Box<dyn DeviceBuffer> {
    fn clone(&self) -> Box<dyn DeviceBuffer> {
        self.as_ref().duplicate()
    }
}

impl Storage {
    /// Zeros of a format in this machine's memory. A sparse one expects few of its rows ever to be touched: it takes
    /// memory for these in pages of 4 kB instead of 2 MB.
    ///
    /// # Panics
    /// If a format of blocks is asked for elements that do not fill whole blocks.
    pub(crate) fn on_host(n_elements: usize, format: ElementFormat, sparse: bool) -> Storage {
        match format {
            ElementFormat::Ids => Storage::U32(vec![0; n_elements]),
            ElementFormat::Number(NumberFormat::F32) if sparse => Storage::F32(AlignedVec::sparse_zeros(n_elements)),
            ElementFormat::Number(NumberFormat::F32) => Storage::F32(AlignedVec::zeros(n_elements)),
            ElementFormat::Number(NumberFormat::F16) => Storage::F16(vec![f16::ZERO; n_elements]),
            ElementFormat::Number(NumberFormat::Bf16) => Storage::Bf16(vec![bf16::ZERO; n_elements]),
            ElementFormat::Number(blocks) => {
                Storage::Blocks { format: blocks, bytes: vec![0; format.n_bytes(n_elements as u64) as usize] }
            }
        }
    }

    /// Elements that it holds.
    pub fn n_elements(&self) -> usize {
        match self {
            Storage::F32(x) => x.len(),
            Storage::F16(x) => x.len(),
            Storage::Bf16(x) => x.len(),
            Storage::U32(x) => x.len(),
            Storage::Blocks { format, bytes } => bytes.len() / format.block_bytes() * format.block_len(),
            Storage::Packed(matrix) => matrix.shape().rows() * matrix.shape().cols(),
            Storage::Gpu(buffer) => buffer.n_elements(),
        }
    }
}

/// What one element of a new tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementFormat {
    /// A number in one of the formats for weights and activations.
    Number(NumberFormat),
    /// A token id, a position or a page number: u32.
    Ids,
}

impl ElementFormat {
    /// Bytes that so many elements take.
    ///
    /// # Panics
    /// If a format of blocks is asked for elements that do not fill whole blocks.
    pub fn n_bytes(self, n_elements: u64) -> u64 {
        match self {
            ElementFormat::Ids => n_elements.saturating_mul(4),
            ElementFormat::Number(format) => {
                let (len, bytes) = (format.block_len() as u64, format.block_bytes() as u64);
                assert!(n_elements.is_multiple_of(len), "{n_elements} elements in {format} blocks of {len}");
                (n_elements / len).saturating_mul(bytes)
            }
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self {
            Storage::F32(_) => "f32",
            Storage::F16(_) => "f16",
            Storage::Bf16(_) => "bf16",
            Storage::U32(_) => "u32",
            Storage::Blocks { format, .. } => format.name(),
            Storage::Packed(matrix) => return write!(f, "{} × packed {}", self.n_elements(), matrix.shape().format()),
            Storage::Gpu(buffer) => return write!(f, "{buffer:?}"),
        };
        write!(f, "{} × {format}", self.n_elements())
    }
}
