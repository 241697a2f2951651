//! Inputs that are not texts, and texts that are too short.

use std::net::TcpListener;

use crate::program::{Outcome, Place, train};

#[track_caller]
fn refused(place: &Place, more: &[&str], parts: &[&str]) {
    place.fails(&train(more), 1, parts);
    assert!(!place.exists("run"));
}

#[test]
fn inputs_that_give_no_text() {
    let place = Place::new();
    place.write("empty.txt", "");
    place.write("blank.txt", " \n\n ");
    place.write("latin.txt", b"un caf\xe9 au lait");
    place.write("book.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n");
    place.write("folder/image.png", "no text");
    let data = |input: &str, parts: &[&str]| {
        refused(&place, &["--data", input], parts);
        // The same text between others.
        refused(&place, &["--data", "story.txt", input, "--data", "story.txt"], parts);
    };
    data("empty.txt", &["empty.txt", "empty file", "give another one, or leave it out"]);
    data("blank.txt", &["blank.txt", "only white space", "give another file"]);
    data("latin.txt", &["latin.txt", "expected UTF-8, found byte 0xE9 at byte 6", "iconv"]);
    data("book.pdf", &["book.pdf", "the beginning of a PDF document", "pdftotext FILE.pdf FILE.txt"]);
    data("missing.txt", &["missing.txt", "no such file or folder", "check the path", "builtin, the-verdict"]);
    data("the-verdikt", &["the-verdikt", "not the name of a text", "builtin, the-verdict"]);
    data("folder", &["folder", "found none", "name the files themselves"]);
    data("*.text", &["*.text", "found none", "check it"]);
    data("[", &["[", "expected a pattern"]);
    #[cfg(unix)]
    data("/dev/null", &["/dev/null", "expected a file or a folder", "write its text to a file first"]);
    place.fails(&train(&["--data", ""]), 2, &["data.inputs = \"\"", "leave the empty one out"]);
}

#[test]
fn eval_refuses_the_same_texts() {
    let place = Place::with_run();
    place.write("empty.txt", "");
    place.write("word.txt", "lamp");
    let eval = |input| ["eval", "--model", "run", "--data", input];
    place.fails(&eval("empty.txt"), 1, &["empty.txt", "empty file", "give another one"]);
    place.fails(&eval("missing.txt"), 1, &["missing.txt", "no such file or folder", "check the path"]);
    place.fails(&eval("word.txt"), 1, &["the text has 1 token", "hint: give at least two"]);
}

#[test]
fn texts_shorter_than_a_window() {
    let place = Place::new();
    place.write("short.txt", "The lamp in the harbour house was lit.");
    refused(
        &place,
        &["--data", "short.txt"],
        &["the training part has 7 tokens", "needs at least 9", "give more text"],
    );
    let wide = ["--set", "model.n_positions=4096", "--window", "4000"];
    refused(&place, &wide, &["the training part has", "one window of 4000 needs at least 4001", "use --window 36"]);
    // The training part is long enough, the validation part is not.
    let fraction = ["--set", "data.train_fraction=0.99"];
    refused(&place, &fraction, &["the validation part has", "one window of 8", "give more text, or use --window 3"]);
    refused(&place, &["--batch-size", "500"], &["the training part gives", "use --batch-size 35"]);
}

/// What a hint proposes works at once; it does not lead to the next error.
#[test]
fn the_settings_that_a_hint_proposes_work() {
    let place = Place::new();
    for flags in [
        &["--set", "model.n_positions=4096", "--window", "4000"][..],
        &["--batch-size", "500"],
        &["--set", "data.train_fraction=0.98"],
        &["--set", "model.n_positions=64", "--window", "64", "--stride", "64"],
    ] {
        let outcome = place.fails(&train(flags), 1, &["give more text, or use --"]);
        let proposed = outcome.stderr.split("or use ").nth(1).unwrap().split_whitespace();
        let proposed: Vec<&str> = proposed.collect();
        // A flag that was given is given again with another value.
        let is_replaced = |flag: &str| proposed.contains(&flag);
        let kept = flags.chunks(2).filter(|pair| !is_replaced(pair[0])).flatten().copied();
        let args: Vec<&str> = kept.chain(proposed.iter().copied()).chain(["--epochs", "1"]).collect();
        place.succeeds(&train(&args));
        std::fs::remove_dir_all(place.path("run")).unwrap();
    }
}

#[test]
fn a_text_that_has_no_words() {
    let place = Place::new();
    place.write("marks.txt", "\u{200b}");
    refused(&place, &["--data", "marks.txt"], &["the training part has", "give more text"]);
}

/// The name of the report's text without a network: the error says where to put which file.
#[test]
fn a_named_text_without_a_network() {
    // A port that was free a moment ago, so nothing listens on it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = Place::with_run();
    let before = place.files();
    let commands = [
        vec!["train", "--config", "tiny.toml", "--run", "new", "--data", "the-verdict"],
        vec!["eval", "--model", "run", "--data", "the-verdict"],
    ];
    for args in commands {
        let proxy = format!("http://127.0.0.1:{port}");
        let outcome = place.command(&args).env("HTTPS_PROXY", &proxy).env("ALL_PROXY", &proxy).output().unwrap();
        let file = place.path("cache").join("the-verdict.txt");
        let parts = [
            "cannot download the-verdict from https://",
            "is there a network?",
            "put the-verdict.txt (20479 bytes, SHA-256 b41e41a6",
            file.to_str().unwrap(),
            "by hand",
        ];
        Outcome::of(outcome).is_error(1, &parts);
        assert!(before == place.files(), "{:?}", place.files().keys());
    }
}

#[test]
fn a_wrong_file_under_a_known_name() {
    let place = Place::new();
    place.write("cache/the-verdict.txt", "I had always thought");
    refused(&place, &["--data", "the-verdict"], &["the-verdict.txt", "20 bytes", "SHA-256", "delete this file"]);
    let cache = place.path("story.txt/cache");
    let outcome = place.command(&train(&["--data", "the-verdict"])).env("CALAME_CACHE", cache).output().unwrap();
    Outcome::of(outcome).is_error(1, &["story.txt/cache/the-verdict.txt", "cannot be read", "check that"]);
}
