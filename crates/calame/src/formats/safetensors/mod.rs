//! Files of tensors in the safetensors format: one file, or several with an index.

mod file;
mod files;
mod write;

pub(crate) use file::TensorFile;
pub(super) use files::SafetensorsFiles;
pub use write::write_tensor;
pub(crate) use write::{Entry, write_tensors};
