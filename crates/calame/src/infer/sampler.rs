//! Chooses the next token: greedily, or at random with temperature, top-k and top-p.

use serde::{Deserialize, Serialize};

use crate::rng::{self, Purpose, Sequence};
use crate::tokenizer::Tokenizer;

/// Settings of the sampler: the run section `[sample]` and the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Logits are divided by it; 0 selects the most likely token (greedy).
    pub temperature: f32,
    /// Only the tokens with the k highest logits are candidates (more if several equal the k-th); 0 means all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability are candidates; 1 means all.
    pub top_p: f32,
    /// Seed of the random draws.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> SamplerConfig {
        SamplerConfig { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 42 }
    }
}

impl SamplerConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), SamplerError> {
        let setting = |key, value, expected| Err(SamplerError::Setting { key, value, expected });
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return setting("temperature", self.temperature, "0 (greedy) or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return setting("top-p", self.top_p, "a probability above 0, at most 1");
        }
        Ok(())
    }
}

/// A setting out of range, or logits that cannot be sampled.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SamplerError {
    /// A setting is out of range.
    #[error("{key} is {value}: expected {expected}")]
    Setting {
        /// Name of the setting, as on the command line.
        key: &'static str,
        /// The value it was given.
        value: f32,
        /// The range that is accepted.
        expected: &'static str,
    },
    /// A logit is NaN, or all are −∞.
    #[error("the model's logits are not finite: its weights are damaged, or its training diverged")]
    NotFinite,
}

/// Draws tokens from logits `[V]`.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    random: Sequence,
    /// Only ids below this are drawn.
    n_vocab: usize,
    /// Candidate tokens by descending logit; the memory is reused.
    order: Vec<u32>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler that draws from stream `index` of the seed. It may draw any id that the model has logits for,
    /// which may be more than its tokenizer can decode: see [`for_tokenizer`](Self::for_tokenizer).
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn new(config: &SamplerConfig, index: u64) -> Result<Sampler, SamplerError> {
        config.validate()?;
        let random = Sequence::new(rng::stream(config.seed, Purpose::Sampling, index));
        Ok(Sampler { config: config.clone(), random, n_vocab: usize::MAX, order: Vec::new(), weights: Vec::new() })
    }

    /// As [`new`](Self::new), but draws only ids of `tokenizer`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_tokenizer<T: Tokenizer + ?Sized>(
        config: &SamplerConfig,
        index: u64,
        tokenizer: &T,
    ) -> Result<Sampler, SamplerError> {
        Ok(Sampler::new(config, index)?.among(tokenizer.n_vocab()))
    }

    /// Restricts draws to ids below `n_vocab`: a model may have more rows of logits than its tokenizer has tokens.
    #[must_use]
    pub fn among(mut self, n_vocab: usize) -> Sampler {
        self.n_vocab = n_vocab;
        self
    }

    /// Draws the next token. Among equal logits the lowest id comes first.
    ///
    /// # Errors
    /// If a logit is NaN, or all are −∞.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplerError> {
        let logits = &logits[..self.n_vocab.min(logits.len())];
        let best = argmax(logits).ok_or(SamplerError::NotFinite)?;
        if self.config.temperature == 0.0 {
            return Ok(best);
        }
        self.rank(logits);
        let max = f64::from(logits[best as usize]);
        let temperature = f64::from(self.config.temperature);
        self.weights.clear();
        let order = &self.order;
        self.weights.extend(order.iter().map(|&i| ((f64::from(logits[i as usize]) - max) / temperature).exp()));
        self.cut_to_top_p();
        let total: f64 = self.weights.iter().sum();
        let mut left = self.random.next_f64() * total;
        for (&token, &weight) in self.order.iter().zip(&self.weights) {
            left -= weight;
            if left < 0.0 {
                return Ok(token);
            }
        }
        // Rounding may leave a remainder; it belongs to the last token with a non-zero weight.
        let last = self.weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
        Ok(self.order[last])
    }

    /// Fills `order` with the top-k candidates by descending logit.
    fn rank(&mut self, logits: &[f32]) {
        self.order.clear();
        self.order.extend(0..logits.len() as u32);
        let falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let k = self.config.top_k;
        if k > 0 && k < self.order.len() {
            let (_, kth, _) = self.order.select_nth_unstable_by(k - 1, falling);
            let bound = logits[*kth as usize];
            self.order.retain(|&i| logits[i as usize] >= bound);
        }
        self.order.sort_unstable_by(falling);
    }

    /// Truncates to the shortest prefix whose probability reaches top_p.
    fn cut_to_top_p(&mut self) {
        if self.config.top_p == 1.0 {
            return;
        }
        let enough = f64::from(self.config.top_p) * self.weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let reached = self.weights.iter().position(|w| {
            sum += w;
            sum >= enough
        });
        self.weights.truncate(reached.map_or(self.weights.len(), |i| i + 1));
    }
}

/// Index of the first greatest element; `None` if any is NaN or all are −∞.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (i, &x) in logits.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if x > best.map_or(f32::NEG_INFINITY, |(_, b)| b) {
            best = Some((i as u32, x));
        }
    }
    best.map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(config: &SamplerConfig, logits: &[f32], n: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(config, 0).unwrap();
        let mut counts = vec![0; logits.len()];
        (0..n).for_each(|_| counts[sampler.sample(logits).unwrap() as usize] += 1);
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_greatest() {
        let mut sampler = Sampler::new(&SamplerConfig::default(), 0).unwrap();
        assert_eq!(sampler.sample(&[0.0, 3.0, 3.0, -1.0]), Ok(1));
        assert_eq!(sampler.sample(&[0.0, f32::NAN]), Err(SamplerError::NotFinite));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY]), Err(SamplerError::NotFinite));
    }

    #[test]
    fn ids_outside_the_tokenizer_are_not_drawn() {
        for temperature in [0.0, 1.0] {
            let config = SamplerConfig { temperature, ..SamplerConfig::default() };
            let mut sampler = Sampler::new(&config, 0).unwrap().among(2);
            assert!((0..50).all(|_| sampler.sample(&[0.0, 1.0, 9.0, 9.0]).unwrap() < 2));
        }
    }

    #[test]
    fn frequencies_are_those_of_the_softmax() {
        let logits = [1.0f32, 0.0, 2.0, -3.0];
        for temperature in [0.5, 1.0, 2.0] {
            let config = SamplerConfig { temperature, ..SamplerConfig::default() };
            let n = 50_000;
            let counts = drawn(&config, &logits, n);
            let weights: Vec<f64> = logits.iter().map(|&z| f64::from(z / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let p = weight / total;
                let bound = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
                assert!((*count as f64 / n as f64 - p).abs() <= bound, "{counts:?} at {temperature}");
            }
        }
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_what_reaches_it() {
        let with = |top_k, top_p| SamplerConfig { temperature: 1.0, top_k, top_p, seed: 1 };
        let counts = drawn(&with(2, 1.0), &[1.0, 3.0, 1.0, 0.0], 5000);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[2] > 0 && counts[3] == 0);
        // Probabilities 0.5, 0.3, 0.2: 0.5 alone reaches 0.5; 0.6 needs two.
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let counts = drawn(&with(0, 0.49), &logits, 1000);
        assert_eq!(counts, [1000, 0, 0]);
        let counts = drawn(&with(0, 0.6), &logits, 1000);
        assert!(counts[1] > 0 && counts[2] == 0);
        assert_eq!(drawn(&with(1, 1.0), &logits, 100), [100, 0, 0]);
        assert!(drawn(&with(99, 1.0), &logits, 1000)[2] > 0);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let config = SamplerConfig { temperature: 1.0, ..SamplerConfig::default() };
        let logits: Vec<f32> = (0..50).map(|i| (i as f32).sin()).collect();
        let draw = |config: &SamplerConfig, index| {
            let mut sampler = Sampler::new(config, index).unwrap();
            (0..40).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(draw(&config, 0), draw(&config, 0));
        assert_ne!(draw(&config, 0), draw(&config, 1));
        assert_ne!(draw(&config, 0), draw(&SamplerConfig { seed: 43, ..config }, 0));
    }

    #[test]
    fn impossible_settings_are_named() {
        let error = |config| Sampler::new(&config, 0).unwrap_err().to_string();
        let base = SamplerConfig::default();
        assert!(error(SamplerConfig { temperature: -1.0, ..base.clone() }).contains("temperature is -1"));
        assert!(error(SamplerConfig { temperature: f32::NAN, ..base.clone() }).contains("temperature is NaN"));
        assert!(error(SamplerConfig { top_p: 0.0, ..base.clone() }).contains("top-p is 0"));
        assert!(error(SamplerConfig { top_p: 1.5, ..base }).contains("top-p is 1.5"));
    }
}
