//! A training that is killed at any moment and resumed.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::program::{Place, metrics_without_times, train, wait_until};

/// A checkpoint after every step, and more steps than twenty kills need.
const SETTINGS: [&str; 8] = [
    "--epochs",
    "40",
    "--set",
    "checkpoint.every_steps=1",
    "--set",
    "early_stopping.patience=1000",
    "--set",
    "train.eval_every=3",
];

fn start(place: &Place, args: &[&str]) -> Child {
    place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// The step of the newest complete checkpoint.
fn newest(place: &Place) -> u64 {
    let entries = fs::read_dir(place.path("run/checkpoints")).into_iter().flatten().flatten();
    let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    entries.filter_map(step).max().unwrap_or(0)
}

fn is_writing(place: &Place) -> bool {
    let entries = fs::read_dir(place.path("run/checkpoints")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".partial")))
}

#[test]
fn killed_at_twenty_moments_it_ends_with_the_bits_of_an_uninterrupted_run() {
    let place = Place::new();
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "whole"], &SETTINGS[..]].concat());
    let mut n_while_writing = 0;
    for kill in 0..20u64 {
        let resumes = newest(&place) > 0;
        let args =
            if resumes { vec!["train", "--resume", "run"] } else { train(&[&SETTINGS[..], &["--overwrite"]].concat()) };
        let mut child = start(&place, &args);
        let before = newest(&place);
        // At least one step later, and then either during a checkpoint or a fraction of a step later.
        wait_until("a checkpoint more", || newest(&place) > before || child.try_wait().unwrap().is_some());
        if kill % 2 == 0 {
            wait_until("a checkpoint under way", || is_writing(&place) || child.try_wait().unwrap().is_some());
        } else {
            std::thread::sleep(Duration::from_micros(kill * kill * 7919 % 5000));
        }
        n_while_writing += u64::from(is_writing(&place));
        assert_eq!(child.try_wait().unwrap(), None, "kill {kill}: it has ended; give it more steps");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(n_while_writing > 0, "no kill came while a checkpoint was being written");
    let outcome = place.succeeds(&["train", "--resume", "run"]);
    assert_eq!(outcome.stderr, "");
    for file in ["model/model.safetensors", "model/config.json", "model/tokenizer.json", "samples.txt", "config.toml"] {
        assert!(place.read(&format!("run/{file}")) == place.read(&format!("whole/{file}")), "{file} differs");
    }
    let metrics = |run: &str| metrics_without_times(&place.text(&format!("{run}/metrics.jsonl")));
    assert_eq!(metrics("run"), metrics("whole"));
    let kept = fs::read_dir(place.path("run/checkpoints")).unwrap().count();
    assert_eq!(kept, 1, "a finished run keeps its last state only");
}

/// If the disk has damaged the newest checkpoint, it is reported and the one before it used.
#[test]
fn a_flipped_byte_costs_the_steps_since_the_checkpoint_before() {
    let place = Place::new();
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "whole"], &SETTINGS[..]].concat());
    let mut child = start(&place, &train(&SETTINGS));
    wait_until("some checkpoints", || newest(&place) > 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let file = format!("run/checkpoints/step-{:06}/m.safetensors", newest(&place));
    let mut bytes = place.read(&file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.write(&file, bytes);
    let outcome = place.succeeds(&["train", "--resume", "run"]);
    let first = outcome.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("warning: ") && first.contains(&file), "{outcome:#?}");
    assert!(first.ends_with("; using the checkpoint before it"), "{outcome:#?}");
    assert!(place.read("run/model/model.safetensors") == place.read("whole/model/model.safetensors"));
}
