//! Models and training states as files.
//!
//! A saved model is a folder in Hugging Face's layout; a training checkpoint is a folder of calame's own. Both are written
//! under another name, synced and then renamed, so that what stood before stands whole until the new one does.

mod error;
mod gguf;
mod hugging_face;
mod inside;
mod json;
mod llmc;
mod matching;
mod model_file;
mod names;
mod onnx;
mod open;
mod opened;
mod pickle;
mod progress;
mod safetensors_files;
mod shape;
mod source;
mod tensor_file;
mod tensor_write;
mod torch_file;
mod torch_record;
mod torch_source;
mod torch_write;
mod training;
mod transpose;

pub use error::CheckpointError;
pub use gguf::write_gguf;
pub use hugging_face::{save_model, write_hugging_face};
pub use model_file::{ModelFile, SavedModel};
pub use onnx::{OnnxCheck, OnnxFile, verify_onnx, write_onnx};
pub use open::{find_model, load_model};
pub use opened::Format;
pub use progress::{Best, Progress, Usual};
pub use source::{StoredTensor, TensorSource};
pub use tensor_write::write_tensor;
pub use torch_file::{PlainValue, TorchDtype, TorchFile, TorchFileError, TorchTensor};
pub use torch_write::write_torch;
pub use training::{
    TrainingState, clear_partial, latest_checkpoint, load_training, save_best, save_training, sound_checkpoint,
    take_best, verify_checkpoint,
};
