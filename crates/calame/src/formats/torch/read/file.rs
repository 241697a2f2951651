//! An open PyTorch file: its tensors and the values stored with them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::bytes::Source;
use super::dtype::TorchDtype;
use super::error::{TorchFileError, shown};
use super::objects::{self, Found, MAX_PICKLE_BYTES, TensorClaim};
use super::plain::PlainValue;
use super::strided::{self, Axis};
use super::{archive, legacy};
use crate::formats::torch::pickle::Pickle;
use crate::formats::torch::record::ENTRY;

// Elements of f32 are read without conversion.
const _: () = assert!(cfg!(target_endian = "little"), "files of tensors are little-endian");

/// Maximum size in bytes of calame's own record in the file, which takes about 300 bytes.
const MAX_RECORD_BYTES: u64 = 64 << 10;
/// Bytes read at a time. Large reads are fast, and small pieces bound the memory: 702 MB are read with 4 MB.
const PIECE_BYTES: usize = 4 << 20;

/// A tensor of the model, as the file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchTensor {
    /// Name of the tensor in the state_dict, unchanged.
    pub name: String,
    /// Number format of the elements.
    pub dtype: TorchDtype,
    /// Dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Distance in the storage, in elements, between neighbours along each dimension.
    pub strides: Vec<usize>,
    /// Index of the storage. Tensors that share a storage, such as tied weights, have the same index.
    pub storage: usize,
    /// Index of the first element in the storage.
    pub storage_offset: usize,
}

impl TorchTensor {
    /// Number of elements in the tensor.
    pub fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.shape.iter().product() }
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

/// An open PyTorch file whose description of the model has been checked against its size.
#[derive(Debug)]
pub struct TorchFile {
    source: Source,
    tensors: Vec<TorchTensor>,
    values: Vec<(String, PlainValue)>,
    classes: Vec<String>,
    /// Byte range of each storage in the file.
    storages: Vec<Range<u64>>,
    /// The record that calame stores with the tensors.
    record: Option<Vec<u8>>,
}

impl TorchFile {
    /// Opens a file and finds the model's state_dict: the saved dict itself, or the one that it contains under
    /// `model_state_dict`, `model`, `state_dict` or a similar key.
    ///
    /// # Errors
    /// Names the file and what is wrong with it. A file that refers to a function that only an attack needs is refused.
    pub fn open(path: &Path) -> Result<TorchFile, TorchFileError> {
        let source = Source::open(path)?;
        let start = source.read_start(4)?;
        if archive::is_archive(&start) { open_archive(source) } else { open_legacy(source) }
    }

    /// The model's tensors in file order, including integers and masks.
    pub fn tensors(&self) -> &[TorchTensor] {
        &self.tensors
    }

    /// The values stored next to the model's tensors, by their key in the saved dict.
    pub fn values(&self) -> &[(String, PlainValue)] {
        &self.values
    }

    /// The classes and functions of which the file has objects. They were not called: the objects are read as data.
    /// If there are many, the last item counts those left out.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The entry `calame.json` of an archive written by calame.
    pub(in crate::formats) fn record(&self) -> Option<&[u8]> {
        self.record.as_deref()
    }

    /// Reads the tensor with this index into `out`, overwriting it: row-major, converted to f32.
    ///
    /// # Errors
    /// If the elements are not floats, or the system refuses.
    ///
    /// # Panics
    /// If the tensor does not exist, or `out` has another number of elements.
    pub fn read(&self, index: usize, out: &mut [f32]) -> Result<(), TorchFileError> {
        let tensor = &self.tensors[index];
        assert_eq!(out.len(), tensor.len(), "TorchFile::read: {} is {:?}", tensor.name, tensor.shape);
        if !tensor.dtype.is_float() {
            let (path, name) = (self.source.path().to_owned(), shown(&tensor.name));
            return Err(TorchFileError::NotFloat { path, name, dtype: tensor.dtype });
        }
        if tensor.is_empty() {
            return Ok(());
        }
        let axes = strided::walk(&tensor.shape, &tensor.strides);
        let (dtype, at) = (tensor.dtype, self.start_of(tensor));
        match (dtype, axes.as_slice()) {
            (TorchDtype::F32, [Axis { from: 1, .. }]) => self.source.read_into(at, bytemuck::cast_slice_mut(out)),
            (_, axes) => Window::new(&self.source, at, dtype.n_bytes(), axes)
                .for_each(axes, |i, element| out[i] = dtype.decode(element)),
        }
    }

    /// Reads the tensor with this index into `out`, overwriting it: row-major, in the file's own number format.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// If the tensor does not exist, or `out` does not have the size of its elements.
    pub fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), TorchFileError> {
        let tensor = &self.tensors[index];
        let width = tensor.dtype.n_bytes();
        assert_eq!(out.len(), width * tensor.len(), "TorchFile::read_raw: {} is {:?}", tensor.name, tensor.shape);
        if tensor.is_empty() {
            return Ok(());
        }
        let axes = strided::walk(&tensor.shape, &tensor.strides);
        let at = self.start_of(tensor);
        match axes.as_slice() {
            [Axis { from: 1, .. }] => self.source.read_into(at, out),
            axes => Window::new(&self.source, at, width, axes)
                .for_each(axes, |i, element| out[i * width..][..width].copy_from_slice(element)),
        }
    }

    /// Whether the elements of a tensor are adjacent in the file, in its order.
    pub fn is_contiguous(&self, index: usize) -> bool {
        let tensor = &self.tensors[index];
        tensor.is_empty() || matches!(strided::walk(&tensor.shape, &tensor.strides)[..], [Axis { from: 1, .. }])
    }

    /// Reads the bytes of a contiguous tensor from `start` on, overwriting `out`.
    ///
    /// # Errors
    /// As [`TorchFile::read_raw`].
    ///
    /// # Panics
    /// If the tensor is not contiguous.
    pub fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), TorchFileError> {
        assert!(self.is_contiguous(index), "TorchFile::read_raw_at: {} is not contiguous", self.tensors[index].name);
        self.source.read_into(self.start_of(&self.tensors[index]) + start, out)
    }

    /// Byte offset of the tensor's first element.
    fn start_of(&self, tensor: &TorchTensor) -> u64 {
        self.storages[tensor.storage].start + (tensor.dtype.n_bytes() * tensor.storage_offset) as u64
    }
}

/// A sliding window over a storage.
struct Window<'a> {
    source: &'a Source,
    /// Byte offset of the tensor's first element.
    at: u64,
    /// Number of bytes per element.
    width: usize,
    /// Number of elements from the tensor's first to its last.
    n_elements: usize,
    /// Index of the first element in memory.
    first: usize,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(source: &'a Source, at: u64, width: usize, axes: &[Axis]) -> Window<'a> {
        let n_elements = 1 + axes.iter().map(|axis| (axis.n - 1) * axis.from).sum::<usize>();
        Window { source, at, width, n_elements, first: 0, bytes: Vec::new() }
    }

    /// Visits the elements in storage order, as `axes` describes: index in the row-major tensor, and bytes.
    fn for_each(mut self, axes: &[Axis], mut visit: impl FnMut(usize, &[u8])) -> Result<(), TorchFileError> {
        let [outer @ .., inner] = axes else { return Ok(()) };
        for (from, to) in strided::starts(outer) {
            for i in 0..inner.n {
                visit(to + i * inner.to, self.element(from + i * inner.from)?);
            }
        }
        Ok(())
    }

    fn element(&mut self, i: usize) -> Result<&[u8], TorchFileError> {
        let mut start = (i - self.first) * self.width;
        if start >= self.bytes.len() {
            let n = (PIECE_BYTES / self.width).min(self.n_elements - i);
            self.bytes.resize(n * self.width, 0);
            self.source.read_into(self.at + (i * self.width) as u64, &mut self.bytes)?;
            (self.first, start) = (i, 0);
        }
        Ok(&self.bytes[start..start + self.width])
    }
}

fn open_archive(source: Source) -> Result<TorchFile, TorchFileError> {
    let entries = archive::entries(&source)?;
    let mut pickles = entries.iter().filter_map(|(name, data)| {
        let folder = name.strip_suffix("/data.pkl").filter(|folder| !folder.contains('/'))?;
        Some((name, folder, data))
    });
    let (Some((name, folder, data)), None) = (pickles.next(), pickles.next()) else {
        let found = "a zip archive without one entry NAME/data.pkl".to_owned();
        return Err(TorchFileError::Foreign { path: source.path().to_owned(), found });
    };
    let n_bytes = data.end - data.start;
    if n_bytes > MAX_PICKLE_BYTES {
        let reason = format!("{n_bytes} bytes, expected at most {MAX_PICKLE_BYTES}");
        return Err(source.damaged(shown(name), reason));
    }
    if let Some(order) = entries.get(&format!("{folder}/byteorder")) {
        let n_bytes = (order.end - order.start).min("little".len() as u64 + 1);
        match source.read(order.start, n_bytes)?.as_slice() {
            b"little" => {}
            b"big" => return Err(TorchFileError::BigEndian { path: source.path().to_owned() }),
            _ => return Err(source.damaged("byteorder", "expected little or big")),
        }
    }
    let bytes = source.read(data.start, n_bytes)?;
    let pickle = Pickle::read(&bytes).map_err(TorchFileError::pickle(source.path(), &shown(name)))?;
    let found = objects::find(source.path(), &pickle)?;
    let place = |key: &str| entries.get(&format!("{folder}/data/{key}")).cloned();
    let (tensors, storages) = settle(&source, &found.tensors, place)?;
    let record = read_record(&source, entries.get(&format!("{folder}/{ENTRY}")))?;
    Ok(TorchFile { source, tensors, values: found.values, classes: found.classes, storages, record })
}

fn read_record(source: &Source, place: Option<&Range<u64>>) -> Result<Option<Vec<u8>>, TorchFileError> {
    let Some(place) = place else { return Ok(None) };
    let n_bytes = place.end - place.start;
    if n_bytes > MAX_RECORD_BYTES {
        return Err(source.damaged(ENTRY, format!("{n_bytes} bytes, expected at most {MAX_RECORD_BYTES}")));
    }
    source.read(place.start, n_bytes).map(Some)
}

fn open_legacy(source: Source) -> Result<TorchFile, TorchFileError> {
    let start = legacy::read_start(&source)?;
    let (pickle, places) = legacy::open(&source, &start)?;
    let Found { tensors, values, classes } = objects::find(source.path(), &pickle)?;
    let (tensors, storages) = settle(&source, &tensors, |key| places.get(key).cloned())?;
    Ok(TorchFile { source, tensors, values, classes, storages, record: None })
}

/// Checks the pickle's description of each tensor against the positions of the storages.
fn settle(
    source: &Source,
    claims: &[TensorClaim<'_>],
    place: impl Fn(&str) -> Option<Range<u64>>,
) -> Result<(Vec<TorchTensor>, Vec<Range<u64>>), TorchFileError> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut storages = Vec::new();
    let mut tensors = Vec::with_capacity(claims.len());
    for TensorClaim { name, shape, strides, offset, storage } in claims {
        let number = match numbers.get(storage.key) {
            Some(&number) => number,
            None => {
                let part = || format!("storage {}", shown(storage.key));
                let missing = || source.damaged(part(), format!("it is missing, {} needs it", shown(name)));
                storages.push(place(storage.key).ok_or_else(missing)?);
                numbers.insert(storage.key, storages.len() - 1);
                storages.len() - 1
            }
        };
        let n_bytes = storages[number].end - storages[number].start;
        let width = storage.dtype.n_bytes() as u64;
        // The storage's bytes in another format may be longer than its elements.
        if n_bytes / width != storage.n_elements {
            let claimed = format!("{} elements of {}", storage.n_elements, storage.dtype);
            let reason = format!("{n_bytes} bytes, {} claims {claimed}", shown(name));
            return Err(source.damaged(format!("storage {}", shown(storage.key)), reason));
        }
        strided::check(shape, strides, *offset, storage.n_elements)
            .map_err(|reason| source.damaged(format!("tensor {}", shown(name)), reason))?;
        tensors.push(TorchTensor {
            name: (*name).to_owned(),
            dtype: storage.dtype,
            shape: shape.clone(),
            strides: strides.clone(),
            storage: number,
            storage_offset: *offset,
        });
    }
    Ok((tensors, storages))
}
