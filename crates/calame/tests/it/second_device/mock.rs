//! A device for tests: memory of its own, the reference kernels, and a count of what crosses to and from it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

use calame::device::{Affine, Backend, Device, Epilogue, Init, KvRows, RowSet};
use calame::ops::{AdamWStep, AttentionShape, DropMask, Isa, Precision};
use calame::rng::Key;
use calame::tensor::{DeviceBuffer, Dims, ElementFormat, NumberFormat, Storage, Tensor, View, ViewMut};
use calame_kernels::{KvPages, Pool, fill_normal, fill_uniform, reference};

/// Calls, and the elements that they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub n_calls: usize,
    pub n_elements: usize,
}

/// What has crossed between the device and this machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// f32 to the device.
    pub writes: Traffic,
    /// Ids to the device.
    pub id_writes: Traffic,
    /// f32 from the device.
    pub reads: Traffic,
    /// Single results that the caller waits for: sums of losses and of squares.
    pub results: Traffic,
}

/// What a mock device has counted; its tests hold a share.
#[derive(Debug, Default)]
pub struct Counts {
    transfers: Mutex<Transfers>,
    allocated: Mutex<u64>,
}

impl Counts {
    /// The transfers since the last call.
    pub fn take_transfers(&self) -> Transfers {
        std::mem::take(&mut self.transfers.lock().unwrap())
    }

    /// The bytes that were allocated since the last call.
    pub fn take_allocated(&self) -> u64 {
        std::mem::take(&mut self.allocated.lock().unwrap())
    }

    fn add(&self, kind: fn(&mut Transfers) -> &mut Traffic, n_elements: usize) {
        let mut transfers = self.transfers.lock().unwrap();
        let traffic = kind(&mut transfers);
        traffic.n_calls += 1;
        traffic.n_elements += n_elements;
    }
}

/// The device, and what it counts.
pub fn mock() -> (Device, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Device::gpu(Box::new(Mock { counts: Arc::clone(&counts), pool: Pool::new(1, Isa::Portable) })), counts)
}

struct Mock {
    counts: Arc<Counts>,
    /// Draws the random numbers that the processor draws.
    pool: Pool,
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mock device")
    }
}

#[derive(Clone)]
enum Buffer {
    Numbers(Vec<f32>),
    Ids(Vec<u32>),
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if matches!(self, Buffer::Numbers(_)) { "f32" } else { "u32" };
        write!(f, "{} × {format} on the mock device", self.n_elements())
    }
}

impl DeviceBuffer for Buffer {
    fn n_elements(&self) -> usize {
        match self {
            Buffer::Numbers(x) => x.len(),
            Buffer::Ids(x) => x.len(),
        }
    }

    fn duplicate(&self) -> Box<dyn DeviceBuffer> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn foreign(x: &Tensor) -> ! {
    panic!("mock device: {x:?} is stored as {:?}", x.storage())
}

fn buffer(x: &Tensor) -> &Buffer {
    let Storage::Gpu(buffer) = x.storage() else { foreign(x) };
    buffer.as_any().downcast_ref().unwrap_or_else(|| foreign(x))
}

/// The numbers of a tensor; none of an absent one, which has no buffer.
fn numbers(x: &Tensor) -> &[f32] {
    if x.is_empty() {
        return &[];
    }
    let Buffer::Numbers(all) = buffer(x) else { foreign(x) };
    &all[..x.len()]
}

fn ids(x: &Tensor) -> &[u32] {
    let Buffer::Ids(all) = buffer(x) else { foreign(x) };
    &all[..x.len()]
}

fn numbers_mut(x: &mut Tensor) -> &mut [f32] {
    let n = x.len();
    if n == 0 {
        return &mut [];
    }
    assert!(matches!(buffer(x), Buffer::Numbers(_)), "mock device: {x:?} holds ids");
    match x.storage_mut() {
        Storage::Gpu(buffer) => match buffer.as_any_mut().downcast_mut() {
            Some(Buffer::Numbers(all)) => &mut all[..n],
            _ => unreachable!("checked above"),
        },
        _ => unreachable!("checked above"),
    }
}

fn ids_mut(x: &mut Tensor) -> &mut [u32] {
    let n = x.len();
    assert!(matches!(buffer(x), Buffer::Ids(_)), "mock device: {x:?} holds numbers");
    match x.storage_mut() {
        Storage::Gpu(buffer) => match buffer.as_any_mut().downcast_mut() {
            Some(Buffer::Ids(all)) => &mut all[..n],
            _ => unreachable!("checked above"),
        },
        _ => unreachable!("checked above"),
    }
}

/// The elements of a matrix, row by row.
fn matrix(view: &View<'_>) -> Vec<f32> {
    let (x, stride) = (numbers(view.tensor), view.tensor.row_len());
    let at = |row: usize, column: usize| x[row * stride + column];
    let (rows, columns) = (view.rows.clone(), view.columns.clone());
    if view.transposed {
        columns.flat_map(|c| rows.clone().map(move |r| at(r, c))).collect()
    } else {
        rows.flat_map(|r| columns.clone().map(move |c| at(r, c))).collect()
    }
}

/// The dropout factor of an element of a matrix whose rows belong to sequences, as the reference kernels ask for it.
fn factor(mask: Option<&DropMask<'_>>, rows_per_sequence: usize, row: usize, column: usize) -> f32 {
    mask.map_or(1.0, |mask| mask.factor(row / rows_per_sequence, row % rows_per_sequence, column))
}

fn sizes(shape: AttentionShape) -> (usize, usize, usize, usize) {
    (shape.n_sequences, shape.n_positions, shape.n_head, shape.head_size)
}

/// The dropout factor of an attention weight.
fn weight_factor<'a>(mask: Option<&'a DropMask<'a>>) -> impl Fn(usize, usize, usize) -> f32 + 'a {
    move |sequence, row, key| mask.map_or(1.0, |mask| mask.factor(sequence, row, key))
}

fn pages<'a>(rows: &KvRows<'a>) -> KvPages<'a> {
    KvPages { page_len: rows.page_len, table: ids(rows.table), starts: ids(rows.starts) }
}

impl Backend for Mock {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn zeros(&self, dims: Dims, format: ElementFormat, _: bool) -> Tensor {
        let n_elements = dims.n_elements();
        *self.counts.allocated.lock().unwrap() += format.n_bytes(n_elements as u64);
        let buffer = match format {
            ElementFormat::Number(NumberFormat::F32) => Buffer::Numbers(vec![0.0; n_elements]),
            ElementFormat::Ids => Buffer::Ids(vec![0; n_elements]),
            ElementFormat::Number(other) => panic!("mock device: it holds no {other}"),
        };
        Tensor::new(Storage::Gpu(Box::new(buffer)), dims)
    }

    fn write(&self, from: &[f32], to: &mut Tensor) {
        self.counts.add(|transfers| &mut transfers.writes, from.len());
        numbers_mut(to).copy_from_slice(from);
    }

    fn write_raw(&self, from: &[u8], to: &mut Tensor) {
        // f32 is the only format that it holds.
        let numbers: Vec<f32> = from.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        self.write(&numbers, to);
    }

    fn write_ids(&self, from: &[u32], to: &mut Tensor) {
        self.counts.add(|transfers| &mut transfers.id_writes, from.len());
        ids_mut(to).copy_from_slice(from);
    }

    fn read(&self, from: &Tensor, to: &mut [f32]) {
        self.counts.add(|transfers| &mut transfers.reads, to.len());
        to.copy_from_slice(numbers(from));
    }

    fn copy(&self, x: &Tensor, y: &mut Tensor) {
        match buffer(x) {
            Buffer::Numbers(_) => numbers_mut(y).copy_from_slice(numbers(x)),
            Buffer::Ids(_) => ids_mut(y).copy_from_slice(ids(x)),
        }
    }

    fn dequantize(&self, x: &Tensor, y: &mut Tensor) {
        // f32 is the only format that it holds.
        numbers_mut(y).copy_from_slice(numbers(x));
    }

    fn fill(&self, value: f32, x: &mut Tensor) {
        numbers_mut(x).fill(value);
    }

    fn zero(&self, x: &mut Tensor) {
        numbers_mut(x).fill(0.0);
    }

    fn scale(&self, alpha: f32, x: &mut Tensor) {
        numbers_mut(x).iter_mut().for_each(|x| *x *= alpha);
    }

    fn add_scaled(&self, alpha: f32, x: &Tensor, y: &mut Tensor) {
        reference::add_scaled(alpha, numbers(x), numbers_mut(y));
    }

    fn fill_uniform(&self, key: Key, low: f32, high: f32, x: &mut Tensor) {
        fill_uniform(&self.pool, key, low, high, numbers_mut(x));
    }

    fn fill_normal(&self, key: Key, mean: f32, std: f32, x: &mut Tensor) {
        fill_normal(&self.pool, key, mean, std, numbers_mut(x));
    }

    fn fill_positions(&self, n: usize, x: &mut Tensor) {
        ids_mut(x).iter_mut().enumerate().for_each(|(i, id)| *id = (i % n) as u32);
    }

    fn layer_norm_forward(&self, x: &Tensor, layer: Affine<'_>, y: &mut Tensor, mean: &mut Tensor, rstd: &mut Tensor) {
        let (weight, bias) = (numbers(layer.weight), numbers(layer.bias));
        reference::layer_norm_forward(numbers(x), weight, bias, layer.eps, numbers_mut(y));
        let rows = numbers(x).chunks_exact(weight.len());
        for ((x, mean), rstd) in rows.zip(numbers_mut(mean)).zip(numbers_mut(rstd)) {
            let n = x.len() as f32;
            *mean = x.iter().sum::<f32>() / n;
            let variance = x.iter().map(|x| (x - *mean) * (x - *mean)).sum::<f32>() / n;
            *rstd = 1.0 / (variance + layer.eps).sqrt();
        }
    }

    fn layer_norm_again(&self, x: &Tensor, layer: Affine<'_>, mean: &Tensor, rstd: &Tensor, y: &mut Tensor) {
        let (weight, bias, c) = (numbers(layer.weight), numbers(layer.bias), layer.weight.len());
        let (x, mean, rstd) = (numbers(x), numbers(mean), numbers(rstd));
        for (i, y) in numbers_mut(y).iter_mut().enumerate() {
            *y = (x[i] - mean[i / c]) * rstd[i / c] * weight[i % c] + bias.get(i % c).unwrap_or(&0.0);
        }
    }

    fn layer_norm_backward_add(
        &self,
        dy: &Tensor,
        x: &Tensor,
        layer: Affine<'_>,
        _: &Tensor,
        _: &Tensor,
        dx: &mut Tensor,
        dweight: &mut Tensor,
        dbias: &mut Tensor,
    ) {
        let weight = layer.weight;
        let (mut frozen_weight, mut frozen_bias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let (dweight, dbias) = if dweight.is_empty() {
            (&mut frozen_weight[..], &mut frozen_bias[..])
        } else {
            (numbers_mut(dweight), numbers_mut(dbias))
        };
        let (dy, x, weight) = (numbers(dy), numbers(x), numbers(weight));
        reference::layer_norm_backward_add(dy, x, weight, layer.eps, numbers_mut(dx), dweight, dbias);
    }

    fn product(&self, a: View<'_>, b: View<'_>, c: ViewMut<'_>, init: Init<'_>, epilogue: Epilogue<'_>) {
        let ([_, k], [_, n]) = (a.dims(), c.dims());
        let bias = match init {
            Init::Bias(bias) | Init::AddBias(bias) => numbers(bias),
            Init::Zero | Init::Add => &[],
        };
        let mut result = vec![0.0; c.rows.len() * n];
        reference::linear_forward(&matrix(&a), &matrix(&b.t()), bias, k, &mut result);
        if matches!(init, Init::Add | Init::AddBias(_)) {
            let before = View { tensor: c.tensor, rows: c.rows.clone(), columns: c.columns.clone(), transposed: false };
            reference::add_scaled(1.0, &matrix(&before), &mut result);
        }
        match epilogue {
            Epilogue::None => {}
            Epilogue::Activation { activation, y } => {
                reference::activation_forward(activation, &result, numbers_mut(y));
            }
            Epilogue::ActivationBackward { activation, x, y } => {
                let dy = result.clone();
                reference::activation_backward(activation, &dy, numbers(x), &mut result);
                reference::activation_forward(activation, numbers(x), numbers_mut(y));
            }
            Epilogue::Residual { x, mask, rows_per_sequence } => {
                let branch = result.clone();
                let keep = |row, column| factor(mask, rows_per_sequence, row, column);
                reference::add_dropped(numbers(x), &branch, &keep, n, &mut result);
            }
        }
        let ViewMut { tensor, rows, columns } = c;
        let stride = tensor.row_len();
        let to = numbers_mut(tensor);
        for (row, result) in rows.zip(result.chunks_exact(n)) {
            to[row * stride + columns.start..row * stride + columns.end].copy_from_slice(result);
        }
    }

    fn sum_rows_add(&self, dy: &Tensor, dbias: &mut Tensor) {
        let dbias = numbers_mut(dbias);
        for dy in numbers(dy).chunks_exact(dbias.len()) {
            reference::add_scaled(1.0, dy, dbias);
        }
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        scale: f32,
        qkv: &Tensor,
        starts: Option<&Tensor>,
        mask: Option<&DropMask<'_>>,
        y: &mut Tensor,
        _: &mut Tensor,
    ) {
        // The reference's backward computes the weights again from the scores: no log-sum-exp is saved.
        let (starts, keep) = (starts.map(ids), weight_factor(mask));
        reference::attention_forward(sizes(shape), scale, numbers(qkv), starts, &keep, numbers_mut(y));
    }

    fn attention_backward(
        &self,
        shape: AttentionShape,
        scale: f32,
        dy: &Tensor,
        qkv: &Tensor,
        starts: Option<&Tensor>,
        mask: Option<&DropMask<'_>>,
        _: &Tensor,
        _: &Tensor,
        dqkv: &mut Tensor,
    ) {
        let (starts, keep) = (starts.map(ids), weight_factor(mask));
        let (shape, dy, qkv) = (sizes(shape), numbers(dy), numbers(qkv));
        reference::attention_backward(shape, scale, dy, qkv, starts, &keep, numbers_mut(dqkv));
    }

    fn store_kv(&self, qkv: &Tensor, n_head: usize, rows: KvRows<'_>, keys: &mut Tensor, values: &mut Tensor) {
        let heads = (n_head, qkv.row_len() / 3 / n_head);
        let (sequences, positions) = (ids(rows.sequences), ids(rows.positions));
        let (keys, values) = (numbers_mut(keys), numbers_mut(values));
        reference::store_kv(numbers(qkv), heads, sequences, positions, pages(&rows), keys, values);
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
        let (heads, sequences, positions) = ((n_head, y.row_len() / n_head), ids(rows.sequences), ids(rows.positions));
        let (qkv, keys, values) = (numbers(qkv), numbers(keys), numbers(values));
        let y = numbers_mut(y);
        reference::attention_extend(qkv, heads, scale, sequences, positions, pages(&rows), keys, values, y);
    }

    fn embedding_forward(&self, tokens: &Tensor, positions: &Tensor, wte: &Tensor, wpe: &Tensor, y: &mut Tensor) {
        let c = wte.row_len();
        reference::embedding_forward(ids(tokens), ids(positions), numbers(wte), numbers(wpe), c, numbers_mut(y));
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
        let c = dy.row_len();
        for (table, which) in [(dwte, tokens), (dwpe, positions)] {
            if !table.is_empty() {
                reference::scatter_rows_add(numbers(dy), c, ids(which), numbers_mut(table));
            }
        }
        // Which rows these are is known on the device only; its AdamW reads all of them.
        *touched = RowSet::All;
    }

    fn drop_elements(&self, x: &Tensor, mask: &DropMask<'_>, rows_per_sequence: usize, y: &mut Tensor) {
        let (x, c) = (numbers(x), x.row_len());
        for (i, y) in numbers_mut(y).iter_mut().enumerate() {
            *y = x[i] * factor(Some(mask), rows_per_sequence, i / c, i % c);
        }
    }

    fn drop_in_place(&self, mask: &DropMask<'_>, rows_per_sequence: usize, x: &mut Tensor) {
        let c = x.row_len();
        for (i, x) in numbers_mut(x).iter_mut().enumerate() {
            *x *= factor(Some(mask), rows_per_sequence, i / c, i % c);
        }
    }

    fn gather_rows(&self, x: &Tensor, which: &Tensor, y: &mut Tensor) {
        reference::gather_rows(numbers(x), x.row_len(), ids(which), numbers_mut(y));
    }

    fn copy_rows(&self, x: &mut Tensor, from: usize, to: usize, n_rows: usize) {
        let c = x.row_len();
        numbers_mut(x).copy_within(from * c..(from + n_rows) * c, to * c);
    }

    fn cross_entropy(
        &self,
        logits: &mut Tensor,
        targets: View<'_>,
        weights: Option<View<'_>>,
        losses: ViewMut<'_>,
        scale: Option<f32>,
    ) {
        let targets = &ids(targets.tensor)[targets.rows];
        let weights = weights.map(|weights| &numbers(weights.tensor)[weights.rows]);
        let losses = &mut numbers_mut(losses.tensor)[losses.rows];
        let logits = numbers_mut(logits);
        reference::cross_entropy_forward(logits, targets, weights, losses);
        if let Some(scale) = scale {
            let forward = logits.to_vec();
            reference::cross_entropy_backward(&forward, targets, weights, scale, logits);
        }
    }

    fn sum_losses(&self, losses: &Tensor, weights: Option<&Tensor>, n_rows: usize) -> f64 {
        self.counts.add(|transfers| &mut transfers.results, 1);
        let doubles = |x: &Tensor| -> Vec<f64> { numbers(x)[..n_rows].iter().map(|&x| f64::from(x)).collect() };
        reference::sum_losses(&doubles(losses), weights.map(doubles).as_deref())
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        _: &RowSet,
        weight: &mut Tensor,
        grad: &mut Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
    ) {
        // A row without a gradient has moments of zero: its update is its decay, whichever rows were touched.
        reference::adamw(step, numbers_mut(weight), numbers(grad), numbers_mut(m), numbers_mut(v));
        numbers_mut(grad).fill(0.0);
    }

    fn sum_of_squares(&self, x: &Tensor) -> f64 {
        self.counts.add(|transfers| &mut transfers.results, 1);
        reference::sum_of_squares(&numbers(x).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>())
    }

    fn all_finite(&self, x: &Tensor) -> bool {
        self.counts.add(|transfers| &mut transfers.results, 1);
        numbers(x).iter().all(|x| x.is_finite())
    }

    fn find_touched(&self, _: &Tensor, touched: &mut RowSet) {
        *touched = RowSet::All;
    }
}
