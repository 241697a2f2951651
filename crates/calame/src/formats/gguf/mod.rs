//! GGUF, llama.cpp's format: metadata, tokenizer and tensors in one file.
//!
//! A header ([`header`]) lists keys with values and the tensors with their offsets; the tensor data follows. A GPT-2 is
//! recognised by `general.architecture` ([`metadata`] lists its keys). Linear weights have our layout, [out, in].
//! Properties that only calame has are stored under keys that begin with `calame.`; other programs ignore them.
//!
//! Source: `docs/gguf.md` of ggml-org/ggml, and `convert_hf_to_gguf.py` of ggml-org/llama.cpp for GPT-2's keys.

mod file;
mod header;
mod metadata;
mod types;
mod write;

pub(super) use file::{is_written_by_calame, open};
pub(super) use header::MAGIC;
pub use write::{write_gguf, write_gguf_as};
