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
    // The first event is all that a program needs to follow the run.
    let (start, values) = values.split_first().unwrap();
    assert_fields(start, &["event", "time", "pid", "version", "run", "n_steps_done", "config", "plan"]);
    assert_eq!((&start["event"], &start["run"], &start["n_steps_done"]), (&"start".into(), &"run".into(), &0.into()));
    assert!(start["pid"].as_u64().unwrap() > 0);
    assert_eq!((&start["config"]["train"]["epochs"], &start["plan"]["n_steps"]), (&2.into(), &16.into()));
    assert_is_utc(&start["time"]);
    let mut counts = std::collections::BTreeMap::new();
    for value in values {
        let event = value["event"].as_str().unwrap();
        *counts.entry(event).or_insert(0) += 1;
        let common = ["event", "step", "epoch"];
        let own: &[&str] = match event {
            "step" => &["loss", "lr", "n_tokens_seen", "step_seconds", "tokens_per_second"],
            "evaluation" => &["train_loss", "val_loss", "val_bits_per_byte", "n_tokens_seen", "seconds"],
            "sample" => &["prompt", "text"],
            "memorisation" => &["n_tokens", "n_copied", "longest", "passage"],
            "end" => &["n_tokens_seen", "total_seconds", "n_epochs"],
            "result" => {
                assert_fields(value, &["event", "time", "run", "model"]);
                assert_is_utc(&value["time"]);
                continue;
            }
            other => panic!("{other}"),
        };
        assert_fields(value, &[&common, own].concat());
    }
    // All lines but the start and the result are also in metrics.jsonl.
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

/// Checks a time such as `2026-11-23T14:05:09Z`.
#[track_caller]
fn assert_is_utc(time: &Value) {
    let time = time.as_str().unwrap();
    let digits: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(digits, "0000-00-00T00:00:00Z", "{time}");
}

#[test]
fn a_generated_text() {
    let place = Place::with_run();
    let fields =
        ["model", "prompt", "sample", "text", "new_text", "tokens", "end_of_text", "stop", "tokens_per_second"];
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
    let fields = ["model", "n_tokens", "n_bytes", "loss", "perplexity", "bits_per_byte", "window", "stride", "seconds"];
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

/// Every verb that has `--json`, as its help says: a new verb has it or is listed here without.
fn verbs_with_json(place: &Place) -> Vec<Vec<String>> {
    let commands = |args: &[&str]| {
        let help = place.succeeds(&[args, &["--help"]].concat()).stdout;
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default().to_owned();
        let names = listed.lines().take_while(|line| line.starts_with("  "));
        let names = names.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect::<Vec<String>>()
    };
    let mut verbs = Vec::new();
    for verb in commands(&[]) {
        match &commands(&[&verb])[..] {
            [] => verbs.push(vec![verb]),
            below => verbs.extend(below.iter().map(|name| vec![verb.clone(), name.clone()])),
        }
    }
    verbs.retain(|verb| {
        let args: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        place.succeeds(&args).stdout.contains("--json")
    });
    assert!(verbs.len() > 10, "{verbs:?}");
    verbs
}

#[track_caller]
fn assert_is_error_event(outcome: &crate::program::Outcome, code: i32) {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    let event = lines(&outcome.stdout).pop().unwrap();
    assert_fields(&event, &["event", "time", "message", "hint", "exit_code"]);
    assert_eq!((&event["event"], &event["exit_code"]), (&"error".into(), &code.into()), "{outcome:?}");
    assert_is_utc(&event["time"]);
    let (message, hint) = (event["message"].as_str().unwrap(), event["hint"].as_str().unwrap_or_default());
    // Both are on standard error for people, too.
    assert!(!message.is_empty() && outcome.stderr.contains(message.trim_start_matches("error: ")), "{outcome:?}");
    assert!(outcome.stderr.contains(hint), "{outcome:?}");
}

/// Errors are printed on standard error for people, and as an event for programs.
#[test]
fn errors_are_events() {
    let place = Place::with_run();
    let commands = [
        &["generate", "--model", "nowhere", "--json"][..],
        &["eval", "--model", "run", "--data", "missing.txt", "--json"],
        &["tokenize", "<|endoftext|>", "--json"],
        &["plot", "nowhere", "--json"],
        &["train", "--config", "tiny.toml", "--run", "run", "--json"],
        &["data", "info", "nowhere", "--json"],
    ];
    for args in commands {
        assert_is_error_event(&place.fails(args, 1, &[]), 1);
    }
    let no_epochs = ["train", "--config", "tiny.toml", "--run", "new", "--epochs", "0", "--json"];
    assert_is_error_event(&place.fails(&no_epochs, 2, &[]), 2);
    let outcome = place.succeeds(&["plot", "run"]);
    assert!(!outcome.stdout.contains('{'), "{outcome:?}");
    // Without the flag nothing but the error is printed.
    assert_eq!(place.fails(&["plot", "nowhere"], 1, &[]).stdout, "");
}

/// A command line that cannot be parsed is an event of every verb.
#[test]
fn usage_errors_of_every_verb_are_events() {
    let place = Place::new();
    for verb in verbs_with_json(&place) {
        let args: Vec<&str> = verb.iter().map(String::as_str).chain(["--json", "--no-such-flag"]).collect();
        assert_is_error_event(&place.run(&args), 2);
    }
}
