//! Attention over heads, in training and over the pages of inference.

use super::{AttentionShape, Device, DropMask, KvRows, Phase, Work};
use crate::tensor::Tensor;

/// y [B·T, C] and lse [B·NH·T] from qkv [B·T, 3C]; `scale` multiplies the scores before the softmax.
///
/// `starts` (ids [B·T]) is the first position of its sequence that each query may see, the start of its segment; without
/// it every query sees its sequence from position 0.
///
/// # Panics
/// If the sizes are not those of `shape`, `scale` is not positive, a start is past its query, or a tensor is not on the
/// device.
pub fn attention_forward(
    dev: &Device,
    shape: AttentionShape,
    scale: f32,
    qkv: &Tensor,
    starts: Option<&Tensor>,
    mask: Option<&DropMask<'_>>,
    y: &mut Tensor,
    lse: &mut Tensor,
) {
    dev.run(Phase::AttentionForward, attention_work(shape, 2), |on| {
        on.attention_forward(shape, scale, qkv, starts, mask, y, lse);
    });
}

/// dqkv [B·T, 3C] from dy and what forward read and wrote.
///
/// # Panics
/// If the sizes are not those of `shape`, `scale` is not positive, a start is past its query, or a tensor is not on the
/// device.
pub fn attention_backward(
    dev: &Device,
    shape: AttentionShape,
    scale: f32,
    dy: &Tensor,
    qkv: &Tensor,
    starts: Option<&Tensor>,
    mask: Option<&DropMask<'_>>,
    y: &Tensor,
    lse: &Tensor,
    dqkv: &mut Tensor,
) {
    dev.run(Phase::AttentionBackward, attention_work(shape, 5), |on| {
        on.attention_backward(shape, scale, dy, qkv, starts, mask, y, lse, dqkv);
    });
}

/// `n_products` products of queries and keys, or of weights and values, over the half that the mask leaves.
fn attention_work(shape: AttentionShape, n_products: usize) -> Work {
    let AttentionShape { n_sequences, n_positions, n_head, head_size } = shape;
    let n_pairs = n_sequences * n_head * n_positions * (n_positions + 1) / 2;
    Work::product(n_products * n_pairs, head_size, 1)
}

/// Stores keys and values of new rows, from qkv [R, 3C], in their pages.
///
/// # Panics
/// If the sizes do not agree, a page is outside of `keys` or `values`, or a tensor is not on the device.
pub fn store_kv(dev: &Device, qkv: &Tensor, n_head: usize, rows: KvRows<'_>, keys: &mut Tensor, values: &mut Tensor) {
    // Two thirds of qkv are read and written.
    let work = Work::passes(qkv.len() / 3 * 4);
    dev.run(Phase::StoreKv, work, |on| on.store_kv(qkv, n_head, rows, keys, values));
}

/// y [R, C]: attention of new rows over their sequences' pages, in f32 whatever the device's precision; the rows' own keys
/// and values are stored already.
///
/// # Panics
/// If the sizes do not agree, `scale` is not positive, a page is outside of `keys` or `values`, or a tensor is not on the
/// device.
pub fn attention_extend(
    dev: &Device,
    qkv: &Tensor,
    n_head: usize,
    scale: f32,
    rows: KvRows<'_>,
    keys: &Tensor,
    values: &Tensor,
    y: &mut Tensor,
) {
    dev.run(Phase::AttentionForward, Work::default(), |on| {
        on.attention_extend(qkv, n_head, scale, rows, keys, values, y);
    });
}
