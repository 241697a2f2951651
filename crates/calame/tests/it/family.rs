//! Every setting of the GPT-2 family, compared with transformers (golden/family.py): reading, training, decoding, export.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use calame::formats::{
    KnownSettings, ModelFile, SavedModel, load_model, save_model, verify_onnx, write_gguf, write_hugging_face,
    write_onnx, write_torch,
};
use calame::model::{
    Activation, Batch, BatchSlices, Dropout, ExtendScratch, Gpt, Gradients, KvPool, ModelConfig, Preset, ReturnAll,
    Rows, Saved, Scratch, Trainable, n_pages,
};
use calame::ops::{Device, Isa, Precision};
use calame::tensor::Alloc;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::golden::{f32s, folder as golden, largest, largest_difference};
use crate::support::{bits, values};

/// Loads one of these models from a file that does not state its number of heads.
fn with_heads(path: &Path) -> SavedModel {
    ModelFile::open_with(path, KnownSettings { n_head: Some(3) }).unwrap().load().unwrap()
}

/// The folders of golden/family, and how each differs from OpenAI's GPT-2.
fn cases() -> Vec<(PathBuf, ModelConfig)> {
    let base = ModelConfig {
        vocab_size: 19,
        n_positions: 10,
        n_embd: 12,
        n_head: 3,
        n_layer: 3,
        dropout: 0.0,
        ..Preset::Gpt2.config()
    };
    let cases = [
        ("gelu", ModelConfig { activation: Activation::Gelu, ..base.clone() }),
        ("gelu-fast", base.clone()),
        ("gelu-pytorch-tanh", base.clone()),
        ("relu", ModelConfig { activation: Activation::Relu, ..base.clone() }),
        ("inner", ModelConfig { n_inner: Some(20), ..base.clone() }),
        ("epsilon", ModelConfig { layer_norm_epsilon: 1e-2, ..base.clone() }),
        ("unscaled", ModelConfig { scale_attn_weights: false, ..base.clone() }),
        ("by-layer", ModelConfig { scale_attn_by_inverse_layer_idx: true, ..base.clone() }),
        ("untied", ModelConfig { tied_head: false, ..base.clone() }),
        ("no-bias", ModelConfig { bias: false, qkv_bias: false, ..base.clone() }),
        (
            "everything",
            ModelConfig {
                activation: Activation::Gelu,
                n_inner: Some(31),
                layer_norm_epsilon: 1e-3,
                scale_attn_weights: false,
                scale_attn_by_inverse_layer_idx: true,
                tied_head: false,
                ..base.clone()
            },
        ),
    ];
    let family = golden().join("family");
    let n_folders = fs::read_dir(&family).unwrap().count();
    assert_eq!(n_folders, cases.len(), "a folder of {} is not tested", family.display());
    cases.into_iter().map(|(name, config)| (family.join(name), config)).collect()
}

/// What PyTorch computed for a case: `logits`, `loss` and `grad.NAME`.
struct Results {
    tensors: HashMap<String, Vec<f32>>,
    n_sequences: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl Results {
    fn read(folder: &Path) -> Results {
        let bytes = fs::read(folder.join("results.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = file.tensor("tokens").unwrap();
        let (n_sequences, row) = (tokens.shape()[0], tokens.shape()[1]);
        let ids: Vec<u32> = tokens.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        let rows = || ids.chunks_exact(row);
        Results {
            tensors: file
                .tensors()
                .into_iter()
                .filter(|(_, t)| t.dtype() == Dtype::F32)
                .map(|(name, t)| (name, f32s(t.data())))
                .collect(),
            n_sequences,
            inputs: rows().flat_map(|row| row[..row.len() - 1].to_vec()).collect(),
            targets: rows().flat_map(|row| row[1..].to_vec()).collect(),
        }
    }

    fn logits(&self) -> &[f32] {
        &self.tensors["logits"]
    }
}

fn devices() -> impl Iterator<Item = Device> {
    Isa::available().into_iter().map(|isa| Device::cpu(2, isa, Precision::F32))
}

fn one_device() -> Device {
    Device::cpu(2, Isa::detect(), Precision::F32)
}

#[test]
fn logits_are_those_of_transformers() {
    for (folder, config) in cases() {
        let (saved, results) = (load_model(&folder).unwrap(), Results::read(&folder));
        assert_eq!(saved.gpt.config, config, "{}", folder.display());
        for dev in devices() {
            let logits = values(&saved.gpt.logits(&dev, &results.inputs, results.n_sequences));
            let difference = largest_difference(&logits, results.logits());
            assert!(difference <= 1e-5, "{}: logits differ by {difference:e} under {}", folder.display(), dev.isa());
        }
    }
}

/// The class: a reader of the bare file that overlooks one key of config.json gives other logits.
#[test]
fn a_file_of_weights_honours_the_whole_config_next_to_it() {
    for (folder, config) in cases() {
        let whole = load_model(&folder).unwrap().gpt;
        let file = load_model(&folder.join("model.safetensors")).unwrap();
        assert_eq!(file.gpt.config, config, "{}", folder.display());
        assert!(file.notes.iter().all(|note| !note.contains("heads")), "{:?}", file.notes);
        assert_eq!(bits(&file.gpt), bits(&whole));
    }
}

#[test]
fn gradients_are_those_of_pytorch() {
    for (folder, config) in cases() {
        let results = Results::read(&folder);
        for dev in devices() {
            let (mut gpt, alloc) = (load_model(&folder).unwrap().gpt, &mut Alloc::on(&dev));
            let (b, n_rows) = (results.n_sequences, results.inputs.len());
            let mut grads = Gradients::new(&gpt, None, Trainable::ALL, config.n_layer, alloc);
            let mut saved = Saved::for_training(&config, b, n_rows / b, alloc);
            let mut scratch = Scratch::new(&config, n_rows, alloc);
            let mut batch = Batch::new(n_rows, alloc);
            batch.load(&dev, BatchSlices::new(&results.inputs, &results.targets, b));
            let scale = 1.0 / n_rows as f32;
            let (drop, sink) = (Dropout::Off, &mut ReturnAll);
            let sum = gpt.forward_backward(&dev, &batch, &drop, scale, &mut grads, &mut saved, &mut scratch, sink);
            assert!((sum / n_rows as f64 - f64::from(results.tensors["loss"][0])).abs() <= 1e-6);
            let mut n_compared = 0;
            for (name, tensor) in grads.tensors().filter(|(_, t)| !t.is_empty()) {
                let want = &results.tensors[&format!("grad.{name}")];
                let difference = largest_difference(&values(tensor), want);
                assert!(
                    difference <= 1e-4 * largest(want),
                    "{}: gradient of {name} differs by {difference:e} of {:e} under {}",
                    folder.display(),
                    largest(want),
                    dev.isa()
                );
                n_compared += 1;
            }
            let n_gradients = results.tensors.keys().filter(|name| name.starts_with("grad.")).count();
            assert_eq!(n_compared, n_gradients, "{}", folder.display());
        }
    }
}

#[test]
fn decoding_is_the_full_forward() {
    for (folder, config) in cases() {
        let (gpt, results) = (load_model(&folder).unwrap().gpt, Results::read(&folder));
        for dev in devices() {
            let alloc = &mut Alloc::on(&dev);
            let mut pool = KvPool::new(&config, n_pages(config.n_positions), alloc);
            let mut tables = [pool.new_table()];
            let mut scratch = ExtendScratch::new(&config, 1, 1, 0, alloc);
            let mut logits = alloc.zeros([1, config.vocab_size]);
            let ids = &results.inputs[..results.inputs.len() / results.n_sequences];
            for (&id, want) in ids.iter().zip(results.logits().chunks_exact(config.vocab_size)) {
                let mut rows = Rows::new();
                rows.push(0, id, true);
                gpt.extend(&dev, &rows, &mut tables, &mut pool, &mut logits, &mut scratch).unwrap();
                let difference = largest_difference(&values(&logits), want);
                assert!(difference <= 1e-5, "{}: {difference:e} under {}", folder.display(), dev.isa());
            }
        }
    }
}

/// A format carries every setting, so that the model read back is the same, or refuses it with a remedy.
#[test]
fn exports_carry_every_setting_or_refuse_it() {
    let mut refused = Vec::new();
    for (folder, config) in cases() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let (model, gpt) = (ModelFile::open(&folder).unwrap(), load_model(&folder).unwrap().gpt);
        let parent = tempfile::tempdir().unwrap();
        let out = |name: &str| parent.path().join(name);
        save_model(&out("saved"), &gpt, None).unwrap();
        write_hugging_face(&out("hf"), &model).unwrap();
        let weights = |folder: &str| fs::read(out(folder).join("model.safetensors")).unwrap();
        assert!(weights("saved") == weights("hf"), "{name}");
        let settings = |folder: &str| -> Value {
            let mut json: Value = serde_json::from_slice(&fs::read(out(folder).join("config.json")).unwrap()).unwrap();
            // A GPT alone has no ids that begin and end its texts.
            for key in ["bos_token_id", "eos_token_id"] {
                json.as_object_mut().unwrap().remove(key);
            }
            json
        };
        assert_eq!(settings("saved"), settings("hf"), "{name}");
        let notes = write_torch(&out("model.pt"), &model).unwrap();
        let differs_from_the_book = !["untied", "gelu-fast", "gelu-pytorch-tanh"].contains(&&*name);
        assert_eq!(!notes.is_empty(), differs_from_the_book, "{name}: {notes:?}");
        write_onnx(&out("onnx"), &model).unwrap();
        verify_onnx(&out("onnx"), &model).unwrap();
        let mut files = vec![out("hf"), out("model.pt")];
        match write_gguf(&out("model.gguf"), &model) {
            Ok(_) => files.push(out("model.gguf")),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("model.gguf: GGUF cannot hold a model with"), "{message}");
                assert!(message.contains("export to safetensors or onnx") && !out("model.gguf").exists(), "{message}");
                refused.push(name.clone());
            }
        }
        for path in files {
            let back = load_model(&path).unwrap();
            assert_eq!((&back.gpt.config, bits(&back.gpt)), (&config, bits(&gpt)), "{}: {name}", path.display());
        }
        // Other programs read the file as this configuration says.
        let written: Value = serde_json::from_slice(&fs::read(out("hf").join("config.json")).unwrap()).unwrap();
        let theirs: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        for key in ["n_inner", "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"] {
            assert_eq!(written[key], theirs[key], "{name}: {key}");
        }
    }
    assert_eq!(refused, ["gelu", "relu", "unscaled", "by-layer", "everything"]);
}

/// The graph of every setting: which operators and constants it consists of.
#[test]
fn onnx_graphs_follow_the_settings() {
    let uses = |case: &str, word: &str| {
        let parent = tempfile::tempdir().unwrap();
        write_onnx(&parent.path().join("onnx"), &ModelFile::open(&golden().join("family").join(case)).unwrap())
            .unwrap();
        let graph = fs::read(parent.path().join("onnx/model.onnx")).unwrap();
        graph.windows(word.len()).any(|bytes| bytes == word.as_bytes())
    };
    assert!(uses("relu", "Relu") && !uses("relu", "Tanh") && !uses("relu", "Erf"));
    assert!(uses("gelu", "Erf") && !uses("gelu", "Tanh"));
    assert!(uses("inner", "Tanh") && !uses("inner", "Erf"));
    assert!(uses("by-layer", "query.scale.2") && !uses("unscaled", "query.scale.0"));
    assert!(!uses("no-bias", ".bias") && uses("inner", "ln_f.bias"));
}

#[test]
fn nanogpt_without_biases() {
    let folder = golden().join("family/no-bias");
    let parent = tempfile::tempdir().unwrap();
    // Away from its config.json, which the checkpoint does not need.
    let path = parent.path().join("ckpt.pt");
    fs::copy(folder.join("ckpt.pt"), &path).unwrap();
    for path in [path, parent.path().to_owned()] {
        let saved = load_model(&path).unwrap();
        assert!(saved.notes.is_empty(), "{:?}", saved.notes);
        let whole = load_model(&folder).unwrap().gpt;
        assert_eq!((&saved.gpt.config, bits(&saved.gpt)), (&whole.config, bits(&whole)));
    }
    // Without its settings, the heads of the configuration next to it.
    fs::copy(folder.join("config.json"), parent.path().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(parent.path().join("config.json")).unwrap()).unwrap();
    config["n_head"] = json!(4);
    fs::write(parent.path().join("config.json"), config.to_string()).unwrap();
    let message = load_model(&parent.path().join("ckpt.pt")).err().unwrap().to_string();
    assert!(message.contains("n_head is 4: expected 3, as ckpt.pt itself says"), "{message}");
}

/// A folder with the tensors and the configuration of a case, changed.
fn changed(
    case: &str,
    change_config: impl FnOnce(&mut Value),
    more: &[(&str, &[usize], Vec<f32>)],
) -> (tempfile::TempDir, PathBuf) {
    let (from, parent) = (golden().join("family").join(case), tempfile::tempdir().unwrap());
    let folder = parent.path().join("model");
    fs::create_dir(&folder).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    change_config(&mut config);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let more: Vec<(String, Vec<usize>, Vec<u8>)> = more
        .iter()
        .map(|(name, shape, x)| ((*name).to_owned(), shape.to_vec(), x.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let added = more.iter().map(|(name, shape, x)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), x).expect("as many elements as the shape has"))
    });
    let all: HashMap<String, TensorView<'_>> = file.tensors().into_iter().chain(added).collect();
    let bytes = safetensors::serialize(all, None).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    (parent, folder)
}

fn token_embedding(case: &str) -> Vec<f32> {
    values(&load_model(&golden().join("family").join(case)).unwrap().gpt.wte)
}

#[test]
fn a_stored_head_decides_whether_it_is_tied() {
    let wte = token_embedding("inner");
    let other: Vec<f32> = wte.iter().map(|x| x + 0.5).collect();
    for says in [json!(true), Value::Null] {
        let set = |config: &mut Value| config["tie_word_embeddings"] = says.clone();
        let (_parent, folder) = changed("inner", set, &[("lm_head.weight", &[19, 12], other.clone())]);
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let saved = load_model(&path).unwrap();
            assert_eq!((saved.gpt.config.tied_head, values(&saved.gpt.lm_head)), (false, other.clone()));
            let note = &saved.notes[0];
            assert!(note.contains("lm_head.weight differs from transformer.wte.weight"), "{note}");
        }
        let (_parent, folder) = changed("inner", set, &[("lm_head.weight", &[19, 12], wte.clone())]);
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let saved = load_model(&path).unwrap();
            assert!(saved.gpt.config.tied_head && saved.notes.iter().all(|note| !note.contains("lm_head")));
        }
    }
    // A head that is said to be the model's own stays so, even with the same numbers; a missing one is an error.
    let own = |config: &mut Value| config["tie_word_embeddings"] = json!(false);
    let (_parent, folder) = changed("inner", own, &[("lm_head.weight", &[19, 12], wte.clone())]);
    assert!(!load_model(&folder).unwrap().gpt.config.tied_head);
    let (_parent, folder) = changed("inner", own, &[]);
    assert!(load_model(&folder).err().unwrap().to_string().contains("missing: lm_head.weight"));
    // Without a configuration nothing is claimed: no note.
    let (_parent, folder) = changed("inner", |_| {}, &[("lm_head.weight", &[19, 12], other)]);
    fs::remove_file(folder.join("config.json")).unwrap();
    let saved = with_heads(&folder.join("model.safetensors"));
    assert!(!saved.gpt.config.tied_head && saved.notes.iter().all(|note| !note.contains("lm_head")));
}

#[test]
fn configurations_by_other_names_are_the_same_model() {
    let want = load_model(&golden().join("family/inner")).unwrap().gpt;
    let renamed = |names: &[(&'static str, &'static str)]| {
        let names = names.to_vec();
        move |config: &mut Value| {
            for (from, to) in names {
                let value = config.as_object_mut().unwrap().remove(from).unwrap();
                if !to.is_empty() {
                    config[to] = value;
                }
            }
        }
    };
    let aliases = [
        ("n_embd", "hidden_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
    ];
    let general = [("n_inner", "intermediate_size"), ("activation_function", "hidden_act"), ("model_type", "")];
    for names in [
        &aliases[..],
        &[("model_type", "")],
        &[("model_type", ""), ("architectures", "")],
        &[("n_positions", "n_ctx")],
        &[("vocab_size", ""), ("n_layer", ""), ("n_embd", ""), ("n_positions", ""), ("n_inner", "")],
        &[&aliases[..], &general[..], &[("architectures", ""), ("layer_norm_epsilon", "layer_norm_eps")]].concat(),
    ] {
        let (_parent, folder) = changed("inner", renamed(names), &[]);
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let saved = load_model(&path).unwrap_or_else(|error| panic!("{names:?}: {error}"));
            assert_eq!((&saved.gpt.config, bits(&saved.gpt)), (&want.config, bits(&want)), "{names:?}");
        }
    }
    // GPT2Config ignores another family's names.
    let (_parent, folder) = changed("inner", |config| config["hidden_act"] = json!("relu"), &[]);
    assert_eq!(load_model(&folder).unwrap().gpt.config, want.config);
}

#[test]
fn configurations_of_something_else_are_refused_by_key() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 6] = [
        (|config| config["model_type"] = json!("opt"), "model_type is \"opt\""),
        (
            |config| (config["model_type"], config["architectures"]) = (Value::Null, json!(["LlamaForCausalLM"])),
            "architectures is [\"LlamaForCausalLM\"]",
        ),
        (|config| config["num_attention_heads"] = json!(4), "num_attention_heads is 4: expected 3, as n_head says"),
        (|config| config["activation_function"] = json!("quick_gelu"), "activation_function is \"quick_gelu\""),
        (|config| config["scale_attn_by_inverse_layer_idx"] = json!("yes"), "expected true or false"),
        (|config| config["layer_norm_epsilon"] = json!(-1e-5), "layer_norm_epsilon is -0.00001"),
    ];
    for (change, shown) in changes {
        let (_parent, folder) = changed("inner", change, &[]);
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let message = load_model(&path).err().expect("it must be refused").to_string();
            assert!(message.contains(shown) && message.contains("config.json"), "{message}");
        }
    }
}

#[test]
fn a_config_of_another_model_next_to_a_file_is_named() {
    let (_parent, folder) = changed("inner", |config| config["n_embd"] = json!(24), &[]);
    let message = load_model(&folder.join("model.safetensors")).err().unwrap().to_string();
    assert!(
        message.contains("config.json: n_embd is 24: expected 12") && message.contains("another folder"),
        "{message}"
    );
    // One that describes no model is not used, and that is said.
    fs::write(folder.join("config.json"), json!({ "port": 8080 }).to_string()).unwrap();
    let notes = with_heads(&folder.join("model.safetensors")).notes;
    assert!(notes.iter().any(|note| note.contains("config.json describes no model")), "{notes:?}");
}

#[test]
fn models_with_other_heads_are_identified() {
    for (name, class) in [
        ("score.weight", "GPT2ForSequenceClassification"),
        ("classifier.weight", "GPT2ForTokenClassification"),
        ("qa_outputs.weight", "GPT2ForQuestionAnswering"),
    ] {
        let set = |config: &mut Value| config["architectures"] = json!([class]);
        let (_parent, folder) = changed("inner", set, &[(name, &[2, 12], vec![0.5; 24])]);
        for path in [folder.clone(), folder.join("model.safetensors")] {
            let message = ModelFile::open(&path).err().expect("it must be refused").to_string();
            assert!(message.contains(class) && message.contains(&format!("{name} [2, 12]")), "{message}");
            assert!(message.contains("not a language model"), "{message}");
        }
    }
    // A second head beside that of the language model is left out, and that is said.
    let second = [("multiple_choice_head.summary.weight", &[1, 12][..], vec![0.5; 12])];
    let (_parent, folder) = changed("inner", |_| {}, &second);
    let saved = load_model(&folder).unwrap();
    assert!(saved.notes[0].contains("a second head is not used: 1 tensors, multiple_choice_head.summary.weight"));
}

#[test]
fn biases_that_another_program_trained_are_not_lost() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let gpt = load_model(&golden().join("family/no-bias")).unwrap().gpt;
    save_model(&folder, &gpt, None).unwrap();
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"bias\": false", "\"bias\": true")).unwrap();
    // Zeros that are said to be biases are biases.
    let with = load_model(&folder).unwrap().gpt;
    assert!(with.config.bias && !with.ln_f.bias.is_empty());
    fs::write(&path, text).unwrap();
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let at = file.tensor("transformer.h.1.mlp.c_fc.bias").unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[at + 3] = 0x3f;
    fs::write(&weights, bytes).unwrap();
    let message = load_model(&folder).err().unwrap().to_string();
    assert!(message.contains("transformer.h.1.mlp.c_fc.bias is not zero, but calame.bias = false"), "{message}");
}

/// Dropouts that differ are one setting in calame, which is noted.
#[test]
fn different_dropouts_are_noted() {
    let (_parent, folder) = changed("inner", |config| config["attn_pdrop"] = json!(0.25), &[]);
    let saved = load_model(&folder).unwrap();
    assert_eq!(saved.gpt.config.dropout, 0.0);
    assert!(saved.notes[0].contains("attn_pdrop = 0.25"), "{:?}", saved.notes);
}

/// A fresh model with several settings at once overfits one batch.
#[test]
fn every_activation_overfits_one_batch() {
    let dev = one_device();
    for (activation, bias) in [(Activation::Gelu, true), (Activation::Relu, false)] {
        let config = ModelConfig {
            vocab_size: 11,
            n_positions: 16,
            n_embd: 32,
            n_inner: Some(48),
            n_head: 2,
            n_layer: 2,
            dropout: 0.0,
            activation,
            bias,
            scale_attn_by_inverse_layer_idx: true,
            ..Preset::Tiny.config()
        };
        let mut gpt = Gpt::fresh(&dev, &config, 3);
        let ids: Vec<u32> = (0..17).map(|i| i * i % 11).collect();
        let alloc = &mut Alloc::on(&dev);
        let mut grads = Gradients::new(&gpt, None, Trainable::ALL, config.n_layer, alloc);
        let (mut m, mut v) = (gpt.moments(Trainable::ALL, alloc), gpt.moments(Trainable::ALL, alloc));
        let (mut saved, mut scratch) = (Saved::for_training(&config, 1, 16, alloc), Scratch::new(&config, 16, alloc));
        let mut batch = Batch::new(16, alloc);
        batch.load(&dev, BatchSlices::new(&ids[..16], &ids[1..], 1));
        let mut loss = f64::NAN;
        for t in 1..=120 {
            let (drop, sink) = (Dropout::Off, &mut ReturnAll);
            loss = gpt.forward_backward(&dev, &batch, &drop, 1.0 / 16.0, &mut grads, &mut saved, &mut scratch, sink)
                / 16.0;
            let step = calame::ops::AdamWStep {
                lr: 3e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
                bias_correction1: 1.0 - 0.9f32.powi(t),
                bias_correction2: 1.0 - 0.999f32.powi(t),
                grad_scale: 1.0,
            };
            let trees = gpt.tensors_mut().zip(grads.tensors()).zip(m.tensors_mut().zip(v.tensors_mut()));
            for (((_, w), (_, g)), ((_, m), (_, v))) in trees.filter(|(((_, w), _), _)| !w.is_empty()) {
                calame::ops::adamw(&dev, &step, &calame::ops::RowSet::All, w, &mut g.clone(), m, v);
            }
            grads.zero(&dev);
        }
        assert!(loss < 0.05, "{activation}, bias {bias}: loss {loss} after 120 steps");
    }
}
