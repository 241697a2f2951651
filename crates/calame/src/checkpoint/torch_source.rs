//! PyTorch's files as a source of tensors.

use std::path::Path;

use super::CheckpointError;
use super::source::{StoredTensor, TensorSource};
use super::torch_file::{PlainValue, TorchFile};

/// The float tensors of a PyTorch file; masks and counters of whole numbers or booleans are none of the model's.
pub(super) struct TorchSource {
    file: TorchFile,
    tensors: Vec<StoredTensor>,
}

impl TorchSource {
    pub fn open(path: &Path) -> Result<TorchSource, CheckpointError> {
        let file = TorchFile::open(path)?;
        let stored = |t: &super::TorchTensor| StoredTensor {
            name: t.name.clone(),
            shape: t.shape.clone(),
            dtype: t.dtype.to_string(),
            is_float: t.dtype.is_float(),
            file_bytes: (t.len() * t.dtype.n_bytes()) as u64,
        };
        let tensors = file.tensors().iter().map(stored).collect();
        Ok(TorchSource { file, tensors })
    }

    /// Whether the head is the token embedding: the two share a storage.
    pub fn shares(&self, a: usize, b: usize) -> bool {
        let place = |i: usize| {
            let t = &self.file.tensors()[i];
            (t.storage, t.storage_offset)
        };
        place(a) == place(b)
    }

    /// nanoGPT's settings of the model, or others that stand beside the weights.
    pub fn model_args(&self) -> Option<&PlainValue> {
        let value = |key: &str| self.file.values().iter().find(|(k, _)| k == key).map(|(_, value)| value);
        value("model_args").or_else(|| value("config"))
    }
}

impl TensorSource for TorchSource {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn read(&mut self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        Ok(self.file.read(index, out)?)
    }
}
