//! Reads safetensors files by position.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::files::PositionedFile;
use crate::formats::CheckpointError;

// Elements of f32 are read without conversion.
const _: () = assert!(cfg!(target_endian = "little"), "files of tensors are little-endian");

/// Maximum size of a header in bytes; that of the largest supported model has about 100 kB.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// An open file of tensors whose header has been checked against its size.
#[derive(Debug)]
pub(crate) struct TensorFile {
    file: PositionedFile,
    /// Byte offset of the tensor data.
    start: u64,
    header: Metadata,
}

impl TensorFile {
    pub fn open(path: &Path) -> Result<TensorFile, CheckpointError> {
        let file = PositionedFile::open(path)?;
        let file_bytes = file.n_bytes();
        let mut length = [0; 8];
        if file_bytes < 8 {
            return Err(CheckpointError::damaged(path, format!("{file_bytes} bytes are no safetensors file")));
        }
        file.read_exact(0, &mut length)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - 8 {
            let reason = format!("a header of {header_bytes} bytes in a file of {file_bytes}");
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(8, &mut header)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| CheckpointError::damaged(path, format!("its header is no safetensors header ({e})")))?;
        let (start, data) = (8 + header_bytes, header.data_len() as u64);
        if start.checked_add(data) != Some(file_bytes) {
            let reason = format!("the header describes {data} bytes of tensors, the file has {}", file_bytes - start);
            return Err(CheckpointError::damaged(path, reason));
        }
        Ok(TensorFile { file, start, header })
    }

    /// All tensors of the header, by key.
    pub fn tensors(&self) -> HashMap<String, &TensorInfo> {
        self.header.tensors()
    }

    /// A value of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads the tensor `key`, converted to f32, into `out`, overwriting it.
    pub fn read(&self, key: &str, out: &mut [f32]) -> Result<(), CheckpointError> {
        let path = self.file.path();
        let info = self.header.info(key).ok_or_else(|| CheckpointError::damaged(path, format!("no {key}")))?;
        let (dtype, (from, to)) = (info.dtype, info.data_offsets);
        let widen: fn(&[u8]) -> f32 = match dtype {
            Dtype::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Dtype::F64 => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Dtype::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::BF16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            other => {
                let problem = format!("{key} is {other:?}: F32, F64, F16 and BF16 are read");
                return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
            }
        };
        let width = dtype.bitsize() / 8;
        if to - from != width * out.len() {
            let reason = format!("{key} has {} bytes, expected {}", to - from, width * out.len());
            return Err(CheckpointError::damaged(path, reason));
        }
        let at = self.start + from as u64;
        if dtype == Dtype::F32 {
            return Ok(self.file.read_exact(at, bytemuck::cast_slice_mut(out))?);
        }
        let widen_piece = |piece: &[u8], out: &mut [f32]| {
            out.iter_mut().zip(piece.chunks_exact(width)).for_each(|(x, bytes)| *x = widen(bytes));
        };
        Ok(self.file.read_blocks(at, (width, 1), out, widen_piece)?)
    }

    /// Reads the bytes of the tensor `key` over all of `out`, which has their number.
    pub fn read_raw(&self, key: &str, out: &mut [u8]) -> Result<(), CheckpointError> {
        let path = self.file.path();
        let info = self.header.info(key).ok_or_else(|| CheckpointError::damaged(path, format!("no {key}")))?;
        let (from, to) = info.data_offsets;
        assert_eq!(out.len(), to - from, "read_raw: {key} is {:?} {:?}", info.dtype, info.shape);
        Ok(self.file.read_exact(self.start + from as u64, out)?)
    }

    /// As [`read_raw`](Self::read_raw) for the bytes of the tensor from `start` on; the caller has checked that they exist.
    pub fn read_raw_at(&self, key: &str, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        let path = self.file.path();
        let info = self.header.info(key).ok_or_else(|| CheckpointError::damaged(path, format!("no {key}")))?;
        Ok(self.file.read_exact(self.start + info.data_offsets.0 as u64 + start, out)?)
    }
}
