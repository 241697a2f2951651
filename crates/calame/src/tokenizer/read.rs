//! Reads a tokenizer of any kind.

use std::path::Path;
use std::sync::Arc;

use super::base::Tokenizer;
use super::bpe::Bpe;
use super::error::TokenizerError;
use super::json;
use super::words::SimpleTokenizer;

/// Maximum size in bytes of a tokenizer's file; one with a million tokens has about 100 MB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Reads a `tokenizer.json` written by any [`Tokenizer`] of this crate, and any other byte-level BPE in Hugging
/// Face's format that encodes like GPT-2's. `path` only names the file in errors.
///
/// # Errors
/// [`TokenizerError::Json`] and [`TokenizerError::Unsupported`]; both name the file.
pub fn read_json(text: &str, path: &Path) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    let file = json::File::parse(text, path)?;
    match file.model_type() {
        Some("BPE") => Ok(Bpe::from_file(file)?),
        Some("WordLevel") => Ok(Arc::new(SimpleTokenizer::from_file(file)?)),
        _ => {
            let found = json::shown(file.model.get("type"));
            Err(file.unsupported("model type", "\"BPE\" or \"WordLevel\"", found))
        }
    }
}
