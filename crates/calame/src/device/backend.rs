//! What a device must implement.

use std::fmt;
use std::ops::Range;

use calame_kernels::formats::dequantize;
use calame_kernels::{Activation, AdamW, AttentionShape, DropMask, Key, Precision};

use crate::tensor::{Dims, ElementFormat, NumberFormat, Tensor, View, ViewMut};

/// Every operation of training and inference on the storage of one device.
///
/// [`crate::ops`] documents each operation under the same name, and calls it with tensors that this device has created.
/// What is written is `&mut`, and overwritten unless the name ends in `_add` or the argument is a gradient of a parameter
/// (`grad`, `dweight`, `dbias`), which is added to. A tensor without elements is absent: no device has created it, and
/// operations leave it alone. An operation may return before it is done; [`read`](Self::read) waits.
pub trait Backend: fmt::Debug + Send + Sync {
    /// The number format of the operands of products.
    fn precision(&self) -> Precision;

    /// A tensor of zeros; `sparse` expects few of its rows ever to be touched.
    fn zeros(&self, dims: Dims, format: ElementFormat, sparse: bool) -> Tensor;
    /// f32 from this machine's memory.
    fn write(&self, from: &[f32], to: &mut Tensor);
    /// Numbers from this machine's memory in the number format of `to`, as a file stores them: little-endian, whole blocks.
    fn write_raw(&self, from: &[u8], to: &mut Tensor);
    /// Ids from this machine's memory.
    fn write_ids(&self, from: &[u32], to: &mut Tensor);
    /// A matrix of weights [OC, C] that is only read: as the right operand of products, transposed, and by look-ups of
    /// rows. `None` as soon as a function of `rows` fails.
    ///
    /// By default it is a tensor of f32.
    fn weights(&self, dims: [usize; 2], format: NumberFormat, rows: &WeightRows<'_>) -> Option<Tensor> {
        let mut elements = vec![0.0; dims[0] * dims[1]];
        rows.read(dims, format, &mut elements).then(|| {
            let mut tensor = self.zeros(dims.into(), ElementFormat::Number(NumberFormat::F32), false);
            self.write(&elements, &mut tensor);
            tensor
        })
    }
    /// f32 into this machine's memory, once all operations before it are done.
    fn read(&self, from: &Tensor, to: &mut [f32]);
    /// y = x, both f32 or both ids.
    fn copy(&self, x: &Tensor, y: &mut Tensor);
    /// y = x, whose numbers may be in any format, in f32.
    fn dequantize(&self, x: &Tensor, y: &mut Tensor);
    /// x = value in every element, also where memory is zero already.
    fn fill(&self, value: f32, x: &mut Tensor);
    /// x = 0; memory that is zero already stays untouched.
    fn zero(&self, x: &mut Tensor);
    /// x ← alpha·x, element by element.
    fn scale(&self, alpha: f32, x: &mut Tensor);
    /// y += alpha·x, element by element.
    fn add_scaled(&self, alpha: f32, x: &Tensor, y: &mut Tensor);
    /// Uniform random numbers in [low, high).
    fn fill_uniform(&self, key: Key, low: f32, high: f32, x: &mut Tensor);
    /// Normal random numbers of the given mean and standard deviation.
    fn fill_normal(&self, key: Key, mean: f32, std: f32, x: &mut Tensor);
    /// ids\[i\] = i mod n.
    fn fill_positions(&self, n: usize, ids: &mut Tensor);

    /// y, mean and rstd of each row of x.
    fn layer_norm_forward(&self, x: &Tensor, layer: Affine<'_>, y: &mut Tensor, mean: &mut Tensor, rstd: &mut Tensor);
    /// y again, from the saved mean and rstd.
    fn layer_norm_again(&self, x: &Tensor, layer: Affine<'_>, mean: &Tensor, rstd: &Tensor, y: &mut Tensor);
    /// dx is added to, and so are dweight and dbias unless they are absent; a layer without bias has no dbias.
    fn layer_norm_backward_add(
        &self,
        dy: &Tensor,
        x: &Tensor,
        layer: Affine<'_>,
        mean: &Tensor,
        rstd: &Tensor,
        dx: &mut Tensor,
        dweight: &mut Tensor,
        dbias: &mut Tensor,
    );

    /// c = epilogue(init + a·b): every product of a linear layer and of the head.
    fn product(&self, a: View<'_>, b: View<'_>, c: ViewMut<'_>, init: Init<'_>, epilogue: Epilogue<'_>);
    /// dbias += Σ of the rows of dy.
    fn sum_rows_add(&self, dy: &Tensor, dbias: &mut Tensor);

    /// y [B·T, C] and lse [B·NH·T] from qkv [B·T, 3C], with scores multiplied by `scale`.
    fn attention_forward(
        &self,
        shape: AttentionShape,
        scale: f32,
        qkv: &Tensor,
        starts: Option<&Tensor>,
        mask: Option<&DropMask<'_>>,
        y: &mut Tensor,
        lse: &mut Tensor,
    );
    /// dqkv [B·T, 3C] from dy and what forward read and wrote.
    fn attention_backward(
        &self,
        shape: AttentionShape,
        scale: f32,
        dy: &Tensor,
        qkv: &Tensor,
        starts: Option<&Tensor>,
        mask: Option<&DropMask<'_>>,
        y: &Tensor,
        lse: &Tensor,
        dqkv: &mut Tensor,
    );
    /// Keys and values of new rows into their pages.
    fn store_kv(&self, qkv: &Tensor, n_head: usize, rows: KvRows<'_>, keys: &mut Tensor, values: &mut Tensor);
    /// Attention of new rows over their sequences' pages.
    fn attention_extend(
        &self,
        qkv: &Tensor,
        n_head: usize,
        scale: f32,
        rows: KvRows<'_>,
        keys: &Tensor,
        values: &Tensor,
        y: &mut Tensor,
    );

    /// y row = `wte[token] + wpe[position]`.
    fn embedding_forward(&self, tokens: &Tensor, positions: &Tensor, wte: &Tensor, wpe: &Tensor, y: &mut Tensor);
    /// dwte and dwpe are added to unless they are absent; `touched` gets at least the rows of wte that were: all of them on
    /// a device whose ids would have to be transferred first.
    fn embedding_backward(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        dy: &Tensor,
        dwte: &mut Tensor,
        dwpe: &mut Tensor,
        touched: &mut RowSet,
    );

    /// y = x·mask, element by element.
    fn drop_elements(&self, x: &Tensor, mask: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor);
    /// x ← x·mask, element by element.
    fn drop_in_place(&self, mask: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor);

    /// Rows `which` of x, one after another in y.
    fn gather_rows(&self, x: &Tensor, which: &Tensor, y: &mut Tensor);
    /// Copies rows of one tensor to other rows of it.
    fn copy_rows(&self, x: &mut Tensor, from: usize, to: usize, n_rows: usize);

    /// The loss of each row of logits; with a `scale` the logits become their gradients.
    fn cross_entropy(
        &self,
        logits: &mut Tensor,
        targets: View<'_>,
        weights: Option<View<'_>>,
        losses: ViewMut<'_>,
        scale: Option<f32>,
    );
    /// Σ weight·loss over the first rows, in their order; waits for the losses.
    fn sum_losses(&self, losses: &Tensor, weights: Option<&Tensor>, n_rows: usize) -> f64;

    /// One AdamW step on one parameter, whose gradient is set to zero. Rows outside `touched` have never had a gradient:
    /// they only decay. Gradient and moments of such a row are zero, so that a device may treat it as the others.
    fn adamw(
        &self,
        step: &AdamW,
        touched: &RowSet,
        weight: &mut Tensor,
        grad: &mut Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
    );
    /// The sum of squares of all elements, not finite where one is not.
    fn sum_of_squares(&self, x: &Tensor) -> f64;
    /// Whether every element is a finite number.
    fn all_finite(&self, x: &Tensor) -> bool;
    /// Adds at least the rows of x that hold anything but zeros.
    fn find_touched(&self, x: &Tensor, touched: &mut RowSet);
}

/// Fills some rows of a matrix of weights, on several threads at once; false if that failed.
pub type FillRows<'a, T> = &'a (dyn Fn(Range<usize>, &mut [T]) -> bool + Sync);

/// Where the rows of a matrix of weights [OC, C] come from.
pub enum WeightRows<'a> {
    /// The elements of some rows, which are converted to the matrix's number format.
    Elements(FillRows<'a, f32>),
    /// The bytes of some rows in the matrix's number format, as a file stores them.
    Stored(FillRows<'a, u8>),
    /// The elements of the transposed matrix [C, OC], which are converted too.
    Transposed(&'a [f32]),
}

impl WeightRows<'_> {
    /// Reads all elements of a matrix.
    fn read(&self, [rows, columns]: [usize; 2], format: NumberFormat, out: &mut [f32]) -> bool {
        match self {
            WeightRows::Elements(fill) => fill(0..rows, out),
            WeightRows::Stored(fill) => {
                let mut bytes = vec![0; rows * (columns / format.block_len()) * format.block_bytes()];
                fill(0..rows, &mut bytes) && {
                    dequantize(format, &bytes, out);
                    true
                }
            }
            WeightRows::Transposed(x) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = x[i % columns * rows + i / columns];
                }
                true
            }
        }
    }
}

/// The scale, shift and ε of a layer normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// What each normalised channel is multiplied by, `[C]`.
    pub weight: &'a Tensor,
    /// What is added to each channel, `[C]`; absent in a layer without bias.
    pub bias: &'a Tensor,
    /// What is added to the variance.
    pub eps: f32,
}

/// What an element of a product starts from.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// The result is overwritten.
    Zero,
    /// The products are added to what the result holds.
    Add,
    /// Each row starts from this one.
    Bias(&'a Tensor),
    /// This row and the products are added to what each row of the result holds.
    AddBias(&'a Tensor),
}

/// What is done to a product while it is in the cache.
#[derive(Debug)]
pub enum Epilogue<'a> {
    /// The product stays as it is.
    None,
    /// y becomes activation(c); c stays as it is.
    Activation {
        /// The function that is applied.
        activation: Activation,
        /// As large as c; overwritten.
        y: &'a mut Tensor,
    },
    /// c, the gradient of activation(x), becomes that of x; y becomes activation(x).
    ActivationBackward {
        /// The function that is applied.
        activation: Activation,
        /// The argument of the function, as large as c.
        x: &'a Tensor,
        /// As large as c; overwritten.
        y: &'a mut Tensor,
    },
    /// c becomes x + c·mask: the end of a branch of the residual stream.
    Residual {
        /// As large as c.
        x: &'a Tensor,
        /// Which elements of the branch stay; without it all do.
        mask: Option<&'a DropMask<'a>>,
        /// T: rows that belong to one sequence.
        rows_per_sequence: usize,
    },
}

/// New rows of sequences whose keys and values are in pages.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// Positions in a page.
    pub page_len: usize,
    /// Page tables of all sequences, one after another: ids.
    pub table: &'a Tensor,
    /// Where the table of each sequence starts: ids.
    pub starts: &'a Tensor,
    /// The sequence of each row: ids `[R]`.
    pub sequences: &'a Tensor,
    /// The position of each row: ids `[R]`.
    pub positions: &'a Tensor,
}

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowSet {
    /// Every row, or a table of which nobody has kept track.
    All,
    /// The rows that are set.
    Some(Vec<bool>),
}

impl RowSet {
    /// None of `n_rows` rows.
    pub fn none(n_rows: usize) -> RowSet {
        RowSet::Some(vec![false; n_rows])
    }

    /// Adds the rows of another set of the same table.
    pub fn add(&mut self, other: &RowSet) {
        match (&mut *self, other) {
            (RowSet::Some(rows), RowSet::Some(others)) => {
                rows.iter_mut().zip(others).for_each(|(row, other)| *row |= other);
            }
            (_, RowSet::All) => *self = RowSet::All,
            (RowSet::All, _) => {}
        }
    }

    /// Adds the rows of these ids.
    ///
    /// # Panics
    /// If the table lacks one of them.
    pub fn add_ids(&mut self, ids: &[u32]) {
        if let RowSet::Some(rows) = self {
            ids.iter().for_each(|&id| rows[id as usize] = true);
        }
    }

    /// Removes every row; a set of all rows stays one.
    pub fn clear(&mut self) {
        if let RowSet::Some(rows) = self {
            rows.fill(false);
        }
    }
}
