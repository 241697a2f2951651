//! Measures how well a model predicts a whole text.

use crate::model::{Batch, BatchSlices, Gpt, Saved, Scratch};
use crate::ops::{self, Device};
use crate::tensor::Alloc;

/// Maximum number of tokens per forward pass, which bounds the memory of activations. A longer window is a pass of its
/// own.
pub const TOKENS_AT_ONCE: usize = 2048;

/// The summed loss of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLoss {
    /// Sum of the losses of all counted tokens, in nats.
    pub sum: f64,
    /// Number of counted tokens: all except the first token of the text.
    pub n_tokens: usize,
}

/// Converts a loss per token into bits per byte of text, which are comparable between tokenizers: log₂ of the loss divided
/// by the bytes that a token has on average.
pub fn bits_per_byte(nats_per_token: f64, bytes_per_token: f64) -> f64 {
    nats_per_token / std::f64::consts::LN_2 / bytes_per_token
}

/// Computes the loss of `tokens` over windows of `window` tokens that start `stride` tokens apart.
///
/// Every token except the first is counted once, in the first window that contains it as a target. `progress` is called
/// with the number of tokens counted so far.
///
/// # Panics
/// If there are fewer than two tokens, or 1 ≤ stride ≤ window ≤ the model's context does not hold.
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
    let windows_per_batch = (TOKENS_AT_ONCE / window).max(1);
    let alloc = &mut Alloc::on(dev);
    let mut saved = Saved::for_evaluation(&gpt.config, windows_per_batch, window, alloc);
    let (n_rows, n_outputs) = (windows_per_batch * window, gpt.config.vocab_size);
    let mut scratch = Scratch::with_outputs(&gpt.config, n_rows, n_outputs, gpt.rank(), alloc);
    let mut tensors = Batch::new(n_rows, alloc);
    let (mut inputs, mut targets, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = TextLoss::default();
    // (start, length) of each window in the current batch. Only the last window of the text may be shorter.
    let mut batch: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while total.n_tokens < n_targets {
        let len = window.min(n_targets - start);
        batch.push((start, len));
        let last = start + len == n_targets;
        if last || batch.len() == windows_per_batch || window.min(n_targets - start - stride) != len {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_by_hand() {
        // A uniform choice among 256 bytes takes eight bits.
        assert!((bits_per_byte(256f64.ln(), 1.0) - 8.0).abs() < 1e-12);
        // The same loss per token, of tokens that cover four bytes.
        assert!((bits_per_byte(256f64.ln(), 4.0) - 2.0).abs() < 1e-12);
    }
}
