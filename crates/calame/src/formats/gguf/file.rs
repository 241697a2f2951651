//! Reads GGUF files as a source of tensors.

use std::path::Path;

use super::header::{Header, TensorInfo};
use super::metadata;
use crate::files::{PositionedFile, open_file};
use crate::formats::CheckpointError;
use crate::formats::opened::{Format, Opened};
use crate::formats::source::{StoredTensor, TensorSource};
use crate::quant;

/// An open file whose header has been checked against its size.
struct GgufFile {
    file: PositionedFile,
    /// Format and position of each tensor, in the order of `tensors`.
    infos: Vec<TensorInfo>,
    tensors: Vec<StoredTensor>,
}

/// Opens a GGUF model with its metadata and tokenizer.
pub(in crate::formats) fn open(path: &Path) -> Result<Opened, CheckpointError> {
    let mut file = open_file(path)?;
    let Header { mut values, tensors: infos } = Header::read(path, &mut file)?;
    let stored = |info: &TensorInfo| StoredTensor {
        name: info.name.clone(),
        shape: info.shape.clone(),
        dtype: info.format.name().to_owned(),
        format: Some(info.format),
        is_float: true,
        file_bytes: info.n_bytes,
    };
    let tensors: Vec<StoredTensor> = infos.iter().map(stored).collect();
    let config = metadata::config(path, &values, &tensors)?;
    let says_tied = values.contains_key(metadata::TIED_HEAD);
    let source = Box::new(GgufFile { file: PositionedFile::of(file, path)?, infos, tensors });
    let mut opened = Opened { says_tied, ..Opened::new(Format::Gguf, path, source, config, false) };
    opened.bounds = metadata::bounds(&values);
    opened.set_tokenizer(metadata::tokenizer(path, &mut values));
    if !values.contains_key(metadata::TOKENIZER_MODEL) {
        opened.assume_gpt2_tokenizer();
    }
    Ok(opened)
}

/// Whether a file is a GGUF that calame has written.
pub(in crate::formats) fn is_written_by_calame(path: &Path) -> bool {
    let header = open_file(path).ok().and_then(|mut file| Header::read(path, &mut file).ok());
    header.is_some_and(|header| header.values.contains_key(metadata::VERSION))
}

impl TensorSource for GgufFile {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        let TensorInfo { format, start, .. } = self.infos[index];
        if format == quant::NumberFormat::F32 {
            return Ok(self.file.read_exact(start, bytemuck::cast_slice_mut(out))?);
        }
        // The header check guarantees that both consist of the same number of whole blocks.
        let block = (format.block_bytes(), format.block_len());
        Ok(self.file.read_blocks(start, block, out, |piece, out| quant::dequantize(format, piece, out))?)
    }

    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        let TensorInfo { name, shape, format, start, n_bytes } = &self.infos[index];
        assert_eq!(out.len() as u64, *n_bytes, "read_raw: {name} is {format} {shape:?}");
        Ok(self.file.read_exact(*start, out)?)
    }

    fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.tensors[index].check_part(start, out.len());
        Ok(self.file.read_exact(self.infos[index].start + start, out)?)
    }
}
