//! PyTorch files: those in golden/torch are read as PyTorch reads them, and anything damaged, foreign or hostile is an
//! error that says where.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use calame::formats::{PlainValue, TorchDtype, TorchFile, TorchFileError};
use proptest::prelude::*;
use safetensors::SafeTensors;

use crate::golden;

// Golden files.

fn open(name: &str) -> TorchFile {
    TorchFile::open(&golden::folder().join("torch").join(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn read(file: &TorchFile, index: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; file.tensors()[index].len()];
    file.read(index, &mut values).unwrap();
    values
}

fn index(file: &TorchFile, name: &str) -> usize {
    file.tensors().iter().position(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Shape and bits of a tensor.
type Content = (Vec<usize>, Vec<u32>);

fn truth(name: &str) -> BTreeMap<String, Content> {
    let path = golden::folder().join("torch").join(name).with_extension("safetensors");
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let bits = |data: &[u8]| data.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    tensors.into_iter().map(|(name, t)| (name, (t.shape().to_vec(), bits(t.data())))).collect()
}

#[test]
fn every_layout_reads_as_in_pytorch() {
    for name in ["book", "book-masks", "legacy-book-masks", "wrapped", "nanogpt", "views", "legacy-views", "formats"] {
        let file = open(&format!("{name}.pt"));
        let floats: Vec<usize> = (0..file.tensors().len()).filter(|&i| file.tensors()[i].dtype.is_float()).collect();
        let content = |i| {
            let bits = read(&file, i).iter().map(|x| x.to_bits()).collect();
            (file.tensors()[i].name.clone(), (file.tensors()[i].shape.clone(), bits))
        };
        let found: BTreeMap<String, Content> = floats.into_iter().map(content).collect();
        assert_eq!(found, truth(name.strip_prefix("legacy-").unwrap_or(name)), "{name}");
    }
}

#[test]
fn masks_and_counts_are_listed_but_not_read_as_floats() {
    for name in ["book-masks.pt", "legacy-book-masks.pt"] {
        let file = open(name);
        let of = |name: &str| file.tensors()[index(&file, name)].clone();
        assert_eq!(
            (of("trf_blocks.0.att.mask").dtype, of("trf_blocks.0.att.mask").shape),
            (TorchDtype::F32, vec![5, 5])
        );
        assert_eq!(of("trf_blocks.0.att.keep").dtype, TorchDtype::Bool);
        assert_eq!((of("n_batches_tracked").dtype, of("n_batches_tracked").shape), (TorchDtype::I64, vec![]));
        let (keep, mut out) = (index(&file, "trf_blocks.0.att.keep"), [0.0; 25]);
        let message = file.read(keep, &mut out).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("trf_blocks.0.att.keep is bool"), "{message}");
    }
    assert_eq!(open("book.pt").tensors().len() + 3, open("book-masks.pt").tensors().len());
}

#[test]
fn tied_weights_and_views_share_a_storage() {
    for name in ["views.pt", "legacy-views.pt"] {
        let file = open(name);
        let of = |name: &str| &file.tensors()[index(&file, name)];
        let table = of("wte.weight");
        assert_eq!((&table.strides, table.storage_offset), (&vec![4, 1], 0));
        for shared in ["lm_head.weight", "transposed", "rows", "columns", "every_other"] {
            assert_eq!(of(shared).storage, table.storage, "{shared}");
        }
        assert_eq!(of("transposed").strides, [1, 4]);
        assert_eq!((of("rows").storage_offset, of("columns").storage_offset), (8, 1));
        assert_ne!(of("parameter").storage, table.storage);
        assert_eq!(of("permuted").strides, [1, 20, 5]);
        assert_eq!(of("permuted").dtype, TorchDtype::F64);
        assert_eq!(of("empty").shape, [0, 3]);
    }
}

#[test]
fn values_next_to_the_model_are_listed() {
    let value = |file: &TorchFile, key: &str| {
        let found = file.values().iter().find(|(name, _)| name == key);
        found.unwrap_or_else(|| panic!("no {key} in {:?}", file.values())).1.clone()
    };
    let file = open("nanogpt.pt");
    assert!(file.tensors().iter().all(|tensor| tensor.name.starts_with("_orig_mod.transformer.")));
    let shape = value(&file, "model_args");
    assert_eq!(shape.get("n_embd"), Some(&PlainValue::Int(4)));
    assert_eq!(shape.get("bias"), Some(&PlainValue::Bool(false)));
    assert_eq!(shape.get("vocab_size"), Some(&PlainValue::None));
    assert_eq!(shape.get("dropout"), Some(&PlainValue::Float(0.0)));
    assert_eq!(shape.get("n_heads"), None);
    assert_eq!(value(&file, "iter_num"), PlainValue::Int(250));
    assert_eq!(value(&file, "best_val_loss"), PlainValue::Other("a tensor"));
    let config = value(&file, "config");
    assert_eq!(config.get("dataset"), Some(&PlainValue::Str("shakespeare_char".to_owned())));
    assert_eq!(config.get("seen"), Some(&PlainValue::Int(1 << 40)));
    assert_eq!(config.get("far"), Some(&PlainValue::Other("a number")));

    let file = open("wrapped.pt");
    let names: Vec<&str> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["0.weight", "0.bias", "1.weight", "1.bias"]);
    assert_eq!(value(&file, "epoch"), PlainValue::Int(3));
    let optimizer = value(&file, "optimizer_state_dict");
    let Some(PlainValue::List(groups)) = optimizer.get("param_groups") else { panic!("{optimizer:?}") };
    assert_eq!(groups[0].get("lr"), Some(&PlainValue::Float(4e-4)));
    let betas = PlainValue::List(vec![PlainValue::Float(0.9), PlainValue::Float(0.999)]);
    assert_eq!(groups[0].get("betas"), Some(&betas));

    assert_eq!(open("book.pt").values(), []);
}

#[test]
fn a_hostile_file_is_refused_and_nothing_is_run() {
    let message = TorchFile::open(&golden::folder().join("torch/hostile.pt")).unwrap_err().to_string();
    let named = ["posix.system", "nt.system", "os.system"]
        .iter()
        .any(|name| message.contains(&format!("calls {name}, which is refused")));
    assert!(named && message.contains("hostile.pt") && message.contains("nothing was executed"), "{message}");
}

// Hand-built files.

/// The description of an archive entry.
#[derive(Clone)]
struct Entry {
    name: String,
    bytes: Vec<u8>,
    /// Overrides the offset in the directory.
    at: Option<u64>,
    /// Overrides the packed and unpacked sizes in the directory.
    claimed: Option<(u64, u64)>,
    method: u16,
    flags: u16,
}

fn entry(name: &str, bytes: impl Into<Vec<u8>>) -> Entry {
    Entry { name: name.to_owned(), bytes: bytes.into(), at: None, claimed: None, method: 0, flags: 0x808 }
}

fn put(to: &mut Vec<u8>, fields: &[(u64, usize)]) {
    for (number, width) in fields {
        to.extend(&number.to_le_bytes()[..*width]);
    }
}

/// A zip archive; `large` writes all sizes and offsets in their 64-bit fields.
fn zip(entries: &[Entry], large: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = entry.at.unwrap_or(file.len() as u64);
        let (packed, size) = entry.claimed.unwrap_or((entry.bytes.len() as u64, entry.bytes.len() as u64));
        let (name, flags, method) = (entry.name.len() as u64, u64::from(entry.flags), u64::from(entry.method));
        file.extend(b"PK\x03\x04");
        put(&mut file, &[(20, 2), (flags, 2), (method, 2), (0, 4), (0, 4), (0, 4), (0, 4), (name, 2), (5, 2)]);
        file.extend(entry.name.bytes());
        file.extend(b"FB\x01\x00Z");
        file.extend(&entry.bytes);
        directory.extend(b"PK\x01\x02");
        put(&mut directory, &[(0, 2), (20, 2), (flags, 2), (method, 2), (0, 4), (0, 4)]);
        let narrow = |n: u64| if large { 0xffff_ffff } else { n };
        let extra = if large { 33 } else { 0 };
        put(&mut directory, &[(narrow(packed), 4), (narrow(size), 4), (name, 2), (extra, 2), (0, 2), (0, 2)]);
        put(&mut directory, &[(0, 2), (0, 4), (narrow(at), 4)]);
        directory.extend(entry.name.bytes());
        if large {
            // Another extra field before the relevant one.
            put(&mut directory, &[(7, 2), (1, 2), (0, 1), (1, 2), (24, 2), (size, 8), (packed, 8), (at, 8)]);
        }
    }
    let (at, n_bytes, n) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    file.extend(directory);
    if large {
        let end = file.len() as u64;
        file.extend(b"PK\x06\x06");
        put(&mut file, &[(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (n, 8), (n, 8), (n_bytes, 8), (at, 8)]);
        file.extend(b"PK\x06\x07");
        put(&mut file, &[(0, 4), (end, 8), (1, 4)]);
        file.extend(b"PK\x05\x06");
        put(&mut file, &[(0, 4), (0xffff, 2), (0xffff, 2), (0xffff_ffff, 4), (0xffff_ffff, 4), (0, 2)]);
    } else {
        file.extend(b"PK\x05\x06");
        put(&mut file, &[(0, 4), (n, 2), (n, 2), (n_bytes, 4), (at, 4), (0, 2)]);
    }
    file
}

fn int(n: i64) -> Vec<u8> {
    [&[0x8a, 8], n.to_le_bytes().as_slice()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>())
}

/// A tensor's pickle; `storage` is its type, key and number of elements.
fn tensor(storage: (&str, &str, i64), offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let (kind, key, n) = storage;
    let kind = format!("ctorch\n{kind}\n").into_bytes();
    let storage = [tuple(&[string("storage"), kind, string(key), string("cpu"), int(n)]), b"Q".to_vec()].concat();
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[storage, int(offset), ints(shape), ints(strides), vec![0x89], hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"R".to_vec()].concat()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [string(key), value.clone()].concat()).collect();
    [b"}(".as_slice(), &entries, b"u"].concat()
}

fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// The entries of a file with one object and one storage of the `n` floats 0, 1, 2, …
fn archive(object: &[u8], n: u16) -> Vec<Entry> {
    let floats: Vec<u8> = (0..n).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    vec![entry("a/data.pkl", pickle(object)), entry("a/byteorder", "little"), entry("a/data/0", floats)]
}

/// A file with one tensor `w` over a storage of `n` floats.
fn one_tensor(n: u16, claimed: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    zip(&archive(&dict(&[("w", tensor(("FloatStorage", "0", claimed), offset, shape, strides))]), n), false)
}

fn good() -> Vec<Entry> {
    archive(&dict(&[("w", tensor(("FloatStorage", "0", 6), 0, &[2, 3], &[3, 1]))]), 6)
}

fn open_bytes(bytes: &[u8]) -> Result<TorchFile, TorchFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.pt");
    fs::write(&path, bytes).unwrap();
    TorchFile::open(&path)
}

/// The error message for a file that must not open, which contains the file's name.
fn error(bytes: &[u8]) -> String {
    let Err(error) = open_bytes(bytes) else { panic!("it was opened") };
    let message = error.to_string();
    assert!(message.contains("odd.pt"), "{message}");
    message
}

#[track_caller]
fn assert_error(bytes: &[u8], words: &[&str]) {
    let message = error(bytes);
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

#[test]
fn the_made_up_files_are_good_before_they_are_damaged() {
    for large in [false, true] {
        let file = open_bytes(&zip(&good(), large)).unwrap();
        assert_eq!(read(&file, 0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}

#[test]
fn an_entry_that_is_not_where_or_what_it_claims_is_an_error() {
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entries = good();
        change(&mut entries[2]);
        [zip(&entries, false), zip(&entries, true)]
    };
    for bytes in with(&|entry| entry.method = 8) {
        assert_error(&bytes, &["a/data/0", "compressed by method 8"]);
    }
    for bytes in with(&|entry| entry.flags |= 1) {
        assert_error(&bytes, &["a/data/0", "encrypted"]);
    }
    for bytes in with(&|entry| entry.claimed = Some((25, 25))) {
        assert_error(&bytes, &["a/data/0", "25 bytes"]);
    }
    for bytes in with(&|entry| entry.claimed = Some((24, 1 << 31))) {
        assert_error(&bytes, &["a/data/0", "2147483648 unpacked"]);
    }
    for bytes in with(&|entry| entry.at = Some(1 << 31)) {
        assert_error(&bytes, &["a/data/0", "beyond the"]);
    }
    for bytes in with(&|entry| entry.at = Some(0)) {
        assert_error(&bytes, &["a/data/0", "another entry begins"]);
    }
    for bytes in with(&|entry| entry.at = Some(3)) {
        assert_error(&bytes, &["a/data/0", "no entry begins at 3"]);
    }
    for bytes in with(&|entry| entry.name = "a/data/1".to_owned()) {
        assert_error(&bytes, &["storage 0", "missing", "w needs it"]);
    }
    for huge in [1_000_000_000_000_000_000, u64::MAX, u64::MAX - 100] {
        let mut entries = good();
        entries[2].claimed = Some((huge, huge));
        assert_error(&zip(&entries, true), &["a/data/0", &huge.to_string()]);
        entries[2].claimed = None;
        entries[2].at = Some(huge);
        assert_error(&zip(&entries, true), &["a/data/0", &huge.to_string()]);
    }
}

#[test]
fn entries_that_overlap_or_occur_twice_are_errors() {
    let mut entries = good();
    entries[1].claimed = Some((40, 40));
    assert_error(&zip(&entries, false), &["a/byteorder", "reach into the entry at"]);
    let mut entries = good();
    entries.push(entry("a/data/0", vec![0; 24]));
    assert_error(&zip(&entries, false), &["a/data/0", "twice"]);
    // Two directory entries for the same bytes.
    let mut entries = good();
    let at = zip(&entries[..2], false).len() as u64 - 22 - 2 * 46 - 21;
    entries.push(Entry { at: Some(at), ..entries[2].clone() });
    assert_error(&zip(&entries, false), &["a/data/0", "reach into"]);
}

#[test]
fn a_directory_that_claims_too_much_is_an_error() {
    let whole = zip(&good(), false);
    let end = whole.len() - 22;
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    assert_error(&with(end + 8, &[0xfe, 0xff, 0xfe, 0xff]), &["65534 entries in a directory of"]);
    assert_error(&with(end + 12, &[0xfe, 0xff, 0xff, 0xff]), &["a directory of 4294967294 bytes"]);
    assert_error(&with(end + 16, &[0xfe, 0xff, 0xff, 0xff]), &["at 4294967294"]);
    assert_error(&with(end + 16, &[0; 4]), &["entry 0 of the directory", "truncated or not an entry"]);
    assert_error(&with(end + 4, &[1, 0]), &["several disks"]);
    assert_error(&with(end + 8, &[0xff; 12]), &["64-bit record"]);
    assert_error(&whole[..whole.len() - 1], &["end"]);
    assert_error(b"PK\x03\x04", &["shorter"]);
    let large = zip(&good(), true);
    let record = large.len() - 22 - 20 - 56;
    for claim in [1u64 << 60, u64::MAX] {
        for at in [24, 32, 40, 48] {
            let mut damaged = large.clone();
            damaged[record + at..][..8].copy_from_slice(&claim.to_le_bytes());
            assert_error(&damaged, &["the archive's end"]);
        }
        let mut damaged = large.clone();
        damaged[record + 56 + 8..][..8].copy_from_slice(&claim.to_le_bytes());
        assert_error(&damaged, &["64-bit record"]);
    }
}

/// A sparse file of 40 GB whose directory claims 800 million entries.
#[test]
fn a_vast_directory_costs_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.pt");
    let mut file = File::create(&path).unwrap();
    let (n, end) = (800_000_000u64, 40_000_000_000u64);
    let mut tail = b"PK\x06\x06".to_vec();
    put(&mut tail, &[(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (n, 8), (n, 8), (46 * n, 8), (end - 46 * n, 8)]);
    tail.extend(b"PK\x06\x07");
    put(&mut tail, &[(0, 4), (end, 8), (1, 4)]);
    tail.extend(b"PK\x05\x06");
    put(&mut tail, &[(0, 4), (0xffff, 2), (0xffff, 2), (0xffff_ffff, 4), (0xffff_ffff, 4), (0, 2)]);
    file.write_all(b"PK\x03\x04").unwrap();
    file.seek(SeekFrom::Start(end)).unwrap();
    file.write_all(&tail).unwrap();
    let message = TorchFile::open(&path).unwrap_err().to_string();
    assert!(message.contains("odd.pt") && message.contains("800000000 entries"), "{message}");
}

#[test]
fn an_archive_of_something_else_is_an_error() {
    let mut entries = good();
    entries[0].name = "a/constants.pkl".to_owned();
    assert_error(&zip(&entries, false), &["expected a file written by torch.save", "without one entry NAME/data.pkl"]);
    let mut entries = good();
    entries.push(entry("b/data.pkl", "x"));
    assert_error(&zip(&entries, false), &["without one entry"]);
    let mut entries = good();
    entries[1].bytes = b"big".to_vec();
    assert_error(&zip(&entries, false), &["big-endian"]);
    entries[1].bytes = b"bigger than that".to_vec();
    assert_error(&zip(&entries, false), &["byteorder"]);
    assert_error(b"", &["an empty file"]);
    assert_error(b"{\"a\": 1}", &["begins with [7b, 22"]);
    assert_error(&pickle(&dict(&[])), &["expected a file written by torch.save"]);
    assert_error(&pickle(b"cos\nsystem\n"), &["calls os.system, which is refused (nothing was executed)"]);
}

#[test]
fn tensors_that_reach_outside_their_storage_are_errors() {
    let huge = 1_000_000_000_000_000_000;
    for (offset, shape, strides) in [
        (0, &[7i64][..], &[1i64][..]),
        (1, &[6], &[1]),
        (7, &[], &[]),
        (0, &[2, 3], &[4, 1]),
        (0, &[2], &[6]),
        (0, &[huge], &[1]),
        (0, &[huge, huge], &[huge, 1]),
        (0, &[2], &[huge]),
        (huge, &[1], &[1]),
        (i64::MAX, &[i64::MAX, 2], &[2, 1]),
        (0, &[2, 2], &[i64::MAX, 1]),
    ] {
        assert_error(&one_tensor(6, 6, offset, shape, strides), &["tensor w", "reach outside a storage of 6 elements"]);
    }
    for (shape, strides) in [(&[huge][..], &[0i64][..]), (&[3, 3], &[1, 1]), (&[2, 2], &[2, 2])] {
        assert_error(&one_tensor(6, 6, 0, shape, strides), &["tensor w", "use an element twice"]);
    }
    assert_error(&one_tensor(6, 6, -1, &[6], &[1]), &["tensor w", "its offset: -1"]);
    assert_error(&one_tensor(6, 6, 0, &[-6], &[1]), &["tensor w", "its shape: -6"]);
    assert_error(&one_tensor(6, 6, 5, &[6], &[-1]), &["tensor w", "its strides: -1"]);
    assert_error(&one_tensor(6, 6, 0, &[6], &[1, 1]), &["tensor w", "1 sizes and 2 strides"]);
    assert_error(&one_tensor(6, 6, 0, &[1; 9], &[1; 9]), &["tensor w", "at most 8"]);
    for claimed in [5, 7, huge, i64::MAX] {
        assert_error(&one_tensor(6, claimed, 0, &[2], &[1]), &["storage 0", "24 bytes", &claimed.to_string()]);
    }
    assert_error(&one_tensor(6, -6, 0, &[2], &[1]), &["storage 0 has -6 elements"]);
    // Strides of dimensions of size 1, and the shape of an empty tensor, are not restricted.
    for (shape, strides) in [(&[1i64, 6, 1][..], &[huge, 1, 0][..]), (&[0, huge], &[huge, huge])] {
        let file = open_bytes(&one_tensor(6, 6, 0, shape, strides)).unwrap();
        assert_eq!(read(&file, 0).len(), if shape[0] == 0 { 0 } else { 6 });
    }
}

#[test]
fn whatever_would_run_is_refused_by_name() {
    let object = |value: &[u8]| zip(&archive(&dict(&[("w", value.to_vec())]), 6), false);
    let call = |name: &str| object(&[format!("c{name}\n").as_bytes(), &tuple(&[string("rm")]), b"R"].concat());
    for (name, shown) in [
        ("os\nsystem", "os.system"),
        ("posix\nsystem", "posix.system"),
        ("builtins\neval", "builtins.eval"),
        ("__builtin__\nexec", "__builtin__.exec"),
        ("subprocess\nPopen", "subprocess.Popen"),
        ("importlib.util\nfind_spec", "importlib.util.find_spec"),
        ("runpy\n_run_code", "runpy._run_code"),
    ] {
        assert_error(
            &call(name),
            &[&format!("calls {shown}, which is refused (nothing was executed)"), "torch.save(model.state_dict()"],
        );
    }
    // Named as in protocol 4, and as a class that is instantiated.
    let stacked = [string("os"), string("system"), b"\x93".to_vec(), tuple(&[]), b"\x81".to_vec()].concat();
    assert_error(&object(&stacked), &["calls os.system"]);
    assert_error(&object(b"ctorch\nFloatStorage\n)R"), &["calls a storage's type, which is refused"]);
    let state = [tensor(("FloatStorage", "0", 6), 0, &[6], &[1]), b"}b".to_vec()].concat();
    assert_error(
        &object(&state),
        &["calls __setstate__ of torch._utils._rebuild_tensor_v2, which is refused (nothing was executed)"],
    );
    assert_error(&object(b"]}b"), &["sets attributes of what has none"]);
    assert_error(&object(b"})R"), &["calls what is no name"]);
    // Even a reference without a call, beside a model.
    let w = tensor(("FloatStorage", "0", 6), 0, &[6], &[1]);
    let beside = dict(&[("w", w), ("note", b"cos\nsystem\n".to_vec())]);
    assert_error(&zip(&archive(&beside, 6), false), &["calls os.system, which is refused"]);
    // Instructions that look up or create objects in other ways.
    for code in [b"i", b"o", b"P", b"\x82", b"\x97"] {
        assert_error(&object(code), &["has no place in a file of tensors"]);
    }
    let long = "a\u{1b}[2J".repeat(1000);
    let message = error(&call(&format!("{long}\nx")));
    assert!(message.len() < 1500 && !message.contains('\u{1b}'), "{message}");
}

/// Objects of other classes and functions beside the weights, and what is read of them.
#[test]
fn objects_beside_the_model_are_read_as_data() {
    let w = || tensor(("FloatStorage", "0", 6), 0, &[6], &[1]);
    let read_note = |note: &[u8]| {
        let file = open_bytes(&zip(&archive(&dict(&[("w", w()), ("note", note.to_vec())]), 6), false)).unwrap();
        assert_eq!(read(&file, 0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        (file.values()[0].1.clone(), file.classes().to_vec())
    };
    let call = |name: &str, then: &[u8]| [format!("c{name}\n").as_bytes(), &tuple(&[string("x")]), b"R", then].concat();
    let attributes = dict(&[("n_head", int(4)), ("name", string("a"))]);
    let expected = Some(&PlainValue::Int(4));
    // State, entries, the two dicts of a class with slots, named arguments, a method's result.
    let state = [&attributes[..], b"b"].concat();
    let slots = [&b"N"[..], &attributes, b"\x86b"].concat();
    let entries = [&b"("[..], &string("n_head"), &int(4), b"u"].concat();
    for then in [&state, &slots, &entries, &[&b"(NNe"[..], &state].concat()] {
        let (value, classes) = read_note(&call("my.module\nConfig", then));
        assert_eq!((value.get("n_head"), &classes[..]), (expected, &["my.module.Config".to_owned()][..]), "{value:?}");
    }
    let named = [b"ca\nB\n)".as_slice(), &dict(&[("k", int(1))]), b"\x92", &state].concat();
    assert_eq!(read_note(&named).0.get("n_head"), expected);
    let method = [call("builtins\ngetattr", b""), b")R".to_vec(), state.clone()].concat();
    assert_eq!(read_note(&method).0.get("n_head"), expected);
    // Common ones that have no attributes here.
    for name in [
        "numpy.core.multiarray\nscalar",
        "torch.storage\n_load_from_bytes",
        "torch._utils\n_rebuild_sparse_tensor",
        "torch\nSize",
        "__builtin__\nset",
        "pathlib\nPosixPath",
        "collections\nOrderedDict",
    ] {
        let (value, classes) = read_note(&call(name, b""));
        let class = name.replace('\n', ".");
        assert_eq!(value, PlainValue::Object { class: class.clone(), attributes: vec![] });
        assert_eq!(classes, [class]);
    }
    // A name alone, and many classes of which only the first are listed.
    assert_eq!(read_note(b"ctorch\nfloat32\n"), (PlainValue::Other("a type"), vec![]));
    let many: Vec<u8> = (0..9).flat_map(|i| call(&format!("m\nC{i}"), b"")).collect();
    let classes = read_note(&[b"(".as_slice(), &many, b"t"].concat()).1;
    assert_eq!(classes.len(), 6);
    assert_eq!((&*classes[0], &*classes[5]), ("m.C0", "4 more"));
}

/// Objects that refer to each other, and names of megabytes that many objects have, cost neither time nor memory.
#[test]
fn objects_that_refer_to_each_other_are_cheap() {
    let w = tensor(("FloatStorage", "0", 6), 0, &[6], &[1]);
    let open_note = |note: &[u8]| {
        let start = std::time::Instant::now();
        let file = open_bytes(&zip(&archive(&dict(&[("w", w.clone()), ("note", note.to_vec())]), 6), false)).unwrap();
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(file.tensors().len(), 1);
    };
    // Each of a thousand objects has the list of all of them as its attribute.
    let mut circle = b"]q\x00(".to_vec();
    for _ in 0..1000 {
        circle.extend(
            [
                b"cm\nC\n)\x81".to_vec(),
                dict(&[("all", b"h\x00".to_vec()), ("again", b"h\x00".to_vec())]),
                b"b".to_vec(),
            ]
            .concat(),
        );
    }
    circle.extend(b"e");
    open_note(&circle);
    let long = "x".repeat(1 << 20);
    let class = [string("m"), b"q\x01".to_vec(), string(&long), b"q\x02".to_vec(), b"00".to_vec()].concat();
    let many = [&b"]"[..], &class, b"(", &b"h\x01h\x02\x93)\x81".repeat(300_000), b"e"].concat();
    open_note(&many);
}

#[test]
fn truncated_or_contradictory_pickles_are_errors() {
    let of = |bytes: &[u8]| {
        let mut entries = good();
        entries[0].bytes = bytes.to_vec();
        zip(&entries, false)
    };
    for (bytes, reason) in [
        (&b""[..], "is truncated"),
        (b"\x80\x01.", "protocol 1"),
        (b"\x80\x06.", "protocol 6"),
        (b"(dp0\n.", "does not begin"),
        (b"\x80\x02", "is truncated"),
        (b"\x80\x02.", "where there is none"),
        (b"\x80\x02NN.", "more than one value"),
        (b"\x80\x02t.", "mark"),
        (b"\x80\x02N(0.", "takes a value where there is none"),
        (b"\x80\x02h\x05.", "recalls value 5"),
        (b"\x80\x02j\xff\xff\xff\xff.", "recalls value 4294967295"),
        (b"\x80\x02X\xff\xff\xff\xffa.", "claims 4294967295 bytes"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", "claims 18446744073709551615 bytes"),
        (b"\x80\x04\x95\x00\x00\x64\xa7\xb3\xb6\xe0\x0d.", "claims 1000000000000000000 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\xff.", "claims 4294967295 bytes"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x02cabc", "a name without an end"),
        (b"\x80\x02Na.", "none"),
        (b"\x80\x02NNa.", "what is no list"),
        (b"\x80\x02NNNs.", "what is no dict"),
        (b"\x80\x02}(Nu.", "a key without a value"),
        (b"\x80\x02NQ.", "no tuple identifies"),
    ] {
        assert_error(&of(bytes), &["a/data.pkl, byte", reason]);
    }
    // Deep nesting does not use the call stack.
    assert_error(&of(&pickle(&b"]".repeat(1_000_000))), &["more than one value"]);
    let deep = pickle(&[b"(".repeat(500_000), b"N".to_vec(), b"t".repeat(500_000)].concat());
    assert_error(&of(&deep), &["found a tuple"]);
    assert_error(&of(&vec![b'N'; (4 << 20) + 1]), &["a/data.pkl", "expected at most 4194304"]);
}

#[test]
fn values_that_contain_themselves_or_grow_are_skipped() {
    let beside = |value: &[u8]| {
        let w = tensor(("FloatStorage", "0", 6), 0, &[6], &[1]);
        zip(&archive(&dict(&[("w", w), ("note", value.to_vec())]), 6), false)
    };
    // They are of no use to the model, so they are listed by their kind.
    #[track_caller]
    fn skipped(bytes: &[u8], says: &str) {
        let file = open_bytes(bytes).unwrap();
        let [(name, PlainValue::Other(kind))] = file.values() else { panic!("{:?}", file.values()) };
        assert!(name == "note" && kind.contains(says), "{kind}");
        assert_eq!(read(&file, 0).len(), 6);
    }
    skipped(&beside(b"]q\x00h\x00a"), "nested");
    skipped(&beside(b"}q\x00h\x00h\x00s"), "nested");
    // Each list contains the previous one twenty times.
    let mut grows = b"]q\x00".to_vec();
    for i in 0..20u8 {
        grows.extend([b"](".to_vec(), [b'h', i].repeat(20), vec![b'e', b'q', i + 1]].concat());
    }
    skipped(&beside(&[b"(".to_vec(), grows, b"t".to_vec()].concat()), "repeats");
    let text =
        [string(&"x".repeat(10_000)), b"q\x00".to_vec(), b"](".to_vec(), b"h\x00".repeat(10_000), b"e\x86".to_vec()];
    skipped(&beside(&text.concat()), "repeats");
    let file = open_bytes(&beside(&[b"]".repeat(30), b"a".repeat(29)].concat())).unwrap();
    assert_eq!(file.values()[0].0, "note");
}

#[test]
fn an_object_without_a_model_is_an_error() {
    let w = || tensor(("FloatStorage", "0", 6), 0, &[6], &[1]);
    let of = |object: &[u8]| zip(&archive(object, 6), false);
    assert_error(&of(&w()), &["no model in it", "found a tensor"]);
    assert_error(&of(b"]"), &["found a list"]);
    assert_error(&of(&dict(&[("epoch", int(3)), ("net", dict(&[("w", w())]))])), &["epoch (a number), net (a dict)"]);
    assert_error(&of(&dict(&[("w", w()), ("w", w())])), &["key w", "twice"]);
    // A whole model, and a model whose tensors are of an unknown class.
    assert_error(&of(b"cgpt\nGPT\n)\x81}b"), &["an object of gpt.GPT", "torch.save(model.state_dict(), …)"]);
    let sparse = b"ctorch._utils\n_rebuild_sparse_tensor\n)R".to_vec();
    assert_error(&of(&dict(&[("w", sparse)])), &["w (an object of torch._utils._rebuild_sparse_tensor)"]);

    assert_error(&of(&dict(&[("w", b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec())])), &["tensor w", "made from"]);
    assert_error(&of(&dict(&[("w", b"ctorch._utils\n_rebuild_parameter\n)R".to_vec())])), &["tensor w", "no tensor"]);
    // A tensor with the name `model` is a tensor; a dict with that name and no tensors is not a model.
    let file = open_bytes(&of(&dict(&[("model", w()), ("state_dict", dict(&[]))]))).unwrap();
    assert_eq!(file.tensors()[0].name, "model");
    let file = open_bytes(&of(&dict(&[("state_dict", dict(&[("a", w())])), ("model", dict(&[("b", w())]))]))).unwrap();
    assert_eq!(file.tensors()[0].name, "b");
}

/// The legacy layout with one tensor of six floats, and parameters for its possible faults.
fn legacy(magic: &[u8], protocol: i64, little: bool, keys: &[&str], length: i64, n: usize) -> Vec<u8> {
    let storage = [
        tuple(&[
            string("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            string("9"),
            string("cpu"),
            int(6),
            b"N".to_vec(),
        ]),
        b"Q".to_vec(),
    ];
    let arguments = tuple(&[storage.concat(), int(0), ints(&[6]), ints(&[1]), vec![0x89], b"}".to_vec()]);
    let w = [b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"R".to_vec()].concat();
    let keys: Vec<u8> = keys.iter().flat_map(|key| string(key)).collect();
    let machine = dict(&[("little_endian", vec![if little { 0x88 } else { 0x89 }])]);
    [
        pickle(&[&[0x8a, 10], magic].concat()),
        pickle(&int(protocol)),
        pickle(&machine),
        pickle(&dict(&[("w", w)])),
        pickle(&[b"](".as_slice(), &keys, b"e"].concat()),
        length.to_le_bytes().to_vec(),
        vec![0; 4 * n],
    ]
    .concat()
}

#[test]
fn a_truncated_or_contradictory_legacy_file_is_an_error() {
    const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let huge = 1_000_000_000_000_000_000;
    let good = legacy(&MAGIC, 1001, true, &["9"], 6, 6);
    assert_eq!(read(&open_bytes(&good).unwrap(), 0), [0.0; 6]);
    assert_error(&legacy(&[7; 10], 1001, true, &["9"], 6, 6), &["expected a file written by torch.save"]);
    assert_error(&legacy(&MAGIC, 1000, true, &["9"], 6, 6), &["protocol", "expected 1001"]);
    assert_error(&legacy(&MAGIC, 1001, false, &["9"], 6, 6), &["big-endian"]);
    assert_error(&legacy(&MAGIC, 1001, true, &["8"], 6, 6), &["storage 8", "no tensor has it"]);
    assert_error(&legacy(&MAGIC, 1001, true, &[], 6, 0), &["8 bytes follow the last storage"]);
    for length in [0, 5, 7, -6, huge, i64::MAX] {
        assert_error(&legacy(&MAGIC, 1001, true, &["9"], length, 6), &["storage 9", "the object describes 6"]);
    }
    assert_error(&legacy(&MAGIC, 1001, true, &["9"], 6, 5), &["storage 9", "20 bytes follow"]);
    assert_error(&legacy(&MAGIC, 1001, true, &["9"], 6, 7), &["4 bytes follow the last storage"]);
    assert_error(&legacy(&MAGIC, 1001, true, &["9", "9"], 6, 6), &["storage 9", "ends before it"]);
    for len in 0..good.len() {
        error(&good[..len]);
    }
}

/// Tensors larger than the piece that is read at a time, in storage order and across it.
#[test]
fn large_tensors_are_read_piece_by_piece() {
    let (rows, cols) = (1500usize, 1000usize);
    let n = (rows * cols) as i64;
    let bytes: Vec<u8> = (0..rows * cols).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let halves: Vec<u8> =
        (0..rows * cols * 2).flat_map(|i| ((i % 251) as f32).to_bits().to_le_bytes()[2..].to_vec()).collect();
    let (floats, brain) = (("FloatStorage", "0", n), ("BFloat16Storage", "1", 2 * n));
    let object = dict(&[
        ("whole", tensor(floats, 0, &[1500, 1000], &[1000, 1])),
        ("transposed", tensor(floats, 0, &[1000, 1500], &[1, 1000])),
        ("corner", tensor(floats, 1001, &[2, 700], &[1_400_000, 1])),
        ("brain", tensor(brain, 1, &[2 * n - 1], &[1])),
    ]);
    let entries = [entry("a/data.pkl", pickle(&object)), entry("a/data/0", bytes), entry("a/data/1", halves)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pt");
    fs::write(&path, zip(&entries, false)).unwrap();
    let file = TorchFile::open(&path).unwrap();
    assert!(read(&file, 0).iter().enumerate().all(|(i, x)| *x == i as f32));
    let of = |i: usize| (i % rows * cols + i / rows) as f32;
    assert!(read(&file, 1).iter().enumerate().all(|(i, x)| *x == of(i)));
    let of = |i: usize| (1001 + i / 700 * 1_400_000 + i % 700) as f32;
    assert!(read(&file, 2).iter().enumerate().all(|(i, x)| *x == of(i)));
    assert!(read(&file, 3).iter().enumerate().all(|(i, x)| *x == ((i + 1) % 251) as f32));
    for i in 0..4 {
        let (values, mut raw) = (read(&file, i), vec![0; file.tensors()[i].len() * file.tensors()[i].dtype.n_bytes()]);
        file.read_raw(i, &mut raw).unwrap();
        let widened: Vec<f32> = match file.tensors()[i].dtype {
            TorchDtype::F32 => raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            _ => raw.chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect(),
        };
        assert!(widened == values, "{i}");
    }
    // Truncated after it was opened: an error, not old data.
    File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    let mut out = vec![0.0; rows * cols];
    for i in [0, 1] {
        let message = file.read(i, &mut out).unwrap_err().to_string();
        assert!(message.contains("large.pt"), "{message}");
    }
}

/// The walk by its definition, index by index.
fn by_definition(shape: &[i64], strides: &[i64], offset: i64) -> Vec<f32> {
    let n: i64 = shape.iter().product();
    let place = |i: i64| {
        let (mut rest, mut at) = (i, offset);
        for (size, stride) in shape.iter().zip(strides).rev() {
            at += rest % size * stride;
            rest /= size;
        }
        at as f32
    };
    (0..n).map(place).collect()
}

fn damaged_is_an_error_or_sound(bytes: &[u8], path: &Path) {
    fs::write(path, bytes).unwrap();
    match TorchFile::open(path) {
        Err(error) => assert!(error.to_string().contains("odd.pt"), "{error}"),
        Ok(file) => {
            for i in 0..file.tensors().len() {
                let tensor = &file.tensors()[i];
                assert!(tensor.len() * tensor.dtype.n_bytes() <= bytes.len(), "{tensor:?}");
                if tensor.dtype.is_float() {
                    read(&file, i);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_view_without_overlap_reads_as_its_definition(
        axes in proptest::collection::vec((1i64..4, 0i64..3), 0..5),
        order in any::<[proptest::sample::Index; 5]>(),
        offset in 0i64..9,
    ) {
        // From the innermost outwards, each stride exceeds the extent inside it; then the dimensions are shuffled.
        let (mut reach, mut dims) = (1, Vec::new());
        for (n, gap) in axes {
            let stride = reach + gap;
            dims.insert(order[dims.len()].index(dims.len() + 1), (n, stride));
            reach += (n - 1) * stride;
        }
        let (shape, strides): (Vec<i64>, Vec<i64>) = dims.into_iter().unzip();
        let n = offset + reach;
        let file = open_bytes(&one_tensor(n as u16, n, offset, &shape, &strides)).unwrap();
        prop_assert_eq!(read(&file, 0), by_definition(&shape, &strides, offset));
        assert_error(&one_tensor(n as u16 - 1, n - 1, offset, &shape, &strides), &["reach outside"]);
    }

    #[test]
    fn flipped_and_cut_bytes_never_panic(
        which in 0usize..6,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1u8..), 0..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let name = ["book-masks", "legacy-book-masks", "nanogpt", "views", "legacy-views", "formats"][which];
        let mut bytes = fs::read(golden::folder().join("torch").join(name).with_extension("pt")).unwrap();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        damaged_is_an_error_or_sound(&bytes, &folder.path().join("odd.pt"));
    }
}

#[test]
fn a_truncated_file_is_an_error() {
    for name in ["nanogpt.pt", "legacy-views.pt"] {
        let bytes = fs::read(golden::folder().join("torch").join(name)).unwrap();
        for len in (0..bytes.len()).step_by(7).chain(bytes.len() - 30..bytes.len()) {
            error(&bytes[..len]);
        }
    }
}
