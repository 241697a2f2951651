//! GGUF: blocks and a file of llama.cpp's own package, hand-built files, and files written by calame.

use std::fs;
use std::path::{Path, PathBuf};

use calame::formats::{Format as Stored, ModelFile, load_model, save_model, write_gguf};
use calame::model::{Gpt, Init, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::quant::{NumberFormat, dequantize};
use calame::tokenizer::{Bpe, SimpleTokenizer, Special, TextBounds, Tokenizer};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::golden;
use crate::raw::assert_raw;

use crate::support::{self, change, values, zeros};

// Blocks.

/// Blocks of a format and their values, as llama.cpp's package computes them.
fn golden_blocks(format: NumberFormat) -> (Vec<u8>, Vec<f32>) {
    let file = fs::read(golden::folder().join("gguf/blocks.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let bytes = file.tensor(&format!("{format}.bytes")).unwrap().data().to_vec();
    let values = file.tensor(&format!("{format}.values")).unwrap();
    (bytes, values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn blocks_have_the_values_of_the_reference_to_the_bit() {
    for format in NumberFormat::ALL {
        let (bytes, expected) = golden_blocks(format);
        assert_eq!(bytes.len() / format.block_bytes(), expected.len() / format.block_len(), "{format}");
        let mut values = vec![f32::NAN; expected.len()];
        dequantize(format, &bytes, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{format}");
        assert_eq!(NumberFormat::of_ggml_type(format.ggml_type()), Some(format));
    }
    assert_eq!(NumberFormat::of_ggml_type(15), None, "no file stores Q8_K");
}

#[test]
#[should_panic(expected = "dequantize: 32 elements from 35 bytes, blocks of 32 in 34")]
fn parts_of_blocks_are_a_bug() {
    dequantize(NumberFormat::Q8_0, &[0; 35], &mut [0.0; 32]);
}

// A file of another program.

#[test]
fn a_file_that_llama_cpps_package_wrote_is_read() {
    let path = golden::folder().join("gguf/tiny.gguf");
    let model = ModelFile::open(&path).unwrap();
    assert_eq!((model.format(), model.notes()), (Stored::Gguf, &[][..]));
    let expected = ModelConfig { dropout: 0.1, ..shape(259, 4, 32) };
    assert_eq!(*model.config(), ModelConfig { n_head: 2, ..expected });
    let dtypes: Vec<&str> = model.stored().iter().filter(|t| t.shape.len() == 2).map(|t| &*t.dtype).collect();
    assert_eq!(dtypes, ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "IQ4_NL"]);

    let tokenizer = model.tokenizer().unwrap();
    let ids = tokenizer.encode("the<|endoftext|>th", Special::Allow).unwrap();
    assert_eq!((tokenizer.kind(), ids), ("bpe", vec![257, 258, 256]));

    let hashes: serde_json::Value =
        serde_json::from_slice(&fs::read(golden::folder().join("gguf/tiny.json")).unwrap()).unwrap();
    let mut gpt = zeros(model.config());
    for (name, tensor) in gpt.tensors_mut().filter(|(_, t)| !t.is_empty()) {
        model.read(name, tensor).unwrap();
        let bytes: Vec<u8> = values(tensor).into_iter().flat_map(f32::to_le_bytes).collect();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hashes[name.to_string()], hash, "{name}");
    }
}

// Hand-built files.

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// The contents of a file, to be modified before it is written.
#[derive(Clone)]
pub struct Built {
    version: u32,
    /// Key, type and bytes of each metadata value.
    values: Vec<(String, u32, Vec<u8>)>,
    tensors: Vec<Claim>,
    alignment: u64,
    /// Overrides the numbers of tensors and values in the header.
    counts: Option<(u64, u64)>,
}

#[derive(Clone)]
struct Claim {
    name: String,
    /// Dimensions, the innermost first.
    dims: Vec<u64>,
    ggml_type: u32,
    /// Overrides the offset in the header.
    offset: Option<u64>,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn array(kind: u32, n: u64, items: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), &n.to_le_bytes()[..], items].concat()
}

fn texts(items: &[&str]) -> Vec<u8> {
    array(TEXT, items.len() as u64, &items.iter().flat_map(|item| text(item)).collect::<Vec<u8>>())
}

impl Built {
    /// A model of one block; `fill` returns format and bytes of a tensor with the given number of elements.
    fn model(vocab_size: usize, n_embd: usize, fill: impl Fn(&str, usize) -> (NumberFormat, Vec<u8>)) -> Built {
        let c = n_embd as u64;
        let mut built = Built { version: 3, values: vec![], tensors: vec![], alignment: 32, counts: None };
        built.set("general.architecture", TEXT, text("gpt2"));
        for (key, n) in [("context_length", 4), ("embedding_length", n_embd), ("block_count", 1)] {
            built.set(&format!("gpt2.{key}"), U32, (n as u32).to_le_bytes().to_vec());
        }
        built.set("gpt2.attention.head_count", U32, 1u32.to_le_bytes().to_vec());
        built.set("gpt2.attention.layer_norm_epsilon", F32, 1e-5f32.to_le_bytes().to_vec());
        let mut add = |name: &str, dims: &[u64]| {
            let (format, data) = fill(name, dims.iter().product::<u64>() as usize);
            let (dims, ggml_type) = (dims.to_vec(), format.ggml_type());
            built.tensors.push(Claim { name: name.to_owned(), dims, ggml_type, offset: None, data });
        };
        add("token_embd.weight", &[c, vocab_size as u64]);
        add("position_embd.weight", &[c, 4]);
        for (name, out, from) in
            [("attn_qkv", 3 * c, c), ("attn_output", c, c), ("ffn_up", 4 * c, c), ("ffn_down", c, 4 * c)]
        {
            add(&format!("blk.0.{name}.weight"), &[from, out]);
            add(&format!("blk.0.{name}.bias"), &[out]);
        }
        for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            add(&format!("{name}.weight"), &[c]);
            add(&format!("{name}.bias"), &[c]);
        }
        built
    }

    /// Three tokens and two channels, all in f32.
    fn small() -> Built {
        Built::model(3, 2, |name, n| {
            (NumberFormat::F32, (0..n).flat_map(|i| ((name.len() + i) as f32).to_le_bytes()).collect())
        })
    }

    /// The same model in the two 16-bit formats.
    pub fn halves() -> Built {
        Built::model(3, 2, |name, n| {
            let format = if name.ends_with("weight") { NumberFormat::F16 } else { NumberFormat::Bf16 };
            (format, (0..n).flat_map(|i| [i as u8, 0x30 + name.len() as u8 % 16]).collect())
        })
    }

    fn set(&mut self, key: &str, kind: u32, bytes: Vec<u8>) {
        self.values.retain(|(k, ..)| k != key);
        self.values.push((key.to_owned(), kind, bytes));
    }

    fn tensor(&mut self, name: &str) -> &mut Claim {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// Adds a tokenizer: all bytes, a merge, a special token, and an unused id.
    fn add_tokenizer(&mut self) {
        let lists = Bpe::gpt2().to_lists();
        let mut tokens: Vec<&str> = lists.tokens[..256].iter().map(String::as_str).collect();
        tokens.extend(["he", "<|endoftext|>", "[PAD258]"]);
        let types: Vec<u8> =
            (0..259).flat_map(|id| [1i32, 3, 5][usize::saturating_sub(id, 256)].to_le_bytes()).collect();
        self.set("tokenizer.ggml.model", TEXT, text("gpt2"));
        self.set("tokenizer.ggml.tokens", ARRAY, texts(&tokens));
        self.set("tokenizer.ggml.token_type", ARRAY, array(I32, 259, &types));
        self.set("tokenizer.ggml.merges", ARRAY, texts(&["h e"]));
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (n_tensors, n_values) = self.counts.unwrap_or((self.tensors.len() as u64, self.values.len() as u64));
        let mut bytes =
            [b"GGUF", &self.version.to_le_bytes()[..], &n_tensors.to_le_bytes(), &n_values.to_le_bytes()].concat();
        for (key, kind, value) in &self.values {
            bytes.extend([text(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
        }
        let mut data: Vec<u8> = Vec::new();
        for claim in &self.tensors {
            data.resize(data.len().next_multiple_of(self.alignment as usize), 0);
            bytes.extend(text(&claim.name));
            bytes.extend((claim.dims.len() as u32).to_le_bytes());
            claim.dims.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
            bytes.extend(claim.ggml_type.to_le_bytes());
            bytes.extend(claim.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&claim.data);
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
        bytes.extend(data);
        bytes
    }

    fn save(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, self.bytes()).unwrap();
        (folder, path)
    }

    fn load(&self) -> Gpt {
        load_model(&self.save().1).unwrap().gpt
    }
}

fn shape(vocab_size: usize, n_positions: usize, n_embd: usize) -> ModelConfig {
    ModelConfig { vocab_size, n_positions, n_embd, n_head: 1, n_layer: 1, ..Preset::Tiny.config() }
}

#[test]
fn every_format_is_read() {
    for format in NumberFormat::ALL {
        let (blocks, values) = golden_blocks(format);
        // K formats need rows of 256, and each tensor consists of a whole number of the golden blocks.
        let built = Built::model(4, 256, |name, n| {
            if name.ends_with("weight") && !name.contains("norm") {
                assert_eq!(n % values.len(), 0);
                (format, blocks.repeat(n / values.len()))
            } else {
                (NumberFormat::F32, vec![0; 4 * n])
            }
        });
        let (_folder, path) = built.save();
        let model = ModelFile::open(&path).unwrap();
        assert!(assert_raw(model.source()).contains(format.name()));
        let gpt = model.load().unwrap().gpt;
        let matrices = gpt.tensors().filter(|(_, t)| t.dims().len() == 2);
        for (name, tensor) in matrices {
            for found in support::values(tensor).chunks_exact(values.len()) {
                assert!(bits(found) == bits(&values), "{format} {name}");
            }
        }
    }
}

#[test]
fn versions_alignments_and_types_of_values_are_read() {
    let expected = Built::small().load();
    let mut odd = Built { version: 2, alignment: 256, ..Built::small() };
    odd.set("general.alignment", U32, 256u32.to_le_bytes().to_vec());
    // Sizes of any width, and values of every type that are not used here.
    odd.set("gpt2.context_length", 10, 4u64.to_le_bytes().to_vec());
    odd.set("gpt2.block_count", 1, vec![1]);
    odd.set("gpt2.feed_forward_length", 3, 8i16.to_le_bytes().to_vec());
    odd.set("x.u16", 2, vec![1, 2]);
    odd.set("x.i64", 11, vec![255; 8]);
    odd.set("x.f64", 12, vec![255; 8]);
    odd.set("x.bools", ARRAY, array(BOOL, 3, &[1, 0, 1]));
    odd.set("x.arrays", ARRAY, array(ARRAY, 2, &[texts(&["a", ""]), array(F32, 1, &[0; 4])].concat()));
    let found = odd.load();
    assert_eq!(found.config, expected.config);
    for ((name, a), (_, b)) in found.tensors().zip(expected.tensors()) {
        assert_eq!(values(a), values(b), "{name}");
    }
}

#[test]
fn a_head_a_bias_and_a_tokenizer_are_recognised_by_the_tensors_and_keys() {
    let (_folder, path) = Built::small().save();
    let model = ModelFile::open(&path).unwrap();
    let expected = ModelConfig { dropout: 0.1, ..shape(3, 4, 2) };
    assert_eq!((model.config(), model.tokenizer().is_none()), (&expected, true));

    let mut own = Built::small();
    let head = Claim { name: "output.weight".to_owned(), ..own.tensors[0].clone() };
    own.tensors.push(head);
    assert!(own.load().config.tied_head, "a head of the same numbers is tied");
    own.set("calame.tied_head", BOOL, vec![0]);
    assert!(!own.load().config.tied_head, "unless the file says otherwise");
    own.values.retain(|(key, ..)| key != "calame.tied_head");
    own.tensor("output.weight").data[0] ^= 1;
    let saved = load_model(&own.save().1).unwrap();
    assert!(!saved.gpt.config.tied_head && saved.notes.iter().all(|note| !note.contains("output.weight")));
    own.set("calame.tied_head", BOOL, vec![1]);
    let saved = load_model(&own.save().1).unwrap();
    assert!(!saved.gpt.config.tied_head && saved.notes[0].contains("output.weight differs from token_embd.weight"));

    let mut bare = Built::small();
    bare.tensors.retain(|t| t.name != "blk.0.attn_qkv.bias");
    assert!(!bare.load().config.qkv_bias);

    // Without token types, the ids of the end tokens are used; the pre-tokenizer defaults to gpt-2.
    let mut with = Built::model(259, 2, |_, n| (NumberFormat::F32, vec![0; 4 * n]));
    with.add_tokenizer();
    let check = |built: &Built| {
        let tokenizer = load_model(&built.save().1).unwrap().tokenizer.unwrap();
        assert_eq!((tokenizer.n_vocab(), tokenizer.end_of_text()), (258, Some(257)));
        assert_eq!(tokenizer.encode("he", Special::Forbid).unwrap(), [256]);
    };
    check(&with);
    with.set("tokenizer.ggml.pre", TEXT, text("gpt-2"));
    check(&with);
    let (_, _, tokens) = with.values.iter().find(|(key, ..)| key == "tokenizer.ggml.tokens").unwrap().clone();
    let shorter = [&array(TEXT, 258, &[]), &tokens[12..tokens.len() - text("[PAD258]").len()]].concat();
    with.set("tokenizer.ggml.tokens", ARRAY, shorter);
    with.values.retain(|(key, ..)| key != "tokenizer.ggml.token_type");
    with.set("tokenizer.ggml.eos_token_id", U32, 257u32.to_le_bytes().to_vec());
    check(&with);
}

// Invalid input.

/// The error message for a rejected file, which names the file.
fn refused(built: &Built) -> String {
    let (_folder, path) = built.save();
    let message = load_model(&path).err().expect("the file must be refused").to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message:?} does not name {}", path.display());
    message
}

#[track_caller]
fn refuses(change: impl FnOnce(&mut Built), shown: &[&str]) {
    let mut built = Built::small();
    change(&mut built);
    let message = refused(&built);
    for part in shown {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn a_truncated_file_is_an_error() {
    let bytes = Built::small().bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for len in 4..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = load_model(&path).err().unwrap_or_else(|| panic!("valid at {len} of {} bytes", bytes.len()));
        assert!(error.to_string().contains("model.gguf"), "{error}");
    }
}

#[test]
fn a_damaged_header_is_an_error() {
    const HUGE: u64 = 1_000_000_000_000_000_000;
    refuses(|b| b.version = 1, &["version 1", "2 and 3"]);
    refuses(|b| b.version = 3 << 24, &["big-endian"]);
    refuses(|b| b.counts = Some((HUGE, 6)), &["1000000000000000000 tensors"]);
    refuses(|b| b.counts = Some((16, u64::MAX)), &["18446744073709551615 values"]);
    refuses(|b| b.set("x", TEXT, HUGE.to_le_bytes().to_vec()), &["x at byte", "1000000000000000000 bytes"]);
    refuses(|b| b.set("x", ARRAY, array(TEXT, HUGE, &[])), &["an array of 1000000000000000000"]);
    refuses(|b| b.set("x", ARRAY, array(77, 1, &[0; 8])), &["array of type 77"]);
    let deep = (0..9).fold(array(U32, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    refuses(|b| b.set("x", ARRAY, deep), &["arrays deep"]);
    refuses(|b| b.set("x", 77, vec![]), &["type 77"]);
    refuses(|b| b.set("x", TEXT, [1, 0, 0, 0, 0, 0, 0, 0, 0xff].to_vec()), &["UTF-8"]);
    refuses(|b| b.values.push(b.values[0].clone()), &["\"general.architecture\"", "twice"]);
    for alignment in [0u32, 3, 1 << 31] {
        refuses(|b| b.set("general.alignment", U32, alignment.to_le_bytes().to_vec()), &["general.alignment", "power"]);
    }
}

#[test]
fn tensors_that_cannot_be_there_are_an_error() {
    const QKV: &str = "blk.0.attn_qkv.weight";
    refuses(|b| b.tensor(QKV).dims = vec![1; 5], &[QKV, "5 dimensions"]);
    refuses(|b| b.tensor(QKV).dims = vec![1 << 40, 1 << 40], &[QKV, "beyond the end"]);
    refuses(|b| b.tensor(QKV).dims = vec![2, 1 << 61], &[QKV, "beyond the end"]);
    refuses(|b| b.tensor(QKV).offset = Some(u64::MAX - 31), &[QKV, "beyond the end"]);
    refuses(|b| b.tensor("output_norm.bias").offset = Some(1 << 20), &["output_norm.bias", "byte 1048576"]);
    refuses(|b| b.tensor(QKV).offset = Some(4), &[QKV, "no multiple of 32"]);
    refuses(|b| b.tensor(QKV).offset = Some(0), &[QKV, "token_embd.weight", "overlap"]);
    refuses(|b| b.tensor(QKV).ggml_type = NumberFormat::Q4_0.ggml_type(), &[QKV, "Q4_0 with rows of 2", "32"]);
    let unknown = |b: &mut Built| {
        b.tensor(QKV).ggml_type = 16;
        b.tensor("output_norm.bias").ggml_type = 4_000_000_000;
    };
    refuses(
        unknown,
        &[QKV, "is IQ2_XXS: F32", "output_norm.bias has ggml's type 4000000000", "IQ4_NL", "TQ2_0 are read"],
    );
    refuses(|b| b.tensor(QKV).name = "token_embd.weight".to_owned(), &["twice: wte.weight"]);
    refuses(
        |b| b.tensor(QKV).name = "rope_freqs.weight".to_owned(),
        &["unexpected: rope_freqs.weight", "missing: h.0.attn"],
    );
    refuses(|b| b.tensor("token_embd.weight").dims = vec![6], &["token_embd.weight", "a matrix"]);
    refuses(|b| b.tensor("position_embd.weight").dims = vec![4, 2], &["misshapen: position_embd.weight is [2, 4]"]);
    refuses(
        |b| b.tensor(QKV).data[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
        &["h.0.attn.c_attn.weight", "finite"],
    );
}

#[test]
fn a_shape_that_is_not_the_files_or_gpt2s_is_an_error() {
    let number = |key: &'static str, n: u32| move |b: &mut Built| b.set(key, U32, n.to_le_bytes().to_vec());
    let drop = |key: &'static str| move |b: &mut Built| b.values.retain(|(k, ..)| k != key);
    refuses(|b| b.set("general.architecture", TEXT, text("llama")), &["general.architecture is \"llama\"", "\"gpt2\""]);
    refuses(drop("general.architecture"), &["general.architecture is missing"]);
    refuses(drop("gpt2.context_length"), &["gpt2.context_length is missing"]);
    refuses(|b| b.set("gpt2.block_count", TEXT, text("one")), &["gpt2.block_count is \"one\""]);
    refuses(number("gpt2.block_count", 1 << 20), &["in 1048576 blocks, the file has"]);
    refuses(number("gpt2.attention.head_count", 0), &["n_head is 0"]);
    refuses(number("gpt2.embedding_length", 3), &["misshapen: token_embd.weight is [3, 2], expected [3, 3]"]);
    refuses(number("gpt2.feed_forward_length", 9), &["blk.0.ffn_up.weight is [8, 2], expected [9, 2]"]);
    refuses(|b| b.set("gpt2.feed_forward_length", TEXT, text("8")), &["feed_forward_length is \"8\""]);
    refuses(number("gpt2.attention.head_count_kv", 2), &["head_count_kv is 2"]);
    refuses(number("gpt2.vocab_size", 5), &["gpt2.vocab_size is 5", "3"]);
    refuses(number("split.count", 2), &["split.count is 2", "llama-gguf-split --merge"]);
    let epsilon = 0f32.to_le_bytes().to_vec();
    refuses(|b| b.set("gpt2.attention.layer_norm_epsilon", F32, epsilon), &["layer_norm_epsilon is 0", "1e-5"]);
    refuses(|b| b.set("calame.qkv_bias", U32, vec![0; 4]), &["calame.qkv_bias is 0", "true or false"]);
    refuses(|b| b.set("calame.qkv_bias", BOOL, vec![0]), &["blk.0.attn_qkv.bias is not zero"]);
    refuses(|b| b.set("calame.tied_head", BOOL, vec![0]), &["missing: lm_head.weight"]);
    refuses(|b| b.set("calame.dropout", F32, f32::NAN.to_le_bytes().to_vec()), &["dropout is NaN"]);
    refuses(|b| b.set("calame.init", TEXT, text("zeros")), &["calame.init is \"zeros\""]);
}

#[test]
fn a_tokenizer_that_would_encode_differently_is_an_error() {
    let with = |change: &dyn Fn(&mut Built), shown: &str| {
        let mut built = Built::model(259, 2, |_, n| (NumberFormat::F32, vec![0; 4 * n]));
        built.add_tokenizer();
        change(&mut built);
        // Only texts need the tokenizer: the model itself can be read.
        let (_folder, path) = built.save();
        let saved = load_model(&path).unwrap();
        let message = saved.tokenizer_error.expect("the tokenizer must be refused").to_string();
        assert!(message.contains(shown) && message.contains("model.gguf"), "no {shown:?} in: {message}");
        assert!(saved.tokenizer.is_none());
    };
    with(&|b| b.set("tokenizer.ggml.model", TEXT, text("llama")), "tokenizer.ggml.model is \"llama\"");
    with(&|b| b.set("tokenizer.ggml.pre", TEXT, text("llama-bpe")), "tokenizer.ggml.pre is \"llama-bpe\"");
    with(&|b| b.set("tokenizer.ggml.merges", ARRAY, texts(&["e h"])), "merges, at id 256");
    with(&|b| b.set("tokenizer.ggml.merges", ARRAY, texts(&[])), "the end of the list");
    with(
        &|b| b.set("tokenizer.ggml.merges", ARRAY, array(U32, 0, &[])),
        "tokenizer.ggml.merges is an array: expected an array of texts",
    );
    with(&|b| b.set("tokenizer.ggml.token_type", ARRAY, array(I32, 1, &[1, 0, 0, 0])), "259 whole numbers");
    with(&|b| b.set("tokenizer.ggml.tokens", ARRAY, texts(&["a"; 259])), "0 and 1");
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_read_and_noted() {
    let mut built = Built::model(200, 2, |_, n| (NumberFormat::F32, vec![0; 4 * n]));
    built.add_tokenizer();
    let saved = load_model(&built.save().1).unwrap();
    assert_eq!(saved.tokenizer.unwrap().n_vocab(), 258);
    assert!(saved.notes.iter().any(|note| note.contains("258 tokens, the model 200")), "{:?}", saved.notes);
    // Its end-of-text token has no row, so it cannot end a text.
    assert_eq!(saved.bounds, TextBounds::default());
}

#[test]
fn the_ids_that_begin_and_end_texts_are_read_and_written() {
    let mut built = Built::model(259, 2, |_, n| (NumberFormat::F32, vec![0; 4 * n]));
    built.add_tokenizer();
    for (key, id) in [("bos", 3u32), ("eos", 5), ("eot", 7)] {
        built.set(&format!("tokenizer.ggml.{key}_token_id"), U32, id.to_le_bytes().to_vec());
    }
    let expected = TextBounds { begin: Some(3), ends: vec![5, 7] };
    let (folder, path) = built.save();
    let model = ModelFile::open(&path).unwrap();
    assert_eq!(*model.bounds(), expected);
    let out = folder.path().join("out.gguf");
    write_gguf(&out, &model).unwrap();
    assert_eq!(*ModelFile::open(&out).unwrap().bounds(), expected);
    // Without the keys, the tokenizer's end-of-text token is both.
    built.values.retain(|(key, ..)| !key.ends_with("_token_id"));
    assert_eq!(load_model(&built.save().1).unwrap().bounds, TextBounds { begin: Some(257), ends: vec![257] });
}

// Files written by calame.

fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

/// A folder with a model and a tokenizer in `model`, to be written as GGUF.
fn saved(config: &ModelConfig, tokenizer: Option<&dyn Tokenizer>) -> (TempDir, ModelFile) {
    let folder = tempfile::tempdir().unwrap();
    let mut gpt = Gpt::fresh(&device(), config, 3);
    for (i, (_, tensor)) in gpt.tensors_mut().enumerate() {
        change(tensor, |x| {
            let numbers = x.iter_mut().zip((0..251u8).cycle());
            numbers.for_each(|(x, j)| *x += f32::from(j) * 1e-3 + i as f32 * 1e-2);
        });
    }
    let path = folder.path().join("model");
    save_model(&path, &gpt, tokenizer).unwrap();
    (folder, ModelFile::open(&path).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_written_file_is_read_back_bit_for_bit() {
    for tied_head in [true, false] {
        for (qkv_bias, init) in [(true, Init::Pytorch), (false, Init::Gpt2)] {
            let config =
                ModelConfig { tied_head, qkv_bias, init, dropout: 0.25, n_layer: 2, n_head: 3, ..shape(67, 24, 42) };
            let (folder, model) = saved(&config, None);
            let path = folder.path().join("new/model.gguf");
            let notes = write_gguf(&path, &model).unwrap();
            assert_eq!(notes.len(), 1 + usize::from(!qkv_bias), "{notes:?}");
            assert_eq!(names(path.parent().unwrap()), ["model.gguf"], "no left-over");

            let written = ModelFile::open(&path).unwrap();
            assert_eq!((written.config(), written.format(), written.notes()), (&config, Stored::Gguf, &[][..]));
            assert!(written.tokenizer().is_none());
            let has = |name: &str| written.stored().iter().any(|t| t.name == name);
            assert_eq!(has("output.weight"), !tied_head);
            assert!(has("blk.1.attn_qkv.bias"), "llama.cpp demands it");
            let (was, is) = (model.load().unwrap().gpt, written.load().unwrap().gpt);
            for ((name, a), (_, b)) in was.tensors().zip(is.tensors()) {
                assert_eq!(bits(&values(a)), bits(&values(b)), "{name}");
            }
            let logits = |gpt: &Gpt| bits(&values(&gpt.logits(&device(), &[1, 66, 0, 42], 1)));
            assert_eq!(logits(&was), logits(&is));
        }
    }
}

#[test]
fn gpt2s_tokenizer_is_read_back_from_a_padded_vocabulary() {
    let gpt2 = Bpe::gpt2();
    let (folder, model) = saved(&shape(50_304, 4, 2), Some(gpt2.as_ref()));
    let path = folder.path().join("model.gguf");
    assert_eq!(write_gguf(&path, &model).unwrap(), [""; 0]);
    let tokenizer = load_model(&path).unwrap().tokenizer.unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.hash()), ("gpt2", gpt2.hash()));
}

#[test]
fn a_word_tokenizer_is_left_out_and_reported() {
    let words = SimpleTokenizer::v2("one two three, and four").unwrap();
    let (folder, model) = saved(&shape(67, 4, 2), Some(&words));
    let path = folder.path().join("model.gguf");
    let notes = write_gguf(&path, &model).unwrap();
    assert!(notes.iter().any(|note| note.contains("simple-v2") && note.contains("left out")), "{notes:?}");
    assert!(load_model(&path).unwrap().tokenizer.is_none());
}

#[test]
fn an_existing_file_is_kept_until_the_new_one_is_complete() {
    let (folder, model) = saved(&shape(67, 4, 2), None);
    let path = folder.path().join("model.gguf");
    write_gguf(&path, &model).unwrap();
    let before = fs::read(&path).unwrap();
    write_gguf(&path, &model).unwrap();
    assert!(fs::read(&path).unwrap() == before, "the same model gives the same bytes");

    let mut gpt = model.load().unwrap().gpt;
    gpt.ln_f.bias = support::tensor([2], &[0.0, f32::NAN]);
    let diverged = folder.path().join("diverged");
    save_model(&diverged, &gpt, None).unwrap();
    let error = write_gguf(&path, &ModelFile::open(&diverged).unwrap()).unwrap_err().to_string();
    assert!(error.contains("ln_f.bias") && error.contains("finite"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(names(folder.path()), ["diverged", "model", "model.gguf"]);

    let error = write_gguf(&diverged, &ModelFile::open(&path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("diverged"), "{error}");
}
