//! The section `[tokenizer]` of a run's configuration.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bpe, MAX_FILE_BYTES, SimpleTokenizer, Tokenizer, TokenizerError, read_json};
use crate::files::read_text_at_most;

/// Which tokenizer a run uses: section `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// `gpt2`; `simple-v1` or `simple-v2`, which are built from the training text; or the path of a `tokenizer.json`.
    pub kind: String,
}

impl Default for TokenizerConfig {
    fn default() -> TokenizerConfig {
        TokenizerConfig { kind: "gpt2".to_owned() }
    }
}

impl TokenizerConfig {
    /// Builds the tokenizer that `kind` names. `text` is the training text: `simple-v1` and `simple-v2` take
    /// their words from it, the others ignore it.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownKind`] if `kind` is neither a name nor a file; [`TokenizerError::NoWords`] for
    /// a text without words; the errors of [`read_json`] for a file.
    pub fn build(&self, text: &str) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
        Ok(match self.kind.as_str() {
            "gpt2" => Bpe::gpt2(),
            "simple-v1" => Arc::new(SimpleTokenizer::v1(text)?),
            "simple-v2" => Arc::new(SimpleTokenizer::v2(text)?),
            path if Path::new(path).is_file() => {
                let path = Path::new(path);
                return read_json(&read_text_at_most(path, MAX_FILE_BYTES)?, path);
            }
            other => return Err(TokenizerError::UnknownKind { kind: other.to_owned() }),
        })
    }
}
