//! How files are read as documents: the options that every verb which reads text shares.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// What the text of a special token, such as `<|endoftext|>`, is in a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// The token: `<|endoftext|>` separates documents and becomes the tokenizer's end-of-text id, other special tokens
    /// become theirs.
    #[default]
    Ids,
    /// Ordinary text, like any other.
    Text,
}

impl<'de> Deserialize<'de> for SpecialTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SpecialTokens, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Ids,
            Text,
        }
        /// Manifests of earlier versions have a bool, `allow_special`.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Allowed(bool),
            Name(Name),
        }
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Allowed(true) | Stored::Name(Name::Ids) => SpecialTokens::Ids,
            Stored::Allowed(false) | Stored::Name(Name::Text) => SpecialTokens::Text,
        })
    }
}

/// Unicode normalisation applied to the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// No normalisation: the text is used unchanged.
    #[default]
    None,
    /// Canonical composition: é is one character, however it was written.
    Nfc,
}

/// How the contents of a file that is not Parquet are understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadAs {
    /// As its ending and its beginning say: text, or lines of JSON. Other structured data is refused.
    #[default]
    Auto,
    /// As plain text, whatever its beginning looks like.
    Text,
    /// As lines of JSON, whatever its ending.
    Jsonl,
}

/// How files are read as documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The field of a JSON line that contains the document.
    pub field: String,
    /// The column of a Parquet file that contains the document.
    pub column: String,
    /// How a file's contents are understood.
    pub read_as: ReadAs,
    /// What special tokens in a text are.
    pub special_tokens: SpecialTokens,
    /// Whether Project Gutenberg's header and licence are removed.
    pub strip_gutenberg: bool,
    /// Unicode normalisation applied to the text.
    pub normalise: Normalisation,
    /// Whether documents equal to an earlier one are dropped.
    pub dedup: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions {
            field: "text".to_owned(),
            column: "text".to_owned(),
            read_as: ReadAs::Auto,
            special_tokens: SpecialTokens::Ids,
            strip_gutenberg: false,
            normalise: Normalisation::None,
            dedup: false,
        }
    }
}
