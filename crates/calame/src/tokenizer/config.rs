//! The section `[tokenizer]` of a run's configuration.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bpe, SimpleTokenizer, Tokenizer, TokenizerError, read_json};
use crate::files::read_text_at_most;

/// The tokenizer of a vocabulary of a million tokens has some 100 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Which tokenizer turns the text into tokens: section `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// `gpt2`, or one built from the training text: `simple-v1`, `simple-v2`; or the path of a `tokenizer.json`.
    pub kind: String,
}

impl Default for TokenizerConfig {
    fn default() -> TokenizerConfig {
        TokenizerConfig { kind: "gpt2".to_owned() }
    }
}

impl TokenizerConfig {
    /// The tokenizer that `kind` names. `text` is the training text: `simple-v1` and `simple-v2` take their words from it, the
    /// others ignore it.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownKind`] if `kind` is neither a name nor a file; [`TokenizerError::NoWords`] for a text without
    /// words; as [`read_json`] for a file.
    pub fn build(&self, text: &str) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
        Ok(match self.kind.as_str() {
            "gpt2" => Bpe::gpt2(),
            "simple-v1" => Arc::new(SimpleTokenizer::v1(text)?),
            "simple-v2" => Arc::new(SimpleTokenizer::v2(text)?),
            path if Path::new(path).is_file() => {
                let path = Path::new(path);
                return read_json(&read_text_at_most(path, MAX_JSON_BYTES)?, path);
            }
            other => return Err(TokenizerError::UnknownKind { kind: other.to_owned() }),
        })
    }
}
