//! Options of a preparation.

use serde::{Deserialize, Serialize};

use super::super::documents::{Normalisation, ReadAs, ReadOptions, SpecialTokens};
use super::super::shard_format::ShardFormat;
use crate::tokenizer::Tokenizer;

/// The unit that is assigned to one of the two splits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Whole documents; the seed and the document's number decide.
    #[default]
    Documents,
    /// Characters: the first share of all text is for training, the rest for validation, as the book splits its text.
    Characters,
}

/// How to prepare a text; recorded in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareOptions {
    /// File format of the shards.
    pub format: ShardFormat,
    /// Tokens per shard, except in the last shard of each split; ignored for nanoGPT's format, which has one
    /// file per split.
    pub shard_tokens: u64,
    /// The field of a JSON line that contains the document.
    pub field: String,
    /// The column of a Parquet file that contains the document.
    pub column: String,
    /// How a file's contents are understood.
    #[serde(default)]
    pub read_as: ReadAs,
    /// Share of the documents or characters used for validation.
    pub val_fraction: f64,
    /// Unit that is assigned to the two splits.
    pub split: SplitBy,
    /// Seed of a split by documents.
    pub seed: u64,
    /// Whether Project Gutenberg's header and licence are removed.
    pub strip_gutenberg: bool,
    /// Unicode normalisation applied to the text.
    pub normalise: Normalisation,
    /// Whether documents equal to an earlier one are dropped.
    pub dedup: bool,
    /// Whether an end-of-text token marks each document: before it in llm.c's format, after it in nanoGPT's, as
    /// in their own scripts.
    pub end_of_text: bool,
    /// What special tokens in a text are. Earlier versions store a bool, `allow_special`.
    #[serde(alias = "allow_special")]
    pub special_tokens: SpecialTokens,
}

/// An option with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: expected {expected}")]
pub struct OptionError {
    /// The option, as messages name it.
    pub key: &'static str,
    /// The value it was given.
    pub value: String,
    /// The accepted values, or how to change it.
    pub expected: String,
}

impl Default for PrepareOptions {
    fn default() -> PrepareOptions {
        PrepareOptions {
            format: ShardFormat::Llmc,
            // The size of llm.c's own shards.
            shard_tokens: 100_000_000,
            field: "text".to_owned(),
            column: "text".to_owned(),
            read_as: ReadAs::Auto,
            val_fraction: 0.1,
            split: SplitBy::Documents,
            seed: 123,
            strip_gutenberg: false,
            normalise: Normalisation::None,
            dedup: false,
            end_of_text: true,
            special_tokens: SpecialTokens::Ids,
        }
    }
}

impl PrepareOptions {
    /// Checks that the options are valid for this tokenizer.
    ///
    /// # Errors
    /// Returns the first invalid option.
    pub fn validate(&self, tokenizer: &dyn Tokenizer) -> Result<(), OptionError> {
        let error = |key, value: String, expected: String| Err(OptionError { key, value, expected });
        // Written so that NaN fails too.
        if !(self.val_fraction >= 0.0 && self.val_fraction < 1.0) {
            return error("the share for validation", self.val_fraction.to_string(), "from 0 to below 1".to_owned());
        }
        // llm.c stores the number as a signed 32-bit integer.
        let most = i32::MAX as u64;
        if self.shard_tokens == 0 || self.shard_tokens > most {
            return error("the tokens of a shard", self.shard_tokens.to_string(), format!("from 1 to {most}"));
        }
        if self.end_of_text && tokenizer.end_of_text().is_none() {
            let expected = "false, since this tokenizer has no such token (--end-of-text false)".to_owned();
            return error("end of text", "true".to_owned(), expected);
        }
        let specials = tokenizer.special_texts();
        if self.special_tokens == SpecialTokens::Ids
            && let Some(special) = specials.iter().find(|text| text.contains(char::is_whitespace))
        {
            // Long texts are cut before white space, so a token must not contain it.
            let expected = format!(
                "text, since this tokenizer has a special token with white space in it, {special:?} (--special-tokens text)"
            );
            return error("the meaning of special tokens", "ids".to_owned(), expected);
        }
        Ok(())
    }

    /// How the files are read.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            field: self.field.clone(),
            column: self.column.clone(),
            read_as: self.read_as,
            special_tokens: self.special_tokens,
            strip_gutenberg: self.strip_gutenberg,
            normalise: self.normalise,
            dedup: self.dedup,
        }
    }

    /// The same options for files that are read as `reading` says.
    #[must_use]
    pub fn with_reading(self, reading: ReadOptions) -> PrepareOptions {
        let ReadOptions { field, column, read_as, special_tokens, strip_gutenberg, normalise, dedup } = reading;
        PrepareOptions { field, column, read_as, special_tokens, strip_gutenberg, normalise, dedup, ..self }
    }

    /// Whether `<|endoftext|>` in a text separates documents.
    pub(super) fn separates(&self, tokenizer: &dyn Tokenizer) -> bool {
        self.special_tokens == SpecialTokens::Ids && tokenizer.end_of_text().is_some()
    }
}
