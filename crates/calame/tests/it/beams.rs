//! Beam search, against transformers and against a search of all texts.

use std::collections::BTreeMap;

use calame::formats::ModelFile;
use calame::infer::{BeamConfig, GenerateError, LogitRules, SamplerConfig, SamplerError, beam_search};
use calame::model::{Gpt, ModelConfig, Preset};
use calame::ops::{Device, Isa, Precision};
use serde_json::Value;

use crate::support::scale;

fn device() -> Device {
    Device::cpu(2, Isa::detect(), Precision::F32)
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The settings of a case, with neutral values for those that it does not name.
fn config(case: &Value) -> BeamConfig {
    let number = |key: &str, neutral: f64| case.get(key).map_or(neutral, |value| value.as_f64().unwrap());
    let bias = case.get("bias").and_then(Value::as_object).map(|bias| {
        let value = |value: &Value| value.as_f64().map_or(f32::NEG_INFINITY, |value| value as f32);
        bias.iter().map(|(id, bias)| (id.parse().unwrap(), value(bias))).collect::<BTreeMap<u32, f32>>()
    });
    BeamConfig {
        n_beams: number("n_beams", 1.0) as usize,
        max_tokens: number("max_tokens", 0.0) as usize,
        length_penalty: number("length_penalty", 1.0) as f32,
        early_stopping: case.get("early_stopping") == Some(&Value::Bool(true)),
        rules: LogitRules {
            bias: bias.unwrap_or_default(),
            min_tokens: number("min_tokens", 0.0) as usize,
            ends: case.get("ends").map(ids).unwrap_or_default(),
        },
        ends: case.get("ends").map(ids).unwrap_or_default(),
        penalties: SamplerConfig {
            repetition_penalty: number("repetition_penalty", 1.0) as f32,
            ..SamplerConfig::default()
        },
        ..BeamConfig::default()
    }
}

#[test]
fn beams_are_those_of_transformers() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(golden.join("beams.json")).unwrap()).unwrap();
    let dev = device();
    let mut gpt = ModelFile::open(&golden.join("hf-tiny-gpt2")).unwrap().load().unwrap().gpt;
    crate::support::change(&mut gpt.wte, |x| x.iter_mut().for_each(|x| *x *= 3.0));
    assert!(cases.len() > 100);
    let mut n_of_different_lengths = 0;
    for case in &cases {
        let found = beam_search(&dev, &gpt, &ids(&case["prompt"]), &config(case)).unwrap();
        let tokens: Vec<Vec<u32>> = case["tokens"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(found.iter().map(|beam| beam.tokens.clone()).collect::<Vec<_>>(), tokens, "{case}");
        for (beam, score) in found.iter().zip(case["scores"].as_array().unwrap()) {
            let score = score.as_f64().unwrap();
            assert!(
                (beam.score - score).abs() < 1e-5 * (1.0 + score.abs()),
                "{}, expected {score}: {case}",
                beam.score
            );
        }
        n_of_different_lengths += usize::from(tokens.iter().any(|text| text.len() != tokens[0].len()));
    }
    assert!(n_of_different_lengths > 20, "{n_of_different_lengths}");
}

/// With as many beams as there are texts, the best of all texts is found.
#[test]
fn enough_beams_find_the_best_text() {
    let dev = device();
    let model =
        ModelConfig { vocab_size: 7, n_positions: 200, n_embd: 16, n_head: 2, n_layer: 2, ..Preset::Tiny.config() };
    let mut gpt = Gpt::fresh(&dev, &ModelConfig { dropout: 0.0, ..model }, 3);
    scale(&mut gpt, 8.0);
    let prompt: Vec<u32> = (0..130).map(|i| i % 7).collect();
    let score = |text: &[u32]| {
        let all: Vec<u32> = prompt.iter().chain(text).copied().collect();
        let logits = calame::ops::read(&dev, &gpt.logits(&dev, &all, 1));
        let of = |(i, &token): (usize, &u32)| {
            let row = &logits[(prompt.len() - 1 + i) * 7..][..7];
            f64::from(row[token as usize]) - row.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln()
        };
        text.iter().enumerate().map(of).sum::<f64>()
    };
    let texts = (0..49).flat_map(|ab| (0..7).map(move |c| [ab / 7, ab % 7, c]));
    let (best, best_score) = texts.map(|text| (text, score(&text))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let search = BeamConfig { n_beams: 7, max_tokens: 3, length_penalty: 0.0, ..BeamConfig::default() };
    // 49 beams would be needed for certainty; 7 are the most that the vocabulary permits, and suffice here.
    let found = beam_search(&dev, &gpt, &prompt, &search).unwrap();
    assert_eq!((found.len(), &found[0].tokens[..]), (7, &best[..]));
    assert!((found[0].score - best_score).abs() < 1e-4);
    // Fewer tokens than asked for: the context is full.
    let full: Vec<u32> = (0..199).map(|i| i % 7).collect();
    let found = beam_search(&dev, &gpt, &full, &BeamConfig { max_tokens: 50, ..search.clone() }).unwrap();
    assert!(found.iter().all(|beam| beam.tokens.len() == 2), "{found:?}");
}

#[test]
fn searches_that_cannot_run() {
    let dev = device();
    let model =
        ModelConfig { vocab_size: 7, n_positions: 20, n_embd: 16, n_head: 2, n_layer: 1, ..Preset::Tiny.config() };
    let gpt = Gpt::fresh(&dev, &ModelConfig { dropout: 0.0, ..model }, 3);
    let error = |prompt: &[u32], config: BeamConfig| beam_search(&dev, &gpt, prompt, &config).unwrap_err();
    assert_eq!(error(&[], BeamConfig::default()), GenerateError::EmptyPrompt);
    assert_eq!(error(&[7], BeamConfig::default()), GenerateError::UnknownToken { id: 7, vocab_size: 7 });
    let error_of = error(&[1], BeamConfig { length_penalty: f32::NAN, ..BeamConfig::default() });
    assert!(error_of.to_string().contains("length-penalty is NaN"), "{error_of}");
    for n_beams in [0, 8] {
        let error = error(&[1], BeamConfig { n_beams, ..BeamConfig::default() });
        assert_eq!(error, GenerateError::Beams { n_beams, vocab_size: 7 });
    }
    let rules = |bias: &[(u32, f32)]| BeamConfig {
        rules: LogitRules { bias: bias.iter().copied().collect(), ..LogitRules::default() },
        ..BeamConfig::default()
    };
    let unknown = error(&[1], rules(&[(9, 1.0)]));
    assert_eq!(unknown, GenerateError::Sampler(SamplerError::UnknownToken { id: 9, n_vocab: 7 }));
    let all: Vec<(u32, f32)> = (0..7).map(|id| (id, f32::NEG_INFINITY)).collect();
    assert_eq!(error(&[1], rules(&all)), GenerateError::Sampler(SamplerError::NothingAllowed));
    // One token is allowed: there is one text.
    let found = beam_search(&dev, &gpt, &[1], &BeamConfig { max_tokens: 3, ..rules(&all[1..]) }).unwrap();
    assert_eq!(found.iter().map(|beam| &beam.tokens[..]).collect::<Vec<_>>(), [[0, 0, 0]]);
    assert!(
        beam_search(&dev, &gpt, &[1], &BeamConfig { max_tokens: 0, ..BeamConfig::default() }).unwrap()[0]
            .tokens
            .is_empty()
    );
}
