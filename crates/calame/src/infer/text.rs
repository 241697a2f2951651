//! Generates text from a prompt.

use std::ops::Deref;

use super::engine::{Engine, EngineLimits, Request};
use super::error::GenerateError;
use super::sampler::{LogitRules, Sampler, SamplerConfig};
use super::stop::StopStrings;
use super::text_engine::{TextEnd, TextEngine, TextError, TextEvent};
use crate::model::Gpt;
use crate::ops::Device;
use crate::tokenizer::{Special, TextBounds, Tokenizer};

/// Settings of a text generation.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// How the tokens are drawn.
    pub sampler: SamplerConfig,
    /// Maximum number of tokens added to the prompt.
    pub max_tokens: usize,
    /// Number of tokens dropped at a time once the context is full; see [`GenerationLimits::slide`](super::GenerationLimits::slide).
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

/// A text generation in progress: an iterator over pieces of new text.
///
/// Borrows device, model and tokenizer, or shares their ownership (`Arc<Device>`, `Arc<Gpt>`, `Arc<dyn
/// Tokenizer>`). Draws only ids of the tokenizer.
pub struct TextGeneration<D, G, T> {
    texts: TextEngine<D, G, T>,
    prompt_text: String,
    new_tokens: Vec<u32>,
    end: Option<TextEnd>,
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
        let limits = EngineLimits::for_sequences(&gpt.config, 1, prompt.len(), options.max_tokens);
        let mut texts = TextEngine::new(Engine::new(dev, gpt, limits)?, tokenizer);
        let request = Request {
            ends: if options.stop_at_end { ends } else { Vec::new() },
            slide: Some(options.slide),
            ..Request::new(prompt.to_vec(), sampler, options.max_tokens)
        };
        let (_, prompt_text) = texts.add(request, &StopStrings::new(&options.stop)?)?;
        Ok(TextGeneration { texts, prompt_text, new_tokens: Vec::new(), end: None })
    }

    /// The decoded prompt. A character left incomplete by its tokens is part of the first piece instead.
    pub fn prompt_text(&self) -> &str {
        &self.prompt_text
    }

    /// The generated tokens, including the one that ends the text.
    pub fn new_tokens(&self) -> &[u32] {
        &self.new_tokens
    }

    /// What ended the text, once it has ended.
    pub fn end(&self) -> Option<&TextEnd> {
        self.end.as_ref()
    }

    /// Draws the next token and returns the text that it completes; empty while a character is incomplete, or what is there
    /// may become a stop string. `None` at the end, and after an error.
    ///
    /// # Errors
    /// If the logits are not finite.
    pub fn next_piece(&mut self) -> Result<Option<String>, TextError> {
        let mut piece: Option<String> = None;
        while piece.is_none() && !self.texts.is_idle() {
            for event in self.texts.step() {
                match event {
                    TextEvent::Piece { token, text, .. } => {
                        self.new_tokens.push(token);
                        piece.get_or_insert_default().push_str(&text);
                    }
                    TextEvent::Finished { text, end, .. } => {
                        self.end = Some(end);
                        piece.get_or_insert_default().push_str(&text);
                    }
                    TextEvent::Failed { error, .. } => return Err(error),
                }
            }
        }
        // At the end there may be nothing left to show.
        Ok(piece.filter(|piece| !piece.is_empty() || self.end.is_none()))
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
