//! From a prompt to its continuation, as text.

use std::ops::Deref;

use super::{GenerateError, Generation, GenerationLimits, Sampler, SamplerConfig};
use crate::model::Gpt;
use crate::ops::Device;
use crate::tokenizer::{Special, StreamDecoder, Tokenizer, TokenizerError};

/// How a prompt is continued.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// How tokens are drawn.
    pub sampler: SamplerConfig,
    /// The most tokens that are added to the prompt.
    pub max_tokens: usize,
    /// Tokens that are dropped at a time past the model's context; see [`GenerationLimits::slide`].
    pub slide: usize,
    /// Whether the end-of-text token, where the tokenizer has one, ends the text; it is not part of it.
    pub stop_at_end: bool,
}

impl Default for TextOptions {
    /// 100 tokens, greedily, up to the end of the text.
    fn default() -> TextOptions {
        TextOptions { sampler: SamplerConfig::default(), max_tokens: 100, slide: 1, stop_at_end: true }
    }
}

/// Why a prompt cannot be continued as text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The tokens cannot be continued.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The prompt cannot be encoded, or a token not be decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A text in progress: an iterator over the pieces of text that the new tokens add.
///
/// It borrows device, model and tokenizer, or owns a share of them (`Arc<Device>`, `Arc<Gpt>`, `Arc<dyn Tokenizer>`). Only ids
/// that the tokenizer has are drawn.
pub struct TextGeneration<D, G, T> {
    generation: Generation<D, G>,
    tokenizer: T,
    decoder: StreamDecoder,
    prompt_text: String,
    n_prompt: usize,
    stop_at_end: bool,
    met_end: bool,
    is_done: bool,
}

impl<D, G, T> TextGeneration<D, G, T>
where
    D: Deref<Target = Device>,
    G: Deref<Target = Gpt>,
    T: Deref<Target: Tokenizer>,
{
    /// A text that begins with `prompt`, in which texts of special tokens become their ids. An empty prompt stands for the
    /// end-of-text token, where the tokenizer has one: the model then begins a text of its own.
    ///
    /// # Errors
    /// If the prompt cannot be encoded, is longer than the model's context, or has tokens that the model does not have; if an
    /// option is out of range.
    pub fn new(dev: D, gpt: G, tokenizer: T, prompt: &str, options: &TextOptions) -> Result<Self, TextError> {
        let mut tokens = tokenizer.encode(prompt, Special::Allow)?;
        if tokens.is_empty() {
            tokens.extend(tokenizer.end_of_text());
        }
        Self::of_tokens(dev, gpt, tokenizer, &tokens, options)
    }

    /// As [`new`](Self::new), for a prompt of tokens.
    ///
    /// # Errors
    /// As [`new`](Self::new); if there are no tokens.
    pub fn of_tokens(dev: D, gpt: G, tokenizer: T, prompt: &[u32], options: &TextOptions) -> Result<Self, TextError> {
        let sampler = Sampler::for_tokenizer(&options.sampler, 0, &*tokenizer).map_err(GenerateError::from)?;
        let limits = GenerationLimits { max_tokens: options.max_tokens, slide: options.slide };
        let generation = Generation::new(dev, gpt, prompt, sampler, limits)?;
        let mut decoder = StreamDecoder::new();
        let mut prompt_text = String::new();
        for &token in prompt {
            prompt_text.push_str(&decoder.push(&*tokenizer, token)?);
        }
        Ok(TextGeneration {
            generation,
            tokenizer,
            decoder,
            prompt_text,
            n_prompt: prompt.len(),
            stop_at_end: options.stop_at_end,
            met_end: false,
            is_done: false,
        })
    }

    /// The prompt as its tokens spell it; a character that they leave incomplete is part of the first piece.
    pub fn prompt_text(&self) -> &str {
        &self.prompt_text
    }

    /// The tokens that were added to the prompt, an end-of-text token included.
    pub fn new_tokens(&self) -> &[u32] {
        &self.generation.tokens()[self.n_prompt..]
    }

    /// Whether the end-of-text token ended the text.
    pub fn met_end(&self) -> bool {
        self.met_end
    }

    /// Draws the next token and returns the text that it adds: nothing where a character is still incomplete. None at the end.
    ///
    /// # Errors
    /// If the logits are not finite.
    pub fn next_piece(&mut self) -> Result<Option<String>, TextError> {
        if self.is_done {
            return Ok(None);
        }
        if let Some(token) = self.generation.next_token()? {
            self.met_end = self.stop_at_end && Some(token) == self.tokenizer.end_of_text();
            if !self.met_end {
                return Ok(Some(self.decoder.push(&*self.tokenizer, token)?));
            }
        }
        self.is_done = true;
        let rest = self.decoder.finish();
        Ok((!rest.is_empty()).then_some(rest))
    }
}

impl<D, G, T> Iterator for TextGeneration<D, G, T>
where
    D: Deref<Target = Device>,
    G: Deref<Target = Gpt>,
    T: Deref<Target: Tokenizer>,
{
    type Item = Result<String, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}

/// The prompt and its continuation; [`TextGeneration`] returns the same piece by piece.
///
/// # Errors
/// As [`TextGeneration::new`]; if the logits are not finite.
pub fn generate_text(
    dev: &Device,
    gpt: &Gpt,
    tokenizer: &dyn Tokenizer,
    prompt: &str,
    options: &TextOptions,
) -> Result<String, TextError> {
    let mut generation = TextGeneration::new(dev, gpt, tokenizer, prompt, options)?;
    let mut text = generation.prompt_text().to_owned();
    while let Some(piece) = generation.next_piece()? {
        text.push_str(&piece);
    }
    Ok(text)
}
