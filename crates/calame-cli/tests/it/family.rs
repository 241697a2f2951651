//! Settings of the GPT-2 family beside OpenAI's: training with them, and what other verbs do with the model.

use serde_json::Value;

use crate::program::{Place, train};

/// One of each setting; the formats that hold them are tested in the library.
const SETTINGS: [&str; 7] = [
    "model.bias=false",
    "model.n_inner=40",
    "model.activation=relu",
    "model.layer_norm_epsilon=1e-6",
    "model.scale_attn_weights=false",
    "model.scale_attn_by_inverse_layer_idx=true",
    "model.tied_head=false",
];

/// A run that was trained with every setting.
fn trained() -> Place {
    let place = Place::new();
    let set: Vec<&str> = SETTINGS.iter().flat_map(|setting| ["--set", *setting]).collect();
    place.succeeds(&train(&set));
    place
}

#[test]
fn a_fresh_training_has_the_settings_and_every_verb_follows_them() {
    let place = trained();
    let config: toml::Table = place.text("run/config.toml").parse().unwrap();
    let model = config["model"].as_table().unwrap();
    assert_eq!((model["n_inner"].as_integer(), model["activation"].as_str()), (Some(40), Some("relu")));
    assert_eq!((model["bias"].as_bool(), model["scale_attn_weights"].as_bool()), (Some(false), Some(false)));

    let inspected = place.succeeds(&["inspect", "run"]).stdout;
    for part in [
        "without qkv bias",
        "no biases",
        "MLP of 40 channels",
        "activation relu",
        "layer norm epsilon 1e-6",
        "scores of attention not scaled",
        "divided by the block's number",
    ] {
        assert!(inspected.contains(part), "{part}: {inspected}");
    }
    // Two matrices of the MLP of 16 × 40 channels, four of attention, two normalisations; no biases.
    let block = 2 * 16 * 40 + 4 * 16 * 16 + 2 * 16;
    let json: Value = serde_json::from_str(&place.succeeds(&["inspect", "run", "--json"]).stdout).unwrap();
    let vocab = json["config"]["vocab_size"].as_u64().unwrap();
    assert_eq!(json["n_parameters"].as_u64(), Some(2 * vocab * 16 + 16 * 16 + block + 16));

    let logits = |model: &str| place.succeeds(&["logits", model, "--ids", "3,1,4,1,5", "--json"]).stdout;
    let expected = logits("run");
    for (to, out) in [("safetensors", "run-safetensors"), ("pt", "run.pt")] {
        let outcome = place.succeeds(&["export", "run", "--to", to]);
        assert!(outcome.stdout.contains("differ by at most 0.0e0"), "{outcome:#?}");
        assert_eq!(logits(out), expected, "{to}");
    }
    let notes = place.succeeds(&["export", "run", "--to", "pt", "--force"]).stdout;
    assert!(notes.contains("the book's GPTModel computes something else") && notes.contains("activation = relu"));
    place.succeeds(&["export", "run", "--to", "onnx"]);
    let parts = ["run.gguf: GGUF cannot hold a model with activation = relu", "export to safetensors or onnx"];
    place.fails(&["export", "run", "--to", "gguf"], 1, &parts);
    place.succeeds(&["generate", "--model", "run", "--tokens", "5"]);
    place.succeeds(&["eval", "--model", "run", "--data", "story.txt"]);
    place.succeeds(&["plan", "--config", "run/config.toml", "--data", "story.txt"]);
}

/// The weights alone are the model of the whole configuration next to them.
#[test]
fn weights_by_themselves_give_the_logits_of_their_folder() {
    let place = trained();
    let logits = |model: &str| place.succeeds(&["logits", model, "--ids", "3,1,4,1,5", "--json"]).stdout;
    assert_eq!(logits("run/model/model.safetensors"), logits("run"));
}

/// A training that is resumed, and a run's file from before the settings existed.
#[test]
fn a_run_without_the_newer_keys_is_gpt2() {
    let place = Place::with_run();
    let text = place.text("run/config.toml");
    let keys = ["bias", "n_inner", "activation", "layer_norm_epsilon", "scale_attn"];
    let old: String = text
        .lines()
        .filter(|line| !keys.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(old.lines().count() + 6, text.lines().count(), "{text}");
    place.write("old.toml", &old);
    place.succeeds(&["train", "--config", "old.toml", "--run", "new"]);
    assert_eq!(place.text("new/config.toml"), text);
    assert!(place.read("new/model/model.safetensors") == place.read("run/model/model.safetensors"));
}

#[test]
fn settings_that_no_model_has_are_named() {
    let place = Place::new();
    for (set, parts) in [
        ("model.activation=silu", ["'silu'", "gelu-tanh"]),
        ("model.n_inner=0", ["model.n_inner is 0", "from 1"]),
        ("model.n_inner=3x", ["3x", "4x"]),
        ("model.layer_norm_epsilon=0", ["model.layer_norm_epsilon is 0", "1e-5"]),
        ("model.bias=maybe", ["model.bias", "boolean"]),
    ] {
        place.fails(&train(&["--set", set]), 2, &parts);
    }
}
