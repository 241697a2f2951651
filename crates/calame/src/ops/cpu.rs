//! The processor's implementation of every operation: storage becomes slices, and calame-kernels computes on them.

use calame_kernels::{self as kernels, AdamW, AttentionShape, DropMask, Key, KvPages, MatMut, MatRef, Precision};

use half::{bf16, f16};

use super::weights::packed_weights;
use crate::device::{Affine, Backend, Cpu, Epilogue, Init, KvRows, RowSet, WeightRows};
use crate::tensor::{Dims, ElementFormat, NumberFormat, Storage, Tensor, View, ViewMut};

impl Backend for Cpu {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn zeros(&self, dims: Dims, format: ElementFormat, sparse: bool) -> Tensor {
        Tensor::new(Storage::on_host(dims.n_elements(), format, sparse), dims)
    }

    fn write(&self, from: &[f32], to: &mut Tensor) {
        kernels::copy(&self.pool, from, to.host_mut());
    }

    fn write_raw(&self, from: &[u8], to: &mut Tensor) {
        match to.storage_mut() {
            Storage::F32(x) => kernels::formats::dequantize(NumberFormat::F32, from, &mut x[..from.len() / 4]),
            Storage::F16(x) => x.iter_mut().zip(from.as_chunks().0).for_each(|(x, &b)| *x = f16::from_le_bytes(b)),
            Storage::Bf16(x) => x.iter_mut().zip(from.as_chunks().0).for_each(|(x, &b)| *x = bf16::from_le_bytes(b)),
            Storage::Blocks { bytes, .. } => bytes[..from.len()].copy_from_slice(from),
            other @ (Storage::U32(_) | Storage::Packed(_) | Storage::Gpu(_)) => {
                panic!("write_raw: numbers into {other:?}")
            }
        }
    }

    fn weights(&self, dims: [usize; 2], format: NumberFormat, rows: &WeightRows<'_>) -> Option<Tensor> {
        packed_weights(&self.pool, dims, format, rows)
    }

    fn write_ids(&self, from: &[u32], to: &mut Tensor) {
        to.host_ids_mut().copy_from_slice(from);
    }

    fn read(&self, from: &Tensor, to: &mut [f32]) {
        kernels::copy(&self.pool, from.host(), to);
    }

    fn copy(&self, x: &Tensor, y: &mut Tensor) {
        match (x.storage(), y.storage()) {
            (Storage::U32(_), Storage::U32(_)) => y.host_ids_mut().copy_from_slice(x.host_ids()),
            _ => kernels::copy(&self.pool, x.host(), y.host_mut()),
        }
    }

    fn dequantize(&self, x: &Tensor, y: &mut Tensor) {
        let (n, y) = (x.len(), y.host_mut());
        assert_eq!(n, y.len(), "dequantize: {x:?} into so many elements");
        match x.storage() {
            Storage::F32(x) => y.copy_from_slice(&x[..n]),
            Storage::F16(x) => x.iter().zip(y).for_each(|(x, y)| *y = x.to_f32()),
            Storage::Bf16(x) => x.iter().zip(y).for_each(|(x, y)| *y = x.to_f32()),
            Storage::Blocks { format, bytes } => {
                let n_bytes = n / format.block_len() * format.block_bytes();
                kernels::formats::dequantize(*format, &bytes[..n_bytes], y);
            }
            Storage::Packed(matrix) => {
                let columns = matrix.shape().cols();
                y.chunks_exact_mut(columns).enumerate().for_each(|(row, y)| matrix.row(row, y));
            }
            other @ (Storage::U32(_) | Storage::Gpu(_)) => panic!("dequantize: {x:?} is stored as {other:?}"),
        }
    }

    fn fill(&self, value: f32, x: &mut Tensor) {
        kernels::fill(&self.pool, value, x.host_mut());
    }

    fn zero(&self, x: &mut Tensor) {
        kernels::zero_nonzero(x.host_mut());
    }

    fn scale(&self, alpha: f32, x: &mut Tensor) {
        kernels::update_memory(&self.pool, alpha, x.host_mut());
    }

    fn add_scaled(&self, alpha: f32, x: &Tensor, y: &mut Tensor) {
        kernels::add_scaled(&self.pool, alpha, x.host(), y.host_mut());
    }

    fn fill_uniform(&self, key: Key, low: f32, high: f32, x: &mut Tensor) {
        kernels::fill_uniform(&self.pool, key, low, high, x.host_mut());
    }

    fn fill_normal(&self, key: Key, mean: f32, std: f32, x: &mut Tensor) {
        kernels::fill_normal(&self.pool, key, mean, std, x.host_mut());
    }

    fn fill_positions(&self, n: usize, ids: &mut Tensor) {
        kernels::positions(n, ids.host_ids_mut());
    }

    fn layer_norm_forward(&self, x: &Tensor, layer: Affine<'_>, y: &mut Tensor, mean: &mut Tensor, rstd: &mut Tensor) {
        let (x, y, mean, rstd) = (x.host(), y.host_mut(), mean.host_mut(), rstd.host_mut());
        let (weight, bias) = (layer.weight.host(), layer.bias.host());
        kernels::layer_norm_forward(&self.pool, x, weight, bias, layer.eps, y, mean, rstd);
    }

    fn layer_norm_again(&self, x: &Tensor, layer: Affine<'_>, mean: &Tensor, rstd: &Tensor, y: &mut Tensor) {
        let (weight, bias) = (layer.weight.host(), layer.bias.host());
        kernels::layer_norm_again(&self.pool, x.host(), weight, bias, mean.host(), rstd.host(), y.host_mut());
    }

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
    ) {
        let grad = if dweight.is_empty() { None } else { Some((dweight.host_mut(), dbias.host_mut())) };
        let (dy, x, weight) = (dy.host(), x.host(), layer.weight.host());
        kernels::layer_norm_backward_add(&self.pool, dy, x, weight, mean.host(), rstd.host(), dx.host_mut(), grad);
    }

    fn product(&self, a: View<'_>, b: View<'_>, c: ViewMut<'_>, init: Init<'_>, epilogue: Epilogue<'_>) {
        let initial = match init {
            Init::Zero => kernels::Init::Zero,
            Init::Add => kernels::Init::Add,
            Init::Bias(bias) => kernels::Init::Bias(bias.host()),
            Init::AddBias(bias) => kernels::Init::AddBias(bias.host()),
        };
        let last = match epilogue {
            Epilogue::None => kernels::Epilogue::None,
            Epilogue::Activation { activation, y } => kernels::Epilogue::Activation { activation, y: y.host_mut() },
            Epilogue::ActivationBackward { activation, x, y } => {
                kernels::Epilogue::ActivationBackward { activation, x: x.host(), y: y.host_mut() }
            }
            Epilogue::Residual { x, mask, rows_per_sequence } => {
                kernels::Epilogue::AddDropped { x: x.host(), keep: mask, rows_per_sequence }
            }
        };
        if let Storage::Packed(weights) = b.tensor.storage() {
            let is_whole = b.rows == (0..b.tensor.n_rows()) && b.columns == (0..b.tensor.row_len());
            assert!(b.transposed && is_whole, "product: {b:?} is packed, expected its whole transpose");
            return kernels::packed_product(&self.pool, matrix(&a), weights, matrix_mut(c), initial, last);
        }
        kernels::gemm_then(&self.pool, self.precision, matrix(&a), matrix(&b), matrix_mut(c), initial, last);
    }

    fn sum_rows_add(&self, dy: &Tensor, dbias: &mut Tensor) {
        kernels::sum_rows_add(&self.pool, dy.host(), dbias.host_mut());
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        scale: f32,
        qkv: &Tensor,
        starts: Option<&Tensor>,
        mask: Option<&DropMask<'_>>,
        y: &mut Tensor,
        lse: &mut Tensor,
    ) {
        let (starts, precision) = (starts.map(Tensor::host_ids), self.precision);
        let (y, lse) = (y.host_mut(), lse.host_mut());
        kernels::attention_forward(&self.pool, precision, shape, scale, qkv.host(), starts, mask, y, lse);
    }

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
    ) {
        let (starts, precision) = (starts.map(Tensor::host_ids), self.precision);
        let (dy, qkv, y, lse) = (dy.host(), qkv.host(), y.host(), lse.host());
        let dqkv = dqkv.host_mut();
        kernels::attention_backward(&self.pool, precision, shape, scale, dy, qkv, starts, mask, y, lse, dqkv);
    }

    fn store_kv(&self, qkv: &Tensor, n_head: usize, rows: KvRows<'_>, keys: &mut Tensor, values: &mut Tensor) {
        let (sequences, positions) = (rows.sequences.host_ids(), rows.positions.host_ids());
        let heads = (n_head, qkv.row_len() / 3 / n_head);
        let (keys, values) = (keys.host_mut(), values.host_mut());
        kernels::store_kv(&self.pool, qkv.host(), heads, sequences, positions, pages(&rows), keys, values);
    }

    fn attention_extend(
        &self,
        qkv: &Tensor,
        n_head: usize,
        scale: f32,
        rows: KvRows<'_>,
        keys: &Tensor,
        values: &Tensor,
        y: &mut Tensor,
    ) {
        let (sequences, positions) = (rows.sequences.host_ids(), rows.positions.host_ids());
        let (head_size, pages) = (y.row_len() / n_head, pages(&rows));
        let (qkv, keys, values) = (qkv.host(), keys.host(), values.host());
        let (pool, y) = (&self.pool, y.host_mut());
        kernels::attention_extend(pool, qkv, n_head, head_size, scale, sequences, positions, pages, keys, values, y);
    }

    fn embedding_forward(&self, tokens: &Tensor, positions: &Tensor, wte: &Tensor, wpe: &Tensor, y: &mut Tensor) {
        let (tokens, positions, c) = (tokens.host_ids(), positions.host_ids(), wte.row_len());
        let (wpe, y) = (wpe.host(), y.host_mut());
        match wte.storage() {
            Storage::Packed(table) => kernels::packed_embedding(&self.pool, tokens, positions, table, wpe, y),
            _ => kernels::embedding_forward(&self.pool, tokens, positions, wte.host(), wpe, c, y),
        }
    }

    fn embedding_backward(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        dy: &Tensor,
        dwte: &mut Tensor,
        dwpe: &mut Tensor,
        touched: &mut RowSet,
    ) {
        let (tokens, positions, c) = (tokens.host_ids(), positions.host_ids(), dy.row_len());
        kernels::embedding_backward(tokens, positions, dy.host(), c, dwte.host_mut(), dwpe.host_mut());
        if !dwte.is_empty() {
            touched.add_ids(tokens);
        }
    }

    fn drop_elements(&self, x: &Tensor, mask: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor) {
        kernels::drop_elements(&self.pool, x.host(), mask, rows_per_sequence, x.row_len(), y.host_mut());
    }

    fn drop_in_place(&self, mask: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor) {
        let columns = x.row_len();
        kernels::drop_in_place(&self.pool, mask, rows_per_sequence, columns, x.host_mut());
    }

    fn gather_rows(&self, x: &Tensor, which: &Tensor, y: &mut Tensor) {
        kernels::gather_rows(&self.pool, x.host(), x.row_len(), which.host_ids(), y.host_mut());
    }

    fn copy_rows(&self, x: &mut Tensor, from: usize, to: usize, n_rows: usize) {
        let columns = x.row_len();
        kernels::copy_rows(x.host_mut(), columns, from, to, n_rows);
    }

    fn cross_entropy(
        &self,
        logits: &mut Tensor,
        targets: View<'_>,
        weights: Option<View<'_>>,
        losses: ViewMut<'_>,
        scale: Option<f32>,
    ) {
        let targets = &targets.tensor.host_ids()[targets.rows];
        let weights = weights.map(|weights| &weights.tensor.host()[weights.rows]);
        let losses = &mut losses.tensor.host_mut()[losses.rows];
        let logits = logits.host_mut();
        match scale {
            None => kernels::cross_entropy_forward(&self.pool, logits, targets, weights, losses),
            Some(scale) => {
                kernels::cross_entropy_forward_backward(&self.pool, logits, targets, weights, losses, scale);
            }
        }
    }

    fn sum_losses(&self, losses: &Tensor, weights: Option<&Tensor>, n_rows: usize) -> f64 {
        kernels::sum_losses(&losses.host()[..n_rows], weights.map(|weights| &weights.host()[..n_rows]))
    }

    fn adamw(
        &self,
        step: &AdamW,
        touched: &RowSet,
        weight: &mut Tensor,
        grad: &mut Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
    ) {
        let (weight, grad, m, v) = (weight.host_mut(), grad.host_mut(), m.host_mut(), v.host_mut());
        match touched {
            RowSet::All => kernels::adamw(&self.pool, step, weight, grad, m, v),
            RowSet::Some(rows) => kernels::adamw_rows(&self.pool, step, rows, weight, grad, m, v),
        }
    }

    fn sum_of_squares(&self, x: &Tensor) -> f64 {
        kernels::sum_of_squares(&self.pool, x.host())
    }

    fn all_finite(&self, x: &Tensor) -> bool {
        match x.storage() {
            Storage::Packed(matrix) => matrix.is_finite(),
            _ => x.is_finite(),
        }
    }

    fn find_touched(&self, x: &Tensor, touched: &mut RowSet) {
        if let RowSet::Some(rows) = touched {
            kernels::nonzero_rows(x.host(), x.row_len(), rows);
        }
    }
}

fn pages<'a>(rows: &KvRows<'a>) -> KvPages<'a> {
    KvPages { page_len: rows.page_len, table: rows.table.host_ids(), starts: rows.starts.host_ids() }
}

/// The matrix of a view, in the order of its elements in memory.
///
/// # Panics
/// If it is not stored as f32 in this machine's memory.
fn matrix<'a>(view: &View<'a>) -> MatRef<'a> {
    let stride = view.tensor.row_len();
    let data = part(view.tensor.host(), stride, view.rows.start, view.columns.start);
    let matrix = MatRef::new(data, view.rows.len(), view.columns.len(), stride);
    if view.transposed { matrix.t() } else { matrix }
}

fn matrix_mut(view: ViewMut<'_>) -> MatMut<'_> {
    let ViewMut { tensor, rows, columns } = view;
    let stride = tensor.row_len();
    let data = tensor.host_mut();
    let first = (rows.start * stride + columns.start).min(data.len());
    MatMut::new(&mut data[first..], rows.len(), columns.len(), stride)
}

/// The elements from a row and a column on; none where the matrix ends before.
fn part(data: &[f32], stride: usize, row: usize, column: usize) -> &[f32] {
    &data[(row * stride + column).min(data.len())..]
}
