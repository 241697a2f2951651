//! `calame data` and `calame tokenizer`: text is prepared, trained on, and its preparation resumed; wrong arguments are
//! refused.

use serde_json::Value;

use crate::program::{Outcome, Place, train};

/// `calame data prepare` with `more`.
fn prepare<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["data", "prepare", "--out", "prepared"], more].concat()
}

/// The tests' training on `data`, with the tokenizer of `data`.
fn train_on<'a>(data: &'a str, run: &'a str) -> Vec<&'a str> {
    vec!["train", "--config", "shards.toml", "--run", run, "--data", data]
}

/// A place whose settings name no tokenizer.
fn place() -> Place {
    let place = Place::new();
    let settings = place.text("tiny.toml").replace("[tokenizer]\nkind = \"simple-v2\"\n", "");
    place.write("shards.toml", settings);
    place
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.stdout.trim()).unwrap()
}

#[test]
fn training_on_a_prepared_text_equals_training_on_the_text() {
    let place = place();
    let outcome = place.succeeds(&prepare(&["story.txt", "--end-of-text", "false"]));
    for part in ["1 documents of 1 files", "in 1 file", "bytes per token", "next      calame train --data prepared"] {
        assert!(outcome.stdout.contains(part), "{part:?} in {outcome:#?}");
    }
    let of_shards = place.succeeds(&train_on("prepared", "a"));
    assert!(of_shards.stdout.contains("text   prepared, prepared: 1 documents,"), "{of_shards:#?}");
    place.succeeds(&train_on("story.txt", "b"));
    let weights = |run: &str| place.read(&format!("{run}/model/model.safetensors"));
    assert!(weights("a") == weights("b"));
    // The run identifies its text by the manifest.
    let config: toml::Table = place.text("a/config.toml").parse().unwrap();
    let info = json(&place.succeeds(&["data", "info", "prepared", "--check", "--json"]));
    assert_eq!(config["text_sha256"].as_str(), info["sha256"].as_str());
    assert_eq!(config["data"]["inputs"].as_array().unwrap()[0].as_str(), place.path("prepared").to_str());
    // The manifest can be given instead of its folder.
    place.succeeds(&train_on("prepared/manifest.json", "c"));
    assert!(weights("c") == weights("a"));
    place.fails(
        &train_on("prepared", "d")[..].iter().copied().chain(["story.txt"]).collect::<Vec<_>>(),
        2,
        &["give it alone"],
    );
}

#[test]
fn preparing_twice_does_the_work_once() {
    let place = place();
    let first = place.succeeds(&prepare(&["story.txt", "--json"]));
    let result = json(&first);
    assert_eq!((result["n_documents"].as_u64(), result["event"].as_str()), (Some(1), Some("result")));
    let n_tokens = |part: &str| result[part].as_u64().unwrap();
    let share = n_tokens("n_train_tokens") as f64 / (n_tokens("n_train_tokens") + n_tokens("n_val_tokens")) as f64;
    assert!((share - 0.9).abs() < 0.05, "{share}");
    let before = place.files();
    let again = place.succeeds(&prepare(&["story.txt"]));
    assert!(again.stdout.contains("done      before"), "{again:#?}");
    assert!(place.files() == before);
    place.fails(
        &prepare(&["story.txt", "--seed", "7"]),
        1,
        &["prepared", "with other options", "choose another folder"],
    );
}

#[test]
fn lines_and_nanogpts_files() {
    let place = place();
    let lines: String = (0..60).map(|i| format!("{{\"body\": \"The lamp {i} was lit.\"}}\n")).collect();
    place.write("in/a.jsonl", lines + "nothing\n");
    let args = prepare(&["in", "--field", "body", "--format", "nanogpt", "--val-fraction", "0.3"]);
    let outcome = place.succeeds(&args);
    assert!(outcome.stdout.contains("1 bad lines or rows\nfirst bad in/a.jsonl, line 61: "), "{outcome:#?}");
    assert!(place.exists("prepared/train.bin") && place.exists("prepared/val.bin"));
    place.succeeds(&train_on("prepared", "run"));
    let shown = place.succeeds(&["data", "info", "prepared", "--check"]);
    assert!(shown.stdout.contains("shard     val.bin, ") && shown.stdout.contains("every shard matches its checksum"));
    let mut bytes = place.read("prepared/val.bin");
    bytes[4] ^= 1;
    place.write("prepared/val.bin", bytes);
    place.fails(
        &["data", "info", "prepared", "--check"],
        1,
        &["prepared/val.bin: expected SHA-256", "prepare the text again"],
    );
    place.write("prepared/val.bin", "short");
    place.fails(&train_on("prepared", "other"), 1, &["prepared/val.bin: 5 bytes, expected"]);
}

#[test]
fn a_different_tokenizer_is_refused() {
    let place = Place::with_run();
    place.succeeds(&prepare(&["story.txt"]));
    place.fails(
        &train(&["--run", "new", "--data", "prepared"])[..3]
            .iter()
            .copied()
            .chain(["--run", "new", "--data", "prepared"])
            .collect::<Vec<_>>(),
        2,
        &["tokenizer.kind is 'simple-v2', prepared was prepared with 'gpt2'", "a prepared text has its own tokenizer"],
    );
    let from = [
        "train",
        "--init-from",
        "run",
        "--run",
        "new",
        "--data",
        "prepared",
        "--window",
        "8",
        "--stride",
        "8",
        "--threads",
        "1",
    ];
    place.fails(
        &from,
        1,
        &["prepared was prepared with another tokenizer: 'gpt2' of 50,257 tokens", "this one is 'simple-v2'"],
    );
    // With the model's own tokenizer it is a text like any other.
    place.succeeds(&["data", "prepare", "story.txt", "--tokenizer", "run", "--out", "own"]);
    place.succeeds(&from.map(|arg| if arg == "prepared" { "own" } else { arg }));
    // A tokenizer that was changed after its manifest was written.
    let other = place.text("run/tokenizer.json");
    place.write("prepared/tokenizer.json", other);
    let place_settings = place.text("tiny.toml").replace("[tokenizer]\nkind = \"simple-v2\"\n", "");
    place.write("shards.toml", place_settings);
    place.fails(&train_on("prepared", "new2"), 1, &["prepared with another tokenizer"]);
}

#[test]
fn a_part_without_tokens_is_reported() {
    let place = place();
    let outcome = place.succeeds(&prepare(&["story.txt", "--split", "documents", "--val-fraction", "0.001"]));
    assert!(outcome.stderr.contains("warning: no document was drawn for validation"), "{outcome:#?}");
    assert!(!outcome.stdout.contains("next "), "{outcome:#?}");
    place.fails(
        &train_on("prepared", "run"),
        1,
        &["the validation part of prepared has no tokens", "--split characters"],
    );
}

#[test]
fn what_cannot_be_prepared() {
    let place = place();
    place.write("bad.jsonl", "{}\n");
    place.write("letters/mine.txt", "mine");
    let refused = |args: &[&str], code: i32, parts: &[&str]| {
        let outcome = place.run(&prepare(args));
        outcome.is_error(code, parts);
    };
    refused(&["missing.txt"], 1, &["missing.txt", "no such file or folder"]);
    refused(&["bad.jsonl"], 1, &["none of the 1 lines and rows is a document", "bad.jsonl, line 1: no field \"text\""]);
    refused(&["story.txt", "--format", "nanogpt", "--shard-tokens", "7"], 2, &["--shard-tokens"]);
    refused(&["story.txt", "--val-fraction", "1"], 1, &["from 0 to below 1"]);
    place.fails(
        &["data", "prepare", "story.txt", "--out", "letters"],
        1,
        &["letters", "mine.txt", "choose another folder"],
    );
    place.fails(&["data", "info", "letters"], 1, &["cannot read letters/manifest.json"]);
}

#[test]
fn a_tokenizer_is_trained_and_used() {
    let place = place();
    let train_tokenizer = ["tokenizer", "train", "story.txt", "--vocab-size", "300", "--out", "tokenizer.json"];
    let outcome = place.succeeds(&train_tokenizer);
    assert!(outcome.stdout.contains("tokenizer tokenizer.json, 300 tokens"), "{outcome:#?}");
    assert!(outcome.stdout.contains(" per token on this text; GPT-2's 50,257 tokens: "), "{outcome:#?}");
    place.fails(&train_tokenizer, 1, &["tokenizer.json exists already", "--overwrite"]);
    let result = json(&place.succeeds(&[&train_tokenizer[..], &["--overwrite", "--json"]].concat()));
    assert!(result["bytes_a_token"].as_f64().unwrap() < result["gpt2_bytes_a_token"].as_f64().unwrap());
    place.fails(&["tokenizer", "train", "story.txt", "--vocab-size", "9", "--out", "x.json"], 1, &["257"]);
    let count = place.succeeds(&["tokenize", "--tokenizer", "tokenizer.json", "--count", "--file", "story.txt"]);
    assert!(count.stdout.contains("bytes per token"));
    place.succeeds(&prepare(&["story.txt", "--tokenizer", "tokenizer.json"]));
    place.succeeds(&train_on("prepared", "a"));
    place.succeeds(&[&train_on("story.txt", "b")[..], &["--set", "tokenizer.kind=tokenizer.json"]].concat());
    for run in ["a", "b"] {
        let config: toml::Table = place.text(&format!("{run}/config.toml")).parse().unwrap();
        assert_eq!(config["tokenizer"]["kind"].as_str(), Some("bpe"));
        assert_eq!(config["model"]["vocab_size"].as_integer(), Some(300));
        place.succeeds(&["generate", "--model", run, "--context", "The lamp", "--tokens", "3"]);
    }
    // A run's own settings name its tokenizer by kind; it is read from the run's folder.
    place.succeeds(&["train", "--config", "b/config.toml", "--run", "c"]);
    assert_eq!(place.text("c/tokenizer.json"), place.text("b/tokenizer.json"));
}

/// A preparation that a signal stops is resumed.
#[cfg(unix)]
#[test]
fn a_signal_saves_the_progress() {
    use std::io::Write;
    let place = place();
    let text = place.text("story.txt");
    let mut file = std::fs::File::create(place.path("long.txt")).unwrap();
    (0..10_000).for_each(|i| writeln!(file, "{i} {text}").unwrap());
    drop(file);
    let args = prepare(&["long.txt", "--shard-tokens", "500000", "--threads", "1"]);
    let child =
        place.command(&args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    crate::program::wait_until("the first shard", || place.exists("prepared/train-000000.bin"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!(outcome.code, Some(143), "{outcome:#?}");
    assert!(outcome.stderr.contains("the same command resumes it"), "{outcome:#?}");
    assert!(!place.exists("prepared/manifest.json"));
    let outcome = place.succeeds(&args);
    assert!(outcome.stderr.contains("resuming the preparation in this folder"), "{outcome:#?}");
    place.succeeds(&[&args[..2], &["--out", "whole"], &args[4..]].concat());
    for file in std::fs::read_dir(place.path("whole")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(place.read(&format!("whole/{name}")) == place.read(&format!("prepared/{name}")), "{name}");
    }
}
