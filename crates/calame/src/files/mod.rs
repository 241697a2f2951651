//! The library's one way to touch the disk: atomic replacement, positioned reads, limited reads and checksums.
//!
//! [`replace_file`] and [`replace_folder`] write beside their destination, sync and rename, so that a file or folder that
//! existed before stays intact until its successor is complete: through a kill, a full disk or a power cut.
//! [`PositionedFile`] is read by position from several threads; [`read_at_most`] bounds the memory that a file can cost;
//! [`Sha256`], [`sha256_of_file`] and [`crc32_of_file`] compute checksums. All of them fail with a [`FileError`].

mod error;
mod hash;
mod limited;
mod positioned;
mod replace;

pub use error::FileError;
pub use hash::{Crc32, Sha256, crc32_of_file, sha256_hex, sha256_of_file, sha256_of_reader};
pub use limited::{read_at_most, read_text_at_most};
pub use positioned::PositionedFile;
pub use replace::{
    create_parent_folder, move_folder, remove_file_if_exists, remove_folder_if_exists, rename_synced, replace_bytes,
    replace_file, replace_folder, replace_shared_file, unfinished_path, write_new_file,
};
