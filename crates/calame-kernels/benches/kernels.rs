//! The time of every fast kernel at the sizes of the 163M model: batch 4, 256 tokens, width 768, 12 heads.
//!
//! Each line runs under every instruction set of this machine on all its cores, as `group/line/instruction set`; `cargo
//! bench -p calame-kernels -- gemm` runs the lines whose names contain "gemm". In the groups gemm and attention an
//! element is one floating-point operation, so that "Gelem/s" means GFLOP/s. Bytes are the minimum that must be
//! transferred between memory and processor. In other groups, elements are those of the result.

use std::time::Duration;

use calame_kernels::*;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

const B: usize = 4;
const T: usize = 256;
const C: usize = 768;
const NH: usize = 12;
const HS: usize = 64;
/// 1/√HS, by which scores are multiplied.
const SCALE: f32 = 0.125;
/// ε of layer normalisation.
const EPS: f32 = 1e-5;
const V: usize = 50_257;
const ROWS: usize = B * T;
/// Number of rows of logits that are in memory at a time.
const LOGIT_ROWS: usize = 512;
/// Number of cached positions of a sequence during decoding.
const CONTEXT: usize = 1024;
const F32_BYTES: u64 = 4;

/// The pools on which every line runs, one per instruction set.
struct Pools(Vec<Pool>);

impl Pools {
    fn new() -> Pools {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        Pools(Isa::available().into_iter().map(|isa| Pool::new(n_threads, isa)).collect())
    }

    /// Runs a line under every instruction set; its arrays are allocated only if the filter selects it.
    fn line<S>(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        throughput: Throughput,
        arrays: impl Fn() -> S,
        run: impl Fn(&Pool, &mut S),
    ) {
        group.throughput(throughput);
        for pool in &self.0 {
            let mut made = None;
            group.bench_function(BenchmarkId::new(name, pool.isa()), |bencher| {
                let arrays = made.get_or_insert_with(&arrays);
                bencher.iter(|| run(pool, arrays));
            });
        }
    }
}

/// n numbers in [low, high) from a seed.
fn between(seed: u64, n: usize, low: f32, high: f32) -> Vec<f32> {
    let mut x = vec![0.0; n];
    fill_uniform(&Pool::new(1, Isa::Portable), Key::from_seed(seed), low, high, &mut x);
    x
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    between(seed, n, -1.0, 1.0)
}

fn flops(n: usize) -> Throughput {
    Throughput::Elements(n as u64)
}

fn elements(n: usize) -> Throughput {
    Throughput::Elements(n as u64)
}

/// The throughput of reading or writing `n` numbers.
fn bytes_of(n: usize) -> Throughput {
    Throughput::Bytes(F32_BYTES * n as u64)
}

/// A dropout mask like those of the model.
fn keep() -> DropMask<'static> {
    DropMask::new(Key::from_seed(1), 0, 0, 0.1)
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// y = x·Wᵀ + b of a linear layer [ins → outs].
fn linear(
    pools: &Pools,
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    precision: Precision,
    [rows, ins, outs]: [usize; 3],
) {
    let arrays = || (numbers(1, rows * ins), numbers(2, outs * ins), numbers(3, outs), vec![0.0; rows * outs]);
    // With one row there are two operations per weight, so that the time is that of reading the weights.
    let throughput = if rows == 1 { bytes_of(outs * ins) } else { flops(2 * rows * ins * outs) };
    pools.line(group, name, throughput, arrays, |pool, (x, w, bias, y)| {
        let (x, w) = (MatRef::dense(x, rows, ins), MatRef::dense(w, outs, ins));
        gemm(pool, precision, x, w.t(), MatMut::dense(y, rows, outs), Init::Bias(bias));
    });
}

fn bench_gemm(criterion: &mut Criterion) {
    let pools = &Pools::new();
    for precision in Precision::ALL {
        let group = &mut group(criterion, &format!("gemm {precision}"));
        let (ins, outs) = (C, 4 * C);
        linear(pools, group, "y of c_fc, 1024x768 to 3072", precision, [ROWS, ins, outs]);
        let arrays =
            || (numbers(1, ROWS * ins), numbers(2, outs * ins), vec![0.0; ROWS * outs], vec![0.0; ROWS * outs]);
        let work = flops(2 * ROWS * ins * outs);
        for activation in Activation::ALL {
            let line = format!("y of c_fc, then {activation}");
            pools.line(group, &line, work.clone(), arrays, |pool, (x, w, c, y)| {
                let (x, w) = (MatRef::dense(x, ROWS, ins), MatRef::dense(w, outs, ins).t());
                let epilogue = Epilogue::Activation { activation, y };
                gemm_then(pool, precision, x, w, MatMut::dense(c, ROWS, outs), Init::Zero, epilogue);
            });
        }
        let arrays = || (numbers(1, ROWS * outs), numbers(2, outs * ins), vec![0.0; ROWS * ins]);
        pools.line(group, "dx of c_fc, 1024x3072 to 768", work.clone(), arrays, |pool, (dy, w, dx)| {
            let (dy, w) = (MatRef::dense(dy, ROWS, outs), MatRef::dense(w, outs, ins));
            gemm(pool, precision, dy, w, MatMut::dense(dx, ROWS, ins), Init::Zero);
        });
        let arrays = || (numbers(1, ROWS * outs), numbers(2, ROWS * ins), vec![0.0; outs * ins]);
        pools.line(group, "dw of c_fc, 3072x1024 to 768", work, arrays, |pool, (dy, x, dw)| {
            let (dy, x) = (MatRef::dense(dy, ROWS, outs), MatRef::dense(x, ROWS, ins));
            gemm(pool, precision, dy.t(), x, MatMut::dense(dw, outs, ins), Init::Add);
        });
        let arrays =
            || (numbers(1, ROWS * outs), numbers(2, outs * ins), numbers(3, ROWS * ins), vec![0.0; ROWS * ins]);
        let (work, keep) = (flops(2 * ROWS * ins * outs), keep());
        pools.line(group, "y of mlp.c_proj, then dropped and added", work, arrays, |pool, (x, w, stream, y)| {
            let (x, w) = (MatRef::dense(x, ROWS, outs), MatRef::dense(w, ins, outs).t());
            let epilogue = Epilogue::AddDropped { x: stream, keep: Some(&keep), rows_per_sequence: T };
            gemm_then(pool, precision, x, w, MatMut::dense(y, ROWS, ins), Init::Zero, epilogue);
        });
        linear(pools, group, "y of c_attn, 1024x768 to 2304", precision, [ROWS, C, 3 * C]);
        linear(pools, group, "y of attn.c_proj, 1024x768 to 768", precision, [ROWS, C, C]);
        linear(pools, group, "y of mlp.c_proj, 1024x3072 to 768", precision, [ROWS, 4 * C, C]);
        linear(pools, group, "logits of 512 rows, 512x768 to 50257", precision, [LOGIT_ROWS, C, V]);
        linear(pools, group, "one row through c_fc, 1x768 to 3072", precision, [1, C, 4 * C]);
        linear(pools, group, "logits of one row, 1x768 to 50257", precision, [1, C, V]);
    }
}

/// Number of pairs of a query and a key that it sees, over all heads and sequences.
const PAIRS: usize = B * NH * T * (T + 1) / 2;

fn bench_attention(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let shape = AttentionShape { n_sequences: B, n_positions: T, n_head: NH, head_size: HS };
    for precision in Precision::ALL {
        let group = &mut group(criterion, &format!("attention {precision}"));
        let arrays = || (numbers(1, ROWS * 3 * C), vec![0.0; ROWS * C], vec![0.0; ROWS * NH]);
        for (name, keep) in [("forward", None), ("forward with dropout", Some(keep()))] {
            // A pair is part of two products, each of HS multiplications and additions.
            pools.line(group, name, flops(4 * HS * PAIRS), arrays, |pool, (qkv, y, lse)| {
                attention_forward(pool, precision, shape, SCALE, qkv, None, keep.as_ref(), y, lse);
            });
        }
        for (name, keep) in [("backward", None), ("backward with dropout", Some(keep()))] {
            let arrays = || {
                let (qkv, mut y, mut lse) = arrays();
                let pool = Pool::new(1, Isa::detect());
                attention_forward(&pool, precision, shape, SCALE, &qkv, None, keep.as_ref(), &mut y, &mut lse);
                (numbers(2, ROWS * C), qkv, y, lse, vec![0.0; ROWS * 3 * C])
            };
            // In backward there are five products.
            pools.line(group, name, flops(10 * HS * PAIRS), arrays, |pool, (dy, qkv, y, lse, dqkv)| {
                attention_backward(pool, precision, shape, SCALE, dy, qkv, None, keep.as_ref(), y, lse, dqkv);
            });
        }
    }
}

/// A page store for `n` sequences of CONTEXT positions: keys, values, table.
fn pages(n: usize) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let n_pages = n * CONTEXT / PAGE_LEN;
    (numbers(4, n * CONTEXT * C), numbers(5, n * CONTEXT * C), (0..n_pages as u32).collect())
}

const PAGE_LEN: usize = 16;

/// Where the page table of each of 8 sequences begins.
const STARTS: [u32; 8] = {
    let mut starts = [0; 8];
    let mut s = 0;
    while s < 8 {
        starts[s] = (s * CONTEXT / PAGE_LEN) as u32;
        s += 1;
    }
    starts
};

fn view(table: &[u32]) -> KvPages<'_> {
    KvPages { page_len: PAGE_LEN, table, starts: &STARTS }
}

fn bench_decoding(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "attention_extend");
    for (name, n) in [("one sequence, 1024 positions", 1), ("8 sequences, 1024 positions", 8)] {
        let sequences: Vec<u32> = (0..n as u32).collect();
        let positions = vec![CONTEXT as u32 - 1; n];
        let arrays = || (numbers(1, n * 3 * C), pages(n), vec![0.0; n * C]);
        let work = bytes_of(2 * n * CONTEXT * C);
        pools.line(group, name, work, arrays, |pool, (qkv, (keys, values, table), y)| {
            attention_extend(pool, qkv, NH, HS, SCALE, &sequences, &positions, view(table), keys, values, y);
        });
    }
    // A chunk of a prompt; the work is the causal half of a forward pass.
    let (sequences, positions): (Vec<u32>, Vec<u32>) = (vec![0; T], (0..T as u32).collect());
    let arrays = || (numbers(1, T * 3 * C), pages(1), vec![0.0; T * C]);
    let work = flops(4 * HS * PAIRS / B);
    pools.line(group, "a prompt of 256 (operations)", work, arrays, |pool, (qkv, (keys, values, table), y)| {
        attention_extend(pool, qkv, NH, HS, SCALE, &sequences, &positions, view(table), keys, values, y);
    });
    for (name, rows) in [("store_kv of 256 rows", T), ("store_kv of one row", 1)] {
        let arrays = || (numbers(1, rows * 3 * C), pages(1));
        let work = bytes_of(4 * rows * C);
        pools.line(group, name, work, arrays, |pool, (qkv, (keys, values, table))| {
            store_kv(pool, qkv, (NH, HS), &sequences[..rows], &positions[..rows], view(table), keys, values);
        });
    }
}

fn bench_layer_norm(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "layer_norm");
    let n = ROWS * C;
    let arrays = || {
        let (x, weight, bias) = (numbers(1, n), numbers(2, C), numbers(3, C));
        let (mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; ROWS], vec![0.0; ROWS]);
        let pool = Pool::new(1, Isa::Portable);
        layer_norm_forward(&pool, &x, &weight, &bias, EPS, &mut y, &mut mean, &mut rstd);
        (x, weight, bias, y, mean, rstd)
    };
    pools.line(group, "forward, 1024x768", elements(n), arrays, |pool, (x, weight, bias, y, mean, rstd)| {
        layer_norm_forward(pool, x, weight, bias, EPS, y, mean, rstd);
    });
    pools.line(group, "again, 1024x768", elements(n), arrays, |pool, (x, weight, bias, y, mean, rstd)| {
        layer_norm_again(pool, x, weight, bias, mean, rstd, y);
    });
    let arrays = || (arrays(), numbers(4, n), vec![0.0; n], vec![0.0; C], vec![0.0; C]);
    pools.line(group, "backward, 1024x768", elements(n), arrays, |pool, (forward, dy, dx, dweight, dbias)| {
        let (x, weight, _, _, mean, rstd) = forward;
        layer_norm_backward_add(pool, dy, x, weight, mean, rstd, dx, Some((dweight, dbias)));
    });
}

fn bench_elementwise(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "elementwise");
    let n = ROWS * 4 * C;
    let arrays = || (numbers(1, n), vec![0.0; 4 * C]);
    pools.line(group, "sum_rows_add, 1024x3072", elements(n), arrays, |pool, (dy, dbias)| {
        sum_rows_add(pool, dy, dbias);
    });
    let n = 16_000_000;
    let hyper = hyper();
    let arrays = || (numbers(1, n), numbers(2, n), vec![0.0; n], vec![0.0; n]);
    // Weight, gradient and both moments are read and written.
    pools.line(group, "adamw of 16M", bytes_of(8 * n), arrays, |pool, (w, grad, m, v)| {
        adamw(pool, &hyper, w, grad, m, v);
    });
}

fn bench_sum_of_squares(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "elementwise");
    let n = 16_000_000;
    pools.line(
        group,
        "sum_of_squares of 16M",
        bytes_of(n),
        || numbers(1, n),
        |pool, x| {
            std::hint::black_box(sum_of_squares(pool, x));
        },
    );
}

fn bench_memory(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "memory");
    let n = 16_000_000;
    pools.line(group, "fill of 16M", bytes_of(n), || numbers(1, n), |pool, x| fill(pool, 1.0, x));
    let arrays = || (numbers(1, n), numbers(2, n));
    pools.line(group, "copy of 16M", bytes_of(2 * n), arrays, |pool, (x, y)| copy(pool, x, y));
    pools.line(group, "add_scaled of 16M", bytes_of(3 * n), arrays, |pool, (x, y)| add_scaled(pool, 1e-3, x, y));
    let which: Vec<u32> = (0..ROWS).map(|r| (r * 7919 % V) as u32).collect();
    let arrays = || (numbers(1, V * C), vec![0.0; ROWS * C]);
    pools.line(group, "gather_rows, 1024x768", bytes_of(2 * ROWS * C), arrays, |pool, (x, y)| {
        gather_rows(pool, x, C, &which, y);
    });
    // These take no pool and run on one thread.
    let (mut x, mut y) = (numbers(1, ROWS * C), vec![0.0; V * C]);
    group.bench_function("scatter_rows_add, 1024x768", |bencher| {
        bencher.iter(|| scatter_rows_add(&x, C, &which, &mut y));
    });
    let mut rows = vec![false; V];
    group.throughput(bytes_of(V * C));
    group.bench_function("nonzero_rows, 50257x768", |bencher| {
        bencher.iter(|| {
            rows.fill(false);
            nonzero_rows(&y, C, &mut rows);
        });
    });
    group.bench_function("all_finite, 50257x768", |bencher| bencher.iter(|| all_finite(&y)));
    group.throughput(bytes_of(ROWS * C));
    group.bench_function("zero_nonzero, 1024x768", |bencher| bencher.iter(|| zero_nonzero(&mut x)));
}

/// The scalars of an early step.
fn hyper() -> AdamW {
    AdamW {
        lr: 4e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.1,
        bias_correction2: 0.001,
        grad_scale: 1.0,
    }
}

fn bench_adamw_rows(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "elementwise");
    let hyper = hyper();
    // A short text has about 1,500 different tokens.
    let touched: Vec<bool> = (0..V).map(|row| row % 33 == 0).collect();
    let n_touched = touched.iter().filter(|&&touched| touched).count();
    let arrays = || (numbers(1, V * C), vec![0.0; V * C], vec![0.0; V * C], vec![0.0; V * C]);
    let work = bytes_of(2 * V * C + 6 * n_touched * C);
    pools.line(group, "adamw of wte, 3 % of its rows touched", work, arrays, |pool, (w, grad, m, v)| {
        adamw_rows(pool, &hyper, &touched, w, grad, m, v);
    });
}

fn bench_dropout(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "dropout");
    let n = ROWS * C;
    let arrays = || (numbers(1, n), vec![0.0; n]);
    pools.line(group, "drop_elements, 1024x768", elements(n), arrays, |pool, (x, y)| {
        drop_elements(pool, x, &keep(), T, C, y);
    });
    // The array is zero because kept elements grow with every pass.
    let arrays = || vec![0.0; n];
    pools.line(group, "drop_in_place, 1024x768", elements(n), arrays, |pool, x| {
        drop_in_place(pool, &keep(), T, C, x);
    });
}

fn bench_cross_entropy(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "cross_entropy");
    let n = LOGIT_ROWS * V;
    let targets: Vec<u32> = (0..LOGIT_ROWS).map(|r| (r * 7919 % V) as u32).collect();
    let arrays = || (numbers(1, n), vec![0.0; LOGIT_ROWS]);
    pools.line(group, "forward, 512x50257", elements(n), arrays, |pool, (logits, losses)| {
        cross_entropy_forward(pool, logits, &targets, None, losses);
    });
    pools.line(group, "forward and backward, 512x50257", elements(n), arrays, |pool, (logits, losses)| {
        cross_entropy_forward_backward(pool, logits, &targets, None, losses, 1.0 / ROWS as f32);
    });
}

fn bench_embedding(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "embedding");
    let n = ROWS * C;
    let tokens: Vec<u32> = (0..ROWS).map(|r| (r * 7919 % V) as u32).collect();
    let positions: Vec<u32> = (0..ROWS).map(|r| (r % T) as u32).collect();
    let tables = || (numbers(1, V * C), numbers(2, T * C), numbers(3, n));
    pools.line(group, "forward, 1024x768", elements(n), tables, |pool, (wte, wpe, y)| {
        embedding_forward(pool, &tokens, &positions, wte, wpe, C, y);
    });
    // It takes no pool and runs on one thread.
    let mut made = None;
    group.bench_function("backward, 1024x768", |bencher| {
        let (dwte, dwpe, dy) = made.get_or_insert_with(tables);
        bencher.iter(|| embedding_backward(&tokens, &positions, dy, C, dwte, dwpe));
    });
}

fn bench_random(criterion: &mut Criterion) {
    let pools = &Pools::new();
    let group = &mut group(criterion, "random");
    let n = 4 * C * C;
    let key = Key::from_seed(1);
    let arrays = || vec![0.0; n];
    pools.line(group, "fill_uniform of 2.4M", elements(n), arrays, |pool, x| fill_uniform(pool, key, -1.0, 1.0, x));
    pools.line(group, "fill_normal of 2.4M", elements(n), arrays, |pool, x| fill_normal(pool, key, 0.0, 0.02, x));
    // The four numbers of one counter, as for the derivation of a key.
    let mut counter = 0;
    group.throughput(elements(4));
    group.bench_function("philox", |bencher| {
        bencher.iter(|| {
            counter += 1;
            philox([counter, 0, 0, 0], key)
        });
    });
}

/// Short times: about 100 lines should take about two minutes.
fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .nresamples(2_000)
        .without_plots()
}

criterion_group! {
    name = kernels;
    config = settings();
    targets = bench_gemm, bench_attention, bench_decoding, bench_layer_norm, bench_elementwise, bench_adamw_rows,
        bench_sum_of_squares, bench_memory, bench_dropout, bench_cross_entropy, bench_embedding, bench_random
}
criterion_main!(kernels);
