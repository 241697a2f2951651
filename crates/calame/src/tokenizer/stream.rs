//! Decodes ids that arrive one by one.

use std::str::from_utf8;

use super::base::Tokenizer;
use super::error::TokenizerError;

/// Decodes ids one by one into text that is never revised.
///
/// The joined results of [`push`](StreamDecoder::push) and [`finish`](StreamDecoder::finish) equal
/// [`Tokenizer::decode`] of all ids. The cost per id does not grow with the number of ids before it.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    previous: Option<u32>,
    /// The bytes of an incomplete character, at most three.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `id` and returns the text that is now complete; empty while a character is incomplete.
    ///
    /// # Errors
    /// As [`Tokenizer::decode_bytes`]; the decoder is unchanged in that case.
    pub fn push<T: Tokenizer + ?Sized>(&mut self, tokenizer: &T, id: u32) -> Result<String, TokenizerError> {
        // The text of an id may depend on the id before it (word tokenizers join words with spaces), but on no other.
        match self.previous {
            None => self.pending.extend(tokenizer.decode_bytes(&[id])?),
            Some(previous) => {
                let both = tokenizer.decode_bytes(&[previous, id])?;
                let n_known = tokenizer.decode_bytes(&[previous])?.len();
                self.pending.extend(&both[n_known..]);
            }
        }
        self.previous = Some(id);
        Ok(self.take_certain())
    }

    /// Returns the rest: U+FFFD if the ids end inside a character, otherwise nothing. Resets the decoder.
    pub fn finish(&mut self) -> String {
        self.previous = None;
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    /// Takes all pending bytes except an incomplete character at the end. Invalid sequences are split as by
    /// `String::from_utf8_lossy`.
    fn take_certain(&mut self) -> String {
        let mut text = String::new();
        let mut start = 0;
        while start < self.pending.len() {
            match from_utf8(&self.pending[start..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    start = self.pending.len();
                }
                Err(error) => {
                    let valid = &self.pending[start..start + error.valid_up_to()];
                    text.push_str(&String::from_utf8_lossy(valid));
                    start += error.valid_up_to();
                    let Some(n_bad) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    start += n_bad;
                }
            }
        }
        self.pending.drain(..start);
        text
    }
}
