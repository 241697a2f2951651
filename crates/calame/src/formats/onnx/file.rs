//! Reads ONNX files whose weights are in other files of the same folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::{EXTERNAL, FLOAT, INT32, INT64, ModelProto, TensorProto};
use crate::files::{FileError, PositionedFile, read_at_most};
use crate::formats::CheckpointError;
use crate::formats::inside::file_inside;
use crate::formats::source::StoredTensor;
use crate::quant::NumberFormat;

/// Maximum size of the graph in bytes; that of gpt2-xl takes about 230 kB. A decoded message can take a hundred times
/// its size, so a file of this size may take several hundred MB.
const MAX_GRAPH_BYTES: u64 = 4 << 20;

/// An open ONNX file whose tensors have been checked against the sizes of the files that contain them.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    model: ModelProto,
    tensors: Vec<StoredTensor>,
    /// File and offset of each tensor, in the order of `tensors`.
    places: Vec<TensorLocation>,
    files: Vec<DataFile>,
}

/// File and byte offset of a tensor.
#[derive(Clone, Copy, Debug)]
struct TensorLocation {
    file: usize,
    offset: u64,
}

#[derive(Debug)]
struct DataFile {
    /// The name used in the graph.
    name: String,
    file: PositionedFile,
}

impl OnnxFile {
    /// Opens a file and the files that it names, which must be in its folder.
    ///
    /// # Errors
    /// Names the file and what is wrong: not an ONNX model, a graph of more than 4 MiB, an initializer with a type that
    /// GPT-2 does not need, a file outside the folder, a tensor that exceeds its file or overlaps another.
    pub fn open(path: &Path) -> Result<OnnxFile, CheckpointError> {
        let bytes = read_at_most(path, MAX_GRAPH_BYTES).map_err(|error| match error.source.kind() {
            io::ErrorKind::FileTooLarge => {
                let reason = format!("a graph of {}: its weights are not in a file of their own", error.source);
                CheckpointError::damaged(path, reason)
            }
            _ => error.into(),
        })?;
        let model = ModelProto::decode(bytes.as_slice())
            .map_err(|e| CheckpointError::damaged(path, format!("it is no ONNX model ({e})")))?;
        let empty = OnnxFile {
            path: path.to_owned(),
            model: ModelProto::default(),
            tensors: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
        };
        empty.filled(model)
    }

    /// The weights, in graph order; scalars and shapes stored inside the graph are not included.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// A value of the model's own metadata, such as `calame.n_head`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// Reads elements of tensor `index` into `out`, overwriting it: row-major, starting at element `first`.
    ///
    /// # Errors
    /// Returns the system's error with the file's name.
    ///
    /// # Panics
    /// If the tensor does not exist or has too few elements.
    pub fn read(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        let n_elements = self.tensors[index].file_bytes / 4;
        let end = (first as u64).checked_add(out.len() as u64);
        assert!(end.is_some_and(|end| end <= n_elements), "OnnxFile::read: {first} + {} of {n_elements}", out.len());
        let TensorLocation { file, offset } = self.places[index];
        let at = offset + 4 * first as u64;
        Ok(self.files[file].file.read_exact(at, bytemuck::cast_slice_mut(out))?)
    }

    /// The decoded protobuf message.
    pub(super) fn model(&self) -> &ModelProto {
        &self.model
    }

    /// Adds the initializers of a model after checking each.
    fn filled(mut self, model: ModelProto) -> Result<OnnxFile, CheckpointError> {
        let Some(graph) = &model.graph else {
            return Err(self.damaged("it has no graph"));
        };
        let mut names = HashSet::new();
        for tensor in &graph.initializer {
            if !names.insert(tensor.name.as_str()) {
                return Err(self.damaged(format!("two initializers are called {:?}", tensor.name)));
            }
            if tensor.data_location == Some(EXTERNAL) {
                self.add_external(tensor)?;
            } else {
                self.check_inline(tensor)?;
            }
        }
        self.check_overlaps()?;
        Ok(OnnxFile { model, ..self })
    }

    /// Adds a tensor whose data is in another file.
    fn add_external(&mut self, tensor: &TensorProto) -> Result<(), CheckpointError> {
        let name = &tensor.name;
        let (shape, n_bytes) = self.size(tensor)?;
        if tensor.data_type != FLOAT {
            let found = tensor.data_type;
            return Err(self.damaged(format!("{name} is of data type {found}: expected FLOAT, {FLOAT}")));
        }
        let value = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str, missing: u64| match value(key) {
            None => Ok(missing),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| self.damaged(format!("{key} of {name} is {text:?}: expected a number of bytes"))),
        };
        let (offset, length) = (number("offset", 0)?, number("length", n_bytes)?);
        if length != n_bytes {
            return Err(self.damaged(format!("{name} {shape:?} has a length of {length} bytes, expected {n_bytes}")));
        }
        let Some(location) = value("location") else {
            return Err(self.damaged(format!("{name} is in another file that is not named")));
        };
        let file = self.file(location)?;
        let data = &self.files[file].file;
        if offset.checked_add(length).is_none_or(|end| end > data.n_bytes()) {
            let reason = format!("{name} has {length} bytes from byte {offset} on, the file has {}", data.n_bytes());
            return Err(CheckpointError::damaged(data.path(), reason));
        }
        self.tensors.push(StoredTensor {
            name: name.clone(),
            shape,
            dtype: "FLOAT".to_owned(),
            format: Some(NumberFormat::F32),
            is_float: true,
            file_bytes: length,
        });
        self.places.push(TensorLocation { file, offset });
        Ok(())
    }

    /// Checks a tensor stored inside the graph: a scalar or a shape.
    fn check_inline(&self, tensor: &TensorProto) -> Result<(), CheckpointError> {
        let name = &tensor.name;
        let (shape, n_bytes) = self.size(tensor)?;
        let found = tensor.raw_data.as_ref().map_or(0, Vec::len) as u64;
        if found != n_bytes {
            return Err(self.damaged(format!("{name} {shape:?} has {found} bytes, expected {n_bytes}")));
        }
        Ok(())
    }

    /// Dimensions and size in bytes of a tensor.
    fn size(&self, tensor: &TensorProto) -> Result<(Vec<usize>, u64), CheckpointError> {
        let name = &tensor.name;
        let width = match tensor.data_type {
            FLOAT | INT32 => 4,
            INT64 => 8,
            other => {
                let expected = format!("expected FLOAT, {FLOAT}, INT32, {INT32}, or INT64, {INT64}");
                return Err(self.damaged(format!("{name} is of data type {other}: {expected}")));
            }
        };
        let dims: Result<Vec<usize>, _> = tensor.dims.iter().map(|&n| usize::try_from(n)).collect();
        let sized = dims.ok().and_then(|dims| {
            let n_bytes = dims.iter().try_fold(width, |n: u64, &dim| n.checked_mul(dim as u64))?;
            Some((dims, n_bytes))
        });
        sized.ok_or_else(|| self.damaged(format!("{name} has impossible dimensions {:?}", tensor.dims)))
    }

    /// Index of a file in the folder, which is opened at its first use.
    fn file(&mut self, name: &str) -> Result<usize, CheckpointError> {
        if let Some(known) = self.files.iter().position(|file| file.name == name) {
            return Ok(known);
        }
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let path = file_inside(parent.unwrap_or(Path::new(".")), name, &self.path)?;
        // Opening a pipe would block until it has a writer.
        if !fs::metadata(&path).map_err(FileError::new("read", &path))?.is_file() {
            return Err(FileError::new("read", &path)(io::ErrorKind::InvalidInput.into()).into());
        }
        self.files.push(DataFile { name: name.to_owned(), file: PositionedFile::open(&path)? });
        Ok(self.files.len() - 1)
    }

    /// Checks that no byte belongs to two tensors.
    fn check_overlaps(&self) -> Result<(), CheckpointError> {
        let mut order: Vec<usize> = (0..self.tensors.len()).filter(|&i| self.tensors[i].file_bytes > 0).collect();
        order.sort_by_key(|&i| (self.places[i].file, self.places[i].offset));
        for pair in order.windows(2) {
            let [(a, first), (b, second)] = [pair[0], pair[1]].map(|i| (&self.tensors[i], self.places[i]));
            if first.file == second.file && first.offset + a.file_bytes > second.offset {
                let reason = format!("{} and {} overlap at byte {}", a.name, b.name, second.offset);
                return Err(CheckpointError::damaged(self.files[first.file].file.path(), reason));
            }
        }
        Ok(())
    }

    fn damaged(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::damaged(&self.path, reason)
    }
}
