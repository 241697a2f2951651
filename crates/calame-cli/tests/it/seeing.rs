//! The plan of a training, its event files, its report on memorisation, the list of runs, and runs side by side.

use std::fs;

use serde_json::Value;

use crate::program::{Outcome, Place, train};

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// A place with a second run in `other`, with a different rate and dropout.
fn with_two_runs() -> Place {
    let place = Place::with_run();
    let settings = ["--set", "train.lr=0.003", "--set", "model.dropout=0"];
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "other"][..], &settings].concat());
    place
}

#[test]
fn a_training_does_what_its_plan_says() {
    let place = Place::new();
    let before = place.files();
    let outcome = place.succeeds(&["plan", "--config", "tiny.toml", "--json"]);
    assert_eq!(outcome.stderr, "");
    let plan = json_lines(&outcome.stdout).remove(0);
    assert!(before == place.files(), "a plan writes nothing");
    assert_eq!(
        (&plan["n_parameters"], &plan["n_steps"], &plan["steps_per_epoch"]),
        (&5648.into(), &16.into(), &8.into())
    );
    assert_eq!((&plan["n_evaluations"], &plan["n_samples"]), (&4.into(), &2.into()));
    assert_eq!((&plan["tokens_per_step"], &plan["tokens_per_epoch"]), (&32.into(), &256.into()));
    for figure in ["seconds", "step_seconds", "evaluation_seconds", "sample_seconds", "peak_operations_per_second"] {
        assert!(plan[figure].as_f64().unwrap() > 0.0, "{figure}: {plan}");
    }
    let sum: u64 = plan["memory"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(plan["memory_bytes"], sum);
    assert_eq!(plan["memory"]["weights"], 4 * 5648);

    place.succeeds(&train(&[]));
    let records = json_lines(&place.text("run/metrics.jsonl"));
    let count = |event: &str| records.iter().filter(|record| record["event"] == event).count();
    assert_eq!((count("step"), count("evaluation"), count("sample")), (16, 4, 2));
}

#[test]
fn a_plan_of_a_stopped_run_covers_the_rest() {
    let place = Place::with_run();
    // The step is in the checkpoint's name. A plan reads no tensors, but the checkpoint must be complete.
    let mut sums = serde_json::Map::new();
    for file in ["weights.safetensors", "m.safetensors", "v.safetensors", "state.json", "config.toml"] {
        let bytes = if file == "config.toml" { place.read("run/config.toml") } else { Vec::new() };
        let crc32 = format!("{:08x}", crc32fast::hash(&bytes));
        sums.insert(file.to_owned(), serde_json::json!({ "file_bytes": bytes.len(), "crc32": crc32 }));
        place.write(&format!("run/checkpoints/step-000010/{file}"), bytes);
    }
    place.write("run/checkpoints/step-000010/checksums.json", Value::from(sums).to_string());
    let plan = json_lines(&place.succeeds(&["plan", "--resume", "run", "--json"]).stdout).remove(0);
    assert_eq!((&plan["n_steps"], &plan["n_steps_done"]), (&16.into(), &10.into()));
    assert_eq!((&plan["n_evaluations"], &plan["n_samples"]), (&2.into(), &1.into()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_training_that_no_memory_holds_is_planned_and_refused() {
    let place = Place::new();
    let huge = ["--set", "model.n_embd=65536", "--set", "model.n_layer=200", "--set", "model.n_head=64"];
    let args = train(&huge);
    // Its model alone is larger than any disk.
    place.fails(&args, 1, &["hint: "]);
    let outcome = place.run(&[&["plan"], &args[1..]].concat());
    outcome.is_error(1, &["the training needs ", " of memory, ", "hint: a smaller model would fit: --preset"]);
    assert!(outcome.stdout.contains("total") && !outcome.stdout.contains("time "), "{outcome:?}");
}

#[test]
fn a_dashboard_needs_a_terminal() {
    let place = Place::new();
    let parts = ["--tui needs a terminal: standard input is not one", "hint: leave --tui out"];
    place.fails(&train(&["--tui"]), 2, &parts);
    let outcome = place.run(&train(&["--tui", "--json"]));
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

/// The data of the records of an event file, which have the framing of TFRecord.
fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut events) = (bytes, Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        events.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length + 4..];
    }
    events
}

#[test]
fn event_files_are_written_unless_they_are_not_wanted() {
    let place = Place::new();
    place.succeeds(&train(&[]));
    let files: Vec<_> = fs::read_dir(place.path("run/tensorboard")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("events.out.tfevents.") && name.ends_with(".calame"), "{name}");
    let bytes = fs::read(&files[0]).unwrap();
    // Every event file begins so: the version's record has 24 bytes, and the checksum of that length is masked.
    assert_eq!(bytes[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    let events = events(&bytes);
    // The version, 16 steps, 4 evaluations, 2 samples.
    assert_eq!(events.len(), 1 + 16 + 4 + 2);
    let contains = |event: &[u8], tag: &str| event.windows(tag.len()).any(|part| part == tag.as_bytes());
    assert!(contains(&events[0], "brain.Event:2"));
    for (tag, n) in [("loss/train_step", 16), ("loss/validation", 4), ("sample", 2), ("lr", 16)] {
        assert_eq!(events.iter().filter(|event| contains(event, tag)).count(), n, "{tag}");
    }
    place.succeeds(&["train", "--config", "tiny.toml", "--run", "silent", "--set", "log.tensorboard=false"]);
    assert!(!place.exists("silent/tensorboard"));
}

/// The settings of a run from before the section `[log]` existed.
#[test]
fn a_run_without_the_section_of_logs_is_read() {
    let place = Place::with_run();
    let config = place.text("run/config.toml").replace("[log]\ntensorboard = true\n", "");
    assert!(!config.contains("[log]"));
    place.write("old/config.toml", config);
    place.write("old/metrics.jsonl", place.read("run/metrics.jsonl"));
    place.succeeds(&["plot", "old"]);
}

#[test]
fn a_training_reports_how_much_it_copies() {
    let place = Place::with_run();
    let records = json_lines(&place.text("run/metrics.jsonl"));
    let found: Vec<&Value> = records.iter().filter(|record| record["event"] == "memorisation").collect();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["n_tokens"], &found[0]["step"]), (&6.into(), &15.into()));
    assert!(found[0]["n_copied"].as_u64().unwrap() <= 6);
    // The record comes before that of the end.
    assert_eq!(records.last().unwrap()["event"], "end");
}

#[test]
fn runs_are_listed() {
    let place = with_two_runs();
    fs::create_dir(place.path("runs")).unwrap();
    for run in ["run", "other"] {
        fs::rename(place.path(run), place.path(&format!("runs/{run}"))).unwrap();
    }
    fs::remove_dir_all(place.path("runs/other/model")).unwrap();
    fs::create_dir_all(place.path("runs/other/checkpoints/step-000016")).unwrap();
    place.write("runs/broken/config.toml", "not = [toml");
    place.write("runs/notes.txt", "no run");
    let outcome = place.succeeds(&["runs"]);
    let rows: Vec<&str> = outcome.stdout.lines().collect();
    assert!(rows[0].starts_with("run ") && rows.len() == 3, "{outcome:?}");
    let row =
        |name: &str| rows.iter().find(|row| row.starts_with(name)).unwrap_or_else(|| panic!("{name}: {outcome:?}"));
    assert!(row("run  ").len() > 20 && outcome.stdout.contains("finished"), "{outcome:?}");
    assert!(row("other").contains("stopped") && row("other").contains(" 16 "), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: runs/broken/config.toml"), "{outcome:?}");
    let runs = json_lines(&place.succeeds(&["runs", "runs", "--json"]).stdout);
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (&runs[0]["run"], &runs[0]["state"], &runs[0]["resumable"]),
        (&"runs/other".into(), &"stopped".into(), &true.into())
    );
    assert_eq!((&runs[1]["state"], &runs[1]["n_steps"]), (&"finished".into(), &16.into()));
    let best = runs[1]["best_val_loss"].as_f64().unwrap();
    assert!(best <= runs[1]["last_val_loss"].as_f64().unwrap() && runs[1]["file_bytes"].as_u64().unwrap() > 20_000);
    #[cfg(unix)]
    {
        // Lock the folder as a program that trains in it does.
        let training = fs::File::open(place.path("runs/other")).unwrap();
        training.lock().unwrap();
        let outcome = place.succeeds(&["runs"]);
        assert!(outcome.stdout.lines().any(|row| row.starts_with("other") && row.contains("running")), "{outcome:?}");
    }
    let nothing = Place::new();
    let outcome = nothing.succeeds(&["runs"]);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("there are no runs in runs"), "{outcome:?}");
    nothing.fails(&["runs", "nowhere"], 1, &["cannot read nowhere", "hint: check the path"]);
}

fn without_sizes(outcome: &Outcome) -> String {
    outcome.stdout.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn runs_are_compared() {
    let place = with_two_runs();
    let outcome = place.succeeds(&["compare", "run", "other"]);
    let text = without_sizes(&outcome);
    let row = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {text}"));
    let words = |key: &str| row(key).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("train.lr"), ["train.lr", "0.01", "0.003"]);
    assert_eq!(words("model.dropout"), ["model.dropout", "0.1", "0"]);
    assert_eq!(words("steps"), ["steps", "16", "16"]);
    assert!(row("best validation").contains(" at ") && !text.contains("train.epochs"), "{text}");
    assert_eq!(text.lines().last(), Some("compare.svg"));
    assert!(place.text("compare.svg").starts_with("<svg"));
    for (file, magic) in [("c.png", &b"\x89PNG"[..]), ("c.pdf", b"%PDF-")] {
        place.succeeds(&["compare", "run", "other", "--out", file]);
        assert!(place.read(file).starts_with(magic), "{file}");
    }
    let value = json_lines(&place.succeeds(&["compare", "run", "other", "--json"]).stdout).remove(0);
    assert_eq!(value["settings"]["train.lr"], serde_json::json!(["0.01", "0.003"]));
    assert_eq!(value["runs"][1]["n_steps"], 16);
    place.fails(&["compare", "run", "other", "--out", "c.gif"], 1, &["c.gif", "must be .svg, .png or .pdf"]);
    place.fails(&["compare", "run", "nowhere"], 1, &["nowhere: no such file or folder"]);
    place.write("empty/config.toml", place.read("run/config.toml"));
    place.fails(&["compare", "run", "empty"], 1, &["cannot draw compare.svg", "expected at least one evaluation"]);
    assert_eq!(place.run(&["compare", "run"]).code, Some(2));
}
