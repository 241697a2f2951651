//! Saved models and training states: they survive a round trip bit for bit, and damaged or foreign files are rejected.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use calame::formats::{CheckpointError, ModelFile, find_model, load_model, save_model, write_hugging_face};
use calame::model::{Gpt, Init, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::tokenizer::{Bpe, SimpleTokenizer, Special, Tokenizer};
use calame::train::{Progress, TrainingState, latest_checkpoint, load_training, save_training};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden::{self, Golden};
use crate::skipped::skip;

use crate::support::{bits, change, host, scale, values, zeros};

const WEIGHTS: &str = "model.safetensors";

pub fn config() -> ModelConfig {
    ModelConfig { vocab_size: 67, n_positions: 24, n_embd: 24, n_head: 3, n_layer: 2, ..Preset::Tiny.config() }
}

/// A model in which every parameter, including gains and biases, has distinct values.
pub fn model(config: &ModelConfig) -> Gpt {
    let mut gpt = Gpt::fresh(&Device::cpu(1, Isa::detect(), Precision::F32), config, 3);
    for (i, (_, tensor)) in gpt.tensors_mut().enumerate() {
        change(tensor, |x| {
            x.iter_mut().enumerate().for_each(|(j, x)| *x += ((i * 31 + j * 7) % 1001) as f32 * 1e-3);
        });
    }
    gpt
}

/// A test folder with a model in `model`.
fn saved(config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    save_model(&folder, &model(config), tokenizer).unwrap();
    (parent, folder)
}

/// The error message for a rejected model, which names the file.
fn refused(folder: &Path, file: &str) -> String {
    let message = load_model(folder).err().expect("the model must be refused").to_string();
    let path = folder.join(file);
    assert!(message.contains(path.to_str().unwrap()), "{message:?} does not name {}", path.display());
    message
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// Modifies config.json.
fn change_config(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Key, format, shape and bytes of a tensor.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Modifies the tensors of model.safetensors.
fn change_tensors(folder: &Path, change: impl FnOnce(&mut Vec<Stored>)) {
    let path = folder.join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored =
        |(name, view): (String, TensorView<'_>)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut tensors: Vec<Stored> = file.tensors().into_iter().map(stored).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &path).unwrap();
}

fn stored<'a>(tensors: &'a mut [Stored], name: &str) -> &'a mut Stored {
    tensors.iter_mut().find(|(key, ..)| key == name).unwrap()
}

// Round trips.

#[test]
fn a_saved_model_comes_back_to_the_bit() {
    let words = SimpleTokenizer::v2("one two three, and four").unwrap();
    for tied_head in [true, false] {
        for qkv_bias in [true, false] {
            for init in [Init::Gpt2, Init::Pytorch] {
                let config = ModelConfig { tied_head, qkv_bias, init, dropout: 0.1, ..config() };
                let (parent, folder) = saved(&config, Some(&words));
                assert_eq!(names(parent.path()), ["model"], "no left-over");
                let of_text = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];
                let files = [&["config.json", "generation_config.json", WEIGHTS], &of_text[..]].concat();
                assert_eq!(names(&folder), files);
                for path in [&folder, parent.path()] {
                    let back = load_model(path).unwrap();
                    assert_eq!((&back.path, &back.gpt.config), (&folder, &config));
                    assert_eq!(bits(&back.gpt), bits(&model(&config)), "{config:?}");
                    let tokenizer = back.tokenizer.unwrap();
                    assert_eq!((tokenizer.kind(), tokenizer.hash()), ("simple-v2", words.hash()));
                    let ids = words.encode("four, two", Special::Forbid).unwrap();
                    assert_eq!(tokenizer.encode("four, two", Special::Forbid).unwrap(), ids);
                    assert_eq!(*ModelFile::open(path).unwrap().config(), config);
                    assert_eq!(find_model(path).unwrap(), folder);
                }
            }
        }
    }
}

#[test]
fn gpt2s_tokenizer_comes_back_and_none_is_none() {
    let bpe = Bpe::gpt2();
    let (_parent, folder) = saved(&ModelConfig { vocab_size: 50_257, n_embd: 6, ..config() }, Some(bpe.as_ref()));
    let tokenizer = load_model(&folder).unwrap().tokenizer.unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.hash(), tokenizer.n_vocab()), ("gpt2", bpe.hash(), 50_257));
    let config_json: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config_json["eos_token_id"], &config_json["bos_token_id"]), (&json!(50_256), &json!(50_256)));

    let (_parent, folder) = saved(&config(), None);
    assert_eq!(names(&folder), ["config.json", "generation_config.json", WEIGHTS]);
    assert!(load_model(&folder).unwrap().tokenizer.is_none());
}

#[test]
fn a_model_that_transformers_wrote_gives_its_logits() {
    let golden = Golden::read("tiny-gpt2.safetensors");
    let back = load_model(&golden::folder().join("hf-tiny-gpt2")).unwrap();
    assert_eq!(back.gpt.config, golden.config);
    assert!(back.tokenizer.is_none());
    let (inputs, _) = golden.batch(0);
    let logits = back.gpt.logits(&Device::cpu(2, Isa::detect(), Precision::F32), &inputs, golden.n_sequences());
    let want = golden.get("logits");
    assert_eq!(logits.len(), want.len());
    let differences = values(&logits).into_iter().zip(want).map(|(a, b)| (a - b).abs());
    let difference = differences.fold(0.0, f32::max);
    assert!(difference <= 1e-5, "logits differ by {difference:e}");
}

#[test]
fn keys_of_other_programs_are_read() {
    // Without the prefix, as in OpenAI's files; with causal masks, as older versions of transformers wrote them; with
    // the head stored twice.
    let (_parent, folder) = saved(&config(), None);
    change_tensors(&folder, |tensors| {
        for (key, ..) in tensors.iter_mut() {
            *key = key.strip_prefix("transformer.").unwrap().to_owned();
        }
        let head = stored(tensors, "wte.weight").clone();
        tensors.push(("lm_head.weight".to_owned(), head.1, head.2, head.3));
        tensors.push(("h.0.attn.bias".to_owned(), Dtype::BOOL, vec![1, 1, 24, 24], vec![1; 24 * 24]));
        tensors.push(("h.1.attn.masked_bias".to_owned(), Dtype::F32, vec![], vec![0; 4]));
    });
    assert_eq!(bits(&load_model(&folder).unwrap().gpt), bits(&model(&config())));
}

// Replacing an existing folder.

#[test]
fn saving_over_a_model_leaves_no_litter() {
    let (parent, folder) = saved(&config(), None);
    // Left behind by killed programs.
    for left_over in [".model.77-0.partial", ".model.previous"] {
        fs::create_dir(parent.path().join(left_over)).unwrap();
        fs::write(parent.path().join(left_over).join(WEIGHTS), "half").unwrap();
    }
    fs::write(folder.join("strange.txt"), "of the old one").unwrap();
    let other = ModelConfig { n_layer: 1, ..config() };
    save_model(&folder, &model(&other), None).unwrap();
    assert_eq!(names(parent.path()), ["model"]);
    assert_eq!(names(&folder), ["config.json", "generation_config.json", WEIGHTS]);
    assert_eq!(bits(&load_model(&folder).unwrap().gpt), bits(&model(&other)));
    // The same without an existing folder.
    fs::rename(&folder, parent.path().join(".model.previous")).unwrap();
    save_model(&folder, &model(&config()), None).unwrap();
    assert_eq!(names(parent.path()), ["model"]);
}

#[test]
fn a_failing_save_leaves_the_old_model_whole() {
    let (parent, folder) = saved(&config(), None);
    let (_other, source) = saved(&ModelConfig { n_layer: 1, ..config() }, None);
    let file = ModelFile::open(&source).unwrap();
    // The source is cut off while it is being copied.
    fs::OpenOptions::new().write(true).open(source.join(WEIGHTS)).unwrap().set_len(3000).unwrap();
    let error = write_hugging_face(&folder, &file).unwrap_err();
    assert!(matches!(error, CheckpointError::File(_)) && error.to_string().contains(WEIGHTS), "{error}");
    assert_eq!(bits(&load_model(&folder).unwrap().gpt), bits(&model(&config())));
    assert_eq!(names(parent.path()), ["model"]);
}

#[test]
fn a_file_in_the_place_of_the_folder_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("thesis.txt");
    fs::write(&file, "years of work").unwrap();
    for folder in [file.clone(), file.join("model")] {
        let error = save_model(&folder, &model(&config()), None).unwrap_err();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "years of work");
        assert_eq!(names(parent.path()), ["thesis.txt"]);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (parent, folder) = saved(&config(), None);
    let mode = |mode| fs::set_permissions(parent.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    if File::create(parent.path().join("probe")).is_ok() {
        mode(0o755);
        skip("this user may write into read-only folders");
        return;
    }
    let error = save_model(&folder, &model(&ModelConfig { n_layer: 1, ..config() }), None).unwrap_err().to_string();
    mode(0o755);
    assert!(error.contains(parent.path().to_str().unwrap()) && error.contains("choose another folder"), "{error}");
    assert_eq!(bits(&load_model(&folder).unwrap().gpt), bits(&model(&config())));
}

// Invalid input.

/// The error message for a path without a model.
fn no_model(path: &Path) -> String {
    let message = load_model(path).err().expect("there is no model").to_string();
    assert!(message.starts_with(&format!("{} holds no model", path.display())), "{message}");
    message
}

#[test]
fn folders_without_a_model_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("nowhere");
    let message = load_model(&missing).err().expect("there is nothing").to_string();
    assert_eq!(message, format!("{}: no such file or folder", missing.display()));

    assert!(no_model(parent.path()).contains("config.json"));
    let file = parent.path().join("gpt-model.pt");
    fs::write(&file, "a pickle").unwrap();
    assert!(no_model(&file).contains("config.json"));
    // An interrupted run has checkpoints but no model.
    let run = parent.path().join("run");
    fs::create_dir_all(run.join("checkpoints/step-000005")).unwrap();
    let message = no_model(&run);
    assert!(message.contains("not finished") && message.contains("--resume"), "{message}");
    // The weights are missing.
    let (_parent, folder) = saved(&config(), None);
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    refused(&folder, WEIGHTS);
}

#[test]
fn truncated_weights_are_an_error_at_any_length() {
    let (_parent, folder) = saved(&config(), None);
    let path = folder.join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let n_header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let near = [0, 1, 7, 8, 9, n_header - 1, n_header, n_header + 1, whole.len() - 4, whole.len() - 1];
    let steps = (0..whole.len()).step_by(whole.len() / 60);
    for n in steps.chain(near) {
        fs::write(&path, &whole[..n]).unwrap();
        let message = refused(&folder, WEIGHTS);
        assert!(message.contains("damaged"), "{n} bytes: {message}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    fs::write(&path, longer).unwrap();
    assert!(refused(&folder, WEIGHTS).contains("damaged"));
    fs::write(&path, whole).unwrap();
    load_model(&folder).unwrap();
}

/// A file with this header, followed by the given number of bytes.
fn with_header(path: &Path, header: &str, n_bytes: usize) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), &vec![0; n_bytes]].concat()).unwrap();
}

#[test]
fn headers_with_false_sizes_are_an_error() {
    let (_parent, folder) = saved(&config(), None);
    let path = folder.join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for length in
        [10u64.pow(18), u64::MAX, u64::MAX - 7, whole.len() as u64 - 7, whole.len() as u64 * 2, 17 << 20, 0, 1]
    {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        assert!(refused(&folder, WEIGHTS).contains("damaged"), "header of {length} bytes");
    }
    let tensor = |name: &str, shape: &str, from: u64, to: u64| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let max = u64::MAX;
    for (what, header, n_bytes) in [
        ("no JSON", "\u{1}\u{2} garbage".to_owned(), 0),
        ("empty", String::new(), 0),
        ("an array", "[1, 2]".to_owned(), 0),
        ("deeply nested", "[".repeat(100_000), 0),
        ("a shape of text", format!("{{{}}}", tensor("a", "\"two\"", 0, 8)), 8),
        ("a negative shape", format!("{{{}}}", tensor("a", "[-2]", 0, 8)), 8),
        ("overlapping", format!("{{{},{}}}", tensor("a", "[2]", 0, 8), tensor("b", "[2]", 4, 12)), 12),
        ("a hole", format!("{{{},{}}}", tensor("a", "[2]", 0, 8), tensor("b", "[2]", 12, 20)), 20),
        ("past the end", format!("{{{}}}", tensor("a", "[2]", 0, 8)), 4),
        ("backwards", format!("{{{}}}", tensor("a", "[2]", 8, 0)), 8),
        ("not the shape's bytes", format!("{{{}}}", tensor("a", "[3]", 0, 8)), 8),
        ("far away", format!("{{{}}}", tensor("a", "[2]", max - 8, max)), 8),
        ("a shape that overflows", format!("{{{}}}", tensor("a", &format!("[{max},{max}]"), 0, 8)), 8),
        ("bytes that overflow", format!("{{{}}}", tensor("a", &format!("[{}]", max / 2), 0, max)), 8),
        ("an unknown format", "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}".to_owned(), 8),
    ] {
        with_header(&path, &header, n_bytes);
        assert!(refused(&folder, WEIGHTS).contains("damaged"), "{what}");
    }
    // Well-formed, but of another kind of model.
    with_header(&path, &format!("{{{}}}", tensor("a", "[20000]", 0, 80_000)), 80_000);
    assert!(refused(&folder, WEIGHTS).contains("describes"));
}

#[test]
fn flipped_bytes_of_the_header_are_an_error_or_mean_nothing() {
    let (_parent, folder) = saved(&ModelConfig { n_embd: 6, n_layer: 1, ..config() }, None);
    let path = folder.join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let n_header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let want = bits(&load_model(&folder).unwrap().gpt);
    let run = |flips: Vec<(usize, u8)>| {
        let mut bytes = whole.clone();
        flips.iter().for_each(|(at, mask)| bytes[*at] ^= mask);
        fs::write(&path, bytes).unwrap();
        match load_model(&folder) {
            Ok(model) => prop_assert_eq!(bits(&model.gpt), want.clone()),
            Err(error) => prop_assert!(error.to_string().contains(path.to_str().unwrap()), "{}", error),
        }
        Ok(())
    };
    let flip = (0..n_header, 1u8..);
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(flips in proptest::collection::vec(flip, 1..4))| { run(flips)?; });
}

#[test]
fn a_config_that_calame_cannot_run_is_named_with_its_key() {
    let (_parent, folder) = saved(&config(), None);
    let good = fs::read(folder.join("config.json")).unwrap();
    for (key, value, shown) in [
        ("model_type", json!("llama"), "\"llama\""),
        ("activation_function", json!("silu"), "\"silu\""),
        ("activation_function", json!(3), "activation_function is 3"),
        ("layer_norm_epsilon", json!(0), "layer_norm_epsilon is 0"),
        ("layer_norm_epsilon", json!("1e-5"), "expected a number"),
        ("scale_attn_weights", json!(1), "expected true or false"),
        ("add_cross_attention", json!(true), "add_cross_attention is true"),
        ("n_inner", json!(0), "n_inner is 0"),
        ("n_inner", json!("4x"), "n_inner is \"4x\""),
        ("hidden_size", json!(25), "hidden_size is 25: expected 24, as n_embd says"),
        ("n_head", json!(null), "n_head is missing"),
        ("n_layer", json!(-1), "-1"),
        ("n_layer", json!(2.5), "2.5"),
        ("n_head", json!("three"), "\"three\""),
        ("n_head", json!(5), "does not divide"),
        ("n_head", json!(0), "n_head is 0"),
        ("vocab_size", json!(1_000_000_000), "vocab_size is 1000000000"),
        ("vocab_size", json!(u64::MAX), "vocab_size is 18446744073709551615"),
        ("n_positions", json!(0), "n_positions is 0"),
        ("resid_pdrop", json!(1.5), "dropout is 1.5"),
    ] {
        fs::write(folder.join("config.json"), &good).unwrap();
        change_config(&folder, |config| config[key] = value.clone());
        let message = refused(&folder, "config.json");
        assert!(message.contains(shown), "{key} = {value}: {message}");
    }
    for bad in ["", "{", "[]", "null", "\u{0}", "{\"model_type\": \"gpt2\"}", &"[".repeat(100_000)] {
        fs::write(folder.join("config.json"), bad).unwrap();
        refused(&folder, "config.json");
    }
    fs::write(folder.join("config.json"), [0xff, 0xfe, 0x00]).unwrap();
    refused(&folder, "config.json");
}

#[test]
fn sizes_that_the_weights_do_not_have_are_an_error() {
    let (_parent, folder) = saved(&config(), None);
    let good = fs::read(folder.join("config.json")).unwrap();
    let max = 1 << 24;
    for sizes in [
        vec![("n_layer", 10_000_000)],
        vec![("n_layer", max), ("n_embd", 1), ("n_head", 1)],
        vec![("vocab_size", max)],
        vec![("vocab_size", max), ("n_positions", max), ("n_embd", max), ("n_head", max), ("n_layer", max)],
        vec![("n_positions", max)],
        vec![("n_embd", 3 << 20)],
    ] {
        fs::write(folder.join("config.json"), &good).unwrap();
        change_config(&folder, |config| sizes.iter().for_each(|(key, value)| config[*key] = json!(value)));
        assert!(refused(&folder, WEIGHTS).contains("describes"), "{sizes:?}");
    }
    // The file's size alone would allow this many blocks, but not their memory.
    fs::write(folder.join("config.json"), &good).unwrap();
    change_config(&folder, |config| {
        for (key, value) in [("n_layer", 1000), ("n_embd", 1), ("n_head", 1), ("vocab_size", 1), ("n_positions", 1)] {
            config[key] = json!(value);
        }
    });
    let n_bytes = fs::metadata(folder.join(WEIGHTS)).unwrap().len();
    let config = ModelConfig { n_layer: 1000, n_embd: 1, n_head: 1, vocab_size: 1, n_positions: 1, ..config() };
    assert!(config.n_parameters() < n_bytes as usize);
    assert!(refused(&folder, WEIGHTS).contains("1000 blocks"));
}

#[test]
fn everything_that_does_not_fit_is_listed_at_once() {
    let (_parent, folder) = saved(&config(), None);
    change_tensors(&folder, |tensors| {
        tensors.retain(|(key, ..)| key != "transformer.h.0.ln_1.bias" && key != "transformer.ln_f.weight");
        stored(tensors, "transformer.h.1.mlp.c_fc.weight").2.reverse();
        let whole = stored(tensors, "transformer.h.1.ln_2.weight");
        (whole.1, whole.3) = (Dtype::I16, vec![0; 2 * 24]);
        tensors.push(("transformer.h.0.attn.rotary".to_owned(), Dtype::F32, vec![3], vec![0; 12]));
        let twice = stored(tensors, "transformer.wpe.weight").clone();
        tensors.push(("wpe.weight".to_owned(), twice.1, twice.2, twice.3));
    });
    let message = refused(&folder, WEIGHTS);
    for line in [
        "missing: h.0.ln_1.bias [24]",
        "missing: ln_f.weight [24]",
        "misshapen: transformer.h.1.mlp.c_fc.weight is [96, 24], expected [24, 96]",
        "transformer.h.1.ln_2.weight is I16: expected floats",
        "unexpected: transformer.h.0.attn.rotary",
        "twice: wpe.weight, as transformer.wpe.weight and wpe.weight",
    ] {
        assert!(message.contains(line), "no {line:?} in {message}");
    }
    assert_eq!(message.lines().count(), 7, "{message}");
}

#[test]
fn a_long_list_of_what_does_not_fit_is_cut() {
    let (_parent, folder) = saved(&config(), None);
    change_tensors(&folder, |tensors| tensors.iter_mut().for_each(|(key, ..)| key.push('x')));
    let message = refused(&folder, WEIGHTS);
    assert!(message.contains("more") && message.lines().count() < 25, "{message}");
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let parent = tempfile::tempdir().unwrap();
        let mut gpt = model(&config());
        change(&mut gpt.h[1].mlp.c_proj.weight, |x| x[77] = bad);
        save_model(&parent.path().join("model"), &gpt, None).unwrap();
        let message = refused(&parent.path().join("model"), WEIGHTS);
        assert!(message.contains("h.1.mlp.c_proj.weight") && message.contains("diverged"), "{message}");
    }
}

#[test]
fn qkv_biases_that_another_program_trained_are_not_lost() {
    let (_parent, folder) = saved(&ModelConfig { qkv_bias: false, ..config() }, None);
    change_tensors(&folder, |tensors| stored(tensors, "transformer.h.1.attn.c_attn.bias").3[2] = 0x80);
    let message = refused(&folder, WEIGHTS);
    assert!(message.contains("transformer.h.1.attn.c_attn.bias") && message.contains("qkv_bias"), "{message}");
    change_config(&folder, |config| config["calame"]["qkv_bias"] = json!(true));
    let back = load_model(&folder).unwrap();
    assert!(values(&back.gpt.h[1].attn.c_attn.bias)[0] != 0.0);
}

#[test]
fn the_tokenizer_must_be_the_models_own() {
    let (ours, theirs) = (SimpleTokenizer::v2("one two").unwrap(), SimpleTokenizer::v2("two three").unwrap());
    let (_parent, folder) = saved(&config(), Some(&ours));
    fs::write(folder.join("tokenizer.json"), theirs.to_json()).unwrap();
    // Only texts need it: the model itself is read.
    let error = load_model(&folder).unwrap().tokenizer_error.unwrap();
    assert!(matches!(error, CheckpointError::ForeignTokenizer { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains(&ours.hash()) && message.contains(&theirs.hash()), "{message}");
    for bad in ["", "{}", "not JSON", "{\"model\": {\"type\": \"Unigram\"}}"] {
        fs::write(folder.join("tokenizer.json"), bad).unwrap();
        let saved = load_model(&folder).unwrap();
        let message = saved.tokenizer_error.unwrap().to_string();
        assert!(saved.tokenizer.is_none() && message.contains("tokenizer.json"), "{message}");
    }
    // More tokens than the model has rows, in a folder without a hash.
    let many: String = (0..100).map(|i| format!("word{i} ")).collect();
    fs::write(folder.join("tokenizer.json"), SimpleTokenizer::v1(&many).unwrap().to_json()).unwrap();
    change_config(&folder, |config| config["calame"] = json!(null));
    let saved = load_model(&folder).unwrap();
    assert_eq!(saved.tokenizer.unwrap().n_vocab(), 100);
    assert!(saved.notes.iter().any(|note| note.contains("100 tokens, the model 67")), "{:?}", saved.notes);
    fs::write(folder.join("tokenizer.json"), ours.to_json()).unwrap();
    assert!(load_model(&folder).unwrap().notes.is_empty());
}

// Training states.

struct State {
    parent: TempDir,
    folder: PathBuf,
    trees: [Gpt; 3],
}

const FILES: [&str; 3] = ["weights.safetensors", "m.safetensors", "v.safetensors"];

fn progress(n_steps: u64) -> Progress {
    Progress { n_steps, epoch: 1, batch: 3, n_tokens_seen: n_steps * 64, ..Progress::default() }
}

fn save(checkpoints: &Path, trees: [&Gpt; 3], n_steps: u64) -> Result<PathBuf, CheckpointError> {
    let state = TrainingState { dev: &host(), trees, own_heads: None, progress: progress(n_steps) };
    save_training(checkpoints, &state, "", 1)
}

/// A checkpoint after seven steps.
fn training() -> State {
    let parent = tempfile::tempdir().unwrap();
    let trees = [1.0, 0.5, 0.25].map(|factor| {
        let mut tree = model(&config());
        scale(&mut tree, factor);
        tree
    });
    let folder = save(parent.path(), [&trees[0], &trees[1], &trees[2]], 7).unwrap();
    State { parent, folder, trees }
}

fn load(folder: &Path) -> Result<(Progress, [Gpt; 3]), CheckpointError> {
    let mut trees = [(); 3].map(|()| zeros(&config()));
    let [weights, m, v] = &mut trees;
    load_training(&host(), folder, [weights, m, v], None).map(|progress| (progress, trees))
}

fn training_refused(folder: &Path, file: &str) -> String {
    let message = load(folder).map(|_| ()).expect_err("the checkpoint must be refused").to_string();
    assert!(message.contains(folder.join(file).to_str().unwrap()), "{message:?} does not name {file}");
    message
}

#[test]
fn a_training_state_comes_back_to_the_bit() {
    let state = training();
    assert_eq!(names(state.parent.path()), ["step-000007"]);
    let (back, trees) = load(&state.folder).unwrap();
    assert_eq!(back, progress(7));
    for (a, b) in trees.iter().zip(&state.trees) {
        assert_eq!(bits(a), bits(b));
    }
}

#[test]
fn damaged_training_states_are_errors() {
    let state = training();
    for file in FILES {
        let path = state.folder.join(file);
        let whole = fs::read(&path).unwrap();
        for n in (0..whole.len()).step_by(whole.len() / 20).chain([whole.len() - 1]) {
            fs::write(&path, &whole[..n]).unwrap();
            assert!(training_refused(&state.folder, file).contains("damaged"), "{file} cut at {n}");
        }
        fs::remove_file(&path).unwrap();
        training_refused(&state.folder, file);
        fs::write(&path, whole).unwrap();
    }
    let path = state.folder.join("state.json");
    let whole = fs::read_to_string(&path).unwrap();
    for bad in ["", "{", "[]", "{}", &whole[..whole.len() / 2], &whole.replace("7", "-7"), &whole.replace("epoch", "x")]
    {
        fs::write(&path, bad).unwrap();
        training_refused(&state.folder, "state.json");
    }
    fs::remove_file(&path).unwrap();
    training_refused(&state.folder, "state.json");
    let nowhere = state.parent.path().join("step-000099");
    training_refused(&nowhere, "state.json");
}

#[test]
fn flipped_bytes_of_a_training_state_are_an_error_or_mean_nothing() {
    let state = training();
    for file in FILES.into_iter().chain(["state.json"]) {
        let path = state.folder.join(file);
        let whole = fs::read(&path).unwrap();
        let n_header = match file {
            "state.json" => whole.len(),
            _ => 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize,
        };
        let run = |at: usize, mask: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            fs::write(&path, bytes).unwrap();
            match load(&state.folder) {
                // Epoch and batch are checked by the trainer; the step is stored in every file.
                Ok((back, trees)) => {
                    prop_assert_eq!(back.n_steps, 7);
                    prop_assert!(trees.iter().zip(&state.trees).all(|(a, b)| bits(a) == bits(b)));
                }
                Err(error) => prop_assert!(error.to_string().contains(state.folder.to_str().unwrap()), "{}", error),
            }
            Ok(())
        };
        let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(at in 0..n_header, mask in 1u8..)| { run(at, mask)?; });
        fs::write(&path, whole).unwrap();
    }
    load(&state.folder).unwrap();
}

#[test]
fn files_of_another_step_or_model_are_errors() {
    let state = training();
    let other = tempfile::tempdir().unwrap();
    let [weights, m, v] = &state.trees;
    let later = save(other.path(), [weights, m, v], 8).unwrap();
    for file in FILES.into_iter().chain(["state.json"]) {
        let path = state.folder.join(file);
        let whole = fs::read(&path).unwrap();
        fs::copy(later.join(file), &path).unwrap();
        let message = training_refused(&state.folder, if file == "state.json" { FILES[0] } else { file });
        assert!(message.contains('7') && message.contains('8'), "{message}");
        fs::write(&path, whole).unwrap();
    }
    let other_shape = ModelConfig { vocab_size: 68, n_layer: 1, tied_head: false, ..config() };
    let mut other = [(); 3].map(|()| zeros(&other_shape));
    let [weights, m, v] = &mut other;
    let message = load_training(&host(), &state.folder, [weights, m, v], None).unwrap_err().to_string();
    for line in [
        "misshapen: wte.weight is F32 [67, 24], expected [68, 24]",
        "missing: lm_head.weight [68, 24]",
        "unexpected: h.1.attn.c_attn.bias",
    ] {
        assert!(message.contains(line) && message.contains(FILES[0]), "no {line:?} in {message}");
    }
}

#[test]
fn the_newest_checkpoint_is_found_among_other_files() {
    let parent = tempfile::tempdir().unwrap();
    let checkpoints = parent.path().join("checkpoints");
    assert_eq!(latest_checkpoint(&checkpoints).unwrap(), None);
    fs::create_dir(&checkpoints).unwrap();
    assert_eq!(latest_checkpoint(&checkpoints).unwrap(), None);
    for name in [
        "step-000099.bak",
        "step-",
        "step-x",
        ".step-000200.77-0.partial",
        "old-step-000300",
        "step-99999999999999999999",
    ] {
        fs::create_dir(checkpoints.join(name)).unwrap();
    }
    fs::write(checkpoints.join("step-000500"), "a file").unwrap();
    assert_eq!(latest_checkpoint(&checkpoints).unwrap(), None);
    for name in ["step-000009", "step-000080", "step-1000000", "step-999999"] {
        fs::create_dir(checkpoints.join(name)).unwrap();
    }
    // In the order of numbers, not of names.
    assert_eq!(latest_checkpoint(&checkpoints).unwrap(), Some(checkpoints.join("step-1000000")));
    fs::write(parent.path().join("file"), "").unwrap();
    assert!(latest_checkpoint(&parent.path().join("file")).is_err());
}

#[test]
fn a_new_checkpoint_removes_earlier_ones_only_once_it_is_complete() {
    let state = training();
    let checkpoints = state.parent.path();
    let [weights, m, v] = &state.trees;
    let save = |n_steps| save(checkpoints, [weights, m, v], n_steps);
    // A file at the path of the new checkpoint makes the save fail.
    fs::write(checkpoints.join("step-000008"), "a file").unwrap();
    assert!(save(8).is_err());
    assert_eq!(latest_checkpoint(checkpoints).unwrap(), Some(state.folder.clone()));
    assert_eq!(load(&state.folder).unwrap().0, progress(7));
    fs::remove_file(checkpoints.join("step-000008")).unwrap();
    // Left behind by a program killed while saving another step, and a file that is not ours.
    fs::create_dir(checkpoints.join(".step-000003.77-0.partial")).unwrap();
    fs::write(checkpoints.join("step-000005"), "a file").unwrap();
    fs::create_dir(checkpoints.join("notes")).unwrap();
    assert_eq!(save(8).unwrap(), checkpoints.join("step-000008"));
    assert_eq!(names(checkpoints), ["notes", "step-000005", "step-000008"]);
    // The same step again, as after an evaluation that was postponed by a stop.
    save(8).unwrap();
    assert_eq!(names(checkpoints), ["notes", "step-000005", "step-000008"]);
    assert_eq!(load(&checkpoints.join("step-000008")).unwrap().0, progress(8));
}
