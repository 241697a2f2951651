//! Foreign bytes, on a stable compiler: every parser reads damaged versions of valid files.
//!
//! The checks are those of the fuzz targets, the valid files their seeds in `fuzz/seeds`. The damages include claimed
//! sizes up to 2⁶⁴ − 1: if memory were allocated for them before they are compared with the file, the process would be
//! killed.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use calame::data::prepare::{PrepareObserver, PrepareOptions, PrepareStart, prepare};
use calame::data::{self, ReadOptions, ShardFormat, find_sources};
use calame::formats::{ModelFile, load_model, save_model, write_gguf, write_onnx, write_torch};
use calame::model::{Activation, Gpt, ModelConfig, Preset};
use calame::run::RunFolder;
use calame::run::metrics::{MetricsWriter, Record};
use calame::tokenizer::{self, END_OF_TEXT, SimpleTokenizer, Tokenizer};
use calame::train::{Progress, RunConfig, TrainingState, save_training};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::gguf::Built;

use crate::support::{change, host, zeros};

#[path = "../../../../fuzz/checks.rs"]
mod checks;

/// A parser's check; returns whether the bytes were valid.
type Check = fn(&[u8]) -> bool;

/// All targets in `fuzz/`.
const TARGETS: [(&str, Check); 14] = [
    ("saved_model", checks::saved_model),
    ("training_checkpoint", checks::training_checkpoint),
    ("tokenizer_json", checks::tokenizer_json),
    ("metrics", checks::metrics),
    ("run_config", checks::run_config),
    ("corpus", checks::corpus),
    ("documents", checks::documents),
    ("manifest", checks::manifest),
    ("torch_file", checks::torch_file),
    ("llmc", checks::llmc),
    ("gguf", checks::gguf),
    ("onnx", checks::onnx),
    ("vocabulary_files", checks::vocabulary_files),
    ("generation_config", checks::generation_config),
];

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The committed seeds of a target, by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz_folder().join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 2, "{}: expected at least two seeds, found {}", folder.display(), paths.len());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A kind of damage; positions are relative to the file's length at that time.
#[derive(Clone, Debug)]
enum Damage {
    Truncate(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Replaces some bytes by those of another valid file.
    Splice {
        from: Index,
        to: Index,
        len: usize,
    },
    /// Replaces a number in the file by another.
    Number(Index, &'static str),
}

/// Replacements for a number in a text: limits of types and of model sizes, and values that are not numbers.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "-1",
    "0.5",
    "255",
    "16777216",
    "16777217",
    "2147483648",
    "4611686018427387904",
    "9223372036854775807",
    "18446744073709551615",
    "1e999",
    "null",
    "true",
    "\"7\"",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Truncate),
        2 => (any::<Index>(), 1u8..).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (any::<Index>(), 1usize..40).prop_map(|(at, len)| Damage::Remove(at, len)),
        2 => (any::<Index>(), any::<Index>(), 1usize..200).prop_map(|(from, to, len)| Damage::Splice { from, to, len }),
        4 => (any::<Index>(), proptest::sample::select(&NUMBERS[..])).prop_map(|(at, n)| Damage::Number(at, n)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Damage::Truncate(at) => bytes.truncate(place(at, bytes)),
            Damage::Flip(at, mask) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Damage::Flip(..) => {}
            Damage::Insert(at, new) => {
                let at = place(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Remove(at, len) => {
                let from = place(at, bytes);
                bytes.drain(from..(from + len).min(bytes.len()));
            }
            Damage::Splice { from, to, len } => {
                let (from, to) = (place(from, other), place(to, bytes));
                let new = &other[from..(from + len).min(other.len())];
                bytes.splice(to..(to + len).min(bytes.len()), new.iter().copied());
            }
            Damage::Number(which, new) => {
                let runs = digit_runs(bytes);
                if !runs.is_empty() {
                    bytes.splice(which.get(&runs).clone(), new.bytes());
                }
            }
        }
    }
}

fn digit_runs(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Runs a target's check on `cases` damaged seeds.
fn feed(target: &str, cases: u32) {
    let (_, check) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let seeds = seeds(target);
    let (n_valid, n_errors) = (Cell::new(0), Cell::new(0));
    let strategy = (any::<Index>(), any::<Index>(), vec(damage(), 1..4));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let outcome = runner.run(&strategy, |(seed, other, damages)| {
        let mut bytes = seed.get(&seeds).clone();
        let other: &Vec<u8> = other.get(&seeds);
        damages.iter().for_each(|damage| damage.apply(&mut bytes, other));
        let count = if check(&bytes) { &n_valid } else { &n_errors };
        count.set(count.get() + 1);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{target}: {failure}"));
    // If all damages miss, or all hit the first byte, the test would show nothing.
    assert!(n_valid.get() > 0 && n_errors.get() > 0, "{target}: {n_valid:?} valid, {n_errors:?} errors");
}

#[test]
fn damaged_models_are_errors() {
    feed("saved_model", 1500);
}

#[test]
fn damaged_checkpoints_are_errors() {
    feed("training_checkpoint", 1500);
}

#[test]
fn damaged_tokenizers_are_errors() {
    feed("tokenizer_json", 3000);
}

#[test]
fn damaged_metrics_are_errors() {
    feed("metrics", 300);
}

#[test]
fn damaged_run_configs_are_errors() {
    feed("run_config", 600);
}

#[test]
fn damaged_texts_are_errors() {
    feed("corpus", 600);
}

#[test]
fn damaged_documents_are_errors() {
    feed("documents", 1500);
}

#[test]
fn damaged_manifests_are_errors() {
    feed("manifest", 1500);
}

#[test]
fn damaged_torch_files_are_errors() {
    feed("torch_file", 1500);
}

#[test]
fn damaged_llmc_checkpoints_are_errors() {
    feed("llmc", 1500);
}

#[test]
fn damaged_gguf_files_are_errors() {
    feed("gguf", 1500);
}

#[test]
fn damaged_onnx_files_are_errors() {
    feed("onnx", 1500);
}

#[test]
fn damaged_vocabulary_files_are_errors() {
    feed("vocabulary_files", 1500);
}

#[test]
fn damaged_generation_configs_are_ignored() {
    feed("generation_config", 300);
}

#[test]
fn every_seed_is_valid_and_small() {
    for (target, check) in TARGETS {
        for (i, seed) in seeds(target).iter().enumerate() {
            assert!(check(seed), "seed {i} of {target} is not valid: write the seeds again (fuzz/README.md)");
            assert!(seed.len() < 8192, "seed {i} of {target} has {} bytes", seed.len());
        }
    }
}

/// A truncated download or a full disk: prefixes of a model and of a checkpoint.
#[test]
fn a_truncated_model_is_an_error() {
    for (target, check) in &TARGETS[..2] {
        for seed in seeds(target) {
            // Every ninth length, and each of the last, where only tensor data is missing.
            let lengths = (0..seed.len()).step_by(9).chain(seed.len() - 20..seed.len());
            let valid: Vec<usize> = lengths.filter(|&len| check(&seed[..len])).collect();
            assert!(valid.is_empty(), "{target}: valid at {valid:?} of {} bytes", seed.len());
        }
    }
}

/// As many blocks as the file has bytes for, but without their tensors.
#[test]
fn a_million_blocks_are_refused_before_they_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let shape = ModelConfig { n_embd: 1, n_layer: 1, vocab_size: 1, n_positions: 1, ..checks::tiny_model() };
    save_model(folder.path(), &model(&shape), None).unwrap();
    let (config, weights) = (folder.path().join("config.json"), folder.path().join("model.safetensors"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"n_layer\": 1", "\"n_layer\": 1000000")).unwrap();
    let n_bytes = 4 * ModelConfig { n_layer: 1_000_000, ..shape }.n_parameters();
    let header = json!({"wte.weight": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}}).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    fs::write(&weights, &bytes).unwrap();
    // A sparse file: nothing is written.
    fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len((bytes.len() + n_bytes) as u64).unwrap();
    let Err(error) = load_model(folder.path()) else { panic!("a model of a million blocks was read") };
    let message = error.to_string();
    assert!(message.contains("in 1000000 blocks, the file has"), "{message}");
    assert!(message.contains(&weights.display().to_string()), "{message}");
}

#[test]
fn every_check_has_its_fuzz_target() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let names: Vec<&str> = bins.iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
    for name in names {
        assert!(fuzz_folder().join("fuzz_targets").join(name).with_extension("rs").is_file(), "{name}");
    }
}

// Seeds.

/// Two files separated by the zero byte at which the checks split.
fn joined(first: &Path, second: &Path) -> Vec<u8> {
    let mut bytes = fs::read(first).unwrap();
    bytes.push(0);
    bytes.extend(fs::read(second).unwrap());
    bytes
}

/// A model with a few small, distinct numbers.
fn model(config: &ModelConfig) -> Gpt {
    let (mut gpt, mut numbers) = (zeros(config), (0..=u8::MAX).cycle().map(|i| f32::from(i) / 8.0 - 2.0));
    gpt.tensors_mut().for_each(|(_, t)| change(t, |x| x.iter_mut().zip(&mut numbers).for_each(|(x, n)| *x = n)));
    gpt
}

fn model_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 4] {
    let base = checks::tiny_model();
    let own_head = ModelConfig { qkv_bias: false, ..base.clone() };
    let two_blocks = ModelConfig { tied_head: true, n_layer: 2, n_head: 2, ..base.clone() };
    let settings = ModelConfig {
        bias: false,
        n_inner: Some(3),
        activation: Activation::Relu,
        layer_norm_epsilon: 1e-3,
        scale_attn_by_inverse_layer_idx: true,
        ..base.clone()
    };
    let all = [("bias", base), ("own-head", own_head), ("two-blocks", two_blocks), ("settings", settings)];
    all.map(|(name, config)| {
        let folder = folder.join(name);
        save_model(&folder, &model(&config), None).unwrap();
        if name == "own-head" {
            // In other programs' files this may be a number.
            let path = folder.join("config.json");
            let config = fs::read_to_string(&path).unwrap();
            fs::write(&path, config.replace("\"n_inner\": null", "\"n_inner\": 8")).unwrap();
        }
        (name, joined(&folder.join("config.json"), &folder.join("model.safetensors")))
    })
}

fn checkpoint_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    let last =
        Progress { n_steps: 40, epoch: 5, batch: 0, n_tokens_seen: 40_960, settled: true, ..Progress::default() };
    [("first", Progress::default()), ("last", last)].map(|(name, progress)| {
        let gpt = model(&checks::tiny_model());
        let state = TrainingState { dev: &host(), trees: [&gpt; 3], own_heads: None, progress: progress.clone() };
        let folder = save_training(&folder.join(name), &state, "", 1).unwrap();
        (name, joined(&folder.join("state.json"), &folder.join("weights.safetensors")))
    })
}

/// A byte-level BPE of three merges: `th`, `the` and ` the`.
fn bpe() -> String {
    let is_shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let shown = (0..=255u8).filter(is_shown).map(char::from);
    let others = (256u32..).take(256 - shown.clone().count()).map(|c| char::from_u32(c).unwrap());
    let tokens = shown.chain(others).map(String::from).chain(["th", "the", "\u{120}the"].map(str::to_owned));
    let vocab: serde_json::Map<String, Value> = tokens.zip(0..).map(|(token, id)| (token, id.into())).collect();
    let end_of_text = json!({"id": vocab.len(), "content": END_OF_TEXT, "special": true});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = json!({"type": "BPE", "vocab": vocab, "merges": ["t h", "th e", ["\u{120}", "the"]]});
    json!({"added_tokens": [end_of_text], "pre_tokenizer": bytes, "decoder": bytes, "model": model}).to_string()
}

fn tokenizer_seeds() -> [(&'static str, Vec<u8>); 3] {
    const TEXT: &str = "The reed, the pen; who \"writes\" with the reed?";
    let [v1, v2] = [SimpleTokenizer::v1(TEXT), SimpleTokenizer::v2(TEXT)].map(|simple| simple.unwrap().to_json());
    [("bpe", bpe()), ("simple-v1", v1), ("simple-v2", v2)].map(|(name, json)| (name, json.into_bytes()))
}

fn metrics_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    let path = folder.join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    let (prompt, text) = ("The reed".to_owned(), "The reed \"writes\"\n".to_owned());
    let step = |step: u64, loss| {
        let (epoch, n_tokens_seen) = (step / 2 + 1, 64 * (step + 1));
        Record::Step {
            step,
            epoch,
            loss,
            lr: 4e-4,
            grad_norm: None,
            n_tokens_seen,
            step_seconds: 0.25,
            tokens_per_second: 256.0,
        }
    };
    let evaluation = |step: u64, train_loss| {
        let (epoch, n_tokens_seen) = (step / 2 + 1, 64 * (step + 1));
        Record::Evaluation {
            step,
            epoch,
            train_loss,
            val_loss: 9.5,
            val_bits_per_byte: None,
            n_tokens_seen,
            seconds: 0.5,
        }
    };
    let records = [
        step(0, 10.75),
        evaluation(0, 9.875),
        step(1, 9.0),
        Record::Sample { step: 1, epoch: 1, prompt, text },
        step(2, f32::NAN),
        evaluation(2, 8.125),
        step(3, 7.5),
        Record::End {
            step: 3,
            epoch: 2,
            n_tokens_seen: 256,
            total_seconds: 2.0,
            best_step: None,
            best_val_loss: None,
            n_epochs: Some(2.0),
        },
    ];
    records.iter().for_each(|record| writer.write(record).unwrap());
    let whole = fs::read(&path).unwrap();
    let torn = whole[..whole.len() / 2].to_vec();
    [("torn", torn), ("whole", whole)]
}

fn run_config_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    let mut files = RunConfig::of_preset(Preset::Book);
    files.data.inputs = vec!["texts/*.txt".to_owned(), "builtin".to_owned()];
    [("book-of-files", files), ("tiny", RunConfig::of_preset(Preset::Tiny))].map(|(name, config)| {
        let run = RunFolder::create(&folder.join(name), &config, "{}", false).unwrap();
        (name, fs::read(run.path().join("config.toml")).unwrap())
    })
}

fn corpus_seeds() -> [(&'static str, Vec<u8>); 2] {
    let lines = "The reed wrote.\n\n\"Again,\" said the hand.\n";
    let marked = "\u{feff}Un calame, d\u{e9}j\u{e0} us\u{e9}\u{2026} \u{58a8}\u{1f58b}\r\n\t";
    [("lines", lines.into()), ("marked", marked.into())]
}

/// Each document follows the byte that selects its kind of file.
fn documents_seeds() -> [(&'static str, Vec<u8>); 4] {
    let lines = "{\"text\": \"The reed\"}\n{\"text\": \"wrote.\\n\"}\n\n{\"other\": 1}\n";
    let book =
        "Head\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\nThe reed.\n*** END OF THE PROJECT GUTENBERG EBOOK A ***";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(lines.as_bytes()).unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(book.as_bytes(), ruzstd::encoding::CompressionLevel::Uncompressed);
    let of_kind = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    [
        ("book", of_kind(0, book.as_bytes())),
        ("book-zstd", of_kind(2, &zstd)),
        ("lines", of_kind(3, lines.as_bytes())),
        ("lines-gzip", of_kind(4, &gzip.finish().unwrap())),
    ]
}

fn manifest_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    struct Silent;
    impl PrepareObserver for Silent {
        fn started(&mut self, _: PrepareStart) {}
        fn progress(&mut self, _: &data::prepare::PrepareProgress) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let tokenizer = tokenizer::read_json(&bpe(), Path::new("tokenizer.json")).unwrap();
    [("llmc", ShardFormat::Llmc), ("nanogpt", ShardFormat::Nanogpt)].map(|(name, format)| {
        let (text, out) = (folder.join(format!("{name}.jsonl")), folder.join(name));
        fs::write(&text, "{\"text\": \"The reed, the pen\"}\n{}\n").unwrap();
        let sources = find_sources(&[text.to_str().unwrap()], folder, &ReadOptions::default()).unwrap();
        let options = PrepareOptions { format, shard_tokens: 8, val_fraction: 0.0, ..PrepareOptions::default() };
        prepare(&sources, tokenizer.as_ref(), &options, &out, 1, &mut Silent).unwrap();
        // The folder's name changes between runs.
        let json = fs::read_to_string(out.join("manifest.json")).unwrap();
        (name, json.replace(folder.to_str().unwrap(), "texts").into_bytes())
    })
}

/// PyTorch wrote all but the last, which calame writes: two of them with objects of a script beside the weights.
fn torch_file_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 7] {
    let config = ModelConfig { qkv_bias: false, tied_head: true, ..checks::tiny_model() };
    save_model(&folder.join("to-write"), &model(&config), None).unwrap();
    let calame = folder.join("calame.pt");
    write_torch(&calame, &ModelFile::open(&folder.join("to-write")).unwrap()).unwrap();
    let theirs = fuzz_folder().join("../golden/torch");
    ["formats", "legacy-views", "nanogpt", "views", "namespace", "lightning", "calame"].map(|name| {
        let path = match name {
            "calame" => calame.clone(),
            "namespace" => theirs.join("../odd/namespace.pt"),
            "lightning" => theirs.join("../odd/lightning.ckpt"),
            name => theirs.join(name).with_extension("pt"),
        };
        (name, fs::read(path).unwrap())
    })
}

/// A block of two channels with small, distinct numbers, in f32 and in bf16 (the upper half of an f32).
fn llmc_seeds() -> [(&'static str, Vec<u8>); 2] {
    // Positions, vocabulary, blocks, heads, channels, padded vocabulary.
    let sizes = [2u32, 3, 1, 1, 2, 4];
    let n_elements = (4 + 2 + 2) * 2 + 12 * 2 * 2 + 13 * 2;
    [("f32", 3u32, 0), ("bf16", 5, 2)].map(|(name, version, skipped)| {
        let header = [20_240_326, version].into_iter().chain(sizes);
        let mut bytes: Vec<u8> = header.flat_map(u32::to_le_bytes).collect();
        bytes.resize(1024, 0);
        let numbers = (0..n_elements).map(|i| f32::from(i as u8) / 8.0 - 2.0);
        bytes.extend(numbers.flat_map(|x| x.to_le_bytes().into_iter().skip(skipped)));
        (name, bytes)
    })
}

/// Written by calame: one with a tokenizer, and one with 16-bit numbers, which calame does not write.
fn gguf_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 3] {
    let own_head = ModelConfig { qkv_bias: false, ..checks::tiny_model() };
    let narrow = ModelConfig { vocab_size: 261, n_embd: 1, tied_head: true, ..checks::tiny_model() };
    let tokenizer = tokenizer::read_json(&bpe(), Path::new("tokenizer.json")).unwrap();
    let written = |name: &str, config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>| {
        let path = folder.join(name);
        save_model(&path.join("model"), &model(config), tokenizer).unwrap();
        let path = path.join("seed.gguf");
        write_gguf(&path, &ModelFile::open(&folder.join(name)).unwrap()).unwrap();
        fs::read(&path).unwrap()
    };
    [
        ("halves", Built::halves().bytes()),
        ("own-head", written("own-head", &own_head, None)),
        ("tokenizer", written("tokenizer", &narrow, Some(tokenizer.as_ref()))),
    ]
}

/// Tokens of `th`, `the` and ` the` and a special one; with and without the files of added tokens.
fn vocabulary_files_seeds() -> [(&'static str, Vec<u8>); 2] {
    let vocab = json!({"t": 0, "h": 1, "e": 2, "\u{120}": 3, "th": 4, "the": 5, "\u{120}the": 6, END_OF_TEXT: 7});
    let pair = format!("{vocab}\0#version: 0.2\nt h\nth e\n\u{120} the\n");
    let (added, roles) = (json!({"<pad>": 8}), json!({"eos_token": END_OF_TEXT, "pad_token": {"content": "<pad>"}}));
    let config =
        json!({"add_prefix_space": false, "added_tokens_decoder": {"9": {"content": "<u>", "special": false}}});
    let all = format!("{pair}\0{added}\0{roles}\0{config}");
    [("all", all.into_bytes()), ("pair", pair.into_bytes())]
}

fn generation_config_seeds() -> [(&'static str, Vec<u8>); 2] {
    let one = json!({"bos_token_id": 1, "eos_token_id": 2, "max_length": 50});
    let several = json!({"bos_token_id": null, "eos_token_id": [2, 0, 50256]});
    [("one", one), ("several", several)].map(|(name, json)| (name, json.to_string().into_bytes()))
}

fn onnx_seeds(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    let base = checks::tiny_model();
    let tied = ModelConfig { qkv_bias: false, tied_head: true, ..base.clone() };
    [("bias", base), ("tied", tied)].map(|(name, config)| {
        let [saved, exported] = ["saved", "onnx"].map(|kind| folder.join(format!("{kind}-{name}")));
        save_model(&saved, &model(&config), None).unwrap();
        write_onnx(&exported, &ModelFile::open(&saved).unwrap()).unwrap();
        let graph = fs::read(exported.join("model.onnx")).unwrap();
        let mut bytes = u16::try_from(graph.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(graph);
        bytes.extend(fs::read(exported.join("model.onnx.data")).unwrap());
        (name, bytes)
    })
}

/// The committed seeds equal what the code writes today; with `CALAME_WRITE_SEEDS` they are written again.
#[test]
fn the_fuzz_seeds_are_what_the_code_writes() {
    let folder = tempfile::tempdir().unwrap();
    let check = |target: &str, seeds: &[(&str, Vec<u8>)]| {
        let to = fuzz_folder().join("seeds").join(target);
        for (name, bytes) in seeds {
            if std::env::var_os("CALAME_WRITE_SEEDS").is_some() {
                fs::create_dir_all(&to).unwrap();
                fs::write(to.join(name), bytes).unwrap();
            }
            let message = "run this test once with CALAME_WRITE_SEEDS=1 after a change of format";
            assert!(fs::read(to.join(name)).unwrap() == *bytes, "fuzz/seeds/{target}/{name} is out of date: {message}");
        }
    };
    check("saved_model", &model_seeds(folder.path()));
    check("training_checkpoint", &checkpoint_seeds(folder.path()));
    check("tokenizer_json", &tokenizer_seeds());
    check("metrics", &metrics_seeds(folder.path()));
    check("run_config", &run_config_seeds(folder.path()));
    check("corpus", &corpus_seeds());
    check("documents", &documents_seeds());
    check("manifest", &manifest_seeds(folder.path()));
    check("torch_file", &torch_file_seeds(folder.path()));
    check("llmc", &llmc_seeds());
    check("gguf", &gguf_seeds(&folder.path().join("gguf")));
    check("onnx", &onnx_seeds(folder.path()));
    check("vocabulary_files", &vocabulary_files_seeds());
    check("generation_config", &generation_config_seeds());
}
