//! Matrices of weights that are only read, in the layout and the number format that the device prefers.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use calame_kernels::{MatRef, PackedMatrix, PackedShape, Pool};

use super::{Device, Phase, Work};
use crate::device::WeightRows;
use crate::tensor::{NumberFormat, Storage, Tensor};

/// Fills a range of rows.
pub type ReadRows<'a, T, E> = &'a (dyn Fn(Range<usize>, &mut [T]) -> Result<(), E> + Sync);

/// Where the rows of a matrix of weights [OC, C] come from. The functions are called on several threads at once.
pub enum WeightSource<'a, E> {
    /// The elements of a range of rows, which are converted to the matrix's number format.
    Elements(ReadRows<'a, f32, E>),
    /// The bytes of a range of rows in the matrix's number format, as a file stores them.
    Stored(ReadRows<'a, u8, E>),
    /// The elements of the transposed matrix [C, OC], which are converted to the matrix's number format.
    Transposed(&'a [f32]),
}

/// A matrix of weights that products read as `weightᵀ` ([`linear_forward`](super::linear_forward)) and look-ups row by row,
/// and that is not changed afterwards. The device computes with the number format as stored, if it can.
///
/// # Errors
/// The first error of the source.
///
/// # Panics
/// If a row is not whole blocks of the format.
pub fn weights<E: Send>(
    dev: &Device,
    dims: [usize; 2],
    format: NumberFormat,
    source: &WeightSource<'_, E>,
) -> Result<Tensor, E> {
    let failed = Mutex::new(None);
    let is_done = |outcome: Result<(), E>| match outcome {
        Ok(()) => true,
        Err(error) => {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            false
        }
    };
    let work = Work::passes(dims[0].saturating_mul(dims[1]));
    let tensor = dev.run(Phase::Memory, work, |on| match source {
        WeightSource::Elements(read) => {
            on.weights(dims, format, &WeightRows::Elements(&|rows, out| is_done(read(rows, out))))
        }
        WeightSource::Stored(read) => {
            on.weights(dims, format, &WeightRows::Stored(&|rows, out| is_done(read(rows, out))))
        }
        WeightSource::Transposed(x) => on.weights(dims, format, &WeightRows::Transposed(x)),
    });
    match (tensor, failed.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        (_, Some(error)) => Err(error),
        (tensor, None) => Ok(tensor.expect("weights: the device fails only if the source does")),
    }
}

/// As [`weights`], from a matrix of f32 in this machine's memory.
///
/// # Panics
/// As [`weights`]; if the matrix is not in this machine's memory.
pub fn weights_of(dev: &Device, matrix: &Tensor, format: NumberFormat) -> Tensor {
    let (elements, columns) = (matrix.host(), matrix.row_len());
    let read = |rows: Range<usize>, out: &mut [f32]| {
        out.copy_from_slice(&elements[rows.start * columns..rows.end * columns]);
        Ok::<(), Infallible>(())
    };
    let Ok(packed) = weights(dev, [matrix.n_rows(), columns], format, &WeightSource::Elements(&read));
    packed
}

/// Converts numbers of a file to f32 in this machine's memory; `out` is overwritten.
///
/// # Panics
/// If the bytes are not those of as many elements.
pub fn dequantize_to_host(format: NumberFormat, bytes: &[u8], out: &mut [f32]) {
    calame_kernels::formats::dequantize(format, bytes, out);
}

/// The processor's matrix of weights: packed for its instruction set.
pub(super) fn packed_weights(
    pool: &Pool,
    [rows, columns]: [usize; 2],
    format: NumberFormat,
    source: &WeightRows<'_>,
) -> Option<Tensor> {
    let shape = PackedShape::new(pool.isa(), format, rows, columns);
    let mut matrix = PackedMatrix::zeros(shape);
    let is_failed = AtomicBool::new(false);
    matrix.for_panels(pool, |j, panel| {
        let rows_of = shape.rows_of(j);
        let n = rows_of.len();
        let is_written = !is_failed.load(Ordering::Relaxed)
            && match source {
                WeightRows::Elements(fill) => {
                    let mut elements = vec![0.0; n * columns];
                    let is_read = fill(rows_of, &mut elements);
                    write_panel(&shape, panel, &elements);
                    is_read
                }
                WeightRows::Stored(fill) => {
                    let mut bytes = vec![0; n * shape.row_bytes()];
                    let is_read = fill(rows_of, &mut bytes);
                    shape.write_panel_raw(panel, &bytes);
                    is_read
                }
                WeightRows::Transposed(x) => {
                    if format.block_len() == 1 {
                        shape.write_panel(panel, MatRef::columns(x, columns, rows, rows_of).t());
                        return;
                    }
                    let element = |i: usize| x[i % columns * rows + rows_of.start + i / columns];
                    let elements: Vec<f32> = (0..n * columns).map(element).collect();
                    write_panel(&shape, panel, &elements);
                    true
                }
            };
        if !is_written {
            is_failed.store(true, Ordering::Relaxed);
        }
    });
    (!is_failed.into_inner()).then(|| Tensor::new(Storage::Packed(Box::new(matrix)), [rows, columns]))
}

/// Writes a panel from the elements of its rows.
fn write_panel(shape: &PackedShape, panel: &mut [f32], elements: &[f32]) {
    let n = elements.len() / shape.cols().max(1);
    if shape.format().block_len() == 1 {
        return shape.write_panel(panel, MatRef::dense(elements, n, shape.cols()));
    }
    let mut bytes = vec![0; n * shape.row_bytes()];
    calame_kernels::formats::quantize(shape.format(), elements, &mut bytes);
    shape.write_panel_raw(panel, &bytes);
}
