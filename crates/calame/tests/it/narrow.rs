//! Models written in 16 bits: every weight is the model's, rounded, and the file says so.

use std::fs;

use calame::formats::{ModelFile, save_model, verify_narrowed, write_gguf_as, write_hugging_face_as};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::quant::NumberFormat;
use half::{bf16, f16};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{change, host, values};

const FORMATS: [NumberFormat; 2] = [NumberFormat::F16, NumberFormat::Bf16];

/// A model in a folder, after a change of its weights.
fn saved(change: impl FnOnce(&mut Gpt)) -> (TempDir, ModelFile) {
    let config = ModelConfig { vocab_size: 67, n_positions: 24, n_embd: 32, qkv_bias: false, ..Preset::Tiny.config() };
    let folder = tempfile::tempdir().unwrap();
    let mut gpt = Gpt::fresh(&host(), &config, 3);
    change(&mut gpt);
    save_model(&folder.path().join("model"), &gpt, None).unwrap();
    let model = ModelFile::open(&folder.path().join("model")).unwrap();
    (folder, model)
}

/// Biases of a fresh model are 0, which rounding does not change.
fn fill_vectors(gpt: &mut Gpt) {
    for (_, tensor) in gpt.tensors_mut() {
        change(tensor, |x| x.iter_mut().zip(1u8..=255).for_each(|(x, i)| *x += f32::from(i) * 1.234e-3));
    }
}

fn rounded(x: f32, format: NumberFormat) -> f32 {
    if format == NumberFormat::F16 { f16::from_f32(x).to_f32() } else { bf16::from_f32(x).to_f32() }
}

#[test]
fn a_hugging_face_folder_has_every_weight_rounded() {
    for format in FORMATS {
        let (folder, model) = saved(fill_vectors);
        let path = folder.path().join("written");
        write_hugging_face_as(&path, &model, format).unwrap();
        let written = ModelFile::open(&path).unwrap();
        assert_eq!(written.config(), model.config());
        assert!(written.stored().iter().all(|t| t.dtype == format.name()), "{format}");
        assert_eq!(verify_narrowed(&written, &model, format).unwrap(), model.config().n_parameters());
        let config: Value = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], if format == NumberFormat::F16 { "float16" } else { "bfloat16" });
        let (was, is) = (model.load().unwrap().gpt, written.load().unwrap().gpt);
        for ((name, was), (_, is)) in was.tensors().zip(is.tensors()) {
            let expected: Vec<f32> = values(was).into_iter().map(|x| rounded(x, format)).collect();
            assert_eq!(expected, values(is), "{format}: {name}");
        }
    }
}

/// As llama.cpp's converter: `general.file_type`, and which tensors stay f32.
#[test]
fn a_gguf_file_keeps_vectors_and_positions() {
    for (format, file_type) in [(NumberFormat::F16, 1u32), (NumberFormat::Bf16, 32)] {
        let (folder, model) = saved(fill_vectors);
        let path = folder.path().join("model.gguf");
        write_gguf_as(&path, &model, format).unwrap();
        let bytes = fs::read(&path).unwrap();
        let key = [b"general.file_type", &4u32.to_le_bytes()[..], &file_type.to_le_bytes()].concat();
        assert!(bytes.windows(key.len()).any(|window| window == key), "{format}");
        let written = ModelFile::open(&path).unwrap();
        for tensor in written.stored() {
            let is_kept = tensor.shape.len() == 1 || tensor.name == "position_embd.weight";
            let expected = if is_kept { NumberFormat::F32 } else { format };
            assert_eq!(tensor.dtype, expected.name(), "{}", tensor.name);
        }
        let n_rounded = verify_narrowed(&written, &model, format).unwrap();
        let config = model.config().clone();
        let matrices = config.n_layer * 12 * config.n_embd * config.n_embd + config.vocab_size * config.n_embd;
        assert_eq!(n_rounded, matrices);
    }
}

#[test]
fn a_number_beyond_the_range_is_refused_and_files_survive() {
    let (folder, model) = saved(|gpt| change(&mut gpt.wte, |x| x[5] = 70_000.0));
    let (hf, gguf) = (folder.path().join("written"), folder.path().join("model.gguf"));
    write_hugging_face_as(&hf, &model, NumberFormat::Bf16).unwrap();
    write_gguf_as(&gguf, &model, NumberFormat::Bf16).unwrap();
    let before = (fs::read(hf.join("model.safetensors")).unwrap(), fs::read(&gguf).unwrap());
    let errors = [
        write_hugging_face_as(&hf, &model, NumberFormat::F16).unwrap_err().to_string(),
        write_gguf_as(&gguf, &model, NumberFormat::F16).unwrap_err().to_string(),
    ];
    for error in errors {
        for part in ["70000, in wte.weight", "within the range of F16", "in bf16 or f32"] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(before == (fs::read(hf.join("model.safetensors")).unwrap(), fs::read(&gguf).unwrap()));
}

#[test]
fn a_written_file_that_differs_is_found() {
    let (folder, model) = saved(fill_vectors);
    let (other_folder, other) = saved(|gpt| {
        fill_vectors(gpt);
        change(&mut gpt.ln_f.bias, |x| x[7] += 0.5);
    });
    let path = other_folder.path().join("written");
    write_hugging_face_as(&path, &other, NumberFormat::F16).unwrap();
    let written = ModelFile::open(&path).unwrap();
    let error = verify_narrowed(&written, &model, NumberFormat::F16).unwrap_err().to_string();
    assert!(error.contains("ln_f.bias is not the model's, rounded to F16"), "{error}");
    drop(folder);
}
