//! Saved models that are missing, damaged, or not models at all.

use crate::program::{Outcome, Place};

const WEIGHTS: &str = "run/model/model.safetensors";
const CONFIG: &str = "run/model/config.json";

/// Every verb that loads a model refuses it in the same way.
#[track_caller]
fn refused(place: &Place, model: &str, parts: &[&str]) {
    place.fails(&["generate", "--model", model], 1, parts);
    place.fails(&["eval", "--model", model, "--data", "story.txt"], 1, parts);
    place.fails(&["train", "--init-from", model, "--data", "story.txt", "--run", "new"], 1, parts);
}

/// Replaces the last element of the weights' file by `bits`.
fn replace_last_element(place: &Place, bits: u32) {
    let mut bytes = place.read(WEIGHTS);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&bits.to_le_bytes());
    place.write(WEIGHTS, bytes);
}

/// The header of the weights' file.
fn header(place: &Place) -> serde_json::Value {
    let bytes = place.read(WEIGHTS);
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + n]).unwrap()
}

#[test]
fn no_model_at_all() {
    let place = Place::new();
    let expected = ["expected config.json and model.safetensors"];
    refused(&place, "nowhere", &["error: nowhere: no such file or folder", "hint: give a run or its name under runs/"]);

    refused(&place, "story.txt", &[&["story.txt holds no model", "give a run's folder"], &expected[..]].concat());
    place.write("folder/notes.md", "nothing");
    refused(&place, "folder", &[&["folder holds no model", "give a run's folder"], &expected[..]].concat());
    let hints = ["no --model was given", "hint: ", "calame train --preset tiny", "--model RUN_OR_FOLDER"];
    place.fails(&["generate"], 1, &hints);
    place.fails(&["eval", "--data", "story.txt"], 1, &hints);
}

#[test]
fn missing_files() {
    let place = Place::with_run();
    std::fs::remove_file(place.path(WEIGHTS)).unwrap();
    refused(&place, "run", &["cannot open run/model/model.safetensors", "hint: check the path"]);
    let place = Place::with_run();
    std::fs::remove_file(place.path("run/model/tokenizer.json")).unwrap();
    place.fails(&["generate", "--model", "run"], 1, &["run/model has no tokenizer.json", "hint: put the model's"]);
    let eval = ["eval", "--model", "run", "--data", "story.txt"];
    place.fails(&eval, 1, &["run/model has no tokenizer.json", "hint: put the model's"]);
}

#[test]
fn truncated_weights() {
    let place = Place::with_run();
    let whole = place.read(WEIGHTS);
    // Cut within the length, the header and the tensors, and one byte short.
    for n in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        place.write(WEIGHTS, &whole[..n]);
        refused(
            &place,
            "run",
            &[WEIGHTS, "the file is damaged, incomplete or of another format", "copy or download it again"],
        );
    }
    let mut longer = whole;
    longer.push(0);
    place.write(WEIGHTS, longer);
    refused(&place, "run", &[WEIGHTS, "damaged"]);
}

#[test]
fn foreign_weights() {
    let place = Place::with_run();
    place.write(WEIGHTS, "PK\u{3}\u{4}".repeat(1000));
    refused(&place, "run", &[WEIGHTS, "damaged, incomplete or of another format"]);
    // A header that claims more memory than any machine has.
    let claim =
        r#"{"wte.weight":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,64000000000000000000]}}"#;
    place.write(WEIGHTS, [&(claim.len() as u64).to_le_bytes()[..], claim.as_bytes()].concat());
    refused(&place, "run", &[WEIGHTS, "damaged, incomplete or of another format"]);
    // A complete safetensors file that is not a GPT model.
    let other = r#"{"bert.weight":{"dtype":"F32","shape":[4000],"data_offsets":[0,16000]}}"#;
    let bytes = [&(other.len() as u64).to_le_bytes()[..], other.as_bytes(), &[0; 16000]].concat();
    place.write(WEIGHTS, bytes);
    let place_error = place.run(&["generate", "--model", "run"]);
    place_error
        .is_error(1, &[WEIGHTS, "the tensors do not fit the model", "hint: both files must come from one model"]);
}

#[test]
fn a_config_of_a_different_model() {
    let place = Place::with_run();
    let config = place.text(CONFIG);
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from} in {config}");
        place.write(CONFIG, config.replace(from, to));
    };
    with("\"n_layer\": 1", "\"n_layer\": 2");
    refused(&place, "run", &[WEIGHTS, "missing: h.1.ln_1.weight [16]", "hint: both files must come from one model"]);
    with("\"n_layer\": 1", "\"n_layer\": 16000000");
    refused(&place, "run", &[WEIGHTS, "the configuration describes", "hint: both files"]);
    with("\"n_head\": 2", "\"n_head\": 3");
    refused(&place, "run", &[CONFIG, "model.n_head is 3", "1, 2, 4, 8, 16"]);
    with("\"n_embd\": 16", "\"n_embd\": -1");
    refused(&place, "run", &[CONFIG, "n_embd is -1: expected a whole number"]);
    with("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\"");
    refused(&place, "run", &[CONFIG, "model_type is \"llama\": expected \"gpt2\""]);
    place.write(CONFIG, &config[..config.len() / 2]);
    refused(&place, "run", &[CONFIG, "not a valid config.json", "hint: the file is damaged"]);
    place.write(CONFIG, "[]");
    refused(&place, "run", &[CONFIG, "n_head is missing"]);
}

#[test]
fn weights_that_are_not_finite() {
    for bits in [f32::NAN.to_bits(), f32::INFINITY.to_bits(), f32::NEG_INFINITY.to_bits()] {
        let place = Place::with_run();
        replace_last_element(&place, bits);
        let last = header(&place).as_object().unwrap().iter().filter(|(key, _)| *key != "__metadata__").fold(
            (0, String::new()),
            |best, (key, info)| {
                let end = info["data_offsets"][1].as_u64().unwrap();
                if end > best.0 { (end, key.clone()) } else { best }
            },
        );
        let name = last.1.trim_start_matches("transformer.");
        refused(
            &place,
            "run",
            &[WEIGHTS, name, "not finite (NaN or infinite)", "train again with a smaller learning rate"],
        );
    }
}

/// Weights that are finite, but so large that the first loss is not.
#[test]
fn a_training_that_diverges() {
    let place = Place::with_run();
    let mut bytes = place.read(WEIGHTS);
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for element in bytes[start..].chunks_exact_mut(4) {
        element.copy_from_slice(&3e38f32.to_le_bytes());
    }
    place.write(WEIGHTS, bytes);
    let before = place.files();
    let args = ["train", "--init-from", "run", "--data", "story.txt", "--run", "new", "--window", "8"];
    let outcome = place.run(&[&args[..], &["--stride", "8", "--threads", "1"]].concat());
    outcome.is_error(
        1,
        &["step 0: the loss is ", "diverged", "no step was done yet", "hint: start again with a smaller learning rate"],
    );
    let after = place.files();
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)));
    assert!(!place.exists("new/model") && !place.exists("new/checkpoints"));
    // The same weights cannot generate either.
    place.fails(&["generate", "--model", "run"], 1, &["logits are not finite", "weights are damaged"]);
}

/// A step that fails after others that succeeded: the training can be resumed from the weights and moments before it.
#[test]
fn a_training_that_fails_later() {
    let place = Place::with_run();
    let same = "The reed is cut, the reed is cut again. ";
    place.write("odd.txt", [&same.repeat(200), " Quartz jocks vex BDFGH 0123456789! ", &same.repeat(60)].concat());
    let args = ["train", "--config", "tiny.toml", "--run", "new", "--data", "odd.txt", "--set", "data.shuffle=false"];
    let outcome =
        place.run(&[&args[..], &["--set", "guard.z_score=6", "--set", "guard.remedy=back", "--epochs", "1"]].concat());
    let expected = [
        "standard deviations above",
        "diverged",
        "the state before the step is saved",
        "hint: resume with calame train --resume new --set guard.remedy=skip",
    ];
    outcome.is_error(1, &expected);
    assert!(place.exists("new/checkpoints") && !place.exists("new/model"));
    let metrics = String::from_utf8(place.read("new/metrics.jsonl")).unwrap();
    assert!(metrics.lines().last().unwrap().contains("the training ended"), "{metrics}");
    // Do what the hint says.
    place.succeeds(&["train", "--resume", "new", "--set", "guard.remedy=skip"]);
    assert!(place.exists("new/model/model.safetensors"));

    // If there is a checkpoint, the training is resumed from it: from the state before the step, it would fail again.
    let args = [&args[..], &["--overwrite", "--set", "guard.z_score=6", "--set", "guard.remedy=back", "--epochs", "1"]]
        .concat();
    let outcome = place.run(&[&args[..], &["--set", "checkpoint.every_steps=7"]].concat());
    outcome.is_error(
        1,
        &[
            "standard deviations above",
            "the last checkpoint is new/checkpoints/step-0",
            "resume from there with a smaller learning rate",
            "calame train --resume new --lr 5.0e-3",
        ],
    );
    let kept = std::fs::read_dir(place.path("new/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    let steps: Vec<u64> = kept.filter_map(|name| name.to_str().unwrap().strip_prefix("step-")?.parse().ok()).collect();
    assert!(!steps.is_empty() && steps.iter().all(|step| step % 7 == 0), "{steps:?}");
}

#[test]
fn a_different_tokenizer() {
    let place = Place::with_run();
    let own = place.read("run/model/tokenizer.json");
    place.write("other.txt", "Some other words, in some other order. ".repeat(20));
    let other = ["train", "--config", "tiny.toml", "--run", "other", "--data", "other.txt", "--epochs", "1"];
    place.succeeds(&other);
    place.copy(&place.path("other/model"), "kept");
    place.write("run/model/tokenizer.json", place.read("kept/tokenizer.json"));
    let tokenizer = "run/model/tokenizer.json";
    refused(&place, "run", &[tokenizer, "not the tokenizer that the model was trained with", "put the model's own"]);
    place.write(tokenizer, "hello");
    refused(
        &place,
        "run",
        &[tokenizer, "expected a tokenizer.json in Hugging Face's format", "hint: the file is damaged"],
    );
    place.write(tokenizer, &own[..own.len() / 2]);
    refused(&place, "run", &[tokenizer, "expected a tokenizer.json", "hint: the file is damaged"]);
    place.write(tokenizer, own);
    place.succeeds(&["generate", "--model", "run", "--tokens", "1"]);
}

#[test]
fn a_prompt_longer_than_the_context() {
    let place = Place::with_run();
    let long = "lamp ".repeat(17);
    let generate = ["generate", "--model", "run", "--tokens", "2", "--context", &long];
    place.fails(
        &generate,
        1,
        &["the prompt has 17 tokens, the model's context is 16", "hint: shorten it, or add --crop"],
    );
    let cropped = place.succeeds(&[&generate[..], &["--crop"]].concat());
    assert!(cropped.stdout.starts_with(&["lamp"; 16].join(" ")), "{cropped:?}");
    // A prompt that fills the context, and text beyond it over a sliding window.
    let full = "lamp ".repeat(16);
    for slide in ["1", "5", "999"] {
        let args = ["generate", "--model", "run", "--json", "--tokens", "40", "--context", &full, "--slide", slide];
        let outcome = place.succeeds(&[&args[..], &["--ignore-end"]].concat());
        let json: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(json["tokens"].as_array().unwrap().len(), 40, "{outcome:?}");
    }
}

#[test]
fn a_word_that_the_vocabulary_lacks() {
    let place = Place::new();
    let args = crate::program::train(&["--set", "tokenizer.kind=simple-v1", "--epochs", "1"]);
    place.succeeds(&args);
    let parts = ["the prompt", "the word \"zebra\" is not in the vocabulary", "simple-v2"];
    place.fails(&["generate", "--model", "run", "--context", "zebra"], 1, &parts);
    place.write("zebra.txt", "The zebra in the harbour.");
    place.fails(&["eval", "--model", "run", "--data", "zebra.txt"], 1, &["\"zebra\"", "simple-v2"]);
}

#[test]
fn windows_that_a_model_cannot_have() {
    let place = Place::with_run();
    let eval = |more: &[&'static str]| [&["eval", "--model", "run", "--data", "story.txt"], more].concat();
    place.fails(&eval(&["--window", "17"]), 2, &["--window is 17", "hint: it may be 1 to 16"]);
    place.fails(&eval(&["--window", "0"]), 2, &["--window is 0", "hint: it may be 1 to 16"]);
    place.fails(&eval(&["--window", "8", "--stride", "9"]), 2, &["--stride is 9", "hint: it may be 1 to 8"]);
    place.fails(&eval(&["--stride", "0"]), 2, &["--stride is 0", "hint: it may be 1 to 16"]);
}

/// An interrupted run has no model yet. The error says how to finish it.
#[test]
fn a_run_that_is_not_finished() {
    let place = Place::new();
    place.write("run/config.toml", "");
    std::fs::create_dir_all(place.path("run/checkpoints/step-000003")).unwrap();
    let outcome: Outcome = place.run(&["generate", "--model", "run"]);
    outcome.is_error(1, &["run holds no model", "its training was not finished", "calame train --resume run"]);
}
