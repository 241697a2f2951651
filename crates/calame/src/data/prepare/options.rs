//! What a preparation does with a text.

use serde::{Deserialize, Serialize};

use super::super::documents::Names;
use super::super::shard_format::ShardFormat;
use crate::tokenizer::Tokenizer;

/// What is dealt to the two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Whole documents, each drawn by the seed and its number.
    #[default]
    Documents,
    /// Characters: the first of all are trained on, the last are for validation, as the book cuts its text.
    Characters,
}

/// The Unicode form that text is brought into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// As it is.
    #[default]
    None,
    /// Composed: é is one character, however it was written.
    Nfc,
}

/// How to prepare a text; stands in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareOptions {
    /// Whose format the shards have.
    pub format: ShardFormat,
    /// Tokens of a shard, but of the last of each part; nanoGPT's format has one file for each part whatever this is.
    pub shard_tokens: u64,
    /// The field of a line of JSON that is the document.
    pub field: String,
    /// The column of a Parquet file that is the document.
    pub column: String,
    /// Share of the documents or characters that is for validation.
    pub val_fraction: f64,
    /// What is dealt to the two parts.
    pub split: SplitBy,
    /// Seed of the split by documents.
    pub seed: u64,
    /// Whether Project Gutenberg's header and licence are taken off.
    pub strip_gutenberg: bool,
    /// The form that text is brought into.
    pub normalise: Normalisation,
    /// Whether a document that came before is left out.
    pub dedup: bool,
    /// Whether an end-of-text token marks each document: before it in llm.c's format, after it in nanoGPT's, as their own
    /// programs do.
    pub end_of_text: bool,
    /// Whether special tokens in a text become their ids; otherwise they are ordinary text.
    pub allow_special: bool,
}

/// An option that a preparation cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: expected {expected}")]
pub struct OptionError {
    /// The option.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be, or what to do.
    pub expected: String,
}

impl Default for PrepareOptions {
    fn default() -> PrepareOptions {
        PrepareOptions {
            format: ShardFormat::Llmc,
            // As llm.c's own shards.
            shard_tokens: 100_000_000,
            field: "text".to_owned(),
            column: "text".to_owned(),
            val_fraction: 0.1,
            split: SplitBy::Documents,
            seed: 123,
            strip_gutenberg: false,
            normalise: Normalisation::None,
            dedup: false,
            end_of_text: true,
            allow_special: false,
        }
    }
}

impl PrepareOptions {
    /// Whether they can be, for this tokenizer.
    ///
    /// # Errors
    /// The first option that cannot.
    pub fn validate(&self, tokenizer: &dyn Tokenizer) -> Result<(), OptionError> {
        let error = |key, value: String, expected: String| Err(OptionError { key, value, expected });
        // Written so that NaN fails too.
        if !(self.val_fraction >= 0.0 && self.val_fraction < 1.0) {
            return error("the share for validation", self.val_fraction.to_string(), "from 0 to below 1".to_owned());
        }
        // llm.c keeps the number in 32 bits with a sign.
        let most = i32::MAX as u64;
        if self.shard_tokens == 0 || self.shard_tokens > most {
            return error("the tokens of a shard", self.shard_tokens.to_string(), format!("from 1 to {most}"));
        }
        if self.end_of_text && tokenizer.end_of_text().is_none() {
            let expected = "false, since this tokenizer has no such token (--end-of-text false)".to_owned();
            return error("end of text", "true".to_owned(), expected);
        }
        let specials = tokenizer.special_texts();
        if self.allow_special
            && let Some(special) = specials.iter().find(|text| text.contains(char::is_whitespace))
        {
            // Long texts are cut before white space.
            let expected =
                format!("false, since this tokenizer has a special token with white space in it, {special:?}");
            return error("allow special", "true".to_owned(), expected);
        }
        Ok(())
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names { field: &self.field, column: &self.column }
    }
}
