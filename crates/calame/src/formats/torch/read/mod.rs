//! Files that torch.save writes (`.pt`, `.pth`, `pytorch_model.bin`), read without Python and without running anything.
//!
//! Both layouts are read: zip archives, and what PyTorch wrote before 1.6. The object in the file is a pickle, which is
//! read as data (`pickle.rs`); its tensors are views of storages, which are read by position, a piece at a time.
//! Source: PyTorch's `torch/serialization.py` and `torch/_utils.py`.

mod archive;
mod bytes;
mod dtype;
mod error;
mod file;
mod legacy;
mod objects;
mod plain;
mod strided;

pub use dtype::TorchDtype;
pub use error::TorchFileError;
pub use file::{TorchFile, TorchTensor};
pub use plain::PlainValue;
