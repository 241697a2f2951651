//! Every verb that reads text reads it in the same way: the same documents and tokens, the same refusals, the same
//! reports, in time that is proportional to the text.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Place, train};

const STORY: &str = include_str!("story.txt");

/// A place with a model of GPT-2's vocabulary in `run`, and its settings in `gpt2.toml`.
fn place() -> Place {
    let place = Place::new();
    let settings = place.text("tiny.toml").replace("kind = \"simple-v2\"", "kind = \"gpt2\"");
    place.write("gpt2.toml", settings.replace("epochs = 2", "epochs = 1"));
    place
}

/// The verbs that read documents, each with the arguments that read `input`. The model is in `run`.
fn readers(input: &str) -> Vec<(&'static str, Vec<&str>)> {
    vec![
        ("train", vec!["train", "--config", "gpt2.toml", "--run", "new", "--data", input]),
        ("plan", vec!["plan", "--config", "gpt2.toml", "--json", "--data", input]),
        ("eval", vec!["eval", "--model", "run", "--json", "--data", input]),
        ("data prepare", vec!["data", "prepare", "--json", "--out", "prepared", "--val-fraction", "0", input]),
        ("tokenizer train", vec!["tokenizer", "train", "--json", "--vocab-size", "300", "--out", "new.json", input]),
        ("tokenize", vec!["tokenize", "--json", "--count", "--special-tokens", "ids", "--file", input]),
    ]
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e} in {text}"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The story in parts, as lines of JSON.
fn lines_of_json(other: &str) -> String {
    let parts: Vec<&str> = STORY.split_inclusive(". ").collect();
    parts.chunks(2).map(|part| format!("{{\"text\": {}{other}}}\n", Value::from(part.concat()))).collect()
}

/// One file's tokens: the ids in the shard of `data prepare`, without the end of text after the last document.
fn prepared_ids(place: &Place, input: &str) -> Vec<u64> {
    let args = ["--format", "nanogpt", "--val-fraction", "0", "--out", "prepared"];
    place.succeeds(&[&["data", "prepare", input][..], &args].concat());
    let bytes = place.read("prepared/train.bin");
    std::fs::remove_dir_all(place.path("prepared")).unwrap();
    let mut ids: Vec<u64> = bytes.chunks(2).map(|id| u64::from(u16::from_le_bytes([id[0], id[1]]))).collect();
    assert_eq!(ids.pop(), Some(50256), "{input}");
    ids
}

/// The class of "the same text yields the same tokens in every verb", for every kind of file.
#[test]
fn every_verb_gives_the_same_tokens() {
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    let lines = lines_of_json("");
    let separated = STORY.replace(". ", ". <|endoftext|>");
    let n_separators = separated.matches("<|endoftext|>").count() as u64;
    let files: [(&str, Vec<u8>); 9] = [
        ("story.txt", STORY.into()),
        ("bom.txt", format!("\u{feff}{STORY}").into()),
        ("separated.txt", separated.into()),
        ("crlf.md", STORY.replace('\n', "\r\n").into()),
        ("lines.jsonl", lines.clone().into()),
        ("lines.txt", lines.clone().into()),
        ("odd.jsonl", format!("\u{feff}{}", lines_of_json(", \"score\": NaN, \"x\": [-Infinity]")).into()),
        ("lines.json.gz", gzip(lines.as_bytes())),
        ("padded.jsonl.gz", [gzip(lines.as_bytes()), vec![0; 512]].concat()),
    ];
    for (name, bytes) in files {
        place.write(name, bytes);
        let expected = prepared_ids(&place, name);
        let tokenized =
            json(&place.succeeds(&["tokenize", "--json", "--special-tokens", "ids", "--file", name]).stdout);
        let ids: Vec<u64> = tokenized["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{name}");
        let evaluated = json(&place.succeeds(&["eval", "--model", "run", "--json", "--data", name]).stdout);
        assert_eq!(evaluated["n_tokens"], expected.len() as u64 - 1, "{name}");
        let run = place.succeeds(&["train", "--config", "gpt2.toml", "--run", "new", "--data", name]);
        let line = run.stdout.lines().find(|line| line.starts_with("text ")).unwrap();
        let numbers: Vec<u64> = line.split([' ', ':']).filter_map(|word| word.replace(',', "").parse().ok()).collect();
        // Characters, tokens to train on, tokens to validate. The cut of a text may divide one token in three (counte|d);
        // of several texts, groups are cut, and each part of a group begins after an end of text.
        let n_tokens = numbers[1] + numbers[2];
        let n_cuts = if name.contains("json") || name == "lines.txt" { 2 * lines.lines().count() as u64 } else { 2 };
        assert!((expected.len() as u64..=expected.len() as u64 + n_cuts).contains(&n_tokens), "{name}: {line}");
        std::fs::remove_dir_all(place.path("new")).unwrap();
        let n_ends = expected.iter().filter(|id| **id == 50256).count() as u64;
        match name {
            "separated.txt" => {
                assert_eq!(n_ends, n_separators);
                assert!(run.stderr.contains(&format!("{n_separators} <|endoftext|> in the text separate")), "{run:#?}");
            }
            "crlf.md" => assert!(run.stderr.contains("line ends of Windows (CRLF)"), "{run:#?}"),
            _ if name.contains("json") || name == "lines.txt" => {
                assert_eq!(n_ends, lines.lines().count() as u64 - 1, "{name}");
                assert_eq!(expected, prepared_ids(&place, "lines.jsonl"), "{name}");
            }
            _ => assert_eq!(expected, prepared_ids(&place, "story.txt"), "{name}"),
        }
    }
}

/// One switch in every verb; a manifest and a configuration record it.
#[test]
fn separators_can_be_text() {
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    place.write("a.txt", STORY.replace(". ", ". <|endoftext|>"));
    let as_text = json(&place.succeeds(&["tokenize", "--json", "--special-tokens", "text", "--file", "a.txt"]).stdout);
    let n_tokens = as_text["ids"].as_array().unwrap().len() as u64;
    for (verb, args) in readers("a.txt").into_iter().filter(|(verb, _)| *verb != "tokenize") {
        let outcome = place.succeeds(&[&args[..], &["--special-tokens", "text"]].concat());
        assert!(outcome.stderr.contains("<|endoftext|> in the text are ordinary text"), "{verb}: {outcome:#?}");
        match verb {
            "eval" => assert_eq!(json(&outcome.stdout)["n_tokens"], n_tokens - 1),
            // And one mark.
            "data prepare" => assert_eq!(json(&outcome.stdout)["n_train_tokens"], n_tokens + 1),
            _ => {}
        }
    }
    assert!(place.text("new/config.toml").contains("special_tokens = \"text\""));
    assert_eq!(json(&place.text("prepared/manifest.json").replace('\n', " "))["options"]["special_tokens"], "text");
    // The setting of the same name.
    let args = ["--set", "data.special_tokens=text", "--set", "tokenizer.kind=gpt2", "--data", "a.txt"];
    let outcome = place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "other"][..], &args].concat());
    assert!(outcome.stderr.contains("are ordinary text"), "{outcome:#?}");
}

/// Structured data, other encodings and binary data named themselves are errors with a remedy, in every verb.
#[test]
fn every_verb_refuses_what_is_not_text() {
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    let utf16: Vec<u8> = STORY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let all: Vec<u8> = (0..=255).collect();
    let array = format!("[{}]", lines_of_json("").trim_end().replace('\n', ","));
    for (name, bytes, part) in [
        ("array.json", array.as_bytes(), "jq -c"),
        ("array.txt", array.as_bytes(), "jq -c"),
        ("page.html", b"<!DOCTYPE html><p>One.", "pandoc"),
        ("page.txt", b"<html><p>One.", "pandoc"),
        ("table.csv", b"name,age\nAnn,4\n", "--ojsonl"),
        ("utf16.txt", &utf16, "iconv -f UTF-16LE"),
        ("program.txt", &all.repeat(40), "binary data"),
        ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "plain text"),
    ] {
        place.write(name, bytes);
        for (verb, args) in readers(name) {
            let outcome = place.fails(&args, 1, &[name, part]);
            let is_event = |line: &str| line.starts_with(r#"{"event":"error","#);
            assert!(outcome.stdout.lines().all(is_event), "{verb}: {outcome:#?}");
        }
    }
    // The user may insist.
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "new", "--data", "array.json", "--read-as", "text"]);
}

/// A folder's unusable files are skipped with one line, in every verb alike.
#[test]
fn every_verb_skips_the_same_files_of_a_folder() {
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    let all: Vec<u8> = (0..=255).collect();
    place.write("notes/good.md", STORY);
    place.write("notes/été 2024/plage.txt", STORY);
    place.write("notes/empty.md", b"");
    place.write("notes/program.txt", all.repeat(40));
    for input in ["notes", "notes/**/*"] {
        for (verb, args) in readers(input).into_iter().filter(|(verb, _)| *verb != "tokenize") {
            let outcome = place.succeeds(&args);
            let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("not read")).collect();
            let [line] = lines[..] else { panic!("{verb}: {outcome:#?}") };
            for part in ["2 files were not read", "1 empty (notes/empty.md)", "1 not text (notes/program.txt)"] {
                assert!(line.contains(part), "{verb}: {line}");
            }
            if verb == "data prepare" {
                assert_eq!(json(&outcome.stdout)["n_documents"], 2);
            }
        }
        for result in ["new", "prepared"] {
            std::fs::remove_dir_all(place.path(result)).unwrap();
        }
        std::fs::remove_file(place.path("new.json")).unwrap();
    }
}

#[test]
fn many_bad_lines_are_a_warning_in_every_verb() {
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    place.write("a.jsonl", lines_of_json("") + "{\"body\": 1}\n");
    for (verb, args) in readers("a.jsonl") {
        let outcome = place.succeeds(&args);
        assert!(outcome.stderr.contains("WARNING: 1 of "), "{verb}: {outcome:#?}");
        assert!(outcome.stderr.contains("a.jsonl, line ") && outcome.stderr.contains("no field \"text\""), "{verb}");
    }
    // None is a document, until the flag selects the field.
    for folder in ["new", "prepared"] {
        std::fs::remove_dir_all(place.path(folder)).unwrap();
    }
    std::fs::remove_file(place.path("new.json")).unwrap();
    place.write("b.jsonl", lines_of_json("").replace("\"text\"", "\"body\""));
    for (verb, args) in readers("b.jsonl") {
        let outcome = place.run(&args);
        outcome.is_error(1, &["is a document", "no field \"text\"", "--field"]);
        let out: Vec<&str> =
            args.iter().map(|arg| if ["new", "prepared", "new.json"].contains(arg) { "b.out" } else { arg }).collect();
        let outcome = place.succeeds(&[&out[..], &["--field", "body"]].concat());
        assert!(!outcome.stderr.contains("WARNING"), "{verb}: {outcome:#?}");
        let _ = std::fs::remove_dir_all(place.path("b.out"));
        let _ = std::fs::remove_file(place.path("b.out"));
    }
}

/// What texts repeat: a byte of each class, characters of other scripts, and a few together.
const UNITS: [&str; 20] = [
    " ",
    "\n",
    "a",
    "^",
    "\t",
    "\r\n",
    "7",
    "é",
    "語",
    "\u{a0}",
    "\u{1f58b}",
    "'",
    "'s",
    "a ",
    " a",
    "ab",
    "--",
    "<|",
    "a\n",
    "<|endoftext|>a",
];

/// Texts that repeat one byte, one class, or a few: the time of every verb is proportional to their length. Longer than
/// one piece of 1 MiB, so that they are cut.
#[test]
fn repeated_patterns_take_seconds() {
    repeated_patterns(&UNITS[..4], 1_200_000);
}

/// Takes minutes without optimisation: `cargo test --release -p calame-cli --test it every_pattern -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn every_pattern_takes_seconds() {
    repeated_patterns(&UNITS, 2_000_000);
}

#[track_caller]
fn repeated_patterns(units: &[&str], n_bytes: usize) {
    // The tests' own profile is several times slower than a release.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 5 });
    let place = place();
    // Without a sample, which is no part of a first step.
    let settings = "preset = \"tiny\"\n[train]\nmax_steps = 1\neval_batches = 1\n[sample]\nmax_tokens = 0\n";
    place.write("first-step.toml", settings);
    for unit in units {
        place.write("a.txt", format!("x{}y", unit.repeat(n_bytes / unit.len())));
        let commands: [&[&str]; 3] = [
            &["data", "prepare", "a.txt", "--val-fraction", "0", "--out", "prepared"],
            &["tokenizer", "train", "a.txt", "--vocab-size", "300", "--out", "folder"],
            &["train", "--config", "first-step.toml", "--data", "a.txt", "--run", "new"],
        ];
        for args in commands {
            let started = Instant::now();
            place.succeeds(args);
            assert!(started.elapsed() < limit, "{unit:?}: {args:?} took {:?}", started.elapsed());
            std::fs::remove_dir_all(place.path(args[args.len() - 1])).unwrap();
        }
    }
}

/// A signal ends every verb within a second, while it reads gigabytes.
#[cfg(unix)]
#[test]
fn every_verb_answers_a_signal_while_it_reads() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = place();
    place.succeeds(&["train", "--config", "gpt2.toml", "--run", "run"]);
    let member = gzip(STORY.repeat(1000).as_bytes());
    place.write("long.txt.gz", member.repeat(3000));
    let blank = gzip(" ".repeat(1 << 20).as_bytes());
    place.write("blank.txt.gz", [gzip(b"x"), blank.repeat(3000)].concat());
    for input in ["long.txt.gz", "blank.txt.gz"] {
        for (verb, args) in readers(input) {
            let mut child = place
                .command(&args)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(400));
            assert!(child.try_wait().unwrap().is_none(), "{verb} on {input} has ended before the signal");
            let sent = Instant::now();
            // Not SIGINT: a shell script starts commands in the background with it ignored, and this child inherits that.
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            let status = child.wait().unwrap();
            // One second, and what a busy machine adds.
            assert!(sent.elapsed() < Duration::from_secs(2), "{verb} on {input}: {:?}", sent.elapsed());
            assert!(!status.success(), "{verb}: {status:?}");
        }
    }
}

#[test]
fn a_training_ends_after_max_steps() {
    let place = Place::new();
    let limited = ["--set", "train.max_steps=7"];
    let plan = json(&place.succeeds(&[&["plan", "--config", "tiny.toml", "--json"], &limited[..]].concat()).stdout);
    assert_eq!((&plan["n_steps"], &plan["n_evaluations"]), (&7.into(), &3.into()));
    let outcome = place.succeeds(&train(&limited));
    assert!(outcome.stdout.contains("7 total (train.max_steps)"), "{outcome:#?}");
    assert!(place.exists("run/model/model.safetensors"));
    let metrics = place.text("run/metrics.jsonl");
    let of = |kind: &str| metrics.lines().filter(|line| line.contains(&format!("\"{kind}\""))).count();
    // Steps 0 to 6; evaluations after 0, 5 and the last.
    assert_eq!((of("step_seconds"), of("val_loss")), (7, 3), "{metrics}");
    // It is finished, until the limit is removed.
    let resumed = place.run(&["train", "--resume", "run"]);
    resumed.is_error(1, &["completed 7 steps, and train.max_steps is 7", "--set train.max_steps=off"]);
    // The steps are those of a training without a limit.
    place.succeeds(&["train", "--config", "tiny.toml", "--run", "whole"]);
    let losses = |run: &str| -> Vec<String> {
        let lines = place.text(&format!("{run}/metrics.jsonl"));
        let loss = |line: &str| json(line)["loss"].as_f64().map(|loss| loss.to_string());
        lines.lines().filter_map(loss).collect()
    };
    assert_eq!(losses("run")[..], losses("whole")[..7]);
    place.fails(
        &["train", "--config", "tiny.toml", "--run", "new", "--set", "train.max_steps=0"],
        2,
        &["train.max_steps is 0", "at least 1"],
    );
    place.fails(&train(&["--set", "train.max_steps=none"]), 2, &["train.max_steps", "or \"off\""]);
}

/// A prompt with a word that the text lacks is refused before the training, with what to change.
#[test]
fn the_sample_prompt_is_covered_by_the_vocabulary() {
    let place = Place::new();
    let words = |kind| ["--set", kind, "--set", "sample.prompt=The zebra"];
    place.fails(&train(&words("tokenizer.kind=simple-v1")), 1, &["The zebra", "\"zebra\" is not in", "sample.prompt"]);
    let outcome = place.succeeds(&train(&words("tokenizer.kind=simple-v2")));
    assert!(outcome.stderr.contains("words outside the vocabulary"), "{outcome:#?}");
}
