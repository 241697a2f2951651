//! Reads files written by torch.save (`.pt`, `.pth`, `pytorch_model.bin`) without Python and without executing
//! anything.
//!
//! Both layouts are supported: zip archives, and the layout of PyTorch before version 1.6. The saved object is a
//! pickle, which is read as data (`pickle.rs`). Its tensors are views of storages, which are read by position, piece by
//! piece.
//! Source: PyTorch's `torch/serialization.py` and `torch/_utils.py`.

mod archive;
mod beside;
mod bytes;
mod dtype;
mod error;
mod file;
mod legacy;
mod objects;
mod plain;
mod strided;

pub(super) use beside::CONFIG_KEYS;
pub use dtype::TorchDtype;
pub use error::TorchFileError;
pub use file::{TorchFile, TorchTensor};
pub use plain::PlainValue;
