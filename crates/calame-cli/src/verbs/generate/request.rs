//! From flags and prompts to the engine's requests.

use anyhow::{Context, Result, bail};
use calame::infer::{BeamConfig, LogitRules, Request, Sampler, SamplerConfig, StopStrings};
use calame::model::ModelConfig;
use calame::tokenizer::{Special, TextBounds, Tokenizer};

use super::args::{Args, SamplingArgs};
use crate::ui::output::{UsageError, WithHint};

/// A prompt and its ids.
pub struct Encoded {
    pub text: String,
    pub tokens: Vec<u32>,
}

/// What all sequences have in common.
pub struct Requests {
    sampler: SamplerConfig,
    rules: LogitRules,
    /// What ends a text, besides a token.
    pub stop: StopStrings,
    /// The ids that end a text.
    ends: Vec<u32>,
}

/// The settings of the sampler. The default temperature is 0 (greedy), or 1 with a filter, which greedy decoding would ignore.
fn sampler_config(args: &SamplingArgs) -> SamplerConfig {
    let is_filtered = args.top_k > 0 || args.top_p < 1.0 || args.min_p > 0.0 || args.typical_p < 1.0;
    SamplerConfig {
        temperature: args.temperature.unwrap_or(if is_filtered { 1.0 } else { 0.0 }),
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        typical_p: args.typical_p,
        repetition_penalty: args.repetition_penalty,
        presence_penalty: args.presence_penalty,
        frequency_penalty: args.frequency_penalty,
        seed: args.seed,
    }
}

/// An assignment of a bias to a token.
fn bias(assignment: &str) -> Result<(u32, f32)> {
    let parsed = assignment.split_once('=').and_then(|(id, value)| Some((id.parse().ok()?, value.parse().ok()?)));
    parsed.ok_or_else(|| {
        let problem = format!("--logit-bias is '{assignment}': expected ID=X, such as 50256=-inf or 11=2.5");
        UsageError(problem).into()
    })
}

impl Requests {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the first one that is out of range.
    pub fn new(args: &Args) -> Result<Requests> {
        let sampler = sampler_config(&args.sampling);
        sampler.validate().map_err(UsageError::from)?;
        let bias = args.sampling.logit_bias.iter().map(|assignment| bias(assignment)).collect::<Result<_>>()?;
        let rules = LogitRules { bias, min_tokens: args.sampling.min_tokens, ends: Vec::new() };
        rules.validate().map_err(UsageError::from)?;
        let stop: Vec<String> = args.stop.iter().map(|stop| stop.replace("\\n", "\n").replace("\\t", "\t")).collect();
        let stop = StopStrings::new(&stop).map_err(|error| UsageError(format!("--stop: {error}")))?;
        Ok(Requests { sampler, rules, stop, ends: Vec::new() })
    }

    /// The ids of the prompts. An empty one starts a new text with the id that begins texts, if the model has one.
    ///
    /// # Errors
    /// If a prompt cannot be encoded, or exceeds the context and is not to be cropped.
    pub fn encode(
        &self,
        args: &Args,
        prompts: &[String],
        tokenizer: &dyn Tokenizer,
        bounds: &TextBounds,
        config: &ModelConfig,
    ) -> Result<Vec<Encoded>> {
        prompts.iter().map(|prompt| encode(args, prompt, tokenizer, bounds, config.n_positions)).collect()
    }

    /// The settings of a beam search among ids below `n_vocab`.
    pub fn beams(&self, args: &Args, n_vocab: usize) -> BeamConfig {
        BeamConfig {
            n_beams: args.beams.unwrap_or(1) as usize,
            max_tokens: args.tokens,
            length_penalty: args.length_penalty,
            early_stopping: false,
            n_vocab,
            rules: self.rules.clone(),
            ends: self.ends.clone(),
            penalties: self.sampler.clone(),
        }
    }

    /// The request of sequence number `index`, which has a random sequence of its own.
    ///
    /// # Errors
    /// If the settings are out of range.
    pub fn request(&self, args: &Args, prompt: &Encoded, index: usize, tokenizer: &dyn Tokenizer) -> Result<Request> {
        let sampler = Sampler::for_tokenizer(&self.sampler, index as u64, tokenizer)?.with_rules(self.rules.clone())?;
        Ok(Request {
            ends: self.ends.clone(),
            slide: Some(args.slide),
            n_log_probs: args.logprobs.map(|n| n as usize),
            n_drafts: args.draft,
            ..Request::new(prompt.tokens.clone(), sampler, args.tokens)
        })
    }

    /// The same with the ids that end texts, which come from the model.
    #[must_use]
    pub fn with_bounds(mut self, args: &Args, bounds: &TextBounds) -> Requests {
        self.rules.ends.clone_from(&bounds.ends);
        if !args.ignore_end {
            self.ends.clone_from(&bounds.ends);
        }
        self
    }
}

fn encode(
    args: &Args,
    text: &str,
    tokenizer: &dyn Tokenizer,
    bounds: &TextBounds,
    n_positions: usize,
) -> Result<Encoded> {
    let mut tokens = tokenizer.encode(text, Special::Allow).context("the prompt")?;
    if tokens.is_empty() {
        tokens.extend(bounds.begin);
    }
    if tokens.is_empty() {
        bail!(WithHint::new(
            "the prompt is empty, and the model has no token that begins texts",
            "give at least one token to continue from: --context TEXT"
        ));
    }
    if tokens.len() > n_positions {
        if !args.crop {
            bail!(WithHint::new(
                format!("the prompt has {} tokens, the model's context is {n_positions}", tokens.len()),
                "shorten it, or add --crop to keep only its end"
            ));
        }
        tokens.drain(..tokens.len() - n_positions);
    }
    Ok(Encoded { text: text.to_owned(), tokens })
}
