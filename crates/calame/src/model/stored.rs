//! A model whose weights stay in the number formats of its file: for inference.

use std::ops::Range;

use super::params::{ParamName, specs};
use super::{Gpt, ModelConfig};
use crate::ops::{self, Device, Precision, WeightSource};
use crate::tensor::{Alloc, NumberFormat, Tensor};

/// Fills the bytes of a range of rows.
type ReadRows<'a, E> = Box<dyn Fn(Range<usize>, &mut [u8]) -> Result<(), E> + Sync + 'a>;

/// The weights of a model as a file stores them.
pub trait StoredWeights {
    /// Why weights cannot be read.
    type Error: Send;

    /// Reads a parameter into a tensor of f32 in this machine's memory, which has its shape.
    ///
    /// # Errors
    /// If it cannot be read, or holds a number that is not finite.
    fn read(&self, name: ParamName, tensor: &mut Tensor) -> Result<(), Self::Error>;

    /// Where the elements of a matrix [OC, C] are.
    ///
    /// # Errors
    /// If they cannot be read.
    fn matrix(&self, name: ParamName, dims: [usize; 2]) -> Result<StoredMatrix<'_, Self::Error>, Self::Error>;

    /// The error for a parameter that holds a number that is not finite.
    fn not_finite(&self, name: ParamName) -> Self::Error;
}

/// The elements of a matrix [OC, C] in a file.
pub enum StoredMatrix<'a, E> {
    /// Rows that can be read one by one, as bytes in a number format.
    Rows {
        /// How the file stores an element. A row is whole blocks.
        format: NumberFormat,
        /// Reads a range of rows, on several threads at once.
        read: ReadRows<'a, E>,
    },
    /// All elements, in the order of the file.
    Elements {
        /// The elements in f32.
        elements: Vec<f32>,
        /// Whether they are those of the transposed matrix [C, OC].
        transposed: bool,
        /// The number format in which they lose nothing: not one of blocks.
        format: NumberFormat,
    },
}

impl Gpt {
    /// A model that can only compute forward: the matrices of its layers, the token embedding and the head stay in the
    /// number formats of the file, and everything else is f32. On a device that multiplies in bf16, matrices in f32 and f16
    /// are rounded to bf16.
    ///
    /// # Errors
    /// If a parameter cannot be read, or holds a number that is not finite.
    pub fn as_stored<S: StoredWeights>(dev: &Device, config: &ModelConfig, weights: &S) -> Result<Gpt, S::Error> {
        // Of a tree that only counts, every tensor is absent.
        let mut gpt = Gpt::zeros(config, &mut Alloc::counting());
        let mut present = specs(config).peekable();
        for (name, tensor) in gpt.tensors_mut() {
            let Some(spec) = present.next_if(|spec| spec.name == name) else { continue };
            *tensor = match spec.shape[..] {
                [rows, columns] if spec.is_read_by_products() => matrix(dev, name, [rows, columns], weights)?,
                _ => elements(dev, name, &spec.shape, weights)?,
            };
            if !ops::all_finite(dev, tensor) {
                return Err(weights.not_finite(name));
            }
        }
        Ok(gpt)
    }
}

/// A parameter in f32.
fn elements<S: StoredWeights>(dev: &Device, name: ParamName, shape: &[usize], weights: &S) -> Result<Tensor, S::Error> {
    let mut host = Alloc::on_host().zeros(shape);
    weights.read(name, &mut host)?;
    if dev.is_host() {
        return Ok(host);
    }
    let mut tensor = Alloc::on(dev).zeros(shape);
    ops::write_from_host(dev, &host, &mut tensor);
    Ok(tensor)
}

/// A matrix in the number format of the file, or in bf16.
fn matrix<S: StoredWeights>(dev: &Device, name: ParamName, dims: [usize; 2], weights: &S) -> Result<Tensor, S::Error> {
    let target = |format| match format {
        NumberFormat::F32 | NumberFormat::F16 if dev.precision() == Precision::Bf16 => NumberFormat::Bf16,
        format => format,
    };
    match weights.matrix(name, dims)? {
        StoredMatrix::Rows { format, read } if format.block_len() > 1 => {
            ops::weights(dev, dims, format, &WeightSource::Stored(&*read))
        }
        StoredMatrix::Rows { format, read } => {
            let read = |rows: Range<usize>, elements: &mut [f32]| {
                let mut bytes = vec![0; elements.len() * format.block_bytes()];
                read(rows, &mut bytes)?;
                ops::dequantize_to_host(format, &bytes, elements);
                Ok(())
            };
            ops::weights(dev, dims, target(format), &WeightSource::Elements(&read))
        }
        StoredMatrix::Elements { elements, transposed: true, format } => {
            ops::weights(dev, dims, target(format), &WeightSource::Transposed(&elements))
        }
        StoredMatrix::Elements { elements, transposed: false, format } => {
            let read = |rows: Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&elements[rows.start * dims[1]..rows.end * dims[1]]);
                Ok(())
            };
            ops::weights(dev, dims, target(format), &WeightSource::Elements(&read))
        }
    }
}
