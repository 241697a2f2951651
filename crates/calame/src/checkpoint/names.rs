//! How one format's names map to another's.

/// Hugging Face's prefix of everything but the head.
pub(super) const HF_PREFIX: &str = "transformer.";

/// Whether Hugging Face stores this parameter as a `Conv1D`: [in, out], the transpose of ours.
pub(super) fn is_conv1d(path: &str) -> bool {
    matches!(path, "attn.c_attn.weight" | "attn.c_proj.weight" | "mlp.c_fc.weight" | "mlp.c_proj.weight")
}

/// Our name of a key in a Hugging Face file; None for what is no parameter (the causal mask and its fill value).
pub(super) fn from_hugging_face(key: &str) -> Option<&str> {
    let name = key.strip_prefix(HF_PREFIX).unwrap_or(key);
    let mask = name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
    if mask { None } else { Some(name) }
}

/// The key of one of our names in a Hugging Face file.
pub(super) fn to_hugging_face(name: &str) -> String {
    if name == "lm_head.weight" { name.to_owned() } else { format!("{HF_PREFIX}{name}") }
}
