//! Embedding of tokens and positions: row t is `wte[token] + wpe[position]`.

use crate::pool::Pool;
use crate::rows::check_rows;
use crate::sizes::has_dims;
use crate::split::for_rows;

/// Writes the positions of the rows of sequences of `n_positions` tokens: y\[i\] = i mod `n_positions`; y is
/// overwritten.
///
/// # Panics
/// If `n_positions` is 0.
pub fn positions(n_positions: usize, y: &mut [u32]) {
    assert!(n_positions > 0, "positions: sequences of no tokens");
    for sequence in y.chunks_mut(n_positions) {
        sequence.iter_mut().zip(0..).for_each(|(y, position)| *y = position);
    }
}

/// Computes y [R, cols] from the token and the position of each row; y is overwritten.
///
/// # Panics
/// If the sizes do not agree, or an index is outside its table.
pub fn embedding_forward(
    pool: &Pool,
    tokens: &[u32],
    positions: &[u32],
    wte: &[f32],
    wpe: &[f32],
    cols: usize,
    y: &mut [f32],
) {
    assert!(tokens.len() == positions.len() && has_dims(y.len(), [tokens.len(), cols]), "embedding_forward: sizes");
    check_rows("embedding_forward: tokens", wte.len(), cols, tokens);
    check_rows("embedding_forward: positions", wpe.len(), cols, positions);
    for_rows(pool, y, cols, |row, y| {
        let rows = tokens[row..].iter().zip(&positions[row..]);
        for ((&token, &position), y) in rows.zip(y.chunks_exact_mut(cols)) {
            let te = &wte[token as usize * cols..][..cols];
            let pe = &wpe[position as usize * cols..][..cols];
            y.iter_mut().zip(te).zip(pe).for_each(|((y, t), p)| *y = t + p);
        }
    });
}

/// Adds the rows of dy [R, cols] to their tokens' rows of dwte and their positions' rows of dwpe; an empty table is
/// frozen.
///
/// It runs on one thread: two rows may have the same token, and the sums need one order. It takes a thousandth of a
/// step.
///
/// # Panics
/// If the sizes do not agree, or an index is outside its table.
pub fn embedding_backward(
    tokens: &[u32],
    positions: &[u32],
    dy: &[f32],
    cols: usize,
    dwte: &mut [f32],
    dwpe: &mut [f32],
) {
    assert!(tokens.len() == positions.len() && has_dims(dy.len(), [tokens.len(), cols]), "embedding_backward: sizes");
    for (indices, table) in [(tokens, dwte), (positions, dwpe)] {
        if table.is_empty() {
            continue;
        }
        for (&index, dy) in indices.iter().zip(dy.chunks_exact(cols)) {
            let row = &mut table[index as usize * cols..][..cols];
            row.iter_mut().zip(dy).for_each(|(to, dy)| *to += dy);
        }
    }
}
