//! The tokenizers compared with fixed vectors and tiktoken's ids, and foreign files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calame::tokenizer::{
    Bpe, END_OF_TEXT, SimpleTokenizer, Special, StreamDecoder, Tokenizer, TokenizerError, read_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::skipped::skip;

const BOOK_V1: &str = "\"It's the last he painted, you know,\" Mrs. Gisburn said with pardonable pride.";
const BOOK_V2: &str = "Hello, do you like tea? <|endoftext|> In the sunlit terraces of the palace.";
/// The book's listing joins two literals without a space, so its ids are those of "terracesof".
const BOOK_BPE: &str = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace.";
const BOOK_BPE_IDS: [u32; 20] =
    [15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114, 1659, 617, 34680, 27271, 13];

/// A file of the texts to test against, or `None`, with a message, if this checkout has none.
fn shared_data(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    if !path.exists() {
        skip(format_args!("{} is missing", path.display()));
        return None;
    }
    Some(std::fs::read(&path).unwrap())
}

fn the_verdict() -> Option<String> {
    shared_data("the-verdict.txt").map(|bytes| String::from_utf8(bytes).unwrap())
}

fn read(text: &str) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    read_json(text, Path::new("models/odd/tokenizer.json"))
}

/// The error of reading a file, which must name the file.
fn read_error(text: &str) -> String {
    let Err(error) = read(text) else {
        panic!("read without an error: {text:.200}");
    };
    let message = error.to_string();
    let name = Path::new("models/odd/tokenizer.json").display().to_string();
    assert!(message.starts_with(&name), "{message}");
    message
}

// Fixed vectors

#[test]
fn simple_v1_is_the_books() {
    let Some(text) = the_verdict() else { return };
    let v1 = SimpleTokenizer::v1(&text).unwrap();
    assert_eq!(v1.n_vocab(), 1130);
    assert_eq!(v1.kind(), "simple-v1");
    assert_eq!(v1.end_of_text(), None);
    assert_eq!(v1.encode(&text, Special::Forbid).unwrap().len(), 4690);
    let ids = v1.encode(BOOK_V1, Special::Forbid).unwrap();
    let expected = [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 793, 7];
    assert_eq!(ids, expected);
    assert_eq!(
        v1.decode(&ids).unwrap(),
        "\" It' s the last he painted, you know,\" Mrs. Gisburn said with pardonable pride."
    );
    let error = v1.encode("Hello, do you like tea?", Special::Forbid);
    assert!(error.unwrap_err().to_string().contains("\"Hello\""));
}

#[test]
fn simple_v2_is_the_books() {
    let Some(text) = the_verdict() else { return };
    let v2 = SimpleTokenizer::v2(&text).unwrap();
    assert_eq!(v2.n_vocab(), 1132);
    assert_eq!(v2.end_of_text(), Some(1130));
    let ids = v2.encode(BOOK_V2, Special::Allow).unwrap();
    let expected = [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7];
    assert_eq!(ids, expected);
    assert_eq!(
        v2.decode(&ids).unwrap(),
        "<|unk|>, do you like tea? <|endoftext|> In the sunlit terraces of the <|unk|>."
    );
}

#[test]
fn gpt2_is_the_books() {
    let gpt2 = Bpe::gpt2();
    assert_eq!(gpt2.kind(), "gpt2");
    assert_eq!(gpt2.n_vocab(), 50257);
    assert_eq!(gpt2.end_of_text(), Some(50256));
    assert_eq!(gpt2.encode(BOOK_BPE, Special::Allow).unwrap(), BOOK_BPE_IDS);
    assert_eq!(gpt2.decode(&BOOK_BPE_IDS).unwrap(), BOOK_BPE);
    assert!(Arc::ptr_eq(&gpt2, &Bpe::gpt2()));
    if let Some(text) = the_verdict() {
        assert_eq!(gpt2.encode(&text, Special::Forbid).unwrap().len(), 5145);
    }
}

// Special tokens

#[test]
fn gpt2_special_tokens_are_forbidden_allowed_or_text() {
    let gpt2 = Bpe::gpt2();
    let error = gpt2.encode("a <|endoftext|>", Special::Forbid).unwrap_err();
    let at_two = matches!(&error, TokenizerError::ForbiddenSpecial { token, at: 2 } if token == END_OF_TEXT);
    assert!(at_two, "{error}");
    assert!(error.to_string().contains(END_OF_TEXT));
    let two = END_OF_TEXT.repeat(2);
    assert_eq!(gpt2.encode(&two, Special::Allow).unwrap(), [50256, 50256]);
    // tiktoken: encode_ordinary("<|endoftext|>")
    let as_text = [27, 91, 437, 1659, 5239, 91, 29];
    assert_eq!(gpt2.encode(END_OF_TEXT, Special::AsText).unwrap(), as_text);
    assert_eq!(gpt2.decode(&as_text).unwrap(), END_OF_TEXT);
    for special in [Special::Forbid, Special::Allow, Special::AsText] {
        assert_eq!(gpt2.encode("", special).unwrap(), [0; 0]);
        let part = gpt2.encode("<|endoftext", special).unwrap();
        assert_eq!(part, as_text[..5]);
    }
}

#[test]
fn simple_special_tokens_are_forbidden_allowed_or_unknown() {
    let v2 = SimpleTokenizer::v2("a tea <|unk|> <|endoftext|>").unwrap();
    assert_eq!(v2.n_vocab(), 4);
    let encode = |text, special| v2.encode(text, special);
    let error = encode("a <|endoftext|>", Special::Forbid).unwrap_err();
    assert!(matches!(error, TokenizerError::ForbiddenSpecial { at: 2, .. }));
    assert_eq!(encode("a <|endoftext|>", Special::Allow).unwrap(), [0, 2]);
    assert_eq!(encode("a <|endoftext|>", Special::AsText).unwrap(), [0, 3]);
    assert_eq!(encode("tea<|endoftext|>", Special::Forbid).unwrap(), [3], "part of a word");
    // V1 has no special token: in its text this is an ordinary word.
    let v1 = SimpleTokenizer::v1("a <|endoftext|>").unwrap();
    assert_eq!(v1.encode(END_OF_TEXT, Special::Forbid).unwrap(), [0]);
}

// Words

#[test]
fn simple_splits_signs_dashes_and_pythons_white_space() {
    let text = "a---b\u{1f}c_d\u{a0}e ( 'f'--\u{3000}g";
    let v1 = SimpleTokenizer::v1(text).unwrap();
    let ids = v1.encode(text, Special::Forbid).unwrap();
    let words: Vec<String> = ids.iter().map(|&id| v1.decode(&[id]).unwrap()).collect();
    let expected = ["a", "--", "-b", "c", "_", "d", "e", "(", "'", "f", "'", "--", "g"];
    assert_eq!(words, expected);
    assert_eq!(v1.decode(&ids).unwrap(), "a -- -b c _ d e(' f' -- g");
}

#[test]
fn a_blank_text_gives_no_vocabulary() {
    for text in ["", " \n\u{1c}\u{3000}"] {
        assert!(matches!(SimpleTokenizer::v1(text), Err(TokenizerError::NoWords)));
        assert!(matches!(SimpleTokenizer::v2(text), Err(TokenizerError::NoWords)));
    }
}

#[test]
fn an_id_out_of_range_is_named() {
    let v2 = SimpleTokenizer::v2("a tea").unwrap();
    let message = v2.decode(&[0, 4]).unwrap_err().to_string();
    assert!(message.contains('4') && message.contains("0 to 3"), "{message}");
    let message = Bpe::gpt2().decode(&[50257]).unwrap_err().to_string();
    assert!(message.contains("50257") && message.contains("0 to 50256"), "{message}");
    assert!(Bpe::gpt2().decode(&[u32::MAX]).is_err());
}

// Against tiktoken

/// The generator of the golden strings, as in golden/make.py.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn string(&mut self) -> String {
        const SPACES: [&str; 8] = [" ", "\n", "\t", "\r", "  ", "\u{a0}", "\u{2003}", "\u{3000}"];
        const NUMBERS: [&str; 8] = ["0", "7", "12", "2026", "\u{663}", "\u{4e94}", "\u{bd}", "\u{2167}"];
        const WORDS: [&str; 8] = ["'s", "'t", "'re", "'ve", "'M", "'ll", " the", END_OF_TEXT];
        let mut text = String::new();
        for _ in 0..self.next() % 48 {
            let r = self.next();
            let k = r >> 8;
            let code = match r % 8 {
                0 | 1 => 0x20 + k % 95,
                4 => 0xC0 + k % 0x470,
                5 => 0x3000 + k % 0xA7A4,
                6 => k % 0x11_0000,
                other => {
                    let pieces = [SPACES, NUMBERS, WORDS][[2, 3, 7].iter().position(|&m| m == other).unwrap()];
                    text.push_str(pieces[k as usize % 8]);
                    continue;
                }
            };
            text.push(char::from_u32(code as u32).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        text
    }
}

fn golden() -> Value {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/bpe.json"));
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn le_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

fn hex(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn random_strings_have_tiktokens_ids() {
    let golden = &golden()["random_strings"];
    let gpt2 = Bpe::gpt2();
    let mut random = SplitMix64(20_261_123);
    let mut hasher = Sha256::new();
    let mut n_tokens = 0;
    let n_strings = golden["n_strings"].as_u64().unwrap();
    assert_eq!(n_strings, 10_000);
    for _ in 0..n_strings {
        let text = random.string();
        let ids = gpt2.encode(&text, Special::AsText).unwrap();
        hasher.update((ids.len() as u32).to_le_bytes());
        hasher.update(le_bytes(&ids));
        n_tokens += ids.len();
        assert_eq!(gpt2.decode_bytes(&ids).unwrap(), text.as_bytes());
    }
    assert_eq!(golden["n_tokens"], n_tokens);
    assert_eq!(golden["sha256"], hex(hasher));
}

#[test]
fn the_shared_texts_have_tiktokens_ids() {
    let golden = golden();
    let files = golden["files"].as_object().unwrap();
    assert!(files.len() >= 8, "golden/bpe.json has few files");
    for (name, golden) in files {
        let bytes = if name == "hellaswag_val_full.txt" {
            let Some(packed) = shared_data("hellaswag_val_full.txt.bz2") else {
                continue;
            };
            let mut bytes = Vec::new();
            bzip2::read::BzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
            bytes
        } else {
            let Some(bytes) = shared_data(name) else {
                continue;
            };
            bytes
        };
        let text = String::from_utf8(bytes).unwrap();
        let ids = Bpe::gpt2().encode(&text, Special::AsText).unwrap();
        assert_eq!(golden["n_tokens"], ids.len(), "{name}");
        let hash = hex(Sha256::new_with_prefix(le_bytes(&ids)));
        assert_eq!(golden["sha256"], hash, "{name}");
    }
}

#[test]
fn long_runs_are_encoded_in_one_go() {
    let gpt2 = Bpe::gpt2();
    // A backtracking engine overflows its stack on the first two; merging by rescanning would take hours on the third.
    let spaces = format!("{}x", " ".repeat(2_000_000));
    let lines = "\n \u{3000}".repeat(300_000);
    let word = "ab".repeat(200_000);
    for text in [spaces, lines, word] {
        let ids = gpt2.encode(&text, Special::Forbid).unwrap();
        assert_eq!(gpt2.decode_bytes(&ids).unwrap(), text.as_bytes());
    }
}

// Any text, any ids

/// Texts rich in the distinctions that the piece pattern makes.
fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![any::<String>(), "[ \t\n\u{3000}a'sdmtlre0-9<|>.]{0,12}", Just(END_OF_TEXT.to_owned())];
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

fn streamed(tokenizer: &dyn Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id).unwrap()).collect();
    text.push_str(&decoder.finish());
    text
}

proptest! {
    #[test]
    fn any_text_survives_the_round_trip(text in any_text()) {
        let gpt2 = Bpe::gpt2();
        for special in [Special::Allow, Special::AsText] {
            let ids = gpt2.encode(&text, special).unwrap();
            prop_assert_eq!(&gpt2.decode(&ids).unwrap(), &text);
            prop_assert_eq!(&streamed(&*gpt2, &ids), &text);
        }
        let forbidden = gpt2.encode(&text, Special::Forbid);
        prop_assert_eq!(forbidden.is_err(), text.contains(END_OF_TEXT));
    }

    #[test]
    fn streamed_gpt2_is_the_whole(ids in prop::collection::vec(prop_oneof![0u32..256, 0u32..50257], 0..40)) {
        let gpt2 = Bpe::gpt2();
        prop_assert_eq!(streamed(&*gpt2, &ids), gpt2.decode(&ids).unwrap());
    }

    #[test]
    fn streamed_words_are_the_whole(text in any_text(), picks in prop::collection::vec(any::<u32>(), 0..40)) {
        let v2 = SimpleTokenizer::v2(&format!("a , . ( ' -- : {text}")).unwrap();
        let ids: Vec<u32> = picks.iter().map(|pick| pick % v2.n_vocab() as u32).collect();
        prop_assert_eq!(streamed(&v2, &ids), v2.decode(&ids).unwrap());
    }

    #[test]
    fn words_survive_the_json(text in any_text()) {
        for version in [SimpleTokenizer::v1, SimpleTokenizer::v2] {
            let tokenizer = version(&format!("a {text}")).unwrap();
            let again = read(&tokenizer.to_json()).unwrap();
            prop_assert_eq!(again.kind(), tokenizer.kind());
            prop_assert_eq!(again.hash(), tokenizer.hash());
            let ids = tokenizer.encode(&text, Special::Allow).unwrap();
            prop_assert_eq!(again.encode(&text, Special::Allow).unwrap(), ids);
        }
    }
}

#[test]
fn a_stream_never_splits_a_character() {
    let gpt2 = Bpe::gpt2();
    let mut decoder = StreamDecoder::new();
    // The four bytes of U+1F58B one by one, then a lone lead byte and a letter.
    let byte = |b: u8| (0..256).find(|&id| gpt2.decode_bytes(&[id]).unwrap() == [b]).unwrap();
    let texts: Vec<String> =
        [0xf0, 0x9f, 0x96, 0x8b, 0xe2, b'a', 0xe2, 0x82].map(|b| decoder.push(&*gpt2, byte(b)).unwrap()).into();
    assert_eq!(texts, ["", "", "", "\u{1f58b}", "", "\u{fffd}a", "", ""]);
    assert!(decoder.push(&*gpt2, 50257).is_err());
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.finish(), "");
}

// tokenizer.json

#[test]
fn gpt2_survives_the_json() {
    let gpt2 = Bpe::gpt2();
    let json = gpt2.to_json();
    let again = Bpe::from_json(&json, Path::new("tokenizer.json")).unwrap();
    assert!(Arc::ptr_eq(&again, &gpt2));
    let again = read(&json).unwrap();
    assert_eq!(again.kind(), "gpt2");
    assert_eq!(again.hash(), gpt2.hash());
    let file: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(file["model"]["merges"][0], "\u{120} t");
    assert_eq!(file["model"]["merges"][49_999], "\u{120}g azed");
    assert_eq!(file["model"]["vocab"]["<|endoftext|>"], 50256);
}

#[test]
fn different_tokenizers_have_different_hashes() {
    let v1 = SimpleTokenizer::v1("a b").unwrap();
    let hashes = [
        v1.hash(),
        SimpleTokenizer::v1("a c").unwrap().hash(),
        SimpleTokenizer::v1("a b c").unwrap().hash(),
        SimpleTokenizer::v1("a b <|endoftext|> <|unk|>").unwrap().hash(),
        SimpleTokenizer::v2("a b").unwrap().hash(),
        Bpe::gpt2().hash(),
        read(&small_bpe(|_| {}).to_string()).unwrap().hash(),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert_eq!(hash.len(), 64);
        assert!(!hashes[..i].contains(hash));
    }
    assert_eq!(v1.hash(), SimpleTokenizer::v1("b\n\na a").unwrap().hash());
}

/// A byte-level BPE with the special token first, as trainers write it: 256 bytes, then `ab`, `abc`, ` a`.
fn small_bpe(change: impl FnOnce(&mut Value)) -> Value {
    let gpt2: Value = serde_json::from_str(&Bpe::gpt2().to_json()).unwrap();
    let letters = gpt2["model"]["vocab"].as_object().unwrap().keys();
    let letters: Vec<&String> = letters.filter(|t| t.chars().count() == 1).collect();
    let mut vocab = serde_json::Map::new();
    vocab.insert("<s>".to_owned(), json!(0));
    for (i, letter) in letters.into_iter().enumerate() {
        vocab.insert(letter.clone(), json!(i + 1));
    }
    for (token, id) in [("ab", 257), ("abc", 258), ("\u{120}a", 259)] {
        vocab.insert(token.to_owned(), json!(id));
    }
    let mut file = json!({
        "version": "1.0",
        "truncation": {"max_length": 4},
        "added_tokens": [
            {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 260, "content": "<|endoftext|>", "special": true},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"vocab": vocab, "merges": ["a b", ["ab", "c"], "\u{120} a"]},
    });
    change(&mut file);
    file
}

#[test]
fn another_byte_level_bpe_is_read() {
    let bpe = read(&small_bpe(|_| {}).to_string()).unwrap();
    assert_eq!(bpe.kind(), "bpe");
    assert_eq!(bpe.n_vocab(), 261);
    assert_eq!(bpe.end_of_text(), Some(260));
    let text = "abc ab<s> aé<|endoftext|>";
    let ids = bpe.encode(text, Special::Allow).unwrap();
    assert_eq!(bpe.decode(&ids).unwrap(), text);
    assert_eq!(ids[0], 258);
    // ` ab` is one piece, in which `ab` is merged first.
    assert_eq!(bpe.decode(&ids[1..=2]).unwrap(), " ab");
    assert_eq!(ids[2..5], [257, 0, 259]);
    assert_eq!(*ids.last().unwrap(), 260);
    let error = bpe.encode("<s>", Special::Forbid).unwrap_err();
    assert!(error.to_string().contains("<s>"));
    let again = read(&bpe.to_json()).unwrap();
    assert_eq!(again.hash(), bpe.hash());
    assert_eq!(again.encode(text, Special::Allow).unwrap(), ids);
}

/// `file` with the value at a path such as `model/merges/0` replaced or added.
fn with(mut file: Value, path: &str, value: Value) -> String {
    let place = path.split('/').fold(&mut file, |place, key| match key.parse::<usize>() {
        Ok(index) => &mut place[index],
        Err(_) => &mut place[key],
    });
    *place = value;
    file.to_string()
}

#[test]
fn a_file_that_would_encode_differently_is_an_error() {
    let space_a = "\u{120} a";
    let cases = [
        ("model/type", json!("Unigram"), "BPE"),
        ("model", json!({"vocab": {}}), "found none"),
        ("normalizer", json!({"type": "NFC"}), "NFC"),
        ("pre_tokenizer", json!({"type": "Whitespace"}), "Whitespace"),
        ("pre_tokenizer", Value::Null, "found none"),
        ("pre_tokenizer/add_prefix_space", json!(true), "pre_tokenizer"),
        ("pre_tokenizer/use_regex", json!(false), "pre_tokenizer"),
        ("decoder", Value::Null, "decoder"),
        ("post_processor", json!({"type": "BertProcessing"}), "BertProcessing"),
        ("post_processor/single", json!([{"SpecialToken": {"id": "<s>"}}]), "<s>"),
        ("model/dropout", json!(0.1), "0.1"),
        ("model/end_of_word_suffix", json!("</w>"), "</w>"),
        ("model/continuing_subword_prefix", json!("##"), "##"),
        ("model/merges", json!(["ab c", "a b", space_a]), "order of the ids"),
        ("model/merges", json!(["a b", "ab c"]), "end of the list"),
        ("model/merges", json!(["a b", "ab c", space_a, "b c"]), "number of merges"),
        ("model/merges/0", json!("ab"), "merges"),
        ("model/merges/0", json!("a b c"), "merges"),
        ("model/vocab/xyz", json!(261), "xyz"),
        ("model/vocab/ab", json!(4_000_000_000u32), "4000000000"),
        ("model/vocab/ab", json!(258), "twice"),
        ("model/vocab/\u{4e94}", json!(261), "\u{4e94}"),
        ("added_tokens/0/rstrip", json!(true), "<s>"),
        ("added_tokens/0/id", json!(7), "7"),
    ];
    for (path, value, says) in cases {
        let message = read_error(&with(small_bpe(|_| {}), path, value));
        assert!(message.contains(says), "{path}: {message}");
    }
}

#[test]
fn a_vocabulary_without_every_byte_refuses_only_texts_that_need_one() {
    let file = small_bpe(|f| {
        let vocab = f["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("z").unwrap();
        vocab["\u{120}a"] = id;
        f["model"]["merges"] = json!(["\u{120} a", "a b", "ab c"]);
        f["added_tokens"][1]["id"] = json!(259);
    });
    let bpe = read(&file.to_string()).unwrap();
    let text = "abc a<s>b<|endoftext|>";
    let ids = bpe.encode(text, Special::Allow).unwrap();
    assert_eq!(bpe.decode(&ids).unwrap(), text);
    for (text, at) in [("z", 0), ("ab z", 3), ("a<s>zz", 4), ("a<|endoftext|>z", 14), ("z<s>", 0)] {
        let message = bpe.encode(text, Special::Allow).unwrap_err().to_string();
        assert!(message.contains(&format!("0x7a (at byte {at} ")), "{text}: {message}");
    }
    let again = read(&bpe.to_json()).unwrap();
    assert_eq!((again.hash(), again.encode(text, Special::Allow).unwrap()), (bpe.hash(), ids));
}

#[test]
fn added_tokens_that_are_not_special_are_part_of_ordinary_text() {
    let file = small_bpe(|f| f["added_tokens"][0]["special"] = json!(false)).to_string();
    let bpe = read(&file).unwrap();
    assert_eq!(bpe.special_texts(), [END_OF_TEXT]);
    for special in [Special::Allow, Special::AsText, Special::Forbid] {
        assert_eq!(bpe.encode("abc<s>ab", special).unwrap(), [258, 0, 257], "{special:?}");
    }
    // The special one is still treated as the caller says.
    assert!(bpe.encode("<s><|endoftext|>", Special::Forbid).is_err());
    assert_eq!(bpe.encode("<s><|endoftext|>", Special::Allow).unwrap(), [0, 260]);
    let as_text = bpe.encode("<s><|endoftext|>", Special::AsText).unwrap();
    assert!(as_text.len() > 5 && as_text[0] == 0 && bpe.decode(&as_text).unwrap() == "<s><|endoftext|>");
    let again = read(&bpe.to_json()).unwrap();
    assert_eq!((again.hash(), again.special_texts()), (bpe.hash(), vec![END_OF_TEXT]));
    assert_ne!(bpe.hash(), read(&small_bpe(|_| {}).to_string()).unwrap().hash());
    let lists = bpe.bpe_lists().unwrap();
    assert_eq!((&lists.specials, &lists.added), (&vec![260], &vec![0]));
    assert_eq!(Bpe::from_lists(lists, Path::new("x")).unwrap().hash(), bpe.hash());
}

#[test]
fn odd_special_tokens_are_errors() {
    for token in [
        json!({"id": 260, "content": "", "special": true}),
        json!({"id": 260, "content": "<s>", "special": true}),
        json!({"id": 260, "content": "x".repeat(2 << 20), "special": true}),
        json!({"id": 260, "content": "<e>", "special": true, "lstrip": true}),
        json!({"id": -1, "content": "<e>", "special": true}),
    ] {
        let message = read_error(&with(small_bpe(|_| {}), "added_tokens/1", token));
        assert!(message.len() < 500, "{message}");
    }
}

#[test]
fn a_merge_that_ids_would_not_make_is_an_error() {
    // With `bc` before `ab`, the bytes of `abc` merge to `a` and `bc`; a list with `ab c` could never produce `abc`.
    let message = read_error(
        &small_bpe(|f| {
            f["model"]["vocab"]["bc"] = json!(257);
            f["model"]["vocab"]["ab"] = json!(258);
            f["model"]["vocab"]["abc"] = json!(261);
            f["model"]["merges"] = json!(["b c", "a b", "\u{120} a", "ab c"]);
        })
        .to_string(),
    );
    assert!(message.contains("a bc") && message.contains("ab c"), "{message}");
}

#[test]
fn a_very_long_token_is_an_error() {
    let long = "a".repeat(100_000);
    let message = read_error(&small_bpe(|f| f["model"]["vocab"][long] = json!(261)).to_string());
    assert!(message.contains("1024 bytes") && message.len() < 500, "{message}");
}

#[test]
fn other_word_files_are_errors() {
    let v2 = SimpleTokenizer::v2("tea for two").unwrap().to_json();
    assert!(read(&v2).is_ok());
    let v2: Value = serde_json::from_str(&v2).unwrap();
    for (path, value, says) in [
        ("pre_tokenizer", json!({"type": "Whitespace"}), "Whitespace"),
        ("normalizer", json!({"type": "Lowercase"}), "Lowercase"),
        ("post_processor", json!({"type": "BertProcessing"}), "BertProcessing"),
        ("added_tokens", json!([]), "<|unk|>"),
        ("model/unk_token", json!("[UNK]"), "[UNK]"),
        ("model/unk_token", json!(""), "added_tokens"),
        ("model/vocab", json!({}), "at least one word"),
        ("model/vocab/tea", json!(4_000_000_000u32), "after a gap"),
        ("model/vocab/two words", json!(5), "one word"),
        ("model/vocab/last", json!(5), "as the last"),
    ] {
        let message = read_error(&with(v2.clone(), path, value));
        assert!(message.contains(says), "{path}: {message}");
    }
}

#[test]
fn damaged_files_are_errors() {
    for text in ["", "null", "[]", "{}", "\u{feff}{}", "{\"model\": 3}", "{\"model\": {\"type\": 1}}"] {
        read_error(text);
    }
    read_error(&"[".repeat(1 << 20));
    let sound = small_bpe(|_| {}).to_string();
    for end in (0..sound.len()).filter(|&end| sound.is_char_boundary(end)).step_by(97) {
        read_error(&sound[..end]);
    }
}

proptest! {
    /// A flipped character is an error or another tokenizer, never a panic.
    #[test]
    fn flipped_files_do_not_panic(at in 0usize..6000, to in any::<char>(), words in any::<bool>()) {
        static BPE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| small_bpe(|_| {}).to_string());
        let sound = if words { SimpleTokenizer::v2("tea for two").unwrap().to_json() } else { BPE.clone() };
        let mut chars: Vec<char> = sound.chars().collect();
        let at = at % chars.len();
        chars[at] = to;
        let text: String = chars.into_iter().collect();
        let path = PathBuf::from("flipped.json");
        match read_json(&text, &path) {
            Ok(tokenizer) => prop_assert!(tokenizer.n_vocab() > 0),
            Err(error) => prop_assert!(error.to_string().contains("flipped.json")),
        }
    }
}
