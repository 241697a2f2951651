//! Layer normalisation, embedding, dropout, and rows that are picked from a matrix.

use super::{Device, DropMask, Phase, RowSet, Work};
use crate::device::Affine;
use crate::tensor::Tensor;

/// y, mean and rstd of each row of x.
pub fn layer_norm_forward(
    dev: &Device,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    y: &mut Tensor,
    mean: &mut Tensor,
    rstd: &mut Tensor,
) {
    let layer = Affine { weight, bias };
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |on| on.layer_norm_forward(x, layer, y, mean, rstd));
}

/// y again, from the saved mean and rstd of each row.
pub fn layer_norm_again(
    dev: &Device,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    y: &mut Tensor,
) {
    let layer = Affine { weight, bias };
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |on| on.layer_norm_again(x, layer, mean, rstd, y));
}

/// dx is added to, and so are dweight and dbias.
pub fn layer_norm_backward_add(
    dev: &Device,
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    dx: &mut Tensor,
    dweight: &mut Tensor,
    dbias: &mut Tensor,
) {
    dev.run(Phase::LayerNorm, Work::passes(4 * x.len()), |on| {
        on.layer_norm_backward_add(dy, x, weight, mean, rstd, dx, dweight, dbias);
    });
}

/// y row = `wte[token] + wpe[position]`.
///
/// # Panics
/// If a token or a position is outside its table.
pub fn embedding_forward(
    dev: &Device,
    tokens: &Tensor,
    positions: &Tensor,
    wte: &Tensor,
    wpe: &Tensor,
    y: &mut Tensor,
) {
    let work = Work::passes(2 * y.len());
    dev.run(Phase::Embedding, work, |on| on.embedding_forward(tokens, positions, wte, wpe, y));
}

/// dwte and dwpe are added to; the rows of dwte that were are added to `touched`.
pub fn embedding_backward(
    dev: &Device,
    tokens: &Tensor,
    positions: &Tensor,
    dy: &Tensor,
    dwte: &mut Tensor,
    dwpe: &mut Tensor,
    touched: &mut RowSet,
) {
    dev.run(Phase::Embedding, Work::passes(3 * dy.len()), |on| {
        on.embedding_backward(tokens, positions, dy, dwte, dwpe, touched);
    });
}

/// y = x·mask.
pub fn drop_elements(dev: &Device, x: &Tensor, mask: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor) {
    let work = Work::passes(2 * x.len());
    dev.run(Phase::Dropout, work, |on| on.drop_elements(x, mask, rows_per_sequence, y));
}

/// x ← x·mask.
pub fn drop_in_place(dev: &Device, mask: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor) {
    let work = Work::passes(2 * x.len());
    dev.run(Phase::Dropout, work, |on| on.drop_in_place(mask, rows_per_sequence, x));
}

/// Rows `which` (ids) of x, one after another in y.
///
/// # Panics
/// If x lacks one of the rows.
pub fn gather_rows(dev: &Device, x: &Tensor, which: &Tensor, y: &mut Tensor) {
    dev.run(Phase::Memory, Work::passes(2 * y.len()), |on| on.gather_rows(x, which, y));
}
