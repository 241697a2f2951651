//! `--resume`: finished runs that are trained further, settings that have changed, runs that have moved, and runs that
//! cannot be resumed. The tests of stopped runs are in signals.rs.

use std::fs;
use std::process::Stdio;

use crate::program::{Outcome, Place, metrics_without_times, train, wait_until};

/// A run of 40 epochs that was killed, in `run`. Its only checkpoint is that after its third step.
fn with_checkpoint() -> Place {
    let place = Place::new();
    let settings = ["--epochs", "40", "--set", "checkpoint.every_steps=3", "--set", "checkpoint.keep=99"];
    let mut child = place.command(&train(&settings)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("a checkpoint", || place.exists("run/checkpoints/step-000003/state.json"));
    child.kill().unwrap();
    child.wait().unwrap();
    for entry in fs::read_dir(place.path("run/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("step-000003") {
            fs::remove_dir_all(path).unwrap();
        }
    }
    place
}

#[track_caller]
fn assert_same_model(place: &Place, a: &str, b: &str) {
    let file = |run: &str| place.read(&format!("{run}/model/model.safetensors"));
    assert!(file(a) == file(b), "the models of {a} and {b} differ");
}

#[test]
fn a_finished_run_is_trained_further_to_the_bits_of_an_uninterrupted_one() {
    let place = Place::with_run();
    place.succeeds(&["train", "--config", "tiny.toml", "--run", "whole", "--epochs", "4"]);
    let before = place.read("run/model/model.safetensors");
    let outcome = place.succeeds(&["train", "--resume", "run", "--epochs", "4"]);
    assert!(outcome.stdout.contains("resuming after step 16"), "{outcome:?}");
    assert_eq!(outcome.stderr, "settings that differ from the checkpoint's: train.epochs 2 → 4\n");
    assert!(before != place.read("run/model/model.safetensors"));
    assert_same_model(&place, "run", "whole");
    assert_eq!(place.text("run/samples.txt"), place.text("whole/samples.txt"));
    // The first run was trained in another folder.
    let settings = |run: &str| {
        let text = place.text(&format!("{run}/config.toml"));
        text.lines().filter(|line| !line.starts_with("inputs = ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(settings("run"), settings("whole"));
    let metrics = |run: &str| metrics_without_times(&place.text(&format!("{run}/metrics.jsonl")));
    assert_eq!(metrics("run"), metrics("whole"), "one end, and no memorisation in the middle");
    // And once more.
    place.succeeds(&["train", "--resume", "run", "--epochs", "5"]);
}

#[test]
fn a_finished_run_without_more_epochs() {
    let place = Place::with_run();
    let finished = ["run is finished", "2 epochs", "hint: calame train --resume run --epochs 4 trains it further"];
    place.fails(&["train", "--resume", "run"], 1, &finished);
    place.fails(&["train", "--resume", "run", "--epochs", "1"], 1, &finished);
    place.fails(&["train", "--resume", "run", "--lr", "0.001"], 1, &finished);
    place.fails(&train(&[]), 1, &["run exists already", "`calame train --resume run --epochs N` trains it further"]);
    // Its last state may be deleted to free the space.
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    place.fails(
        &["train", "--resume", "run", "--epochs", "4"],
        1,
        &["run has no checkpoint", "hint: it is finished, and its last state was not kept", "--init-from run --data "],
    );
}

#[test]
fn the_last_state_is_only_kept_if_wanted() {
    let place = Place::new();
    place.succeeds(&train(&["--set", "checkpoint.at_end=false"]));
    assert!(!place.exists("run/checkpoints"));
    place.succeeds(&train(&["--overwrite"]));
    let kept: Vec<_> = fs::read_dir(place.path("run/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(kept, ["step-000016"]);
}

#[test]
fn a_run_that_stopped_early_is_trained_further() {
    let place = Place::new();
    let early = ["--epochs", "200", "--set", "early_stopping.patience=2", "--set", "train.eval_every=2"];
    let outcome = place.succeeds(&train(&early));
    assert!(outcome.stdout.contains("stopped early"), "{outcome:?}");
    let parts = ["run has stopped early", "hint: calame train --resume run --set early_stopping.patience=4"];
    place.fails(&["train", "--resume", "run"], 1, &parts);
    place.fails(&["train", "--resume", "run", "--epochs", "300"], 1, &parts);
    let outcome = place.succeeds(&["train", "--resume", "run", "--set", "early_stopping.patience=4"]);
    assert!(outcome.stdout.contains("resuming after step "), "{outcome:?}");
    assert!(place.exists("run/model/model.safetensors"));
}

/// Every setting that would not continue the training is named, with both values; the hint restores it.
#[test]
fn settings_that_would_change_the_position_are_refused_by_name() {
    let place = with_checkpoint();
    let config = place.text("run/config.toml");
    for (key, old, new) in [
        ("data.batch_size", "\nbatch_size = 4", "\nbatch_size = 2"),
        ("data.window", "window = 8", "window = 4"),
        ("data.stride", "stride = 8", "stride = 4"),
        ("data.train_fraction", "train_fraction = 0.9", "train_fraction = 0.8"),
        ("data.validation", "validation = \"documents\"", "validation = \"end\""),
        ("data.shuffle", "shuffle = true", "shuffle = false"),
        ("data.drop_last", "drop_last = true", "drop_last = false"),
        ("train.accumulate", "accumulate = 1", "accumulate = 2"),
        ("train.seed", "seed = 123", "seed = 5"),
        ("train.rng", "rng = \"calame\"", "rng = \"torch\""),
        ("model.n_head", "n_head = 2", "n_head = 4"),
        ("model.n_head", "n_head = 2", "n_head = 0"),
        ("tokenizer.kind", "kind = \"simple-v2\"", "kind = \"gpt2\""),
    ] {
        assert!(config.contains(old), "{old}: {config}");
        place.write("run/config.toml", config.replace(old, new));
        let saved = old.rsplit(" = ").next().unwrap().trim_matches('"');
        let has = format!("the checkpoint has {saved:?}");
        place.fails(
            &["train", "--resume", "run"],
            1,
            &[
                "run cannot be resumed",
                &format!("{key} is "),
                &has,
                "hint: restore the values of run/checkpoints/step-000003",
            ],
        );
    }
    place.write("run/config.toml", config);
    for set in ["data.window=4", "train.seed=5", "recipe=long", "preset=book", "init_from=run"] {
        let key = set.split('=').next().unwrap();
        place.fails(&["train", "--resume", "run", "--set", set], 1, &["run cannot be resumed", &format!("{key} is ")]);
    }
    // Two at once are both named.
    place.fails(
        &["train", "--resume", "run", "--set", "data.window=4", "--set", "data.stride=4"],
        1,
        &["data.window is \"4\"", "data.stride is \"4\""],
    );
    place.fails(&["train", "--resume", "run", "--set", "train.learning=4"], 2, &["unknown key train.learning"]);
}

#[test]
fn other_settings_are_listed() {
    let place = with_checkpoint();
    let config = place.text("run/config.toml");
    place.write("run/config.toml", config.replace("eval_every = 5", "eval_every = 4"));
    let changes = ["--epochs", "1", "--lr", "0.005", "--set", "model.dropout=0"];
    let outcome = place.succeeds(&[&["train", "--resume", "run"], &changes[..]].concat());
    assert_eq!(
        outcome.stderr,
        "settings that differ from the checkpoint's: model.dropout 0.1 → 0, train.epochs 40 → 1, train.eval_every 5 → 4, \
         train.lr 0.01 → 0.005\n"
    );
    let config = place.text("run/config.toml");
    assert!(config.contains("epochs = 1\n") && config.contains("lr = 0.005"), "{config}");
}

#[test]
fn a_run_resumes_from_any_folder_and_after_it_was_moved() {
    let place = Place::new();
    place.succeeds(&train(&[]));
    let config: toml::Table = place.text("run/config.toml").parse().unwrap();
    let input = config["data"]["inputs"][0].as_str().unwrap();
    assert!(std::path::Path::new(input).is_absolute() && input.ends_with("story.txt"), "{input}");
    place.succeeds(&["train", "--config", "tiny.toml", "--run", "whole", "--epochs", "4"]);
    let resume_in = |folder: &str, args: &[&str]| {
        fs::create_dir_all(place.path(folder)).unwrap();
        Outcome::of(place.command(args).current_dir(place.path(folder)).output().unwrap())
    };
    let outcome = resume_in("elsewhere", &["train", "--resume", "../run", "--epochs", "3"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fs::create_dir_all(place.path("archive/2026")).unwrap();
    fs::rename(place.path("run"), place.path("archive/2026/moved")).unwrap();
    let outcome = resume_in("archive", &["train", "--resume", "2026/moved", "--epochs", "4"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_same_model(&place, "archive/2026/moved", "whole");
    // Its settings start the same training from any folder too.
    let outcome = resume_in("elsewhere", &["train", "--config", "../whole/config.toml", "--run", "again"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_same_model(&place, "elsewhere/again", "whole");
}

#[test]
fn a_text_that_was_moved_is_given_again() {
    let place = Place::new();
    place.succeeds(&train(&[]));
    fs::create_dir(place.path("texts")).unwrap();
    fs::rename(place.path("story.txt"), place.path("texts/tale.txt")).unwrap();
    let more = ["train", "--resume", "run", "--epochs", "3"];
    place.fails(
        &more,
        1,
        &["story.txt", "no such file", "hint: if the text was moved", "calame train --resume run --data PATH"],
    );
    place.write("texts/other.txt", "Another text. ".repeat(100));
    place.fails(&[&more[..], &["--data", "texts/other.txt"]].concat(), 1, &["data.inputs", "SHA-256 differs"]);
    place.succeeds(&[&more[..], &["--data", "texts/tale.txt"]].concat());
    // From now on the run knows the new path.
    place.succeeds(&["train", "--resume", "run", "--epochs", "4"]);
}

/// A run of several documents from before `data.validation` existed keeps its split, the end of the whole text.
#[test]
fn an_older_run_of_several_documents_keeps_its_split() {
    let place = Place::new();
    let story = place.text("story.txt");
    for (name, text) in [("a", &story[..600]), ("b", &story[600..])] {
        place.write(&format!("notes/{name}.txt"), text);
    }
    let args = train(&["--data", "notes", "--set", "data.validation=end"]);
    place.succeeds(&args);
    let older = |file: &str| {
        let text = place.text(file);
        assert!(text.contains("validation = \"end\"\n"));
        place.write(file, text.replace("validation = \"end\"\n", ""));
    };
    older("run/config.toml");
    let checkpoint = "run/checkpoints/step-000016";
    older(&format!("{checkpoint}/config.toml"));
    let mut sums: serde_json::Value =
        serde_json::from_str(&place.text(&format!("{checkpoint}/checksums.json"))).unwrap();
    let bytes = place.read(&format!("{checkpoint}/config.toml"));
    let crc32 = format!("{:08x}", crc32fast::hash(&bytes));
    sums["config.toml"] = serde_json::json!({ "file_bytes": bytes.len(), "crc32": crc32 });
    place.write(&format!("{checkpoint}/checksums.json"), sums.to_string());
    place.succeeds(&["train", "--resume", "run", "--epochs", "3"]);
    assert!(place.text("run/config.toml").contains("validation = \"end\"\n"));
    place.fails(
        &["train", "--resume", "run", "--epochs", "4", "--set", "data.validation=documents"],
        1,
        &["data.validation is \"documents\", the checkpoint has \"end\""],
    );
}

#[test]
fn a_folder_without_a_run() {
    let place = Place::new();
    place.fails(&["train", "--resume", "nowhere"], 1, &["nowhere: no such file or folder", "hint: give the folder"]);
    place.write("folder/file", "");
    place.fails(&["train", "--resume", "folder"], 1, &["folder holds no run", "hint: give the folder of a run"]);
}

#[test]
fn a_run_with_a_damaged_config() {
    let place = Place::with_run();
    let config = place.text("run/config.toml");
    place.write("run/config.toml", &config[..config.len() / 2]);
    place.fails(&["train", "--resume", "run"], 1, &["run/config.toml"]);
    place.write("run/config.toml", format!("colour = 1\n{config}"));
    place.fails(&["train", "--resume", "run"], 1, &["run/config.toml", "unknown field `colour`"]);
}
