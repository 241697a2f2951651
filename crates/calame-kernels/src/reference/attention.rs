//! Attention: causal, over packed examples, over pages of keys and values.

use super::real::{Real, zero};
use crate::attention::KvPages;

/// The weights of a query: softmax of scale·q·k over keys `first_key`..=q of a head, in the sequence that begins at
/// `row0`.
fn attention_weights<F: Real>(
    qkv: &[F],
    row0: usize,
    (first_key, q): (usize, usize),
    head: usize,
    c: usize,
    hs: usize,
    scale: F,
) -> Vec<F> {
    let part = |t: usize, part: usize| &qkv[(row0 + t) * 3 * c + part * c + head * hs..][..hs];
    let score = |k| part(q, 0).iter().zip(part(k, 1)).map(|(&q, &k)| q * k).sum::<F>() * scale;
    softmax((first_key..=q).map(score).collect())
}

/// Computes y [B·T, C] from qkv [B·T, 3C]. `scale` multiplies the scores before the softmax.
///
/// `starts` [B·T] is the first key that each query sees, 0 without it. `keep(b, head · T + query, key)` is the dropout
/// factor of a weight.
pub fn attention_forward<F: Real>(
    (b, t, nh, hs): (usize, usize, usize, usize),
    scale: F,
    qkv: &[F],
    starts: Option<&[u32]>,
    keep: &dyn Fn(usize, usize, usize) -> F,
    y: &mut [F],
) {
    let c = nh * hs;
    y.fill(zero());
    for (s, head, q) in places(b, nh, t) {
        let first_key = starts.map_or(0, |starts| starts[s * t + q] as usize);
        for (k, p) in (first_key..).zip(attention_weights(qkv, s * t, (first_key, q), head, c, hs, scale)) {
            let p = p * keep(s, head * t + q, k);
            for i in 0..hs {
                y[(s * t + q) * c + head * hs + i] += p * qkv[(s * t + k) * 3 * c + 2 * c + head * hs + i];
            }
        }
    }
}

/// Computes dqkv [B·T, 3C], which is overwritten; the other arguments are those of [`attention_forward`].
pub fn attention_backward<F: Real>(
    (b, t, nh, hs): (usize, usize, usize, usize),
    scale: F,
    dy: &[F],
    qkv: &[F],
    starts: Option<&[u32]>,
    keep: &dyn Fn(usize, usize, usize) -> F,
    dqkv: &mut [F],
) {
    let c = nh * hs;
    dqkv.fill(zero());
    for (s, head, q) in places(b, nh, t) {
        let at = |t_: usize, part: usize| (s * t + t_) * 3 * c + part * c + head * hs;
        let dy = &dy[(s * t + q) * c + head * hs..][..hs];
        let first_key = starts.map_or(0, |starts| starts[s * t + q] as usize);
        let weights = attention_weights(qkv, s * t, (first_key, q), head, c, hs, scale);
        let factors: Vec<F> = (first_key..=q).map(|k| keep(s, head * t + q, k)).collect();
        let dweights: Vec<F> = (first_key..=q)
            .zip(&factors)
            .map(|(k, &factor)| factor * (0..hs).map(|i| dy[i] * qkv[at(k, 2) + i]).sum::<F>())
            .collect();
        let mean: F = weights.iter().zip(&dweights).map(|(&p, &dp)| p * dp).sum();
        for (j, k) in (first_key..=q).enumerate() {
            let kept = weights[j] * factors[j];
            let dscore = weights[j] * (dweights[j] - mean) * scale;
            for i in 0..hs {
                dqkv[at(k, 2) + i] += kept * dy[i];
                dqkv[at(q, 0) + i] += dscore * qkv[at(k, 1) + i];
                dqkv[at(k, 1) + i] += dscore * qkv[at(q, 0) + i];
            }
        }
    }
}

fn places(b: usize, nh: usize, t: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..b).flat_map(move |s| (0..nh).flat_map(move |h| (0..t).map(move |q| (s, h, q))))
}

/// Copies the keys and values of new rows from qkv [R, 3C] to their positions in the page stores.
pub fn store_kv<F: Real>(
    qkv: &[F],
    (nh, hs): (usize, usize),
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut [F],
    values: &mut [F],
) {
    let c = nh * hs;
    for (r, h) in (0..positions.len()).flat_map(|r| (0..nh).map(move |h| (r, h))) {
        let (part, t) = (pages.part(sequences[r] as usize, positions[r] as usize, h, (nh, hs)), positions[r] as usize);
        for i in 0..hs {
            let at = r * 3 * c + h * hs + i;
            keys[part + i * pages.page_len + t % pages.page_len] = qkv[at + c];
            values[part + t % pages.page_len * hs + i] = qkv[at + 2 * c];
        }
    }
}

/// Computes y [R, C] from qkv [R, 3C]: row r attends to positions 0..=`positions[r]` of its sequence.
pub fn attention_extend<F: Real>(
    qkv: &[F],
    (nh, hs): (usize, usize),
    scale: F,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &[F],
    values: &[F],
    y: &mut [F],
) {
    let c = nh * hs;
    y.fill(zero());
    for (r, h) in (0..positions.len()).flat_map(|r| (0..nh).map(move |h| (r, h))) {
        let (sequence, seen) = (sequences[r] as usize, 0..=positions[r] as usize);
        let query = &qkv[r * 3 * c + h * hs..][..hs];
        let score = |t: usize| {
            let key = pages.part(sequence, t, h, (nh, hs)) + t % pages.page_len;
            let key = keys[key..].iter().step_by(pages.page_len);
            query.iter().zip(key).map(|(&q, &k)| q * k).sum::<F>() * scale
        };
        for (p, t) in softmax(seen.clone().map(score).collect()).into_iter().zip(seen) {
            let at = pages.part(sequence, t, h, (nh, hs)) + t % pages.page_len * hs;
            for i in 0..hs {
                y[r * c + h * hs + i] += p * values[at + i];
            }
        }
    }
}

fn softmax<F: Real>(scores: Vec<F>) -> Vec<F> {
    let max = scores.iter().fold(scores[0], |a, &b| if b > a { b } else { a });
    let exps: Vec<F> = scores.iter().map(|&s| (s - max).exp()).collect();
    let sum: F = exps.iter().copied().sum();
    exps.into_iter().map(|e| e / sum).collect()
}
