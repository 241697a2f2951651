//! GGUF, llama.cpp's files: metadata, tokenizer and tensors in one.
//!
//! A header ([`header`]) of keys with values and of tensors' places, then the tensors' bytes. A GPT-2 is known by
//! `general.architecture` ([`metadata`] has its keys); linear weights stand as ours, [out, in]. What calame alone knows
//! stands in keys that begin with `calame.`; whoever does not know them passes over them.
//!
//! Source: `docs/gguf.md` of ggml-org/ggml, and `convert_hf_to_gguf.py` of ggml-org/llama.cpp for what a GPT-2 has.

mod file;
mod header;
mod metadata;
mod write;

pub(super) use file::open;
pub(super) use header::MAGIC;
pub use write::write_gguf;
