//! `calame export` and `calame inspect`: what one writes, the other reads.

use serde_json::Value;

use crate::program::Place;

/// The format's name, and the default path of the result.
const FORMATS: [(&str, &str); 3] = [("safetensors", "run-safetensors"), ("pt", "run.pt"), ("gguf", "run.gguf")];

#[test]
fn every_format_is_read_back_and_gives_the_same_logits() {
    let place = Place::with_run();
    let logits = |model: &str| place.succeeds(&["logits", model, "--ids", "3,1,4,1,5", "--json"]).stdout;
    let expected = logits("run");
    for (to, out) in FORMATS {
        let outcome = place.succeeds(&["export", "run", "--to", to]);
        assert!(outcome.stdout.contains(&format!("written  {out} ({to}")), "{outcome:#?}");
        assert!(
            outcome.stdout.contains("ok       read back: logits of 16 tokens differ by at most 0.0e0"),
            "{outcome:#?}"
        );
        assert_eq!(logits(out), expected, "{to}");
    }
}

#[test]
fn a_graph_has_the_models_bits() {
    let place = Place::with_run();
    let outcome = place.succeeds(&["export", "run", "--to", "onnx"]);
    assert!(outcome.stdout.contains("ok       read back: the graph has the model's"), "{outcome:#?}");
    assert!(place.exists("run-onnx/model.onnx") && place.exists("run-onnx/model.onnx.data"));
}

#[test]
fn existing_files_are_kept() {
    let place = Place::with_run();
    place.write("there/notes.txt", "mine");
    let export = ["export", "run", "--to", "safetensors", "--out", "there"];
    place.fails(&export, 1, &["there exists", "hint: choose another --out, or replace it with --force"]);
    assert_eq!(place.text("there/notes.txt"), "mine");
    place.succeeds(&[&export[..], &["--force"]].concat());
    assert!(place.exists("there/model.safetensors"));
}

#[test]
fn json() {
    let place = Place::with_run();
    let parsed = |args: &[&str]| serde_json::from_str::<Value>(&place.succeeds(args).stdout).unwrap();
    let exported = parsed(&["export", "run", "--to", "safetensors", "--json"]);
    assert_eq!((&exported["to"], &exported["largest_difference"]), (&Value::from("safetensors"), &Value::from(0.0)));
    let (was, is) = (parsed(&["inspect", "run", "--json"]), parsed(&["inspect", "run-safetensors", "--json"]));
    assert_eq!(was["format"], "Hugging Face folder");
    for key in ["config", "n_parameters", "tokenizer", "tensors"] {
        assert_eq!(was[key], is[key], "{key}");
    }
    assert!(was["tensors"].as_array().unwrap().iter().any(|t| t["name"] == "transformer.h.0.attn.c_attn.weight"));
}

#[test]
fn what_is_not_a_model() {
    let place = Place::new();
    place.fails(&["inspect", "story.txt"], 1, &["story.txt holds no model"]);
    place.fails(&["export", "nowhere", "--to", "safetensors"], 1, &["nowhere: no such file or folder"]);

    place.fails(&["export", "story.txt", "--to", "parchment"], 2, &["possible values"]);
}
