//! The complete output of commands, compared with the files in `snapshots/`.
//!
//! To accept an intended change: `INSTA_UPDATE=always cargo test -p calame-cli`, then read the difference.

use insta::{assert_snapshot, with_settings};

use crate::program::{Outcome, Place, train};

/// The exit code and both streams.
fn shown(outcome: &Outcome) -> String {
    format!("code {:?}\n--- stdout\n{}--- stderr\n{}", outcome.code, outcome.stdout, outcome.stderr)
}

fn check(name: &str, outcome: &Outcome) {
    let filters = vec![
        (r"done in [^\n]+", "done in TIME"),
        (r"[\d.]+ tokens/s", "SPEED tokens/s"),
        (r"plan   [\d.]+ [kMG]B[^\n]+", "plan   PLAN"),
        (r"about [^\n]+ left", "about TIME left"),
        (r"calame \d+\.\d+\.\d+", "calame VERSION"),
        (r"commit        \w+", "commit        COMMIT"),
        (r"target        \S+", "target        TARGET"),
        (r"instructions  [^\n]+", "instructions  INSTRUCTIONS"),
    ];
    with_settings!({ filters => filters, omit_expression => true, prepend_module_to_snapshot => false }, {
        assert_snapshot!(name, shown(outcome));
    });
}

#[test]
fn help() {
    let place = Place::new();
    check("help", &place.run(&["--help"]));
    for verb in [
        "train",
        "plan",
        "runs",
        "compare",
        "generate",
        "eval",
        "tokenize",
        "tokenizer",
        "data",
        "inspect",
        "export",
        "plot",
        "reproduce",
        "bench",
        "logits",
        "config",
        "completions",
        "man",
    ] {
        check(&format!("help_{verb}"), &place.run(&[verb, "--help"]));
    }
    check("help_data_prepare", &place.run(&["data", "prepare", "--help"]));
    check("help_tokenizer_train", &place.run(&["tokenizer", "train", "--help"]));
    check("help_train_short", &place.run(&["train", "-h"]));
    check("help_bench_train", &place.run(&["bench", "train", "--help"]));
    check("version", &place.run(&["--version"]));
    check("version_short", &place.run(&["-V"]));
    check("nothing", &place.run::<&str>(&[]));
}

#[test]
fn a_training() {
    check("train", &Place::new().run(&train(&[])));
}

#[test]
fn a_sample() {
    let place = Place::with_run();
    let sample = ["generate", "--context", "The boy", "--temperature", "0.9", "--top-k", "20", "--tokens", "24"];
    let seed = |seed| {
        let mut args = sample.to_vec();
        args.extend(["--model", "run", "--threads", "1", "--seed", seed]);
        place.succeeds(&args)
    };
    let first = seed("7");
    check("generate", &first);
    assert_eq!(first.stdout, seed("7").stdout);
    assert_ne!(first.stdout, seed("8").stdout);
}

#[test]
fn an_inspected_model() {
    check("inspect", &Place::with_run().run(&["inspect", "run"]));
}

#[test]
fn an_evaluation() {
    let place = Place::with_run();
    check("eval", &place.run(&["eval", "--model", "run", "--data", "story.txt", "--stride", "4"]));
}

/// Without --run a training makes a folder named by date and preset; without --model the newest of them is used.
#[test]
fn the_newest_run_is_found() {
    let place = Place::new();
    let first = place.succeeds(&["train", "--config", "tiny.toml"]);
    let second = place.succeeds(&["train", "--config", "tiny.toml"]);
    let run = |outcome: &Outcome| {
        let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("run    "));
        line.expect("the run's folder").to_owned()
    };
    let (first, second) = (run(&first), run(&second));
    assert!(first.starts_with("runs/") && first.ends_with("-tiny"), "{first}");
    assert_eq!(second, format!("{first}-2"));
    let outcome = place.succeeds(&["generate", "--tokens", "2"]);
    assert!(outcome.stderr.contains(&format!("model: {second}\n")), "{outcome:?}");
    let outcome = place.succeeds(&["eval", "--data", "story.txt"]);
    assert!(outcome.stderr.contains(&format!("model: {second}\n")), "{outcome:?}");
}
