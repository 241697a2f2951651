//! FIFOs, sockets, devices and endless files in place of every path: refused or bounded, never waited for.

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Outcome, Place};

/// What is at a path instead of a file. Opening the FIFO blocks, and reading the devices never ends.
const SPECIAL: [&str; 5] = ["fifo", "socket", "/dev/zero", "/dev/urandom", "zero-link"];

fn place() -> (Place, UnixListener) {
    let place = Place::with_run();
    let fifo = Command::new("mkfifo").arg(place.path("fifo")).status().expect("mkfifo");
    assert!(fifo.success());
    let socket = UnixListener::bind(place.path("socket")).expect("a socket");
    std::os::unix::fs::symlink("/dev/zero", place.path("zero-link")).expect("a link");
    (place, socket)
}

/// Runs a command that must fail within seconds.
#[track_caller]
fn is_refused(place: &Place, args: &[&str]) -> Outcome {
    let start = Instant::now();
    let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    while child.try_wait().expect("its status").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("killed");
            panic!("{args:?} waits or reads without end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = Outcome::of(child.wait_with_output().expect("its output"));
    assert!(outcome.code.is_some_and(|code| code == 1 || code == 2), "{args:?}: {outcome:#?}");
    outcome.is_error(outcome.code.unwrap(), &[]);
    outcome
}

#[test]
fn every_path_that_is_read() {
    let (place, _socket) = place();
    for special in SPECIAL {
        let kind = format!("tokenizer.kind={special}");
        let commands: [&[&str]; 22] = [
            &["train", "--config", special, "--run", "new"],
            &["train", "--preset", "tiny", "--data", special, "--run", "new"],
            &["train", "--preset", "tiny", "--data", "story.txt", special, "--run", "new"],
            &["train", "--config", "tiny.toml", "--set", &kind, "--run", "new"],
            &["train", "--init-from", special, "--data", "story.txt", "--run", "new"],
            &["train", "--resume", special],
            &["plan", "--config", special],
            &["plan", "--preset", "tiny", "--data", special],
            &["runs", special],
            &["compare", "run", special],
            &["plot", special],
            &["generate", "--model", special],
            &["eval", "--model", special, "--data", "story.txt"],
            &["eval", "--model", "run", "--data", special],
            &["tokenize", "--file", special],
            &["tokenize", "--tokenizer", special, "text"],
            &["tokenizer", "train", special, "--vocab-size", "300", "--out", "new.json"],
            &["data", "prepare", special, "--out", "new"],
            &["data", "prepare", "story.txt", "--tokenizer", special, "--out", "new"],
            &["data", "info", special],
            &["logits", special, "--ids", "1", "--json"],
            &["inspect", special],
        ];
        for args in commands {
            is_refused(&place, args);
            assert!(!place.exists("new") && !place.exists("new.json"), "{args:?}");
        }
        is_refused(&place, &["export", special, "--to", "gguf", "--out", "new.gguf"]);
        is_refused(&place, &["reproduce", "--data", special]);
    }
}

/// The superuser could replace the device itself.
#[test]
fn every_path_that_is_written() {
    use std::os::unix::fs::FileTypeExt;
    let (place, _socket) = place();
    for special in ["fifo", "socket", "/dev/null", "/dev/full", "zero-link"] {
        let commands: [&[&str]; 7] = [
            &["train", "--config", "tiny.toml", "--run", special, "--overwrite"],
            &["compare", "run", "run", "--out", special],
            &["tokenizer", "train", "story.txt", "--vocab-size", "300", "--out", special, "--overwrite"],
            &["data", "prepare", "story.txt", "--out", special],
            &["logits", "run", "--ids", "1", "--out", special],
            &["export", "run", "--to", "gguf", "--out", special, "--force"],
            &["export", "run", "--to", "safetensors", "--out", special, "--force"],
        ];
        for args in commands {
            is_refused(&place, args);
            let kind = std::fs::symlink_metadata(place.path(special)).expect("it is still there").file_type();
            assert!(!kind.is_file() && !kind.is_dir(), "{args:?} has replaced it");
        }
        let kind = std::fs::metadata("/dev/null").unwrap().file_type();
        assert!(kind.is_char_device());
    }
}

/// Files inside a run, a model or a prepared folder.
#[test]
fn every_file_of_a_folder_that_is_read() {
    let (place, _socket) = place();
    place.succeeds(&["data", "prepare", "story.txt", "--out", "prepared"]);
    place.succeeds(&["export", "run", "--to", "safetensors", "--out", "model"]);
    let model: [&[&str]; 3] = [
        &["inspect", "model"],
        &["generate", "--model", "model", "--context", "The"],
        &["logits", "model", "--ids", "1", "--json"],
    ];
    let prepared: [&[&str]; 2] = [
        &["data", "info", "prepared", "--check"],
        &["train", "--preset", "tiny", "--data", "prepared", "--run", "new"],
    ];
    let run: [&[&str]; 3] = [&["plot", "run"], &["compare", "run", "run"], &["train", "--resume", "run"]];
    let shard = std::fs::read_dir(place.path("prepared")).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("train").then(|| format!("prepared/{name}"))
    });
    let shard = shard.expect("a shard");
    let cases: [(&str, &[&[&str]]); 7] = [
        ("model/config.json", &model),
        ("model/model.safetensors", &model),
        ("prepared/manifest.json", &prepared),
        ("prepared/tokenizer.json", &prepared[1..]),
        (&shard, &prepared),
        ("run/config.toml", &run),
        ("run/metrics.jsonl", &run[..2]),
    ];
    for (file, commands) in cases {
        let (path, aside) = (place.path(file), place.path("aside"));
        std::fs::rename(&path, &aside).unwrap();
        for target in [place.path("fifo"), "/dev/zero".into()] {
            std::os::unix::fs::symlink(&target, &path).unwrap();
            for args in commands {
                is_refused(&place, args);
            }
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::rename(&aside, &path).unwrap();
    }
}

/// Standard input may be endless.
#[test]
fn an_endless_standard_input_is_bounded() {
    let place = Place::new();
    let script = "ulimit -v 400000; exec \"$0\" tokenize --count < /dev/zero";
    let program = place.command(&[""; 0]).get_program().to_owned();
    let output = Command::new("sh").arg("-c").arg(script).arg(program).output().unwrap();
    Outcome::of(output).is_error(1, &["standard input has more than", "hint: "]);
}
