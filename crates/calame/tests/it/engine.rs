//! The engine: many sequences at once give what each gives alone, within the memory budget.

use std::collections::HashMap;

use calame::formats::ModelFile;
use calame::infer::{
    Engine, EngineLimits, Event, FinishReason, GenerateError, Request, Sampler, SamplerConfig, SequenceId,
};
use calame::model::{Gpt, ModelConfig, PAGE_LEN, Preset, kv_page_bytes};
use calame::ops::{Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tensor::NumberFormat;

use crate::support::{change, scale};

const VOCAB: usize = 101;
const CONTEXT: usize = 300;

fn device(n_threads: usize) -> Device {
    Device::cpu(n_threads, Isa::detect(), Precision::F32)
}

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: VOCAB,
        n_positions: CONTEXT,
        n_embd: 32,
        n_layer: 2,
        n_head: 2,
        dropout: 0.0,
        ..Preset::Tiny.config()
    }
}

/// A model whose next token depends on its whole context, in a number format, whose blocks may be wider than the model.
fn model(dev: &Device, format: NumberFormat) -> Gpt {
    let n_embd = config().n_embd.max(format.block_len());
    let mut gpt = Gpt::fresh(dev, &ModelConfig { n_embd, ..config() }, 7);
    scale(&mut gpt, 6.0);
    gpt.for_inference(dev, format)
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(VOCAB as u64) as u32).collect()
}

fn greedy() -> Sampler {
    Sampler::new(&SamplerConfig::default(), 0).unwrap()
}

fn drawing(seed: u64) -> Sampler {
    Sampler::new(&SamplerConfig { temperature: 1.3, seed, ..SamplerConfig::default() }, 0).unwrap()
}

fn limits(max_rows: usize, max_sequences: usize, n_pages: usize) -> EngineLimits {
    let kv_bytes = n_pages as u64 * kv_page_bytes(&config());
    EngineLimits { max_rows, max_sequences, max_drafts: 8, kv_bytes }
}

type Engines<'a> = Engine<&'a Device, &'a Gpt>;

/// Runs until no sequence is left; returns the new tokens of each, and why it ended.
fn run(engine: &mut Engines<'_>) -> HashMap<SequenceId, (Vec<u32>, Option<FinishReason>)> {
    let mut all: HashMap<SequenceId, (Vec<u32>, Option<FinishReason>)> = HashMap::new();
    for _ in 0..100_000 {
        if engine.is_idle() {
            let state = engine.state();
            engine.forget_prefixes();
            assert_eq!(engine.state().n_free_pages, state.n_pages, "all pages are free again");
            return all;
        }
        for event in engine.step() {
            match event {
                Event::Token { sequence, token, .. } => all.entry(*sequence).or_default().0.push(*token),
                Event::Finished { sequence, reason } => {
                    let ended = all.entry(*sequence).or_default();
                    assert_eq!(ended.1.replace(*reason), None);
                }
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
    }
    panic!("it never ends");
}

/// The new tokens of one request alone, in an engine with room for all of it.
fn alone(dev: &Device, gpt: &Gpt, request: &Request) -> Vec<u32> {
    let limits = EngineLimits { kv_bytes: 8 * kv_page_bytes(&gpt.config), ..limits(512, 1, 0) };
    let mut engine = Engine::new(dev, gpt, limits).unwrap();
    let id = engine.add(request.clone()).unwrap();
    run(&mut engine).remove(&id).unwrap().0
}

/// Requests of many kinds: short and long prompts, common beginnings, greedy and drawn, with and without drafts.
fn requests() -> Vec<Request> {
    let long = tokens(200, 1);
    (0..16)
        .map(|i| {
            let prompt = match i % 4 {
                0 => tokens(1 + i, i as u64),
                1 => long.clone(),
                2 => [&long[..130], &tokens(9, i as u64)[..]].concat(),
                _ => long[..PAGE_LEN * 2].to_vec(),
            };
            let sampler = if i % 3 == 0 { drawing(i as u64) } else { greedy() };
            Request { n_drafts: i % 2 * 4, ..Request::new(prompt, sampler, 20 + 5 * i) }
        })
        .collect()
}

/// In every batch, with preemption, shared beginnings, drafts and any chunks of prompts, each sequence is the same.
#[test]
fn a_sequence_does_not_depend_on_the_others() {
    use NumberFormat::{Bf16, F16, F32, Q4_0, Q6K, Q8_0};
    for format in [F32, Bf16, F16, Q8_0, Q4_0, Q6K] {
        let dev = device(2);
        let gpt = model(&dev, format);
        assert_eq!(gpt.head().format(), Some(format));
        let page_bytes = kv_page_bytes(&gpt.config);
        let requests = requests();
        let without_drafts = |request: &Request| Request { n_drafts: 0, ..request.clone() };
        let expected: Vec<Vec<u32>> = requests.iter().map(|r| alone(&dev, &gpt, &without_drafts(r))).collect();
        for (i, (request, expected)) in requests.iter().zip(&expected).enumerate() {
            assert_eq!(expected.len(), (20 + 5 * i).min(CONTEXT + 1 - request.prompt.len()));
        }
        let mut n_preempted = 0;
        for (n, max_rows, n_sequences, n_pages) in
            [(2, 512, 2, 20), (7, 64, 7, 64), (16, 256, 16, 200), (16, 7, 5, 64), (16, 33, 16, 8), (16, 300, 16, 5)]
        {
            let limits = EngineLimits { kv_bytes: n_pages as u64 * page_bytes, ..limits(max_rows, n_sequences, 0) };
            let mut engine = Engine::new(&dev, &gpt, limits).unwrap();
            let ids: Vec<SequenceId> = requests[..n].iter().map(|r| engine.add(r.clone()).unwrap()).collect();
            let found = run(&mut engine);
            for (i, id) in ids.iter().enumerate() {
                let (tokens, reason) = &found[id];
                assert_eq!(tokens, &expected[i], "{format}: sequence {i} of {n}, {max_rows} rows, {n_pages} pages");
                let is_full = requests[i].prompt.len() + tokens.len() > CONTEXT;
                assert_eq!(*reason, Some(if is_full { FinishReason::Context } else { FinishReason::MaxTokens }));
            }
            n_preempted += engine.state().n_preempted;
        }
        assert!(n_preempted > 0, "the smallest pools make no sequence wait");
    }
}

/// Beginnings of running and of ended sequences are shared, by whole pages and inside pages.
#[test]
fn common_beginnings_are_computed_once() {
    let dev = device(1);
    let gpt = model(&dev, NumberFormat::F32);
    let prompt = tokens(200, 1);
    let mut engine = Engine::new(&dev, &gpt, limits(512, 8, 24)).unwrap();
    // Four samples of one prompt take its pages once, and a page each for what is their own.
    for seed in 0..4 {
        engine.add(Request::new(prompt.clone(), drawing(seed), 10)).unwrap();
    }
    engine.step();
    engine.step();
    let state = engine.state();
    assert_eq!((state.n_running, state.n_waiting), (4, 0));
    assert!(state.n_pages - state.n_free_pages <= 3 + 4, "{state:?}");
    run(&mut engine);
    // The next turn of a conversation computes its new tokens only.
    let mut engine = Engine::new(&dev, &gpt, limits(512, 8, 24)).unwrap();
    let id = engine.add(Request::new(prompt.clone(), greedy(), 10)).unwrap();
    let mut text = prompt.clone();
    while !engine.is_idle() {
        for event in engine.step() {
            if let Event::Token { token, sequence, .. } = event {
                assert_eq!(*sequence, id);
                text.push(*token);
            }
        }
    }
    text.extend(tokens(5, 3));
    let free = engine.state().n_free_pages;
    engine.add(Request::new(text.clone(), greedy(), 3)).unwrap();
    engine.step();
    // A copy of the last page, which both would write, at most.
    assert!(free - engine.state().n_free_pages <= 1);
    let again = run(&mut engine);
    let expected = alone(&dev, &gpt, &Request::new(text, greedy(), 3));
    // One token was drawn by the step above.
    assert_eq!(again.into_values().next().unwrap().0, expected[1..]);
}

#[test]
fn drafts_are_accepted_where_the_text_repeats_itself() {
    let dev = device(1);
    let gpt = model(&dev, NumberFormat::F32);
    // A model with random weights soon repeats a cycle when it is greedy.
    let request = Request { n_drafts: 6, ..Request::new(tokens(8, 2), greedy(), 250) };
    let expected = alone(&dev, &gpt, &Request { n_drafts: 0, ..request.clone() });
    let mut engine = Engine::new(&dev, &gpt, limits(64, 1, 8)).unwrap();
    let id = engine.add(request).unwrap();
    let mut n_steps = 0;
    let mut found = Vec::new();
    while !engine.is_idle() {
        n_steps += 1;
        found.extend(engine.step().iter().filter_map(|event| match event {
            Event::Token { token, .. } => Some(*token),
            _ => None,
        }));
    }
    assert_eq!(found, expected);
    assert!(engine.tokens(id).is_none());
    let state = engine.state();
    let repeats = (2..40).any(|n| expected[200..].iter().zip(&expected[200 - n..]).all(|(a, b)| a == b));
    assert!(!repeats || n_steps < 200, "{n_steps} steps for 250 tokens: {state:?}");
    assert!(state.n_accepted > 0 && state.n_accepted <= state.n_drafted, "{state:?}");
    assert_eq!(n_steps + state.n_accepted as usize, 250);
}

#[test]
fn ends_limits_and_log_probabilities() {
    let dev = device(1);
    let gpt = model(&dev, NumberFormat::F32);
    let plain = alone(&dev, &gpt, &Request::new(tokens(8, 2), greedy(), 30));
    let end = plain[11];
    let first = plain.iter().position(|token| *token == end).unwrap();
    let mut engine = Engine::new(&dev, &gpt, limits(64, 4, 20)).unwrap();
    let ending = engine.add(Request { ends: vec![end], ..Request::new(tokens(8, 2), greedy(), 30) }).unwrap();
    let none = engine.add(Request::new(tokens(8, 2), greedy(), 0)).unwrap();
    let logged = engine.add(Request { n_log_probs: Some(3), ..Request::new(tokens(8, 2), greedy(), 4) }).unwrap();
    let mut log_probs = Vec::new();
    let mut found: HashMap<SequenceId, (Vec<u32>, Option<FinishReason>)> = HashMap::new();
    while !engine.is_idle() {
        for event in engine.step() {
            match event {
                Event::Token { sequence, token, log_probs: of_token } => {
                    assert_eq!(of_token.is_some(), *sequence == logged);
                    log_probs.extend(of_token.clone().map(|of_token| (*token, of_token)));
                    found.entry(*sequence).or_default().0.push(*token);
                }
                Event::Finished { sequence, reason } => found.entry(*sequence).or_default().1 = Some(*reason),
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
    }
    assert_eq!(found[&ending], (plain[..=first].to_vec(), Some(FinishReason::End)));
    assert_eq!(found[&none], (Vec::new(), Some(FinishReason::MaxTokens)));
    assert_eq!(log_probs.len(), 4);
    for (token, of_token) in log_probs {
        // Greedy: the token is the most likely one.
        assert_eq!((of_token.best[0].token, of_token.best[0].log_prob), (token, of_token.chosen));
        assert!(of_token.best.len() == 3 && of_token.best.windows(2).all(|pair| pair[0].log_prob >= pair[1].log_prob));
        assert!(of_token.chosen < 0.0);
    }
}

/// Sequences that arrive, finish and are cancelled at random: the budget holds, no page is lost, and none starves.
#[test]
fn random_arrivals_and_cancellations() {
    let dev = device(2);
    let gpt = model(&dev, NumberFormat::F32);
    let mut random = Sequence::new(Key::from_seed(5));
    let mut engine = Engine::new(&dev, &gpt, limits(96, 64, 40)).unwrap();
    let n_pages = engine.state().n_pages;
    assert_eq!(n_pages, 40);
    // The step in which each one arrived, and how many tokens it has.
    let mut alive: HashMap<SequenceId, (usize, usize)> = HashMap::new();
    let seconds = std::env::var("CALAME_ENGINE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let start = std::time::Instant::now();
    let (mut step, mut n_finished, mut n_cancelled) = (0, 0, 0);
    while start.elapsed().as_secs() < seconds || !engine.is_idle() {
        let is_open = start.elapsed().as_secs() < seconds;
        if is_open && alive.len() < 64 && random.below(3) == 0 {
            let beginning = tokens(150, random.below(3));
            let n = random.below(150) as usize;
            let prompt = [&beginning[..n], &tokens(1 + random.below(20) as usize, random.below(1000))[..]].concat();
            let sampler = drawing(random.below(1000));
            let request = Request {
                n_drafts: random.below(3) as usize,
                ..Request::new(prompt, sampler, random.below(120) as usize)
            };
            alive.insert(engine.add(request).unwrap(), (step, 0));
        }
        if random.below(20) == 0
            && let Some(&id) = alive.keys().nth(random.below(alive.len().max(1) as u64) as usize)
        {
            assert!(engine.cancel(id));
            assert!(!engine.cancel(id) && engine.tokens(id).is_none());
            alive.remove(&id);
            n_cancelled += 1;
        }
        for event in engine.step() {
            match event {
                Event::Token { sequence, .. } => alive.get_mut(sequence).expect("of a living sequence").1 += 1,
                Event::Finished { sequence, .. } => {
                    alive.remove(sequence).expect("ends once");
                    n_finished += 1;
                }
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
        let state = engine.state();
        assert!(state.n_free_pages <= n_pages && state.n_running + state.n_waiting == alive.len());
        // Each of the 64 sequences before it has at most 120 tokens, of which several are computed at a time.
        assert!(alive.values().all(|(arrived, _)| step - arrived < 64 * 150), "a sequence starves: {state:?}");
        step += 1;
    }
    engine.forget_prefixes();
    assert_eq!(engine.state().n_free_pages, n_pages, "no page is lost");
    assert!(
        n_finished > 20 && n_cancelled > 5 && engine.state().n_preempted > 0,
        "{n_finished} {n_cancelled} {:?}",
        engine.state()
    );
}

#[test]
fn requests_that_cannot_run() {
    let dev = device(1);
    let gpt = model(&dev, NumberFormat::F32);
    let page = kv_page_bytes(&config());
    let none = Engine::new(&dev, &gpt, EngineLimits { kv_bytes: page - 1, ..limits(8, 1, 1) }).err().unwrap();
    assert_eq!(none, GenerateError::BudgetTooSmall { n_tokens: 1, needed: page, kv_bytes: page - 1 });
    let mut engine = Engine::new(&dev, &gpt, limits(8, 1, 1)).unwrap();
    let mut error = |prompt: Vec<u32>, n| engine.add(Request::new(prompt, greedy(), n)).unwrap_err();
    assert_eq!(error(Vec::new(), 1), GenerateError::EmptyPrompt);
    assert_eq!(error(vec![VOCAB as u32], 1), GenerateError::UnknownToken { id: VOCAB as u32, vocab_size: VOCAB });
    let long = GenerateError::PromptTooLong { n_tokens: CONTEXT + 1, n_positions: CONTEXT };
    assert_eq!(error(tokens(CONTEXT + 1, 1), 1), long);
    let small = error(tokens(60, 1), 6);
    assert_eq!(small, GenerateError::BudgetTooSmall { n_tokens: 65, needed: 2 * page, kv_bytes: page });
    assert!(small.to_string().contains("raise the limit"), "{small}");
    assert!(engine.add(Request::new(tokens(60, 1), greedy(), 5)).is_ok());
}

/// Weights that are not numbers end a sequence with an error; the engine goes on.
#[test]
fn a_failed_sequence_leaves_the_others() {
    let dev = device(1);
    let mut gpt = Gpt::fresh(&dev, &config(), 7);
    // Only the row of token 5 is damaged.
    change(&mut gpt.wte, |x| x[5 * 32] = f32::NAN);
    gpt.config.tied_head = false;
    gpt.lm_head = Gpt::fresh(&dev, &config(), 8).wte;
    let mut engine = Engine::new(&dev, &gpt, limits(64, 4, 20)).unwrap();
    let bad = engine.add(Request::new(vec![1, 5, 2], greedy(), 10)).unwrap();
    let good = engine.add(Request::new(vec![1, 2], greedy(), 3)).unwrap();
    let mut outcomes = Vec::new();
    while !engine.is_idle() {
        for event in engine.step() {
            match event {
                Event::Failed { sequence, error } => outcomes.push((*sequence, error.to_string())),
                Event::Finished { sequence, .. } => outcomes.push((*sequence, "finished".to_owned())),
                Event::Token { sequence, .. } => assert_eq!(*sequence, good),
            }
        }
    }
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().any(|(id, message)| *id == bad && message.contains("not finite")), "{outcomes:?}");
    assert!(outcomes.contains(&(good, "finished".to_owned())), "{outcomes:?}");
}

/// A model that stays in the number format of its file computes what one read as f32 does, for formats without blocks.
#[test]
fn a_model_as_stored() {
    let dev = device(2);
    for path in ["hf-tiny-gpt2", "llmc/tiny_bf16.bin"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(path);
        let (stored, read) = (ModelFile::open(&path).unwrap(), ModelFile::open(&path).unwrap());
        let (stored, read) = (stored.load_as_stored(&dev).unwrap().gpt, read.load().unwrap().gpt);
        let ids: Vec<u32> = (0..20).map(|i| i * 7 % read.config.vocab_size as u32).collect();
        let logits = |gpt: &Gpt| calame::ops::read(&dev, &gpt.logits(&dev, &ids, 1));
        let (stored, read) = (logits(&stored), logits(&read));
        let far = stored.iter().zip(&read).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.05, "{}: {far}", path.display());
    }
}

/// Against transformers' weights of every head.
#[test]
fn attention_weights_are_those_of_transformers() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden.join("attention.json")).unwrap()).unwrap();
    let ids: Vec<u32> = expected["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let (dev, t) = (device(2), ids.len());
    let gpt = ModelFile::open(&golden.join("hf-tiny-gpt2")).unwrap().load().unwrap().gpt;
    for layer in 0..gpt.config.n_layer {
        for head in 0..gpt.config.n_head {
            let found = gpt.attention_weights(&dev, &ids, layer, head);
            for (i, weight) in found.iter().enumerate() {
                let want = expected["weights"][layer][head][i / t][i % t].as_f64().unwrap();
                assert!((weight - want).abs() < 1e-6, "layer {layer}, head {head}, {i}: {weight}, expected {want}");
            }
        }
    }
}

/// Stop strings end a text inside tokens; nothing that may become one is shown before.
#[test]
fn stop_strings_end_a_text() {
    use calame::infer::{TextEnd, TextGeneration, TextOptions};
    use calame::tokenizer::Bpe;
    let dev = device(1);
    let bpe = Bpe::gpt2();
    let config = ModelConfig { vocab_size: 50_257, n_embd: 12, n_head: 2, n_layer: 1, n_positions: 64, ..config() };
    let mut gpt = Gpt::fresh(&dev, &config, 7);
    scale(&mut gpt, 6.0);
    let run = |stop: &[&str]| {
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let options = TextOptions { max_tokens: 20, stop, ..TextOptions::default() };
        let mut generation = TextGeneration::new(&dev, &gpt, bpe.as_ref(), "A reed", &options).unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = generation.next_piece().unwrap() {
            pieces.push(piece);
        }
        (pieces, generation.end().cloned(), generation.new_tokens().len())
    };
    let (pieces, end, n_tokens) = run(&[]);
    let whole = pieces.concat();
    assert!(end == Some(TextEnd::MaxTokens) && n_tokens == 20 && whole.chars().count() > 25, "{whole:?}");
    let chars: Vec<char> = whole.chars().collect();
    let stop: String = chars[12..15].iter().collect();
    let at = whole.find(&stop).unwrap();
    let (pieces, end, n_tokens) = run(&["no such text", &stop]);
    assert_eq!((pieces.concat().as_str(), end), (&whole[..at], Some(TextEnd::Stop(stop))));
    assert!(n_tokens < 20, "generation ends with the token that completes it");
    // At every moment what was shown is a beginning of the result.
    let mut shown = String::new();
    for piece in pieces {
        shown += &piece;
        assert!(whole[..at].starts_with(&shown));
    }
}
