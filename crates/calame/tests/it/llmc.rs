//! Checkpoints of llm.c: golden/llmc is golden/hf-tiny-gpt2 in its layout; damaged files are errors.

use std::fs;
use std::path::Path;

use calame::formats::{Format, ModelFile, load_model, save_model, write_torch};
use calame::model::{Gpt, Init, ModelConfig};
use half::bf16;

use crate::golden;

use crate::support::{bits, change};

const HEADER_BYTES: usize = 1024;

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden::folder().join("llmc").join(name)).unwrap()
}

fn truth() -> Gpt {
    load_model(&golden::folder().join("hf-tiny-gpt2")).unwrap().gpt
}

#[test]
fn both_formats_hold_the_model_that_they_were_made_from() {
    for (name, dtype) in [("tiny.bin", "F32"), ("tiny_bf16.bin", "BF16")] {
        let file = ModelFile::open(&golden::folder().join("llmc").join(name)).unwrap();
        assert_eq!(file.format(), Format::Llmc);
        assert!(file.stored().iter().all(|tensor| tensor.dtype == dtype) && file.stored().len() == 28);
        assert!(file.notes().is_empty() && file.tokenizer().is_none());
        let mut expected = truth();
        assert_eq!(*file.config(), ModelConfig { dropout: 0.0, init: Init::Gpt2, ..expected.config.clone() });
        if dtype == "BF16" {
            let rounded = |numbers: &mut [f32]| numbers.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
            expected.tensors_mut().for_each(|(_, tensor)| change(tensor, rounded));
        }
        assert!(bits(&file.load().unwrap().gpt) == bits(&expected), "{name}");
    }
}

#[test]
fn it_is_converted_to_other_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.pt");
    write_torch(&path, &ModelFile::open(&golden::folder().join("llmc/tiny.bin")).unwrap()).unwrap();
    let gpt = load_model(&path).unwrap().gpt;
    assert!(bits(&gpt) == bits(&truth()));
    save_model(&folder.path().join("tiny"), &gpt, None).unwrap();
    assert!(bits(&load_model(&folder.path().join("tiny")).unwrap().gpt) == bits(&truth()));
}

/// A vocabulary of GPT-2's size is assumed to be GPT-2's.
#[test]
fn gpt2s_tokenizer_is_assumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpt2.bin");
    // One channel, one position, one block; all numbers are zero.
    let mut file: Vec<u8> =
        [20_240_326u32, 3, 1, 50_257, 1, 1, 1, 50_304].iter().flat_map(|n| n.to_le_bytes()).collect();
    file.resize(HEADER_BYTES + 4 * (50_304 + 1 + 25 + 2), 0);
    fs::write(&path, file).unwrap();
    let model = ModelFile::open(&path).unwrap();
    assert_eq!(model.tokenizer().unwrap().kind(), "gpt2");
    assert!(model.notes()[0].contains("no tokenizer in the files: GPT-2's is used"), "{:?}", model.notes());
}

/// The error message for modified bytes, which names the file.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.bin");
    let mut bytes = bytes("tiny_bf16.bin");
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let message = load_model(&path).err().expect("it must be refused").to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    message
}

/// The file with another number in its header.
fn with_number(place: usize, number: u32) -> String {
    refused(|bytes| bytes[4 * place..4 * place + 4].copy_from_slice(&number.to_le_bytes()))
}

#[track_caller]
fn assert_words(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "expected {words:?} in: {message}");
}

#[test]
fn another_magic_or_version_is_an_error() {
    assert_words(&with_number(0, 20_240_327), &["holds no model", "or a file of weights"]);
    for version in [0, 1, 2, 4, 6, u32::MAX] {
        assert_words(&with_number(1, version), &["version", &version.to_string(), "3 (f32) or 5 (bf16)"]);
    }
    assert_words(&with_number(1, 3), &["100816 bytes, its header describes 200608"]);
}

#[test]
fn a_truncated_or_longer_file_is_an_error() {
    for n_bytes in [HEADER_BYTES, HEADER_BYTES + 1, 50_000, 100_815] {
        let message = refused(|bytes| bytes.truncate(n_bytes));
        assert_words(&message, &[&n_bytes.to_string(), "describes 100816"]);
    }
    assert_words(&refused(|bytes| bytes.truncate(40)), &["40 bytes", "its header alone has 1024"]);
    assert_words(&refused(|bytes| bytes.push(0)), &["100817 bytes", "describes 100816"]);
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    // Positions, vocabulary, blocks, heads, channels.
    for place in 2..7 {
        for number in [0, (1 << 24) + 1, 1 << 31, u32::MAX] {
            assert_words(&with_number(place, number), &["the header's shape", &number.to_string()]);
        }
    }
    for (place, number) in [(2, 1 << 24), (4, 10_000), (6, 1 << 23), (7, u32::MAX)] {
        // Numbers of heads that divide the number of channels.
        let message = refused(|bytes| {
            bytes[4 * 5..4 * 6].copy_from_slice(&1u32.to_le_bytes());
            bytes[4 * place..4 * place + 4].copy_from_slice(&number.to_le_bytes());
        });
        assert_words(&message, &["100816 bytes, its header describes"]);
    }
    assert_words(&with_number(4, 1 << 24), &["number of blocks", "at most 10,000"]);
    assert_words(&with_number(5, 5), &["n_head", "does not divide"]);
    assert_words(&with_number(7, 66), &["padded vocabulary is 66", "at least the vocabulary of 67"]);
}

#[test]
fn a_number_that_is_not_finite_is_named() {
    // The first number of the position embedding, after the padded vocabulary.
    let at = HEADER_BYTES + 2 * 128 * 42;
    let message = refused(|bytes| bytes[at..at + 2].copy_from_slice(&bf16::NAN.to_le_bytes()));
    assert_words(&message, &["wpe.weight", "not finite"]);
    // The padding is not checked.
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("padded.bin");
    let mut padded = bytes("tiny_bf16.bin");
    padded[at - 2..at].copy_from_slice(&bf16::NAN.to_le_bytes());
    fs::write(path, padded).unwrap();
    load_model(path).unwrap();
}
