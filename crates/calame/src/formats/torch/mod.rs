//! Files of PyTorch's: read without running anything, and written as `torch.save` writes them.

mod pickle;
mod read;
mod record;
mod source;
mod write;

pub use read::{PlainValue, TorchDtype, TorchFile, TorchFileError, TorchTensor};
pub(super) use record::Record;
pub(super) use source::TorchSource;
pub use write::write_torch;
