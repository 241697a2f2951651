//! What changes logits before a token is drawn: bias, penalties and the minimum length.

use super::config::{LogitRules, SamplerConfig};

/// The tokens of a sequence so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// The tokens that the generation was given.
    pub prompt: &'a [u32],
    /// The tokens drawn since.
    pub generated: &'a [u32],
}

/// Work space for changed logits; the memory is reused.
#[derive(Clone, Debug, Default)]
pub(in crate::infer) struct Penalties {
    /// Copy of the logits `[V]` that the settings change.
    scores: Vec<f32>,
    /// Occurrences of each token `[V]`; all 0 between uses.
    counts: Vec<u32>,
}

impl Penalties {
    /// The logits after bias, penalties and minimum length, in this order; `None` if the settings change none. Ids of the
    /// history that have no logit are ignored.
    pub fn apply(
        &mut self,
        config: &SamplerConfig,
        rules: &LogitRules,
        logits: &[f32],
        history: History<'_>,
    ) -> Option<&[f32]> {
        let has_repetition = config.repetition_penalty != 1.0;
        let has_counts = config.presence_penalty != 0.0 || config.frequency_penalty != 0.0;
        let is_short = history.generated.len() < rules.min_tokens && !rules.ends.is_empty();
        // Whether memory is needed must not depend on the history: a later token would allocate.
        let has_minimum = rules.min_tokens > 0 && !rules.ends.is_empty();
        if rules.bias.is_empty() && !has_repetition && !has_counts && !has_minimum {
            return None;
        }
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        for (&id, &bias) in &rules.bias {
            if let Some(score) = self.scores.get_mut(id as usize) {
                *score = saturated(*score + bias);
            }
        }
        self.counts.resize(logits.len(), 0);
        if has_repetition {
            self.penalize_repetition(config.repetition_penalty, history);
        }
        if has_counts {
            self.penalize_counts(config.presence_penalty, config.frequency_penalty, history.generated);
        }
        if is_short {
            for &id in &rules.ends {
                if let Some(score) = self.scores.get_mut(id as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        Some(&self.scores)
    }

    /// N. S. Keskar et al., "CTRL", 2019, section 4.1, with transformers' treatment of negative logits, which division
    /// would make more likely.
    fn penalize_repetition(&mut self, penalty: f32, history: History<'_>) {
        let ids = || history.prompt.iter().chain(history.generated).map(|&id| id as usize);
        for id in ids() {
            // A token is penalized once, however often it occurs.
            if let Some(count @ 0) = self.counts.get_mut(id) {
                *count = 1;
                let score = &mut self.scores[id];
                *score = saturated(if *score < 0.0 { *score * penalty } else { *score / penalty });
            }
        }
        self.clear_counts(ids());
    }

    /// OpenAI's API reference: logit − count · frequency_penalty − (count > 0) · presence_penalty.
    fn penalize_counts(&mut self, presence: f32, frequency: f32, generated: &[u32]) {
        let ids = || generated.iter().map(|&id| id as usize);
        for id in ids() {
            if let Some(count) = self.counts.get_mut(id) {
                *count += 1;
            }
        }
        for id in ids() {
            if let Some(count @ 1..) = self.counts.get_mut(id) {
                let penalty = (*count as f32 * frequency + presence).clamp(f32::MIN, f32::MAX);
                *count = 0;
                self.scores[id] = saturated(self.scores[id] - penalty);
            }
        }
    }

    fn clear_counts(&mut self, ids: impl Iterator<Item = usize>) {
        for id in ids {
            if let Some(count) = self.counts.get_mut(id) {
                *count = 0;
            }
        }
    }
}

/// A changed logit must not become +∞, which has no softmax.
fn saturated(score: f32) -> f32 {
    score.min(f32::MAX)
}
