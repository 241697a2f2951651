//! `calame tokenize`: text to ids and back, from an argument, a file and standard input.

use std::io::Write;
use std::process::Stdio;

use crate::program::{Outcome, Place};

/// The book's own example, which joins its two lines without a space.
const TEA: &str = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace.";
const TEA_IDS: &str = "15496 11 466 345 588 8887 30 220 50256 554 262 4252 18250 8812 2114 1659 617 34680 27271 13\n";

fn with_input(place: &Place, args: &[&str], input: &[u8]) -> Outcome {
    let mut command = place.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Outcome::of(child.wait_with_output().unwrap())
}

#[test]
fn text_to_ids() {
    let place = Place::new();
    let from_argument = place.succeeds(&["tokenize", "--allow-special", TEA]);
    assert_eq!(from_argument.stdout, TEA_IDS);
    place.write("tea.txt", TEA);
    assert_eq!(place.succeeds(&["tokenize", "--allow-special", "--file", "tea.txt"]).stdout, TEA_IDS);
    let from_input = with_input(&place, &["tokenize", "--allow-special"], TEA.as_bytes());
    assert_eq!((from_input.code, from_input.stdout.as_str()), (Some(0), TEA_IDS));
    assert_eq!(place.succeeds(&["tokenize", ""]).stdout, "\n");
    assert_eq!(place.succeeds(&["tokenize", "-5"]).stdout, "12 20\n");
}

#[test]
fn ids_to_text() {
    let place = Place::new();
    let text = format!("{TEA}\n");
    assert_eq!(place.succeeds(&["tokenize", "--decode", TEA_IDS]).stdout, text);
    place.write("ids.txt", TEA_IDS.replace(' ', ", "));
    assert_eq!(place.succeeds(&["tokenize", "--decode", "--file", "ids.txt"]).stdout, text);
    assert_eq!(with_input(&place, &["tokenize", "--decode"], TEA_IDS.as_bytes()).stdout, text);
}

#[test]
fn counts() {
    let place = Place::new();
    assert_eq!(
        place.succeeds(&["tokenize", "--count", "Hello, I am"]).stdout,
        "4 tokens, 11 characters, 2.75 bytes per token\n"
    );
    let input = "naïve ".repeat(1000);
    let outcome = with_input(&place, &["tokenize", "--count"], input.as_bytes());
    assert!(outcome.stdout.contains(" tokens, 6,000 characters, "), "{outcome:?}");
    assert_eq!(place.succeeds(&["tokenize", "--count", ""]).stdout, "0 tokens, 0 characters, 0.00 bytes per token\n");
}

#[test]
fn special_tokens_must_be_allowed() {
    let place = Place::new();
    let parts = ["\"<|endoftext|>\" at byte 24", "hint: --special-tokens ids"];
    place.fails(&["tokenize", TEA], 1, &parts);
    place.write("tea.txt", TEA);
    place.fails(&["tokenize", "--count", "--file", "tea.txt"], 1, &parts);
    place.fails(&["tokenize", "--allow-special", "--special-as-text", TEA], 2, &["cannot be used with"]);
    let as_text = place.succeeds(&["tokenize", "--special-as-text", "<|endoftext|>"]);
    assert_eq!(as_text.stdout, "27 91 437 1659 5239 91 29\n");
}

#[test]
fn words_that_are_not_ids() {
    let place = Place::new();
    let decode = |ids| ["tokenize", "--decode", ids];
    place.fails(&decode("1 2 three"), 2, &["'three' is not a token id", "15496 11 466"]);
    place.fails(&decode("-5"), 2, &["'-5' is not a token id"]);
    place.fails(&decode("4294967296"), 2, &["'4294967296' is not a token id"]);
    place.fails(&decode("50257"), 1, &["token id 50257 is not in the vocabulary", "0 to 50256"]);
}

#[test]
fn what_cannot_be_read() {
    let place = Place::new();
    place.fails(&["tokenize", "--file", "missing.txt"], 1, &["missing.txt: no such file or folder", "check the path"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    place.fails(&["tokenize", "--file", "empty"], 1, &["empty: expected files ending in .txt", "found none"]);
    place.write("latin.txt", b"caf\xe9");
    place.fails(&["tokenize", "--file", "latin.txt"], 1, &["latin.txt: expected UTF-8", "byte 3"]);
    with_input(&place, &["tokenize"], b"caf\xe9").is_error(1, &["standard input is not UTF-8", "hint: convert it"]);
    place.fails(&["tokenize", "--tokenizer", "gpt5", "a"], 1, &["no tokenizer at 'gpt5'", "hint: give gpt2"]);
    let parts = ["story.txt: expected a tokenizer.json", "hint: the file is damaged or not the expected one"];
    place.fails(&["tokenize", "--tokenizer", "story.txt", "a"], 1, &parts);
}

#[test]
fn a_models_own_tokenizer() {
    let place = Place::with_run();
    let mut ids = Vec::new();
    for tokenizer in ["run", "run/model", "run/tokenizer.json"] {
        let outcome = place.succeeds(&["tokenize", "--tokenizer", tokenizer, "The lamp was lit, quite."]);
        ids.push(outcome.stdout);
    }
    assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
    let back = place.succeeds(&["tokenize", "--tokenizer", "run", "--decode", &ids[0]]);
    assert_eq!(back.stdout, "The lamp was lit, <|unk|>.\n");
}
