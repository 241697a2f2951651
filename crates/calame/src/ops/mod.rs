//! Operations on tensors: the only place that knows there is more than one device or number format.
//!
//! The first argument of each is the [`Device`]; what is written is `&mut`, and overwritten unless the name ends in `_add`
//! or the argument is a gradient of a parameter (`grad`, `dweight`, `dbias`), which is added to, and left alone where it is
//! absent.

mod classifier;

pub use calame_kernels::{AdamW as AdamWStep, AttentionShape, Isa, Keep, KvPages};
pub use classifier::{ClassifierScratch, classifier_forward, classifier_forward_backward};

use calame_kernels::{self as kernels, Key, MatMut, MatRef, Pool, Start};

use crate::tensor::Tensor;

/// Where operations run: threads and their instruction set.
pub struct Device {
    pool: Pool,
}

impl Device {
    /// The processor, with `n_threads` threads and kernels for `isa`.
    ///
    /// # Panics
    /// If `n_threads` is 0 or this machine lacks `isa`.
    pub fn cpu(n_threads: usize, isa: Isa) -> Device {
        Device { pool: Pool::new(n_threads, isa) }
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// The kernels' instruction set.
    pub fn isa(&self) -> Isa {
        self.pool.isa()
    }
}

fn matrix(x: &Tensor) -> MatRef<'_> {
    MatRef::dense(x.as_slice(), x.n_rows(), x.row_len())
}

fn matrix_mut(x: &mut Tensor) -> MatMut<'_> {
    let (rows, cols) = (x.n_rows(), x.row_len());
    MatMut::dense(x.as_mut_slice(), rows, cols)
}

/// y [R, OC] = x [R, C] · weightᵀ [OC, C] + bias `[OC]`.
pub fn linear_forward(dev: &Device, x: &Tensor, weight: &Tensor, bias: &Tensor, y: &mut Tensor) {
    let start = if bias.is_empty() { Start::Zero } else { Start::Bias(bias.as_slice()) };
    kernels::gemm(&dev.pool, matrix(x), matrix(weight).t(), matrix_mut(y), start);
}

/// dx [R, C] = dy [R, OC] · weight [OC, C].
pub fn linear_backward_input(dev: &Device, dy: &Tensor, weight: &Tensor, dx: &mut Tensor) {
    kernels::gemm(&dev.pool, matrix(dy), matrix(weight), matrix_mut(dx), Start::Zero);
}

/// dweight += dyᵀ·x; dbias += Σ dy.
pub fn linear_backward_weight(dev: &Device, dy: &Tensor, x: &Tensor, dweight: &mut Tensor, dbias: &mut Tensor) {
    if !dweight.is_empty() {
        kernels::gemm(&dev.pool, matrix(dy).t(), matrix(x), matrix_mut(dweight), Start::Add);
    }
    if !dbias.is_empty() {
        kernels::sum_rows_add(&dev.pool, dy.as_slice(), dbias.as_mut_slice());
    }
}

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
    kernels::layer_norm_forward(
        &dev.pool,
        x.as_slice(),
        weight.as_slice(),
        bias.as_slice(),
        y.as_mut_slice(),
        mean.as_mut_slice(),
        rstd.as_mut_slice(),
    );
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
    kernels::layer_norm_again(
        &dev.pool,
        x.as_slice(),
        weight.as_slice(),
        bias.as_slice(),
        mean.as_slice(),
        rstd.as_slice(),
        y.as_mut_slice(),
    );
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
    kernels::layer_norm_backward_add(
        &dev.pool,
        dy.as_slice(),
        x.as_slice(),
        weight.as_slice(),
        mean.as_slice(),
        rstd.as_slice(),
        dx.as_mut_slice(),
        grad,
    );
}

/// y = gelu(x), tanh form.
pub fn gelu_forward(dev: &Device, x: &Tensor, y: &mut Tensor) {
    kernels::gelu_forward(&dev.pool, x.as_slice(), y.as_mut_slice());
}

/// The gradient of gelu's result becomes that of its argument x.
pub fn gelu_backward_in_place(dev: &Device, x: &Tensor, dy: &mut Tensor) {
    kernels::gelu_backward_in_place(&dev.pool, x.as_slice(), dy.as_mut_slice());
}

/// y [B·T, C] and lse [B·NH·T] from qkv [B·T, 3C].
pub fn attention_forward(
    dev: &Device,
    shape: AttentionShape,
    qkv: &Tensor,
    keep: Option<&Keep>,
    y: &mut Tensor,
    lse: &mut Tensor,
) {
    kernels::attention_forward(&dev.pool, shape, qkv.as_slice(), keep, y.as_mut_slice(), lse.as_mut_slice());
}

/// dqkv from dy and what forward had and gave.
pub fn attention_backward(
    dev: &Device,
    shape: AttentionShape,
    dy: &Tensor,
    qkv: &Tensor,
    keep: Option<&Keep>,
    y: &Tensor,
    lse: &Tensor,
    dqkv: &mut Tensor,
) {
    kernels::attention_backward(
        &dev.pool,
        shape,
        dy.as_slice(),
        qkv.as_slice(),
        keep,
        y.as_slice(),
        lse.as_slice(),
        dqkv.as_mut_slice(),
    );
}

/// Keys and values of new rows go to their pages.
pub fn store_kv(
    _dev: &Device,
    qkv: &Tensor,
    sequences: &[u32],
    positions: &[u32],
    pages: KvPages<'_>,
    keys: &mut Tensor,
    values: &mut Tensor,
) {
    let channels = qkv.row_len() / 3;
    kernels::store_kv(
        qkv.as_slice(),
        channels,
        sequences,
        positions,
        pages,
        keys.as_mut_slice(),
        values.as_mut_slice(),
    );
}

/// Attention of new rows over their sequences' pages; the rows' own keys and values are stored already.
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
    kernels::attention_extend(
        &dev.pool,
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
}

/// y row = `wte[token] + wpe[position]`.
pub fn embedding_forward(dev: &Device, tokens: &[u32], positions: &[u32], wte: &Tensor, wpe: &Tensor, y: &mut Tensor) {
    let c = wte.row_len();
    kernels::embedding_forward(&dev.pool, tokens, positions, wte.as_slice(), wpe.as_slice(), c, y.as_mut_slice());
}

/// dwte and dwpe are added to.
pub fn embedding_backward(
    _dev: &Device,
    tokens: &[u32],
    positions: &[u32],
    dy: &Tensor,
    dwte: &mut Tensor,
    dwpe: &mut Tensor,
) {
    kernels::embedding_backward(
        tokens,
        positions,
        dy.as_slice(),
        dy.row_len(),
        dwte.as_mut_slice(),
        dwpe.as_mut_slice(),
    );
}

/// y = x + branch·keep; `rows_per_sequence` rows of each belong to one sequence.
pub fn add_dropped(
    dev: &Device,
    x: &Tensor,
    branch: &Tensor,
    keep: Option<&Keep>,
    rows_per_sequence: usize,
    y: &mut Tensor,
) {
    let cols = x.row_len();
    kernels::add_dropped(&dev.pool, x.as_slice(), branch.as_slice(), keep, rows_per_sequence, cols, y.as_mut_slice());
}

/// y = x·keep.
pub fn drop_elements(dev: &Device, x: &Tensor, keep: &Keep, rows_per_sequence: usize, y: &mut Tensor) {
    kernels::drop_elements(&dev.pool, x.as_slice(), keep, rows_per_sequence, x.row_len(), y.as_mut_slice());
}

/// x ← x·keep.
pub fn drop_in_place(dev: &Device, keep: &Keep, rows_per_sequence: usize, x: &mut Tensor) {
    let cols = x.row_len();
    kernels::drop_in_place(&dev.pool, keep, rows_per_sequence, cols, x.as_mut_slice());
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
    kernels::adamw(&dev.pool, step, weight.as_mut_slice(), grad.as_mut_slice(), m.as_mut_slice(), v.as_mut_slice());
}

/// Uniform numbers in [low, high).
pub fn fill_uniform(dev: &Device, key: Key, low: f32, high: f32, x: &mut Tensor) {
    kernels::fill_uniform(&dev.pool, key, low, high, x.as_mut_slice());
}

/// Normal numbers.
pub fn fill_normal(dev: &Device, key: Key, mean: f32, std: f32, x: &mut Tensor) {
    kernels::fill_normal(&dev.pool, key, mean, std, x.as_mut_slice());
}
