//! `--init-from`: a training that goes on with a saved model, and the same training on any number of threads.

use serde_json::Value;

use crate::program::{Place, train};

const WEIGHTS: &str = "model/model.safetensors";

/// `calame train --init-from run` into `new`.
fn go_on<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let start =
        ["train", "--init-from", "run", "--run", "new", "--data", "story.txt", "--window", "8", "--stride", "8"];
    [&start[..], &["--threads", "1", "--epochs", "1"], more].concat()
}

#[test]
fn weights_and_tokenizer_are_taken_over() {
    let place = Place::with_run();
    // A rate so small that no weight moves: what is saved is what was loaded.
    let outcome = place.succeeds(&go_on(&["--lr", "1e-30"]));
    assert!(outcome.stdout.contains(", from run,"), "{outcome:?}");
    assert!(place.read(&format!("new/{WEIGHTS}")) == place.read(&format!("run/{WEIGHTS}")));
    assert_eq!(place.text("new/model/tokenizer.json"), place.text("run/model/tokenizer.json"));
    let configs = ["run", "new"]
        .map(|run| serde_json::from_str::<Value>(&place.text(&format!("{run}/model/config.json"))).unwrap());
    assert_eq!(configs[0], configs[1]);
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    assert_eq!(config["init_from"].as_str(), Some("run"));
    assert_eq!(config["tokenizer"]["kind"].as_str(), Some("simple-v2"));
    // With a rate that is one, they move; the model that was begun with stays.
    let before = place.read(&format!("run/{WEIGHTS}"));
    place.succeeds(&go_on(&["--overwrite", "--lr", "0.01"]));
    assert!(place.read(&format!("new/{WEIGHTS}")) != before);
    assert!(place.read(&format!("run/{WEIGHTS}")) == before);
}

#[test]
fn another_text_keeps_the_vocabulary() {
    let place = Place::with_run();
    place.write("other.txt", "The zebra in the harbour said: nothing is late, nothing is early. ".repeat(12));
    let mut args = go_on(&[]);
    args[6] = "other.txt";
    place.succeeds(&args);
    assert_eq!(place.text("new/model/tokenizer.json"), place.text("run/model/tokenizer.json"));
    // The model's folder does as well as its run's.
    args[2] = "run/model";
    args[4] = "again";
    place.succeeds(&args);
    assert!(place.read(&format!("again/{WEIGHTS}")) == place.read(&format!("new/{WEIGHTS}")));
}

#[test]
fn the_shape_cannot_be_set() {
    let place = Place::with_run();
    for (key, value) in [
        ("vocab_size", "500"),
        ("n_positions", "32"),
        ("n_embd", "32"),
        ("n_head", "4"),
        ("n_layer", "2"),
        ("qkv_bias", "false"),
        ("tied_head", "false"),
        ("init", "pytorch"),
    ] {
        let set = format!("model.{key}={value}");
        let parts = [format!("model.{key} is "), "in the model given by --init-from: it cannot be set".to_owned()];
        place.fails(&go_on(&["--set", &set]), 2, &[&parts[0], &parts[1]]);
    }
    let parts = ["tokenizer.kind is that of the model given by --init-from"];
    place.fails(&go_on(&["--set", "tokenizer.kind=gpt2"]), 2, &parts);
    place.succeeds(&go_on(&["--set", "model.dropout=0.3"]));
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    assert_eq!(config["model"]["dropout"].as_float().map(|x| x as f32), Some(0.3));
}

#[test]
fn a_window_beyond_the_models_context() {
    let place = Place::with_run();
    let args = ["train", "--init-from", "run", "--run", "new", "--data", "story.txt"];
    place.fails(&args, 2, &["data.window is 256", "is 16", "use --window 16 or less"]);
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let place = Place::new();
    let runs = [("a", "1"), ("b", "2"), ("c", "3")];
    for (run, threads) in runs {
        place.succeeds(&["train", "--config", "tiny.toml", "--run", run, "--threads", threads]);
    }
    for (run, _) in &runs[1..] {
        assert!(place.read(&format!("a/{WEIGHTS}")) == place.read(&format!("{run}/{WEIGHTS}")), "{run}");
        assert_eq!(place.text("a/samples.txt"), place.text(&format!("{run}/samples.txt")));
    }
    let sample = |threads| {
        let args = ["generate", "--model", "a", "--temperature", "1", "--tokens", "20", "--threads", threads];
        place.succeeds(&args).stdout
    };
    assert_eq!(sample("1"), sample("2"));
    assert_eq!(sample("1"), sample("3"));
    // Another seed is another training.
    place.succeeds(&train(&["--seed", "7"]));
    assert!(place.read(&format!("run/{WEIGHTS}")) != place.read(&format!("a/{WEIGHTS}")));
}
