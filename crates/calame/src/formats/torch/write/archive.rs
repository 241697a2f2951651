//! Writes zip archives like PyTorch's: stored entries whose data starts at multiples of 64 bytes.
//!
//! An archive is written from start to end, so sizes and checksums precede the data, and an entry that is not in memory
//! is produced twice. Sizes and offsets beyond 32 bits go into the 64-bit fields.
//! Source: PKWARE's APPNOTE.TXT, 4.3 and 4.5; PyTorch's `caffe2/serialize/inline_container.cc`.

use std::io::{self, Write};

use crate::files::Crc32;

/// PyTorch maps storages from files, and vector loads are fastest on whole cache lines.
pub(super) const ALIGNMENT: u64 = 64;
const LOCAL_HEADER_BYTES: u64 = 30;
const WIDE: u64 = 0xffff_ffff;
/// Extra field of 64-bit sizes, and the one that PyTorch uses for padding.
const WIDE_FIELD: u64 = 1;
const PADDING_FIELD: u64 = u16::from_le_bytes(*b"FB") as u64;
/// Version 4.5 of the zip format, the first with 64-bit fields.
const VERSION: u64 = 45;
/// General purpose flag: names are UTF-8.
const FLAGS: u64 = 0x800;

/// An archive being written to `W`.
pub(super) struct Archive<'a, W> {
    to: &'a mut W,
    /// Offset of the next byte.
    at: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    at: u64,
    n_bytes: u64,
    crc: u32,
}

impl<'a, W: Write> Archive<'a, W> {
    /// Starts an archive at offset `at` of the file, which is 0 except in tests.
    pub fn new(to: &'a mut W, at: u64) -> Archive<'a, W> {
        Archive { to, at, entries: Vec::new() }
    }

    /// Writes an entry whose data is in memory.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.add_pieces(name, || std::iter::once(bytes))
    }

    /// Writes an entry whose pieces `make` produces twice, identically: once for size and checksum, once for the file.
    pub fn add_pieces<P, I>(&mut self, name: &str, make: impl Fn() -> I) -> io::Result<()>
    where
        P: AsRef<[u8]>,
        I: Iterator<Item = P>,
    {
        let (mut n_bytes, mut crc) = (0, Crc32::new());
        for piece in make() {
            n_bytes += piece.as_ref().len() as u64;
            crc.update(piece.as_ref());
        }
        self.begin(Entry { name: name.to_owned(), at: self.at, n_bytes, crc: crc.finish() })?;
        make().try_for_each(|piece| self.put(piece.as_ref()))
    }

    /// Writes the header that precedes an entry's data.
    fn begin(&mut self, entry: Entry) -> io::Result<()> {
        let mut extra = Vec::new();
        let narrow = entry.n_bytes.min(WIDE);
        if narrow == WIDE {
            fields(&mut extra, &[(WIDE_FIELD, 2), (16, 2), (entry.n_bytes, 8), (entry.n_bytes, 8)]);
        }
        let bare = self.at + LOCAL_HEADER_BYTES + (entry.name.len() + extra.len()) as u64 + 4;
        let padding = bare.next_multiple_of(ALIGNMENT) - bare;
        fields(&mut extra, &[(PADDING_FIELD, 2), (padding, 2)]);
        extra.resize(extra.len() + padding as usize, b'Z');
        let mut header = b"PK\x03\x04".to_vec();
        // No compression, no time stamp.
        fields(&mut header, &[(VERSION, 2), (FLAGS, 2), (0, 2), (0, 4), (u64::from(entry.crc), 4)]);
        fields(&mut header, &[(narrow, 4), (narrow, 4), (entry.name.len() as u64, 2), (extra.len() as u64, 2)]);
        header.extend(entry.name.bytes());
        header.extend(extra);
        self.entries.push(entry);
        self.put(&header)
    }

    /// Writes the directory, which completes the archive.
    pub fn finish(mut self) -> io::Result<()> {
        let (at, n_entries) = (self.at, self.entries.len() as u64);
        let directory: Vec<u8> = self.entries.iter().flat_map(directory_entry).collect();
        self.put(&directory)?;
        let n_bytes = directory.len() as u64;
        let mut end = Vec::new();
        if at >= WIDE || n_bytes >= WIDE || n_entries >= 0xffff {
            let end_at = self.at;
            end.extend(b"PK\x06\x06");
            fields(&mut end, &[(44, 8), (VERSION, 2), (VERSION, 2), (0, 4), (0, 4)]);
            fields(&mut end, &[(n_entries, 8), (n_entries, 8), (n_bytes, 8), (at, 8)]);
            end.extend(b"PK\x06\x07");
            fields(&mut end, &[(0, 4), (end_at, 8), (1, 4)]);
        }
        let n_entries = n_entries.min(0xffff);
        end.extend(b"PK\x05\x06");
        fields(&mut end, &[(0, 2), (0, 2), (n_entries, 2), (n_entries, 2)]);
        fields(&mut end, &[(n_bytes.min(WIDE), 4), (at.min(WIDE), 4), (0, 2)]);
        self.put(&end)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// An entry's record in the directory.
fn directory_entry(entry: &Entry) -> Vec<u8> {
    let mut extra = Vec::new();
    let (n_bytes, at) = (entry.n_bytes.min(WIDE), entry.at.min(WIDE));
    if n_bytes == WIDE {
        fields(&mut extra, &[(entry.n_bytes, 8), (entry.n_bytes, 8)]);
    }
    if at == WIDE {
        fields(&mut extra, &[(entry.at, 8)]);
    }
    if !extra.is_empty() {
        let mut field = Vec::new();
        fields(&mut field, &[(WIDE_FIELD, 2), (extra.len() as u64, 2)]);
        extra.splice(..0, field);
    }
    let mut header = b"PK\x01\x02".to_vec();
    fields(&mut header, &[(VERSION, 2), (VERSION, 2), (FLAGS, 2), (0, 2), (0, 4), (u64::from(entry.crc), 4)]);
    fields(&mut header, &[(n_bytes, 4), (n_bytes, 4), (entry.name.len() as u64, 2), (extra.len() as u64, 2)]);
    // No comment, first disk, no attributes.
    fields(&mut header, &[(0, 2), (0, 2), (0, 2), (0, 4), (at, 4)]);
    header.extend(entry.name.bytes());
    header.extend(extra);
    header
}

/// Appends little-endian numbers of the given widths.
fn fields(to: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (number, width) in numbers {
        to.extend(&number.to_le_bytes()[..*width]);
    }
}
