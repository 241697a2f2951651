//! One model as saved by different programs (golden/torch_models.py): every reader returns the same tensors.

use std::fs;
use std::path::{Path, PathBuf};

use calame::formats::{Format, KnownSettings, ModelFile, load_model, save_model, write_hugging_face};

use calame::model::{Gpt, ModelConfig, Preset, logits_by_parts};
use calame::ops::{Device, Isa, Precision};
use half::bf16;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::values as values_of;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models")
}

/// The model's tensors by our names.
fn truth() -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(models().join("truth.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let f32s = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(name, view)| (name, f32s(view.data()))).collect()
}

fn read(path: &Path) -> Gpt {
    load_model(path).unwrap().gpt
}

/// Compares every parameter of `gpt` with `expected(name, true value)`.
fn agrees(gpt: &Gpt, expected: impl Fn(&str, f32) -> f32) {
    let truth = truth();
    for (name, tensor) in gpt.tensors().filter(|(_, t)| !t.is_empty()) {
        let name = name.to_string();
        let source = if name == "lm_head.weight" { "wte.weight" } else { &name };
        let (_, values) = truth.iter().find(|(key, _)| key == source).unwrap();
        let expected: Vec<f32> = values.iter().map(|&x| expected(&name, x)).collect();
        assert_eq!(values_of(tensor), expected, "{name}");
    }
}

#[test]
fn nanogpt() {
    for path in [models().join("ckpt.pt"), models()] {
        let file = ModelFile::open(&path).unwrap();
        let config = file.config().clone();
        assert_eq!((file.format(), config.n_head, config.n_layer, config.dropout), (Format::Torch, 2, 2, 0.0));
        assert!(config.tied_head && config.qkv_bias && file.notes().is_empty());
        agrees(&read(&path), |_, x| x);
    }
}

#[test]
fn hugging_face_with_pytorch_model_bin() {
    let file = ModelFile::open(&models().join("hf")).unwrap();
    assert_eq!(file.format(), Format::HuggingFace);
    agrees(&file.load().unwrap().gpt, |_, x| x);
}

#[test]
fn hugging_face_in_two_files_of_bf16() {
    let file = ModelFile::open(&models().join("sharded")).unwrap();
    assert!(file.stored().iter().all(|t| t.dtype == "BF16"));
    agrees(&file.load().unwrap().gpt, |_, x| bf16::from_f32(x).to_f32());
}

#[test]
fn the_book_with_masks_and_optimizer() {
    let path = models().join("book.pth");
    let error = ModelFile::open(&path).err().expect("nothing states the number of heads").to_string();
    assert!(error.contains("book.pth") && error.contains("number of attention heads is unknown"), "{error}");
    let file = ModelFile::open_with(&path, KnownSettings { n_head: Some(2) }).unwrap();
    let config = file.config().clone();
    assert!(!config.tied_head && !config.qkv_bias);
    assert_eq!((config.n_head, file.notes().len()), (2, 0));
    agrees(&file.load().unwrap().gpt, |name, x| if name == "lm_head.weight" { x + 1.0 } else { x });
}

#[test]
fn a_config_next_to_a_file_determines_the_heads() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(models().join("book.pth"), folder.path().join("book.pth")).unwrap();
    fs::write(folder.path().join("config.json"), json!({ "n_head": 4 }).to_string()).unwrap();
    let file = ModelFile::open(&folder.path().join("book.pth")).unwrap();
    assert_eq!(file.config().n_head, 4);
    assert!(file.notes().is_empty());
}

fn small(tied_head: bool, qkv_bias: bool) -> (ModelConfig, Gpt) {
    let config = ModelConfig {
        vocab_size: 29,
        n_positions: 12,
        n_embd: 16,
        n_head: 2,
        n_layer: 3,
        tied_head,
        qkv_bias,
        ..Preset::Tiny.config()
    };
    let gpt = Gpt::fresh(&Device::cpu(1, Isa::detect(), Precision::F32), &config, 5);
    (config, gpt)
}

#[test]
fn a_model_read_from_its_open_file_is_the_same_model() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    for (tied_head, qkv_bias) in [(true, true), (true, false), (false, true), (false, false)] {
        let (config, gpt) = small(tied_head, qkv_bias);
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        save_model(&first, &gpt, None).unwrap();
        write_hugging_face(&second, &ModelFile::open(&first).unwrap()).unwrap();
        for name in ["config.json", "model.safetensors"] {
            assert_eq!(fs::read(first.join(name)).unwrap(), fs::read(second.join(name)).unwrap(), "{name}");
        }
        let ids = [3, 1, 4, 1, 5, 9, 2, 6];
        let file = ModelFile::open(&second).unwrap();
        let logits = logits_by_parts(&dev, &config, &ids, |name, tensor| file.read(name, tensor)).unwrap();
        assert_eq!(values_of(&logits), values_of(&gpt.logits(&dev, &ids, 1)));
    }
}

// Invalid input.

/// A copy of the sharded model with a modified index.
fn changed_index(change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(models().join("sharded")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut index["weight_map"]);
    fs::write(&path, index.to_string()).unwrap();
    let message = load_model(folder.path()).err().expect("it must be refused").to_string();
    (folder, message)
}

#[test]
fn an_index_that_refers_outside_the_folder() {
    for name in ["../other.safetensors", "/etc/passwd", "a/b.safetensors", ""] {
        let (_folder, message) = changed_index(|map| map["transformer.wte.weight"] = json!(name));
        assert!(
            message.contains("outside the folder") && message.contains("model.safetensors.index.json"),
            "{message}"
        );
    }
}

#[test]
fn an_index_that_contradicts_its_files() {
    let (_folder, message) =
        changed_index(|map| map["transformer.wte.weight"] = json!("model-00001-of-00002.safetensors"));
    assert!(message.contains("missing: transformer.wte.weight, which the index places in model-00001"), "{message}");
    let (_folder, message) = changed_index(|map| map["transformer.wte.weight"] = json!("none.safetensors"));
    assert!(message.contains("none.safetensors"), "{message}");
    let (_folder, message) = changed_index(|map| *map = json!([1, 2]));
    assert!(message.contains("not a valid index"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_link_outside_the_folder_except_in_the_hubs_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (config, gpt) = small(true, true);
    let elsewhere = folder.path().join("elsewhere");
    save_model(&elsewhere, &gpt, None).unwrap();
    let weights = elsewhere.join("model.safetensors");
    // The layout of the hub's cache.
    let repo = folder.path().join("models--someone--small");
    let snapshot = repo.join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("blobs")).unwrap();
    fs::copy(&weights, repo.join("blobs/feed")).unwrap();
    fs::copy(elsewhere.join("config.json"), snapshot.join("config.json")).unwrap();
    std::os::unix::fs::symlink("../../blobs/feed", snapshot.join("model.safetensors")).unwrap();
    assert_eq!(*ModelFile::open(&snapshot).unwrap().config(), config);
    // Links to anywhere else are refused.
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink(&weights, snapshot.join("model.safetensors")).unwrap();
    let message = load_model(&snapshot).err().unwrap().to_string();
    assert!(message.contains("outside the folder"), "{message}");
}

#[test]
fn files_of_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let data = [0u8; 16];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &data).unwrap();
    safetensors::serialize_to_file([("model.layers.0.weight", view)], None, &path).unwrap();
    let message = load_model(&path).err().unwrap().to_string();
    assert!(message.contains("not the tensors of a GPT-2") && message.contains("other.safetensors"), "{message}");
}
