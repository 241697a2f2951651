//! The layout of the hub's cache folder, as of its own library: `models--OWNER--NAME/` with `blobs/` (files by their
//! hash), `snapshots/REVISION/` (links to them, by their names) and `refs/main` (the newest revision).

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use calame::files::{
    FileError, create_parent_folder, open_file, open_log, read_text_at_most, remove_file_if_exists, rename_synced,
    reopen_unfinished, replace_shared_file, sha256_of_file,
};

/// Maximum size of a reference in bytes.
const MAX_REFERENCE_BYTES: u64 = 4096;

/// The cached files of one model.
pub struct ModelCache {
    folder: PathBuf,
}

impl ModelCache {
    /// The cache of the model `name`, in the folder of all models.
    pub fn new(models: &Path, name: &str) -> ModelCache {
        ModelCache { folder: models.join(format!("models--{}", name.replace('/', "--"))) }
    }

    /// The folder with everything of the model.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a revision.
    pub fn snapshot(&self, sha: &str) -> PathBuf {
        self.folder.join("snapshots").join(sha)
    }

    /// The path of a file by its hash.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The newest revision whose files are complete, if there is one.
    pub fn reference(&self) -> Option<String> {
        let text = read_text_at_most(&self.folder.join("refs").join("main"), MAX_REFERENCE_BYTES).ok()?;
        Some(text.trim().to_owned())
    }

    /// Records the newest revision.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_reference(&self, sha: &str) -> Result<()> {
        let path = self.folder.join("refs").join("main");
        create_parent_folder(&path)?;
        Ok(replace_shared_file(&path, |file| file.write_all(sha.as_bytes()).map_err(FileError::new("write", &path)))?)
    }

    /// Gives a file its name in a revision.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn link(&self, etag: &str, path: &Path) -> Result<()> {
        create_parent_folder(path)?;
        // A link may be left whose target was removed, or which another program has just made.
        remove_file_if_exists(path)?;
        match symlink(&Path::new("../../blobs").join(etag), path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => Ok(()),
            // Where links are not permitted, as on Windows, the snapshot has a copy.
            Err(_) => copy(&self.blob(etag), path),
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = open_file(from)?;
    let copy =
        |file: &mut io::BufWriter<File>| io::copy(&mut source, file).map(drop).map_err(FileError::new("write", to));
    Ok(replace_shared_file(to, copy)?)
}

/// A file that is being downloaded, as `ETAG.part`; only the holder of the blob's lock opens it.
pub struct Partial {
    path: PathBuf,
    blob: PathBuf,
    file: File,
    n_bytes: u64,
}

impl Partial {
    /// Opens what earlier transfers have received of a file of `n_bytes` bytes; nothing if they have received more.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(blob: &Path, n_bytes: u64) -> Result<Partial> {
        let mut name = blob.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = blob.with_file_name(name);
        create_parent_folder(&path)?;
        drop(open_log(&path)?);
        let file = reopen_unfinished(&path)?;
        let found = file.metadata().map_err(FileError::new("read", &path))?.len();
        let mut partial = Partial { path, blob: blob.to_owned(), file, n_bytes: found };
        if found >= n_bytes {
            partial.cut(0)?;
        }
        Ok(partial)
    }

    /// Bytes received so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Writes the next piece. A piece at position 0 starts again.
    ///
    /// # Errors
    /// If the system refuses, or the piece neither follows the one before it nor is the first.
    pub fn write(&mut self, at: u64, piece: &[u8]) -> io::Result<()> {
        if at == 0 && self.n_bytes > 0 {
            self.cut(0)?;
        }
        if at != self.n_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(piece)?;
        self.n_bytes += piece.len() as u64;
        Ok(())
    }

    fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
        self.file.set_len(n_bytes)?;
        self.n_bytes = n_bytes;
        Ok(())
    }

    /// Waits until what was received is on the disk.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync(&self) -> Result<()> {
        Ok(self.file.sync_all().map_err(FileError::new("write", &self.path))?)
    }

    /// Removes what was received.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn discard(self) -> Result<()> {
        Ok(remove_file_if_exists(&self.path)?)
    }

    /// Checks the size of the file, and its SHA-256 if the hub uses that as its ETag, as for large files. Then gives it its
    /// name.
    ///
    /// # Errors
    /// If it is not the expected file, which is then removed, or the system refuses.
    pub fn finish(self, n_bytes: u64, etag: &str) -> Result<()> {
        self.sync()?;
        let found = fs::metadata(&self.path).map_err(FileError::new("read", &self.path))?.len();
        if found != n_bytes {
            self.discard()?;
            bail!("{found} bytes were received, expected {n_bytes}");
        }
        if etag.len() == 64 {
            let found = sha256_of_file(&self.path, &mut |_| {})?;
            if found != etag {
                self.discard()?;
                bail!("the file received is a different one (SHA-256 {found}, expected {etag})");
            }
        }
        Ok(rename_synced(&self.path, &self.blob)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_continued_started_again_or_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blobs/ab.cd");
        let mut partial = Partial::open(&blob, 6).unwrap();
        partial.write(0, b"abc").unwrap();
        assert!(partial.write(2, b"x").is_err() && partial.write(4, b"x").is_err());
        drop(partial);
        let mut partial = Partial::open(&blob, 6).unwrap();
        assert_eq!(partial.n_bytes(), 3);
        partial.write(3, b"def").unwrap();
        partial.finish(6, "ab").unwrap();
        assert_eq!(fs::read(&blob).unwrap(), b"abcdef");
        // Too long a rest, and a server that ignores where the rest begins.
        for n_bytes in [3, 9] {
            let mut partial = Partial::open(&blob, 9).unwrap();
            partial.write(0, b"abc").unwrap();
            drop(partial);
            let mut partial = Partial::open(&blob, n_bytes).unwrap();
            partial.write(0, b"xy").unwrap();
            assert_eq!(partial.n_bytes(), 2);
            assert!(partial.finish(n_bytes, "ab").unwrap_err().to_string().starts_with("2 bytes were received"));
        }
        let mut partial = Partial::open(&blob, 2).unwrap();
        partial.write(0, b"ab").unwrap();
        assert!(partial.finish(2, &"0".repeat(64)).unwrap_err().to_string().contains("different one"));
        assert_eq!(fs::read(&blob).unwrap(), b"abcdef");
        assert_eq!(fs::read_dir(blob.parent().unwrap()).unwrap().count(), 1);
    }
}
