//! Generates text from a prompt.

use std::ops::Deref;

use super::error::GenerateError;
use super::generation::{Generation, GenerationLimits};
use super::sampler::{LogitRules, Sampler, SamplerConfig};
use super::stop::{StopError, StopStrings};
use super::text_stream::TextStream;
use crate::model::Gpt;
use crate::ops::Device;
use crate::tokenizer::{Special, TextBounds, Tokenizer, TokenizerError};

/// Settings of a text generation.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// How the tokens are drawn.
    pub sampler: SamplerConfig,
    /// Maximum number of tokens added to the prompt.
    pub max_tokens: usize,
    /// Number of tokens dropped at a time once the context is full; see [`GenerationLimits::slide`].
    pub slide: usize,
    /// Whether an id that ends texts ends this one. It is not part of the text.
    pub stop_at_end: bool,
    /// Strings of which any one ends the text; it is not part of the text.
    pub stop: Vec<String>,
    /// Bias and minimum length. The ids that end texts are those of `bounds`, whatever `rules.ends` says.
    pub rules: LogitRules,
    /// The ids with which the model's texts begin and end; if `None`, the tokenizer's end-of-text token. Those of a saved
    /// model are its [`bounds`](crate::tokenizer::TextBounds).
    pub bounds: Option<TextBounds>,
}

impl Default for TextOptions {
    /// 100 tokens, greedy, stopping at the end-of-text token.
    fn default() -> TextOptions {
        TextOptions {
            sampler: SamplerConfig::default(),
            max_tokens: 100,
            slide: 1,
            stop_at_end: true,
            stop: Vec::new(),
            rules: LogitRules::default(),
            bounds: None,
        }
    }
}

/// Why a text cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The tokens cannot be continued.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The prompt cannot be encoded, or a token cannot be decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A stop string cannot be used.
    #[error(transparent)]
    Stop(#[from] StopError),
}

/// A text generation in progress: an iterator over pieces of new text.
///
/// Borrows device, model and tokenizer, or shares their ownership (`Arc<Device>`, `Arc<Gpt>`, `Arc<dyn
/// Tokenizer>`). Draws only ids of the tokenizer.
pub struct TextGeneration<D, G, T> {
    generation: Generation<D, G>,
    tokenizer: T,
    stream: TextStream,
    prompt_text: String,
    n_prompt: usize,
    is_done: bool,
}

impl<D, G, T> TextGeneration<D, G, T>
where
    D: Deref<Target = Device>,
    G: Deref<Target = Gpt>,
    T: Deref<Target: Tokenizer>,
{
    /// Starts a generation that continues `prompt`; the text of a special token becomes its id. An empty prompt
    /// means the id with which texts begin, if there is one: the model then starts a new text.
    ///
    /// # Errors
    /// If the prompt cannot be encoded, exceeds the model's context, or contains ids outside the model's
    /// vocabulary; if an option is out of range.
    pub fn new(dev: D, gpt: G, tokenizer: T, prompt: &str, options: &TextOptions) -> Result<Self, TextError> {
        let mut tokens = tokenizer.encode(prompt, Special::Allow)?;
        if tokens.is_empty() {
            tokens.extend(bounds(options, &*tokenizer).begin);
        }
        Self::of_tokens(dev, gpt, tokenizer, &tokens, options)
    }

    /// As [`new`](Self::new), for a prompt of token ids.
    ///
    /// # Errors
    /// As [`new`](Self::new); also if the prompt is empty.
    pub fn of_tokens(dev: D, gpt: G, tokenizer: T, prompt: &[u32], options: &TextOptions) -> Result<Self, TextError> {
        let ends = bounds(options, &*tokenizer).ends;
        let rules = LogitRules { ends: ends.clone(), ..options.rules.clone() };
        let sampler = Sampler::for_tokenizer(&options.sampler, 0, &*tokenizer)
            .and_then(|sampler| sampler.with_rules(rules))
            .map_err(GenerateError::from)?;
        let limits = GenerationLimits { max_tokens: options.max_tokens, slide: options.slide };
        let generation = Generation::new(dev, gpt, prompt, sampler, limits)?;
        let ends = if options.stop_at_end { ends } else { Vec::new() };
        let mut stream = TextStream::new(ends, &StopStrings::new(&options.stop)?);
        let prompt_text = stream.prompt(&*tokenizer, prompt)?;
        Ok(TextGeneration { generation, tokenizer, stream, prompt_text, n_prompt: prompt.len(), is_done: false })
    }

    /// The decoded prompt. A character left incomplete by its tokens is part of the first piece instead.
    pub fn prompt_text(&self) -> &str {
        &self.prompt_text
    }

    /// The generated tokens, including the one that ends the text.
    pub fn new_tokens(&self) -> &[u32] {
        &self.generation.tokens()[self.n_prompt..]
    }

    /// Whether an id that ends texts ended the generation.
    pub fn met_end(&self) -> bool {
        self.stream.met_end()
    }

    /// The stop string that ended the generation, if one did.
    pub fn met_stop(&self) -> Option<&str> {
        self.stream.met_stop()
    }

    /// Draws the next token and returns the text that it completes; empty while a character is incomplete, or what is there
    /// may become a stop string.
    /// `None` at the end.
    ///
    /// # Errors
    /// If the logits are not finite.
    pub fn next_piece(&mut self) -> Result<Option<String>, TextError> {
        if self.is_done {
            return Ok(None);
        }
        if let Some(token) = self.generation.next_token()? {
            let piece = self.stream.push(&*self.tokenizer, token)?;
            if !self.stream.has_ended() {
                return Ok(Some(piece));
            }
            self.is_done = true;
            let rest = piece + &self.stream.finish();
            return Ok((!rest.is_empty()).then_some(rest));
        }
        self.is_done = true;
        let rest = self.stream.finish();
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

fn bounds<T: Tokenizer + ?Sized>(options: &TextOptions, tokenizer: &T) -> TextBounds {
    options.bounds.clone().unwrap_or_else(|| TextBounds::of(tokenizer))
}

/// Generates a text and returns it with its prompt; [`TextGeneration`] returns the same piece by piece.
///
/// # Errors
/// As [`TextGeneration::new`]; also if the logits are not finite.
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
