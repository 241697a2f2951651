//! Models written for PyTorch are read back bit for bit, including what a state_dict does not contain.

use std::fs;
use std::path::{Path, PathBuf};

use calame::files::FileError;
use calame::formats::{
    CheckpointError, Format, KnownSettings, ModelFile, TorchDtype, TorchFile, load_model, save_model, write_torch,
};
use calame::model::{Gpt, Init, ModelConfig};
use calame::tokenizer::{Bpe, SimpleTokenizer, Tokenizer};
use tempfile::TempDir;

use crate::checkpoint::{config, model, names};

use crate::support::{bits, change};

/// A test folder with `model` and, written from it, `out/model.pt`.
fn written(gpt: &Gpt, tokenizer: Option<&dyn Tokenizer>) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let (folder, path) = (parent.path().join("model"), parent.path().join("out/model.pt"));
    save_model(&folder, gpt, tokenizer).unwrap();
    write_torch(&path, &ModelFile::open(&folder).unwrap()).unwrap();
    (parent, path)
}

/// Three heads of 8 channels and an unusual dropout, which cannot be guessed.
fn shape(tied_head: bool, qkv_bias: bool) -> ModelConfig {
    ModelConfig { tied_head, qkv_bias, init: Init::Pytorch, dropout: 0.25, ..config() }
}

/// Replaces `from` by `to`, of the same length, which must occur `times` times.
fn replace(path: &Path, from: &str, to: &str, times: usize) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from.as_bytes()).map(|(at, _)| at).collect();
    assert_eq!(places.len(), times, "{from}");
    places.iter().for_each(|&at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_model_comes_back_to_the_bit() {
    for (tied_head, qkv_bias) in [(true, true), (true, false), (false, true), (false, false)] {
        let config = shape(tied_head, qkv_bias);
        let gpt = model(&config);
        let (_parent, path) = written(&gpt, None);
        assert_eq!(names(path.parent().unwrap()), ["model.pt"], "no left-over");
        let file = ModelFile::open(&path).unwrap();
        assert_eq!((file.format(), file.config()), (Format::Torch, &config));
        assert!(file.notes().is_empty(), "{:?}", file.notes());
        // Written again from there, the bytes are the same.
        let again = path.with_file_name("again.pt");
        write_torch(&again, &file).unwrap();
        assert!(fs::read(&again).unwrap() == fs::read(&path).unwrap());
        let back = file.load().unwrap();
        assert_eq!((back.gpt.config.clone(), bits(&back.gpt)), (config, bits(&gpt)));
    }
}

#[test]
fn the_file_has_the_books_keys_and_masks() {
    for (tied_head, qkv_bias) in [(true, false), (false, true)] {
        let config = shape(tied_head, qkv_bias);
        let (_parent, path) = written(&model(&config), None);
        let file = TorchFile::open(&path).unwrap();
        let find = |file: &TorchFile, name: &str| file.tensors().iter().position(|tensor| tensor.name == name);
        let tensor = |name: &str| file.tensors()[find(&file, name).unwrap_or_else(|| panic!("no {name}"))].clone();
        let (first, second) = (tensor("trf_blocks.0.att.mask"), tensor("trf_blocks.1.att.mask"));
        assert_eq!((&first.shape, first.dtype, first.storage), (&vec![24, 24], TorchDtype::F32, second.storage));
        let (tokens, head) = (tensor("tok_emb.weight"), tensor("out_head.weight"));
        assert_eq!(head.storage == tokens.storage, tied_head);
        assert_eq!(head.shape, tokens.shape);
        for qkv in ["query", "key", "value"] {
            assert_eq!(tensor(&format!("trf_blocks.1.att.W_{qkv}.weight")).shape, [24, 24]);
            assert_eq!(find(&file, &format!("trf_blocks.1.att.W_{qkv}.bias")).is_some(), qkv_bias);
        }
        // Per block a mask, 3 projections and 12 other tensors; 5 outside the blocks.
        assert_eq!(file.tensors().len(), 2 * (1 + 3 + 10 + if qkv_bias { 3 } else { 0 }) + 5);
        let mut mask = vec![f32::NAN; 24 * 24];
        let index = find(&file, "trf_blocks.0.att.mask").unwrap();
        file.read(index, &mut mask).unwrap();
        for (query, row) in mask.chunks_exact(24).enumerate() {
            assert!(row.iter().enumerate().all(|(key, &x)| x == f32::from(u8::from(key > query))), "{query}");
        }
    }
}

/// As after torch.save of the result of torch.load: the entry is gone, but the storages still show the tied head.
#[test]
fn without_the_record_only_the_heads_are_unknown() {
    for tied_head in [true, false] {
        let config = shape(tied_head, true);
        let (_parent, path) = written(&model(&config), None);
        replace(&path, "calame.json", "calame.jsom", 2);
        let error = ModelFile::open(&path).err().expect("nothing states the number of heads").to_string();
        assert!(error.contains("number of attention heads is unknown"), "{error}");
        let back = ModelFile::open_with(&path, KnownSettings { n_head: Some(config.n_head) }).unwrap();
        let guessed = ModelConfig { dropout: 0.1, ..config.clone() };
        assert_eq!(*back.config(), guessed);
        assert_eq!(bits(&back.load().unwrap().gpt), bits(&model(&config)));
    }
}

#[test]
fn a_record_that_contradicts_the_tensors_is_an_error() {
    let refused = |tied_head, from, to| {
        let (_parent, path) = written(&model(&shape(tied_head, true)), None);
        replace(&path, from, to, 1);
        let message = load_model(&path).err().expect("it must be refused").to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        message
    };
    assert!(refused(true, "\"n_head\":3", "\"n_head\":5").contains("n_head is 5, which does not divide"));
    assert!(refused(true, "\"n_head\":3", "\"m_head\":3").contains("not a valid calame.json"));
    assert!(refused(true, "\"n_embd\":24", "\"n_embd\":27").contains("misshapen"));
    assert!(refused(true, "\"n_layer\":2", "\"n_layer\":1").contains("unexpected: trf_blocks.1"));
    assert!(refused(true, "\"version\":\"", "\"version\"::").contains("not a valid calame.json"));
}

#[test]
fn the_stored_head_decides_whatever_the_record_says() {
    let gpt = model(&shape(false, true));
    let (_parent, path) = written(&gpt, None);
    replace(&path, "\"tied_head\":false", "\"tied_head\": true", 1);
    let back = load_model(&path).unwrap();
    assert_eq!((&back.gpt.config, bits(&back.gpt)), (&gpt.config, bits(&gpt)));
    assert!(
        back.notes.iter().any(|note| note.contains("out_head.weight differs from tok_emb.weight")),
        "{:?}",
        back.notes
    );
}

#[test]
fn the_tokenizer_is_found_by_its_hash() {
    let words = SimpleTokenizer::v2("one two three, and four").unwrap();
    let (_parent, path) = written(&model(&shape(true, true)), Some(&words));
    let file = ModelFile::open(&path).unwrap();
    assert!(file.tokenizer().is_none() && file.notes()[0].contains("tokenizer.json"), "{:?}", file.notes());
    let beside = path.with_file_name("tokenizer.json");
    fs::write(&beside, words.to_json()).unwrap();
    assert_eq!(ModelFile::open(&path).unwrap().tokenizer().unwrap().hash(), words.hash());
    // The tokenizer of another model.
    fs::write(&beside, SimpleTokenizer::v2("five six").unwrap().to_json()).unwrap();
    assert!(ModelFile::open(&path).unwrap().tokenizer().is_none());
    let gpt2 = Bpe::gpt2();
    let config = ModelConfig { vocab_size: 50_257, n_embd: 6, ..shape(true, true) };
    let (_parent, path) = written(&model(&config), Some(gpt2.as_ref()));
    assert_eq!(ModelFile::open(&path).unwrap().tokenizer().unwrap().hash(), gpt2.hash());
}

#[test]
fn an_existing_file_is_kept_after_a_failure() {
    let mut gpt = model(&shape(false, true));
    change(&mut gpt.lm_head, |x| x[5] = f32::NAN);
    let parent = tempfile::tempdir().unwrap();
    let (folder, path) = (parent.path().join("model"), parent.path().join("model.pt"));
    save_model(&folder, &gpt, None).unwrap();
    fs::write(&path, b"mine").unwrap();
    let error = write_torch(&path, &ModelFile::open(&folder).unwrap()).unwrap_err();
    assert!(matches!(&error, CheckpointError::NotFinite { name, .. } if name == "lm_head.weight"), "{error}");
    assert_eq!(
        (names(parent.path()), fs::read(&path).unwrap()),
        (vec!["model".into(), "model.pt".into()], b"mine".into())
    );
    // A folder with the file's name is not replaced.
    let error = write_torch(&folder, &ModelFile::open(&folder).unwrap()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::File(FileError { action: "replace", path, .. }) if *path == folder),
        "{error}"
    );
}
