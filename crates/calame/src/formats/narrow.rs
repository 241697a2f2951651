//! Writing weights in 16 bits, and checking what was written.

use std::io::{self, Write};

use super::CheckpointError;
use super::model_file::ModelFile;
use crate::model::params::{ParamName, shapes};
use crate::quant::{NumberFormat, is_in_range, narrow, rounded};
use crate::tensor::{Alloc, Tensor};

/// Elements that are converted and written at a time.
const PIECE: usize = 1 << 16;

/// Writes elements in a format, piece by piece.
pub(super) fn write_elements(to: &mut impl Write, elements: &[f32], format: NumberFormat) -> io::Result<()> {
    if format == NumberFormat::F32 {
        return to.write_all(bytemuck::cast_slice(elements));
    }
    let mut bytes = Vec::with_capacity(2 * PIECE.min(elements.len()));
    for piece in elements.chunks(PIECE) {
        bytes.clear();
        narrow(piece, format, &mut bytes);
        to.write_all(&bytes)?;
    }
    Ok(())
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
    match tensor.host().iter().find(|&&x| !is_in_range(x, format)) {
        None => Ok(()),
        Some(x) => Err(CheckpointError::Config {
            path: model.path().to_owned(),
            key: "a weight",
            found: format!("{x}, in {name}"),
            expected: format!(
                "a number within the range of {}: write the model in {}",
                format.name(),
                if format == NumberFormat::F16 { "bf16 or f32" } else { "f32" }
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

/// Checks that every element of a written model is the original's, rounded to the format or not at all: some formats
/// keep a few parameters in f32. Two tensors are in memory at a time. Returns the number of elements that were rounded.
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
        if !pairs().all(|(&a, b)| rounded(a, format).to_bits() == b.to_bits()) {
            return Err(CheckpointError::damaged(
                written.path(),
                format!("{name} is not the model's, rounded to {}", format.name()),
            ));
        }
        n_rounded += expected.len();
    }
    Ok(n_rounded)
}
