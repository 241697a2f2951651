//! Models and training states as files.
//!
//! A saved model is a folder in Hugging Face's layout; a training checkpoint is a folder of calame's own. Both are written
//! under another name, synced and then renamed, so that what stood before stands whole until the new one does.

mod atomic;
mod error;
mod hugging_face;
mod names;
mod pickle;
mod tensor_file;
mod torch_file;
mod training;

pub(crate) use atomic::put_in_place;
pub use error::CheckpointError;
pub use hugging_face::{SavedModel, find_model, load_model, read_config, save_model};
pub use tensor_file::write_tensor;
pub use torch_file::{PlainValue, TorchDtype, TorchFile, TorchFileError, TorchTensor};
pub use training::{Progress, latest_checkpoint, load_training, save_training};
