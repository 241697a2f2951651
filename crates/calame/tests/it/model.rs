//! The model against itself: decoding, threads, accumulation, room that is reused.

use calame::model::{Dropout, ExtendScratch, Gpt, KvCache, ModelConfig, Part, Preset, Rows, Saved, Scratch};
use calame::ops::{Device, Isa, Precision};
use calame::rng::Key;
use calame::tensor::Tensor;

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

/// Larger weights than OpenAI's, so that a mistake of position or head shows.
fn model(dev: &Device, config: &ModelConfig) -> Gpt {
    let mut gpt = Gpt::fresh(dev, config, 7);
    gpt.tensors_mut().for_each(|(_, t)| t.as_mut_slice().iter_mut().for_each(|x| *x *= 4.0));
    gpt
}

#[test]
fn token_by_token_is_the_full_forward_at_every_position() {
    for tied_head in [true, false] {
        let config = ModelConfig { tied_head, qkv_bias: !tied_head, ..config() };
        for isa in Isa::available() {
            let dev = Device::cpu(2, isa, Precision::F32);
            let (gpt, t) = (model(&dev, &config), 150);
            let ids = tokens(t, 3);
            let full = gpt.logits(&dev, &ids, 1);
            let mut kv = KvCache::new(&config, 1);
            let mut scratch = ExtendScratch::new(&config, 1);
            let mut logits = Tensor::zeros([1, 101]);
            let mut rows = Rows::new();
            for (position, &id) in ids.iter().enumerate() {
                rows.clear();
                rows.push(0, id, true);
                gpt.extend(&dev, &mut rows, &mut kv, &mut logits, &mut scratch);
                let want = &full.as_slice()[position * 101..(position + 1) * 101];
                for (a, b) in logits.as_slice().iter().zip(want) {
                    assert!((a - b).abs() <= 1e-4, "position {position}: {a} against {b} under {isa}");
                }
            }
            assert_eq!(kv.len(0), t);
        }
    }
}

/// Logits after the last of `ids`, fed to sequence `s` in chunks, beside other sequences' rows where `beside` is set.
fn chunked(dev: &Device, gpt: &Gpt, ids: &[u32], chunk: usize, beside: bool) -> Vec<f32> {
    let mut kv = KvCache::new(&gpt.config, 3);
    let mut scratch = ExtendScratch::new(&gpt.config, 200);
    let mut logits = Tensor::zeros([3, 101]);
    let mut rows = Rows::new();
    let other = tokens(150, 99);
    let mut fed = 0;
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
        gpt.extend(dev, &mut rows, &mut kv, &mut logits, &mut scratch);
    }
    logits.as_slice().to_vec()
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_or_on_how_the_prompt_was_cut() {
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
fn pages_are_given_back() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let gpt = model(&dev, &config());
    let mut kv = KvCache::new(&gpt.config, 2);
    let mut scratch = ExtendScratch::new(&gpt.config, 150);
    let mut logits = Tensor::zeros([1, 101]);
    let mut first = Vec::new();
    for round in 0..4 {
        for sequence in [0, 1] {
            let mut rows = Rows::new();
            let ids = tokens(150, sequence as u64);
            ids.iter().enumerate().for_each(|(i, &id)| rows.push(sequence, id, i == 149));
            gpt.extend(&dev, &mut rows, &mut kv, &mut logits, &mut scratch);
            if round == 0 {
                first.push(logits.as_slice().to_vec());
            }
            assert_eq!(logits.as_slice(), first[sequence]);
        }
        // Back to front, so that pages change hands; once only in part.
        kv.truncate(0, if round == 1 { 70 } else { 0 });
        kv.clear(1);
        kv.clear(0);
        assert!(kv.is_empty());
    }
}

#[test]
#[should_panic(expected = "KvCache: sequence 1 is full: it has all 100 positions of the model's context")]
fn a_sequence_ends_at_the_context_not_at_its_last_page() {
    let dev = Device::cpu(1, Isa::detect(), Precision::F32);
    let gpt = model(&dev, &ModelConfig { n_positions: 100, ..config() });
    let mut kv = KvCache::new(&gpt.config, 2);
    let mut scratch = ExtendScratch::new(&gpt.config, 100);
    let mut logits = Tensor::zeros([1, 101]);
    let mut rows = Rows::new();
    tokens(100, 1).into_iter().for_each(|id| rows.push(1, id, false));
    gpt.extend(&dev, &mut rows, &mut kv, &mut logits, &mut scratch);
    assert_eq!((kv.len(0), kv.len(1)), (0, 100));
    rows.clear();
    rows.push(1, 5, true);
    gpt.extend(&dev, &mut rows, &mut kv, &mut logits, &mut scratch);
}

/// Weights after three steps of plain gradient descent, and the losses, with dropout.
fn train(dev: &Device, grad: impl Fn(&ModelConfig) -> Gpt) -> (Vec<f64>, Vec<f32>) {
    let config = config();
    let (mut gpt, mut grad) = (Gpt::fresh(dev, &config, 1), grad(&config));
    let (b, t) = (3, 70);
    let mut saved = Saved::for_training(&config, b, t);
    let mut scratch = Scratch::new(&config, b * t);
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut losses = Vec::new();
    for step in 0..3 {
        let drop = Dropout::of_step(Key::from_seed(step), 0, 0.1);
        let loss = gpt.forward_backward(
            dev,
            &inputs,
            &targets,
            b,
            &drop,
            1e-2,
            &mut grad,
            &mut saved,
            &mut scratch,
            &mut |part, gpt, grad| {
                for ((_, w), (_, g)) in gpt.part_mut(part).zip(grad.part_mut(part)) {
                    for (w, g) in w.as_mut_slice().iter_mut().zip(g.as_mut_slice()) {
                        *w -= 0.01 * *g;
                        *g = 0.0;
                    }
                }
            },
        );
        losses.push(loss);
    }
    (losses, gpt.tensors().flat_map(|(_, t)| t.as_slice().to_vec()).collect())
}

#[test]
fn the_same_bits_with_one_two_and_three_threads() {
    for isa in Isa::available() {
        for precision in Precision::ALL {
            let with = |n_threads| train(&Device::cpu(n_threads, isa, precision), Gpt::zeros);
            let one = with(1);
            assert!(one.0[2] < one.0[0], "the loss falls: {:?}", one.0);
            assert_eq!(with(2), one);
            assert_eq!(with(3), one);
        }
    }
}

/// The head takes a long batch by chunks of rows: loss and gradients are those of its sequences one by one, within rounding.
#[test]
fn a_batch_of_several_chunks_is_the_sum_of_its_sequences() {
    let config = ModelConfig { tied_head: false, ..config() };
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let (most, t) = (8, 100);
    let mut gpt = Gpt::fresh(&dev, &config, 1);
    let mut saved = Saved::for_training(&config, most, t);
    let mut scratch = Scratch::new(&config, most * t);
    let mut of = |gpt: &mut Gpt, inputs: &[u32], targets: &[u32], grad: &mut Gpt| {
        let (b, ready) = (inputs.len() / t, &mut |_, _: &mut Gpt, _: &mut Gpt| {});
        let (drop, scratch) = (Dropout::Off, &mut scratch);
        gpt.forward_backward(&dev, inputs, targets, b, &drop, 1e-2, grad, &mut saved, scratch, ready)
    };
    // 300 rows: a chunk of 256 and a short one; 700 rows: two of 350.
    for b in [3, 7] {
        let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
        let (mut whole, mut parts) = (Gpt::zeros(&config), Gpt::zeros(&config));
        let loss = of(&mut gpt, &inputs, &targets, &mut whole);
        let sum: f64 =
            inputs.chunks(t).zip(targets.chunks(t)).map(|(i, target)| of(&mut gpt, i, target, &mut parts)).sum();
        assert!((loss - sum).abs() <= 1e-5 * sum, "{b} sequences: {loss}, one by one {sum}");
        for ((name, a), (_, b)) in whole.tensors().zip(parts.tensors()).filter(|((_, a), _)| !a.is_empty()) {
            let largest = b.as_slice().iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let apart = a.as_slice().iter().zip(b.as_slice()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Keys' biases have no gradient but rounding.
            assert!(apart <= 1e-4 * largest.max(1e-3), "{name}: {apart:e} of {largest:e}");
        }
    }
}

/// Blocks whose gradients take turns at one block's memory get the same ones.
#[test]
fn gradients_of_one_block_are_those_of_all() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    assert!(config().n_layer > 1);
    assert_eq!(train(&dev, Gpt::zeros_of_one_block), train(&dev, Gpt::zeros));
}

#[test]
fn parts_become_final_once_in_order_and_masks_follow_the_sequence() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let config = config();
    let mut gpt = model(&dev, &config);
    let (b, t) = (4, 20);
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut saved = Saved::for_training(&config, b, t);
    let mut scratch = Scratch::new(&config, b * t);
    let mut parts = Vec::new();
    let mut whole = Gpt::zeros(&config);
    let key = Key::from_seed(3);
    let drop = Dropout::of_step(key, 0, 0.1);
    let loss = gpt.forward_backward(
        &dev,
        &inputs,
        &targets,
        b,
        &drop,
        0.1,
        &mut whole,
        &mut saved,
        &mut scratch,
        &mut |part, _, _| parts.push(part),
    );
    assert_eq!(parts, [Part::Head, Part::Block(2), Part::Block(1), Part::Block(0), Part::Embeddings]);
    // The same batch in two micro-steps of one and three sequences, the rooms reused.
    let mut summed = Gpt::zeros(&config);
    let mut sum = 0.0;
    for (from, to) in [(0, 1), (1, 4)] {
        let drop = Dropout::of_step(key, from as u32, 0.1);
        let (inputs, targets) = (&inputs[from * t..to * t], &targets[from * t..to * t]);
        sum += gpt.forward_backward(
            &dev,
            inputs,
            targets,
            to - from,
            &drop,
            0.1,
            &mut summed,
            &mut saved,
            &mut scratch,
            &mut |_, _, _| {},
        );
    }
    assert!((sum - loss).abs() <= 1e-6 * loss);
    for ((name, a), (_, b)) in summed.tensors().zip(whole.tensors()) {
        let largest = b.as_slice().iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
            assert!((a - b).abs() <= 1e-5 * largest, "{name}: {a} against {b}, largest {largest}");
        }
    }
}

#[test]
fn evaluation_in_one_blocks_room_is_the_training_forward() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let config = config();
    let mut gpt = model(&dev, &config);
    let (b, t) = (2, 33);
    let (inputs, targets) = (tokens(b * t, 5), tokens(b * t, 6));
    let mut scratch = Scratch::new(&config, b * t);
    let mut one = Saved::for_evaluation(&config, b, t);
    let mut all = Saved::for_training(&config, b, t);
    let evaluated = gpt.loss(&dev, &inputs, &targets, b, &mut one, &mut scratch);
    let trained = gpt.forward_backward(
        &dev,
        &inputs,
        &targets,
        b,
        &Dropout::Off,
        1.0,
        &mut Gpt::zeros(&config),
        &mut all,
        &mut scratch,
        &mut |_, _, _| {},
    );
    assert_eq!(evaluated, trained);
}

#[test]
fn fresh_weights_have_their_distributions() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    let openai = Preset::Tiny.config();
    let book = ModelConfig { init: calame::model::Init::Pytorch, ..openai.clone() };
    let std = |gpt: &Gpt, wanted: &str| {
        let (_, t) = gpt.tensors().find(|(name, _)| name.to_string() == wanted).unwrap();
        let x = t.as_slice();
        (x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64).sqrt()
    };
    let gpt = Gpt::fresh(&dev, &openai, 1);
    assert!((std(&gpt, "wte.weight") / 0.02 - 1.0).abs() < 0.01);
    assert!((std(&gpt, "h.1.mlp.c_proj.weight") / 0.01 - 1.0).abs() < 0.03);
    assert_eq!(std(&gpt, "h.0.attn.c_attn.bias"), 0.0);
    let gpt = Gpt::fresh(&dev, &book, 1);
    assert!((std(&gpt, "wte.weight") - 1.0).abs() < 0.01);
    // Uniform in ±1/√in has standard deviation 1/√(3·in).
    assert!((std(&gpt, "h.0.mlp.c_fc.weight") * (3.0f64 * 64.0).sqrt() - 1.0).abs() < 0.03);
    assert!((std(&gpt, "h.0.mlp.c_proj.weight") * (3.0f64 * 256.0).sqrt() - 1.0).abs() < 0.03);
    assert!((std(&gpt, "h.0.mlp.c_proj.bias") * (3.0f64 * 256.0).sqrt() - 1.0).abs() < 0.2);
    assert_eq!(std(&gpt, "ln_f.weight"), 1.0);
}
