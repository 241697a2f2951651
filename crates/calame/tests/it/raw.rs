//! Tensors in their files' own number formats: what they hold, converted, is what is read as f32, for every format of files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use calame::formats::{CheckpointError, KnownSettings, ModelFile, TensorSource, TorchDtype, TorchFile, write_torch};
use calame::quant::{NumberFormat, dequantize};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::golden;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn doubles(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
}

/// Compares every tensor of floats with its own bytes, converted; gives the formats that were met.
pub fn assert_raw(source: &dyn TensorSource) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    for (i, tensor) in source.tensors().iter().enumerate() {
        let mut raw = vec![0xa5; tensor.file_bytes as usize];
        source.read_raw(i, &mut raw).unwrap();
        met.insert(tensor.dtype.clone());
        let n_elements = tensor.n_elements().unwrap();
        if let Some(format) = tensor.format {
            assert_eq!(raw.len() / format.block_bytes() * format.block_len(), n_elements, "{tensor:?}");
        }
        if !tensor.is_float {
            assert_eq!(tensor.format, None, "{tensor:?}");
            continue;
        }
        let mut read = vec![f32::NAN; n_elements];
        source.read(i, &mut read).unwrap();
        let mut converted = vec![0.0; n_elements];
        match tensor.format {
            Some(format) => dequantize(format, &raw, &mut converted),
            None => converted = doubles(&raw),
        }
        assert!(bits(&converted) == bits(&read), "{tensor:?}");
    }
    met
}

fn assert_raw_of(path: &Path, formats: &[&str]) {
    // The book's file does not state its number of heads.
    let model = ModelFile::open(path).or_else(|error| match error {
        CheckpointError::UnknownHeads { .. } => ModelFile::open_with(path, KnownSettings { n_head: Some(2) }),
        error => Err(error),
    });
    let met = assert_raw(model.unwrap().source());
    assert_eq!(met.iter().map(String::as_str).collect::<Vec<_>>(), formats, "{}", path.display());
}

#[test]
fn golden_files_of_every_format() {
    let golden = golden::folder();
    assert_raw_of(&golden.join("hf-tiny-gpt2"), &["F32"]);
    assert_raw_of(&golden.join("models/sharded"), &["BF16"]);
    assert_raw_of(&golden.join("models/hf"), &["bool", "float32"]);
    assert_raw_of(&golden.join("models/ckpt.pt"), &["float32"]);
    assert_raw_of(&golden.join("models/book.pth"), &["float32"]);
    assert_raw_of(&golden.join("llmc/tiny.bin"), &["F32"]);
    assert_raw_of(&golden.join("llmc/tiny_bf16.bin"), &["BF16"]);
    assert_raw_of(&golden.join("gguf/tiny.gguf"), &["BF16", "F16", "F32", "IQ4_NL", "Q4_0", "Q5_1", "Q8_0"]);
}

/// Number format, shape and bytes.
type TensorData = (Dtype, Vec<usize>, Vec<u8>);

/// A file of safetensors in all formats of floats, and one of whole numbers.
#[test]
fn every_format_of_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let source = golden::folder().join("hf-tiny-gpt2");
    fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let formats = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
    let convert = |data: &[u8], dtype: Dtype| -> Vec<u8> {
        let values = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        match dtype {
            Dtype::F32 => data.to_vec(),
            Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => values.flat_map(|x| (f64::from(x) * (1.0 + 1e-9)).to_le_bytes()).collect(),
        }
    };
    let mut stored: Vec<(String, TensorData)> = Vec::new();
    for (i, (name, view)) in file.tensors().into_iter().enumerate() {
        let dtype = formats[i % formats.len()];
        stored.push((name, (dtype, view.shape().to_vec(), convert(view.data(), dtype))));
    }
    let mask = [0, 1, 1, 0];
    stored.push(("transformer.h.0.attn.bias".to_owned(), (Dtype::BOOL, vec![1, 1, 2, 2], mask.to_vec())));
    let views = stored
        .iter()
        .map(|(name, (dtype, shape, data))| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    assert_raw_of(folder.path(), &["BF16", "BOOL", "F16", "F32", "F64"]);
    let model = ModelFile::open(folder.path()).unwrap();
    let place = model.stored().iter().position(|tensor| tensor.dtype == "BOOL").unwrap();
    let mut raw = [9; 4];
    model.source().read_raw(place, &mut raw).unwrap();
    assert_eq!(raw, mask);
}

/// Views of a storage in any order of its elements: what is gathered is the row-major tensor.
#[test]
fn views_of_pytorchs_storages() {
    let mut met = Vec::new();
    for name in ["book", "book-masks", "legacy-book-masks", "wrapped", "nanogpt", "views", "legacy-views", "formats"] {
        let file = TorchFile::open(&golden::folder().join("torch").join(format!("{name}.pt"))).unwrap();
        for (i, tensor) in file.tensors().iter().enumerate() {
            let mut raw = vec![0xa5; tensor.len() * tensor.dtype.n_bytes()];
            file.read_raw(i, &mut raw).unwrap();
            let format = match tensor.dtype {
                TorchDtype::F32 => Some(NumberFormat::F32),
                TorchDtype::F16 => Some(NumberFormat::F16),
                TorchDtype::Bf16 => Some(NumberFormat::Bf16),
                _ => None,
            };
            met.push(tensor.dtype);
            let mut converted = vec![0.0; tensor.len()];
            match (format, tensor.dtype) {
                (Some(format), _) => dequantize(format, &raw, &mut converted),
                (None, TorchDtype::F64) => converted = doubles(&raw),
                (None, TorchDtype::Bool) => assert!(raw.iter().all(|byte| *byte <= 1) && raw.contains(&1), "{name}"),
                _ => {}
            }
            if tensor.dtype.is_float() {
                let mut read = vec![f32::NAN; tensor.len()];
                file.read(i, &mut read).unwrap();
                assert!(bits(&converted) == bits(&read), "{name}: {tensor:?}");
            }
        }
    }
    for dtype in
        [TorchDtype::F32, TorchDtype::F64, TorchDtype::F16, TorchDtype::Bf16, TorchDtype::I64, TorchDtype::Bool]
    {
        assert!(met.contains(&dtype), "{dtype}");
    }
}

#[test]
fn what_calame_writes_for_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.pt");
    write_torch(&path, &ModelFile::open(&golden::folder().join("hf-tiny-gpt2")).unwrap()).unwrap();
    assert_raw_of(&path, &["float32"]);
}

#[test]
#[should_panic(expected = "read_raw: transformer.wte.weight")]
fn a_buffer_of_another_size_is_a_bug() {
    let model = ModelFile::open(&golden::folder().join("hf-tiny-gpt2")).unwrap();
    let wte = model.stored().iter().position(|tensor| tensor.name == "transformer.wte.weight").unwrap();
    let _ = model.source().read_raw(wte, &mut [0; 7]);
}

/// A file that has become shorter since it was opened is an error that names it.
#[test]
fn a_file_cut_after_it_was_opened_is_an_error() {
    let golden = golden::folder();
    for file in ["gguf/tiny.gguf", "llmc/tiny.bin", "models/ckpt.pt"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut");
        fs::copy(golden.join(file), &path).unwrap();
        let model = ModelFile::open(&path).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        let mut raw = vec![0; model.stored()[0].file_bytes as usize];
        let message = model.source().read_raw(0, &mut raw).unwrap_err().to_string();
        assert!(message.contains("cut"), "{file}: {message}");
    }
}
