//! Checks the footer of a Parquet file before the `parquet` crate reads it, and rejects sizes that the file cannot
//! hold.
//!
//! The crate allocates memory for as many row groups, and as many children per column, as the footer claims. A
//! footer of 30
//! bytes that claims two billion of them would abort the process, which cannot be caught. The footer is an object in
//! Thrift's compact protocol. The crate decides by a field's number what to read, this check by the field's type. A
//! type
//! that the format does not define for a field is therefore rejected: the two would read different lists.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Size in bytes of the footer's length and the magic bytes at the end of the file.
const TAIL_BYTES: u64 = 8;
/// Maximum nesting of objects; a real footer has about six levels.
const MAX_DEPTH: usize = 64;
/// Maximum nesting of columns; the crate recurses once per level.
const MAX_COLUMN_DEPTH: usize = 100;

/// The type that the format defines for a field.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Kind),
    Object(Fields),
    /// An element of the flattened column tree; its `NumChildren` field says how many following elements it contains.
    Column(Fields),
    NumChildren,
}

/// The fields of an object, by number.
type Fields = &'static [(i16, Kind)];

impl Kind {
    /// Whether `number` is this type in Thrift's compact protocol, which encodes a bool's value in the type.
    fn is(self, number: u8) -> bool {
        match self {
            Kind::Bool => matches!(number, 1 | 2),
            Kind::Byte => number == 3,
            Kind::I16 => number == 4,
            Kind::I32 | Kind::NumChildren => number == 5,
            Kind::I64 => number == 6,
            Kind::Double => number == 7,
            Kind::Binary => number == 8,
            Kind::List(_) => number == 9,
            Kind::Object(_) | Kind::Column(_) => number == 12,
        }
    }
}

// From the format's parquet.thrift. Fields added by later versions are walked by the type they declare.
const FOOTER: Fields = {
    use Kind::*;
    &[
        (1, I32),
        (2, List(&Column(SCHEMA_ELEMENT))),
        (3, I64),
        (4, List(&Object(ROW_GROUP))),
        (5, List(&Object(KEY_VALUE))),
        (6, Binary),
        (7, List(&Object(&[(1, EMPTY)]))),
        (9, Binary),
    ]
};
const EMPTY: Kind = Kind::Object(&[]);
const KEY_VALUE: Fields = &[(1, Kind::Binary), (2, Kind::Binary)];
const SCHEMA_ELEMENT: Fields = {
    use Kind::*;
    &[
        (1, I32),
        (2, I32),
        (3, I32),
        (4, Binary),
        (5, NumChildren),
        (6, I32),
        (7, I32),
        (8, I32),
        (9, I32),
        (10, Object(LOGICAL_TYPE)),
    ]
};
const TIME: Fields = &[(1, Kind::Bool), (2, Kind::Object(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))];
const LOGICAL_TYPE: Fields = {
    use Kind::*;
    &[
        (1, EMPTY),
        (2, EMPTY),
        (3, EMPTY),
        (4, EMPTY),
        (5, Object(&[(1, I32), (2, I32)])),
        (6, EMPTY),
        (7, Object(TIME)),
        (8, Object(TIME)),
        (10, Object(&[(1, Byte), (2, Bool)])),
        (11, EMPTY),
        (12, EMPTY),
        (13, EMPTY),
        (14, EMPTY),
        (15, EMPTY),
        (16, Object(&[(1, Byte)])),
        (17, Object(&[(1, Binary)])),
        (18, Object(&[(1, Binary), (2, I32)])),
    ]
};
const ROW_GROUP: Fields = {
    use Kind::*;
    &[
        (1, List(&Object(COLUMN_CHUNK))),
        (2, I64),
        (3, I64),
        (4, List(&Object(&[(1, I32), (2, Bool), (3, Bool)]))),
        (5, I64),
        (6, I64),
        (7, I16),
    ]
};
const COLUMN_CHUNK: Fields = {
    use Kind::*;
    &[(1, Binary), (2, I64), (3, Object(COLUMN_METADATA)), (4, I64), (5, I32), (6, I64), (7, I32), (9, Binary)]
};
const COLUMN_METADATA: Fields = {
    use Kind::*;
    &[
        (1, I32),
        (2, List(&I32)),
        (3, List(&Binary)),
        (4, I32),
        (5, I64),
        (6, I64),
        (7, I64),
        (8, List(&Object(KEY_VALUE))),
        (9, I64),
        (10, I64),
        (11, I64),
        (12, Object(STATISTICS)),
        (13, List(&Object(&[(1, I32), (2, I32), (3, I32)]))),
        (14, I64),
        (15, I32),
        (16, Object(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
        (17, Object(&[(1, Object(BOX)), (2, List(&I32))])),
    ]
};
const STATISTICS: Fields = {
    use Kind::*;
    &[(1, Binary), (2, Binary), (3, I64), (4, I64), (5, Binary), (6, Binary), (7, Bool), (8, Bool)]
};
const BOX: Fields = {
    use Kind::Double;
    &[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)]
};

/// Returns what is wrong with the footer's lists and columns. `None` if nothing is, or if this is not a footer: the
/// crate reports that case better.
///
/// # Errors
/// Returns the system's error.
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
    Ok(Walk { left: &footer, n_children: Vec::new() }.object(FOOTER, 0).err())
}

/// The unread rest of a footer.
struct Walk<'a> {
    left: &'a [u8],
    /// For each column so far, the number of its children among the following ones.
    n_children: Vec<u64>,
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

    /// A signed number in zigzag encoding.
    fn zigzag(&mut self) -> Result<i64, String> {
        self.varint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Walks an object with these fields and possibly unknown ones.
    fn object(&mut self, fields: Fields, depth: usize) -> Result<(), String> {
        let mut last = 0;
        loop {
            let header = self.byte()?;
            let number = header & 0xf;
            if number == 0 {
                return Ok(());
            }
            let field = match i16::from(header >> 4) {
                // The distance to the previous field does not fit four bits: the field number follows in full.
                0 => i16::try_from(self.zigzag()?).ok().filter(|&field| field > last && field - last > 15),
                distance => last.checked_add(distance),
            };
            last = field.ok_or("its footer has fields in another order than the format's")?;
            let kind = fields.iter().find(|(field, _)| *field == last).map(|(_, kind)| *kind);
            if kind.is_some_and(|kind| !kind.is(number)) {
                return Err(format!("its footer gives field {last} the type {number}, which is another in the format"));
            }
            // A bool's value is its type.
            if !matches!(number, 1 | 2) {
                self.value(number, kind, depth)?;
            }
        }
    }

    fn value(&mut self, number: u8, kind: Option<Kind>, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("its footer has objects and lists inside others, more than {MAX_DEPTH} deep"));
        }
        match (number, kind) {
            (3, _) => self.skip(1),
            (5, Some(Kind::NumChildren)) => {
                let n = u64::try_from(self.zigzag()?).map_err(|_| "its footer has a column of less than no columns")?;
                if let Some(children) = self.n_children.last_mut() {
                    *children = n;
                }
                Ok(())
            }
            (4..=6, _) => self.varint().map(drop),
            (7, _) => self.skip(8),
            (8, _) => {
                let n_bytes = self.varint()?;
                self.skip(n_bytes)
            }
            (9 | 10, _) => self.list(kind, depth),
            (11, _) => match self.varint()? {
                0 => Ok(()),
                n => {
                    let kinds = self.byte()?;
                    self.elements(n, &[(kinds >> 4, None), (kinds & 0xf, None)], depth)
                }
            },
            (12, Some(Kind::Object(fields))) => self.object(fields, depth + 1),
            (12, Some(Kind::Column(fields))) => {
                self.n_children.push(0);
                self.object(fields, depth + 1)
            }
            (12, _) => self.object(&[], depth + 1),
            (other, _) => Err(format!("its footer has a value of the unknown type {other}")),
        }
    }

    fn list(&mut self, kind: Option<Kind>, depth: usize) -> Result<(), String> {
        let header = self.byte()?;
        let n = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        let (number, of) = (header & 0xf, if let Some(Kind::List(&of)) = kind { Some(of) } else { None });
        // Some writers give an empty list no element type.
        if n > 0 && of.is_some_and(|of| !of.is(number)) {
            return Err(format!("its footer has a list of the type {number}, which is another in the format"));
        }
        self.elements(n, &[(number, of)], depth)?;
        if let Some(Kind::Column(_)) = of { self.check_columns() } else { Ok(()) }
    }

    /// Walks `n` elements, each of at least one byte.
    fn elements(&mut self, n: u64, kinds: &[(u8, Option<Kind>)], depth: usize) -> Result<(), String> {
        if n > self.left.len() as u64 {
            return Err(format!("its footer claims a list of {n} where {} bytes are left", self.left.len()));
        }
        for _ in 0..n {
            kinds.iter().try_for_each(|&(number, kind)| self.value(number, kind, depth + 1))?;
        }
        Ok(())
    }

    /// Checks that each column has as many children as it claims, and that the nesting is limited.
    fn check_columns(&self) -> Result<(), String> {
        // For each incomplete column, the number of children still to come.
        let mut open = Vec::new();
        for (i, &n) in self.n_children.iter().enumerate() {
            let n_left = self.n_children.len() - i - 1;
            if n > n_left as u64 {
                return Err(format!("its footer claims {n} columns in another where {n_left} are left"));
            }
            if let Some(above) = open.last_mut() {
                *above -= 1;
            }
            if n > 0 {
                open.push(n);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            if open.len() > MAX_COLUMN_DEPTH {
                return Err(format!("its footer has columns inside others, more than {MAX_COLUMN_DEPTH} deep"));
            }
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
        // Field 1 is a number, field 4 a list of two empty objects, then an unknown bool and the end.
        assert_eq!(claim(&[0x15, 2, 0x39, 0x2c, 0, 0, 0x71, 0]), None);
        // A list that claims two billion objects.
        let huge = claim(&[0x15, 2, 0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0, 0]);
        assert_eq!(huge.unwrap(), "its footer claims a list of 2147483647 where 2 bytes are left");
        let text = claim(&[0x68, 0x80, 0x80, 0x80, 0x80, 0x10, b'a', 0]);
        assert_eq!(text.unwrap(), "its footer claims 4294967296 bytes where 2 are left");
        assert!(claim(&[0xab, 0xff, 0xff, 3, 0x88, 0]).unwrap().contains("a list of 65535"), "a map");
        assert!(claim(&[0xac; 100]).unwrap().contains("deep"));
        assert!(claim(&[&[0xa9][..], &[0x19; 1 << 20]].concat()).unwrap().contains("deep"), "lists of lists");
        assert!(claim(&[0x1d, 0]).unwrap().contains("type 13"));
        assert!(claim(&[0x15]).unwrap().contains("too early"));
        assert!(claim(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]).unwrap().contains("64"));
    }

    #[test]
    fn types_are_the_formats() {
        // Row groups that are declared as a number: the crate reads a list there.
        let number = claim(&[0x15, 2, 0x35, 0xfc, 0xff, 0xff, 0xff, 7, 0]);
        assert_eq!(number.unwrap(), "its footer gives field 4 the type 5, which is another in the format");
        assert!(claim(&[0x15, 2, 0x39, 0x25, 0, 0, 0]).unwrap().contains("a list of the type 5"));
        assert_eq!(claim(&[0x15, 2, 0x39, 0x00, 0]), None, "an empty list of nothing");
        // An element of the columns whose name is declared as a number.
        assert!(claim(&[0x15, 2, 0x19, 0x1c, 0x45, 2, 0, 0]).unwrap().contains("field 4 the type 5"));
        // A field number lower than the previous one.
        assert!(claim(&[0x36, 2, 0x05, 2, 2, 0]).unwrap().contains("order"));
        // A logical type whose field number exceeds 15: Variant with its version.
        assert_eq!(claim(&[0x29, 0x1c, 0xac, 0x0c, 32, 0x13, 1, 0, 0, 0, 0]), None);
    }

    #[test]
    fn columns_are_as_many_as_they_say() {
        // Columns: a root with `n` claimed children, and elements that each contain the next.
        let columns = |root: &[u8], n_inside: u16| {
            let n = n_inside + 1;
            let mut footer = vec![0x29, 0xfc, n as u8 | 0x80, (n >> 7) as u8 | 0x80, (n >> 14) as u8];
            footer.extend([&[0x55][..], root, &[0]].concat());
            for i in 1..=n_inside {
                footer.extend(if i < n_inside { &[0x55, 2, 0][..] } else { &[0x48, 1, b'a', 0] });
            }
            footer.push(0);
            claim(&footer)
        };
        assert_eq!(columns(&[2], 1), None);
        assert_eq!(columns(&[2], 90), None);
        let huge = columns(&[0xfe, 0xff, 0xff, 0xff, 0x0f], 1);
        assert_eq!(huge.unwrap(), "its footer claims 2147483647 columns in another where 1 are left");
        assert!(columns(&[4], 1).unwrap().contains("claims 2 columns"));
        assert!(columns(&[1], 1).unwrap().contains("less than no"));
        assert!(columns(&[2], 16_000).unwrap().contains("deep"));
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
