//! Objectives, packed batches, own heads and adapters: gradients compared with central differences, and equalities that
//! must hold.

use calame::data::{Batch, Loader, Windows};
use calame::model::{Adapter, Dropout, Gpt, Gradients, Head, ModelConfig, Preset, ReturnAll, Saved, Trainable};
use calame::ops::{self, Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tensor::{Alloc, Tensor};
use calame::train::{HeadPass, NextToken, Objective, PassBuffers, PassSizes, RunConfig, Splits, Trainer};

use crate::support::{bits, change, scale, values};

const VOCAB: usize = 13;
const T: usize = 6;

fn device() -> Device {
    Device::cpu(2, Isa::detect(), Precision::F32)
}

fn config() -> ModelConfig {
    ModelConfig { vocab_size: VOCAB, n_positions: 8, n_embd: 16, n_head: 2, n_layer: 2, ..Preset::Tiny.config() }
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB as u64) as u32).collect()
}

/// Weights large enough that every parameter matters.
fn model(dev: &Device) -> Gpt {
    let mut gpt = Gpt::fresh(dev, &config(), 3);
    scale(&mut gpt, 8.0);
    for block in &mut gpt.h {
        for norm in [&mut block.ln_1, &mut block.ln_2] {
            change(&mut norm.weight, |x| x.fill(1.0));
        }
    }
    change(&mut gpt.ln_f.weight, |x| x.fill(1.0));
    gpt
}

/// A model, an objective and the buffers of a pass.
struct Check<'a> {
    dev: &'a Device,
    gpt: Gpt,
    objective: Box<dyn Objective>,
    buffers: PassBuffers,
    evaluated: Saved,
}

impl<'a> Check<'a> {
    fn new(dev: &'a Device, gpt: Gpt, objective: Box<dyn Objective>) -> Check<'a> {
        let alloc = &mut Alloc::on(dev);
        let n_outputs = objective.head().map_or(VOCAB, Head::n_outputs);
        let sizes = PassSizes { n_sequences: 4, n_positions: T, n_rows: 4 * T, n_outputs, rank: gpt.rank() };
        let buffers = PassBuffers::for_training(&gpt.config, sizes, alloc);
        let evaluated = Saved::for_evaluation(&gpt.config, 4, T, alloc);
        Check { dev, gpt, objective, buffers, evaluated }
    }

    fn loss(&mut self, batch: &Batch) -> f64 {
        let Check { dev, gpt, objective, buffers, evaluated } = self;
        buffers.evaluate(dev, gpt, objective.as_mut(), batch, evaluated)
    }

    /// The loss, and the gradients by name.
    fn gradients(&mut self, batch: &Batch, trainable: Trainable) -> (f64, Vec<(String, Vec<f32>)>) {
        let Check { dev, gpt, objective, buffers, .. } = self;
        let n_layer = gpt.config.n_layer;
        let mut grads = Gradients::new(gpt, objective.head(), trainable, n_layer, &mut Alloc::on(dev));
        let (objective, drop, sink) = (objective.as_mut(), Dropout::Off, &mut ReturnAll);
        let loss = buffers.micro_step(dev, gpt, objective, batch, &drop, 1.0, &mut grads, sink);
        (loss, grads.tensors().map(|(name, tensor)| (name.to_string(), values(tensor))).collect())
    }

    /// The parameter with that name, in the model or in the objective's head.
    fn parameter(&mut self, wanted: &str) -> &mut Tensor {
        let heads = self.objective.head_mut().into_iter().flat_map(Head::tensors_mut);
        let mut all = self.gpt.tensors_mut().chain(heads);
        all.find(|(name, _)| name.to_string() == wanted).unwrap_or_else(|| panic!("no {wanted}")).1
    }

    /// Compares some elements of every gradient with central differences of the loss.
    fn check(&mut self, batch: &Batch, trainable: Trainable) {
        const H: f32 = 2e-2;
        let (loss, gradients) = self.gradients(batch, trainable);
        assert!((loss - self.loss(batch)).abs() <= 1e-5 * loss.abs(), "the loss of both passes: {loss}");
        let mut n_checked = 0;
        for (name, gradient) in gradients.iter().filter(|(_, gradient)| !gradient.is_empty()) {
            let largest = gradient.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let mut random = Sequence::new(Key::from_seed(name.len() as u64));
            for _ in 0..8 {
                let i = random.below(gradient.len() as u64) as usize;
                let mut at = |shift: f32| {
                    change(self.parameter(name), |x| x[i] += shift);
                    let loss = self.loss(batch);
                    change(self.parameter(name), |x| x[i] -= shift);
                    loss
                };
                let difference = (at(H) - at(-H)) / f64::from(2.0 * H);
                let apart = (difference - f64::from(gradient[i])).abs();
                let allowed = 2e-2 * f64::from(largest.max(0.05));
                assert!(apart <= allowed, "{name}[{i}]: {} by backward, {difference} by differences", gradient[i]);
                n_checked += 1;
            }
        }
        assert!(n_checked > 0, "no gradient at all");
    }
}

/// Four sequences; two of their targets are masked, the others have different weights.
fn weighted_batch() -> Batch {
    let mut batch = Batch::new(tokens(4 * T, 1), tokens(4 * T, 2), 4);
    batch.weights = (0..4 * T).map(|i| [1.0, 0.0, 0.5, 2.0][i % 4]).collect();
    // Masked targets are not read.
    batch.targets.iter_mut().zip(&batch.weights).for_each(|(target, &weight)| {
        if weight == 0.0 {
            *target = u32::MAX;
        }
    });
    batch
}

#[test]
fn weighted_targets() {
    let dev = device();
    let batch = weighted_batch();
    let mut check = Check::new(&dev, model(&dev), Box::new(NextToken));
    check.check(&batch, Trainable::ALL);
    // By hand: the loss of each target by itself.
    let alone: f64 = (0..4 * T)
        .filter(|&i| batch.weights[i] > 0.0)
        .map(|i| {
            let mut one = batch.clone();
            one.weights = (0..4 * T).map(|j| f32::from(u8::from(i == j))).collect();
            f64::from(batch.weights[i]) * check.loss(&one)
        })
        .sum();
    let loss = check.loss(&batch);
    assert!((loss - alone).abs() <= 1e-5 * loss, "{loss}, one by one {alone}");
}

#[test]
fn two_packed_segments() {
    let dev = device();
    let mut check = Check::new(&dev, model(&dev), Box::new(NextToken));
    let mut batch = Batch::new(tokens(2 * T, 3), tokens(2 * T, 4), 2);
    batch.segments = vec![0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1];
    check.check(&batch, Trainable::ALL);

    // An example has the same loss and gradients, packed or not.
    let (packed_loss, packed) = check.gradients(&batch, Trainable::ALL);
    let mut alone = (0.0, packed.iter().map(|(name, x)| (name.clone(), vec![0.0; x.len()])).collect::<Vec<_>>());
    for rows in batch.examples() {
        let one = Batch::new(batch.inputs[rows.clone()].to_vec(), batch.targets[rows].to_vec(), 1);
        let (loss, gradients) = check.gradients(&one, Trainable::ALL);
        alone.0 += loss;
        for ((_, sum), (_, gradient)) in alone.1.iter_mut().zip(gradients) {
            sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x);
        }
    }
    assert!((packed_loss - alone.0).abs() <= 1e-5 * packed_loss, "{packed_loss}, alone {}", alone.0);
    for ((name, packed), (_, alone)) in packed.iter().zip(&alone.1) {
        let largest = alone.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let apart = packed.iter().zip(alone).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart <= 1e-4 * largest.max(1e-2), "{name}: {apart:e} of {largest:e}");
    }
    // Without segments the second example would attend to the first.
    batch.segments.clear();
    assert!((check.loss(&batch) - packed_loss).abs() > 1e-3);
}

/// −ln σ(β·(NLL of the rejected − NLL of the chosen)), summed over pairs: a preference loss without a reference model.
#[derive(Debug)]
struct Pairwise {
    beta: f64,
}

impl Objective for Pairwise {
    fn n_units(&self, batch: &Batch) -> f64 {
        batch.groups.len() as f64 / 2.0
    }

    fn score<'s>(&mut self, pass: &'s mut HeadPass<'_>) -> Option<&'s [f64]> {
        Some(pass.sums(None))
    }

    fn weights(&mut self, batch: &Batch, sums: &[f64], weights: &mut Vec<f32>) -> f64 {
        weights.resize(sums.len(), 0.0);
        let mut loss = 0.0;
        for (chosen, group) in batch.groups.iter().enumerate() {
            // The first example of each group is the chosen one.
            let Some(rejected) = (chosen + 1..sums.len()).find(|&i| batch.groups[i] == *group) else { continue };
            let margin = self.beta * (sums[rejected] - sums[chosen]);
            loss += (-margin).exp().ln_1p();
            let slope = self.beta / (1.0 + margin.exp());
            weights[chosen] = slope as f32;
            weights[rejected] = -slope as f32;
        }
        loss
    }
}

#[test]
fn a_pairwise_loss() {
    let dev = device();
    let mut check = Check::new(&dev, model(&dev), Box::new(Pairwise { beta: 0.3 }));
    let mut batch = weighted_batch();
    batch.groups = vec![7, 9, 7, 9];
    assert_eq!(check.objective.n_units(&batch), 2.0);
    check.check(&batch, Trainable::ALL);

    // Both examples of a pair may be packed into one sequence.
    let mut packed = Batch::new(tokens(2 * T, 5), tokens(2 * T, 6), 2);
    packed.segments = vec![0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1];
    packed.groups = vec![0, 0, 1, 1];
    check.check(&packed, Trainable::ALL);
}

/// Classifies into three classes from the last position of each sequence.
#[derive(Debug)]
struct Classifier {
    head: Head,
}

impl Classifier {
    fn new(dev: &Device) -> Box<Classifier> {
        let mut head = Head::zeros(3, config().n_embd, true, &mut Alloc::on(dev));
        ops::fill_normal(dev, Key::from_seed(5), 0.0, 0.3, &mut head.weight);
        ops::fill_normal(dev, Key::from_seed(6), 0.0, 0.3, &mut head.bias);
        Box::new(Classifier { head })
    }
}

impl Objective for Classifier {
    fn head(&self) -> Option<&Head> {
        Some(&self.head)
    }

    fn head_mut(&mut self) -> Option<&mut Head> {
        Some(&mut self.head)
    }
}

fn classes() -> Batch {
    let mut batch = Batch::new(tokens(4 * T, 1), vec![u32::MAX; 4 * T], 4);
    batch.weights = vec![0.0; 4 * T];
    for (sequence, class) in [2, 0, 1, 2].into_iter().enumerate() {
        let last = sequence * T + T - 1;
        (batch.targets[last], batch.weights[last]) = (class, 1.0);
    }
    batch
}

#[test]
fn a_classifier_with_its_own_head() {
    let dev = device();
    for trainable in [Trainable::ALL, Trainable::from_block(1), Trainable::from_block(2)] {
        let trainable = Trainable { lm_head: false, ..trainable };
        let mut check = Check::new(&dev, model(&dev), Classifier::new(&dev));
        check.check(&classes(), trainable);
        let (_, gradients) = check.gradients(&classes(), trainable);
        let has = |wanted: &str| gradients.iter().any(|(name, gradient)| name == wanted && !gradient.is_empty());
        assert!(has("score.weight") && has("score.bias") && has("ln_f.weight"));
        assert_eq!(has("wte.weight"), trainable.first_block == 0, "{trainable:?}");
        assert_eq!(has("h.1.attn.c_attn.weight"), trainable.first_block < 2, "{trainable:?}");
        assert!(!has("h.0.attn.c_attn.weight") || trainable.first_block == 0, "{trainable:?}");
    }
}

/// Adapters on queries and values, on the layer that writes to the residual stream, and on both layers of the MLP.
fn with_adapters(dev: &Device) -> Gpt {
    let (mut gpt, c) = (model(dev), config().n_embd);
    let alloc = &mut Alloc::on(dev);
    for (i, block) in gpt.h.iter_mut().enumerate() {
        let adapter = |rank, n_inputs, columns, seed, alloc: &mut Alloc<'_>| {
            let mut adapter = Adapter::zeros(rank, n_inputs, columns, 0.7, alloc);
            ops::fill_normal(dev, Key::from_seed(seed), 0.0, 0.3, &mut adapter.a);
            ops::fill_normal(dev, Key::from_seed(seed + 1), 0.0, 0.3, &mut adapter.b);
            adapter
        };
        let seed = 10 * i as u64;
        block.attn.c_attn.adapters =
            vec![adapter(2, c, 0..c, seed, alloc), adapter(3, c, 2 * c..3 * c, seed + 2, alloc)];
        block.attn.c_proj.adapters = vec![adapter(2, c, 0..c, seed + 4, alloc)];
        block.mlp.c_fc.adapters = vec![adapter(1, c, 0..4 * c, seed + 6, alloc)];
        block.mlp.c_proj.adapters = vec![adapter(2, 4 * c, 0..c, seed + 8, alloc)];
    }
    gpt
}

#[test]
fn adapters_on_column_ranges() {
    let dev = device();
    for trainable in [Trainable::ALL, Trainable::ADAPTERS] {
        let mut check = Check::new(&dev, with_adapters(&dev), Box::new(NextToken));
        check.check(&weighted_batch(), trainable);
        let (_, gradients) = check.gradients(&weighted_batch(), trainable);
        let n_present = gradients.iter().filter(|(_, gradient)| !gradient.is_empty()).count();
        let (n_factors, n_base) = (2 * 5 * 2, 2 + 2 * 12 + 2);
        assert_eq!(n_present, n_factors + if trainable.adapters_only { 0 } else { n_base });
    }
    // An adapter is a change of the weight: merged by hand, it gives the same logits.
    let adapted = with_adapters(&dev);
    let mut merged = adapted.clone();
    for linear in merged.h.iter_mut().flat_map(calame::model::Block::linears_mut) {
        for adapter in std::mem::take(&mut linear.adapters) {
            let (a, b, n_inputs) = (values(&adapter.a), values(&adapter.b), linear.weight.row_len());
            let rank = adapter.rank();
            change(&mut linear.weight, |weight| {
                for (row, out) in adapter.columns.clone().enumerate() {
                    for i in 0..n_inputs {
                        let sum: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * n_inputs + i]).sum();
                        weight[out * n_inputs + i] += adapter.scale * sum;
                    }
                }
            });
        }
    }
    let ids = tokens(T, 9);
    let logits = |gpt: &Gpt| values(&gpt.logits(&dev, &ids, 1));
    let (plain, adapted, merged) = (logits(&model(&dev)), logits(&adapted), logits(&merged));
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart(&adapted, &merged) <= 1e-4, "merged: {}", apart(&adapted, &merged));
    assert!(apart(&adapted, &plain) > 0.1, "without adapters");
}

/// A head like the model's, owned by an objective.
#[derive(Debug)]
struct OwnHead {
    head: Head,
}

impl Objective for OwnHead {
    fn head(&self) -> Option<&Head> {
        Some(&self.head)
    }

    fn head_mut(&mut self) -> Option<&mut Head> {
        Some(&mut self.head)
    }
}

fn run_config() -> RunConfig {
    let mut run = RunConfig::of_preset(Preset::Tiny);
    run.model = ModelConfig { tied_head: false, dropout: 0.1, ..config() };
    (run.data.window, run.data.stride, run.data.batch_size, run.train.epochs) = (T, T, 2, 3);
    (run.train.eval_every, run.train.eval_batches) = (1, 2);
    run
}

fn splits(run: &RunConfig) -> Splits {
    let windows = Windows::new(tokens(8 * T + 1, 1).into(), T, T).unwrap();
    let loader = || Loader::new(windows.clone(), run.data.batch_size, true).unwrap();
    Splits { train: loader(), train_evaluated: loader(), validation: loader(), validation_bytes_per_token: None }
}

/// The trainer trains a head owned by the objective like the model's, resumes it bit for bit, and leaves the model's
/// own head unchanged.
#[test]
fn the_trainer_owns_steps_and_checkpoints_of_an_objectives_head() {
    let dev = device();
    for clip_norm in [0.0, 1e9] {
        let mut run = run_config();
        run.train.clip_norm = clip_norm;
        let gpt = Gpt::fresh(&dev, &run.model, 4);
        let own = || {
            let head = Head { weight: gpt.lm_head.clone(), bias: Tensor::absent() };
            Trainer::with_objective(&dev, &run, gpt.clone(), Trainable::ALL, Box::new(OwnHead { head }), splits(&run))
        };
        let mut plain = Trainer::new(&dev, &run, gpt.clone(), splits(&run));
        let mut owned = own();
        let folder = tempfile::tempdir().unwrap();
        let mut resumed = own();
        for step in 0..8 {
            let expected = plain.step().unwrap();
            assert_eq!(owned.step().unwrap().loss, expected.loss, "step {step}");
            assert_eq!(owned.evaluate().unwrap(), plain.evaluate().unwrap(), "step {step}");
            if step == 3 {
                resumed.resume(&owned.save(folder.path()).unwrap()).unwrap();
            } else if step > 3 {
                assert_eq!(resumed.step().unwrap().loss, expected.loss, "step {step}, resumed");
            }
        }
        let head = |trainer: &Trainer<'_>| values(&trainer.objective().head().unwrap().weight);
        assert!(head(&owned) == values(&plain.gpt().lm_head) && head(&resumed) == head(&owned));
        assert!(bits(resumed.gpt()) == bits(owned.gpt()));
        assert!(values(&owned.gpt().lm_head) == values(&gpt.lm_head), "it is not part of this training");
    }
}

/// The weights are bit-identical, however gradients are held.
#[test]
fn the_same_bits_under_every_plan() {
    let dev = device();
    for tied_head in [true, false] {
        let weights = |accumulate: usize, clip_norm: f64| {
            let mut run = run_config();
            (run.model.tied_head, run.train.accumulate, run.train.clip_norm) = (tied_head, accumulate, clip_norm);
            let mut trainer = Trainer::new(&dev, &run, Gpt::fresh(&dev, &run.model, 4), splits(&run));
            let losses: Vec<f32> = (0..6).map(|_| trainer.step().unwrap().loss).collect();
            (losses, bits(trainer.gpt()))
        };
        // The norm is never reached: the gradient is held whole, but not clipped.
        for accumulate in [1, 2] {
            assert_eq!(weights(accumulate, 0.0), weights(accumulate, 1e9), "accumulate {accumulate}");
        }
    }
}
