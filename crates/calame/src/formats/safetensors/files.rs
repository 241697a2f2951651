//! Reads weights in safetensors: one file, or several with an index.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use super::TensorFile;
use crate::formats::CheckpointError;
use crate::formats::inside::file_inside;
use crate::formats::json::read_json;
use crate::formats::source::{StoredTensor, TensorSource};
use crate::quant::NumberFormat;

/// Maximum number of files; no model of the family is divided into more.
const MAX_FILES: usize = 1000;

/// The relevant part of `….index.json`: the file that contains each key.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of one or several safetensors files.
pub(in crate::formats) struct SafetensorsFiles {
    files: Vec<TensorFile>,
    tensors: Vec<StoredTensor>,
    /// Index of the file of each tensor.
    file_of: Vec<usize>,
}

impl SafetensorsFiles {
    /// Opens a single file.
    pub fn one(path: &Path) -> Result<SafetensorsFiles, CheckpointError> {
        SafetensorsFiles::of(vec![TensorFile::open(path)?], |_, _| true)
    }

    /// Opens the files that an index lists; a file's keys that the index does not assign to it are ignored.
    pub fn sharded(index: &Path) -> Result<SafetensorsFiles, CheckpointError> {
        let map = read_index(index)?;
        let mut names: Vec<&String> = map.values().collect();
        names.sort();
        names.dedup();
        let folder = index.parent().unwrap_or(Path::new("."));
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            files.push(TensorFile::open(&file_inside(folder, name, index)?)?);
        }
        let found = SafetensorsFiles::of(files, |file, key| map.get(key) == Some(names[file]))?;
        let there: HashMap<&str, ()> = found.tensors.iter().map(|t| (t.name.as_str(), ())).collect();
        let problems: Vec<String> = map
            .iter()
            .filter(|(key, _)| !there.contains_key(key.as_str()))
            .map(|(key, file)| format!("missing: {key}, which the index places in {file}"))
            .collect();
        if problems.is_empty() { Ok(found) } else { Err(CheckpointError::Tensors { path: index.to_owned(), problems }) }
    }

    fn of(files: Vec<TensorFile>, takes: impl Fn(usize, &str) -> bool) -> Result<SafetensorsFiles, CheckpointError> {
        let (mut tensors, mut file_of) = (Vec::new(), Vec::new());
        for (i, file) in files.iter().enumerate() {
            let mut infos: Vec<_> = file.tensors().into_iter().filter(|(key, _)| takes(i, key)).collect();
            infos.sort_by_key(|(_, info)| info.data_offsets);
            for (name, info) in infos {
                tensors.push(StoredTensor {
                    name,
                    shape: info.shape.clone(),
                    dtype: format!("{:?}", info.dtype),
                    format: format_of(info.dtype),
                    is_float: matches!(info.dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16),
                    file_bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
                });
                file_of.push(i);
            }
        }
        Ok(SafetensorsFiles { files, tensors, file_of })
    }
}

impl TensorSource for SafetensorsFiles {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        self.files[self.file_of[index]].read(&self.tensors[index].name, out)
    }

    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.files[self.file_of[index]].read_raw(&self.tensors[index].name, out)
    }

    fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.tensors[index].check_part(start, out.len());
        self.files[self.file_of[index]].read_raw_at(&self.tensors[index].name, start, out)
    }
}

fn format_of(dtype: Dtype) -> Option<NumberFormat> {
    match dtype {
        Dtype::F32 => Some(NumberFormat::F32),
        Dtype::F16 => Some(NumberFormat::F16),
        Dtype::BF16 => Some(NumberFormat::Bf16),
        _ => None,
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let index: Index = read_json(path, "index of weight files")?;
    let mut files: Vec<&String> = index.weight_map.values().collect();
    files.sort();
    files.dedup();
    if files.len() > MAX_FILES {
        return Err(CheckpointError::damaged(path, format!("it names {} files", files.len())));
    }
    Ok(index.weight_map)
}
