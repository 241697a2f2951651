//! The model compared with itself: decoding, pages, threads, accumulation, reused buffers.

use calame::model::{
    Batch, BatchSlices, Dropout, ExtendScratch, Gpt, GradientSink, Gradients, KvError, KvPool, ModelConfig, Part,
    PartGradient, Preset, ReturnAll, Rows, Saved, Scratch, Trainable, Weights, n_pages,
};
use calame::ops::{self, Device, Isa, Precision};
use calame::rng::Key;
use calame::tensor::{Alloc, Tensor};

use crate::support::{bits, scale, values};

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 101,
        n_positions: 150,
        n_embd: 48,
        n_head: 3,
        n_layer: 3,
        dropout: 0.1,
        ..Preset::Tiny.config()
    }
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = calame::rng::Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(101) as u32).collect()
}

/// Larger weights than OpenAI's initial ones, so that a wrong position or head has a visible effect.
fn model(dev: &Device, config: &ModelConfig) -> Gpt {
    let mut gpt = Gpt::fresh(dev, config, 7);
    scale(&mut gpt, 4.0);
    gpt
}

/// Inference with several sequences: a pool large enough for all of them, and their page tables.
struct Decoder<'a> {
    dev: &'a Device,
    gpt: &'a Gpt,
    pool: KvPool,
    tables: Vec<calame::model::PageTable>,
    logits: Tensor,
    scratch: ExtendScratch,
}

impl<'a> Decoder<'a> {
    fn new(dev: &'a Device, gpt: &'a Gpt, n_sequences: usize, n_rows: usize) -> Decoder<'a> {
        let alloc = &mut Alloc::on(dev);
        let pool = KvPool::new(&gpt.config, n_sequences * n_pages(gpt.config.n_positions), alloc);
        let tables = (0..n_sequences).map(|_| pool.new_table()).collect();
        let logits = alloc.zeros([n_sequences, gpt.config.vocab_size]);
        let scratch = ExtendScratch::new(&gpt.config, n_rows, n_sequences, 0, alloc);
        Decoder { dev, gpt, pool, tables, logits, scratch }
    }

    fn extend(&mut self, rows: &Rows) -> Result<Vec<f32>, KvError> {
        let Decoder { dev, gpt, pool, tables, logits, scratch } = self;
        gpt.extend(dev, rows, tables, pool, logits, scratch)?;
        Ok(values(logits))
    }
}

#[test]
fn token_by_token_is_the_full_forward_at_every_position() {
    for tied_head in [true, false] {
        let config = ModelConfig { tied_head, qkv_bias: !tied_head, ..config() };
        for isa in Isa::available() {
            let dev = Device::cpu(2, isa, Precision::F32);
            let (gpt, t) = (model(&dev, &config), 150);
            let ids = tokens(t, 3);
            let full = values(&gpt.logits(&dev, &ids, 1));
            let mut decoder = Decoder::new(&dev, &gpt, 1, 1);
            let mut rows = Rows::new();
            for (position, &id) in ids.iter().enumerate() {
                rows.clear();
                rows.push(0, id, true);
                let logits = decoder.extend(&rows).unwrap();
                let want = &full[position * 101..(position + 1) * 101];
                for (a, b) in logits.iter().zip(want) {
                    assert!((a - b).abs() <= 1e-4, "position {position}: {a} against {b} under {isa}");
                }
            }
            assert_eq!(decoder.tables[0].len(), t);
        }
    }
}

/// Logits after the last of `ids`, fed to sequence `s` in chunks, together with rows of other sequences if `beside` is
/// set.
fn chunked(dev: &Device, gpt: &Gpt, ids: &[u32], chunk: usize, beside: bool) -> Vec<f32> {
    let mut decoder = Decoder::new(dev, gpt, 3, 200);
    let mut rows = Rows::new();
    let other = tokens(150, 99);
    let (mut fed, mut logits) = (0, Vec::new());
    for piece in ids.chunks(chunk) {
        rows.clear();
        if beside {
            other[fed..fed + piece.len()].iter().for_each(|&id| rows.push(0, id, false));
        }
        fed += piece.len();
        for (i, &id) in piece.iter().enumerate() {
            rows.push(1, id, fed == ids.len() && i + 1 == piece.len());
            if beside && i == 0 {
                rows.push(2, 5, false);
            }
        }
        logits = decoder.extend(&rows).unwrap();
    }
    logits
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_or_on_how_the_prompt_was_split() {
    for isa in Isa::available() {
        let dev = Device::cpu(3, isa, Precision::F32);
        let gpt = model(&dev, &config());
        let ids = tokens(77, 4);
        let whole = chunked(&dev, &gpt, &ids, 77, false);
        for (chunk, beside) in [(1, false), (10, false), (40, true), (77, true), (1, true)] {
            assert_eq!(chunked(&dev, &gpt, &ids, chunk, beside), whole, "chunks of {chunk}, beside: {beside}");
        }
    }
}

#[test]
fn pages_are_released() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let gpt = model(&dev, &config());
    let mut decoder = Decoder::new(&dev, &gpt, 2, 150);
    let n_pages = decoder.pool.n_free();
    let mut first = Vec::new();
    for round in 0..4 {
        for sequence in [0, 1] {
            let mut rows = Rows::new();
            let ids = tokens(150, sequence as u64);
            ids.iter().enumerate().for_each(|(i, &id)| rows.push(sequence, id, i == 149));
            let logits = decoder.extend(&rows).unwrap();
            if round == 0 {
                first.push(logits.clone());
            }
            assert_eq!(logits, first[sequence]);
        }
        assert_eq!(decoder.pool.n_free(), 0);
        // In reverse order, so that pages are reused by other sequences; once only in part.
        let Decoder { pool, tables, .. } = &mut decoder;
        pool.truncate(&mut tables[0], if round == 1 { 70 } else { 0 });
        pool.release(&mut tables[1]);
        pool.release(&mut tables[0]);
        assert!(tables.iter().all(calame::model::PageTable::is_empty));
        assert_eq!(pool.n_free(), n_pages);
    }
}

#[test]
fn a_sequence_ends_at_the_context_not_at_its_last_page_and_a_pool_can_run_out() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let gpt = model(&dev, &ModelConfig { n_positions: 100, ..config() });
    let mut decoder = Decoder::new(&dev, &gpt, 2, 101);
    let mut rows = Rows::new();
    tokens(100, 1).into_iter().for_each(|id| rows.push(1, id, false));
    decoder.extend(&rows).unwrap();
    assert_eq!([decoder.tables[0].len(), decoder.tables[1].len()], [0, 100]);
    rows.clear();
    rows.push(0, 5, true);
    rows.push(1, 5, true);
    let full = decoder.extend(&rows).unwrap_err();
    assert_eq!(full, KvError::ContextFull { len: 100, n_new: 1, n_positions: 100 });
    assert!(full.to_string().contains("the model's context is 100"), "{full}");
    assert!(decoder.tables[0].is_empty(), "nothing has changed");

    // A pool of three pages for sequences that may need four.
    decoder.pool = KvPool::new(&gpt.config, 3, &mut Alloc::on(&dev));
    decoder.tables = vec![decoder.pool.new_table(), decoder.pool.new_table()];
    rows.clear();
    tokens(100, 1).into_iter().for_each(|id| rows.push(1, id, false));
    decoder.extend(&rows).unwrap();
    rows.clear();
    (0..65).for_each(|id| rows.push(0, id, false));
    assert_eq!(decoder.extend(&rows), Err(KvError::OutOfPages { n_needed: 2, n_free: 1 }));
    let Decoder { pool, tables, .. } = &mut decoder;
    assert_eq!((tables[0].len(), pool.n_free()), (0, 1), "nothing has changed");
    pool.release(&mut tables[1]);
    decoder.extend(&rows).unwrap();
}

/// Sequences with a common prefix share its keys and values, and growing one does not affect the other: a shared page
/// that is not full is copied first.
#[test]
fn sequences_share_the_pages_of_a_common_prefix() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let gpt = model(&dev, &config());
    let prefix = tokens(70, 1);
    let continued = |after: &[u32]| {
        let mut decoder = Decoder::new(&dev, &gpt, 1, 150);
        let mut rows = Rows::new();
        let all = prefix.iter().chain(after);
        all.enumerate().for_each(|(i, &id)| rows.push(0, id, i + 1 == prefix.len() + after.len()));
        decoder.extend(&rows).unwrap()
    };
    let mut decoder = Decoder::new(&dev, &gpt, 2, 150);
    let mut rows = Rows::new();
    prefix.iter().for_each(|&id| rows.push(0, id, false));
    decoder.extend(&rows).unwrap();
    let n_free = decoder.pool.n_free();
    decoder.tables[1] = decoder.pool.fork(&decoder.tables[0]);
    assert_eq!(decoder.pool.n_free(), n_free, "nothing is copied yet");
    let (mine, others) = (tokens(5, 2), tokens(5, 3));
    for i in 0..5 {
        rows.clear();
        rows.push(0, mine[i], true);
        rows.push(1, others[i], true);
        let logits = decoder.extend(&rows).unwrap();
        if i == 4 {
            assert_eq!(logits, [continued(&mine), continued(&others)].concat());
        }
    }
    assert_eq!(decoder.pool.n_free(), n_free - 1, "of two pages the full one is still shared");
    let Decoder { pool, tables, .. } = &mut decoder;
    pool.release(&mut tables[0]);
    assert_eq!(pool.n_free(), n_free, "the shared page is still in use");
    pool.release(&mut tables[1]);
    assert_eq!(pool.n_free(), 2 * n_pages(150));
}

#[test]
#[should_panic(expected = "Gpt::logits: token 101 is not one of the model's 101")]
fn logits_of_a_token_outside_the_vocabulary_are_refused_by_name() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    Gpt::fresh(&dev, &config(), 1).logits(&dev, &[1, 101], 1);
}

/// Everything needed to train by hand.
struct Training<'a> {
    dev: &'a Device,
    gpt: Gpt,
    grads: Gradients,
    saved: Saved,
    scratch: Scratch,
    batch: Batch,
}

impl<'a> Training<'a> {
    /// For up to [b, t] tokens, with gradient buffers for `n_buffers` blocks.
    fn new(dev: &'a Device, gpt: Gpt, [b, t]: [usize; 2], n_buffers: usize) -> Training<'a> {
        let (config, alloc) = (gpt.config.clone(), &mut Alloc::on(dev));
        Training {
            dev,
            grads: Gradients::new(&gpt, None, Trainable::ALL, n_buffers, alloc),
            gpt,
            saved: Saved::for_training(&config, b, t, alloc),
            scratch: Scratch::new(&config, b * t, alloc),
            batch: Batch::new(b * t, alloc),
        }
    }

    fn micro_step(
        &mut self,
        inputs: &[u32],
        targets: &[u32],
        b: usize,
        drop: &Dropout<'_>,
        scale: f32,
        sink: &mut dyn GradientSink,
    ) -> f64 {
        let Training { dev, gpt, grads, saved, scratch, batch } = self;
        batch.load(dev, BatchSlices::new(inputs, targets, b));
        let loss = gpt.forward_backward(dev, batch, drop, scale, grads, saved, scratch, sink);
        grads.drain(dev, Weights { gpt, own_head: None }, sink);
        loss
    }
}

/// Plain gradient descent, applied to each part immediately, or to parts that are held until `n_held` have arrived.
#[derive(Default)]
struct Descent {
    n_held: usize,
    held: std::collections::VecDeque<PartGradient>,
    order: Vec<Part>,
}

impl Descent {
    fn update(&self, dev: &Device, weights: Weights<'_>, gradient: &mut PartGradient) {
        for ((_, w), (_, g)) in weights.gpt.part_mut(gradient.part()).zip(gradient.tensors_mut()) {
            assert_eq!(w.dims(), g.dims(), "weights and gradients are in step");
            ops::add_scaled(dev, -0.01, g, w);
        }
        gradient.zero(dev);
    }
}

impl GradientSink for Descent {
    fn accept(&mut self, dev: &Device, weights: Weights<'_>, mut gradient: PartGradient) -> Option<PartGradient> {
        self.order.push(gradient.part());
        if self.n_held == 0 {
            self.update(dev, weights, &mut gradient);
            return Some(gradient);
        }
        self.held.push_back(gradient);
        (self.held.len() > self.n_held).then(|| self.reclaim(dev, weights)).flatten()
    }

    fn reclaim(&mut self, dev: &Device, weights: Weights<'_>) -> Option<PartGradient> {
        let mut gradient = self.held.pop_front()?;
        self.update(dev, weights, &mut gradient);
        Some(gradient)
    }
}

/// Weights after three steps of gradient descent with dropout, and the losses.
fn train(dev: &Device, n_buffers: usize, n_held: usize) -> (Vec<f64>, Vec<u32>) {
    let (b, t) = (3, 70);
    let mut training = Training::new(dev, Gpt::fresh(dev, &config(), 1), [b, t], n_buffers);
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut sink = Descent { n_held, ..Descent::default() };
    let step = |step| {
        let drop = Dropout::of_step(Key::from_seed(step), 0, 0.1);
        training.micro_step(&inputs, &targets, b, &drop, 1e-2, &mut sink)
    };
    let losses = (0..3).map(step).collect();
    (losses, bits(&training.gpt))
}

#[test]
fn the_same_bits_with_one_two_and_three_threads() {
    for isa in Isa::available() {
        for precision in Precision::ALL {
            let with = |n_threads| train(&Device::cpu(n_threads, isa, precision), 3, 0);
            let one = with(1);
            assert!(one.0[2] < one.0[0], "the loss falls: {:?}", one.0);
            assert_eq!(with(2), one);
            assert_eq!(with(3), one);
        }
    }
}

/// Gradients are the same whether blocks share buffers, have a buffer each, or a sink holds them for a while or until
/// the end of the step.
#[test]
fn the_same_bits_however_gradients_are_held() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let each = train(&dev, 3, 0);
    for (n_buffers, n_held) in [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 5), (1, 5), (7, 2)] {
        assert_eq!(train(&dev, n_buffers, n_held), each, "{n_buffers} buffers, {n_held} gradients held");
    }
}

#[test]
#[should_panic(expected = "the buffer of Block(1) is neither free nor held")]
fn a_sink_that_loses_a_buffer_is_found() {
    struct Loses;
    impl GradientSink for Loses {
        fn accept(&mut self, _: &Device, _: Weights<'_>, gradient: PartGradient) -> Option<PartGradient> {
            Some(gradient).filter(|gradient| !matches!(gradient, PartGradient::Block(..)))
        }
    }
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let mut training = Training::new(&dev, Gpt::fresh(&dev, &config(), 1), [1, 8], 1);
    training.micro_step(&tokens(8, 5), &tokens(8, 6), 1, &Dropout::Off, 1.0, &mut Loses);
}

/// The loss that all participants agree on decides for all of them: after a non-finite one no gradient is passed on.
#[test]
fn no_gradient_is_passed_on_unless_the_agreed_loss_is_finite() {
    struct AnotherFails;
    impl GradientSink for AnotherFails {
        fn agree(&mut self, loss: f64) -> f64 {
            assert!(loss.is_finite());
            f64::NAN
        }
        fn accept(&mut self, _: &Device, _: Weights<'_>, gradient: PartGradient) -> Option<PartGradient> {
            panic!("the gradient of {:?}", gradient.part())
        }
    }
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let mut training = Training::new(&dev, Gpt::fresh(&dev, &config(), 1), [1, 8], 1);
    let before = bits(&training.gpt);
    let loss = training.micro_step(&tokens(8, 5), &tokens(8, 6), 1, &Dropout::Off, 1.0, &mut AnotherFails);
    assert!(loss.is_nan() && bits(&training.gpt) == before);
}

/// The head processes a long batch in chunks of rows; loss and gradients equal those of its sequences one by one,
/// within rounding.
#[test]
fn a_batch_of_several_chunks_is_the_sum_of_its_sequences() {
    let config = ModelConfig { tied_head: false, ..config() };
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let (most, t) = (8, 100);
    let mut training = Training::new(&dev, Gpt::fresh(&dev, &config, 1), [most, t], config.n_layer);
    let mut gradients = |batches: &[(&[u32], &[u32])]| {
        training.grads.zero(&dev);
        let one = |(inputs, targets): &(&[u32], &[u32])| {
            training.micro_step(inputs, targets, inputs.len() / t, &Dropout::Off, 1e-2, &mut ReturnAll)
        };
        let sum: f64 = batches.iter().map(one).sum();
        let all: Vec<_> = training.grads.tensors().map(|(name, tensor)| (name, values(tensor))).collect();
        (sum, all)
    };
    // 300 rows make a chunk of 256 and a short one; 700 rows make two of 350.
    for b in [3, 7] {
        let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
        let (loss, whole) = gradients(&[(&inputs, &targets)]);
        let one_by_one: Vec<_> = inputs.chunks(t).zip(targets.chunks(t)).collect();
        let (sum, parts) = gradients(&one_by_one);
        assert!((loss - sum).abs() <= 1e-5 * sum, "{b} sequences: {loss}, one by one {sum}");
        for ((name, a), (_, b)) in whole.iter().zip(&parts).filter(|((_, a), _)| !a.is_empty()) {
            let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let apart = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // The gradient of a key's bias is zero except for rounding.
            assert!(apart <= 1e-4 * largest.max(1e-3), "{name}: {apart:e} of {largest:e}");
        }
    }
}

#[test]
fn parts_become_final_once_in_order_and_masks_follow_the_sequence() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let (b, t, key) = (4, 20, Key::from_seed(3));
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut sink = Descent::default();
    let mut training = Training::new(&dev, model(&dev, &config()), [b, t], 1);
    training.micro_step(&inputs, &targets, b, &Dropout::of_step(key, 0, 0.1), 0.1, &mut sink);
    assert_eq!(sink.order, [Part::Head, Part::Block(2), Part::Block(1), Part::Block(0), Part::Embeddings]);

    // The whole batch, and the same in two micro-steps of one and three sequences, with the same buffers.
    let mut training = Training::new(&dev, model(&dev, &config()), [b, t], 3);
    let loss = training.micro_step(&inputs, &targets, b, &Dropout::of_step(key, 0, 0.1), 0.1, &mut ReturnAll);
    let whole: Vec<Vec<f32>> = training.grads.tensors().map(|(_, tensor)| values(tensor)).collect();
    training.grads.zero(&dev);
    let mut sum = 0.0;
    for (from, to) in [(0, 1), (1, 4)] {
        let drop = Dropout::of_step(key, from as u32, 0.1);
        let (inputs, targets) = (&inputs[from * t..to * t], &targets[from * t..to * t]);
        sum += training.micro_step(inputs, targets, to - from, &drop, 0.1, &mut ReturnAll);
    }
    assert!((sum - loss).abs() <= 1e-6 * loss);
    for ((name, a), b) in training.grads.tensors().zip(&whole) {
        let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (a, b) in values(a).iter().zip(b) {
            assert!((a - b).abs() <= 1e-5 * largest, "{name}: {a} against {b}, largest {largest}");
        }
    }
}

#[test]
fn evaluation_in_the_buffers_of_one_block_is_the_training_forward() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let (b, t) = (2, 33);
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut training = Training::new(&dev, model(&dev, &config()), [b, t], 1);
    training.batch.load(&dev, BatchSlices::new(&inputs, &targets, b));
    let mut one = Saved::for_evaluation(&config(), b, t, &mut Alloc::on(&dev));
    let evaluated = training.gpt.loss(&dev, &training.batch, &mut one, &mut training.scratch);
    let trained = training.micro_step(&inputs, &targets, b, &Dropout::Off, 1.0, &mut Descent::default());
    assert_eq!(evaluated, trained);
}

#[test]
fn fresh_weights_have_their_distributions() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let openai = Preset::Tiny.config();
    let book = ModelConfig { init: calame::model::Init::Pytorch, ..openai.clone() };
    let std = |gpt: &Gpt, wanted: &str| {
        let (_, t) = gpt.tensors().find(|(name, _)| name.to_string() == wanted).unwrap();
        let x = values(t);
        (x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64).sqrt()
    };
    let gpt = Gpt::fresh(&dev, &openai, 1);
    assert!((std(&gpt, "wte.weight") / 0.02 - 1.0).abs() < 0.01);
    assert!((std(&gpt, "h.1.mlp.c_proj.weight") / 0.01 - 1.0).abs() < 0.03);
    assert_eq!(std(&gpt, "h.0.attn.c_attn.bias"), 0.0);
    let gpt = Gpt::fresh(&dev, &book, 1);
    assert!((std(&gpt, "wte.weight") - 1.0).abs() < 0.01);
    // A uniform distribution in ±1/√in has standard deviation 1/√(3·in).
    assert!((std(&gpt, "h.0.mlp.c_fc.weight") * (3.0f64 * 64.0).sqrt() - 1.0).abs() < 0.03);
    assert!((std(&gpt, "h.0.mlp.c_proj.weight") * (3.0f64 * 256.0).sqrt() - 1.0).abs() < 0.03);
    assert!((std(&gpt, "h.0.mlp.c_proj.bias") * (3.0f64 * 256.0).sqrt() - 1.0).abs() < 0.2);
    assert_eq!(std(&gpt, "ln_f.weight"), 1.0);
}
