//! PyTorch files as a source of tensors.

use std::path::Path;

use super::read::{PlainValue, TorchDtype, TorchFile, TorchTensor};
use super::record::Record;
use crate::formats::CheckpointError;
use crate::formats::source::{StoredTensor, TensorSource};
use crate::quant::NumberFormat;

/// The float tensors of a PyTorch file. Masks and counters of integers or booleans are not part of the model and are
/// left out.
pub(in crate::formats) struct TorchSource {
    file: TorchFile,
    tensors: Vec<StoredTensor>,
}

impl TorchSource {
    pub fn open(path: &Path) -> Result<TorchSource, CheckpointError> {
        let file = TorchFile::open(path)?;
        let stored = |t: &TorchTensor| StoredTensor {
            name: t.name.clone(),
            shape: t.shape.clone(),
            dtype: t.dtype.to_string(),
            format: format_of(t.dtype),
            is_float: t.dtype.is_float(),
            file_bytes: (t.len() * t.dtype.n_bytes()) as u64,
        };
        let tensors = file.tensors().iter().map(stored).collect();
        Ok(TorchSource { file, tensors })
    }

    /// The record that calame stores with the tensors.
    pub fn record(&self, path: &Path) -> Result<Option<Record>, CheckpointError> {
        self.file.record().map(|json| Record::read(path, json)).transpose()
    }

    /// The model settings of nanoGPT or similar ones stored with the weights.
    pub fn model_args(&self) -> Option<&PlainValue> {
        let value = |key: &str| self.file.values().iter().find(|(k, _)| k == key).map(|(_, value)| value);
        value("model_args").or_else(|| value("config"))
    }
}

impl TensorSource for TorchSource {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn shares(&self, a: usize, b: usize) -> bool {
        let place = |i: usize| {
            let t = &self.file.tensors()[i];
            (t.storage, t.storage_offset)
        };
        place(a) == place(b)
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        Ok(self.file.read(index, out)?)
    }

    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        Ok(self.file.read_raw(index, out)?)
    }
}

fn format_of(dtype: TorchDtype) -> Option<NumberFormat> {
    match dtype {
        TorchDtype::F32 => Some(NumberFormat::F32),
        TorchDtype::F16 => Some(NumberFormat::F16),
        TorchDtype::Bf16 => Some(NumberFormat::Bf16),
        _ => None,
    }
}
