//! A second device: what the processor trains and generates, a device with memory of its own does too, and nothing but
//! tokens, losses and logits crosses between the two.

pub mod mock;

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use calame::data::Windows;
use calame::formats::{load_model, save_model};
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig, generation_bytes};
use calame::model::params::ParamName;
use calame::model::{
    Activation, Adapter, Batch, BatchSlices, Dropout, Gpt, Gradients, ModelConfig, Preset, ReturnAll, Saved, Scratch,
    Trainable,
};
use calame::ops::{self, Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tensor::{Alloc, Tensor};
use calame::train::{CheckpointConfig, Checkpoints, RunConfig, Splits, Trainer, verify_checkpoint};

use mock::{Traffic, Transfers, mock};

const VOCAB: usize = 101;
const N_STEPS: usize = 2;

/// Two steps an epoch of 3 × 16 tokens.
fn config(tied_head: bool, dropout: f32) -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig { vocab_size: VOCAB, n_positions: 32, dropout, tied_head, ..Preset::Tiny.config() };
    if !tied_head {
        // Settings that only some models of the family have.
        config.model = ModelConfig {
            bias: false,
            n_inner: Some(72),
            activation: Activation::Gelu,
            layer_norm_epsilon: 1e-3,
            scale_attn_by_inverse_layer_idx: true,
            ..config.model
        };
    }
    (config.data.window, config.data.stride, config.data.batch_size) = (16, 16, 3);
    // The gradient of a key's bias is 0 but for rounding errors of 1e-9, which differ: with an ε of 1e-8, AdamW would make
    // steps of up to the learning rate of them.
    config.train.eps = 1e-4;
    config
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB as u64) as u32).collect()
}

fn splits(config: &RunConfig) -> Splits {
    let windows = |n_windows: usize, seed| {
        let tokens = tokens(n_windows * config.data.window + 1, seed);
        Windows::new(tokens.into(), config.data.window, config.data.stride).unwrap()
    };
    let n_batches = N_STEPS * config.train.accumulate;
    Splits::new(windows(n_batches * config.data.batch_size, 1), windows(2, 2), &config.data).unwrap()
}

fn portable_cpu() -> Device {
    Device::cpu(1, Isa::Portable, Precision::F32)
}

fn trainer<'a>(dev: &'a Device, config: &'a RunConfig) -> Trainer<'a> {
    Trainer::fresh(dev, config, splits(config))
}

/// The name and the elements of every tensor that is present.
fn elements<'a>(dev: &Device, tensors: impl Iterator<Item = (ParamName, &'a Tensor)>) -> Vec<(String, Vec<f32>)> {
    let present = tensors.filter(|(_, tensor)| !tensor.is_empty());
    present.map(|(name, tensor)| (name.to_string(), ops::read(dev, tensor))).collect()
}

fn parameters(dev: &Device, gpt: &Gpt) -> Vec<(String, Vec<f32>)> {
    elements(dev, gpt.tensors())
}

/// Compares two models parameter by parameter; differences are relative to the parameter's largest element.
///
/// Both devices compute in f32 and sum in different orders, which is 1e-6 of a gradient; the bound leaves two digits for
/// what the layers above make of that, and is still a hundredth of what a step changes.
fn assert_close(what: &str, expected: &[(String, Vec<f32>)], found: &[(String, Vec<f32>)]) {
    assert_eq!(expected.len(), found.len());
    for ((name, expected), (found_name, found)) in expected.iter().zip(found) {
        assert_eq!((name, expected.len()), (found_name, found.len()));
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let difference = expected.iter().zip(found).fold(0.0f32, |max, (x, y)| max.max((x - y).abs()));
        assert!(difference <= 1e-4 * largest, "{what}, {name}: {difference} where elements reach {largest}");
    }
}

/// Trains on both devices; losses, evaluations and weights must agree, fresh weights to the bit.
fn trains_as_the_processor(what: &str, config: &RunConfig) {
    let (cpu, (other, counts)) = (portable_cpu(), mock());
    let (mut expected, mut found) = (trainer(&cpu, config), trainer(&other, config));
    let fresh = parameters(&cpu, expected.gpt());
    assert!(fresh == parameters(&other, found.gpt()), "{what}: fresh weights");
    counts.take_transfers();
    for step in 0..N_STEPS {
        let (expected, found) = (expected.step().unwrap(), found.step().unwrap());
        assert_eq!(found.fault, None);
        let close = |x: f32, y: f32| (x - y).abs() <= 1e-4 * x.abs();
        assert!(close(expected.loss, found.loss), "{what}, step {step}: {} and {}", expected.loss, found.loss);
        assert_eq!(expected.grad_norm.is_some(), found.grad_norm.is_some());
        if let (Some(x), Some(y)) = (expected.grad_norm, found.grad_norm) {
            assert!(close(x, y), "{what}, step {step}: norms {x} and {y}");
        }
        let n_present = fresh.len();
        let per_batch = config.data.batch_size * config.data.window;
        assert_eq!(counts.take_transfers(), of_a_step(config, per_batch, n_present), "{what}, step {step}");
    }
    let (x, y) = (expected.evaluate().unwrap().val_loss, found.evaluate().unwrap().val_loss);
    assert!((x - y).abs() <= 1e-4 * x, "{what}: validation losses {x} and {y}");
    let trained = parameters(&cpu, expected.gpt());
    assert_close(what, &trained, &parameters(&other, found.gpt()));
    let moved = fresh.iter().zip(&trained).filter(|(fresh, trained)| fresh != trained).count();
    assert_eq!(moved, fresh.len(), "{what}: every parameter is trained");
}

/// Tokens and targets go in, the loss comes out; where the whole gradient is examined, so does the sum of squares of each of
/// its tensors. Weights, gradients and moments stay.
fn of_a_step(config: &RunConfig, n_tokens: usize, n_present: usize) -> Transfers {
    let n_batches = config.train.accumulate;
    let n_norms = if config.train.clip_norm > 0.0 { n_present } else { 0 };
    let traffic = |n_calls, n_elements| Traffic { n_calls, n_elements };
    Transfers {
        id_writes: traffic(2 * n_batches, 2 * n_batches * n_tokens),
        results: traffic(n_batches + n_norms, n_batches + n_norms),
        ..Transfers::default()
    }
}

#[test]
fn training_is_the_processors_and_transfers_tokens_and_losses_only() {
    trains_as_the_processor("tied head", &config(true, 0.0));
    trains_as_the_processor("own head, dropout", &config(false, 0.1));
    let mut accumulated = config(true, 0.1);
    accumulated.train.accumulate = 2;
    trains_as_the_processor("accumulated", &accumulated);
}

#[test]
fn clipping_adds_one_number_per_gradient_to_the_transfers() {
    for tied_head in [true, false] {
        let mut clipped = config(tied_head, 0.0);
        clipped.train.clip_norm = 0.5;
        trains_as_the_processor("clipped", &clipped);
    }
}

/// More rows than a chunk of logits has: the head and its loss are computed in two parts, each a view of the batch.
#[test]
fn a_batch_of_two_chunks_of_logits_is_the_processors() {
    let mut large = config(true, 0.0);
    (large.data.window, large.data.stride, large.data.batch_size) = (32, 32, 9);
    assert!(ops::chunk_rows(9 * 32) < 9 * 32);
    trains_as_the_processor("two chunks", &large);
}

#[test]
fn generation_is_the_processors_and_reads_logits_only() {
    let (cpu, (other, counts)) = (portable_cpu(), mock());
    let config = config(true, 0.0).model;
    // Past the context: the pages are released and filled again.
    for (prompt, n) in [(vec![5, 17, 3, 88, 41, 2, 60], 10), (vec![9; 30], 10)] {
        let generated = |dev: &Device| {
            let mut gpt = Gpt::fresh(dev, &config, 7);
            // Larger weights than fresh ones, so that every token depends on all of its context.
            gpt.tensors_mut().for_each(|(_, tensor)| ops::scale(dev, 6.0, tensor));
            let sampler = Sampler::new(&SamplerConfig::default(), 0).unwrap();
            let limits = GenerationLimits { max_tokens: n, slide: 8 };
            let generation = Generation::new(dev, &gpt, &prompt, sampler, limits).unwrap();
            generation.collect::<Result<Vec<u32>, _>>().unwrap()
        };
        counts.take_transfers();
        let (expected, found) = (generated(&cpu), generated(&other));
        assert_eq!(expected, found);
        let transfers = counts.take_transfers();
        assert_eq!(transfers.reads, Traffic { n_calls: n, n_elements: n * VOCAB });
        assert_eq!((transfers.writes, transfers.results), Default::default());
        let distinct: HashSet<u32> = found.into_iter().collect();
        assert!(distinct.len() > 2, "one token over and over compares nothing: {distinct:?}");
    }
}

/// The memory of a generation is what its plan says, and all of it is taken before the first token.
#[test]
fn a_generation_allocates_what_is_planned_and_nothing_later() {
    let (dev, counts) = mock();
    let config = config(true, 0.0).model;
    let gpt = Gpt::fresh(&dev, &config, 7);
    for (n_prompt, n) in [(5, 10), (30, 10)] {
        counts.take_allocated();
        let limits = GenerationLimits { max_tokens: n, slide: 8 };
        let sampler = Sampler::new(&SamplerConfig::default(), 0).unwrap();
        let mut generation = Generation::new(&dev, &gpt, &tokens(n_prompt, 3), sampler, limits).unwrap();
        let (planned, on_device) = (generation_bytes(&config, 0, n_prompt, n), counts.take_allocated());
        // The rest are lists in this machine's memory: logits, and ids of rows and pages.
        let lists = 4 * (VOCAB + 8 * config.n_positions) as u64;
        assert!(on_device < planned && planned <= on_device + lists, "{planned} planned, {on_device} on the device");
        while generation.next_token().unwrap().is_some() {}
        assert_eq!(counts.take_allocated(), 0);
    }
}

/// A model with adapters on queries, values and the first layer of the MLP.
fn adapted(dev: &Device, config: &ModelConfig) -> Gpt {
    let (mut gpt, c) = (Gpt::fresh(dev, config, 5), config.n_embd);
    let mut alloc = Alloc::on(dev);
    let mut seed = 100;
    let mut adapter = |rank, columns| {
        let mut adapter = Adapter::zeros(rank, c, columns, 2.0, &mut alloc);
        for factor in [&mut adapter.a, &mut adapter.b] {
            seed += 1;
            ops::fill_normal(dev, Key::from_seed(seed), 0.0, 0.1, factor);
        }
        adapter
    };
    for block in &mut gpt.h {
        block.attn.c_attn.adapters = vec![adapter(3, 0..c), adapter(2, 2 * c..3 * c)];
        block.mlp.c_fc.adapters = vec![adapter(4, 0..4 * c)];
    }
    gpt
}

#[test]
fn packed_weighted_batches_and_adapters_have_the_processors_gradients() {
    let config = config(true, 0.0).model;
    let (n_sequences, n_positions) = (2, 12);
    let n_rows = n_sequences * n_positions;
    let (inputs, targets) = (tokens(n_rows, 11), tokens(n_rows, 12));
    let weights: Vec<f32> = (0..n_rows).map(|i| [1.0, 0.5, 0.0][i % 3]).collect();
    let segments: Vec<u32> = (0..n_rows).map(|i| (i % n_positions / 5) as u32).collect();
    let (weights, segments) = (Some(&weights[..]), Some(&segments[..]));
    let gradients = |dev: &Device, trainable| {
        let mut gpt = adapted(dev, &config);
        let alloc = &mut Alloc::on(dev);
        let mut batch = Batch::new(n_rows, alloc);
        batch.load(dev, BatchSlices { inputs: &inputs, targets: &targets, weights, segments, n_sequences });
        let mut grads = Gradients::new(&gpt, None, trainable, config.n_layer, alloc);
        let mut saved = Saved::for_training(&config, n_sequences, n_positions, alloc);
        let mut scratch = Scratch::with_outputs(&config, n_rows, VOCAB, gpt.rank(), alloc);
        let (drop, sink) = (Dropout::Off, &mut ReturnAll);
        let loss = gpt.forward_backward(dev, &batch, &drop, 0.05, &mut grads, &mut saved, &mut scratch, sink);
        (loss, elements(dev, grads.tensors()))
    };
    for trainable in [Trainable::ALL, Trainable::ADAPTERS] {
        let (cpu, (other, _)) = (portable_cpu(), mock());
        let (expected, found) = (gradients(&cpu, trainable), gradients(&other, trainable));
        assert!((expected.0 - found.0).abs() <= 1e-5 * expected.0, "{} and {}", expected.0, found.0);
        assert_close(&format!("{trainable:?}"), &expected.1, &found.1);
        let n_adapted = expected.1.iter().filter(|(name, _)| name.contains("adapters")).count();
        assert_eq!(n_adapted, config.n_layer * 3 * 2);
        assert!(trainable == Trainable::ALL || n_adapted == expected.1.len());
    }
}

#[test]
fn a_checkpoint_is_written_from_the_device_and_read_back_to_any() {
    let config = config(false, 0.1);
    let (cpu, (other, counts)) = (portable_cpu(), mock());
    let folder = tempfile::tempdir().unwrap();
    let mut first = trainer(&other, &config);
    first.step().unwrap();
    counts.take_transfers();
    let checkpoint = first.save(folder.path()).unwrap();
    verify_checkpoint(&checkpoint).unwrap();
    // Weights and both moments, once.
    let n_elements = 3 * config.model.n_parameters();
    assert_eq!(counts.take_transfers().reads.n_elements, n_elements);
    let saved = parameters(&other, first.gpt());

    let mut resumed = trainer(&other, &config);
    counts.take_transfers();
    resumed.resume(&checkpoint).unwrap();
    assert_eq!(counts.take_transfers().writes.n_elements, n_elements);
    assert!(parameters(&other, resumed.gpt()) == saved);
    let mut elsewhere = trainer(&cpu, &config);
    elsewhere.resume(&checkpoint).unwrap();
    assert!(parameters(&cpu, elsewhere.gpt()) == saved);

    // The thread that writes copies has the same state to write.
    let background = folder.path().join("background");
    let mut checkpoints = Checkpoints::new(&background, &CheckpointConfig { copy: true, ..Default::default() });
    checkpoints.save(&first.savable()).unwrap();
    checkpoints.wait().unwrap();
    for file in ["weights.safetensors", "m.safetensors", "v.safetensors"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(&checkpoint) == read(&background.join("step-000001")), "{file}");
    }

    let (a, b) = (first.step().unwrap(), resumed.step().unwrap());
    assert_eq!(a.loss.to_bits(), b.loss.to_bits());
    assert!(parameters(&other, first.gpt()) == parameters(&other, resumed.gpt()), "moments too are as they were");
    elsewhere.step().unwrap();
    assert_close("resumed", &parameters(&cpu, elsewhere.gpt()), &parameters(&other, resumed.gpt()));
}

#[test]
fn a_model_of_a_device_is_saved_and_loaded_by_way_of_this_machines_memory() {
    let (cpu, (other, _)) = (portable_cpu(), mock());
    let folder = tempfile::tempdir().unwrap();
    let gpt = Gpt::fresh(&other, &config(false, 0.0).model, 3);
    let path = folder.path().join("model");
    save_model(&path, &gpt.on_host(&other), None).unwrap();
    let loaded = load_model(&path).unwrap().gpt;
    assert!(parameters(&cpu, &loaded) == parameters(&other, &gpt));
    assert!(parameters(&other, &loaded.on_device(&other)) == parameters(&other, &gpt));
    let adapted = adapted(&other, &gpt.config);
    assert!(parameters(&cpu, &adapted.on_host(&other)) == parameters(&other, &adapted), "adapters too");
    // In this machine's memory already: nothing is copied.
    let gpt = Gpt::fresh(&cpu, &gpt.config, 3);
    assert!(matches!(gpt.on_host(&cpu), Cow::Borrowed(same) if std::ptr::eq(same, &gpt)));
}

#[test]
#[should_panic(expected = "× f32 on the mock device, expected f32 in this machine's memory")]
fn a_model_of_a_device_that_is_not_copied_first_is_refused() {
    let (other, _) = mock();
    let gpt = Gpt::fresh(&other, &config(true, 0.0).model, 3);
    let folder = tempfile::tempdir().unwrap();
    let _ = save_model(&folder.path().join("model"), &gpt, None);
}

#[test]
#[should_panic(
    expected = "Tensor::host: [3] is stored as 3 × f32 on the mock device, expected f32 in this machine's memory"
)]
fn an_operation_of_another_device_panics_and_names_the_storage() {
    let (other, _) = mock();
    let mut x = Alloc::on(&other).zeros([3]);
    ops::fill(&portable_cpu(), 1.0, &mut x);
}
