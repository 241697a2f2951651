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

    /// Whether the two tensors share a storage, as a tied head and the token embedding do.
    pub fn shares(&self, a: usize, b: usize) -> bool {
        let place = |i: usize| {
            let t = &self.file.tensors()[i];
            (t.storage, t.storage_offset)
        };
        place(a) == place(b)
    }

    /// The record that calame stores with the tensors, after checking that its tied head agrees with them.
    pub fn record(&self, path: &Path) -> Result<Option<Record>, CheckpointError> {
        let Some(json) = self.file.record() else { return Ok(None) };
        let record = Record::read(path, json)?;
        let find = |key: &str| self.tensors.iter().position(|tensor| tensor.name == key);
        let shared = find("tok_emb.weight").zip(find("out_head.weight")).is_some_and(|(a, b)| self.shares(a, b));
        if record.config.tied_head && !shared {
            return Err(CheckpointError::Config {
                path: path.to_owned(),
                key: "tied_head in calame.json",
                found: "true, but out_head.weight is not tok_emb.weight".to_owned(),
                expected: "the value that the tensors have: save them with torch.save, which drops calame.json"
                    .to_owned(),
            });
        }
        Ok(Some(record))
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
