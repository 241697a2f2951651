//! `calame reproduce`, as far as it can be tested without the report's text, and runs that follow PyTorch.

use crate::program::{Place, metrics_without_times, train};

#[test]
fn another_text_is_refused() {
    let parts = ["story.txt is not the text of the report", "hint: leave --data out", "calame train --rng torch"];
    let text = "The lamp, and the lamp again. ".repeat(600);
    let place = Place::new();
    place.write("story.txt", text);
    place.fails(&["reproduce", "--data", "story.txt"], 1, &parts);
    place.fails(&["reproduce", "--epochs", "11"], 2, &["--epochs", "1..=10"]);
}

/// A training with PyTorch's random numbers: it uses f32 by default, gives the same figures each time, and differs from
/// one with calame's own numbers.
#[test]
fn a_run_that_follows_torch() {
    let following = ["--rng", "torch", "--set", "model.init=pytorch", "--set", "model.tied_head=false"];
    let with = |more: &[&str]| {
        let place = Place::new();
        let outcome = place.succeeds(&train(more));
        (outcome, metrics_without_times(&place.text("run/metrics.jsonl")), place.text("run/config.toml"))
    };
    let (outcome, metrics, config) = with(&following);
    assert!(outcome.stdout.contains("f32 on the cpu"), "{outcome:?}");
    assert!(config.contains("rng = \"torch\"") && config.contains("precision = \"f32\""), "{config}");
    assert_eq!(with(&following).1, metrics);
    assert_ne!(with(&following[2..]).1, metrics);
}
