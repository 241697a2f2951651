//! Agreement with PyTorch's results in golden/, under every instruction set of this machine.

use std::collections::HashMap;
use std::path::PathBuf;

use calame::model::{
    Batch, BatchSlices, Dropout, Gpt, Gradients, ModelConfig, Preset, ReturnAll, Saved, Scratch, Trainable,
};
use calame::ops::{AdamWStep, Device, Isa, Precision, RowSet, adamw};
use calame::tensor::Alloc;
use safetensors::{Dtype, SafeTensors};

use crate::support::{change, values, zeros};

pub struct Golden {
    pub config: ModelConfig,
    tensors: HashMap<String, Vec<f32>>,
    /// Token ids of ten steps, `[10, B, T + 1]`.
    tokens: Vec<Vec<u32>>,
    batch: usize,
}

pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden"))
}

pub fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

impl Golden {
    pub fn read(name: &str) -> Golden {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let json = &header.metadata().as_ref().unwrap()["config"];
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let size = |key: &str| json[key].as_u64().unwrap() as usize;
        let config = ModelConfig {
            vocab_size: size("vocab_size"),
            n_positions: size("n_positions"),
            n_embd: size("n_embd"),
            n_head: size("n_head"),
            n_layer: size("n_layer"),
            dropout: 0.0,
            qkv_bias: json["qkv_bias"].as_bool().unwrap(),
            tied_head: json["tie_word_embeddings"].as_bool().unwrap(),
            ..Preset::Gpt2.config()
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = file.tensor("tokens").unwrap();
        assert_eq!(tokens.dtype(), Dtype::I32);
        let (batch, row) = (tokens.shape()[1], tokens.shape()[2]);
        let ids: Vec<u32> = tokens.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        let tensors = file
            .tensors()
            .into_iter()
            .filter(|(_, t)| t.dtype() == Dtype::F32)
            .map(|(name, t)| (name, f32s(t.data())))
            .collect();
        Golden { config, tensors, tokens: ids.chunks_exact(batch * row).map(<[u32]>::to_vec).collect(), batch }
    }

    pub fn get(&self, name: &str) -> &[f32] {
        self.tensors.get(name).unwrap_or_else(|| panic!("golden: no tensor {name}"))
    }

    pub fn model(&self) -> Gpt {
        let mut gpt = zeros(&self.config);
        for (name, tensor) in gpt.tensors_mut().filter(|(_, t)| !t.is_empty()) {
            change(tensor, |x| x.copy_from_slice(self.get(&format!("param.{name}"))));
        }
        gpt
    }

    /// Inputs and targets of step i.
    pub fn batch(&self, i: usize) -> (Vec<u32>, Vec<u32>) {
        let row = self.tokens[i].len() / self.batch;
        let rows = || self.tokens[i].chunks_exact(row);
        (rows().flat_map(|r| r[..row - 1].to_vec()).collect(), rows().flat_map(|r| r[1..].to_vec()).collect())
    }

    pub fn n_sequences(&self) -> usize {
        self.batch
    }
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub fn largest(a: &[f32]) -> f32 {
    a.iter().fold(0.0, |m, x| m.max(x.abs()))
}

const MODELS: [&str; 2] = ["tiny-book.safetensors", "tiny-gpt2.safetensors"];

fn for_every_case(test: impl Fn(&Golden, &Device)) {
    for name in MODELS {
        let golden = Golden::read(name);
        for isa in Isa::available() {
            test(&golden, &Device::cpu(2, isa, Precision::F32));
        }
    }
}

#[test]
fn logits_and_loss() {
    for_every_case(|golden, dev| {
        let gpt = golden.model();
        let (inputs, targets) = golden.batch(0);
        let logits = gpt.logits(dev, &inputs, golden.n_sequences());
        let difference = largest_difference(&values(&logits), golden.get("logits"));
        assert!(difference <= 1e-5, "logits differ by {difference:e} under {}", dev.isa());
        let t = inputs.len() / golden.n_sequences();
        let alloc = &mut Alloc::on(dev);
        let mut saved = Saved::for_evaluation(&golden.config, golden.n_sequences(), t, alloc);
        let mut scratch = Scratch::new(&golden.config, inputs.len(), alloc);
        let mut batch = Batch::new(inputs.len(), alloc);
        batch.load(dev, BatchSlices::new(&inputs, &targets, golden.n_sequences()));
        let sum = gpt.loss(dev, &batch, &mut saved, &mut scratch);
        assert!((sum / targets.len() as f64 - f64::from(golden.get("loss")[0])).abs() <= 1e-6);
    });
}

/// Mean loss and gradients of the first batch.
fn loss_and_gradients(golden: &Golden, dev: &Device) -> (f64, Gradients) {
    let (mut gpt, alloc) = (golden.model(), &mut Alloc::on(dev));
    let mut grads = Gradients::new(&gpt, None, Trainable::ALL, golden.config.n_layer, alloc);
    let (inputs, targets) = golden.batch(0);
    let (b, scale) = (golden.n_sequences(), 1.0 / targets.len() as f32);
    let mut saved = Saved::for_training(&golden.config, b, inputs.len() / b, alloc);
    let mut scratch = Scratch::new(&golden.config, inputs.len(), alloc);
    let mut batch = Batch::new(inputs.len(), alloc);
    batch.load(dev, BatchSlices::new(&inputs, &targets, b));
    let (drop, sink) = (Dropout::Off, &mut ReturnAll);
    let sum = gpt.forward_backward(dev, &batch, &drop, scale, &mut grads, &mut saved, &mut scratch, sink);
    (sum / targets.len() as f64, grads)
}

#[test]
fn every_gradient() {
    for_every_case(|golden, dev| {
        let (loss, grad) = loss_and_gradients(golden, dev);
        assert!((loss - f64::from(golden.get("loss")[0])).abs() <= 1e-6);
        for (name, tensor) in grad.tensors().filter(|(_, t)| !t.is_empty()) {
            let want = golden.get(&format!("grad.{name}"));
            let difference = largest_difference(&values(tensor), want);
            assert!(
                difference <= 1e-4 * largest(want),
                "gradient of {name} differs by {difference:e} of {:e} under {}",
                largest(want),
                dev.isa()
            );
        }
    });
}

/// In bf16 every operand of a product has a relative error of up to 2⁻⁹, and a gradient passes through about twenty
/// products.
#[test]
fn every_gradient_in_bf16_points_the_same_way() {
    for name in MODELS {
        let golden = Golden::read(name);
        for isa in Isa::available() {
            let (loss, grad) = loss_and_gradients(&golden, &Device::cpu(2, isa, Precision::Bf16));
            let difference = (loss - f64::from(golden.get("loss")[0])).abs();
            assert!(difference > 0.0 && difference <= 1.0 / 512.0, "loss differs by {difference:e} under {isa}");
            for (name, tensor) in grad.tensors().filter(|(_, t)| !t.is_empty()) {
                let mut want = golden.get(&format!("grad.{name}")).to_vec();
                let mut got = values(tensor);
                if name.path() == "attn.c_attn.bias" {
                    // The gradient of a key's bias is zero except for rounding.
                    let keys = golden.config.n_embd..2 * golden.config.n_embd;
                    got.drain(keys.clone());
                    want.drain(keys);
                }
                let apart: Vec<f32> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
                let share = norm(&apart) / norm(&want);
                assert!(share <= 20.0 / 512.0, "gradient of {name} is off by {share:.4} of its length under {isa}");
            }
        }
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn ten_adamw_steps() {
    for_every_case(|golden, dev| {
        let config = &golden.config;
        let (mut gpt, alloc) = (golden.model(), &mut Alloc::on(dev));
        let mut grads = Gradients::new(&gpt, None, Trainable::ALL, config.n_layer, alloc);
        let (mut m, mut v) = (zeros(config), zeros(config));
        let b = golden.n_sequences();
        let t = golden.batch(0).0.len() / b;
        let mut saved = Saved::for_training(config, b, t, alloc);
        let mut scratch = Scratch::new(config, b * t, alloc);
        let mut batch = Batch::new(b * t, alloc);
        for i in 0..10 {
            let (inputs, targets) = golden.batch(i);
            let scale = 1.0 / targets.len() as f32;
            batch.load(dev, BatchSlices::new(&inputs, &targets, b));
            let (drop, sink) = (Dropout::Off, &mut ReturnAll);
            let sum = gpt.forward_backward(dev, &batch, &drop, scale, &mut grads, &mut saved, &mut scratch, sink);
            let difference = (sum / targets.len() as f64 - f64::from(golden.get("adamw_losses")[i])).abs();
            // The specification allows 1e-4; a wrong ε of AdamW changes these by 4.4e-5, so the test is stricter.
            assert!(difference <= 1e-5, "loss {i} differs by {difference:e} under {}", dev.isa());
            let step = AdamWStep {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
                bias_correction1: 1.0 - 0.9f32.powi(i as i32 + 1),
                bias_correction2: 1.0 - 0.999f32.powi(i as i32 + 1),
                grad_scale: 1.0,
            };
            let trees = gpt.tensors_mut().zip(grads.tensors()).zip(m.tensors_mut().zip(v.tensors_mut()));
            for (((_, w), (_, g)), ((_, m), (_, v))) in trees.filter(|(((_, w), _), _)| !w.is_empty()) {
                adamw(dev, &step, &RowSet::All, w, &mut g.clone(), m, v);
            }
            grads.zero(dev);
        }
        for (name, tensor) in gpt.tensors().filter(|(_, t)| !t.is_empty()) {
            let mut want = golden.get(&format!("param_after.{name}")).to_vec();
            let mut got = values(tensor);
            if name.path() == "attn.c_attn.bias" {
                // The gradient of a key's bias is zero except for rounding, which AdamW amplifies to whole steps.
                let keys = config.n_embd..2 * config.n_embd;
                got.drain(keys.clone());
                want.drain(keys);
            }
            let difference = largest_difference(&got, &want);
            assert!(difference <= 1e-4, "{name} differs by {difference:e} after ten steps");
        }
    });
}
