//! A second device: what the processor trains and generates, a device with memory of its own does too, and nothing but
//! tokens, losses and logits crosses between the two.

mod mock;

use calame::data::Windows;
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{self, Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tensor::Alloc;
use calame::train::{RunConfig, Splits, Trainer};

use mock::{Traffic, Transfers, mock};

const VOCAB: usize = 101;
const N_STEPS: usize = 2;

/// Two steps an epoch of 3 × 16 tokens.
fn config(tied_head: bool, dropout: f32) -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig {
        vocab_size: VOCAB,
        n_positions: 32,
        dropout,
        tied_head,
        qkv_bias: tied_head,
        ..Preset::Tiny.config()
    };
    (config.data.window, config.data.stride, config.data.batch_size) = (16, 16, 3);
    // The gradient of a key's bias is 0 but for rounding errors of 1e-9, which differ: with an ε of 1e-8, AdamW would make
    // steps of up to the learning rate of them.
    config.train.eps = 1e-4;
    config
}

fn splits(config: &RunConfig) -> Splits {
    let windows = |n_windows: usize, seed| {
        let mut random = Sequence::new(Key::from_seed(seed));
        let n_tokens = n_windows * config.data.window + 1;
        let tokens: Vec<u32> = (0..n_tokens).map(|_| random.below(VOCAB as u64) as u32).collect();
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

/// The name and the elements of every parameter that is present.
fn parameters(dev: &Device, gpt: &Gpt) -> Vec<(String, Vec<f32>)> {
    let present = gpt.tensors().filter(|(_, tensor)| !tensor.is_empty());
    present.map(|(name, tensor)| (name.to_string(), ops::read(dev, tensor))).collect()
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
        let distinct: std::collections::HashSet<u32> = found.into_iter().collect();
        assert!(distinct.len() > 2, "one token over and over compares nothing: {distinct:?}");
    }
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
