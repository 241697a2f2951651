//! The text of one sequence, as its tokens arrive.

use super::stop::{StopMatcher, StopStrings};
use crate::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};

/// Turns the tokens of a sequence into pieces of text: whole characters, up to a stop string or a token that ends texts.
#[derive(Clone, Debug)]
pub struct TextStream {
    decoder: StreamDecoder,
    matcher: StopMatcher,
    /// The ids that end the text.
    ends: Vec<u32>,
    met_end: bool,
}

impl TextStream {
    /// A text that ends with any of `ends` or `stop`, neither of which is part of it.
    pub fn new(ends: Vec<u32>, stop: &StopStrings) -> TextStream {
        TextStream { decoder: StreamDecoder::new(), matcher: stop.matcher(), ends, met_end: false }
    }

    /// Decodes the prompt, in which nothing ends the text. A character left incomplete by its tokens is part of the first
    /// piece instead.
    ///
    /// # Errors
    /// If a token cannot be decoded.
    pub fn prompt<T: Tokenizer + ?Sized>(&mut self, tokenizer: &T, tokens: &[u32]) -> Result<String, TokenizerError> {
        tokens.iter().map(|&token| self.decoder.push(tokenizer, token)).collect()
    }

    /// The text that a new token completes; empty while a character is incomplete, or what is there may become a stop
    /// string. Nothing follows once the text [has ended](Self::has_ended).
    ///
    /// # Errors
    /// If the token cannot be decoded.
    pub fn push<T: Tokenizer + ?Sized>(&mut self, tokenizer: &T, token: u32) -> Result<String, TokenizerError> {
        if self.has_ended() {
            return Ok(String::new());
        }
        self.met_end = self.ends.contains(&token);
        if self.met_end {
            return Ok(String::new());
        }
        let piece = self.decoder.push(tokenizer, token)?;
        Ok(self.matcher.push(&piece))
    }

    /// What was held back, at the end of the text.
    pub fn finish(&mut self) -> String {
        let mut rest = if self.has_ended() && !self.met_end { String::new() } else { self.decoder.finish() };
        rest = self.matcher.push(&rest);
        rest + &self.matcher.finish()
    }

    /// Whether a token that ends texts, or a stop string, was met.
    pub fn has_ended(&self) -> bool {
        self.met_end || self.matcher.met().is_some()
    }

    /// The stop string that was met.
    pub fn met_stop(&self) -> Option<&str> {
        self.matcher.met()
    }
}
