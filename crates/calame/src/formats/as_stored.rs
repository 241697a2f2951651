//! Reading a model for inference: matrices stay in the number format of the file, in the layout that the device reads.

use std::ops::Range;

use super::CheckpointError;
use super::matching::ParameterLocation;
use super::model_file::{ModelFile, SavedModel};
use crate::model::Gpt;
use crate::model::params::{ParamName, specs};
use crate::ops::{self, Device, Precision, WeightSource};
use crate::quant::{NumberFormat, dequantize};
use crate::tensor::{Alloc, Tensor};

impl ModelFile {
    /// Reads all parameters into a new model that can only compute forward: the matrices of its layers, the token embedding
    /// and the head are stored as in the file (numbers that are not f32, f16, bf16 or blocks become f32), and everything
    /// else in f32. On a device that multiplies in bf16, matrices in f32 and f16 are rounded to bf16.
    ///
    /// # Errors
    /// As [`ModelFile::read`].
    pub fn load_as_stored(self, dev: &Device) -> Result<SavedModel, CheckpointError> {
        self.check_absent_biases()?;
        // Of a tree that only counts, every tensor is absent.
        let mut gpt = Gpt::zeros(self.config(), &mut Alloc::counting());
        let mut present = specs(self.config());
        let mut next = present.next();
        for (name, tensor) in gpt.tensors_mut() {
            let Some(spec) = next.take_if(|spec| spec.name == name) else { continue };
            *tensor = match spec.shape[..] {
                [rows, columns] if spec.is_read_by_products() => self.read_matrix(dev, name, [rows, columns])?,
                _ => self.read_elements(dev, name, &spec.shape)?,
            };
            if !ops::all_finite(dev, tensor) {
                return Err(self.not_finite(name));
            }
            next = present.next();
        }
        drop(present);
        Ok(self.into_saved(gpt))
    }

    /// A parameter in f32.
    fn read_elements(&self, dev: &Device, name: ParamName, shape: &[usize]) -> Result<Tensor, CheckpointError> {
        let mut host = Alloc::on_host().zeros(shape);
        self.read(name, &mut host)?;
        if dev.is_host() {
            return Ok(host);
        }
        let mut tensor = Alloc::on(dev).zeros(shape);
        ops::write_from_host(dev, &host, &mut tensor);
        Ok(tensor)
    }

    /// A matrix in the number format of the file.
    fn read_matrix(&self, dev: &Device, name: ParamName, dims: [usize; 2]) -> Result<Tensor, CheckpointError> {
        let ParameterLocation { tensors, transposed } = self.location(name);
        let (source, stored) = (self.source(), self.stored());
        let of_file = common_format(tensors.iter().map(|&i| stored[i].format));
        let is_narrowed = dev.precision() == Precision::Bf16;
        let format = match of_file {
            Some(NumberFormat::F32 | NumberFormat::F16) | None if is_narrowed => NumberFormat::Bf16,
            Some(format) if dims[1].is_multiple_of(format.block_len()) => format,
            _ => NumberFormat::F32,
        };
        let has_parts = tensors.iter().all(|&i| source.has_parts(i));
        let Some(of_file) = of_file.filter(|_| has_parts && !transposed) else {
            return self.read_whole_matrix(dev, name, dims, format);
        };
        let rows_of_file = RowsOfFile { model: self, tensors, dims, format: of_file };
        if of_file == format && format.block_len() > 1 {
            let read = |rows: Range<usize>, bytes: &mut [u8]| rows_of_file.read(rows, bytes);
            return ops::weights(dev, dims, format, &WeightSource::Stored(&read));
        }
        let read = |rows: Range<usize>, elements: &mut [f32]| rows_of_file.read_elements(rows, elements);
        ops::weights(dev, dims, format, &WeightSource::Elements(&read))
    }

    /// A matrix that the file stores transposed, or in a way that is not read by rows.
    fn read_whole_matrix(
        &self,
        dev: &Device,
        name: ParamName,
        [rows, columns]: [usize; 2],
        format: NumberFormat,
    ) -> Result<Tensor, CheckpointError> {
        let ParameterLocation { tensors, transposed } = self.location(name);
        let format = if format.block_len() == 1 { format } else { NumberFormat::F32 };
        let mut elements = vec![0.0; rows * columns];
        for (&i, part) in tensors.iter().zip(elements.chunks_exact_mut(rows * columns / tensors.len())) {
            self.source().read(i, part)?;
        }
        let read = |rows: Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&elements[rows.start * columns..rows.end * columns]);
            Ok(())
        };
        let source = if *transposed { WeightSource::Transposed(&elements) } else { WeightSource::Elements(&read) };
        ops::weights(dev, [rows, columns], format, &source)
    }
}

/// The format of all tensors, if it is one.
fn common_format(mut formats: impl Iterator<Item = Option<NumberFormat>>) -> Option<NumberFormat> {
    let first = formats.next()??;
    formats.all(|format| format == Some(first)).then_some(first)
}

/// A matrix in the order of a file, whose rows may be those of several tensors.
struct RowsOfFile<'a> {
    model: &'a ModelFile,
    tensors: &'a [usize],
    dims: [usize; 2],
    format: NumberFormat,
}

impl RowsOfFile<'_> {
    fn row_bytes(&self) -> usize {
        self.dims[1] / self.format.block_len() * self.format.block_bytes()
    }

    /// Reads the bytes of some rows.
    fn read(&self, rows: Range<usize>, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        let (per_tensor, row_bytes) = (self.dims[0] / self.tensors.len(), self.row_bytes());
        let mut rest = bytes;
        let mut row = rows.start;
        while row < rows.end {
            let (tensor, first) = (row / per_tensor, row % per_tensor);
            let n = (rows.end - row).min(per_tensor - first);
            let (part, others) = rest.split_at_mut(n * row_bytes);
            self.model.source().read_raw_at(self.tensors[tensor], (first * row_bytes) as u64, part)?;
            rest = others;
            row += n;
        }
        Ok(())
    }

    /// Reads the elements of some rows.
    fn read_elements(&self, rows: Range<usize>, elements: &mut [f32]) -> Result<(), CheckpointError> {
        if self.format == NumberFormat::F32 {
            return self.read(rows, bytemuck::cast_slice_mut(elements));
        }
        let mut bytes = vec![0; rows.len() * self.row_bytes()];
        self.read(rows, &mut bytes)?;
        dequantize(self.format, &bytes, elements);
        Ok(())
    }
}
