//! Counts allocations: neither training nor decoding allocates after the first step, a plan equals what is allocated,
//! and malformed files cost no memory.
//!
//! This is a separate binary because of its allocator, and has no test harness because the allocator counts for all
//! threads: other tests and the harness's own thread would be counted too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use calame::data::{Loader, Windows};
use calame::formats::{load_model, save_model};
use calame::infer::{
    Generation, GenerationLimits, History, LogProbs, LogitRules, Sampler, SamplerConfig, SamplerScratch,
    generation_bytes,
};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::plan::{Machine, MemoryKind, Plan, TextSize};
use calame::tensor::Alloc;
use calame::train::{Rng, RunConfig, Splits, Trainer};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static N_CALLS: AtomicUsize = AtomicUsize::new(0);
static N_BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    if ON.load(Ordering::SeqCst) {
        N_CALLS.fetch_add(1, Ordering::SeqCst);
        N_BYTES.fetch_add(bytes, Ordering::SeqCst);
        LARGEST.fetch_max(bytes, Ordering::SeqCst);
    }
}

// SAFETY: every method passes its arguments to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller guarantees what `System` requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes and allocations requested by any thread.
#[derive(Debug, PartialEq)]
struct Counted {
    n_calls: usize,
    n_bytes: usize,
    largest: usize,
}

const NOTHING: Counted = Counted { n_calls: 0, n_bytes: 0, largest: 0 };

fn counted<T>(work: impl FnOnce() -> T) -> (T, Counted) {
    [&N_CALLS, &N_BYTES, &LARGEST].iter().for_each(|n| n.store(0, Ordering::SeqCst));
    ON.store(true, Ordering::SeqCst);
    let result = work();
    ON.store(false, Ordering::SeqCst);
    let n = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    (result, Counted { n_calls: n(&N_CALLS), n_bytes: n(&N_BYTES), largest: n(&LARGEST) })
}

fn splits(config: &RunConfig, n_windows: usize) -> Splits {
    let data = config.data.resolved();
    let ids: Vec<u32> = (0..n_windows * data.window + 1).map(|i| (i * i % 101) as u32).collect();
    let windows = Windows::new(ids.into(), data.window, data.window).unwrap();
    let in_order = || Loader::new(windows.clone(), data.eval_batch_size, false).unwrap();
    let train = Loader::new(windows.clone(), data.batch_size, data.drop_last).unwrap();
    Splits { train, train_evaluated: in_order(), validation: in_order(), validation_bytes_per_token: None }
}

/// Trains for two epochs and a step; nothing may be allocated after `n_first` steps.
fn training_allocates_nothing(config: &RunConfig, n_windows: usize, n_threads: usize, n_first: u64) {
    let dev = Device::cpu(n_threads, Isa::detect(), Precision::F32);
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, config, gpt, splits(config, n_windows));
    let n_steps = 2 * trainer.steps_per_epoch() + 1;
    assert!(n_first <= trainer.steps_per_epoch());
    for step in 0..n_steps {
        let (report, seen) = counted(|| trainer.step().unwrap());
        assert!(report.loss.is_finite() && report.step == step);
        let what = format!("step {step} of {n_steps}, {n_threads} threads, tied head: {}", config.model.tied_head);
        if step >= n_first {
            assert_eq!(seen, NOTHING, "{what}");
        } else if step == 0 {
            assert!(seen.n_calls > 0, "{what}: the first step grows work space, or nothing is counted");
        }
    }
}

fn run_config(tied_head: bool) -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.model = ModelConfig {
        vocab_size: 101,
        n_positions: 64,
        n_embd: 48,
        n_head: 3,
        n_layer: 3,
        dropout: 0.1,
        tied_head,
        qkv_bias: tied_head,
        ..Preset::Tiny.config()
    };
    (config.data.window, config.data.stride, config.data.batch_size) = (24, 24, 4);
    config
}

fn a_step_allocates_nothing_after_the_first() {
    for tied_head in [true, false] {
        for n_threads in [1, 2, 3] {
            training_allocates_nothing(&run_config(tied_head), 23, n_threads, 1);
        }
        // One sequence with one head, so that most threads have no task in the first step.
        let mut narrow = run_config(tied_head);
        (narrow.model.n_head, narrow.data.batch_size) = (1, 1);
        training_allocates_nothing(&narrow, 6, 4, 1);
        // The last batch is not full, so that steps of both sizes occur in the first epoch.
        let mut uneven = run_config(tied_head);
        uneven.data.drop_last = false;
        training_allocates_nothing(&uneven, 9, 2, 3);
        let mut following_torch = run_config(tied_head);
        following_torch.train.rng = Rng::Torch;
        training_allocates_nothing(&following_torch, 23, 2, 1);
    }
}

/// Steps after an evaluation and after a save do not allocate either.
fn neither_evaluation_nor_save_costs_a_step_anything() {
    let (config, dev) = (run_config(true), Device::cpu(2, Isa::detect(), Precision::F32));
    let folder = tempfile::tempdir().unwrap();
    let gpt = Gpt::fresh(&dev, &config.model, 1);
    let mut trainer = Trainer::new(&dev, &config, gpt, splits(&config, 23));
    for step in 0..7 {
        let (_, seen) = counted(|| trainer.step().unwrap());
        assert!(step == 0 || seen == NOTHING, "step {step}: {seen:?}");
        trainer.evaluate().unwrap();
        let checkpoint = trainer.save(folder.path()).unwrap();
        trainer.resume(&checkpoint).unwrap();
    }
}

/// The plan equals what a training requests from the allocator, except for alignment and small lists.
fn a_plan_counts_what_a_training_takes() {
    for (tied_head, n_threads) in [(true, 1), (false, 2)] {
        let mut config = run_config(tied_head);
        (config.data.batch_size, config.data.window, config.data.stride) = (6, 48, 48);
        config.data = config.data.resolved();
        let dev = Device::cpu(n_threads, Isa::detect(), Precision::F32);
        let mut text = TextSize { n_windows: 24, n_validation_windows: 24, ..TextSize::default() };
        text.use_tokens(&(0..101).collect::<Vec<u32>>(), config.model.vocab_size);
        let (isa, precision) = (dev.isa(), dev.precision());
        let machine = Machine { isa, precision, n_threads, program_bytes: 0 };
        let plan = Plan::of(&config, &text, &machine, 0);
        let planned = |kinds: &[MemoryKind]| -> usize {
            plan.memory.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, bytes)| *bytes as usize).sum()
        };
        use MemoryKind::{Activations, Evaluation, Gradients, Logits, Moments, Scratch, Weights, WorkSpace};
        let near = |what: &str, planned: usize, seen: usize| {
            assert!(
                planned <= seen && seen <= planned + planned / 20 + 20_000,
                "{what}: {planned} planned, {seen} seen"
            );
        };
        let (gpt, seen) = counted(|| Gpt::zeros(&config.model, &mut Alloc::on(&dev)));
        near("weights", planned(&[Weights]), seen.n_bytes);
        let splits = splits(&config, 24);
        let (mut trainer, seen) = counted(|| Trainer::new(&dev, &config, gpt, splits));
        let kinds = [Gradients, Moments, Activations, Evaluation, Scratch, Logits];
        near("training", planned(&kinds), seen.n_bytes);
        // The pool grows gradually, and the memory it grew out of is counted too.
        let (_, seen) = counted(|| trainer.step());
        let pool = planned(&[WorkSpace]);
        assert!(pool <= seen.n_bytes && seen.largest <= pool, "{pool} planned, {seen:?}");
    }
}

/// A generation allocates what is planned and nothing after the first token, neither within the context nor past it,
/// where the remaining tokens are computed again. On a device whose work space has already grown, not even the first
/// token allocates.
fn decoding_allocates_nothing_after_the_first_token() {
    let n_positions = run_config(true).model.n_positions;
    for (tied_head, n_threads) in [(true, 1), (false, 2), (true, 3)] {
        let config = run_config(tied_head).model;
        for isa in [Isa::Portable, Isa::detect()] {
            let dev = Device::cpu(n_threads, isa, Precision::F32);
            let gpt = Gpt::fresh(&dev, &config, 1);
            for (n_prompt, max_tokens, temperature) in [(5, 40, 0.0), (5, 59, 1.5), (60, 40, 0.0), (5, 80, 0.0)] {
                // A short prompt lets the work space grow; past the context a larger one is needed.
                let grows_later = n_prompt < n_positions / 2 && n_prompt + max_tokens > n_positions;
                for is_second in [false, true] {
                    let n_first = if is_second && temperature == 0.0 {
                        0
                    } else if !is_second && grows_later {
                        max_tokens
                    } else {
                        1
                    };
                    let sampler =
                        SamplerConfig { temperature, top_k: 20, top_p: 0.9, seed: 1, ..SamplerConfig::default() };
                    let what = format!("{n_prompt} + {max_tokens} tokens, {n_threads} threads, {isa}");
                    generation_allocates_nothing(&dev, &gpt, n_prompt, max_tokens, &sampler, n_first, &what);
                }
            }
        }
    }
}

/// Generates all tokens; nothing may be allocated from token number `n_first` on.
fn generation_allocates_nothing(
    dev: &Device,
    gpt: &Gpt,
    n_prompt: usize,
    max_tokens: usize,
    sampler: &SamplerConfig,
    n_first: usize,
    what: &str,
) {
    let prompt: Vec<u32> = (0..n_prompt as u32).collect();
    let sampler = Sampler::new(sampler, 0).unwrap();
    let limits = GenerationLimits { max_tokens, slide: 9 };
    let (generation, seen) = counted(|| Generation::new(dev, gpt, &prompt, sampler, limits));
    // The text itself is extra.
    let planned = generation_bytes(&gpt.config, gpt.rank(), n_prompt, max_tokens) as usize;
    let (least, most) = (planned + 4 * (n_prompt + max_tokens), planned + planned / 50 + 4096);
    assert!(least <= seen.n_bytes && seen.n_bytes <= most, "{what}: {planned} planned, {seen:?}");
    let mut generation = generation.unwrap();
    for i in 0..max_tokens {
        let (token, seen) = counted(|| generation.next_token().unwrap());
        assert!(token.is_some());
        assert!(i < n_first || seen == NOTHING, "{what}: token {i}: {seen:?}");
    }
}

fn samplers_allocate_nothing_after_the_first_draw() {
    let n_vocab = 50_257;
    let wave = |i: u32| (i as f32 * 0.37).sin() * 6.0;
    let sets: [Vec<f32>; 3] = [(0..n_vocab).map(wave).collect(), vec![1.0; n_vocab as usize], {
        // Each logit is greater than all before it: a bounded list of the best is filled again and again.
        (0..n_vocab).map(|i| i as f32 / 1000.0).collect()
    }];
    let base = SamplerConfig { temperature: 1.0, ..SamplerConfig::default() };
    let rules = LogitRules { bias: [(7, 2.0)].into(), min_tokens: 3, ends: vec![0] };
    let cases = [
        (SamplerConfig::default(), LogitRules::default()),
        (base.clone(), LogitRules::default()),
        (SamplerConfig { top_k: 40, ..base.clone() }, LogitRules::default()),
        (SamplerConfig { repetition_penalty: 1.2, frequency_penalty: 0.5, top_k: 500, ..base.clone() }, rules.clone()),
        (SamplerConfig { top_p: 0.9, min_p: 0.01, typical_p: 0.9, ..base }, rules),
    ];
    for (config, rules) in cases {
        let what = format!("{config:?}, {rules:?}");
        let mut sampler = Sampler::new(&config, 0).unwrap().with_rules(rules).unwrap();
        let mut scratch = SamplerScratch::default();
        let mut best = Vec::with_capacity(40);
        let mut generated = Vec::with_capacity(10);
        for i in 0..9 {
            let logits = &sets[i % 3];
            let (token, seen) = counted(|| {
                LogProbs::of(logits).unwrap().best(20, &mut best);
                sampler.sample(logits, History { prompt: &[5, 70_000], generated: &generated }, &mut scratch).unwrap()
            });
            assert!(i == 0 || seen == NOTHING, "{what}: draw {i}: {seen:?}");
            assert!(i > 0 || config != SamplerConfig::default() || seen == NOTHING, "{what}: {seen:?}");
            generated.push(token);
        }
    }
}

fn files_with_false_sizes_cost_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { vocab_size: 101, n_positions: 64, n_embd: 48, n_head: 3, ..Preset::Tiny.config() };
    let gpt = Gpt::zeros(&config, &mut Alloc::on_host());
    save_model(&folder.path().join("model"), &gpt, None).unwrap();
    let weights = folder.path().join("model/model.safetensors");
    let json = folder.path().join("model/config.json");
    let (whole, good) = (std::fs::read(&weights).unwrap(), std::fs::read_to_string(&json).unwrap());
    let fields = |sizes: &[(&str, u64)]| {
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        sizes.iter().for_each(|(key, value)| json[*key] = (*value).into());
        json.to_string()
    };
    let max = 1 << 24;
    for config in [
        fields(&[("n_layer", 10_000_000)]),
        fields(&[("vocab_size", 1_000_000_000)]),
        fields(&[("vocab_size", max)]),
        fields(&[("n_layer", max), ("n_embd", 1), ("n_head", 1)]),
        fields(&[("n_layer", 20_000), ("n_embd", 1), ("n_head", 1), ("vocab_size", 1), ("n_positions", 1)]),
        fields(&[("n_positions", max), ("n_embd", max), ("n_head", 1)]),
    ] {
        std::fs::write(&json, &config).unwrap();
        let (model, seen) = counted(|| load_model(folder.path()));
        assert!(model.is_err(), "{config}");
        assert!(seen.n_bytes < 1 << 20, "{seen:?} for {config}");
    }
    std::fs::write(&json, &good).unwrap();
    for length in [10u64.pow(18), u64::MAX, 1 << 32, whole.len() as u64] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&weights, bytes).unwrap();
        let (model, seen) = counted(|| load_model(folder.path()));
        assert!(model.is_err() && seen.n_bytes < 1 << 20, "{seen:?} for a header of {length} bytes");
    }
    std::fs::write(&weights, &whole).unwrap();
    assert!(load_model(folder.path()).is_ok());
}

fn main() {
    a_step_allocates_nothing_after_the_first();
    neither_evaluation_nor_save_costs_a_step_anything();
    a_plan_counts_what_a_training_takes();
    decoding_allocates_nothing_after_the_first_token();
    samplers_allocate_nothing_after_the_first_draw();
    files_with_false_sizes_cost_no_memory();
    println!(
        "allocations: neither training nor decoding allocates after the first step, files that lie cost no memory"
    );
}
