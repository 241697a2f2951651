//! Advice on settings that do not fit the text.

use calame::train::Recipe;

use super::planned::{Planned, Timed};
use super::ready::{Ready, RunTarget};
use crate::ui::output::{duration, grouped, note};

/// Tokens of a text for which many passes take longer than they help: about 8 MB.
const LARGE_TOKENS: u64 = 2_000_000;
/// Passes over each token that are not worth a remark.
const FEW_PASSES: f64 = 3.0;

/// Warns if a new run passes over a large text many times, because of windows that overlap and of its epochs, and names
/// the recipe that does not.
pub fn on_a_large_text(ready: &Ready, planned: &Planned, timed: Option<&Timed>) {
    let plan = &planned.plan;
    let n_tokens = ready.prepared.size.n_train_tokens;
    if !matches!(ready.target, RunTarget::New(_)) || ready.config.recipe == Recipe::Long.name() {
        return;
    }
    let n_trained = plan.tokens_per_epoch.saturating_mul(ready.config.train.epochs);
    let seconds = timed.map(|timed| timed.seconds);
    if let Some(text) = warning(n_tokens, n_trained, seconds, ready) {
        note(&text);
    }
}

fn warning(n_tokens: u64, n_trained: u64, seconds: Option<f64>, ready: &Ready) -> Option<String> {
    let n_passes = n_trained as f64 / n_tokens.max(1) as f64;
    if n_tokens < LARGE_TOKENS || n_passes <= FEW_PASSES {
        return None;
    }
    let data = &ready.config.data;
    Some(text(n_tokens, n_passes, seconds, (data.window, data.stride), ready.config.train.epochs))
}

fn text(n_tokens: u64, n_passes: f64, seconds: Option<f64>, (window, stride): (usize, usize), epochs: u64) -> String {
    let overlap =
        if stride < window { format!("windows of {window} tokens that start every {stride}, ") } else { String::new() };
    let (takes, instead) = match seconds {
        Some(seconds) => (
            format!(", which takes about {}", duration(seconds)),
            format!(" in about {}", duration(seconds / n_passes)),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "warning: the text is large, {} tokens, and the training would pass over it {n_passes:.0} times ({overlap}{epochs} \
         epochs){takes}; --recipe long passes over it once{instead}",
        grouped(n_tokens)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_passes_times_and_the_recipe() {
        let found = text(100_000_000, 40.0, Some(11_660_400.0), (64, 16), 10);
        assert_eq!(
            found,
            "warning: the text is large, 100,000,000 tokens, and the training would pass over it 40 times (windows of 64 \
             tokens that start every 16, 10 epochs), which takes about 134 days 23 h; --recipe long passes over it once \
             in about 3 days 8 h"
        );
        let found = text(3_000_000, 10.0, None, (256, 256), 10);
        assert!(found.ends_with("pass over it 10 times (10 epochs); --recipe long passes over it once"), "{found}");
    }
}
