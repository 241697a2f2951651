//! The footer of a Parquet file, walked before the crate reads it: a list that claims more than the footer holds is refused.
//!
//! The crate takes memory for as many row groups as a footer claims; two thousand millions of them in thirty bytes would
//! end the program, and nothing catches that. The footer is an object in Thrift's compact protocol.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Length of the footer and the magic bytes, at the end of a file.
const TAIL_BYTES: u64 = 8;
/// Objects inside objects: a footer has about six.
const MAX_DEPTH: usize = 64;

/// What is wrong with the footer's lists; None where nothing is, or where it is no footer at all, which the crate tells better.
///
/// # Errors
/// What the system says.
pub(super) fn false_claim(file: &mut File) -> io::Result<Option<String>> {
    let file_bytes = file.seek(SeekFrom::End(0))?;
    let mut tail = [0; TAIL_BYTES as usize];
    if file_bytes < TAIL_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(file_bytes - TAIL_BYTES))?;
    file.read_exact(&mut tail)?;
    let n_bytes = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if &tail[4..] != b"PAR1" || n_bytes > file_bytes - TAIL_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(file_bytes - TAIL_BYTES - n_bytes))?;
    let mut footer = vec![0; n_bytes as usize];
    file.read_exact(&mut footer)?;
    file.rewind()?;
    Ok(Walk { left: &footer }.object(0).err())
}

/// What is left of a footer.
struct Walk<'a> {
    left: &'a [u8],
}

impl Walk<'_> {
    fn skip(&mut self, n_bytes: u64) -> Result<(), String> {
        let n_left = self.left.len();
        let rest = usize::try_from(n_bytes).ok().and_then(|n| self.left.get(n..));
        self.left = rest.ok_or_else(|| format!("its footer claims {n_bytes} bytes where {n_left} are left"))?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (&byte, rest) = self.left.split_first().ok_or("its footer ends too early")?;
        self.left = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("its footer has a number of more than 64 bits".to_owned())
    }

    fn object(&mut self, depth: usize) -> Result<(), String> {
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            // No distance from the field before: the field's number follows.
            if header >> 4 == 0 {
                self.varint()?;
            }
            // The value of a bool is its type.
            if !matches!(header & 0xf, 1 | 2) {
                self.value(header & 0xf, depth)?;
            }
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("its footer has objects and lists inside others, more than {MAX_DEPTH} deep"));
        }
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => {
                let n_bytes = self.varint()?;
                self.skip(n_bytes)
            }
            9 | 10 => {
                let header = self.byte()?;
                let n = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
                self.elements(n, &[header & 0xf], depth)
            }
            11 => match self.varint()? {
                0 => Ok(()),
                n => {
                    let kinds = self.byte()?;
                    self.elements(n, &[kinds >> 4, kinds & 0xf], depth)
                }
            },
            12 => self.object(depth + 1),
            other => Err(format!("its footer has a value of the unknown type {other}")),
        }
    }

    /// Each element takes a byte at least.
    fn elements(&mut self, n: u64, kinds: &[u8], depth: usize) -> Result<(), String> {
        if n > self.left.len() as u64 {
            return Err(format!("its footer claims a list of {n} where {} bytes are left", self.left.len()));
        }
        for _ in 0..n {
            kinds.iter().try_for_each(|&kind| self.value(kind, depth + 1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn claim(footer: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"PAR1").unwrap();
        file.write_all(footer).unwrap();
        file.write_all(&(footer.len() as u32).to_le_bytes()).unwrap();
        file.write_all(b"PAR1").unwrap();
        false_claim(&mut file).unwrap()
    }

    #[test]
    fn lists_are_as_long_as_they_say() {
        // Field 1 a number, field 4 a list of two empty objects, field 9 a bool, the end.
        assert_eq!(claim(&[0x15, 2, 0x39, 0x2c, 0, 0, 0x51, 0]), None);
        // Two thousand millions of objects.
        let huge = claim(&[0x15, 2, 0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0, 0]);
        assert_eq!(huge.unwrap(), "its footer claims a list of 2147483647 where 2 bytes are left");
        let text = claim(&[0x18, 0x80, 0x80, 0x80, 0x80, 0x10, b'a', 0]);
        assert_eq!(text.unwrap(), "its footer claims 4294967296 bytes where 2 are left");
        assert!(claim(&[0x1b, 0xff, 0xff, 3, 0x88, 0]).unwrap().contains("a list of 65535"), "a map");
        assert!(claim(&[0x1c; 100]).unwrap().contains("deep"));
        assert!(claim(&[0x19; 1 << 20]).unwrap().contains("deep"), "lists of lists");
        assert!(claim(&[0x1d, 0]).unwrap().contains("type 13"));
        assert!(claim(&[0x15]).unwrap().contains("too early"));
        assert!(claim(&[0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]).unwrap().contains("64"));
    }

    #[test]
    fn what_is_no_footer_is_left_to_the_reader() {
        for bytes in [&b""[..], b"PAR1", b"PAR1 no, it is not", b"\xff\xff\xff\xffPAR1", b"\x01\0\0\0PARE"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            assert_eq!(false_claim(&mut file).unwrap(), None);
        }
    }
}
