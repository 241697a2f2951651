//! GGUF, llama.cpp's files: metadata, tokenizer and tensors in one.
//!
//! A header ([`header`]) of keys with values and of tensors' places, then the tensors' bytes. A GPT-2 is known by
//! `general.architecture` ([`metadata`] has its keys); linear weights stand as ours, [out, in]. What calame alone knows
//! stands in keys that begin with `calame.`; whoever does not know them passes over them.
//!
//! Source: `docs/gguf.md` of ggml-org/ggml, and `convert_hf_to_gguf.py` of ggml-org/llama.cpp for what a GPT-2 has.

mod header;
mod metadata;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::by_position::ByPosition;
use super::model_file::{Format, Opened};
use super::source::{StoredTensor, TensorSource};
use crate::quant;
use header::{Header, TensorInfo};

pub use write::write_gguf;

/// How every such file begins.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 4 << 20;

/// An open file whose header has been checked against the file's size.
struct GgufFile {
    path: PathBuf,
    file: ByPosition,
    /// Of each tensor.
    infos: Vec<TensorInfo>,
    tensors: Vec<StoredTensor>,
}

/// Opens a model.
pub(super) fn open(path: &Path) -> Result<Opened, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let Header { mut values, tensors: infos } = Header::read(path, &mut file)?;
    let stored = |info: &TensorInfo| StoredTensor {
        name: info.name.clone(),
        shape: info.shape.clone(),
        dtype: info.format.name().to_owned(),
        is_float: true,
        file_bytes: info.n_bytes,
    };
    let tensors: Vec<StoredTensor> = infos.iter().map(stored).collect();
    let config = metadata::config(path, &values, &tensors)?;
    let tokenizer = metadata::tokenizer(path, &mut values, &config)?;
    let file = ByPosition::of(file).map_err(CheckpointError::io("read", path))?;
    let source = Box::new(GgufFile { path: path.to_owned(), file, infos, tensors });
    let says_none = values.contains_key(metadata::TOKENIZER_MODEL);
    let (format, weights, notes) = (Format::Gguf, path.to_owned(), Vec::new());
    let mut opened = Opened { format, weights, source, config, conv1d: false, tokenizer, notes };
    if !says_none {
        opened.assume_gpt2_tokenizer();
    }
    Ok(opened)
}

impl TensorSource for GgufFile {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        let TensorInfo { format, start, n_bytes, .. } = self.infos[index];
        let io = || CheckpointError::io("read", &self.path);
        if format == quant::NumberFormat::F32 {
            return self.file.read_exact(start, bytemuck::cast_slice_mut(out)).map_err(io());
        }
        // The header's check has it that both are whole numbers of blocks, and as many.
        let blocks = (PIECE_BYTES / format.block_bytes()).min(out.len() / format.block_len()).max(1);
        let mut at = start;
        let mut piece = vec![0; (blocks * format.block_bytes()).min(n_bytes as usize)];
        for out in out.chunks_mut(blocks * format.block_len()) {
            let piece = &mut piece[..out.len() / format.block_len() * format.block_bytes()];
            self.file.read_exact(at, piece).map_err(io())?;
            at += piece.len() as u64;
            quant::dequantize(format, piece, out);
        }
        Ok(())
    }
}
