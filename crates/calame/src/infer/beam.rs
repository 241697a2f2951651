//! Beam search: the most likely continuations of a prompt, as far as a number of beams finds them.
//!
//! In every step each beam is continued by its most likely tokens, and the best continuations of all beams become the new
//! beams. A text that ends is scored by its log-probability, divided by a power of its length. The order of operations is
//! that of Hugging Face transformers 5.24 (`_beam_search` in `generation/utils.py`) with `do_sample=False`: rules and penalties
//! are applied to log-probabilities, and a text that ends counts only if it is among the best continuations of its step.

use std::cmp::Ordering;

use super::error::{GenerateError, check_prompt};
use super::sampler::{History, LogProbs, LogitRules, Penalties, SamplerConfig, SamplerError};
use crate::model::{ExtendScratch, Gpt, KvPool, ModelConfig, PAGE_LEN, PageTable, Rows, n_pages};
use crate::ops::Device;
use crate::tensor::{Alloc, Tensor};

/// Tokens of a prompt that are passed through the model at a time.
const CHUNK: usize = 256;

/// Settings of a beam search.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamConfig {
    /// Number of texts that are continued at the same time.
    pub n_beams: usize,
    /// Number of new tokens at most.
    pub max_tokens: usize,
    /// The log-probability of a text is divided by its length to this power: above 0 longer texts are preferred.
    pub length_penalty: f32,
    /// Whether the search ends as soon as it has found as many texts as there are beams; else it ends when the best beam,
    /// scored at its present length, is not better than the worst of those.
    pub early_stopping: bool,
    /// Only ids below this are drawn.
    pub n_vocab: usize,
    /// The ids of which any one ends a text.
    pub ends: Vec<u32>,
    /// Bias and minimum length.
    pub rules: LogitRules,
    /// Penalties; the other settings of a sampler have no meaning here.
    pub penalties: SamplerConfig,
}

impl Default for BeamConfig {
    /// Four beams of up to 100 tokens; texts are compared by their log-probability per token.
    fn default() -> BeamConfig {
        BeamConfig {
            n_beams: 4,
            max_tokens: 100,
            length_penalty: 1.0,
            early_stopping: false,
            n_vocab: usize::MAX,
            ends: Vec::new(),
            rules: LogitRules::default(),
            penalties: SamplerConfig::default(),
        }
    }
}

impl BeamConfig {
    /// Checks every setting that does not depend on a model.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), SamplerError> {
        let value = self.length_penalty;
        if !value.is_finite() {
            let (key, expected) = ("length-penalty", "a finite number, 1 for the log-probability per token");
            return Err(SamplerError::Setting { key, value, expected });
        }
        self.penalties.validate()
    }
}

/// A text that a beam search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// The new tokens; one that ends texts is included.
    pub tokens: Vec<u32>,
    /// The sum of their log-probabilities, after rules and penalties, divided by the power of their number.
    pub score: f64,
}

/// A continuation of a beam by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    beam: usize,
    token: u32,
    /// Sum of the log-probabilities of its new tokens.
    total: f64,
}

/// A text that has not ended.
#[derive(Clone, Debug, Default)]
struct Running {
    tokens: Vec<u32>,
    total: f64,
}

/// The most likely continuations of a prompt, best first: at most as many as there are beams. They end with the model's
/// context at the latest.
///
/// # Errors
/// If the prompt is empty, exceeds the model's context, or contains unknown ids; if a rule names one; if the logits are not
/// finite, or the rules forbid every token.
pub fn beam_search(dev: &Device, gpt: &Gpt, prompt: &[u32], config: &BeamConfig) -> Result<Vec<Beam>, GenerateError> {
    check(&gpt.config, prompt, config)?;
    let max_tokens = config.max_tokens.min(gpt.config.n_positions + 1 - prompt.len());
    if max_tokens == 0 {
        return Ok(vec![Beam { tokens: Vec::new(), score: 0.0 }]);
    }
    let mut search = Search::new(dev, gpt, prompt, config, max_tokens);
    search.read_prompt();
    while search.step()? {
        search.extend();
    }
    Ok(search.finished)
}

/// Memory in bytes that [`beam_search`] allocates at most for a prompt of up to `n_prompt` tokens and a model with adapters of
/// up to `rank`, excluding lists of tokens.
pub fn beam_search_bytes(config: &ModelConfig, rank: usize, n_prompt: usize, beams: &BeamConfig) -> u64 {
    let mut alloc = Alloc::counting();
    let n_positions = config.n_positions;
    let n_seen = n_prompt.saturating_add(beams.max_tokens.saturating_sub(1)).clamp(1, n_positions);
    // A shorter prompt has fewer pages that all beams share.
    let n_all = beams.n_beams.saturating_mul(n_pages(n_seen) + 1);
    Memory::new(config, rank, n_prompt.min(n_positions), beams.n_beams, n_all, &mut alloc);
    alloc.bytes()
}

fn check(model: &ModelConfig, prompt: &[u32], config: &BeamConfig) -> Result<(), GenerateError> {
    check_prompt(model, prompt)?;
    let vocab_size = model.vocab_size;
    if config.n_beams == 0 || config.n_beams > vocab_size {
        return Err(GenerateError::Beams { n_beams: config.n_beams, vocab_size });
    }
    config.validate()?;
    config.rules.validate()?;
    Ok(config.rules.check(config.n_vocab.min(vocab_size))?)
}

/// What a search allocates on the device.
struct Memory {
    pool: KvPool,
    rows: Rows,
    scratch: ExtendScratch,
    logits: Tensor,
}

impl Memory {
    fn new(
        config: &ModelConfig,
        rank: usize,
        n_prompt: usize,
        n_beams: usize,
        n_pages: usize,
        alloc: &mut Alloc<'_>,
    ) -> Memory {
        let n_rows = n_prompt.clamp(n_beams, CHUNK.max(n_beams));
        Memory {
            pool: KvPool::new(config, n_pages, alloc),
            rows: Rows::with_capacity(n_rows, alloc),
            scratch: ExtendScratch::new(config, n_rows, n_beams, rank, alloc),
            logits: alloc.zeros([n_beams, config.vocab_size]),
        }
    }
}

struct Search<'a> {
    dev: &'a Device,
    gpt: &'a Gpt,
    config: &'a BeamConfig,
    prompt: &'a [u32],
    max_tokens: usize,
    memory: Memory,
    tables: Vec<PageTable>,
    running: Vec<Running>,
    /// The best texts that have ended, in descending order of their scores.
    finished: Vec<Beam>,
    penalties: Penalties,
}

impl<'a> Search<'a> {
    fn new(dev: &'a Device, gpt: &'a Gpt, prompt: &'a [u32], config: &'a BeamConfig, max_tokens: usize) -> Search<'a> {
        let alloc = &mut Alloc::on(dev);
        let n_seen = (prompt.len() + max_tokens - 1).min(gpt.config.n_positions);
        // Beams share the whole pages of the prompt. A page that several beams have may be counted for each of them when they
        // grow.
        let n_shared = prompt.len() / PAGE_LEN;
        let n_all = n_shared + config.n_beams * (n_pages(n_seen) - n_shared + 1);
        let memory = Memory::new(&gpt.config, gpt.rank(), prompt.len(), config.n_beams, n_all, alloc);
        let tables = vec![memory.pool.new_table()];
        let (running, penalties) = (vec![Running::default()], Penalties::default());
        Search { dev, gpt, config, prompt, max_tokens, memory, tables, running, finished: Vec::new(), penalties }
    }

    /// Passes the prompt through the model.
    fn read_prompt(&mut self) {
        let mut n_left = self.prompt.len();
        for chunk in self.prompt.chunks(CHUNK) {
            self.memory.rows.clear();
            n_left -= chunk.len();
            for (i, &token) in chunk.iter().enumerate() {
                self.memory.rows.push(0, token, n_left == 0 && i + 1 == chunk.len());
            }
            self.run();
        }
    }

    /// Passes the last token of each beam through the model.
    fn extend(&mut self) {
        self.memory.rows.clear();
        for (i, running) in self.running.iter().enumerate() {
            if let Some(&token) = running.tokens.last() {
                self.memory.rows.push(i, token, true);
            }
        }
        self.run();
    }

    fn run(&mut self) {
        let Memory { pool, rows, scratch, logits } = &mut self.memory;
        if let Err(error) = self.gpt.extend(self.dev, rows, &mut self.tables, pool, logits, scratch) {
            panic!("beam_search: {error}");
        }
    }

    /// Chooses the continuations of a step; returns whether the search continues.
    fn step(&mut self) -> Result<bool, SamplerError> {
        let BeamConfig { n_beams, early_stopping, .. } = *self.config;
        let candidates = self.candidates()?;
        let n_new = self.running[0].tokens.len() + 1;
        let ends = |candidate: &Candidate| n_new == self.max_tokens || self.config.ends.contains(&candidate.token);
        let length = (n_new as f64).powf(self.config.length_penalty.into());
        let text = |candidate: &Candidate| {
            let mut tokens = self.running[candidate.beam].tokens.clone();
            tokens.push(candidate.token);
            tokens
        };
        // Only the best continuations may end: the others exist to replace them as beams.
        let ended = candidates.iter().take(n_beams).filter(|candidate| ends(candidate));
        let ended: Vec<Beam> =
            ended.map(|candidate| Beam { tokens: text(candidate), score: candidate.total / length }).collect();
        let chosen: Vec<Candidate> =
            candidates.iter().filter(|candidate| !ends(candidate)).take(n_beams).copied().collect();
        let running: Vec<Running> =
            chosen.iter().map(|candidate| Running { tokens: text(candidate), total: candidate.total }).collect();
        self.finished.extend(ended);
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(n_beams);
        let Some(best) = running.first() else { return Ok(false) };
        let is_full = self.finished.len() == n_beams;
        let can_improve = !is_full || self.finished.last().is_none_or(|worst| best.total / length > worst.score);
        if !can_improve || (is_full && early_stopping) {
            return Ok(false);
        }
        self.choose(&chosen);
        self.running = running;
        Ok(true)
    }

    /// The best continuations of all beams, in descending order: enough for all beams even if many of them end.
    fn candidates(&mut self) -> Result<Vec<Candidate>, SamplerError> {
        let vocab_size = self.gpt.config.vocab_size;
        let n_kept = (1 + self.config.ends.len()).max(2) * self.config.n_beams;
        let logits = self.dev.host_elements(&self.memory.logits);
        let mut best: Vec<Candidate> = Vec::with_capacity(2 * n_kept);
        let mut scores = Vec::with_capacity(vocab_size);
        let mut bound = f64::NEG_INFINITY;
        for (beam, (running, logits)) in self.running.iter().zip(logits.chunks_exact(vocab_size)).enumerate() {
            let logits = &logits[..self.config.n_vocab.min(vocab_size)];
            let log_probs = LogProbs::of(logits)?;
            scores.clear();
            scores.extend((0..logits.len() as u32).map(|token| log_probs.of_token(token) as f32));
            let history = History { prompt: self.prompt, generated: &running.tokens };
            let changed = self.penalties.apply(&self.config.penalties, &self.config.rules, &scores, history);
            let scores = changed.unwrap_or(&scores).iter().enumerate();
            for (token, &score) in scores {
                let total = running.total + f64::from(score);
                // A candidate that equals the last one is behind it.
                if total > bound {
                    best.push(Candidate { beam, token: token as u32, total });
                }
                if best.len() == 2 * n_kept {
                    bound = best.select_nth_unstable_by(n_kept - 1, descending).1.total;
                    best.truncate(n_kept);
                }
            }
        }
        if best.is_empty() {
            return Err(SamplerError::NothingAllowed);
        }
        best.sort_unstable_by(descending);
        best.truncate(n_kept);
        Ok(best)
    }

    /// Gives each new beam a table of the keys and values of the one that it continues.
    fn choose(&mut self, chosen: &[Candidate]) {
        let pool = &mut self.memory.pool;
        let tables = chosen.iter().map(|candidate| pool.fork(&self.tables[candidate.beam])).collect();
        for mut table in std::mem::replace(&mut self.tables, tables) {
            pool.release(&mut table);
        }
    }
}

/// By the sum of log-probabilities; among equals, the first beam and the lowest id.
fn descending(a: &Candidate, b: &Candidate) -> Ordering {
    b.total.total_cmp(&a.total).then((a.beam, a.token).cmp(&(b.beam, b.token)))
}
