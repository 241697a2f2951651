//! Measures how well a model predicts a whole text.

use crate::model::{Batch, BatchSlices, Gpt, Saved, Scratch};
use crate::ops::{self, Device};
use crate::tensor::Alloc;

/// Number of tokens passed through the model at a time, in as many windows as they fill; bounds the memory of
/// activations.
const TOKENS_AT_ONCE: usize = 2048;

/// The summed loss of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLoss {
    /// Sum of the losses of all counted tokens, in nats.
    pub sum: f64,
    /// Number of counted tokens: all except the first.
    pub n_tokens: usize,
}

/// The loss of `tokens` in windows of `window` tokens that start `stride` apart.
///
/// Every token except the first is counted once, in the first window that contains it as a target. `progress` receives
/// the number of tokens done.
///
/// # Panics
/// If there are fewer than two tokens, or unless 1 ≤ stride ≤ window ≤ the model's context.
pub fn text_loss(
    dev: &Device,
    gpt: &Gpt,
    tokens: &[u32],
    window: usize,
    stride: usize,
    progress: &mut dyn FnMut(usize),
) -> TextLoss {
    let n_targets = tokens.len().saturating_sub(1);
    assert!(
        n_targets > 0 && stride > 0 && stride <= window,
        "text_loss: {n_targets} targets, stride {stride}, window {window}"
    );
    let window = window.min(n_targets);
    let stride = stride.min(window);
    let at_once = (TOKENS_AT_ONCE / window).max(1);
    let alloc = &mut Alloc::on(dev);
    let mut saved = Saved::for_evaluation(&gpt.config, at_once, window, alloc);
    let (n_rows, n_outputs) = (at_once * window, gpt.config.vocab_size);
    let mut scratch = Scratch::with_outputs(&gpt.config, n_rows, n_outputs, gpt.rank(), alloc);
    let mut tensors = Batch::new(n_rows, alloc);
    let (mut inputs, mut targets, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = TextLoss::default();
    // (start, tokens) of the windows in the current batch; only the text's last one may not be full.
    let mut batch: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while total.n_tokens < n_targets {
        let len = window.min(n_targets - start);
        batch.push((start, len));
        let last = start + len == n_targets;
        if last || batch.len() == at_once || window.min(n_targets - start - stride) != len {
            inputs.clear();
            targets.clear();
            for &(from, len) in &batch {
                inputs.extend_from_slice(&tokens[from..from + len]);
                targets.extend_from_slice(&tokens[from + 1..from + len + 1]);
            }
            tensors.load(dev, BatchSlices::new(&inputs, &targets, batch.len()));
            gpt.loss(dev, &tensors, &mut saved, &mut scratch);
            losses.resize(targets.len(), 0.0);
            ops::read_into(dev, scratch.losses(), &mut losses);
            for (&(from, len), losses) in batch.iter().zip(losses.chunks_exact(len)) {
                let counted_before = total.n_tokens - from;
                total.sum += losses[counted_before..].iter().map(|&loss| f64::from(loss)).sum::<f64>();
                total.n_tokens = from + len;
            }
            batch.clear();
            progress(total.n_tokens);
        }
        start += stride;
    }
    total
}
