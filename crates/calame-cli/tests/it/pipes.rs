//! Readers that close the pipe early: `calame … | head -1`.

use std::process::Stdio;

use crate::program::{Outcome, Place, train};

/// A pipe without a reader.
fn unread() -> std::io::PipeWriter {
    std::io::pipe().expect("a pipe").1
}

/// Runs a command twice: with nobody reading its output, and with nobody reading its errors either.
fn run_unread(place: &Place, args: &[&str]) -> [Outcome; 2] {
    let first = place.command(args).stdout(unread()).output().unwrap();
    let second = place.command(args).stdout(unread()).stderr(unread()).output().unwrap();
    [first, second].map(Outcome::of)
}

#[test]
fn a_closed_pipe_is_success() {
    let place = Place::with_run();
    let long = "lamp ".repeat(100_000);
    place.write("long.txt", &long);
    let commands = [
        &["tokenize", "--file", "long.txt"][..],
        &["tokenize", "Hello", "--json"],
        &["generate", "--model", "run", "--tokens", "400"],
        &["eval", "--model", "run", "--data", "story.txt"],
        &["plot", "run"],
        &["--help"],
    ];
    for args in commands {
        for outcome in run_unread(&place, args) {
            assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
            assert!(!outcome.stderr.contains("error") && !outcome.stderr.contains("panicked"), "{outcome:?}");
        }
    }
}

/// The exit code does not depend on whether the error is read.
#[test]
fn an_unread_error_is_an_error() {
    let place = Place::new();
    for outcome in run_unread(&place, &["generate", "--model", "nowhere"]) {
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    }
    // Only standard error is unread: a remark there must not end the command.
    let place = Place::with_run();
    let args = ["generate", "--model", "run", "--tokens", "3"];
    let outcome = Outcome::of(place.command(&args).stderr(unread()).output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout, place.succeeds(&args).stdout);
}

#[test]
fn a_training_without_a_reader_continues() {
    let place = Place::with_run();
    for (run, json) in [("plain", false), ("json", true)] {
        let args = ["train", "--config", "tiny.toml", "--run", run, "--json"];
        let mut command = place.command(&args[..if json { 6 } else { 5 }]);
        let outcome = Outcome::of(command.stdout(unread()).stderr(unread()).stdin(Stdio::null()).output().unwrap());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        for file in ["model/model.safetensors", "samples.txt"] {
            assert_eq!(place.read(&format!("{run}/{file}")), place.read(&format!("run/{file}")), "{run}/{file}");
        }
        assert!(place.exists(&format!("{run}/loss-plot.pdf")));
    }
    place.fails(&train(&[]), 1, &["run exists already"]);
}
