//! The file layout of torch.save before version 1.6: five pickles (magic number, protocol, machine, object, storage
//! keys), followed by the storages in key order, each preceded by its number of elements.
//!
//! Source: PyTorch's `torch/serialization.py`, `_legacy_save`.

use std::collections::HashMap;
use std::ops::Range;

use super::bytes::Source;
use super::error::{TorchFileError, shown};
use super::objects::{self, MAX_PICKLE_BYTES, StorageClaim};
use crate::formats::torch::pickle::{Pickle, Value};

/// 0x1950a86a20f9469cfc6c in the encoding of a pickle.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Byte range of each storage, by key.
pub(super) type Storages = HashMap<String, Range<u64>>;

/// Reads the start of a file, which contains its pickles.
pub(super) fn read_start(source: &Source) -> Result<Vec<u8>, TorchFileError> {
    source.read_start(MAX_PICKLE_BYTES)
}

/// Reads the object's pickle and locates the storages; `start` is the start of the file.
pub(super) fn open<'a>(source: &Source, start: &'a [u8]) -> Result<(Pickle<'a>, Storages), TorchFileError> {
    let mut at = 0;
    let mut next = |source: &Source, what: &str| {
        let pickle = Pickle::read(&start[at..]).map_err(TorchFileError::pickle(source.path(), what))?;
        at += pickle.n_bytes;
        Ok::<_, TorchFileError>(pickle)
    };
    let foreign = |source: &Source| TorchFileError::Foreign {
        path: source.path().to_owned(),
        found: match start {
            [] => "an empty file".to_owned(),
            _ => format!("one that begins with {:02x?}", &start[..start.len().min(8)]),
        },
    };
    match next(source, "the first pickle") {
        Ok(Pickle { root: Value::Long(magic), .. }) if magic == MAGIC => {}
        // A bare pickle, which Python would have executed.
        Err(refused @ TorchFileError::Refused { .. }) => return Err(refused),
        _ => return Err(foreign(source)),
    }
    match next(source, "the pickle of the protocol")?.root {
        Value::Int(PROTOCOL) => {}
        other => return Err(source.damaged("protocol", format!("{other:?}, expected {PROTOCOL}"))),
    }
    let machine = next(source, "the pickle of the machine")?;
    if let Value::Dict(dict) = machine.root
        && machine.entries(dict).iter().any(|entry| matches!(entry, (Value::Str("little_endian"), Value::Bool(false))))
    {
        return Err(TorchFileError::BigEndian { path: source.path().to_owned() });
    }
    let object = next(source, "the object's pickle")?;
    let keys = next(source, "the pickle of the keys")?;
    let Value::List(list) = keys.root else {
        return Err(source.damaged("keys of the storages", "no list"));
    };
    let claims = objects::storages(source.path(), &object)?;
    let storages = locate(source, at as u64, &claims, keys.items(list))?;
    Ok((object, storages))
}

fn locate(
    source: &Source,
    mut at: u64,
    claims: &HashMap<&str, StorageClaim<'_>>,
    keys: &[Value<'_>],
) -> Result<Storages, TorchFileError> {
    let mut storages = Storages::new();
    for key in keys {
        let Value::Str(key) = *key else {
            return Err(source.damaged("keys of the storages", "a key that is no string"));
        };
        let part = || format!("storage {}", shown(key));
        let Some(claim) = claims.get(key) else { return Err(source.damaged(part(), "no tensor has it")) };
        if source.n_bytes() - at < 8 {
            return Err(source.damaged(part(), format!("the file ends before it, at {}", source.n_bytes())));
        }
        let mut length = [0; 8];
        source.read_into(at, &mut length)?;
        let n_elements = u64::from_le_bytes(length);
        if n_elements != claim.n_elements {
            let reason = format!("{n_elements} elements, the object describes {}", claim.n_elements);
            return Err(source.damaged(part(), reason));
        }
        let start = at + 8;
        let end = n_elements.checked_mul(claim.dtype.n_bytes() as u64).and_then(|n| n.checked_add(start));
        at = match end {
            Some(end) if end <= source.n_bytes() => end,
            _ => {
                let reason = format!("{n_elements} elements, {} bytes follow", source.n_bytes() - start);
                return Err(source.damaged(part(), reason));
            }
        };
        if storages.insert(key.to_owned(), start..at).is_some() {
            return Err(source.damaged(part(), "it occurs twice"));
        }
    }
    match source.n_bytes() - at {
        0 => Ok(storages),
        n => Err(source.damaged("its end", format!("{n} bytes follow the last storage"))),
    }
}
