//! The one way to touch the disk: atomic replacement, locks, reads by position and up to a limit, and checksums.
//!
//! [`replace_file`] and [`replace_folder`] write beside their destination, sync and rename, so that a file or folder that
//! existed before stays intact until its successor is complete: through a kill, a full disk or a power cut. [`create_file`]
//! and [`create_folder_locked`] never replace anything. [`PathLock`] keeps two programs from using one path at the same time.
//! [`PositionedFile`] is read by position from several threads; [`read_at_most`] bounds the memory that a file can cost;
//! [`open_file`] refuses FIFOs and devices, whose reads may never end; [`Sha256`], [`sha256_of_file`] and
//! [`crc32_of_file`] compute checksums. All of them fail with a [`FileError`].

mod error;
mod hash;
mod limited;
mod lock;
mod open;
mod positioned;
mod rename;
mod replace;
mod same;
mod temporary;

pub use error::FileError;
pub use hash::{Crc32, Sha256, crc32_of_file, sha256_hex, sha256_of_file, sha256_of_reader};
pub use limited::{read_at_most, read_text_at_most};
pub use lock::{LockError, PathLock, describe_process, is_folder_locked, is_lock_name, lock_folder};
pub use open::{create_log, create_new_file, open_file, open_log, reopen_unfinished, restart_unfinished};
pub use positioned::PositionedFile;
pub use replace::{
    create_file, create_folder_locked, create_folders, create_parent_folder, move_folder, remove_file_if_exists,
    remove_folder_if_exists, rename_synced, replace_bytes, replace_file, replace_folder, replace_folder_locked,
    replace_shared_file, write_new_file,
};
pub use temporary::{is_temporary_name, remove_abandoned};
