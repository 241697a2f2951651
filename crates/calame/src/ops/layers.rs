//! Layer normalisation, embedding, dropout, and rows that are picked from a matrix.

use super::check::check;
use super::{Device, DropMask, Phase, RowSet, Work};
use crate::device::Affine;
use crate::tensor::Tensor;

/// y, mean and rstd of each row of x. The layer's bias may be absent.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn layer_norm_forward(
    dev: &Device,
    x: &Tensor,
    layer: Affine<'_>,
    y: &mut Tensor,
    mean: &mut Tensor,
    rstd: &mut Tensor,
) {
    let Affine { weight, bias, .. } = layer;
    let agrees = y.len() == x.len() && is_normed(x, [weight, bias], [mean, rstd]);
    let tensors: [(&str, &Tensor); 6] =
        [("x", x), ("weight", weight), ("bias", bias), ("y", y), ("mean", mean), ("rstd", rstd)];
    check(agrees, "layer_norm_forward", &tensors);
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |on| on.layer_norm_forward(x, layer, y, mean, rstd));
}

/// y again, from the saved mean and rstd of each row.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn layer_norm_again(dev: &Device, x: &Tensor, layer: Affine<'_>, mean: &Tensor, rstd: &Tensor, y: &mut Tensor) {
    let Affine { weight, bias, .. } = layer;
    let agrees = y.len() == x.len() && is_normed(x, [weight, bias], [mean, rstd]);
    let tensors: [(&str, &Tensor); 6] =
        [("x", x), ("weight", weight), ("bias", bias), ("mean", mean), ("rstd", rstd), ("y", y)];
    check(agrees, "layer_norm_again", &tensors);
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |on| on.layer_norm_again(x, layer, mean, rstd, y));
}

/// dx is added to, and so are dweight and dbias.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn layer_norm_backward_add(
    dev: &Device,
    dy: &Tensor,
    x: &Tensor,
    layer: Affine<'_>,
    mean: &Tensor,
    rstd: &Tensor,
    dx: &mut Tensor,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
) {
    let weight = layer.weight;
    let agrees = dy.len() == x.len() && dx.len() == x.len() && is_normed(x, [weight, layer.bias], [mean, rstd]);
    let tensors: [(&str, &Tensor); 6] =
        [("dy", dy), ("x", x), ("weight", weight), ("mean", mean), ("rstd", rstd), ("dx", dx)];
    check(agrees, "layer_norm_backward_add", &tensors);
    dev.run(Phase::LayerNorm, Work::passes(4 * x.len()), |on| {
        on.layer_norm_backward_add(dy, x, layer, mean, rstd, dx, dweight, dbias);
    });
}

/// Whether parameters [C], of which the bias may be absent, and the statistics [R] of rows fit x [R, C].
fn is_normed(x: &Tensor, [weight, bias]: [&Tensor; 2], statistics: [&Tensor; 2]) -> bool {
    weight.len() == x.row_len()
        && (bias.is_empty() || bias.len() == x.row_len())
        && statistics.iter().all(|statistic| statistic.len() == x.n_rows())
}

/// y row = `wte[token] + wpe[position]`.
///
/// # Panics
/// If the sizes do not agree, a token or a position is outside its table, or a tensor is not on the device.
pub fn embedding_forward(
    dev: &Device,
    tokens: &Tensor,
    positions: &Tensor,
    wte: &Tensor,
    wpe: &Tensor,
    y: &mut Tensor,
) {
    let agrees = tokens.len() == y.n_rows() && positions.len() == y.n_rows() && is_row_of(y, [wte, wpe]);
    let tensors: [(&str, &Tensor); 5] =
        [("tokens", tokens), ("positions", positions), ("wte", wte), ("wpe", wpe), ("y", y)];
    check(agrees, "embedding_forward", &tensors);
    let work = Work::passes(2 * y.len());
    dev.run(Phase::Embedding, work, |on| on.embedding_forward(tokens, positions, wte, wpe, y));
}

/// Whether the rows of y [R, C] are as long as those of its tables, of which a gradient may be absent.
fn is_row_of(y: &Tensor, tables: [&Tensor; 2]) -> bool {
    tables.iter().all(|table| table.is_empty() || table.row_len() == y.row_len())
}

/// dwte and dwpe are added to; the rows of dwte that were are added to `touched`.
///
/// # Panics
/// If the sizes do not agree, a token or a position is outside its table, or a tensor is not on the device.
pub fn embedding_backward(
    dev: &Device,
    tokens: &Tensor,
    positions: &Tensor,
    dy: &Tensor,
    dwte: &mut Tensor,
    dwpe: &mut Tensor,
    touched: &mut RowSet,
) {
    let agrees = tokens.len() == dy.n_rows() && positions.len() == dy.n_rows() && is_row_of(dy, [dwte, dwpe]);
    let tensors: [(&str, &Tensor); 5] =
        [("tokens", tokens), ("positions", positions), ("dy", dy), ("dwte", dwte), ("dwpe", dwpe)];
    check(agrees, "embedding_backward", &tensors);
    dev.run(Phase::Embedding, Work::passes(3 * dy.len()), |on| {
        on.embedding_backward(tokens, positions, dy, dwte, dwpe, touched);
    });
}

/// y = x·mask, in which dropped elements are 0 and the others scaled.
///
/// # Panics
/// If the sizes do not agree, or a tensor is not on the device.
pub fn drop_elements(dev: &Device, x: &Tensor, mask: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor) {
    check(x.len() == y.len(), "drop_elements", &[("x", x), ("y", y)]);
    let work = Work::passes(2 * x.len());
    dev.run(Phase::Dropout, work, |on| on.drop_elements(x, mask, rows_per_sequence, y));
}

/// x ← x·mask, in which dropped elements become 0 and the others are scaled.
///
/// # Panics
/// If the mask is not for as many rows and columns, or the tensor is not on the device.
pub fn drop_in_place(dev: &Device, mask: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor) {
    let work = Work::passes(2 * x.len());
    dev.run(Phase::Dropout, work, |on| on.drop_in_place(mask, rows_per_sequence, x));
}

/// Rows `which` (ids) of x, one after another in y.
///
/// # Panics
/// If the sizes do not agree, x lacks one of the rows, or a tensor is not on the device.
pub fn gather_rows(dev: &Device, x: &Tensor, which: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * y.len()), |on| on.gather_rows(x, which, y));
}
