//! Elements on their way from and to files.

use std::borrow::Cow;

use super::{read, write};
use crate::device::Device;
use crate::tensor::Tensor;

impl Device {
    /// The elements of an f32 tensor, to be written to a file: in place where they are in this machine's memory, else a copy.
    pub(crate) fn host_elements<'a>(&self, x: &'a Tensor) -> Cow<'a, [f32]> {
        if self.is_host() {
            return Cow::Borrowed(x.host());
        }
        Cow::Owned(read(self, x))
    }

    /// Lets `f` overwrite the elements of an f32 tensor, as a file is read: in place where they are in this machine's memory,
    /// else by way of a copy. After an error the elements are unspecified.
    ///
    /// # Errors
    /// That of `f`.
    pub(crate) fn overwrite<E>(&self, x: &mut Tensor, f: impl FnOnce(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        if self.is_host() {
            return f(x.host_mut());
        }
        let mut elements = vec![0.0; x.len()];
        f(&mut elements)?;
        write(self, &elements, x);
        Ok(())
    }
}
