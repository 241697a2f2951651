//! PyTorch files as a source of tensors.

use std::path::Path;

use super::read::{CONFIG_KEYS, PlainValue, TorchDtype, TorchFile, TorchTensor};
use super::record::Record;
use crate::formats::CheckpointError;
use crate::formats::source::{StoredTensor, TensorSource};
use crate::quant::NumberFormat;

/// Keys of a configuration under which scripts keep the model's part of it.
const MODEL_SETTINGS: [&str; 4] = ["model", "gpt", "model_config", "gpt_config"];

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

    /// The model settings stored with the weights, as one dict: nanoGPT's `model_args`, a script's `config`, Lightning's
    /// `hyper_parameters`, and what these contain, such as `config.model`. If several have a key, the first one counts.
    pub fn model_args(&self) -> Option<PlainValue> {
        let of_key = |key: &str| self.file.values().iter().find(|(k, _)| k == key).map(|(_, value)| value);
        let outer: Vec<&PlainValue> = CONFIG_KEYS.iter().filter_map(|key| of_key(key)).map(unwrapped).collect();
        let keys = || CONFIG_KEYS.iter().chain(&MODEL_SETTINGS);
        let inner = outer.iter().flat_map(|settings| keys().filter_map(|key| settings.get(key)).map(unwrapped));
        let all: Vec<&PlainValue> = outer.iter().copied().chain(inner).collect();
        // In a dict, the entry set last is valid.
        let entries = all.iter().rev().flat_map(|settings| settings.entries());
        let entries: Vec<_> = entries.map(|(key, value)| (key, unwrapped(value))).filter(is_setting).collect();
        let entries = entries.into_iter().map(|(key, value)| (key.clone(), value.clone()));
        (!outer.is_empty()).then(|| PlainValue::Dict(entries.collect()))
    }

    /// A sentence on the objects that were not created, if there are any.
    pub fn note(&self) -> Option<String> {
        let classes = self.file.classes();
        (!classes.is_empty()).then(|| {
            format!("the file has objects of {}, which were read as data: nothing in it was called", classes.join(", "))
        })
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

    fn has_parts(&self, index: usize) -> bool {
        self.file.is_contiguous(index)
    }

    fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.tensors()[index].check_part(start, out.len());
        Ok(self.file.read_raw_at(index, start, out)?)
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

/// Whether an entry is a setting: a name with a number, a text or a choice.
fn is_setting((key, value): &(&PlainValue, &PlainValue)) -> bool {
    let is_plain =
        matches!(value, PlainValue::Bool(_) | PlainValue::Int(_) | PlainValue::Float(_) | PlainValue::Str(_));
    matches!(key, PlainValue::Str(_)) && is_plain
}

/// The value inside a node of OmegaConf, or the value itself.
fn unwrapped(value: &PlainValue) -> &PlainValue {
    match value {
        PlainValue::Object { .. } => value.get("_content").or_else(|| value.get("_val")).unwrap_or(value),
        _ => value,
    }
}
