//! `--json`: every line of standard output is an object with the documented fields, and nothing else is printed.

use serde_json::Value;

use crate::program::{Place, train};

fn lines(stdout: &str) -> Vec<Value> {
    assert!(stdout.ends_with('\n'), "{stdout:?}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// The one object that a command prints, whose fields are `fields`.
#[track_caller]
fn object(place: &Place, args: &[&str], fields: &[&str]) -> Value {
    let outcome = place.succeeds(args);
    let mut values = lines(&outcome.stdout);
    assert_eq!(values.len(), 1, "{outcome:?}");
    assert_eq!(outcome.stderr, "");
    assert_fields(&values[0], fields);
    values.remove(0)
}

#[track_caller]
fn assert_fields(value: &Value, fields: &[&str]) {
    let mut found: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = fields.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{value}");
}

#[test]
fn a_training() {
    let place = Place::new();
    let outcome = place.succeeds(&train(&["--json"]));
    assert_eq!(outcome.stderr, "");
    let values = lines(&outcome.stdout);
    let mut counts = std::collections::BTreeMap::new();
    for value in &values {
        let event = value["event"].as_str().unwrap();
        *counts.entry(event).or_insert(0) += 1;
        let common = ["event", "step", "epoch"];
        let own: &[&str] = match event {
            "step" => &["loss", "lr", "n_tokens_seen", "step_seconds", "tokens_per_second"],
            "evaluation" => &["train_loss", "val_loss", "n_tokens_seen", "seconds"],
            "sample" => &["prompt", "text"],
            "memorisation" => &["n_tokens", "n_copied", "longest", "passage"],
            "end" => &["n_tokens_seen", "total_seconds"],
            "result" => {
                assert_fields(value, &["event", "run", "model"]);
                continue;
            }
            other => panic!("{other}"),
        };
        assert_fields(value, &[&common, own].concat());
    }
    // All lines but the result are also in metrics.jsonl.
    let (result, records) = values.split_last().unwrap();
    assert_eq!((&result["run"], &result["model"]), (&"run".into(), &"run/model".into()));
    assert_eq!(records, lines(&place.text("run/metrics.jsonl")));
    let n_steps: i32 = counts["step"];
    assert_eq!((counts["sample"], counts["end"], counts["result"]), (2, 1, 1));
    assert_eq!(counts["evaluation"], (n_steps + 4) / 5);
    // Tokens add up, steps count from 0.
    for (i, step) in values.iter().filter(|value| value["event"] == "step").enumerate() {
        assert_eq!(step["step"], i);
        assert_eq!(step["n_tokens_seen"], (i + 1) * 4 * 8);
        assert!(step["loss"].as_f64().unwrap() > 0.0 && step["lr"] == 0.01);
    }
}

#[test]
fn a_generated_text() {
    let place = Place::with_run();
    let fields = ["model", "prompt", "text", "tokens", "end_of_text", "tokens_per_second"];
    let args = ["generate", "--model", "run", "--context", "The lamp", "--tokens", "5", "--json"];
    let value = object(&place, &args, &fields);
    assert_eq!((&value["model"], &value["prompt"]), (&"run/model".into(), &"The lamp".into()));
    let plain = place.succeeds(&args[..args.len() - 1]);
    assert_eq!(plain.stdout.trim_end_matches('\n'), value["text"]);
    let ids: Vec<String> = value["tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(ids.len(), 5);
    // The ids are the text's own.
    let decoded = place.succeeds(&["tokenize", "--tokenizer", "run", "--decode", &ids.join(" ")]);
    assert!(value["text"].as_str().unwrap().ends_with(decoded.stdout.trim_end()), "{decoded:?}, {value}");
}

#[test]
fn an_evaluation() {
    let place = Place::with_run();
    let fields = ["model", "n_tokens", "loss", "perplexity", "window", "stride", "seconds"];
    let args = ["eval", "--model", "run", "--data", "story.txt", "--window", "8", "--stride", "4", "--json"];
    let value = object(&place, &args, &fields);
    assert_eq!((&value["window"], &value["stride"]), (&8.into(), &4.into()));
}

#[test]
fn tokens() {
    let place = Place::new();
    let value = object(&place, &["tokenize", "Hello, I am", "--json"], &["ids", "n_tokens"]);
    assert_eq!(value, serde_json::json!({ "ids": [15496, 11, 314, 716], "n_tokens": 4 }));
    let value = object(&place, &["tokenize", "--count", "Hello, I am", "--json"], &["n_tokens", "n_bytes"]);
    assert_eq!(value, serde_json::json!({ "n_tokens": 4, "n_bytes": 11 }));
    let value = object(&place, &["tokenize", "--decode", "15496 11", "--json"], &["ids", "n_tokens", "text"]);
    assert_eq!(value, serde_json::json!({ "ids": [15496, 11], "n_tokens": 2, "text": "Hello," }));
}

#[test]
fn a_plot() {
    let place = Place::with_run();
    let value = object(&place, &["plot", "run", "--json"], &["files"]);
    assert_eq!(value["files"], serde_json::json!(["run/loss-plot.pdf", "run/loss-plot.svg", "run/loss-plot.png"]));
}

/// Errors are printed on standard error, never among the objects.
#[test]
fn errors_print_no_objects() {
    let place = Place::with_run();
    let commands = [
        &["generate", "--model", "nowhere", "--json"][..],
        &["eval", "--model", "run", "--data", "missing.txt", "--json"],
        &["tokenize", "<|endoftext|>", "--json"],
        &["plot", "nowhere", "--json"],
        &["train", "--config", "tiny.toml", "--run", "run", "--json"],
    ];
    for args in commands {
        assert_eq!(place.fails(args, 1, &[]).stdout, "", "{args:?}");
    }
}
