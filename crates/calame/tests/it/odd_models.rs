//! Checkpoints as scripts really save them (golden/odd_models.py): with their own objects beside the weights, prefixes before
//! the keys, and tensors without elements.

use std::fs;
use std::path::{Path, PathBuf};

use calame::formats::{CheckpointError, KnownSettings, ModelFile};
use calame::ops::{Device, Isa, Precision};
use serde_json::Value;

use crate::golden;
use crate::support::values;

fn odd(name: &str) -> PathBuf {
    golden::folder().join("odd").join(name)
}

fn known(n_head: Option<usize>) -> KnownSettings {
    KnownSettings { n_head }
}

/// The largest difference between a model's logits and PyTorch's.
fn difference(file: ModelFile) -> f32 {
    let truth: Value = serde_json::from_slice(&fs::read(odd("logits.json")).unwrap()).unwrap();
    let ids: Vec<u32> = serde_json::from_value(truth["ids"].clone()).unwrap();
    let expected: Vec<Vec<f64>> = serde_json::from_value(truth["logits"].clone()).unwrap();
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let found = values(&file.load().unwrap().gpt.logits(&dev, &ids, 1));
    let expected = expected.concat();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() as f32).fold(0.0, f32::max)
}

/// Every file that states its number of heads, with a word that its notes contain.
const STATED: [(&str, Option<&str>); 6] = [
    ("dataclass.pt", Some("__main__.GPTConfig")),
    ("slots.pt", Some("__main__.SlotsConfig")),
    ("namespace.pt", Some("argparse.Namespace")),
    ("omegaconf.pt", Some("__main__.DictConfig")),
    ("lightning.ckpt", Some("tensors without elements are ignored: 2")),
    ("attributes.pt", None),
];

#[test]
fn every_file_has_pytorchs_logits() {
    for (name, note) in STATED {
        let file = ModelFile::open(&odd(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((file.config().n_head, file.config().n_layer), (2, 1), "{name}");
        match note {
            None => assert!(file.notes().is_empty(), "{name}: {:?}", file.notes()),
            Some(note) => assert!(file.notes().iter().any(|found| found.contains(note)), "{name}: {:?}", file.notes()),
        }
        let difference = difference(file);
        assert!(difference < 1e-5, "{name}: {difference}");
    }
}

#[test]
fn objects_are_read_as_data_and_said_not_to_be_called() {
    let file = ModelFile::open(&odd("lightning.ckpt")).unwrap();
    let note = file.notes().iter().find(|note| note.contains("nothing in it was called")).unwrap();
    assert!(note.contains("__main__.AttributeDict") && note.contains("pathlib"), "{note}");
}

#[test]
fn an_unknown_number_of_heads_is_asked_for() {
    let path = odd("prefix.pt");
    let error = ModelFile::open(&path).err().expect("nothing states the number of heads");
    assert!(matches!(error, CheckpointError::UnknownHeads { n_embd: 4, .. }), "{error}");
    assert!(error.to_string().contains("prefix.pt") && error.to_string().contains("heads is unknown"), "{error}");
    let difference = difference(ModelFile::open_with(&path, known(Some(2))).unwrap());
    assert!(difference < 1e-5, "{difference}");
    // Another number gives another model, and one that is impossible none.
    assert_eq!(ModelFile::open_with(&path, known(Some(4))).unwrap().config().n_head, 4);
    assert!(ModelFile::open_with(&path, known(Some(3))).err().unwrap().to_string().contains("n_head is 3"));
}

#[test]
fn a_number_of_heads_that_contradicts_the_file_is_an_error() {
    for (name, _) in STATED {
        assert_eq!(ModelFile::open_with(&odd(name), known(Some(2))).unwrap().config().n_head, 2);
        let error = ModelFile::open_with(&odd(name), known(Some(4))).err().expect("the file states 2").to_string();
        assert!(error.contains("has 2 heads") && error.contains("is 4"), "{error}");
    }
}

#[test]
fn a_folder_whose_configuration_lacks_the_heads_takes_them_from_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let models = golden::folder().join("models/hf");
    for name in ["pytorch_model.bin", "config.json"] {
        fs::copy(models.join(name), folder.path().join(name)).unwrap();
    }
    let config = folder.path().join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("n_head");
    fs::write(&config, json.to_string()).unwrap();
    assert!(ModelFile::open(folder.path()).err().unwrap().to_string().contains("n_head"));
    assert_eq!(ModelFile::open_with(folder.path(), known(Some(2))).unwrap().config().n_head, 2);
}

/// Cut and flipped bytes of every file: an error that names the file, or a sound model.
#[test]
fn damaged_files_are_errors_or_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.pt");
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        if let Err(error) = ModelFile::open_with(&path, known(None)) {
            assert!(error.to_string().contains("odd.pt"), "{error}");
        }
    };
    for name in fs::read_dir(golden::folder().join("odd")).unwrap().map(|entry| entry.unwrap().path()) {
        if name.extension() == Some(Path::new("json").as_os_str()) {
            continue;
        }
        let whole = fs::read(&name).unwrap();
        (0..whole.len()).step_by(31).for_each(|n| check(&whole[..n]));
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            check(&bytes);
        }
    }
}
