//! Limits of the process's memory, from where the program just starts to where it succeeds: every verb ends with its
//! result or with an error and a remedy, never with a signal or a panic.

use std::process::Command;

use crate::program::{Outcome, Place};

/// Limits in megabytes, beside what the program takes to start.
const STEPS: [u64; 12] = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256];

/// Runs the program with a limit of its address space (`-v`) or its data (`-d`).
fn limited(place: &Place, flag: &str, megabytes: u64, args: &[&str]) -> Outcome {
    let script = format!("ulimit {flag} {}; exec \"$0\" \"$@\"", megabytes * 1024);
    let program = place.command(args);
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program.get_program()).args(args).current_dir(place.path(""));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Outcome::of(command.output().expect("sh"))
}

/// The smallest limit with which the program starts at all.
fn least(place: &Place, flag: &str) -> u64 {
    (1..4096).step_by(2).find(|&limit| limited(place, flag, limit, &["--version"]).code == Some(0)).expect("a limit")
}

fn verbs() -> Vec<Vec<&'static str>> {
    vec![
        vec!["train", "--config", "tiny.toml", "--run", "new", "--epochs", "1", "--overwrite"],
        vec![
            "train",
            "--preset",
            "tiny",
            "--data",
            "story.txt",
            "--window",
            "16",
            "--epochs",
            "1",
            "--run",
            "large",
            "--overwrite",
        ],
        vec!["plan", "--config", "tiny.toml", "--run", "other"],
        vec!["runs", "."],
        vec!["compare", "run", "run"],
        vec!["plot", "run"],
        vec!["generate", "--model", "run", "--context", "The", "--tokens", "5"],
        vec!["eval", "--model", "run", "--data", "story.txt"],
        vec!["tokenize", "Hello"],
        vec!["tokenize", "--file", "story.txt", "--count"],
        vec!["tokenizer", "train", "story.txt", "--vocab-size", "300", "--out", "tokenizer.json", "--overwrite"],
        vec!["data", "prepare", "story.txt", "--out", "prepared"],
        vec!["data", "info", "run"],
        vec!["logits", "run", "--ids", "1,2,3", "--json"],
        vec!["inspect", "run"],
        vec!["export", "run", "--to", "gguf", "--force"],
        vec!["export", "run", "--to", "onnx", "--force"],
        vec!["bench", "train", "--preset", "tiny", "--batch-size", "1", "--window", "8", "--steps", "1"],
        vec!["reproduce", "--data", "story.txt"],
    ]
}

fn every_verb_ends_properly(flag: &str) {
    let place = Place::with_run();
    let least = least(&place, flag);
    for args in verbs() {
        let mut n_refused = 0;
        for step in STEPS {
            let outcome = limited(&place, flag, least + step, &args);
            if outcome.code == Some(0) {
                break;
            }
            assert!(matches!(outcome.code, Some(1 | 2)), "ulimit {flag}, {} MB, {args:?}: {outcome:#?}", least + step);
            outcome.is_error(outcome.code.unwrap(), &[]);
            n_refused += u32::from(outcome.stderr.contains("memory") || outcome.stderr.contains("threads"));
            let has_other_reason = ["data", "reproduce"].contains(&args[0]) && !outcome.stderr.contains("memory");
            assert!(has_other_reason || outcome.stderr.contains("\nhint: "), "{args:?}: {outcome:#?}");
        }
        assert!(n_refused > 0, "{args:?} was never short of memory: lower the first limit");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_limit_of_the_address_space() {
    every_verb_ends_properly("-v");
}

#[test]
#[cfg(target_os = "linux")]
fn a_limit_of_the_data() {
    every_verb_ends_properly("-d");
}

/// A model that does not fit is refused before its memory is touched, with what would fit.
#[test]
#[cfg(target_os = "linux")]
fn a_model_that_does_not_fit_is_refused_before_it_is_read() {
    let place = Place::with_run();
    // 256 channels over 200 MB of positions: only the header says so, and the file has a hole.
    let args: [&[&str]; 2] = [
        &["train", "--config", "tiny.toml", "--run", "big", "--set", "model.n_positions=4000000", "--epochs", "1"],
        &["train", "--preset", "gpt2-xl", "--data", "story.txt", "--window", "16", "--batch-size", "1", "--run", "big"],
    ];
    for args in args {
        let outcome = limited(&place, "-v", 400, args);
        outcome.is_error(1, &["of memory", "hint: "]);
        assert!(!place.exists("big"));
    }
}
