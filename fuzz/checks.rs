//! Properties that must hold for arbitrary input to the library's parsers.
//!
//! A check panics if a property is violated, and returns whether the bytes were valid. The fuzz targets next to this
//! file run the checks on libFuzzer's inputs; `crates/calame/tests/it/foreign.rs` runs them on a stable compiler.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;

use calame::data::documents::{Meter, PIECE_BYTES};
use calame::data::prepare::Texts;
use calame::data::{Corpus, Manifest, ReadAs, ReadOptions, ShardSet, Split, find_sources};
use calame::formats::{
    Format, ModelFile, OnnxFile, TorchFile, load_model, load_tokenizer, save_model, write_gguf, write_hugging_face,
};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{self, Device, Isa, Precision};
use calame::quant::dequantize;
use calame::run::RunFolder;
use calame::run::metrics::{self, MetricsWriter, Record};
use calame::run::plot::{self, PlotError};
use calame::tensor::Alloc;
use calame::tokenizer::{self, Special};
use calame::train::{Progress, RunConfig, load_training};

/// The shape of the training checkpoints: every kind of parameter in a few hundred bytes.
pub fn tiny_model() -> ModelConfig {
    ModelConfig {
        vocab_size: 3,
        n_positions: 2,
        n_embd: 2,
        n_head: 1,
        n_layer: 1,
        dropout: 0.1,
        tied_head: false,
        ..Preset::Gpt2.config()
    }
}

/// The device on which the numbers read are examined.
fn host() -> Device {
    Device::cpu(1, Isa::Portable, Precision::F32)
}

/// The bytes before and after the first zero byte, which JSON never contains.
pub fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let middle = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    (&data[..middle], data.get(middle + 1..).unwrap_or_default())
}

/// A saved model: `config.json`, a zero byte, `model.safetensors`.
pub fn saved_model(data: &[u8]) -> bool {
    let (config, weights) = split(data);
    in_folder(|folder| {
        write(&folder.join("config.json"), config);
        write(&folder.join("model.safetensors"), weights);
        let saved = match load_model(folder) {
            Ok(saved) => saved,
            Err(error) => return names(&error, folder),
        };
        let shape = &saved.gpt.config;
        assert_eq!(shape.validate(), Ok(()));
        assert!(4 * shape.n_parameters() <= weights.len(), "{shape:?} out of {} bytes", weights.len());
        assert_eq!(saved.gpt.first_not_finite(&host()), None);
        assert_same(ModelFile::open(folder).expect("read before").config(), shape);
        true
    })
}

/// A training checkpoint: `state.json`, a zero byte, the file used for weights and both moments.
pub fn training_checkpoint(data: &[u8]) -> bool {
    let (state, tensors) = split(data);
    in_folder(|folder| {
        write(&folder.join("state.json"), state);
        for name in ["weights", "m", "v"] {
            write(&folder.join(format!("{name}.safetensors")), tensors);
        }
        let fresh = || Gpt::zeros(&tiny_model(), &mut Alloc::on_host());
        let (mut weights, mut m, mut v) = (fresh(), fresh(), fresh());
        if let Err(error) = load_training(&host(), folder, [&mut weights, &mut m, &mut v], None) {
            return names(&error, folder);
        }
        assert_eq!(bits(&weights), bits(&m));
        assert_eq!(bits(&weights), bits(&v));
        true
    })
}

/// A tokenizer: `tokenizer.json`.
pub fn tokenizer_json(data: &[u8]) -> bool {
    const TEXT: &str = "The <|endoftext|>\u{a0}the\n\n  reed -- \"pen\", it's\u{301} \u{1f58b} 1908!\t";
    let path = Path::new("models/odd/tokenizer.json");
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let tokenizer = match tokenizer::read_json(text, path) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return names(&error, path),
    };
    // The file's own text contains the words and special tokens of its vocabulary.
    let own: String = text.chars().take(300).collect();
    for text in [TEXT, &own] {
        for special in [Special::Forbid, Special::Allow, Special::AsText] {
            if let Ok(ids) = tokenizer.encode(text, special) {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
                let decoded = tokenizer.decode(&ids).expect("its own ids");
                assert!(decoded == text || tokenizer.kind().starts_with("simple"), "{text:?} became {decoded:?}");
            }
        }
    }
    let written = tokenizer.to_json();
    let again = tokenizer::read_json(&written, path).expect("what was written can be read");
    assert_eq!(again.hash(), tokenizer.hash());
    assert_eq!(again.to_json(), written);
    true
}

/// GPT-2's pair of files and those of the added tokens, separated by zero bytes.
pub fn vocabulary_files(data: &[u8]) -> bool {
    const NAMES: [&str; 5] =
        ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"];
    in_folder(|folder| {
        for (name, bytes) in NAMES.iter().zip(data.splitn(NAMES.len(), |&byte| byte == 0)) {
            write(&folder.join(name), bytes);
        }
        let tokenizer = match load_tokenizer(folder) {
            Ok(Some(tokenizer)) => tokenizer,
            Ok(None) => return false,
            Err(error) => return names(&error, folder),
        };
        let text = String::from_utf8_lossy(data).replace('\0', " ");
        for special in [Special::Forbid, Special::Allow, Special::AsText] {
            if let Ok(ids) = tokenizer.encode(&text, special) {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
                assert_eq!(tokenizer.decode(&ids).expect("its own ids"), text);
            }
        }
        let again = tokenizer::read_json(&tokenizer.to_json(), folder).expect("what was written can be read");
        assert_eq!(again.hash(), tokenizer.hash());
        true
    })
}

/// The `generation_config.json` of a model: whatever it contains, the model can be used.
pub fn generation_config(data: &[u8]) -> bool {
    in_folder(|folder| {
        let (saved, again) = (folder.join("saved"), folder.join("again"));
        save_model(&saved, &Gpt::zeros(&tiny_model(), &mut Alloc::on_host()), None).expect("it can be written");
        write(&saved.join("generation_config.json"), data);
        let model = ModelFile::open(&saved).expect("only texts need the file");
        let bounds = model.bounds().clone();
        let ids = bounds.begin.iter().chain(&bounds.ends);
        assert!(ids.copied().all(|id| (id as usize) < tiny_model().vocab_size), "{bounds:?}");
        write_hugging_face(&again, &model).expect("it can be written");
        assert_eq!(*ModelFile::open(&again).expect("it can be read").bounds(), bounds);
        let note = model.notes().iter().find(|note| note.contains("generation_config.json is ignored"));
        note.is_none_or(|note| names(note, &saved.join("generation_config.json")))
    })
}

/// Metrics: reads `metrics.jsonl`, resumes its run and draws its figure.
pub fn metrics(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("metrics.jsonl");
        write(&path, data);
        let records = match metrics::read(&path) {
            Ok(records) => records,
            Err(error) => {
                assert!(MetricsWriter::open_at_step(&path, &Progress::default()).is_err());
                assert_eq!(fs::read(&path).expect("still there"), data, "a file that cannot be read is left alone");
                return names(&error, &path);
            }
        };
        match plot::draw(&records, None, folder) {
            Ok(_) | Err(PlotError::NoEvaluation { .. } | PlotError::NoFiniteLoss { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let step = records.get(records.len() / 2).map_or(0, Record::step);
        let progress = Progress { n_steps: step, settled: true, ..Progress::default() };
        drop(MetricsWriter::open_at_step(&path, &progress).expect("it was read"));
        let is_end = |record: &Record| matches!(record, Record::End { .. } | Record::Memorisation { .. });
        let kept: Vec<_> = records.iter().filter(|record| record.step() < step && !is_end(record)).collect();
        assert_same(&metrics::read(&path).expect("read again"), &kept);
        true
    })
}

/// Settings of a run: `config.toml`.
pub fn run_config(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("config.toml");
        write(&path, data);
        let config = match RunFolder::open(folder) {
            Ok((_, config)) => config,
            Err(error) => return names(&error, &path),
        };
        // Either may report an invalid value, which does not make the file malformed.
        let _ = (config.model.validate(), config.data.validate(), config.train.validate());
        let written = toml::to_string_pretty(&config).expect("a configuration that was read can be written");
        assert_same(&toml::from_str::<RunConfig>(&written).expect("what was written can be read"), &config);
        true
    })
}

/// A text to train on, in a single file.
pub fn corpus(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("a [text]*.txt");
        write(&path, data);
        let text = std::str::from_utf8(data).ok().map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
        let text = text.filter(|text| !text.trim_start().is_empty());
        let options = ReadOptions { read_as: ReadAs::Text, ..ReadOptions::default() };
        match (Corpus::read(&[path.to_str().expect("UTF-8")], folder, &options), text) {
            (Ok(corpus), Some(text)) => {
                assert_eq!(corpus.text(), text);
                let [source] = corpus.sources() else { panic!("one file, {:?}", corpus.sources()) };
                assert_eq!((source.range.clone(), source.file_bytes), (0..text.len(), data.len() as u64));
                assert_eq!(source.n_characters, text.chars().count());
                true
            }
            // Binary data and texts of nothing but separators are refused too.
            (Err(error), _) => names(&error, &path),
            (loaded, text) => panic!("{loaded:?} of {text:?}"),
        }
    })
}

/// The `manifest.json` of a prepared folder.
pub fn manifest(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("manifest.json");
        write(&path, data);
        let (manifest, _) = match Manifest::read(folder) {
            Ok(read) => read,
            Err(error) => return names(&error, &path),
        };
        for part in [Split::Train, Split::Val] {
            // None of the shards exists.
            let has_shards = manifest.shards.iter().any(|shard| shard.split == part);
            assert_eq!(ShardSet::open(folder, &manifest, part).is_err(), has_shards);
        }
        let written = serde_json::to_vec(&manifest).expect("a manifest that was read can be written");
        write(&path, &written);
        assert_same(&Manifest::read(folder).expect("what was written can be read").0, &manifest);
        true
    })
}

/// Documents; the first byte selects the kind of file.
pub fn documents(data: &[u8]) -> bool {
    const NAMES: [&str; 6] = ["a.txt", "a.txt.gz", "a.txt.zst", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"];
    let Some((kind, data)) = data.split_first() else { return false };
    in_folder(|folder| {
        let path = folder.join(NAMES[usize::from(*kind) % NAMES.len()]);
        write(&path, data);
        let options = ReadOptions { strip_gutenberg: true, dedup: true, ..ReadOptions::default() };
        let sources = match find_sources(&[path.to_str().expect("UTF-8")], folder, &options) {
            Ok(sources) => sources,
            Err(error) => return names(&error, &path),
        };
        let mut texts = Texts::new(&sources, &options, Meter::default());
        let mut n_texts = 0;
        loop {
            match texts.next_text() {
                Ok(Some(text)) => {
                    assert!(!text.is_empty() && text.len() <= PIECE_BYTES, "a piece of {} bytes", text.len());
                    n_texts += 1;
                }
                Ok(None) => return n_texts > 0,
                Err(error) => return names(&error, &path),
            }
            // A few bytes may decompress to gigabytes, which are read in pieces like any others.
            if n_texts > 64 {
                return true;
            }
        }
    })
}

/// A PyTorch file, in either layout.
pub fn torch_file(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("model.pt");
        write(&path, data);
        let file = match TorchFile::open(&path) {
            Ok(file) => file,
            Err(error) => return names(&error, &path),
        };
        assert!(!file.tensors().is_empty());
        for (i, tensor) in file.tensors().to_vec().iter().enumerate() {
            assert!(tensor.len() * tensor.dtype.n_bytes() <= data.len(), "{tensor:?} out of {} bytes", data.len());
            let mut values = vec![0.0; tensor.len()];
            match file.read(i, &mut values) {
                Ok(()) => assert!(tensor.dtype.is_float()),
                Err(error) => assert!(!names(&error, &path) && !tensor.dtype.is_float(), "{error}"),
            }
            let mut raw = vec![0; tensor.len() * tensor.dtype.n_bytes()];
            file.read_raw(i, &mut raw).expect("compared with the file");
        }
        // Few inputs are models; calame's record is read for any of them.
        if let Err(error) = load_model(&path) {
            names(&error, &path);
        }
        true
    })
}

/// A checkpoint of llm.c.
pub fn llmc(data: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("model.bin");
        write(&path, data);
        let file = match ModelFile::open(&path) {
            Ok(file) if file.format() == Format::Llmc => file,
            Ok(_) => return false,
            Err(error) => return names(&error, &path),
        };
        let shape = file.config().clone();
        assert_eq!(shape.validate(), Ok(()));
        assert!(2 * shape.n_parameters() <= data.len(), "{shape:?} out of {} bytes", data.len());
        match file.load() {
            Ok(saved) => assert_eq!(saved.gpt.first_not_finite(&host()), None),
            Err(error) => return names(&error, &path),
        }
        true
    })
}

/// A GGUF file: a model that can be read is written again and read back.
pub fn gguf(data: &[u8]) -> bool {
    in_folder(|folder| {
        let (path, again) = (folder.join("model.gguf"), folder.join("again.gguf"));
        write(&path, data);
        let model = match ModelFile::open(&path) {
            Ok(model) => model,
            Err(error) => return names(&error, &path),
        };
        assert_eq!(model.config().validate(), Ok(()));
        let stored: u64 = model.stored().iter().map(|tensor| tensor.file_bytes).sum();
        assert!(stored <= data.len() as u64, "{stored} bytes of tensors out of {}", data.len());
        for (i, tensor) in model.stored().iter().enumerate() {
            let (mut raw, mut values) =
                (vec![0; tensor.file_bytes as usize], vec![0.0; tensor.n_elements().expect("few")]);
            model.source().read_raw(i, &mut raw).expect("compared with the file");
            model.source().read(i, &mut values).expect("compared with the file");
            let mut converted = vec![0.0; values.len()];
            dequantize(tensor.format.expect("every format of GGUF is one"), &raw, &mut converted);
            assert!(converted.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()), "{tensor:?}");
        }
        match write_gguf(&again, &model) {
            Ok(_) => {}
            // The numbers are not finite, or not zero where the model has no bias.
            Err(error) => return names(&error, &path),
        }
        let (tokenizer, saved) = (model.tokenizer().cloned(), model.load().expect("read before"));
        let back = load_model(&again).expect("what was written can be read");
        assert_same(&back.gpt.config, &saved.gpt.config);
        assert_eq!(bits(&back.gpt), bits(&saved.gpt));
        assert_eq!(back.tokenizer.map(|t| t.hash()), tokenizer.map(|t| t.hash()));
        true
    })
}

/// An ONNX export: the length of `model.onnx` in two bytes, that file, then `model.onnx.data`.
pub fn onnx(data: &[u8]) -> bool {
    let (len, rest) = data.split_first_chunk().unwrap_or((&[0, 0], data));
    let (graph, weights) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    in_folder(|folder| {
        let path = folder.join("model.onnx");
        write(&path, graph);
        write(&folder.join("model.onnx.data"), weights);
        let file = match OnnxFile::open(&path) {
            Ok(file) => file,
            Err(error) => return names(&error, folder),
        };
        let mut n_bytes = 0;
        for (i, tensor) in file.tensors().to_vec().iter().enumerate() {
            let mut values = vec![0.0; tensor.n_elements().expect("compared with the file")];
            file.read(i, 0, &mut values).expect("compared with the file");
            n_bytes += 4 * values.len();
        }
        assert!(n_bytes <= data.len(), "{n_bytes} bytes of weights out of {}", data.len());
        true
    })
}

/// Runs `check` in a new folder, which is removed afterwards.
fn in_folder(check: impl FnOnce(&Path) -> bool) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(folder.path())
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the temporary folder can be written");
}

/// For invalid bytes: the message must name their file.
fn names(error: &impl Display, path: &Path) -> bool {
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "no {} in: {message}", path.display());
    false
}

/// Compares the formatted values, so that NaN equals NaN.
fn assert_same(a: &impl Debug, b: &impl Debug) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

fn bits(gpt: &Gpt) -> Vec<Vec<u32>> {
    let host = host();
    gpt.tensors().map(|(_, tensor)| ops::read(&host, tensor).into_iter().map(f32::to_bits).collect()).collect()
}
