//! What a model's folder has for texts: the tokenizer in each of its forms, the ids that begin and end texts, and the files
//! that other programs look for.

use std::fs;
use std::path::{Path, PathBuf};

use calame::formats::{ModelFile, load_model, load_tokenizer, save_model, write_gguf, write_hugging_face, write_torch};
use calame::infer::{TextEnd, TextGeneration, TextOptions};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::tokenizer::{Bpe, SimpleTokenizer, Special, TextBounds, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

/// A folder with a model of `vocab_size` tokens in `model`.
fn saved(vocab_size: usize, tokenizer: Option<&dyn Tokenizer>) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let shape = ModelConfig { vocab_size, n_positions: 16, n_embd: 4, n_head: 2, n_layer: 1, ..Preset::Tiny.config() };
    save_model(&folder, &Gpt::fresh(&device(), &shape, 1), tokenizer).unwrap();
    (parent, folder)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Sets keys of a JSON file; null removes.
fn set(path: &Path, keys: &[(&str, Value)]) {
    let mut json = read_json(path);
    keys.iter().for_each(|(key, value)| json[*key] = value.clone());
    fs::write(path, json.to_string()).unwrap();
}

fn bounds_of(folder: &Path) -> TextBounds {
    ModelFile::open(folder).unwrap().bounds().clone()
}

// The ids that begin and end texts.

#[test]
fn the_bounds_are_those_of_the_generation_settings_then_the_configuration_then_the_tokenizer() {
    let words = SimpleTokenizer::v2("one two three").unwrap();
    let end = words.end_of_text().unwrap();
    let (_parent, folder) = saved(20, Some(&words));
    let (generation, config) = (folder.join("generation_config.json"), folder.join("config.json"));
    let bounds = |begin: u32, ends: &[u32]| TextBounds { begin: Some(begin), ends: ends.to_vec() };
    assert_eq!(bounds_of(&folder), bounds(end, &[end]));
    set(&generation, &[("bos_token_id", json!(1)), ("eos_token_id", json!([2, 4]))]);
    assert_eq!(bounds_of(&folder), bounds(1, &[2, 4]));
    // Each of the two by itself, and anything that is no id counts as missing.
    set(&config, &[("bos_token_id", json!(7)), ("eos_token_id", json!(8))]);
    set(&generation, &[("bos_token_id", json!(null)), ("eos_token_id", json!("2"))]);
    assert_eq!(bounds_of(&folder), bounds(7, &[8]));
    set(&generation, &[("eos_token_id", json!(9))]);
    assert_eq!(bounds_of(&folder), bounds(7, &[9]));
    fs::remove_file(&generation).unwrap();
    assert_eq!(bounds_of(&folder), bounds(7, &[8]));
    // An id that the model lacks is noted and the next source is asked: transformers writes 50256 into every config.json.
    set(&config, &[("bos_token_id", json!(50256)), ("eos_token_id", json!(50256))]);
    let model = ModelFile::open(&folder).unwrap();
    assert_eq!(*model.bounds(), bounds(end, &[end]));
    assert!(
        model.notes().iter().any(|note| note.contains("[50256]") && note.contains("20 tokens")),
        "{:?}",
        model.notes()
    );
    // A damaged file is noted, and does not keep the model from being read.
    fs::write(&generation, "{").unwrap();
    let model = ModelFile::open(&folder).unwrap();
    assert!(model.notes().iter().any(|note| note.contains("generation_config.json is ignored")), "{:?}", model.notes());
}

#[test]
fn every_export_keeps_the_bounds() {
    let (parent, folder) = saved(50_257, Some(Bpe::gpt2().as_ref()));
    let generation = folder.join("generation_config.json");
    set(&generation, &[("bos_token_id", json!(5)), ("eos_token_id", json!([6, 50256]))]);
    let model = ModelFile::open(&folder).unwrap();
    let expected = TextBounds { begin: Some(5), ends: vec![6, 50256] };
    assert_eq!(*model.bounds(), expected);
    let out = |name: &str| parent.path().join(name);
    write_hugging_face(&out("again"), &model).unwrap();
    write_torch(&out("model.pt"), &model).unwrap();
    write_gguf(&out("model.gguf"), &model).unwrap();
    for name in ["again", "model.pt", "model.gguf"] {
        assert_eq!(bounds_of(&out(name)), expected, "{name}");
    }
    assert_eq!(read_json(&out("again/config.json"))["eos_token_id"], json!([6, 50256]));
}

#[test]
fn a_generation_stops_at_any_end_and_an_empty_prompt_starts_at_the_beginning() {
    let words = SimpleTokenizer::v2("one two three four five six seven").unwrap();
    let (_parent, folder) = saved(words.n_vocab(), Some(&words));
    let (dev, model) = (device(), load_model(&folder).unwrap());
    let options = |bounds: Option<TextBounds>, stop_at_end| TextOptions {
        bounds,
        stop_at_end,
        max_tokens: 12,
        ..TextOptions::default()
    };
    let run = |prompt: &str, options: &TextOptions| {
        let mut generation = TextGeneration::new(&dev, &model.gpt, &words, prompt, options).unwrap();
        while generation.next_piece().unwrap().is_some() {}
        (
            generation.prompt_text().to_owned(),
            generation.new_tokens().to_vec(),
            generation.end() == Some(&TextEnd::Token),
        )
    };
    let (_, all, met_end) = run("one", &options(None, false));
    assert!(all.len() == 12 && !met_end);
    // The first token that is generated, as the second of two ends.
    let ends = TextBounds { begin: Some(2), ends: vec![words.n_vocab() as u32 - 1, all[0]] };
    assert_eq!(run("one", &options(Some(ends.clone()), true)), ("one".to_owned(), vec![all[0]], true));
    assert_eq!(run("one", &options(Some(ends.clone()), false)).1, all);
    let (prompt, ..) = run("", &options(Some(ends), true));
    assert_eq!(prompt, words.decode(&[2]).unwrap());
    assert_eq!(run("", &options(None, true)).0, "<|endoftext|>");
}

// Tokenizers.

/// Writes GPT-2's tokenizer as its original pair of files.
fn write_pair(folder: &Path) {
    let lists = Bpe::gpt2().to_lists();
    let vocab: serde_json::Map<String, Value> = lists.tokens.into_iter().zip(0..).map(|(t, i)| (t, json!(i))).collect();
    fs::write(folder.join("vocab.json"), Value::Object(vocab).to_string()).unwrap();
    fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{}\n", lists.merges.join("\n"))).unwrap();
}

#[test]
fn a_pair_of_vocabulary_and_merges_is_a_tokenizer() {
    let (_parent, folder) = saved(50_300, None);
    write_pair(&folder);
    let model = ModelFile::open(&folder).unwrap();
    assert_eq!((model.tokenizer().unwrap().kind(), model.notes().len()), ("gpt2", 0));
    // A tokenizer.json comes first; one file of the pair alone is none.
    fs::write(folder.join("tokenizer.json"), SimpleTokenizer::v2("a b").unwrap().to_json()).unwrap();
    assert_eq!(load_tokenizer(&folder).unwrap().unwrap().kind(), "simple-v2");
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    fs::write(folder.join("special_tokens_map.json"), "{").unwrap();
    assert!(
        ModelFile::open(&folder).unwrap().tokenizer_error().unwrap().to_string().contains("special_tokens_map.json")
    );
    fs::remove_file(folder.join("merges.txt")).unwrap();
    assert!(load_tokenizer(&folder).unwrap().is_none());
}

#[test]
fn gpt2s_tokenizer_is_assumed_for_its_vocabulary_only() {
    for (vocab_size, is_assumed) in [(50_257, true), (50_304, true), (50_256, false), (50_305, false), (65, false)] {
        let (_parent, folder) = saved(vocab_size, None);
        let model = ModelFile::open(&folder).unwrap();
        assert_eq!(model.tokenizer().map(|t| t.kind()), is_assumed.then_some("gpt2"), "{vocab_size}");
        let is_noted = model.notes().iter().any(|note| note.contains("GPT-2's is used"));
        assert_eq!(is_noted, is_assumed, "{vocab_size}: {:?}", model.notes());
    }
    // A model that was trained with another tokenizer of that size does not get it.
    let (_parent, folder) = saved(50_257, Some(&SimpleTokenizer::v2("one two").unwrap()));
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    assert!(ModelFile::open(&folder).unwrap().tokenizer().is_none());
}

#[test]
fn an_unusable_tokenizer_does_not_keep_a_model_from_being_read_or_exported() {
    let (parent, folder) = saved(50_257, None);
    let unusable = json!({"model": {"type": "Unigram", "vocab": []}}).to_string();
    fs::write(folder.join("tokenizer.json"), unusable).unwrap();
    let model = ModelFile::open(&folder).unwrap();
    assert!(model.tokenizer().is_none(), "GPT-2's is not assumed: there is another one");
    assert!(model.tokenizer_error().unwrap().to_string().contains("Unigram"));
    write_gguf(&parent.path().join("out.gguf"), &model).unwrap();
    write_torch(&parent.path().join("out.pt"), &model).unwrap();
    write_hugging_face(&parent.path().join("out"), &model).unwrap();
    assert!(!parent.path().join("out/tokenizer.json").exists());
    load_model(&folder).unwrap();
}

// What other programs look for.

#[test]
fn the_files_of_other_programs_are_written() {
    let words = SimpleTokenizer::v2("one two three").unwrap();
    for (tokenizer, end) in
        [(&words as &dyn Tokenizer, Some("<|endoftext|>")), (&SimpleTokenizer::v1("a b").unwrap(), None)]
    {
        let (_parent, folder) = saved(20, Some(tokenizer));
        let config = read_json(&folder.join("tokenizer_config.json"));
        assert_eq!(config["model_max_length"], 16);
        assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
        let special = read_json(&folder.join("special_tokens_map.json"));
        let expected = end.map_or(json!({}), |end| json!({"bos_token": end, "eos_token": end}));
        assert_eq!(special, expected);
        assert_eq!(config["eos_token"].as_str(), end);
        // They do not change what calame reads.
        let back = load_tokenizer(&folder).unwrap().unwrap();
        assert_eq!(back.hash(), tokenizer.hash());
        assert_eq!(back.encode("a", Special::Allow).ok(), tokenizer.encode("a", Special::Allow).ok());
    }
}
