//! Log-probabilities of tokens under the model's own distribution.

use super::config::SamplerError;
use super::max_score;

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogProb {
    /// Id of the token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub log_prob: f64,
}

/// The model's distribution of the next token: the log-softmax of unprocessed logits `[V]`.
///
/// As in OpenAI's API, neither temperature nor any other setting of the sampler affects it, so that log-probabilities of
/// different requests can be compared. A token that the settings exclude still has one.
#[derive(Clone, Copy, Debug)]
pub struct LogProbs<'a> {
    logits: &'a [f32],
    /// ln Σ exp(logit), the normaliser of all log-probabilities.
    log_sum: f64,
}

impl<'a> LogProbs<'a> {
    /// The log-softmax of `logits`, in f64. A caller that draws fewer ids than the model has logits for may pass
    /// those of these ids only.
    ///
    /// # Errors
    /// If a logit is NaN or +∞, or all are −∞.
    pub fn of(logits: &'a [f32]) -> Result<LogProbs<'a>, SamplerError> {
        let (_, max) = max_score(logits)?.ok_or(SamplerError::NotFinite)?;
        let max = f64::from(max);
        let sum: f64 = logits.iter().map(|&z| (f64::from(z) - max).exp()).sum();
        Ok(LogProbs { logits, log_sum: max + sum.ln() })
    }

    /// The log-probability of a token; −∞ if its logit is.
    ///
    /// # Panics
    /// If the token has no logit.
    pub fn of_token(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.log_sum
    }

    /// Overwrites `best` with the `n` most likely tokens in descending order, among equal logits the lowest id first;
    /// fewer if the others are impossible. The vocabulary is not sorted, and nothing is allocated if `best` has a
    /// capacity of 2n.
    pub fn best(&self, n: usize, best: &mut Vec<TokenLogProb>) {
        best.clear();
        let n = n.min(self.logits.len());
        if n == 0 {
            return;
        }
        best.reserve(2 * n);
        let logit = |entry: &TokenLogProb| self.logits[entry.token as usize];
        let descending = |a: &TokenLogProb, b: &TokenLogProb| {
            logit(b).partial_cmp(&logit(a)).unwrap_or(std::cmp::Ordering::Equal).then(a.token.cmp(&b.token))
        };
        let mut bound = f32::NEG_INFINITY;
        for (token, &z) in (0..).zip(self.logits) {
            // A token that equals the n-th has a higher id than it.
            if z <= bound {
                continue;
            }
            best.push(TokenLogProb { token, log_prob: self.of_token(token) });
            if best.len() == 2 * n {
                bound = logit(best.select_nth_unstable_by(n - 1, descending).1);
                best.truncate(n);
            }
        }
        best.sort_unstable_by(descending);
        best.truncate(n);
    }
}
