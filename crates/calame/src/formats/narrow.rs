//! Writing weights in other number formats than f32, and checking what was written.

use std::io::{self, Write};

use super::CheckpointError;
use super::model_file::ModelFile;
use crate::model::params::{ParamName, shapes};
use crate::quant::{NumberFormat, dequantize, format_for_rows, is_in_range, quantize};
use crate::tensor::{Alloc, Tensor};

/// Elements that are converted and written at a time: whole blocks of every format.
const PIECE: usize = 1 << 16;

/// Writes elements in a format, piece by piece.
pub(super) fn write_elements(to: &mut impl Write, elements: &[f32], format: NumberFormat) -> io::Result<()> {
    if format == NumberFormat::F32 {
        return to.write_all(bytemuck::cast_slice(elements));
    }
    elements.chunks(PIECE).try_for_each(|piece| to.write_all(&converted(piece, format)))
}

/// The bytes of elements in a format: those of an f32, f16 or bf16, or whole blocks.
fn converted(elements: &[f32], format: NumberFormat) -> Vec<u8> {
    let mut bytes = vec![0; elements.len() / format.block_len() * format.block_bytes()];
    quantize(format, elements, &mut bytes);
    bytes
}

/// What elements become when they are written in a format and read again.
fn as_written(elements: &[f32], format: NumberFormat) -> Vec<f32> {
    let mut back = vec![0.0; elements.len()];
    let pieces = elements.chunks(PIECE).zip(back.chunks_mut(PIECE));
    pieces.for_each(|(piece, back)| dequantize(format, &converted(piece, format), back));
    back
}

/// Checks that every element is finite in the format too.
///
/// # Errors
/// With the parameter, the first element that is not, and the format to choose instead.
pub(super) fn check_range(
    model: &ModelFile,
    name: &ParamName,
    tensor: &Tensor,
    format: NumberFormat,
) -> Result<(), CheckpointError> {
    // The scales of blocks are f16.
    let limit = if format.block_len() > 1 { NumberFormat::F16 } else { format };
    match tensor.host().iter().find(|&&x| !is_in_range(x, limit)) {
        None => Ok(()),
        Some(x) => Err(CheckpointError::Config {
            path: model.path().to_owned(),
            key: "a weight",
            found: format!("{x}, in {name}"),
            expected: format!(
                "a number within the range of {}: write the model in {}",
                format.name(),
                if limit == NumberFormat::F16 { "bf16 or f32" } else { "f32" }
            ),
        }),
    }
}

/// A parameter's memory, as [`ModelFile::read`] expects it.
fn zeros(shape: &[usize]) -> Tensor {
    match shape {
        [n] => Alloc::on_host().zeros([*n]),
        _ => Alloc::on_host().zeros([shape[0], shape[1..].iter().product()]),
    }
}

/// Checks that every element of a written model is the original's, rounded to the format, to f16 or not at all: a file
/// keeps a few parameters in f32, and rows that are not whole blocks are in f16. Two tensors are in memory at a time. Returns the number of elements that were rounded.
///
/// # Errors
/// With the first parameter that differs; if one cannot be read.
pub fn verify_narrowed(written: &ModelFile, model: &ModelFile, format: NumberFormat) -> Result<usize, CheckpointError> {
    let mut n_rounded = 0;
    for (name, shape) in shapes(model.config()) {
        let (mut expected, mut found) = (zeros(&shape), zeros(&shape));
        model.read(name, &mut expected)?;
        written.read(name, &mut found)?;
        let pairs = || expected.host().iter().zip(found.host());
        let is_kept = pairs().all(|(a, b)| a.to_bits() == b.to_bits());
        if is_kept {
            continue;
        }
        let format = format_for_rows(format, shape[shape.len() - 1]);
        let rounded = as_written(expected.host(), format);
        if rounded.iter().zip(found.host()).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(CheckpointError::damaged(
                written.path(),
                format!("{name} is not the model's, rounded to {}", format.name()),
            ));
        }
        n_rounded += expected.len();
    }
    Ok(n_rounded)
}
