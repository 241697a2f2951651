//! Reading a model for inference: matrices stay in the number format of the file, in the layout that the device reads.

use std::ops::Range;

use super::CheckpointError;
use super::matching::ParameterLocation;
use super::model_file::{ModelFile, SavedModel};
use crate::device::Device;
use crate::model::params::{ParamName, specs};
use crate::model::{Gpt, StoredMatrix, StoredWeights};
use crate::quant::NumberFormat;
use crate::tensor::Tensor;

impl ModelFile {
    /// Reads all parameters into a new model that can only compute forward: the matrices of its layers, the token embedding
    /// and the head are stored as in the file, and everything else in f32; see [`Gpt::as_stored`].
    ///
    /// # Errors
    /// As [`ModelFile::read`].
    pub fn load_as_stored(self, dev: &Device) -> Result<SavedModel, CheckpointError> {
        self.check_absent_biases()?;
        let gpt = Gpt::as_stored(dev, self.config(), &self)?;
        Ok(self.into_saved(gpt))
    }

    /// Memory in bytes that [`load_as_stored`](Self::load_as_stored) takes at most: the parameters, and the largest matrix
    /// that is read as a whole.
    pub fn stored_bytes(&self) -> u64 {
        let (mut total, mut largest) = (0u64, 0);
        for spec in specs(self.config()) {
            let n = spec.shape.iter().fold(1u64, |n, &dim| n.saturating_mul(dim as u64));
            let (format, has_rows) = self.layout(spec.name);
            let format = format.filter(|_| spec.is_read_by_products()).unwrap_or(NumberFormat::F32);
            total = total.saturating_add(n.div_ceil(format.block_len() as u64) * format.block_bytes() as u64);
            if !has_rows {
                largest = largest.max(n.saturating_mul(4));
            }
        }
        total.saturating_add(largest)
    }

    /// The number format of a parameter, if all of its tensors have the same, and whether its rows can be read one by one.
    fn layout(&self, name: ParamName) -> (Option<NumberFormat>, bool) {
        let ParameterLocation { tensors, transposed } = self.location(name);
        let has_rows = !transposed && tensors.iter().all(|&i| self.source().has_parts(i));
        (common_format(tensors.iter().map(|&i| self.stored()[i].format)), has_rows)
    }
}

impl StoredWeights for ModelFile {
    type Error = CheckpointError;

    fn read(&self, name: ParamName, tensor: &mut Tensor) -> Result<(), CheckpointError> {
        ModelFile::read(self, name, tensor)
    }

    fn not_finite(&self, name: ParamName) -> CheckpointError {
        self.not_finite_error(name)
    }

    fn matrix(
        &self,
        name: ParamName,
        [rows, columns]: [usize; 2],
    ) -> Result<StoredMatrix<'_, CheckpointError>, CheckpointError> {
        let ParameterLocation { tensors, transposed } = self.location(name);
        let (format, has_rows) = self.layout(name);
        if let Some(format) = format.filter(|format| has_rows && columns.is_multiple_of(format.block_len())) {
            let rows = RowsOfFile { model: self, tensors, rows, row_bytes: row_bytes(format, columns) };
            return Ok(StoredMatrix::Rows { format, read: Box::new(move |range, bytes| rows.read(range, bytes)) });
        }
        let mut elements = vec![0.0; rows * columns];
        for (&i, part) in tensors.iter().zip(elements.chunks_exact_mut(rows * columns / tensors.len())) {
            self.source().read(i, part)?;
        }
        let format = format.filter(|format| format.block_len() == 1).unwrap_or(NumberFormat::F32);
        Ok(StoredMatrix::Elements { elements, transposed: *transposed, format })
    }
}

/// The format of all tensors, if it is one.
fn common_format(mut formats: impl Iterator<Item = Option<NumberFormat>>) -> Option<NumberFormat> {
    let first = formats.next()??;
    formats.all(|format| format == Some(first)).then_some(first)
}

fn row_bytes(format: NumberFormat, columns: usize) -> usize {
    columns / format.block_len() * format.block_bytes()
}

/// A matrix in the order of a file, whose rows may be those of several tensors.
struct RowsOfFile<'a> {
    model: &'a ModelFile,
    tensors: &'a [usize],
    rows: usize,
    row_bytes: usize,
}

impl RowsOfFile<'_> {
    /// Reads the bytes of some rows.
    fn read(&self, rows: Range<usize>, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        let per_tensor = self.rows / self.tensors.len();
        let (mut rest, mut row) = (bytes, rows.start);
        while row < rows.end {
            let (tensor, first) = (row / per_tensor, row % per_tensor);
            let n = (rows.end - row).min(per_tensor - first);
            let (part, others) = rest.split_at_mut(n * self.row_bytes);
            self.model.source().read_raw_at(self.tensors[tensor], (first * self.row_bytes) as u64, part)?;
            rest = others;
            row += n;
        }
        Ok(())
    }
}
