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

/// Other names of the formats, as people type them.
const NAMES: [(&str, &[&str]); 4] = [
    ("safetensors", &["hf", "huggingface", "HuggingFace", "hugging-face", "transformers"]),
    ("pt", &["pytorch", "PyTorch", "torch"]),
    ("gguf", &["llama.cpp", "llamacpp", "llama-cpp", "GGUF"]),
    ("onnx", &["onnxruntime", "ONNX"]),
];

#[test]
fn formats_have_the_names_that_people_type() {
    let place = Place::with_run();
    for (name, others) in NAMES {
        for other in others {
            let out = format!("out-{other}");
            let outcome = place.succeeds(&["export", "run", "--to", other, "--out", &out, "--json"]);
            let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!(json["to"], name, "{other}");
        }
    }
}

/// The formats of numbers, their other names, and their bytes.
const TYPES: [(&str, &[&str], &str); 2] =
    [("f16", &["fp16", "float16", "F16"], "F16"), ("bf16", &["bfloat16", "BF16"], "BF16")];

#[test]
fn numbers_of_sixteen_bits_halve_the_file_and_are_the_models_rounded() {
    let place = Place::with_run();
    for (to, out) in [("safetensors", "out"), ("gguf", "out.gguf")] {
        let export = |outtype: &str| {
            let args = ["export", "run", "--to", to, "--outtype", outtype, "--out", out, "--force", "--json"];
            serde_json::from_str::<Value>(&place.succeeds(&args).stdout).unwrap()
        };
        let bytes = || {
            let inspected = place.succeeds(&["inspect", out, "--json"]).stdout;
            let inspected: Value = serde_json::from_str(&inspected).unwrap();
            let tensors = inspected["tensors"].as_array().unwrap().clone();
            (tensors.iter().map(|t| t["bytes"].as_u64().unwrap()).sum::<u64>(), tensors)
        };
        assert_eq!(export("f32")["outtype"], "f32");
        let (whole, _) = bytes();
        for (outtype, others, stored) in TYPES {
            for name in [&[outtype], others].concat() {
                let written = export(name);
                assert_eq!(written["outtype"], outtype);
                let difference = written["largest_difference"].as_f64().unwrap();
                assert!(difference > 0.0 && difference < 0.1, "{to} {outtype}: {difference}");
                let (half, tensors) = bytes();
                assert!(half < whole * 3 / 5, "{to} {outtype}: {half} of {whole}");
                assert!(tensors.iter().any(|t| t["dtype"] == stored), "{tensors:?}");
            }
        }
    }
    let config: Value = serde_json::from_str(&place.text("out/config.json")).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    for to in ["pt", "onnx"] {
        let args = ["export", "run", "--to", to, "--outtype", "bf16"];
        place.fails(&args, 2, &["--outtype bf16", "writes f32 only", "hint: ", "safetensors or gguf"]);
    }
    let args = ["export", "run", "--to", "gguf", "--outtype", "int4"];
    place.fails(&args, 2, &["int4", "expected one of f32, f16, bf16, q8_0"]);
}

#[test]
fn existing_files_are_kept() {
    let place = Place::with_run();
    place.write("there/notes.txt", "mine");
    let export = ["export", "run", "--to", "safetensors", "--out", "there"];
    place.fails(&export, 1, &["there exists", "hint: choose another --out, or replace it with --force"]);
    assert_eq!(place.text("there/notes.txt"), "mine");
    // Not even with --force: calame has not written it.
    let force = [&export[..], &["--force"]].concat();
    place.fails(
        &force,
        1,
        &["there exists already, and is not replaced: it has no config.json that calame has written"],
    );
    place.succeeds(&["export", "run", "--to", "safetensors", "--out", "here"]);
    let force = ["export", "run", "--to", "safetensors", "--out", "here", "--force"];
    place.succeeds(&force);
    place.write("here/README.md", "what I have found out about it");
    place.fails(
        &force,
        1,
        &["here exists already, and is not replaced: it contains README.md", "hint: choose another --out"],
    );
    let other = ["export", "run", "--to", "onnx", "--out", "here", "--force"];
    place.fails(&other, 1, &["it contains README.md"]);
    std::fs::remove_file(place.path("here/README.md")).unwrap();
    place.succeeds(&other);
    assert!(place.exists("here/model.onnx") && !place.exists("here/model.safetensors"));
}

/// --force replaces a file of each format only if calame has written it, and never the model that is exported.
#[test]
fn files_of_others_are_kept() {
    let place = Place::with_run();
    for (to, out) in FORMATS {
        place.succeeds(&["export", "run", "--to", to]);
        place.succeeds(&["export", "run", "--to", to, "--force"]);
        place.fails(&["export", out, "--to", to, "--out", out, "--force"], 1, &[out, "is the model to be exported"]);
        let foreign = format!("foreign{out}");
        place.write(&foreign, "the only copy of a letter");
        place.fails(&["export", "run", "--to", to, "--out", &foreign, "--force"], 1, &["is not replaced"]);
    }
    // A file of the format, but of another program.
    for (to, out, mark) in [("gguf", "run.gguf", &b"calame.version"[..]), ("pt", "run.pt", b"calame.json")] {
        let bytes = place.read(out);
        let other: Vec<u8> = mark.iter().map(|byte| if *byte == b'c' { b'k' } else { *byte }).collect();
        let mut foreign = bytes.clone();
        for at in 0..bytes.len() - mark.len() {
            if bytes[at..].starts_with(mark) {
                foreign[at..at + mark.len()].copy_from_slice(&other);
            }
        }
        assert!(foreign != bytes);
        place.write(out, foreign);
        place.fails(&["export", "run", "--to", to, "--force"], 1, &[out, "is not replaced: calame has not written it"]);
    }
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
