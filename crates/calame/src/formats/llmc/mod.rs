//! Reads checkpoints of llm.c (`gpt2_124M.bin`): a header of 256 numbers, then all parameters without names or gaps.
//!
//! The model is always a GPT-2 with tied head and qkv bias. The vocabulary is padded to a round number of rows; only
//! its own rows are read.
//! Source: karpathy/llm.c, `train_gpt2.py` (`write_model`, `write_tensors`) and `train_gpt2.c` (`gpt2_build_from_checkpoint`).

use std::path::Path;

use super::CheckpointError;
use super::source::{StoredTensor, TensorSource};
use crate::files::PositionedFile;
use crate::model::{ModelConfig, Preset};
use crate::quant::{NumberFormat, dequantize};

/// First number of the header.
pub(super) const MAGIC: u32 = 20_240_326;
const HEADER_BYTES: u64 = 4 * 256;
/// Maximum number of blocks; far more than any GPT-2 has, and few enough that the list of tensors stays small.
const MAX_BLOCKS: usize = 10_000;

/// The parameters of a block in file order, with their dimensions in multiples of C.
const OF_BLOCKS: [(&str, &[usize]); 12] = [
    ("ln_1.weight", &[1]),
    ("ln_1.bias", &[1]),
    ("attn.c_attn.weight", &[3, 1]),
    ("attn.c_attn.bias", &[3]),
    ("attn.c_proj.weight", &[1, 1]),
    ("attn.c_proj.bias", &[1]),
    ("ln_2.weight", &[1]),
    ("ln_2.bias", &[1]),
    ("mlp.c_fc.weight", &[4, 1]),
    ("mlp.c_fc.bias", &[4]),
    ("mlp.c_proj.weight", &[1, 4]),
    ("mlp.c_proj.bias", &[1]),
];

/// An open checkpoint whose size matches its header.
pub(super) struct LlmcFile {
    file: PositionedFile,
    /// Format of all parameters: F32 or BF16.
    format: NumberFormat,
    config: ModelConfig,
    tensors: Vec<StoredTensor>,
    /// Byte offset of each tensor in the file.
    starts: Vec<u64>,
}

impl LlmcFile {
    pub fn open(path: &Path) -> Result<LlmcFile, CheckpointError> {
        let file = PositionedFile::open(path)?;
        let file_bytes = file.n_bytes();
        if file_bytes < HEADER_BYTES {
            let reason = format!("{file_bytes} bytes are no checkpoint of llm.c: its header alone has {HEADER_BYTES}");
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut bytes = [0; 4 * 8];
        file.read_exact(0, &mut bytes)?;
        let mut header = [0; 8];
        for (number, bytes) in header.iter_mut().zip(bytes.chunks_exact(4)) {
            *number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let (format, config, n_padded) = understand(path, header)?;
        let (c, n_layer) = (config.n_embd as u128, config.n_layer as u128);
        // In 128 bits: a product of four sizes of 2²⁴ exceeds 64 bits.
        let n_elements = (n_padded as u128 + config.n_positions as u128 + 2) * c + n_layer * (12 * c * c + 13 * c);
        let expected = u128::from(HEADER_BYTES) + n_elements * format.block_bytes() as u128;
        if u128::from(file_bytes) != expected {
            let reason = format!("{file_bytes} bytes, its header describes {expected} ({config:?})");
            return Err(CheckpointError::damaged(path, reason));
        }
        let (tensors, starts) = layout(&config, n_padded, format);
        Ok(LlmcFile { file, format, config, tensors, starts })
    }

    /// The model's shape. The dropout is 0: llm.c has none, and the file does not record it.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
}

impl TensorSource for LlmcFile {
    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        let at = self.starts[index];
        if self.format == NumberFormat::F32 {
            return Ok(self.file.read_exact(at, bytemuck::cast_slice_mut(out))?);
        }
        let block = (self.format.block_bytes(), 1);
        Ok(self.file.read_blocks(at, block, out, |piece, out| dequantize(self.format, piece, out))?)
    }

    fn read_raw(&self, index: usize, out: &mut [u8]) -> Result<(), CheckpointError> {
        let StoredTensor { name, shape, file_bytes, .. } = &self.tensors[index];
        assert_eq!(out.len() as u64, *file_bytes, "read_raw: {name} is {} {shape:?}", self.format);
        Ok(self.file.read_exact(self.starts[index], out)?)
    }

    fn read_raw_at(&self, index: usize, start: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.tensors[index].check_part(start, out.len());
        Ok(self.file.read_exact(self.starts[index] + start, out)?)
    }
}

/// Reads format, shape and padded vocabulary from a header with llm.c's magic number.
fn understand(path: &Path, header: [u32; 8]) -> Result<(NumberFormat, ModelConfig, usize), CheckpointError> {
    let wrong = |key: &'static str, found: String, expected: &str| CheckpointError::Config {
        path: path.to_owned(),
        key,
        found,
        expected: expected.to_owned(),
    };
    let [magic, version, n_positions, vocab_size, n_layer, n_head, n_embd, n_padded] = header;
    if magic != MAGIC {
        return Err(wrong("the header's first number", magic.to_string(), "20240326, that of llm.c's checkpoints"));
    }
    let format = match version {
        3 => NumberFormat::F32,
        5 => NumberFormat::Bf16,
        _ => return Err(wrong("the header's version", version.to_string(), "3 (f32) or 5 (bf16): write it again")),
    };
    let size = |n: u32| n as usize;
    let config = ModelConfig {
        vocab_size: size(vocab_size),
        n_positions: size(n_positions),
        n_embd: size(n_embd),
        n_head: size(n_head),
        n_layer: size(n_layer),
        dropout: 0.0,
        ..Preset::Gpt2.config()
    };
    config.validate().map_err(CheckpointError::impossible_shape(path, "the header's shape"))?;
    if config.n_layer > MAX_BLOCKS {
        return Err(wrong("the header's number of blocks", n_layer.to_string(), "at most 10,000"));
    }
    if n_padded < vocab_size {
        let expected = format!("at least the vocabulary of {vocab_size}");
        return Err(wrong("the header's padded vocabulary", n_padded.to_string(), &expected));
    }
    Ok((format, config, size(n_padded)))
}

/// All parameters under our names, with their offsets in the file.
fn layout(config: &ModelConfig, n_padded: usize, format: NumberFormat) -> (Vec<StoredTensor>, Vec<u64>) {
    let c = config.n_embd;
    let (mut tensors, mut starts, mut at) = (Vec::new(), Vec::new(), HEADER_BYTES);
    let mut add = |name: String, shape: Vec<usize>, n_padding_rows: usize| {
        let bytes = |n: usize| (n * format.block_bytes()) as u64;
        let file_bytes = bytes(shape.iter().product());
        starts.push(at);
        at += file_bytes + bytes(n_padding_rows * c);
        let dtype = format.name().to_owned();
        tensors.push(StoredTensor { name, shape, dtype, format: Some(format), is_float: true, file_bytes });
    };
    add("wte.weight".to_owned(), vec![config.vocab_size, c], n_padded - config.vocab_size);
    add("wpe.weight".to_owned(), vec![config.n_positions, c], 0);
    for (path, multiples) in OF_BLOCKS {
        for i in 0..config.n_layer {
            add(format!("h.{i}.{path}"), multiples.iter().map(|n| n * c).collect(), 0);
        }
    }
    add("ln_f.weight".to_owned(), vec![c], 0);
    add("ln_f.bias".to_owned(), vec![c], 0);
    (tensors, starts)
}
