//! Files of tensors in the safetensors format, written and read a piece at a time.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo, View};

use super::by_position::ByPosition;
use super::{CheckpointError, ModelFile};
use crate::model::params::ParamName;
use crate::tensor::{Alloc, Tensor};

// Elements go to and from files as they stand in memory.
const _: () = assert!(cfg!(target_endian = "little"), "files of tensors are little-endian");

/// A header of the largest model here has some 100 kB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 4 << 20;

/// One tensor on its way to a file.
pub(super) struct Entry<'a> {
    content: Content<'a>,
    /// As it is written.
    shape: Vec<usize>,
    /// A matrix is written as its transpose.
    transposed: bool,
}

enum Content<'a> {
    Here(Cow<'a, Tensor>),
    /// Read when its turn comes.
    Later(&'a (dyn Fn(ParamName, [usize; 2]) -> Tensor + 'a), ParamName),
}

/// A model whose tensors are read while others are written, and what went wrong with that.
///
/// The writer of files takes no error when it asks for bytes, so it is kept here.
pub(super) struct Reading<'a> {
    model: &'a ModelFile,
    failed: RefCell<Option<CheckpointError>>,
}

impl<'a> Reading<'a> {
    pub fn of(model: &'a ModelFile) -> Reading<'a> {
        Reading { model, failed: RefCell::new(None) }
    }

    /// The first error of reading.
    pub fn outcome(self) -> Result<(), CheckpointError> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }

    /// The parameter; zeros once an error has been met.
    pub fn tensor(&self, name: ParamName, dims: [usize; 2]) -> Tensor {
        let mut tensor = Alloc::on_host().zeros(dims);
        if self.failed.borrow().is_none()
            && let Err(error) = self.model.read(name, &mut tensor)
        {
            *self.failed.borrow_mut() = Some(error);
        }
        tensor
    }
}

impl<'a> Entry<'a> {
    pub fn of(tensor: &'a Tensor, transposed: bool) -> Entry<'a> {
        let shape = Entry::written_shape(tensor.dims(), transposed);
        Entry { content: Content::Here(Cow::Borrowed(tensor)), shape, transposed }
    }

    pub fn zeros(len: usize) -> Entry<'a> {
        Entry { content: Content::Here(Cow::Owned(Alloc::on_host().zeros([len]))), shape: vec![len], transposed: false }
    }

    /// A parameter of this shape that is read, by [`Reading::tensor`], when it is written.
    pub fn later(
        read: &'a (dyn Fn(ParamName, [usize; 2]) -> Tensor + 'a),
        name: ParamName,
        shape: &[usize],
        transposed: bool,
    ) -> Entry<'a> {
        let shape = Entry::written_shape(shape, transposed);
        Entry { content: Content::Later(read, name), shape, transposed }
    }

    fn written_shape(shape: &[usize], transposed: bool) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if transposed {
            shape.reverse();
        }
        shape
    }

    /// The tensor in our layout.
    fn tensor(&self) -> Cow<'_, Tensor> {
        match (&self.content, self.shape.as_slice()) {
            (Content::Here(tensor), _) => Cow::Borrowed(tensor),
            (Content::Later(read, name), &[a, b]) if self.transposed => Cow::Owned(read(*name, [b, a])),
            (Content::Later(read, name), &[a, b]) => Cow::Owned(read(*name, [a, b])),
            (Content::Later(read, name), shape) => Cow::Owned(read(*name, [1, shape.iter().product()])),
        }
    }
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.tensor() {
            Cow::Borrowed(tensor) if !self.transposed => Cow::Borrowed(bytemuck::cast_slice(tensor.host())),
            tensor if self.transposed => {
                let mut bytes = vec![[0u8; 4]; tensor.len()];
                transpose(bytemuck::cast_slice(tensor.host()), tensor.row_len(), &mut bytes);
                Cow::Owned(bytes.into_flattened())
            }
            tensor => Cow::Owned(bytemuck::cast_slice(tensor.host()).to_vec()),
        }
    }

    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// `to` [rows, cols] becomes the transpose of `from` [cols, rows].
///
/// By way of a square on the stack: rows whose distance is a multiple of 4 kB meet in one set of the first-level cache, and
/// would put one another out before a line of them is used up.
pub(super) fn transpose<T: Copy + Default>(from: &[T], rows: usize, to: &mut [T]) {
    const SIDE: usize = 32;
    let cols = to.len() / rows.max(1);
    let mut square = [[T::default(); SIDE]; SIDE];
    for r0 in (0..rows).step_by(SIDE) {
        let n_rows = SIDE.min(rows - r0);
        for c0 in (0..cols).step_by(SIDE) {
            let n_cols = SIDE.min(cols - c0);
            for c in 0..n_cols {
                let at = (c0 + c) * rows + r0;
                for (turned, x) in square.iter_mut().zip(&from[at..at + n_rows]) {
                    turned[c] = *x;
                }
            }
            for (r, turned) in square.iter().enumerate().take(n_rows) {
                let at = (r0 + r) * cols + c0;
                to[at..at + n_cols].copy_from_slice(&turned[..n_cols]);
            }
        }
    }
}

/// Writes named tensors; the file is complete but not synced.
pub(super) fn write<'a>(
    path: &Path,
    entries: impl Iterator<Item = (String, Entry<'a>)>,
    metadata: &[(&str, &str)],
) -> Result<(), CheckpointError> {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    // The crate makes a private file (mode 0600) and renames it: others are to read the model too, as the umask says.
    let permissions =
        File::create(path).and_then(|file| file.metadata()).map_err(CheckpointError::io("create", path))?;
    safetensors::serialize_to_file(entries, Some(metadata), path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => CheckpointError::io("write", path)(source),
        other => CheckpointError::damaged(path, other.to_string()),
    })?;
    std::fs::set_permissions(path, permissions.permissions()).map_err(CheckpointError::io("share", path))
}

/// Writes one tensor under a name, for another program to read.
///
/// # Errors
/// What the system says.
pub fn write_tensor(path: &Path, name: &str, tensor: &Tensor) -> Result<(), CheckpointError> {
    write(path, std::iter::once((name.to_owned(), Entry::of(tensor, false))), &[])
}

/// An open file of tensors whose header has been checked against the file's size.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    file: ByPosition,
    /// Where the tensors' bytes begin.
    start: u64,
    header: Metadata,
}

impl TensorFile {
    pub fn open(path: &Path) -> Result<TensorFile, CheckpointError> {
        let file = ByPosition::open(path).map_err(CheckpointError::io("open", path))?;
        let file_bytes = file.n_bytes();
        let mut length = [0; 8];
        if file_bytes < 8 {
            return Err(CheckpointError::damaged(path, format!("{file_bytes} bytes are no safetensors file")));
        }
        file.read_exact(0, &mut length).map_err(CheckpointError::io("read", path))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - 8 {
            let reason = format!("a header of {header_bytes} bytes in a file of {file_bytes}");
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(8, &mut header).map_err(CheckpointError::io("read", path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| CheckpointError::damaged(path, format!("its header is no safetensors header ({e})")))?;
        let (start, data) = (8 + header_bytes, header.data_len() as u64);
        if start.checked_add(data) != Some(file_bytes) {
            let reason = format!("the header speaks of {data} bytes of tensors, {} are there", file_bytes - start);
            return Err(CheckpointError::damaged(path, reason));
        }
        Ok(TensorFile { path: path.to_owned(), file, start, header })
    }

    /// Every tensor's key and what the header says of it.
    pub fn tensors(&self) -> HashMap<String, &TensorInfo> {
        self.header.tensors()
    }

    /// A value of the header's own metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads the tensor `key`, rounded to f32, over all of `out`.
    pub fn read(&self, key: &str, out: &mut [f32]) -> Result<(), CheckpointError> {
        let info = self.header.info(key).ok_or_else(|| CheckpointError::damaged(&self.path, format!("no {key}")))?;
        let (dtype, (from, to)) = (info.dtype, info.data_offsets);
        let widen: fn(&[u8]) -> f32 = match dtype {
            Dtype::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Dtype::F64 => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Dtype::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::BF16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            other => {
                let problem = format!("{key} is {other:?}: F32, F64, F16 and BF16 are read");
                return Err(CheckpointError::Tensors { path: self.path.clone(), problems: vec![problem] });
            }
        };
        let width = dtype.bitsize() / 8;
        if to - from != width * out.len() {
            let reason = format!("{key} has {} bytes, expected {}", to - from, width * out.len());
            return Err(CheckpointError::damaged(&self.path, reason));
        }
        let io = |e| CheckpointError::io("read", &self.path)(e);
        let mut at = self.start + from as u64;
        if dtype == Dtype::F32 {
            return self.file.read_exact(at, bytemuck::cast_slice_mut(out)).map_err(io);
        }
        let mut piece = vec![0; PIECE_BYTES.min(to - from)];
        for out in out.chunks_mut(PIECE_BYTES / width) {
            let piece = &mut piece[..width * out.len()];
            self.file.read_exact(at, piece).map_err(io)?;
            at += piece.len() as u64;
            for (x, bytes) in out.iter_mut().zip(piece.chunks_exact(width)) {
                *x = widen(bytes);
            }
        }
        Ok(())
    }
}
