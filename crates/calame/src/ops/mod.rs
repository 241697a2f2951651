//! Operations on tensors: the only place that knows there is more than one device or number format.
//!
//! The first argument of each is the [`Device`]; what is written is `&mut`, and overwritten unless the name ends in `_add`
//! or the argument is a gradient of a parameter (`grad`, `dweight`, `dbias`), which is added to, and left alone where it is
//! absent.

mod classifier;
mod device;
mod linear;
mod roofline;

pub use calame_kernels::{
    AdamW as AdamWStep, AttentionShape, DropMask, Isa, KvPages, Precision, WorkspaceSize, attention_workspace_size,
    gemm_workspace_size,
};
pub use classifier::{ClassifierScratch, chunk_rows, classifier_forward, classifier_forward_backward};
pub use device::{Clock, Device, Phase, PhaseTotal, Work};
pub use linear::{
    Residual, linear_backward_input, linear_backward_weight, linear_forward, linear_gelu_backward_input,
    linear_gelu_forward, linear_residual_forward,
};
pub use roofline::{multiply_in_registers, read_memory, update_memory};

use calame_kernels::{self as kernels, Key};

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
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |pool| {
        kernels::layer_norm_forward(
            pool,
            x.as_slice(),
            weight.as_slice(),
            bias.as_slice(),
            y.as_mut_slice(),
            mean.as_mut_slice(),
            rstd.as_mut_slice(),
        );
    });
}

/// y again, from what forward found.
pub fn layer_norm_again(
    dev: &Device,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    y: &mut Tensor,
) {
    dev.run(Phase::LayerNorm, Work::passes(2 * x.len()), |pool| {
        kernels::layer_norm_again(
            pool,
            x.as_slice(),
            weight.as_slice(),
            bias.as_slice(),
            mean.as_slice(),
            rstd.as_slice(),
            y.as_mut_slice(),
        );
    });
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
    let grad = if dweight.is_empty() { None } else { Some((dweight.as_mut_slice(), dbias.as_mut_slice())) };
    dev.run(Phase::LayerNorm, Work::passes(4 * x.len()), |pool| {
        kernels::layer_norm_backward_add(
            pool,
            dy.as_slice(),
            x.as_slice(),
            weight.as_slice(),
            mean.as_slice(),
            rstd.as_slice(),
            dx.as_mut_slice(),
            grad,
        );
    });
}

/// y [B·T, C] and lse [B·NH·T] from qkv [B·T, 3C].
pub fn attention_forward(
    dev: &Device,
    shape: AttentionShape,
    qkv: &Tensor,
    keep: Option<&DropMask<'_>>,
    y: &mut Tensor,
    lse: &mut Tensor,
) {
    dev.run(Phase::AttentionForward, attention_work(shape, 2), |pool| {
        kernels::attention_forward(
            pool,
            dev.precision(),
            shape,
            qkv.as_slice(),
            None,
            keep,
            y.as_mut_slice(),
            lse.as_mut_slice(),
        );
    });
}

/// `n_products` products of queries and keys, or of weights and values, over the half that the mask leaves.
fn attention_work(shape: AttentionShape, n_products: usize) -> Work {
    let AttentionShape { n_sequences, n_positions, n_head, head_size } = shape;
    let n_pairs = n_sequences * n_head * n_positions * (n_positions + 1) / 2;
    Work::product(n_products * n_pairs, head_size, 1)
}

/// dqkv from dy and what forward had and gave.
pub fn attention_backward(
    dev: &Device,
    shape: AttentionShape,
    dy: &Tensor,
    qkv: &Tensor,
    keep: Option<&DropMask<'_>>,
    y: &Tensor,
    lse: &Tensor,
    dqkv: &mut Tensor,
) {
    dev.run(Phase::AttentionBackward, attention_work(shape, 5), |pool| {
        kernels::attention_backward(
            pool,
            dev.precision(),
            shape,
            dy.as_slice(),
            qkv.as_slice(),
            None,
            keep,
            y.as_slice(),
            lse.as_slice(),
            dqkv.as_mut_slice(),
        );
    });
}

/// Keys and values of new rows go to their pages.
pub fn store_kv(
    dev: &Device,
    qkv: &Tensor,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut Tensor,
    values: &mut Tensor,
) {
    let channels = qkv.row_len() / 3;
    kernels::store_kv(
        &dev.pool,
        qkv.as_slice(),
        channels,
        sequences,
        positions,
        pages,
        keys.as_mut_slice(),
        values.as_mut_slice(),
    );
}

/// Attention of new rows over their sequences' pages, in f32 whatever the device's precision; the rows' own keys and values
/// are stored already.
pub fn attention_extend(
    dev: &Device,
    qkv: &Tensor,
    n_head: usize,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &Tensor,
    values: &Tensor,
    y: &mut Tensor,
) {
    dev.run(Phase::AttentionForward, Work::default(), |pool| {
        kernels::attention_extend(
            pool,
            qkv.as_slice(),
            n_head,
            y.row_len() / n_head,
            sequences,
            positions,
            pages,
            keys.as_slice(),
            values.as_slice(),
            y.as_mut_slice(),
        );
    });
}

/// y row = `wte[token] + wpe[position]`.
pub fn embedding_forward(dev: &Device, tokens: &[u32], positions: &[u32], wte: &Tensor, wpe: &Tensor, y: &mut Tensor) {
    let c = wte.row_len();
    dev.run(Phase::Embedding, Work::passes(2 * y.len()), |pool| {
        kernels::embedding_forward(pool, tokens, positions, wte.as_slice(), wpe.as_slice(), c, y.as_mut_slice());
    });
}

/// dwte and dwpe are added to.
pub fn embedding_backward(
    dev: &Device,
    tokens: &[u32],
    positions: &[u32],
    dy: &Tensor,
    dwte: &mut Tensor,
    dwpe: &mut Tensor,
) {
    dev.run(Phase::Embedding, Work::passes(3 * dy.len()), |_| {
        kernels::embedding_backward(
            tokens,
            positions,
            dy.as_slice(),
            dy.row_len(),
            dwte.as_mut_slice(),
            dwpe.as_mut_slice(),
        );
    });
}

/// y = x·keep.
pub fn drop_elements(dev: &Device, x: &Tensor, keep: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor) {
    dev.run(Phase::Dropout, Work::passes(2 * x.len()), |pool| {
        kernels::drop_elements(pool, x.as_slice(), keep, rows_per_sequence, x.row_len(), y.as_mut_slice());
    });
}

/// x ← x·keep.
pub fn drop_in_place(dev: &Device, keep: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor) {
    let cols = x.row_len();
    dev.run(Phase::Dropout, Work::passes(2 * x.len()), |pool| {
        kernels::drop_in_place(pool, keep, rows_per_sequence, cols, x.as_mut_slice());
    });
}

/// Rows `which` of x, one after another in y.
pub fn gather_rows(_dev: &Device, x: &Tensor, which: &[usize], y: &mut Tensor) {
    let c = x.row_len();
    for (&row, y) in which.iter().zip(y.as_mut_slice().chunks_exact_mut(c)) {
        y.copy_from_slice(&x.as_slice()[row * c..(row + 1) * c]);
    }
}

/// One AdamW step on one parameter; its gradient is set to zero.
pub fn adamw(dev: &Device, step: &AdamWStep, weight: &mut Tensor, grad: &mut Tensor, m: &mut Tensor, v: &mut Tensor) {
    dev.run(Phase::AdamW, Work::passes(8 * weight.len()), |pool| {
        kernels::adamw(pool, step, weight.as_mut_slice(), grad.as_mut_slice(), m.as_mut_slice(), v.as_mut_slice());
    });
}

/// As [`adamw`] for a table of which only the `touched` rows ever had a gradient: the others only decay.
pub fn adamw_rows(
    dev: &Device,
    step: &AdamWStep,
    touched: &[bool],
    weight: &mut Tensor,
    grad: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
) {
    let n_touched = touched.iter().filter(|&&touched| touched).count();
    let n_floats = 2 * weight.len() + 6 * n_touched * weight.row_len();
    dev.run(Phase::AdamW, Work::passes(n_floats), |pool| {
        let (w, g) = (weight.as_mut_slice(), grad.as_mut_slice());
        kernels::adamw_rows(pool, step, touched, w, g, m.as_mut_slice(), v.as_mut_slice());
    });
}

/// The sum of squares of all elements, not finite where one is not.
pub fn sum_of_squares(dev: &Device, x: &Tensor) -> f64 {
    let mut sum = 0.0;
    dev.run(Phase::Norm, Work::passes(x.len()), |pool| sum = kernels::sum_of_squares(pool, x.as_slice()));
    sum
}

/// y = x.
pub fn copy(dev: &Device, x: &Tensor, y: &mut Tensor) {
    kernels::copy(&dev.pool, x.as_slice(), y.as_mut_slice());
}

/// Uniform numbers in [low, high).
pub fn fill_uniform(dev: &Device, key: Key, low: f32, high: f32, x: &mut Tensor) {
    kernels::fill_uniform(&dev.pool, key, low, high, x.as_mut_slice());
}

/// Normal numbers.
pub fn fill_normal(dev: &Device, key: Key, mean: f32, std: f32, x: &mut Tensor) {
    kernels::fill_normal(&dev.pool, key, mean, std, x.as_mut_slice());
}
