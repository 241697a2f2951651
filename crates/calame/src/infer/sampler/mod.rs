//! Chooses the next token from a model's logits.
//!
//! The order of processing is that of Hugging Face transformers 5.24 (`_get_logits_processor` in
//! `generation/utils.py`), with the semantics of its classes in `generation/logits_process.py`:
//!
//! 1. the logit bias is added;
//! 2. the repetition penalty divides positive logits of tokens that occur in the prompt or the new text, and multiplies
//!    negative ones;
//! 3. presence and frequency penalties are subtracted;
//! 4. before the minimum length, the ids that end texts are forbidden;
//! 5. with temperature 0, the token with the greatest logit is chosen. Otherwise the logits are divided by the
//!    temperature, and the candidates are truncated by
//! 6. top-k,
//! 7. top-p, of the probabilities that are left after top-k and so on,
//! 8. min-p,
//! 9. typical-p;
//! 10. a token is drawn from the softmax of what remains, which is at least one token.
//!
//! transformers has no presence and frequency penalties. They are defined as in OpenAI's API: they count the tokens of the
//! new text only, not of the prompt. They follow the repetition penalty, as in vLLM, because its effect depends on the
//! sign of the model's logit, which a subtraction could change. transformers would apply a processor that its user
//! passes in after step 4; the result is the same, because steps 3 and 4 commute.
//!
//! Differences from transformers: among equal logits the lowest id comes first (at the boundary of top-p transformers
//! keeps the highest), and probabilities are computed in f64. Steps 1 to 3 are computed in f32 by both.
//!
//! Log-probabilities ([`LogProbs`]) are those of the unprocessed logits.

mod candidates;
mod config;
mod log_probs;
mod penalties;
#[cfg(test)]
mod tests;

pub use config::{LogitRules, SamplerConfig, SamplerError};
pub use log_probs::{LogProbs, TokenLogProb};
pub use penalties::History;

pub(super) use self::penalties::Penalties;

use self::candidates::Candidates;
use crate::rng::{self, Purpose, Sequence};
use crate::tokenizer::Tokenizer;

/// Draws tokens of one sequence from logits `[V]`.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    rules: LogitRules,
    random: Sequence,
    /// Only ids below this are drawn.
    n_vocab: usize,
}

/// Work space of draws, which any number of samplers can share. It allocates when it is first used with a vocabulary
/// of a given size, and not after that.
#[derive(Clone, Debug, Default)]
pub struct SamplerScratch {
    penalties: Penalties,
    candidates: Candidates,
}

/// What the logits lead to before a token is drawn.
enum Choice {
    /// The temperature is 0: this token is certain.
    Greedy(u32),
    /// The scratch memory holds the candidates and their weights.
    Random,
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
        Ok(Sampler { config: config.clone(), rules: LogitRules::default(), random, n_vocab: usize::MAX })
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

    /// Number of ids that may be drawn, if the model has that many.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Applies the rules of a request to every draw.
    ///
    /// # Errors
    /// If a bias is NaN or +∞.
    pub fn with_rules(mut self, rules: LogitRules) -> Result<Sampler, SamplerError> {
        rules.validate()?;
        self.rules = rules;
        Ok(self)
    }

    /// Checks the rules against a model with `vocab_size` logits. [`sample`](Self::sample) checks them too; this
    /// reports the error before the model has computed anything.
    ///
    /// # Errors
    /// If a bias is set for an id that cannot be drawn.
    pub fn check(&self, vocab_size: usize) -> Result<(), SamplerError> {
        self.rules.check(self.n_vocab.min(vocab_size))
    }

    /// Draws the next token of a sequence. Among equal logits the lowest id comes first.
    ///
    /// # Errors
    /// If a logit is NaN or +∞, or all are −∞; if the rules forbid every token or name an unknown one.
    pub fn sample(
        &mut self,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut SamplerScratch,
    ) -> Result<u32, SamplerError> {
        match self.choose(logits, history, scratch)? {
            Choice::Greedy(token) => Ok(token),
            Choice::Random => Ok(scratch.candidates.draw(self.random.next_f64())),
        }
    }

    /// The distribution that [`sample`](Self::sample) draws from: the tokens that can be drawn with their
    /// probabilities, in descending order. Draws nothing and leaves the random sequence unchanged.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(
        &self,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut SamplerScratch,
    ) -> Result<Vec<(u32, f64)>, SamplerError> {
        match self.choose(logits, history, scratch)? {
            Choice::Greedy(token) => Ok(vec![(token, 1.0)]),
            Choice::Random => Ok(scratch.candidates.distribution()),
        }
    }

    /// All steps before the draw.
    fn choose(
        &self,
        logits: &[f32],
        history: History<'_>,
        scratch: &mut SamplerScratch,
    ) -> Result<Choice, SamplerError> {
        self.check(logits.len())?;
        let SamplerScratch { penalties, candidates } = scratch;
        let logits = &logits[..self.n_vocab.min(logits.len())];
        let (mut best, mut max) = max_score(logits)?.ok_or(SamplerError::NotFinite)?;
        let mut scores = logits;
        if let Some(changed) = penalties.apply(&self.config, &self.rules, logits, history) {
            scores = changed;
            (best, max) = max_score(scores)?.ok_or(SamplerError::NothingAllowed)?;
        }
        let config = &self.config;
        if config.temperature == 0.0 {
            return Ok(Choice::Greedy(best));
        }
        let temperature = f64::from(config.temperature);
        candidates.collect(scores, config.top_k);
        candidates.weigh(max, temperature);
        candidates.cut_to_top_p(config.top_p.into());
        candidates.cut_to_min_p(config.min_p.into());
        candidates.cut_to_typical(config.typical_p.into(), max, temperature);
        Ok(Choice::Random)
    }
}

/// The first greatest score and its id; `None` if all are −∞.
fn max_score(scores: &[f32]) -> Result<Option<(u32, f32)>, SamplerError> {
    let mut best = None;
    let mut max = f32::NEG_INFINITY;
    for (id, &score) in (0..).zip(scores) {
        if score.is_nan() || score == f32::INFINITY {
            return Err(SamplerError::NotFinite);
        }
        if score > max {
            max = score;
            best = Some((id, max));
        }
    }
    Ok(best)
}
