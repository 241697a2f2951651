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
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    // A plan reads no tensors, but the checkpoint must be complete.
    let state = br#"{"n_steps":10,"epoch":1,"batch":2,"n_tokens_seen":320,"settled":true}"#;
    let mut sums = serde_json::Map::new();
    for file in ["weights.safetensors", "m.safetensors", "v.safetensors", "state.json", "config.toml"] {
        let bytes = match file {
            "config.toml" => place.read("run/config.toml"),
            "state.json" => state.to_vec(),
            _ => Vec::new(),
        };
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
    assert_eq!(events.iter().filter(|event| contains(event, "bits_per_byte/validation")).count(), 4);
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

/// The last weights are always evaluated, whatever `eval_every` is.
#[test]
fn a_training_is_evaluated_at_its_end() {
    let place = Place::new();
    let steps = |place: &Place| {
        let records = json_lines(&place.text("run/metrics.jsonl"));
        let evaluations = records.iter().filter(|record| record["event"] == "evaluation");
        evaluations.map(|record| record["step"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    let plan = |every: &str| {
        let set = format!("train.eval_every={every}");
        let plan = json_lines(&place.succeeds(&["plan", "--config", "tiny.toml", "--json", "--set", &set]).stdout);
        let run = place.succeeds(&train(&["--overwrite", "--set", &set]));
        assert!(run.stdout.contains("Ep 2 (Step 000015)"), "{run:?}");
        let steps = steps(&place);
        assert_eq!(plan[0]["n_evaluations"], steps.len());
        steps
    };
    place.succeeds(&train(&["--epochs", "1"]));
    assert_eq!(steps(&place), [0, 5, 7]);
    assert_eq!(plan("1000"), [0, 15]);
    assert_eq!(plan("4"), [0, 4, 8, 12, 15]);
    // The weights are the same whatever is evaluated.
    let model = place.read("run/model/model.safetensors");
    assert!(model == Place::with_run().read("run/model/model.safetensors"));
}

/// The validation part of a folder comes from every document, and that of a single file is its end.
#[test]
fn a_folder_is_validated_on_all_of_its_documents() {
    let place = Place::new();
    let text = |word: &str| format!("{word} and {word} again. ").repeat(150);
    for word in ["alpha", "beta", "gamma"] {
        place.write(&format!("notes/{word}.txt"), text(word));
    }
    let plan = |more: &[&str]| {
        let args = [&["plan", "--config", "tiny.toml"][..], more].concat();
        place.succeeds(&args).stdout
    };
    place.succeeds(&train(&["--data", "notes"]));
    let config: toml::Table = place.text("run/config.toml").parse().unwrap();
    assert_eq!(config["data"]["validation"].as_str(), Some("documents"));
    // With the end of the whole text, the last document alone is predicted badly: none of it is trained on.
    let tail = ["--data", "notes", "--set", "data.validation=end", "--set", "data.train_fraction=0.7", "--epochs", "8"];
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "end"], &tail[..]].concat());
    let all = ["--data", "notes", "--set", "data.train_fraction=0.7", "--epochs", "8"];
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "all"], &all[..]].concat());
    let last = |run: &str| {
        let records = json_lines(&place.text(&format!("{run}/metrics.jsonl")));
        let record = records.into_iter().rfind(|record| record["event"] == "evaluation").unwrap();
        record["val_loss"].as_f64().unwrap()
    };
    assert!(last("all") < last("end") - 0.5, "{} against {}", last("all"), last("end"));
    // A single text has the same parts under both rules.
    let single = |rule: &str| plan(&["--set", &format!("data.validation={rule}")]);
    let parts = |text: &str| text.lines().find(|line| line.starts_with("text ")).unwrap().to_owned();
    assert_eq!(parts(&single("end")), parts(&single("documents")));
}

#[test]
fn a_training_reports_how_much_it_copies() {
    let place = Place::with_run();
    let records = json_lines(&place.text("run/metrics.jsonl"));
    let found: Vec<&Value> = records.iter().filter(|record| record["event"] == "memorisation").collect();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["n_tokens"], &found[0]["step"]), (&6.into(), &15.into()));
    let outcome = Place::new().succeeds(&train(&[]));
    assert!(outcome.stdout.contains("copied unknown: the last sample has 6 tokens, too few"), "{outcome:?}");
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
    // As if the program had been killed after its last checkpoint.
    fs::remove_dir_all(place.path("runs/other/model")).unwrap();
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
    assert_eq!((&runs[1]["resumable"], &runs[1]["n_steps_lost"]), (&true.into(), &0.into()));
    assert!(runs[1]["best_val_bits_per_byte"].as_f64().unwrap() > 0.0);
    let changed = runs[1]["changed"].as_str().unwrap();
    assert!(changed.ends_with('Z') && changed.contains('T'), "{changed}");
    assert!(rows[0].contains("changed (UTC)") && rows[0].contains("bits/byte"), "{outcome:?}");
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
    assert!(row("best, bits per byte").split_whitespace().count() == 6, "{text}");
    assert_eq!(outcome.stderr, "", "the losses can be compared");
    assert_eq!(text.lines().last(), Some("compare.svg"));
    assert!(place.text("compare.svg").starts_with("<svg"));
    for (file, magic) in [("c.png", &b"\x89PNG"[..]), ("c.pdf", b"%PDF-")] {
        place.succeeds(&["compare", "run", "other", "--out", file]);
        assert!(place.read(file).starts_with(magic), "{file}");
    }
    let value = json_lines(&place.succeeds(&["compare", "run", "other", "--json"]).stdout).remove(0);
    assert_eq!(value["settings"]["train.lr"], serde_json::json!(["0.01", "0.003"]));
    assert_eq!(value["runs"][1]["n_steps"], 16);
    assert_eq!(value["warnings"], serde_json::json!([]));
    // A run on another text, whose vocabulary is another one too.
    place.write("odd.txt", "The reed is cut, and the reed is cut again, said the boy. ".repeat(40));
    place.succeeds(&["train", "--config", "tiny.toml", "--run", "third", "--data", "odd.txt"]);
    let outcome = place.succeeds(&["compare", "run", "third"]);
    for warning in ["warning: the runs were trained on different texts", "warning: the vocabularies differ"] {
        assert!(outcome.stderr.contains(warning), "{outcome:?}");
    }
    place.fails(&["compare", "run", "other", "--out", "c.gif"], 1, &["c.gif", "must be .svg, .png or .pdf"]);
    place.fails(&["compare", "run", "nowhere"], 1, &["nowhere: no such file or folder"]);
    place.write("empty/config.toml", place.read("run/config.toml"));
    place.fails(&["compare", "run", "empty"], 1, &["cannot draw compare.svg", "expected at least one evaluation"]);
    assert_eq!(place.run(&["compare", "run"]).code, Some(2));
}
