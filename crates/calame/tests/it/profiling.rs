//! A device with a clock: every operation is counted under the phase that its caller names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use calame::data::Windows;
use calame::infer::{Generation, GenerationLimits, Sampler, SamplerConfig};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Clock, Device, Isa, Phase, PhaseTotal, Precision};
use calame::train::{RunConfig, Splits, Trainer};

use crate::second_device::mock::mock;

const VOCAB: usize = 101;

/// A clock that advances by a microsecond whenever it is read: every operation takes one.
fn clock() -> Clock {
    let n_reads = AtomicU64::new(0);
    Box::new(move || Duration::from_micros(n_reads.fetch_add(1, Ordering::Relaxed)))
}

fn devices() -> [Device; 2] {
    [Device::cpu(1, Isa::detect(), Precision::F32), mock().0].map(|dev| dev.profiled(clock()))
}

fn run_config() -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig { vocab_size: VOCAB, n_positions: 32, ..Preset::Tiny.config() };
    (config.data.window, config.data.stride, config.data.batch_size) = (16, 16, 2);
    config
}

/// The totals since the last call, by phase; each operation took a microsecond.
fn profile(dev: &Device) -> impl Fn(Phase) -> PhaseTotal {
    let totals = dev.take_profile();
    for (phase, total) in totals {
        let expected = total.n_calls as f64 * 1e-6;
        assert!((total.seconds - expected).abs() < 1e-9, "{}: {total:?}", phase.name());
    }
    move |phase| totals.iter().find(|(of, _)| *of == phase).unwrap().1
}

/// Operations of the linear layers of all blocks for `n_rows` rows: weights of 3C², C², 4C² and 4C².
fn linear_operations(config: &ModelConfig, n_rows: usize) -> f64 {
    (2 * n_rows * 12 * config.n_embd * config.n_embd * config.n_layer) as f64
}

fn head_operations(config: &ModelConfig, n_rows: usize) -> f64 {
    (2 * n_rows * config.n_embd * config.vocab_size) as f64
}

#[test]
fn a_training_step_is_counted_by_phase() {
    let config = run_config();
    for dev in devices() {
        let windows = || Windows::new((0..65).collect::<Vec<u32>>().into(), 16, 16).unwrap();
        let mut trainer = Trainer::fresh(&dev, &config, Splits::new(windows(), windows(), &config.data).unwrap());
        let of = profile(&dev);
        assert!(of(Phase::Memory).n_calls > 0, "fresh weights are drawn: {dev:?}");
        trainer.step().unwrap();
        let of = profile(&dev);
        let (model, n_rows) = (&config.model, 2 * 16);
        let linear = linear_operations(model, n_rows);
        for phase in [Phase::LinearForward, Phase::LinearBackwardInput, Phase::LinearBackwardWeight] {
            assert_eq!((of(phase).n_calls, of(phase).work.n_operations), (8, linear), "{}: {dev:?}", phase.name());
        }
        for phase in [Phase::HeadForward, Phase::HeadBackwardInput, Phase::HeadBackwardWeight] {
            let expected = (1, head_operations(model, n_rows));
            assert_eq!((of(phase).n_calls, of(phase).work.n_operations), expected, "{}: {dev:?}", phase.name());
        }
        let n_parameters = trainer.gpt().tensors().filter(|(_, tensor)| !tensor.is_empty()).count();
        assert_eq!(of(Phase::AdamW).n_calls, n_parameters as u64);
        // Inputs and targets; positions; the gradient of the residual stream is set to zero.
        assert!(of(Phase::Memory).n_calls >= 4 && of(Phase::Memory).work.n_bytes > 0.0);
        assert_eq!((of(Phase::Embedding).n_calls, of(Phase::StoreKv).n_calls), (2, 0));
        assert_eq!((of(Phase::AttentionForward).n_calls, of(Phase::AttentionBackward).n_calls), (2, 2));
        // Logits and losses of one chunk, and their sum.
        assert_eq!((of(Phase::Loss).n_calls, of(Phase::Norm).n_calls, of(Phase::Dropout).n_calls), (2, 0, 0));
    }
}

#[test]
fn in_decoding_the_head_counts_as_the_head() {
    let config = run_config().model;
    for dev in devices() {
        let gpt = Gpt::fresh(&dev, &config, 1);
        let sampler = Sampler::new(&SamplerConfig::default(), 0).unwrap();
        let limits = GenerationLimits { max_tokens: 3, slide: 1 };
        let mut generation = Generation::new(&dev, &gpt, &[1, 2, 3, 4, 5], sampler, limits).unwrap();
        dev.take_profile();
        // The prompt's five rows, of which one has logits; then a row at a time.
        for n_rows in [5, 1, 1] {
            generation.next_token().unwrap();
            let of = profile(&dev);
            let (head, linear) = (of(Phase::HeadForward), of(Phase::LinearForward));
            assert_eq!((head.n_calls, head.work.n_operations), (1, head_operations(&config, 1)), "{dev:?}");
            assert_eq!((linear.n_calls, linear.work.n_operations), (8, linear_operations(&config, n_rows)), "{dev:?}");
            assert_eq!((of(Phase::StoreKv).n_calls, of(Phase::AttentionForward).n_calls), (2, 2), "one for each block");
            assert!(of(Phase::StoreKv).work.n_bytes > 0.0);
            // At least: tokens and positions to the device, the wanted row gathered, its logits read.
            assert!(of(Phase::Memory).n_calls >= 4 && of(Phase::Memory).work.n_bytes > 0.0);
        }
    }
}

#[test]
fn without_a_clock_nothing_is_counted() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    Gpt::fresh(&dev, &run_config().model, 1);
    assert!(dev.take_profile().into_iter().all(|(_, total)| total == PhaseTotal::default()));
}
