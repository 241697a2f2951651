//! Locates the entries of the zip archives that torch.save writes since version 1.6.
//!
//! Entries are stored without compression, so a tensor can be read by position. Only the forms that PyTorch writes are
//! accepted: one disk, no encryption, no comment, no duplicate and no overlapping entries. The crate `zip` is not used:
//! a sparse file of 8 kB that claims 800 million entries made it abort the process.
//! Source: PKWARE's APPNOTE.TXT, 4.3 and 4.5; PyTorch's `caffe2/serialize/inline_container.cc`.

use std::collections::HashMap;
use std::ops::Range;

use super::bytes::Source;
use super::error::{TorchFileError, shown};

/// Maximum size of the directory in bytes; 100,000 entries take about 10 MB.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
const MAX_NAME_BYTES: usize = 1024;
const END_BYTES: u64 = 22;
const LOCATOR_BYTES: u64 = 20;
const END64_BYTES: u64 = 56;
const HEADER_BYTES: usize = 46;
const LOCAL_HEADER_BYTES: u64 = 30;
const STORED: u64 = 0;

/// Byte range of each entry, by name.
pub(super) type Entries = HashMap<String, Range<u64>>;

/// An entry as the directory describes it.
struct Header {
    name: String,
    local_at: u64,
    n_bytes: u64,
}

/// The directory as the end of the archive describes it.
struct Directory {
    at: u64,
    n_bytes: u64,
    n_entries: u64,
    /// Offset of the records that end the archive.
    end: u64,
}

/// Whether a file with these first bytes is a zip archive.
pub(super) fn is_archive(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
}

/// Reads the directory and checks every entry against the file and the other entries.
pub(super) fn entries(source: &Source) -> Result<Entries, TorchFileError> {
    let directory = find_directory(source)?;
    let headers = read_directory(source, &directory)?;
    let mut places = Vec::with_capacity(headers.len());
    for header in headers {
        let data = locate(source, &header, directory.at)?;
        places.push((header.local_at, data, header.name));
    }
    places.sort_unstable_by_key(|(local_at, ..)| *local_at);
    for pair in places.windows(2) {
        let ((_, data, name), (next, ..)) = (&pair[0], &pair[1]);
        if data.end > *next {
            let reason = format!("its bytes {}..{} reach into the entry at {next}", data.start, data.end);
            return Err(source.damaged(format!("entry {}", shown(name)), reason));
        }
    }
    let mut entries = Entries::with_capacity(places.len());
    for (_, data, name) in places {
        if let Some((name, _)) = entries.get_key_value(&name) {
            return Err(source.damaged(format!("entry {}", shown(name)), "it occurs twice"));
        }
        entries.insert(name, data);
    }
    Ok(entries)
}

/// Reads consecutive little-endian fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        Some(self.bytes(width)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn numbers<const N: usize>(&mut self, widths: [usize; N]) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for (number, width) in numbers.iter_mut().zip(widths) {
            *number = self.number(width)?;
        }
        Some(numbers)
    }
}

/// The fields of a fixed-size record after its signature; `None` if the signature differs.
fn record<const N: usize>(bytes: &[u8], signature: &[u8; 4], widths: [usize; N]) -> Option<[u64; N]> {
    Fields(bytes.strip_prefix(signature)?).numbers(widths)
}

fn find_directory(source: &Source) -> Result<Directory, TorchFileError> {
    let broken = |source: &Source, reason: &str| source.damaged("the archive's end", reason);
    let Some(end_at) = source.n_bytes().checked_sub(END_BYTES) else {
        return Err(broken(source, "the file is shorter than an archive can be"));
    };
    let bytes = source.read(end_at, END_BYTES)?;
    let Some([disk, first_disk, here, all, n_bytes, at, comment]) =
        record(&bytes, b"PK\x05\x06", [2, 2, 2, 2, 4, 4, 2])
    else {
        return Err(broken(source, "no record that ends a zip archive: it is truncated, or something follows it"));
    };
    let small = Directory { at, n_bytes, n_entries: all, end: end_at };
    let overflows = [disk, first_disk, here, all].contains(&0xffff) || [n_bytes, at].contains(&0xffff_ffff);
    let directory = match overflows {
        true => find_large_directory(source, end_at)?,
        false if (disk, first_disk, comment) == (0, 0, 0) && here == all => small,
        false => return Err(broken(source, "several disks or a comment, expected neither")),
    };
    if directory.at.checked_add(directory.n_bytes).is_none_or(|end| end > directory.end) {
        let reason =
            format!("a directory of {} bytes at {} in a file of {}", directory.n_bytes, directory.at, source.n_bytes());
        return Err(broken(source, &reason));
    }
    if directory.n_bytes > MAX_DIRECTORY_BYTES || directory.n_entries > directory.n_bytes / HEADER_BYTES as u64 {
        let reason = format!("{} entries in a directory of {} bytes", directory.n_entries, directory.n_bytes);
        return Err(broken(source, &reason));
    }
    Ok(directory)
}

/// Locates the directory of an archive with sizes beyond 32 bits.
fn find_large_directory(source: &Source, end_at: u64) -> Result<Directory, TorchFileError> {
    let find = || -> Result<Option<Directory>, TorchFileError> {
        let Some(locator_at) = end_at.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
        let locator = source.read(locator_at, LOCATOR_BYTES)?;
        let Some([_, at64, _]) = record(&locator, b"PK\x06\x07", [4, 8, 4]) else { return Ok(None) };
        if at64.checked_add(END64_BYTES).is_none_or(|end| end > locator_at) {
            return Ok(None);
        }
        let bytes = source.read(at64, END64_BYTES)?;
        let fields = record(&bytes, b"PK\x06\x06", [8, 2, 2, 4, 4, 8, 8, 8, 8]);
        let Some([_, _, _, disk, first_disk, here, all, n_bytes, at]) = fields else { return Ok(None) };
        let one_disk = (disk, first_disk) == (0, 0) && here == all;
        Ok(one_disk.then_some(Directory { at, n_bytes, n_entries: all, end: at64 }))
    };
    find()?.ok_or_else(|| source.damaged("the archive's end", "its 64-bit record is missing or broken"))
}

fn read_directory(source: &Source, directory: &Directory) -> Result<Vec<Header>, TorchFileError> {
    let bytes = source.read(directory.at, directory.n_bytes)?;
    let mut fields = Fields(&bytes);
    let mut headers = Vec::with_capacity(directory.n_entries as usize);
    for i in 0..directory.n_entries {
        let part = format!("entry {i} of the directory");
        let (header, method, flags) = match read_header(&mut fields) {
            Some(Ok(header)) => header,
            Some(Err(reason)) => return Err(source.damaged(part, reason)),
            None => return Err(source.damaged(part, "it is truncated or not an entry")),
        };
        let part = format!("entry {}", shown(&header.name));
        if method != STORED {
            return Err(source.damaged(part, format!("compressed by method {method}, expected no compression")));
        }
        if flags & 1 != 0 {
            return Err(source.damaged(part, "encrypted"));
        }
        headers.push(header);
    }
    Ok(headers)
}

/// An entry's header, its method and its flags; `None` if it is truncated.
fn read_header(fields: &mut Fields<'_>) -> Option<Result<(Header, u64, u64), String>> {
    if fields.bytes(4)? != b"PK\x01\x02" {
        return None;
    }
    let [_, _, flags, method, _, _, packed, size, name, extra, comment, disk, _, _, at] =
        fields.numbers([2, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4])?;
    let name = fields.bytes(name as usize)?;
    let extra = fields.bytes(extra as usize)?;
    fields.bytes(comment as usize)?;
    let Some([size, packed, at]) = widened([size, packed, at], extra) else {
        return Some(Err("sizes beyond 32 bits without their 64-bit fields".to_owned()));
    };
    let name = match std::str::from_utf8(name) {
        Ok(name) if name.len() <= MAX_NAME_BYTES => name.to_owned(),
        _ => return Some(Err(format!("a name that is longer than {MAX_NAME_BYTES} bytes or not UTF-8"))),
    };
    if disk != 0 {
        return Some(Err(format!("{} is on disk {disk}", shown(&name))));
    }
    if method == STORED && packed != size {
        return Some(Err(format!("{} claims {packed} bytes here and {size} unpacked", shown(&name))));
    }
    Some(Ok((Header { name, local_at: at, n_bytes: size }, method, flags)))
}

/// Replaces fields that are saturated at 32 bits by those of extra field 1, in order.
fn widened(mut narrow: [u64; 3], extra: &[u8]) -> Option<[u64; 3]> {
    if !narrow.contains(&0xffff_ffff) {
        return Some(narrow);
    }
    let mut extra = Fields(extra);
    loop {
        let [id, n_bytes] = extra.numbers([2, 2])?;
        let mut inside = Fields(extra.bytes(n_bytes as usize)?);
        if id == 1 {
            for number in narrow.iter_mut().filter(|number| **number == 0xffff_ffff) {
                *number = inside.number(8)?;
            }
            return Some(narrow);
        }
    }
}

/// The byte range of an entry's data, which ends before `limit`.
fn locate(source: &Source, header: &Header, limit: u64) -> Result<Range<u64>, TorchFileError> {
    let part = || format!("entry {}", shown(&header.name));
    let fits = |start: u64, n_bytes: u64| start.checked_add(n_bytes).filter(|end| *end <= limit);
    let outside = |source: &Source, n_bytes: u64| {
        let reason = format!("{n_bytes} bytes at {}, beyond the {limit} before the directory", header.local_at);
        source.damaged(part(), reason)
    };
    if fits(header.local_at, LOCAL_HEADER_BYTES).is_none() {
        return Err(outside(source, header.n_bytes));
    }
    let bytes = source.read(header.local_at, LOCAL_HEADER_BYTES)?;
    let widths = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2];
    let Some([.., method, _, _, _, _, _, name, extra]) = record(&bytes, b"PK\x03\x04", widths) else {
        return Err(source.damaged(part(), format!("no entry begins at {}", header.local_at)));
    };
    let name_at = header.local_at + LOCAL_HEADER_BYTES;
    let start = name_at + name + extra;
    let Some(end) = fits(start, header.n_bytes) else { return Err(outside(source, header.n_bytes)) };
    if method != STORED || name != header.name.len() as u64 || source.read(name_at, name)? != header.name.as_bytes() {
        return Err(source.damaged(part(), format!("another entry begins at {}", header.local_at)));
    }
    Ok(start..end)
}
