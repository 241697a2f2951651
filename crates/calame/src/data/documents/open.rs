//! Files as decompressed byte streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::error::DocumentError;
use super::kind::{Compression, DocumentSource};
use crate::files;

/// Bytes read from a file per system call: enough that the calls cost little next to decompression.
const BUFFER_BYTES: usize = 256 * 1024;

/// Counts the bytes read from files, so that another thread can report progress. Clones share one counter.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Bytes read from the files so far, in their compressed form.
    pub fn n_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds `n_bytes` to the count of all clones.
    pub(crate) fn add(&self, n_bytes: u64) {
        self.0.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.meter.add(n as u64);
        Ok(n)
    }
}

/// A byte stream that can be moved to another thread.
pub(super) type Bytes = Box<dyn Read + Send>;

/// Opens a text or JSON file, decompressing it if needed.
pub(super) fn open(source: &DocumentSource, meter: &Meter) -> Result<Bytes, DocumentError> {
    if let Some(text) = source.content {
        meter.add(text.len() as u64);
        return Ok(Box::new(text.as_bytes()));
    }
    let file = open_file(&source.path)?;
    let file = BufReader::with_capacity(BUFFER_BYTES, Metered { inner: file, meter: meter.clone() });
    Ok(match source.compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(GzipMembers { member: None, file: Some(file) }),
        Compression::Zstd => Box::new(ZstdFrames { file, decoder: FrameDecoder::new(), is_inside: false }),
    })
}

pub(super) fn open_file(path: &Path) -> Result<File, DocumentError> {
    files::open_file(path).map_err(|error| DocumentError::unreadable(path)(error.source))
}

/// Reads the members of a .gz file, which may contain several, and zeros after the last one, as written to tapes and by
/// tools that fill blocks. gzip(1) ignores these too.
struct GzipMembers<R> {
    /// The member that is being read, which holds the file then.
    member: Option<GzDecoder<R>>,
    file: Option<R>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(mut member) = self.member.take() {
                let n = member.read(out)?;
                if n > 0 || out.is_empty() {
                    self.member = Some(member);
                    return Ok(n);
                }
                let mut file = member.into_inner();
                let is_end = skip_zeros(&mut file)?;
                self.file = Some(file);
                if is_end {
                    return Ok(0);
                }
            }
            let Some(mut file) = self.file.take() else { return Ok(0) };
            if file.fill_buf()?.is_empty() {
                self.file = Some(file);
                return Ok(0);
            }
            self.member = Some(GzDecoder::new(file));
        }
    }
}

/// Skips zeros; returns whether the file ends with them.
fn skip_zeros(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let found = file.fill_buf()?;
        if found.is_empty() {
            return Ok(true);
        }
        let n_zeros = found.iter().take_while(|byte| **byte == 0).count();
        let is_end_of_zeros = n_zeros < found.len();
        file.consume(n_zeros);
        if is_end_of_zeros {
            return Ok(false);
        }
    }
}

/// Reads the frames of a .zst file, which may contain several.
struct ZstdFrames {
    file: BufReader<Metered<File>>,
    decoder: FrameDecoder,
    is_inside: bool,
}

impl Read for ZstdFrames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let invalid = |error: FrameDecoderError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        loop {
            if !self.is_inside && !self.next_frame()? {
                return Ok(0);
            }
            while !self.decoder.is_finished() && self.decoder.can_collect() < out.len() {
                let wanted = BlockDecodingStrategy::UptoBytes(out.len() - self.decoder.can_collect());
                self.decoder.decode_blocks(&mut self.file, wanted).map_err(invalid)?;
            }
            let n = self.decoder.read(out)?;
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            self.check_frame()?;
            self.is_inside = false;
        }
    }
}

impl ZstdFrames {
    /// Advances to the next frame with data, skipping skippable frames; returns false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.file.fill_buf()?.is_empty() {
            let length = match self.decoder.reset(&mut self.file) {
                Ok(()) => {
                    self.is_inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => length,
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            };
            let skipped = io::copy(&mut self.file.by_ref().take(u64::from(length)), &mut io::sink())?;
            if skipped < u64::from(length) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }

    /// Compares the optional checksum of a finished frame.
    fn check_frame(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(expected), Some(found)) if expected != found => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's checksum is another"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn zeros_after_the_last_member_are_ignored() {
        let gzip = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let read = |bytes: &[u8]| {
            let file = BufReader::with_capacity(7, bytes);
            io::read_to_string(GzipMembers { member: None, file: Some(file) })
        };
        let two = [gzip("one "), gzip("two")].concat();
        assert_eq!(read(&two).unwrap(), "one two");
        assert_eq!(read(&[&two[..], &[0; 512]].concat()).unwrap(), "one two");
        assert_eq!(read(&[&gzip("one ")[..], &[0; 9], &gzip("two")].concat()).unwrap(), "one two");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(&two[..two.len() - 4]).is_err(), "cut off");
        assert!(read(&[&two[..], b"garbage"].concat()).is_err());
        assert!(read(&[0; 512]).is_err(), "no member at all");
    }
}
