//! The common result of every format's reader: an open source of tensors and the known properties of the model.

use std::path::PathBuf;
use std::sync::Arc;

use super::source::TensorSource;
use crate::model::ModelConfig;
use crate::tokenizer::{Bpe, Tokenizer};

/// The storage format of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder with config.json and safetensors or pytorch_model.bin.
    HuggingFace,
    /// A safetensors file without config.json.
    Safetensors,
    /// A file written by torch.save: `.pt`, `.pth`.
    Torch,
    /// An llm.c checkpoint: `.bin`.
    Llmc,
    /// A llama.cpp file: `.gguf`.
    Gguf,
}

impl Format {
    /// Name of the format in messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::HuggingFace => "Hugging Face folder",
            Format::Safetensors => "safetensors",
            Format::Torch => "PyTorch file",
            Format::Llmc => "llm.c checkpoint",
            Format::Gguf => "GGUF",
        }
    }
}

/// A model whose files have been opened and understood; its tensors have not been matched with its shape yet.
pub(super) struct Opened {
    pub format: Format,
    /// The file with the weights, or their index; named in errors.
    pub weights: PathBuf,
    pub source: Box<dyn TensorSource>,
    pub config: ModelConfig,
    /// Whether linear weights are stored as [in, out].
    pub conv1d: bool,
    /// Whether a tied head in `config` is stated, or the rule of the format, rather than assumed.
    pub says_tied: bool,
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    pub notes: Vec<String>,
}

impl Opened {
    /// Assumes GPT-2's tokenizer for weights without a tokenizer whose vocabulary, padded or not, is GPT-2's.
    pub fn assume_gpt2_tokenizer(&mut self) {
        let gpt2 = Bpe::gpt2();
        let padded = gpt2.n_vocab().next_multiple_of(128);
        if self.tokenizer.is_none() && (gpt2.n_vocab()..=padded).contains(&self.config.vocab_size) {
            self.notes.push("no tokenizer in the file: GPT-2's is taken".to_owned());
            self.tokenizer = Some(gpt2);
        }
    }
}
