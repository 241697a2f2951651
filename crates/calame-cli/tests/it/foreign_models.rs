//! Models that other programs saved, in every verb: the number of heads, runs by their name, paths without anything, ids that
//! end texts, tokenizers that do not fit.

use std::path::Path;

use calame::tokenizer::{SimpleTokenizer, Tokenizer};
use serde_json::{Value, json};

use crate::program::{Outcome, Place};

/// A place with a run, and its weights alone in `alone.safetensors`: nothing states their number of heads.
fn with_weights_alone() -> Place {
    let place = Place::with_run();
    place.write("alone.safetensors", place.read("run/model/model.safetensors"));
    place
}

/// Every verb that reads a model, with its arguments for the model `name`.
fn verbs(name: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["generate", "--model", name, "--tokens", "2"],
        vec!["eval", "--model", name, "--data", "story.txt"],
        vec!["chat", "--model", name],
        vec!["strategies", "The lamp", "--model", name, "--tokens", "2"],
        vec!["explain", "The lamp", "--model", name],
        vec!["logits", name, "--ids", "1,2", "--json"],
        vec!["inspect", name],
        vec!["export", name, "--to", "gguf", "--out", "out.gguf"],
        train(name),
        [&["plan"], &train(name)[1..3], &train(name)[5..]].concat(),
    ]
}

fn train(name: &str) -> Vec<&str> {
    let text = [
        "--data",
        "story.txt",
        "--window",
        "8",
        "--stride",
        "8",
        "--threads",
        "1",
        "--set",
        "tokenizer.kind=simple-v2",
    ];
    let sample = ["--set", "sample.max_tokens=0", "--set", "train.epochs=1"];
    [&["train", "--init-from", name, "--run", "new"], &text[..], &sample[..]].concat()
}

#[test]
fn every_verb_asks_for_an_unknown_number_of_heads() {
    let place = with_weights_alone();
    for args in verbs("alone.safetensors") {
        let expected = ["alone.safetensors: the number of attention heads is unknown", "hint: give it with --n-head N"];
        place.fails(&args, 1, &expected);
    }
    for args in verbs("alone.safetensors") {
        let outcome = place.run(&[&args[..], &["--n-head", "2"]].concat());
        match args[0] {
            // Weights alone have no tokenizer.
            "generate" | "eval" | "chat" | "strategies" | "explain" => {
                outcome.is_error(1, &["alone.safetensors has no tokenizer.json"]);
            }
            _ => assert_eq!(outcome.code, Some(0), "{outcome:#?}"),
        }
    }
    let logits = |args: &[&str]| place.succeeds(&[&["logits"], args, &["--ids", "1,2,3", "--json"]].concat()).stdout;
    assert_eq!(logits(&["alone.safetensors", "--n-head", "2"]), logits(&["run"]));
    assert_ne!(logits(&["alone.safetensors", "--n-head", "4"]), logits(&["run"]));
    // The settings of that training state the number, so they can be used again.
    let again = ["train", "--config", "new/config.toml", "--run", "again", "--set", "tokenizer.kind=simple-v2"];
    place.succeeds(&again);
}

#[test]
fn a_number_of_heads_that_contradicts_the_files_is_refused() {
    let place = Place::with_run();
    for args in verbs("run") {
        place.fails(&[&args[..], &["--n-head", "4"]].concat(), 1, &["run/model: the model has 2 heads, --n-head is 4"]);
    }
    let new = ["train", "--n-head", "4", "--data", "story.txt", "--run", "new"];
    place.fails(&new, 2, &["--n-head describes the model of --init-from", "--set model.n_head=N"]);
}

/// A verb that is added later and takes a model must have the flag too.
#[test]
fn every_verb_that_takes_a_model_has_the_flag() {
    let place = Place::new();
    let help = place.succeeds(&["--help"]).stdout;
    // A verb is indented by two characters, the rest of its description by more.
    let verb = |line: &'_ str| {
        let word = line.strip_prefix("  ")?.split(' ').next()?.to_owned();
        word.starts_with(|c: char| c.is_ascii_lowercase()).then_some(word)
    };
    let list = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let verbs: Vec<String> = list.lines().filter_map(verb).collect();
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    assert!(verbs.contains(&"generate") && verbs.contains(&"train"), "{verbs:?}");
    let mut n_found = 0;
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        let help = place.succeeds(&[verb, "--help"]).stdout;
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.contains("--init-from <MODEL>") || words.contains("--model <MODEL>") || words.contains("<MODEL> A run")
        {
            assert!(words.contains("--n-head <N>"), "{verb}: {help}");
            n_found += 1;
        }
    }
    assert_eq!(n_found, 10);
}

/// The files that PyTorch wrote: one states its heads in an object of the script, one nowhere.
#[test]
fn a_script_s_own_objects_beside_the_weights() {
    let place = Place::new();
    let odd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/odd");
    let path = |name: &str| odd.join(name).to_str().unwrap().to_owned();
    let logits = |args: &[&str]| place.succeeds(&[&["logits"], args, &["--ids", "1,4,0,2", "--json"]].concat());
    let found = logits(&[&path("dataclass.pt")]);
    assert!(found.stderr.contains("objects of __main__.GPTConfig"), "{found:?}");
    assert_eq!(found.stdout, logits(&[&path("prefix.pt"), "--n-head", "2"]).stdout);
    let outcome = place.run(&["inspect", &path("prefix.pt")]);
    outcome.is_error(1, &["prefix.pt: the number of attention heads is unknown", "--n-head N"]);
    let inspected = place.succeeds(&["inspect", &path("lightning.ckpt")]).stdout;
    assert!(
        inspected.contains("note        ") && inspected.contains("tensors without elements are ignored: 2"),
        "{inspected}"
    );
}

// Names.

#[test]
fn runs_are_found_by_their_name() {
    let place = Place::with_run();
    place.copy(&place.path("run"), "runs/mine");
    place.copy(&place.path("run"), "runs/other");
    for args in verbs("mine") {
        place.succeeds(&args);
    }
    place.succeeds(&["plot", "mine"]);
    assert!(place.exists("runs/mine/loss-plot.pdf"));
    place.succeeds(&["compare", "mine", "other"]);
    place.succeeds(&["tokenize", "--tokenizer", "mine", "the lamp"]);
    let resume = ["train", "--resume", "mine"];
    place.fails(&resume, 1, &["runs/mine is finished", "--epochs 4"]);
    // What exists at the path itself comes first.
    place.write("mine", "a text");
    place.fails(&["inspect", "mine"], 1, &["mine holds no model"]);
}

#[test]
fn a_path_without_anything_is_said_to_be_missing() {
    let place = Place::with_run();
    // Without a network: a name that goes to the hub would take its error from there.
    let missing = |args: &[&str], name: &str| {
        let outcome = Outcome::of(place.command(args).env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap());
        outcome.is_error(1, &[&format!("error: {name}: no such file or folder")]);
        outcome
    };
    for name in ["nowhere", "runs/none", "out/none", "a/b/none", "./none/there", "none.gguf", "/none/there"] {
        for args in verbs(name) {
            let outcome = missing(&args, name);
            assert!(!outcome.stderr.contains("downloaded"), "{name}: {outcome:?}");
        }
    }
    // A plausible name on the hub says so after that.
    for args in verbs("someone/none") {
        assert!(missing(&args, "someone/none").stderr.contains("it cannot be downloaded as a model of the hub"));
    }
    place.fails(&["tokenize", "--tokenizer", "nowhere", "a"], 1, &["'nowhere': no such file or folder"]);
}

// Texts.

#[test]
fn generation_stops_at_the_models_own_ends() {
    let place = Place::with_run();
    let generate = |more: &[&str]| {
        let outcome = place.succeeds(&[&["generate", "--model", "run", "--tokens", "8", "--json"], more].concat());
        serde_json::from_str::<Value>(&outcome.stdout).unwrap()
    };
    let all = generate(&["--ignore-end"]);
    let first = all["tokens"][0].as_u64().unwrap();
    place.write("run/model/generation_config.json", json!({ "eos_token_id": [0, first] }).to_string());
    let stopped = generate(&[]);
    assert_eq!((&stopped["tokens"], &stopped["end_of_text"]), (&json!([first]), &json!(true)));
    for flag in ["--ignore-end", "--ignore-eos"] {
        assert_eq!(generate(&[flag])["tokens"], all["tokens"]);
    }
    // An empty prompt starts at the model's own beginning.
    place.write("run/model/generation_config.json", json!({ "bos_token_id": 3, "eos_token_id": null }).to_string());
    let inspected = place.succeeds(&["inspect", "run"]).stdout;
    assert!(inspected.contains("texts       begin with id 3, end with id "), "{inspected}");
    let begun = place.succeeds(&["generate", "--model", "run", "--tokens", "0", "--context", ""]).stdout;
    let third = place.succeeds(&["tokenize", "--tokenizer", "run", "--decode", "3"]).stdout;
    assert_eq!(begun, third);
}

/// Only texts need a tokenizer; each verb that needs one says why it cannot be used.
#[test]
fn an_unusable_tokenizer_blocks_only_what_needs_text() {
    let place = Place::with_run();
    let logits = |model: &str| place.succeeds(&["logits", model, "--ids", "1,2", "--json"]).stdout;
    let expected = logits("run");
    for bad in ["", "{\"model\": {\"type\": \"Unigram\"}}", "[]"] {
        place.write("run/model/tokenizer.json", bad);
        assert_eq!(logits("run"), expected);
        let inspected = place.succeeds(&["inspect", "run"]).stdout;
        assert!(inspected.contains("tokenizer   cannot be used"), "{inspected}");
        let exported = place.succeeds(&["export", "run", "--to", "pt", "--out", "out.pt", "--force"]).stdout;
        assert!(exported.contains("note     the tokenizer is left out, it cannot be used"), "{exported}");
        for args in verbs("run").iter().filter(|args| ["generate", "eval", "train", "plan"].contains(&args[0])) {
            place.fails(args, 1, &["run/model/tokenizer.json"]);
        }
    }
}

#[test]
fn ids_that_the_model_lacks_are_refused_and_no_others() {
    let place = Place::with_run();
    // One word more than the model has tokens: the last token, for unknown words, has no row.
    let tokenizer = SimpleTokenizer::v2(&format!("{} zzz", place.text("story.txt"))).unwrap();
    place.write("run/model/tokenizer.json", tokenizer.to_json());
    let mut config: Value = serde_json::from_str(&place.text("run/model/config.json")).unwrap();
    config["calame"]["tokenizer_sha256"] = json!(null);
    place.write("run/model/config.json", config.to_string());
    place.write("zebra.txt", "The zebra in the harbour, and the lamp. ".repeat(20));
    let of = |data: &'static str| ["eval", "--model", "run", "--data", data];
    let outcome = place.succeeds(&of("story.txt"));
    assert!(outcome.stderr.contains("a text that needs one of the others is refused"), "{outcome:?}");
    place.fails(&of("zebra.txt"), 1, &["token ", "of the text, at position 1, is not one of the"]);
    let mut args = train("run");
    args.retain(|arg| *arg != "tokenizer.kind=simple-v2");
    args.remove(args.iter().position(|arg| *arg == "--set").unwrap());
    place.succeeds(&args);
    let with_zebra: Vec<&str> = args.iter().map(|arg| if *arg == "story.txt" { "zebra.txt" } else { arg }).collect();
    place.fails(&[&with_zebra[..], &["--overwrite"]].concat(), 1, &["the text needs the token", "<|unk|>"]);
    let prompt = ["generate", "--model", "run", "--context", "The zebra"];
    place.fails(&prompt, 1, &["is not one of the model's"]);
}
