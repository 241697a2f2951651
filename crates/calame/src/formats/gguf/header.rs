//! Reads the header of a GGUF file.
//!
//! Numbers are little-endian; a string is its length in bytes (u64) followed by UTF-8. The order is: `GGUF`, version
//! u32, number of tensors u64, number of values u64; for each value its key, type u32 and data; for each tensor its
//! name, number of dimensions u32, dimensions u64 (the innermost first), number format u32, offset u64. The tensor data
//! starts at the next multiple of the alignment, and so does each tensor; offsets are relative to the start of the
//! data.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::types;
use crate::formats::CheckpointError;
use crate::quant::NumberFormat;

/// First bytes of every GGUF file.
pub(in crate::formats) const MAGIC: [u8; 4] = *b"GGUF";
/// Maximum size of a header in bytes. It consists mostly of the tokenizer; this suffices for a vocabulary of a million
/// tokens.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Maximum number of dimensions of a ggml tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Maximum nesting of arrays that are skipped. The format has no limit, but no known file nests arrays.
const MAX_DEPTH: u32 = 4;
pub(super) const ALIGNMENT: &str = "general.alignment";
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// An integer of any width.
    Int(i128),
    /// An f32 or f64, widened.
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    /// An array of i32 or u32.
    Ints(Vec<i64>),
    /// An array of another type, whose elements are skipped.
    Array,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Maximum number of characters quoted in a message.
        const SHOWN: usize = 80;
        match self {
            Value::Int(x) => write!(f, "{x}"),
            Value::Float(x) => write!(f, "{x}"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::Text(text) => write!(f, "{:?}", text.chars().take(SHOWN).collect::<String>()),
            Value::Texts(_) | Value::Ints(_) | Value::Array => f.write_str("an array"),
        }
    }
}

/// Type numbers of metadata values.
pub(super) mod kind {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// Name, shape, format and position of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorInfo {
    pub name: String,
    /// Dimensions, the outermost first.
    pub shape: Vec<usize>,
    pub format: NumberFormat,
    /// Byte offset from the beginning of the file.
    pub start: u64,
    pub n_bytes: u64,
}

/// Everything before the tensor data. Every tensor lies within the file, and no two overlap.
#[derive(Debug)]
pub(super) struct Header {
    pub values: HashMap<String, Value>,
    pub tensors: Vec<TensorInfo>,
}

/// A tensor as described in the header, not yet checked.
struct Claim {
    name: String,
    /// Dimensions, the innermost first.
    dims: Vec<u64>,
    ggml_type: u32,
    offset: u64,
}

impl Header {
    /// Reads the header from the beginning of a file.
    pub fn read(path: &Path, file: &mut File) -> Result<Header, CheckpointError> {
        let file_bytes = file.metadata().map_err(CheckpointError::io("read", path))?.len();
        let mut cursor =
            Cursor { path, file: BufReader::new(file), at: 0, end: file_bytes.min(MAX_HEADER_BYTES), file_bytes };
        let (n_tensors, n_values) = cursor.counts()?;
        let mut values = HashMap::new();
        for _ in 0..n_values {
            let key = cursor.text("a key")?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind, &key, 0)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(cursor.damaged(format!("the key {key:?} occurs twice")));
            }
        }
        let mut claims = Vec::new();
        for _ in 0..n_tensors {
            claims.push(cursor.claim()?);
        }
        let alignment = alignment(path, &values)?;
        let start = cursor.at.next_multiple_of(alignment);
        let tensors = place(path, claims, start, alignment, file_bytes)?;
        Ok(Header { values, tensors })
    }
}

fn alignment(path: &Path, values: &HashMap<String, Value>) -> Result<u64, CheckpointError> {
    /// Keeps sums of offsets far from overflow.
    const MAX: i128 = 1 << 30;
    match values.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::Int(n)) if (1..=MAX).contains(&n) && n.count_ones() == 1 => Ok(n as u64),
        Some(value) => Err(CheckpointError::Config {
            path: path.to_owned(),
            key: ALIGNMENT,
            found: value.to_string(),
            expected: format!("a power of two up to {MAX}"),
        }),
    }
}

/// Finds the bytes of every tensor; unknown formats are reported in one list.
fn place(
    path: &Path,
    claims: Vec<Claim>,
    data: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<Vec<TensorInfo>, CheckpointError> {
    let mut problems = Vec::new();
    let mut tensors = Vec::with_capacity(claims.len());
    for claim in claims {
        let Some(format) = NumberFormat::of_ggml_type(claim.ggml_type) else {
            let known: Vec<&str> = NumberFormat::ALL.iter().map(|format| format.name()).collect();
            let found = match types::name(claim.ggml_type) {
                Some(name) => format!("is {name}"),
                None => format!("has ggml's type {}, which has no name", claim.ggml_type),
            };
            problems.push(format!("{} {found}: {} are read", claim.name, known.join(", ")));
            continue;
        };
        let damaged = |reason: String| CheckpointError::damaged(path, format!("{} {reason}", claim.name));
        let row = claim.dims.first().copied().unwrap_or(1);
        let n_elements = claim.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let block_len = format.block_len() as u64;
        if row % block_len != 0 {
            return Err(damaged(format!("is {format} with rows of {row}: they hold whole blocks of {block_len}")));
        }
        let n_bytes = n_elements.and_then(|n| (n / block_len).checked_mul(format.block_bytes() as u64));
        let start = data.checked_add(claim.offset);
        let end = n_bytes.zip(start).and_then(|(n, start)| start.checked_add(n));
        let (Some(n_bytes), Some(start), Some(_)) = (n_bytes, start, end.filter(|&end| end <= file_bytes)) else {
            return Err(damaged(format!(
                "is {:?} in {format} at byte {} of the tensors, beyond the end: the file has {file_bytes} bytes",
                claim.dims, claim.offset
            )));
        };
        if claim.offset % alignment != 0 {
            return Err(damaged(format!("begins at byte {}, which is no multiple of {alignment}", claim.offset)));
        }
        let shape = claim.dims.iter().rev().map(|&d| d as usize).collect();
        tensors.push(TensorInfo { name: claim.name, shape, format, start, n_bytes });
    }
    if !problems.is_empty() {
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems });
    }
    check_apart(path, &tensors)?;
    Ok(tensors)
}

fn check_apart(path: &Path, tensors: &[TensorInfo]) -> Result<(), CheckpointError> {
    let mut in_order: Vec<&TensorInfo> = tensors.iter().filter(|t| t.n_bytes > 0).collect();
    in_order.sort_by_key(|t| t.start);
    match in_order.windows(2).find(|pair| pair[0].start + pair[0].n_bytes > pair[1].start) {
        Some(pair) => {
            Err(CheckpointError::damaged(path, format!("the tensors {} and {} overlap", pair[0].name, pair[1].name)))
        }
        None => Ok(()),
    }
}

/// Reads the header from its beginning. A length that exceeds the rest of the file is rejected before memory is
/// allocated.
struct Cursor<'a> {
    path: &'a Path,
    file: BufReader<&'a mut File>,
    at: u64,
    /// Position at which the header must have ended.
    end: u64,
    file_bytes: u64,
}

impl Cursor<'_> {
    fn damaged(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::damaged(self.path, reason)
    }

    /// Returns an error if `n` more bytes cannot follow.
    fn check(&self, n: u64, what: &str) -> Result<(), CheckpointError> {
        if n <= self.end - self.at {
            return Ok(());
        }
        let limit = if self.end < self.file_bytes { "a header may have at most" } else { "the file has" };
        Err(self.damaged(format!("{what} at byte {} needs {n} bytes, {limit} {} bytes", self.at, self.end)))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        self.check(N as u64, "the header")?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(CheckpointError::io("read", self.path))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, CheckpointError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, CheckpointError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn text(&mut self, what: &str) -> Result<String, CheckpointError> {
        let n = self.u64()?;
        self.check(n, what)?;
        let mut bytes = vec![0; n as usize];
        self.file.read_exact(&mut bytes).map_err(CheckpointError::io("read", self.path))?;
        self.at += n;
        String::from_utf8(bytes).map_err(|_| self.damaged(format!("{what} before byte {} is not UTF-8", self.at)))
    }

    /// The numbers of tensors and values, which follow magic and version.
    fn counts(&mut self) -> Result<(u64, u64), CheckpointError> {
        /// Minimum size in bytes of a tensor entry, and of a value with its key.
        const LEAST: (u64, u64) = (8 + 4 + 4 + 8, 8 + 4 + 1);
        if self.bytes::<4>()? != MAGIC {
            return Err(self.damaged("it does not begin with \"GGUF\""));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            let what = if version.swap_bytes() == 3 { " (big-endian)" } else { "" };
            let reason = format!("GGUF of version {version}{what}: versions 2 and 3, little-endian, are read");
            return Err(self.damaged(reason));
        }
        let (n_tensors, n_values) = (self.u64()?, self.u64()?);
        self.check(n_tensors.saturating_mul(LEAST.0), &format!("a list of {n_tensors} tensors"))?;
        self.check(n_values.saturating_mul(LEAST.1), &format!("a list of {n_values} values"))?;
        Ok((n_tensors, n_values))
    }

    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value, CheckpointError> {
        Ok(match kind {
            kind::U8 => Value::Int(u8::from_le_bytes(self.bytes()?).into()),
            kind::I8 => Value::Int(i8::from_le_bytes(self.bytes()?).into()),
            kind::U16 => Value::Int(u16::from_le_bytes(self.bytes()?).into()),
            kind::I16 => Value::Int(i16::from_le_bytes(self.bytes()?).into()),
            kind::U32 => Value::Int(u32::from_le_bytes(self.bytes()?).into()),
            kind::I32 => Value::Int(i32::from_le_bytes(self.bytes()?).into()),
            kind::U64 => Value::Int(u64::from_le_bytes(self.bytes()?).into()),
            kind::I64 => Value::Int(i64::from_le_bytes(self.bytes()?).into()),
            kind::F32 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            kind::F64 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            kind::BOOL => Value::Bool(self.bytes::<1>()? != [0]),
            kind::TEXT => Value::Text(self.text(key)?),
            kind::ARRAY => self.array(key, depth)?,
            _ => return Err(self.damaged(format!("{key} is of type {kind}, which GGUF does not have"))),
        })
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Value, CheckpointError> {
        let (kind, n) = (self.u32()?, self.u64()?);
        let least = match kind {
            kind::U8 | kind::I8 | kind::BOOL => 1,
            kind::U16 | kind::I16 => 2,
            kind::U32 | kind::I32 | kind::F32 => 4,
            kind::U64 | kind::I64 | kind::F64 | kind::TEXT => 8,
            // Element type and length of the inner array.
            kind::ARRAY => 12,
            _ => 0,
        };
        self.check(n.saturating_mul(least), &format!("{key}, an array of {n},"))?;
        if depth > MAX_DEPTH || (least == 0 && n > 0) {
            return Err(self.damaged(format!("{key} is an array of type {kind}, {depth} arrays deep")));
        }
        match kind {
            kind::TEXT => (0..n).map(|_| self.text(key)).collect::<Result<_, _>>().map(Value::Texts),
            kind::U32 => (0..n).map(|_| Ok(self.u32()?.into())).collect::<Result<_, _>>().map(Value::Ints),
            kind::I32 => {
                (0..n).map(|_| Ok(i32::from_le_bytes(self.bytes()?).into())).collect::<Result<_, _>>().map(Value::Ints)
            }
            _ => {
                for _ in 0..n {
                    self.value(kind, key, depth + 1)?;
                }
                Ok(Value::Array)
            }
        }
    }

    fn claim(&mut self) -> Result<Claim, CheckpointError> {
        let name = self.text("a tensor's name")?;
        let n_dims = self.u32()?;
        if n_dims > MAX_DIMENSIONS {
            return Err(self.damaged(format!("{name} has {n_dims} dimensions: up to {MAX_DIMENSIONS} are read")));
        }
        let dims = (0..n_dims).map(|_| self.u64()).collect::<Result<_, _>>()?;
        Ok(Claim { name, dims, ggml_type: self.u32()?, offset: self.u64()? })
    }
}
