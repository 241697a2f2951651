//! `--init-from`: a training that starts from a saved model; and the same training on any number of threads.

use serde_json::Value;

use crate::program::{Place, train};

const WEIGHTS: &str = "model/model.safetensors";

/// `calame train --init-from run` into `new`.
fn train_from<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let start =
        ["train", "--init-from", "run", "--run", "new", "--data", "story.txt", "--window", "8", "--stride", "8"];
    [&start[..], &["--threads", "1", "--epochs", "1"], more].concat()
}

#[test]
fn weights_and_tokenizer_are_those_of_the_model() {
    let place = Place::with_run();
    // The rate is so small that no weight changes: the saved weights are those that were loaded.
    let outcome = place.succeeds(&train_from(&["--lr", "1e-30"]));
    assert!(outcome.stdout.contains(", from run,"), "{outcome:?}");
    assert!(place.read(&format!("new/{WEIGHTS}")) == place.read(&format!("run/{WEIGHTS}")));
    assert_eq!(place.text("new/model/tokenizer.json"), place.text("run/model/tokenizer.json"));
    let configs = ["run", "new"]
        .map(|run| serde_json::from_str::<Value>(&place.text(&format!("{run}/model/config.json"))).unwrap());
    assert_eq!(configs[0], configs[1]);
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    let from = std::path::Path::new(config["init_from"].as_str().unwrap());
    assert!(from.is_absolute() && from.ends_with("run"), "{from:?}");
    assert_eq!(config["tokenizer"]["kind"].as_str(), Some("simple-v2"));
    // With a usual rate they change, and the model that was loaded does not.
    let before = place.read(&format!("run/{WEIGHTS}"));
    place.succeeds(&train_from(&["--overwrite", "--lr", "0.01"]));
    assert!(place.read(&format!("new/{WEIGHTS}")) != before);
    assert!(place.read(&format!("run/{WEIGHTS}")) == before);
}

#[test]
fn another_text_keeps_the_vocabulary() {
    let place = Place::with_run();
    place.write("other.txt", "The zebra in the harbour said: nothing is late, nothing is early. ".repeat(12));
    let mut args = train_from(&[]);
    args[6] = "other.txt";
    place.succeeds(&args);
    assert_eq!(place.text("new/model/tokenizer.json"), place.text("run/model/tokenizer.json"));
    // The model's folder can be given instead of its run's.
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
        ("bias", "false"),
        ("n_inner", "100"),
        ("activation", "relu"),
        ("layer_norm_epsilon", "1e-6"),
        ("scale_attn_weights", "false"),
        ("scale_attn_by_inverse_layer_idx", "true"),
    ] {
        let set = format!("model.{key}={value}");
        let parts = [format!("model.{key} is "), "in the model given by --init-from: it cannot be set".to_owned()];
        place.fails(&train_from(&["--set", &set]), 2, &[&parts[0], &parts[1]]);
    }
    let parts = ["tokenizer.kind is that of the model given by --init-from"];
    place.fails(&train_from(&["--set", "tokenizer.kind=gpt2"]), 2, &parts);
    place.succeeds(&train_from(&["--set", "model.dropout=0.3"]));
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    assert_eq!(config["model"]["dropout"].as_float().map(|x| x as f32), Some(0.3));
}

#[test]
fn a_window_beyond_the_models_context() {
    let place = Place::with_run();
    let args = ["train", "--init-from", "run", "--run", "new", "--data", "story.txt"];
    let outcome = place.fails(
        &[&args[..], &["--window", "17"]].concat(),
        2,
        &["data.window is 17", "is 16", "hint: use --window 16 or less"],
    );
    // The shape cannot be set, so the hint does not propose it.
    assert!(!outcome.stderr.contains("n_positions="), "{outcome:?}");
    // The default is the context, with a stride in proportion.
    place.succeeds(&args);
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    let data = |key: &str| config["data"][key].as_integer();
    assert_eq!((data("window"), data("stride")), (Some(16), Some(8)));
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
    // A different seed gives a different training.
    place.succeeds(&train(&["--seed", "7"]));
    assert!(place.read(&format!("run/{WEIGHTS}")) != place.read(&format!("a/{WEIGHTS}")));
}
