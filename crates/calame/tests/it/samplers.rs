//! Agreement with transformers' logits processors and their order, in golden/samplers.json.

use calame::infer::{History, LogitRules, Sampler, SamplerConfig, SamplerScratch};
use serde_json::Value;

use crate::golden::folder;

fn f32s(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn probabilities_are_those_of_transformers() {
    let text = std::fs::read_to_string(folder().join("samplers.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let (prompt, generated, ends) = (ids(&golden["prompt"]), ids(&golden["generated"]), ids(&golden["ends"]));
    let history = History { prompt: &prompt, generated: &generated };
    let mut scratch = SamplerScratch::default();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 75);
    for case in cases {
        let (name, settings) = (case["logits"].as_str().unwrap(), &case["settings"]);
        let what = format!("{name}, {settings}, bias {}", case["bias"]);
        let mut settings = settings.as_object().unwrap().clone();
        let min_tokens = settings.remove("min_tokens").map_or(0, |n| n.as_u64().unwrap() as usize);
        settings.entry("temperature").or_insert(1.0.into());
        let config: SamplerConfig = serde_json::from_value(settings.into()).unwrap();
        let mut rules = LogitRules { min_tokens, ends: ends.clone(), ..LogitRules::default() };
        for (id, bias) in case["bias"].as_object().into_iter().flatten() {
            rules.bias.insert(id.parse().unwrap(), bias.as_str().unwrap().parse().unwrap());
        }
        let sampler = Sampler::new(&config, 0).unwrap().with_rules(rules).unwrap();
        let logits = f32s(&golden["logits"][name]);
        let distribution = sampler.distribution(&logits, history, &mut scratch).unwrap();
        let expected = f32s(&case["probabilities"]);
        let mut found = vec![0.0; expected.len()];
        if name == "ties" && config.top_p < 1.0 {
            // transformers leaves open which of several equal logits top-p keeps; the file has them sorted.
            found.iter_mut().zip(&distribution).for_each(|(p, (_, probability))| *p = *probability);
        } else {
            distribution.iter().for_each(|&(id, probability)| found[id as usize] = probability);
        }
        for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert!((found - f64::from(expected)).abs() < 1e-6, "{what}: token {i}: {found} for {expected}");
        }
    }
}
