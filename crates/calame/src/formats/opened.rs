//! What every reader of a format gives: an open source of tensors and what is known of the model.

use std::path::PathBuf;
use std::sync::Arc;

use super::source::TensorSource;
use crate::model::ModelConfig;
use crate::tokenizer::{Bpe, Tokenizer};

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder with config.json and safetensors or pytorch_model.bin.
    HuggingFace,
    /// safetensors without a config.json.
    Safetensors,
    /// A file of torch.save: `.pt`, `.pth`.
    Torch,
    /// A checkpoint of llm.c: `.bin`.
    Llmc,
    /// A file of llama.cpp: `.gguf`.
    Gguf,
}

impl Format {
    /// Its name in messages.
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

/// A model whose files have been opened and understood; its tensors have not been matched with its shape.
pub(super) struct Opened {
    pub format: Format,
    /// The file of the weights, or their index: what errors name.
    pub weights: PathBuf,
    pub source: Box<dyn TensorSource>,
    pub config: ModelConfig,
    /// Whether linear weights stand as [in, out].
    pub conv1d: bool,
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    pub notes: Vec<String>,
}

impl Opened {
    /// Weights alone have no tokenizer; with GPT-2's vocabulary, padded or not, they were trained with GPT-2's.
    pub fn assume_gpt2_tokenizer(&mut self) {
        let gpt2 = Bpe::gpt2();
        let padded = gpt2.n_vocab().next_multiple_of(128);
        if self.tokenizer.is_none() && (gpt2.n_vocab()..=padded).contains(&self.config.vocab_size) {
            self.notes.push("no tokenizer in the file: GPT-2's is taken".to_owned());
            self.tokenizer = Some(gpt2);
        }
    }
}
