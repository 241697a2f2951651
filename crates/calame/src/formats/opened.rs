//! The common result of every format's reader: an open source of tensors and the known properties of the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CheckpointError;
use super::source::TensorSource;
use crate::model::ModelConfig;
use crate::tokenizer::{Bpe, TextBounds, Tokenizer};

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
    /// Why the tokenizer that there is cannot be used. Only texts need it.
    pub tokenizer_error: Option<CheckpointError>,
    /// The ids with which texts begin and end, as far as the files state them.
    pub bounds: TextBounds,
    pub notes: Vec<String>,
}

impl Opened {
    /// A model without a tokenizer.
    pub fn new(
        format: Format,
        weights: &Path,
        source: Box<dyn TensorSource>,
        config: ModelConfig,
        conv1d: bool,
    ) -> Opened {
        Opened {
            format,
            weights: weights.to_owned(),
            source,
            config,
            conv1d,
            says_tied: true,
            tokenizer: None,
            tokenizer_error: None,
            bounds: TextBounds::default(),
            notes: Vec::new(),
        }
    }

    /// Sets the tokenizer that the files have, or why it cannot be used.
    pub fn set_tokenizer(&mut self, found: Result<Option<Arc<dyn Tokenizer>>, CheckpointError>) {
        match found {
            Ok(tokenizer) => self.tokenizer = tokenizer,
            Err(error) => self.tokenizer_error = Some(error),
        }
    }

    /// Assumes GPT-2's tokenizer for weights without a tokenizer whose vocabulary, padded or not, is GPT-2's.
    pub fn assume_gpt2_tokenizer(&mut self) {
        let padded = Bpe::GPT2_TOKENS.next_multiple_of(128);
        let is_without = self.tokenizer.is_none() && self.tokenizer_error.is_none();
        if is_without && (Bpe::GPT2_TOKENS..=padded).contains(&self.config.vocab_size) {
            self.notes.push("no tokenizer in the files: GPT-2's is used, whose vocabulary the model has".to_owned());
            self.tokenizer = Some(Bpe::gpt2());
        }
    }

    /// Completes the bounds of texts and notes what cannot be used of the tokenizer and the bounds.
    pub fn settle_text(&mut self) {
        let vocab_size = self.config.vocab_size;
        let beyond = self.bounds.remove_beyond(vocab_size);
        if !beyond.is_empty() {
            self.notes.push(format!(
                "the ids {beyond:?} that begin or end a text are ignored: the model has {vocab_size} tokens"
            ));
        }
        let Some(tokenizer) = &self.tokenizer else { return };
        let mut of_tokenizer = TextBounds::of(tokenizer.as_ref());
        of_tokenizer.remove_beyond(vocab_size);
        self.bounds = std::mem::take(&mut self.bounds).or(of_tokenizer);
        if tokenizer.n_vocab() > vocab_size {
            self.notes.push(format!(
                "the tokenizer has {} tokens, the model {vocab_size}: a text that needs one of the others is refused",
                tokenizer.n_vocab()
            ));
        }
    }
}
