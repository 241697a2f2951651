//! Model files: reading and writing the weights, shape and tokenizer of a model in calame's format and those of other programs.
//!
//! A saved model is a folder in Hugging Face's layout. It is written under another name, synced and then renamed, so that a
//! model that existed before stays intact until the new one is complete.
//!
//! One folder per format: `hugging_face`, `safetensors`, `torch` (PyTorch), `gguf` (llama.cpp), `onnx`, `llmc` (llm.c). Each reader gives a [`TensorSource`]; `names` has the tables of other programs' parameter names, `matching` finds
//! every parameter or lists what does not fit, and [`ModelFile`] reads parameters in calame's own layout.

mod as_stored;
mod error;
mod gguf;
mod head;
mod hugging_face;
mod inside;
pub(crate) mod json;
mod llmc;
mod matching;
mod model_file;
mod names;
mod narrow;
mod onnx;
mod open;
mod opened;
mod own;
pub(crate) mod safetensors;
mod shape;
mod source;
mod torch;
mod transpose;

pub use self::safetensors::write_tensor;
pub use error::CheckpointError;
pub use gguf::{write_gguf, write_gguf_as};
pub use hugging_face::{load_tokenizer, save_model, write_hugging_face, write_hugging_face_as};
pub use model_file::{ModelFile, SavedModel};
pub use narrow::verify_narrowed;
pub use onnx::{OnnxCheck, OnnxFile, verify_onnx, write_onnx};
pub use open::{KnownSettings, find_model, load_model};

pub use opened::Format;
pub use own::{is_model_file_name, not_an_export, not_logits};
pub use source::{StoredTensor, TensorSource};
pub use torch::{PlainValue, TorchDtype, TorchFile, TorchFileError, TorchTensor, write_torch};
