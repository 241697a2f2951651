//! Generation: compared with the book's loop, past the context, by seed, and rejected prompts.

use calame::infer::{GenerateError, Generation, GenerationLimits, Sampler, SamplerConfig, SamplerError};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tokenizer::{Bpe, SimpleTokenizer, Special, StreamDecoder, Tokenizer};

use crate::support::{change, scale, values};

const VOCAB: usize = 101;
const CONTEXT: usize = 20;

fn config() -> ModelConfig {
    ModelConfig { vocab_size: VOCAB, n_positions: CONTEXT, n_embd: 48, n_head: 3, n_layer: 2, ..Preset::Tiny.config() }
}

/// One thread, because the tests themselves run in parallel.
fn device() -> Device {
    Device::cpu(1, Isa::detect(), Precision::F32)
}

/// A model whose next token depends on its whole context: its weights are larger than OpenAI's initial ones.
fn model(dev: &Device, config: &ModelConfig) -> Gpt {
    let mut gpt = Gpt::fresh(dev, config, 7);
    scale(&mut gpt, 6.0);
    gpt
}

fn limits(max_tokens: usize, slide: usize) -> GenerationLimits {
    GenerationLimits { max_tokens, slide }
}

fn greedy() -> Sampler {
    Sampler::new(&SamplerConfig::default(), 0).unwrap()
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB as u64) as u32).collect()
}

/// The prompt followed by `n` generated tokens.
fn generated(dev: &Device, gpt: &Gpt, prompt: &[u32], sampler: Sampler, slide: usize, n: usize) -> Vec<u32> {
    let mut generation = Generation::new(dev, gpt, prompt, sampler, limits(n, slide)).unwrap();
    for i in 0..n {
        let token = generation.next_token().unwrap().unwrap();
        assert_eq!(generation.tokens().len(), prompt.len() + i + 1);
        assert_eq!(generation.tokens().last(), Some(&token));
    }
    assert_eq!(generation.next_token(), Ok(None), "as many as were asked for");
    generation.tokens().to_vec()
}

/// The book's loop: runs the whole model over the cropped context and takes the most likely token. If the context would
/// exceed the model's, at least `slide` tokens are dropped.
fn by_the_book(dev: &Device, gpt: &Gpt, prompt: &[u32], slide: usize, n: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    let mut start = 0;
    for _ in 0..n {
        if ids.len() - start > gpt.config.n_positions {
            start = ids.len() - (gpt.config.n_positions + 1 - slide);
        }
        let logits = gpt.logits(dev, &ids[start..], 1);
        let last = &values(&logits)[(ids.len() - start - 1) * gpt.config.vocab_size..];
        let best = (1..last.len()).fold(0, |best, i| if last[i] > last[best] { i } else { best });
        ids.push(best as u32);
    }
    ids
}

#[test]
fn greedy_generation_is_the_books_loop_far_past_the_context() {
    let dev = device();
    for (tied_head, qkv_bias) in [(true, true), (false, false)] {
        let gpt = model(&dev, &ModelConfig { tied_head, qkv_bias, ..config() });
        for prompt in [tokens(1, 1), tokens(7, 2), tokens(CONTEXT, 3)] {
            let text = generated(&dev, &gpt, &prompt, greedy(), 1, 3 * CONTEXT);
            assert_eq!(text, by_the_book(&dev, &gpt, &prompt, 1, 3 * CONTEXT));
            let different: std::collections::HashSet<u32> = text[prompt.len()..].iter().copied().collect();
            assert!(different.len() > 3, "a text that says nothing tests nothing: {text:?}");
        }
    }
}

#[test]
fn a_larger_slide_gives_the_same_text_within_the_context_and_runs_past_it() {
    let dev = device();
    let gpt = model(&dev, &config());
    let prompt = tokens(5, 4);
    // The token after a full context still depends on all of it.
    let within = CONTEXT - prompt.len() + 1;
    let one = generated(&dev, &gpt, &prompt, greedy(), 1, within);
    for slide in [0, 2, 7, CONTEXT, 10 * CONTEXT] {
        let text = generated(&dev, &gpt, &prompt, greedy(), slide, 4 * CONTEXT);
        assert_eq!(text[..one.len()], one, "slide {slide}");
        let slide = slide.clamp(1, CONTEXT);
        assert_eq!(text, by_the_book(&dev, &gpt, &prompt, slide, 4 * CONTEXT), "slide {slide}");
    }
}

#[test]
fn the_seed_decides_what_is_drawn() {
    let dev = device();
    let gpt = model(&dev, &config());
    let with = |seed, n_threads| {
        let config = SamplerConfig { temperature: 1.5, seed, ..SamplerConfig::default() };
        let dev = Device::cpu(n_threads, Isa::detect(), Precision::F32);
        generated(&dev, &gpt, &tokens(4, 5), Sampler::new(&config, 0).unwrap(), 3, 2 * CONTEXT)
    };
    let text = with(1, 2);
    assert_eq!(with(1, 2), text);
    assert_eq!(with(1, 1), text);
    assert_eq!(with(1, 3), text);
    assert_ne!(with(2, 2), text);
}

#[test]
fn top_k_of_one_is_greedy() {
    let dev = device();
    let gpt = model(&dev, &config());
    let config = SamplerConfig { temperature: 1.0, top_k: 1, ..SamplerConfig::default() };
    let prompt = tokens(4, 6);
    let drawn = generated(&dev, &gpt, &prompt, Sampler::new(&config, 0).unwrap(), 1, CONTEXT);
    assert_eq!(drawn, generated(&dev, &gpt, &prompt, greedy(), 1, CONTEXT));
}

#[test]
fn prompts_that_cannot_be_continued_are_errors() {
    let dev = device();
    let gpt = model(&dev, &config());
    let error = |prompt: &[u32]| Generation::new(&dev, &gpt, prompt, greedy(), limits(1, 1)).err().unwrap();
    assert_eq!(error(&[]), GenerateError::EmptyPrompt);
    let long = error(&tokens(CONTEXT + 1, 1));
    assert_eq!(long, GenerateError::PromptTooLong { n_tokens: CONTEXT + 1, n_positions: CONTEXT });
    let message = long.to_string();
    assert!(message.contains("21 tokens") && message.contains("context is 20"), "{message}");
    let foreign = error(&[1, VOCAB as u32, 2]);
    assert_eq!(foreign, GenerateError::UnknownToken { id: VOCAB as u32, vocab_size: VOCAB });
    assert!(foreign.to_string().contains("token 101"));
    assert!(Generation::new(&dev, &gpt, &[VOCAB as u32 - 1], greedy(), limits(1, 1)).is_ok());
}

#[test]
fn weights_that_are_not_numbers_are_an_error() {
    let dev = device();
    for temperature in [0.0, 1.0] {
        let mut gpt = model(&dev, &config());
        change(&mut gpt.h[1].attn.c_proj.weight, |x| x[17] = f32::NAN);
        let config = SamplerConfig { temperature, ..SamplerConfig::default() };
        let mut generation =
            Generation::new(&dev, &gpt, &[1, 2], Sampler::new(&config, 0).unwrap(), limits(2, 1)).unwrap();
        for _ in 0..2 {
            assert_eq!(generation.next_token(), Err(GenerateError::Sampler(SamplerError::NotFinite)));
        }
        assert_eq!(generation.tokens(), [1, 2], "nothing was added");
    }
}

/// The joined pieces of text as ids arrive.
fn streamed(tokenizer: &dyn Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id).unwrap()).collect();
    text += &decoder.finish();
    text
}

#[test]
fn a_stream_of_generated_ids_decodes_to_the_whole_text() {
    let dev = device();
    // Random weights over GPT-2's vocabulary, so that ids end inside characters.
    let bpe = Bpe::gpt2();
    let gpt = model(&dev, &ModelConfig { vocab_size: bpe.n_vocab(), n_embd: 12, n_layer: 1, ..config() });
    let config = SamplerConfig { temperature: 5.0, ..SamplerConfig::default() };
    let prompt = bpe.encode("Every effort moves you", Special::Forbid).unwrap();
    let ids = generated(&dev, &gpt, &prompt, Sampler::new(&config, 0).unwrap(), 5, 200);
    let whole = bpe.decode(&ids).unwrap();
    assert!(whole.starts_with("Every effort moves you"));
    assert_eq!(streamed(bpe.as_ref(), &ids), whole);

    // A word tokenizer, whose text depends on neighbouring words: commas follow words without a space.
    let words = SimpleTokenizer::v2("Every effort, every one; moves you (or me): \"so\" he said -- and left.").unwrap();
    let gpt = model(&dev, &ModelConfig { vocab_size: words.n_vocab(), ..self::config() });
    let ids = generated(&dev, &gpt, &[3, 1], Sampler::new(&config, 0).unwrap(), 5, 200);
    assert_eq!(streamed(&words, &ids), words.decode(&ids).unwrap());
}
