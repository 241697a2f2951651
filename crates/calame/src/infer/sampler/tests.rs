//! Each sampler against a direct definition, which sorts everything and counts with loops.

use super::*;
use crate::rng::Key;

fn sampler(config: &SamplerConfig) -> Sampler {
    Sampler::new(config, 0).unwrap()
}

fn sampled(sampler: &mut Sampler, logits: &[f32]) -> Result<u32, SamplerError> {
    sampler.sample(logits, History::default(), &mut SamplerScratch::default())
}

fn at_1() -> SamplerConfig {
    SamplerConfig { temperature: 1.0, ..SamplerConfig::default() }
}

/// Ids of the greatest logits first; among equal ones the lowest.
fn sorted_ids(scores: &[f32]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..scores.len()).collect();
    ids.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
    ids
}

fn changed_logits(config: &SamplerConfig, rules: &LogitRules, logits: &[f32], history: History<'_>) -> Vec<f32> {
    let count = |ids: &[u32], id: usize| ids.iter().filter(|&&token| token as usize == id).count();
    let mut scores = logits.to_vec();
    for (id, score) in scores.iter_mut().enumerate() {
        *score += rules.bias.get(&(id as u32)).copied().unwrap_or(0.0);
        let n_generated = count(history.generated, id);
        if count(history.prompt, id) + n_generated > 0 {
            let penalty = config.repetition_penalty;
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
        if n_generated > 0 {
            *score -= n_generated as f32 * config.frequency_penalty + config.presence_penalty;
        }
        if history.generated.len() < rules.min_tokens && rules.ends.contains(&(id as u32)) {
            *score = f32::NEG_INFINITY;
        }
    }
    scores
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().fold(f64::NEG_INFINITY, |max, &z| max.max(z));
    let weights: Vec<f64> = scores.iter().map(|z| (z - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

/// Probability of every token by the definition of each step.
fn reference(config: &SamplerConfig, rules: &LogitRules, logits: &[f32], history: History<'_>) -> Vec<f64> {
    let scores = changed_logits(config, rules, logits, history);
    let ids = sorted_ids(&scores);
    let mut scaled: Vec<f64> = scores.iter().map(|&z| f64::from(z) / f64::from(config.temperature)).collect();
    let exclude =
        |scaled: &mut [f64], excluded: Vec<usize>| excluded.iter().for_each(|&i| scaled[i] = f64::NEG_INFINITY);
    if config.top_k > 0 {
        let kth = scores[ids[config.top_k.min(ids.len()) - 1]];
        exclude(&mut scaled, (0..scores.len()).filter(|&i| scores[i] < kth).collect());
    }
    let p = softmax(&scaled);
    let before = |i: usize| ids[..i].iter().map(|&id| p[id]).sum::<f64>();
    let excluded = (1..ids.len()).filter(|&i| config.top_p < 1.0 && before(i) >= f64::from(config.top_p));
    exclude(&mut scaled, excluded.map(|i| ids[i]).collect());
    let p = softmax(&scaled);
    let bound = f64::from(config.min_p) * p[ids[0]];
    exclude(&mut scaled, (0..p.len()).filter(|&i| p[i] < bound).collect());
    if config.typical_p < 1.0 {
        let p = softmax(&scaled);
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        let deviation: Vec<f64> = p.iter().map(|p| (-p.ln() - entropy).abs()).collect();
        let mut by_deviation: Vec<usize> = (0..p.len()).filter(|&i| p[i] > 0.0).collect();
        by_deviation.sort_by(|&a, &b| deviation[a].total_cmp(&deviation[b]).then(a.cmp(&b)));
        let mut sum = 0.0;
        let last = by_deviation.iter().position(|&i| {
            sum += p[i];
            sum >= f64::from(config.typical_p)
        });
        let bound = deviation[by_deviation[last.unwrap_or(by_deviation.len() - 1)]];
        exclude(&mut scaled, (0..p.len()).filter(|&i| deviation[i] > bound + 1e-12).collect());
    }
    softmax(&scaled)
}

fn uniform(random: &mut Sequence, low: f32, high: f32) -> f32 {
    low + random.next_f64() as f32 * (high - low)
}

/// Random logits `[n_vocab]`: in some cases most are equal to others, or several are −∞.
fn random_logits(random: &mut Sequence, n_vocab: usize) -> Vec<f32> {
    let (kind, spread) = (random.below(4), uniform(random, 0.1, 8.0));
    let mut logits: Vec<f32> = (0..n_vocab).map(|_| uniform(random, -spread, spread)).collect();
    match kind {
        0 => logits.iter_mut().for_each(|z| *z = z.round()),
        1 => logits[1..].iter_mut().filter(|z| z.to_bits().is_multiple_of(3)).for_each(|z| *z = f32::NEG_INFINITY),
        _ => {}
    }
    logits
}

/// One configuration for each setting alone, and one for all together.
fn one_by_one(random: &mut Sequence) -> Vec<SamplerConfig> {
    let all = SamplerConfig {
        temperature: uniform(random, 0.3, 2.0),
        top_k: 1 + random.below(60) as usize,
        top_p: uniform(random, 0.05, 1.0),
        min_p: uniform(random, 0.0, 0.4),
        typical_p: uniform(random, 0.05, 1.0),
        repetition_penalty: uniform(random, 0.6, 1.8),
        presence_penalty: uniform(random, -2.0, 2.0),
        frequency_penalty: uniform(random, -1.0, 1.0),
        seed: random.next_u64(),
    };
    vec![
        SamplerConfig { temperature: all.temperature, ..at_1() },
        SamplerConfig { top_k: all.top_k, ..at_1() },
        SamplerConfig { top_p: all.top_p, ..at_1() },
        SamplerConfig { min_p: all.min_p, ..at_1() },
        SamplerConfig { typical_p: all.typical_p, ..at_1() },
        SamplerConfig { repetition_penalty: all.repetition_penalty, ..at_1() },
        SamplerConfig { presence_penalty: all.presence_penalty, ..at_1() },
        SamplerConfig { frequency_penalty: all.frequency_penalty, ..at_1() },
        all,
    ]
}

fn random_ids(random: &mut Sequence, n: usize, below: usize) -> Vec<u32> {
    (0..n).map(|_| random.below(below as u64) as u32).collect()
}

#[test]
fn every_distribution_is_that_of_its_definition() {
    let mut random = Sequence::new(Key::from_seed(11));
    let mut scratch = SamplerScratch::default();
    for round in 0..120 {
        let n_vocab = if round == 0 { 3000 } else { 1 + random.below(300) as usize };
        let logits = random_logits(&mut random, n_vocab);
        // Some ids of the history have no logit.
        let (prompt, generated) = (random_ids(&mut random, 9, n_vocab + 3), random_ids(&mut random, 12, n_vocab + 3));
        let history = History { prompt: &prompt, generated: &generated };
        let mut rules = LogitRules::default();
        if round % 2 == 1 && n_vocab > 4 {
            rules.bias.insert(random.below(n_vocab as u64) as u32, uniform(&mut random, -3.0, 3.0));
            rules.bias.insert(1 + random.below(n_vocab as u64 - 1) as u32, f32::NEG_INFINITY);
            rules.ends = vec![1, 3, n_vocab as u32 + 7];
            rules.min_tokens = 12 + (round % 4) / 2;
        }
        for config in one_by_one(&mut random) {
            let expected = reference(&config, &rules, &logits, history);
            let sampler = sampler(&config).with_rules(rules.clone()).unwrap();
            let found = sampler.distribution(&logits, history, &mut scratch).unwrap();
            let scores = changed_logits(&config, &rules, &logits, history);
            let is_descending = |w: &[(u32, f64)]| {
                let (a, b) = (w[0].0 as usize, w[1].0 as usize);
                scores[a] > scores[b] || (scores[a] == scores[b] && a < b)
            };
            assert!(found.windows(2).all(is_descending), "{config:?}: not in descending order");
            let mut p = vec![0.0; n_vocab];
            found.iter().for_each(|&(id, probability)| p[id as usize] = probability);
            let differs = |i: &usize| (p[*i] - expected[*i]).abs() > 1e-12;
            let i = (0..n_vocab).find(differs).unwrap_or(0);
            assert!(!differs(&i), "{config:?}, {rules:?}: token {i} of {n_vocab}: {} for {}", p[i], expected[i]);
        }
    }
}

/// The draw of a sampler that sorts the whole vocabulary and walks down the sorted weights.
fn drawn_by_sorting(config: &SamplerConfig, random: &mut Sequence, logits: &[f32]) -> u32 {
    let mut ids = sorted_ids(logits);
    if config.top_k > 0 {
        let kth = logits[ids[config.top_k.min(ids.len()) - 1]];
        ids.retain(|&i| logits[i] >= kth);
    }
    let (max, temperature) = (f64::from(logits[ids[0]]), f64::from(config.temperature));
    let mut weights: Vec<f64> = ids.iter().map(|&i| ((f64::from(logits[i]) - max) / temperature).exp()).collect();
    if config.top_p < 1.0 {
        let enough = f64::from(config.top_p) * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let reached = weights.iter().position(|w| {
            sum += w;
            sum >= enough
        });
        weights.truncate(reached.map_or(weights.len(), |i| i + 1));
    }
    let mut left = random.next_f64() * weights.iter().sum::<f64>();
    let drawn = weights.iter().position(|w| {
        left -= w;
        left < 0.0
    });
    ids[drawn.unwrap_or(0)] as u32
}

#[test]
fn a_seed_draws_what_a_sampler_that_sorts_draws() {
    let mut random = Sequence::new(Key::from_seed(3));
    let mut scratch = SamplerScratch::default();
    for n_vocab in [1, 2, 63, 64, 65, 66, 500, 5000] {
        for (temperature, top_k, top_p) in
            [(1.0, 0, 1.0), (0.7, 0, 0.9), (1.5, 40, 1.0), (0.9, 90, 0.8), (30.0, 0, 1.0), (30.0, 0, 0.95)]
        {
            let config = SamplerConfig { temperature, top_k, top_p, seed: 9, ..SamplerConfig::default() };
            let mut sampler = Sampler::new(&config, 2).unwrap();
            let mut same = Sequence::new(rng::stream(9, Purpose::Sampling, 2));
            for _ in 0..40 {
                let logits = random_logits(&mut random, n_vocab);
                let token = sampler.sample(&logits, History::default(), &mut scratch).unwrap();
                assert_eq!(token, drawn_by_sorting(&config, &mut same, &logits), "{n_vocab} tokens, {config:?}");
            }
        }
    }
}

#[test]
fn a_seed_draws_the_same_tokens_as_in_earlier_versions() {
    let logits: Vec<f32> = (0..300).map(|i| ((i * 37 % 101) as f32 / 7.0).sin() * 4.0).collect();
    let drawn = |temperature, top_k, top_p| {
        let config = SamplerConfig { temperature, top_k, top_p, ..SamplerConfig::default() };
        let mut sampler = sampler(&config);
        (0..8).map(|_| sampled(&mut sampler, &logits).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(drawn(1.0, 0, 1.0), PINNED[0]);
    assert_eq!(drawn(0.8, 50, 1.0), PINNED[1]);
    assert_eq!(drawn(1.3, 0, 0.7), PINNED[2]);
}

/// Drawn by the sampler of the commit 41ac394, which sorted the vocabulary.
const PINNED: [[u32; 8]; 3] = [
    [246, 175, 239, 292, 246, 146, 246, 183],
    [97, 175, 299, 60, 97, 150, 97, 157],
    [104, 175, 44, 90, 104, 180, 104, 93],
];

/// The value that χ² with `n` degrees of freedom exceeds with a probability of 1e-6 (E. B. Wilson and M. M. Hilferty,
/// 1931).
fn critical(n: usize) -> f64 {
    let ninth = 2.0 / (9.0 * n as f64);
    n as f64 * (1.0 - ninth + 4.7534 * ninth.sqrt()).powi(3)
}

#[test]
fn draws_have_the_frequencies_of_the_distribution() {
    let mut random = Sequence::new(Key::from_seed(21));
    let logits: Vec<f32> = (0..100).map(|_| uniform(&mut random, -2.0, 2.0)).collect();
    let history = History { prompt: &[5, 7, 7, 30], generated: &[9, 7, 7, 12, 90] };
    let rules =
        LogitRules { bias: [(3, 2.5), (4, f32::NEG_INFINITY), (9, -0.5)].into(), min_tokens: 6, ends: vec![8, 10] };
    let of = |change: fn(&mut SamplerConfig)| {
        let mut config = at_1();
        change(&mut config);
        config
    };
    let cases = [
        (of(|_| ()), LogitRules::default()),
        (of(|c| c.temperature = 0.6), LogitRules::default()),
        (of(|c| c.temperature = 3.0), LogitRules::default()),
        (of(|c| c.top_k = 20), LogitRules::default()),
        (of(|c| c.top_p = 0.8), LogitRules::default()),
        (of(|c| c.min_p = 0.2), LogitRules::default()),
        (of(|c| c.typical_p = 0.6), LogitRules::default()),
        (of(|c| c.repetition_penalty = 1.6), LogitRules::default()),
        (of(|c| c.presence_penalty = 1.1), LogitRules::default()),
        (of(|c| c.frequency_penalty = -0.7), LogitRules::default()),
        (of(|_| ()), rules.clone()),
        (of(|c| (c.temperature, c.top_k, c.top_p, c.typical_p) = (1.4, 80, 0.95, 0.9)), rules),
    ];
    let n = 100_000;
    let mut scratch = SamplerScratch::default();
    for (config, rules) in cases {
        let expected = reference(&config, &rules, &logits, history);
        let mut sampler = sampler(&config).with_rules(rules).unwrap();
        let mut counts = vec![0.0; logits.len()];
        (0..n).for_each(|_| counts[sampler.sample(&logits, history, &mut scratch).unwrap() as usize] += 1.0);
        // χ² needs about five expected draws in each class: rarer tokens are one class together.
        let (mut chi2, mut n_classes, mut rare) = (0.0, 0, (0.0, 0.0));
        for (count, p) in counts.into_iter().zip(expected) {
            let mean = p * f64::from(n);
            assert!(p > 0.0 || count == 0.0, "{config:?}: an excluded token was drawn");
            if mean < 5.0 {
                rare = (rare.0 + count, rare.1 + mean);
            } else {
                chi2 += (count - mean).powi(2) / mean;
                n_classes += 1;
            }
        }
        if rare.1 >= 5.0 {
            chi2 += (rare.0 - rare.1).powi(2) / rare.1;
            n_classes += 1;
        }
        assert!(n_classes > 10, "{config:?}: {n_classes} classes");
        assert!(chi2 < critical(n_classes - 1), "{config:?}: χ² = {chi2} with {n_classes} classes");
    }
}

#[test]
fn greedy_takes_the_first_of_the_greatest() {
    let mut greedy = sampler(&SamplerConfig::default());
    assert_eq!(sampled(&mut greedy, &[0.0, 3.0, 3.0, -1.0]), Ok(1));
    assert_eq!(sampled(&mut greedy, &[f32::NEG_INFINITY, -3.0]), Ok(1));
    // Penalties apply to greedy decoding, truncation does not.
    let config = SamplerConfig { presence_penalty: 1.5, top_k: 1, ..SamplerConfig::default() };
    let history = History { prompt: &[2], generated: &[1] };
    let token = sampler(&config).sample(&[0.0, 3.0, 2.0], history, &mut SamplerScratch::default());
    assert_eq!(token, Ok(2));
}

#[test]
fn ids_outside_the_tokenizer_are_not_drawn() {
    for temperature in [0.0, 1.0] {
        let config = SamplerConfig { temperature, ..SamplerConfig::default() };
        let mut sampler = sampler(&config).among(2);
        assert!((0..50).all(|_| sampled(&mut sampler, &[0.0, 1.0, 9.0, 9.0]).unwrap() < 2));
        assert_eq!(sampled(&mut sampler, &[0.0, 1.0, f32::NAN]).map(|token| token < 2), Ok(true));
    }
}

#[test]
fn boundaries_keep_what_they_define() {
    let kept = |config: SamplerConfig, logits: &[f32]| {
        let distribution = sampler(&config).distribution(logits, History::default(), &mut SamplerScratch::default());
        distribution.unwrap().into_iter().map(|(id, _)| id).collect::<Vec<u32>>()
    };
    // Top-k keeps all that equal the k-th.
    assert_eq!(kept(SamplerConfig { top_k: 2, ..at_1() }, &[1.0, 3.0, 1.0, 0.0]), [1, 0, 2]);
    assert_eq!(kept(SamplerConfig { top_k: 1, ..at_1() }, &[7.0; 1000]).len(), 1000);
    assert_eq!(kept(SamplerConfig { top_k: 99, ..at_1() }, &[0.0, 1.0]), [1, 0]);
    // Of equal logits, top-p keeps the lowest ids. Weights are 1, so the sums are exact.
    assert_eq!(kept(SamplerConfig { top_p: 0.5, ..at_1() }, &[2.0; 8]), [0, 1, 2, 3]);
    assert_eq!(kept(SamplerConfig { top_p: 0.25, ..at_1() }, &[2.0; 256]), (0..64).collect::<Vec<u32>>());
    // Probabilities 0.5, 0.3, 0.2: 0.5 alone reaches 0.5; 0.6 needs two.
    let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
    assert_eq!(kept(SamplerConfig { top_p: 0.49, ..at_1() }, &logits), [0]);
    assert_eq!(kept(SamplerConfig { top_p: 0.6, ..at_1() }, &logits), [0, 1]);
    assert_eq!(kept(SamplerConfig { top_p: f32::MIN_POSITIVE, ..at_1() }, &logits), [0]);
    assert_eq!(kept(SamplerConfig { min_p: 0.5, ..at_1() }, &logits), [0, 1]);
    assert_eq!(kept(SamplerConfig { min_p: 1.0, ..at_1() }, &[1.0, 2.0, 2.0]), [1, 2]);
    // −ln p is 0.69, 1.20 and 1.61; the entropy 1.03 is closest to 1.20.
    assert_eq!(kept(SamplerConfig { typical_p: 0.2, ..at_1() }, &logits), [1]);
    assert_eq!(kept(SamplerConfig { typical_p: 0.4, ..at_1() }, &logits), [0, 1]);
    assert_eq!(kept(SamplerConfig { typical_p: 0.1, ..at_1() }, &[4.0; 70]).len(), 70);
    // A temperature that no difference survives.
    assert_eq!(kept(SamplerConfig { temperature: f32::MIN_POSITIVE, ..at_1() }, &[1.0, 2.0, 2.0]), [1, 2]);
    assert_eq!(kept(at_1(), &[f32::MAX, f32::MIN, f32::NEG_INFINITY]), [0]);
}

#[test]
fn penalties_stay_finite() {
    let history = History { prompt: &[0], generated: &[0, 0] };
    let huge = [
        SamplerConfig { repetition_penalty: f32::MIN_POSITIVE, ..at_1() },
        SamplerConfig { frequency_penalty: f32::MIN, ..at_1() },
        SamplerConfig { presence_penalty: f32::MIN, ..at_1() },
    ];
    for config in huge {
        let (sampler, mut scratch) = (sampler(&config), SamplerScratch::default());
        assert_eq!(sampler.distribution(&[1e30, 5.0], history, &mut scratch).unwrap(), [(0, 1.0)]);
        // What is impossible stays so.
        assert_eq!(sampler.distribution(&[f32::NEG_INFINITY, 5.0], history, &mut scratch).unwrap(), [(1, 1.0)]);
    }
    let rules = LogitRules { bias: [(1, f32::MAX)].into(), ..LogitRules::default() };
    let mut sampler = sampler(&at_1()).with_rules(rules).unwrap();
    assert_eq!(sampled(&mut sampler, &[0.0, f32::MAX]), Ok(1));
}

#[test]
fn the_ends_are_forbidden_until_the_minimum_length() {
    let rules = LogitRules { min_tokens: 2, ends: vec![1], ..LogitRules::default() };
    let mut sampler = sampler(&SamplerConfig::default()).with_rules(rules).unwrap();
    let mut scratch = SamplerScratch::default();
    let mut generated = Vec::new();
    for _ in 0..4 {
        let history = History { prompt: &[1, 1, 1], generated: &generated };
        generated.push(sampler.sample(&[0.0, 5.0, 3.0], history, &mut scratch).unwrap());
    }
    assert_eq!(generated, [2, 2, 1, 1]);
}

#[test]
fn the_same_seed_draws_the_same() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32).sin()).collect();
    let draw = |config: &SamplerConfig, index| {
        let mut sampler = Sampler::new(config, index).unwrap();
        (0..40).map(|_| sampled(&mut sampler, &logits).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(draw(&at_1(), 0), draw(&at_1(), 0));
    assert_ne!(draw(&at_1(), 0), draw(&at_1(), 1));
    assert_ne!(draw(&at_1(), 0), draw(&SamplerConfig { seed: 43, ..at_1() }, 0));
}

#[test]
fn impossible_settings_are_named() {
    type Change = fn(&mut SamplerConfig, f32);
    let cases: [(&str, Change, &[f32]); 7] = [
        ("temperature", |c, x| c.temperature = x, &[-1.0, f32::NAN, f32::INFINITY]),
        ("top-p", |c, x| c.top_p = x, &[0.0, 1.5, -0.1, f32::NAN]),
        ("min-p", |c, x| c.min_p = x, &[-0.1, 1.5, f32::NAN]),
        ("typical-p", |c, x| c.typical_p = x, &[0.0, 1.5, f32::NAN]),
        ("repetition-penalty", |c, x| c.repetition_penalty = x, &[0.0, -1.0, f32::NAN, f32::INFINITY]),
        ("presence-penalty", |c, x| c.presence_penalty = x, &[f32::NAN, f32::NEG_INFINITY]),
        ("frequency-penalty", |c, x| c.frequency_penalty = x, &[f32::NAN, f32::INFINITY]),
    ];
    for (key, change, values) in cases {
        for &value in values {
            let mut config = SamplerConfig::default();
            change(&mut config, value);
            let error = Sampler::new(&config, 0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key} is {value}: expected ")), "{error}");
        }
    }
    let text = "temperature = 0.5\nmin_p = 0.1\n";
    let config: SamplerConfig = toml::from_str(text).unwrap();
    assert_eq!(config, SamplerConfig { temperature: 0.5, min_p: 0.1, ..SamplerConfig::default() });
    assert!(toml::from_str::<SamplerConfig>("typical = 0.5").unwrap_err().to_string().contains("unknown field"));
}

#[test]
fn impossible_logits_and_rules_are_named() {
    for temperature in [0.0, 1.0] {
        let config = SamplerConfig { temperature, ..SamplerConfig::default() };
        let error = |logits: &[f32]| sampled(&mut sampler(&config), logits);
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(error(&[0.0, bad, 1.0]), Err(SamplerError::NotFinite));
        }
        assert_eq!(error(&[f32::NEG_INFINITY; 3]), Err(SamplerError::NotFinite));
        assert_eq!(error(&[]), Err(SamplerError::NotFinite));
        let with = |rules: LogitRules| sampler(&config).among(3).with_rules(rules);
        let bias = |id, value| LogitRules { bias: [(id, value)].into(), ..LogitRules::default() };
        let found = with(bias(7, f32::NAN)).unwrap_err().to_string();
        assert!(found.contains("token 7 is NaN"), "{found}");
        assert!(with(bias(7, f32::INFINITY)).is_err() && with(bias(7, f32::NEG_INFINITY)).is_ok());
        let mut unknown = with(bias(3, 1.0)).unwrap();
        assert_eq!(unknown.check(9), Err(SamplerError::UnknownToken { id: 3, n_vocab: 3 }));
        assert_eq!(sampled(&mut unknown, &[0.0; 9]), Err(SamplerError::UnknownToken { id: 3, n_vocab: 3 }));
        let message = unknown.check(2).unwrap_err().to_string();
        assert!(message.contains("token 3: expected an id below 2"), "{message}");
        assert_eq!(with(bias(2, 1.0)).unwrap().check(9), Ok(()));
        let rules = LogitRules { min_tokens: 1, ends: vec![0, 2], ..bias(1, f32::NEG_INFINITY) };
        assert_eq!(sampled(&mut with(rules).unwrap(), &[0.0; 9]), Err(SamplerError::NothingAllowed));
    }
}

#[test]
fn log_probabilities_are_those_of_the_whole_softmax() {
    let mut random = Sequence::new(Key::from_seed(5));
    let mut best = Vec::new();
    for _ in 0..60 {
        let n_vocab = 1 + random.below(200) as usize;
        let logits = random_logits(&mut random, n_vocab);
        let p = softmax(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<f64>>());
        let log_probs = LogProbs::of(&logits).unwrap();
        for (token, p) in (0..).zip(&p) {
            let found = log_probs.of_token(token);
            assert!(found == p.ln() || (found - p.ln()).abs() < 1e-12, "{found} for {}", p.ln());
        }
        for n in [0, 1, 2, 5, 20, 500] {
            log_probs.best(n, &mut best);
            let expected: Vec<usize> =
                sorted_ids(&logits).into_iter().take(n).filter(|&i| logits[i] > f32::NEG_INFINITY).collect();
            assert_eq!(best.iter().map(|entry| entry.token as usize).collect::<Vec<usize>>(), expected);
            assert!(best.iter().all(|entry| entry.log_prob == log_probs.of_token(entry.token)));
        }
    }
    // Far from 0 the logarithm of a sum of exponentials neither overflows nor loses digits.
    for shift in [-1e4, 1e4] {
        let log_probs = LogProbs::of(&[shift, shift]).unwrap().of_token(1);
        assert!((log_probs + 2f64.ln()).abs() < 1e-12, "{log_probs}");
    }
    for logits in [&[0.0, f32::NAN][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY], &[]] {
        assert_eq!(LogProbs::of(logits).unwrap_err(), SamplerError::NotFinite);
    }
}
