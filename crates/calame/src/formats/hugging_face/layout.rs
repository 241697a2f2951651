//! The names of a folder's files.

pub(in crate::formats) const CONFIG: &str = "config.json";
pub(in crate::formats) const WEIGHTS: &str = "model.safetensors";
pub(in crate::formats) const TOKENIZER: &str = "tokenizer.json";
/// GPT-2's original pair of files instead of a tokenizer.json.
pub(in crate::formats) const VOCAB: &str = "vocab.json";
pub(in crate::formats) const MERGES: &str = "merges.txt";
/// The tokens added to that pair: their ids, the special ones by their role, and both with all settings.
pub(in crate::formats) const ADDED_TOKENS: &str = "added_tokens.json";
pub(in crate::formats) const SPECIAL_TOKENS: &str = "special_tokens_map.json";
pub(in crate::formats) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(in crate::formats) const GENERATION: &str = "generation_config.json";
