//! ONNX exports: the files equal the model bit for bit, the graph computes its logits, and damaged files are errors.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use calame::formats::{CheckpointError, ModelFile, OnnxFile, save_model, verify_onnx, write_onnx};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::tokenizer::SimpleTokenizer;
use tempfile::TempDir;

use crate::support::{self, change};

const GRAPH: &str = "model.onnx";
const DATA: &str = "model.onnx.data";

fn config(qkv_bias: bool, tied_head: bool) -> ModelConfig {
    let base = Preset::Tiny.config();
    ModelConfig { vocab_size: 67, n_positions: 24, n_embd: 24, n_head: 3, n_layer: 2, qkv_bias, tied_head, ..base }
}

fn configs() -> [ModelConfig; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(bias, tied)| config(bias, tied))
}

fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

/// A model in which every parameter, including gains and biases, has distinct values.
fn model(config: &ModelConfig) -> Gpt {
    let mut gpt = Gpt::fresh(&device(), config, 3);
    for (i, (_, tensor)) in gpt.tensors_mut().enumerate() {
        change(tensor, |x| {
            x.iter_mut().enumerate().for_each(|(j, x)| *x += ((i * 31 + j * 7) % 1001) as f32 * 1e-3 - 0.5);
        });
    }
    gpt
}

/// A model's folder and its export within a test folder.
struct Exported {
    _parent: TempDir,
    saved: PathBuf,
    folder: PathBuf,
}

impl Exported {
    fn new(config: &ModelConfig) -> Exported {
        let parent = tempfile::tempdir().unwrap();
        let (saved, folder) = (parent.path().join("model"), parent.path().join("onnx"));
        let words = SimpleTokenizer::v2("one two three, four").unwrap();
        save_model(&saved, &model(config), Some(&words)).unwrap();
        write_onnx(&folder, &ModelFile::open(&saved).unwrap()).unwrap();
        Exported { _parent: parent, saved, folder }
    }

    fn graph(&self) -> PathBuf {
        self.folder.join(GRAPH)
    }

    fn verify(&self) -> Result<usize, CheckpointError> {
        let check = verify_onnx(&self.folder, &ModelFile::open(&self.saved).unwrap())?;
        Ok(check.n_parameters)
    }

    /// The error message for a rejected export, which names the file.
    fn refused(&self, file: &str) -> String {
        let message = OnnxFile::open(&self.graph()).expect_err("the file must be refused").to_string();
        let path = self.folder.join(file);
        assert!(message.contains(path.to_str().unwrap()), "{message:?} does not name {}", path.display());
        message
    }

    /// Replaces bytes of the graph by others of the same length.
    fn replace(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(self.graph()).unwrap();
        let at = bytes.windows(from.len()).position(|bytes| bytes == from).expect("it is there");
        bytes[at..at + to.len()].copy_from_slice(to);
        fs::write(self.graph(), bytes).unwrap();
    }
}

/// An encoded entry of a tensor's external data: field 1 is the key, field 2 the value.
fn entry(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x0a, key.len() as u8];
    bytes.extend(key.bytes());
    bytes.extend([0x12, value.len() as u8]);
    bytes.extend(value.bytes());
    bytes
}

#[test]
fn an_export_is_the_model_to_the_bit() {
    for config in configs() {
        let exported = Exported::new(&config);
        assert_eq!(exported.verify().unwrap(), config.n_parameters());
        for file in ["config.json", "generation_config.json", "tokenizer.json", GRAPH, DATA] {
            assert!(exported.folder.join(file).is_file(), "{file}");
        }
        let file = OnnxFile::open(&exported.graph()).unwrap();
        let stored = file.tensors().to_vec();
        let gpt = model(&config);
        let expected: Vec<_> = gpt.tensors().filter(|(_, tensor)| !tensor.is_empty()).collect();
        assert_eq!(stored.len(), expected.len());
        for (i, (stored, (name, tensor))) in stored.iter().zip(expected).enumerate() {
            assert_eq!(stored.name, name.to_string());
            let mut values = vec![0.0; tensor.len()];
            file.read(i, 0, &mut values).unwrap();
            let (rows, cols) = (tensor.n_rows(), tensor.row_len());
            let is_linear = name.block.is_some() && name.path().ends_with("weight") && tensor.dims().len() == 2;
            if is_linear {
                // Linear weights are [in, out].
                assert_eq!(stored.shape, [cols, rows]);
                let back: Vec<f32> = (0..rows * cols).map(|at| values[at % cols * rows + at / cols]).collect();
                values = back;
            } else {
                assert_eq!(stored.shape, tensor.dims());
            }
            let same = values.iter().zip(support::values(tensor)).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name} of {config:?}");
        }
        let hash = ModelFile::open(&exported.saved).unwrap().tokenizer().unwrap().hash();
        for (key, value) in [
            ("n_head", "3"),
            ("qkv_bias", if config.qkv_bias { "true" } else { "false" }),
            ("tied_head", if config.tied_head { "true" } else { "false" }),
            ("dropout", "0"),
            ("init", "gpt2"),
            ("tokenizer_sha256", &hash),
        ] {
            assert_eq!(file.metadata(&format!("calame.{key}")), Some(value));
        }
    }
}

#[test]
fn an_export_replaces_another_and_needs_no_tokenizer() {
    let exported = Exported::new(&config(true, true));
    let other = config(false, false);
    save_model(&exported.saved, &model(&other), None).unwrap();
    assert!(exported.verify().unwrap_err().to_string().contains("its graph is not that of the model"));
    write_onnx(&exported.folder, &ModelFile::open(&exported.saved).unwrap()).unwrap();
    assert_eq!(exported.verify().unwrap(), other.n_parameters());
    assert!(!exported.folder.join("tokenizer.json").exists());
    assert_eq!(OnnxFile::open(&exported.graph()).unwrap().metadata("calame.tokenizer_sha256"), None);
}

#[test]
fn a_model_that_cannot_be_read_leaves_the_old_export() {
    let exported = Exported::new(&config(true, true));
    let mut gpt = model(&config(true, true));
    change(&mut gpt.ln_f.weight, |x| x[3] = f32::NAN);
    save_model(&exported.saved, &gpt, None).unwrap();
    let before = fs::read(exported.graph()).unwrap();
    let error = write_onnx(&exported.folder, &ModelFile::open(&exported.saved).unwrap()).unwrap_err();
    assert!(error.to_string().contains("ln_f.weight holds a number that is not finite"), "{error}");
    assert_eq!(fs::read(exported.graph()).unwrap(), before);
    assert!(exported.folder.join("tokenizer.json").is_file());
}

#[test]
fn a_changed_bit_is_detected() {
    let exported = Exported::new(&config(true, false));
    let path = exported.folder.join(DATA);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = exported.verify().unwrap_err().to_string();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("lm_head.weight"), "{message}");

    let exported = Exported::new(&config(true, false));
    exported.replace(b"Tanh", b"Sinh");
    assert!(exported.verify().unwrap_err().to_string().contains("its graph is not that of the model"));
}

#[test]
fn a_truncated_graph_is_an_error() {
    let exported = Exported::new(&config(true, true));
    let bytes = fs::read(exported.graph()).unwrap();
    // The graph is followed by 40 to 300 bytes of versions and metadata, whose fields are optional.
    for len in (0..bytes.len() - 400).step_by(97).chain(0..9) {
        fs::write(exported.graph(), &bytes[..len]).unwrap();
        let message = exported.refused(GRAPH);
        assert!(message.contains("it is no ONNX model") || message.contains("it has no graph"), "{message}");
    }
}

#[test]
fn a_graph_too_large_is_refused_unread() {
    let exported = Exported::new(&config(true, true));
    OpenOptions::new().write(true).open(exported.graph()).unwrap().set_len(1 << 32).unwrap();
    assert!(exported.refused(GRAPH).contains("a graph of 4294967296 bytes"));
}

#[test]
fn weights_must_be_in_the_folder() {
    let exported = Exported::new(&config(true, true));
    fs::copy(exported.folder.join(DATA), exported.folder.join("../outside.data")).unwrap();
    exported.replace(DATA.as_bytes(), b"../outside.data");
    assert!(exported.refused(GRAPH).contains("\"../outside.data\" leads to"));
    exported.replace(b"../outside.data", b"/usr/share/dict");
    assert!(exported.refused(GRAPH).contains("outside the folder"));

    #[cfg(unix)]
    {
        let exported = Exported::new(&config(true, true));
        let (inside, outside) = (exported.folder.join(DATA), exported.folder.join("../outside.data"));
        fs::rename(&inside, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &inside).unwrap();
        assert!(exported.refused(GRAPH).contains("outside the folder"));
    }
}

#[test]
fn missing_weights_are_an_error() {
    let exported = Exported::new(&config(true, true));
    let path = exported.folder.join(DATA);
    let n_bytes = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(n_bytes - 1).unwrap();
    let message = exported.refused(DATA);
    assert!(message.contains("ln_f.bias") && message.contains(&format!("the file has {}", n_bytes - 1)), "{message}");
    fs::remove_file(&path).unwrap();
    exported.refused(DATA);
    fs::create_dir(&path).unwrap();
    exported.refused(DATA);
}

#[test]
fn impossible_offsets_are_an_error() {
    // wte is [67, 24] and the first in the file, so wpe starts at 6432.
    let change = |from: (&str, &str), to: (&str, &str), file: &str| {
        let exported = Exported::new(&config(true, true));
        exported.replace(&entry(from.0, from.1), &entry(to.0, to.1));
        exported.refused(file)
    };
    let n_bytes = fs::metadata(Exported::new(&config(true, true)).folder.join(DATA)).unwrap().len();
    let beyond = change(("offset", &(n_bytes - 96).to_string()), ("offset", "99999"), DATA);
    assert!(beyond.contains("ln_f.bias has 96 bytes from byte 99999 on, the file has"), "{beyond}");
    let text = change(("offset", "6432"), ("offset", "-432"), GRAPH);
    assert!(text.contains("offset of wpe.weight is \"-432\""), "{text}");
    let over = change(("offset", "6432"), ("offset", "6431"), DATA);
    assert!(over.contains("wte.weight and wpe.weight overlap at byte 6431"), "{over}");
    let length = change(("length", "6432"), ("length", "6436"), GRAPH);
    assert!(length.contains("wte.weight [67, 24] has a length of 6436 bytes, expected 6432"), "{length}");
    let nowhere = change(("location", DATA), ("locution", DATA), GRAPH);
    assert!(nowhere.contains("wte.weight is in another file that is not named"), "{nowhere}");
}
