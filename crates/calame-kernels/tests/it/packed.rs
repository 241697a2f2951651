//! Packed weights: their layout, and products with them in every number format.

use calame_kernels::formats::{NumberFormat, dequantize};
use calame_kernels::*;
use half::f16;

use crate::support::{EPSILON, for_every_pool, nans, numbers, words};

/// Where the numbers in f16 begin in a block.
fn numbers_of(format: NumberFormat) -> &'static [usize] {
    match format {
        NumberFormat::F32 | NumberFormat::F16 | NumberFormat::Bf16 => &[],
        NumberFormat::Q4_1 | NumberFormat::Q5_1 | NumberFormat::Q4K | NumberFormat::Q5K => &[0, 2],
        NumberFormat::Q2K => &[80, 82],
        NumberFormat::Q3K => &[108],
        NumberFormat::Q6K => &[208],
        NumberFormat::Tq1_0 => &[52],
        NumberFormat::Tq2_0 => &[64],
        _ => &[0],
    }
}

/// Rows of a matrix as a file stores them: blocks of any bits with scales of either sign up to 1/8.
fn stored(format: NumberFormat, rows: usize, cols: usize) -> Vec<u8> {
    let elements = numbers(9, rows * cols);
    match format {
        NumberFormat::F32 => return elements.iter().flat_map(|x| x.to_le_bytes()).collect(),
        NumberFormat::F16 => return elements.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        NumberFormat::Bf16 => return elements.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        _ => {}
    }
    let n_blocks = rows * cols / format.block_len();
    let mut bytes: Vec<u8> =
        words(8, (n_blocks * format.block_bytes()).div_ceil(8)).into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.truncate(n_blocks * format.block_bytes());
    let scales = numbers(7, 2 * n_blocks);
    for (block, scales) in bytes.chunks_exact_mut(format.block_bytes()).zip(scales.chunks_exact(2)) {
        for (&at, scale) in numbers_of(format).iter().zip(scales) {
            block[at..at + 2].copy_from_slice(&f16::from_f32(scale / 8.0).to_le_bytes());
        }
    }
    bytes
}

fn packed(isa: Isa, format: NumberFormat, rows: usize, cols: usize, bytes: &[u8]) -> PackedMatrix {
    let shape = PackedShape::new(isa, format, rows, cols);
    let mut matrix = PackedMatrix::zeros(shape);
    matrix.for_panels(&Pool::new(2, isa), |j, panel| {
        let rows = shape.rows_of(j);
        shape.write_panel_raw(panel, &bytes[rows.start * shape.row_bytes()..rows.end * shape.row_bytes()]);
    });
    matrix
}

/// Sizes [OC, C] that fill no panel and no chunk, in whole blocks of the format.
fn sizes(format: NumberFormat) -> Vec<[usize; 2]> {
    match format.block_len() {
        1 => vec![[1, 1], [7, 17], [16, 7], [33, 65], [70, 1601]],
        32 => vec![[1, 32], [16, 256], [17, 288], [65, 800]],
        _ => vec![[1, 256], [17, 512], [65, 768]],
    }
}

#[test]
fn rows_are_those_of_the_file() {
    for isa in Isa::available() {
        for format in NumberFormat::ALL {
            for [rows, cols] in sizes(format) {
                let bytes = stored(format, rows, cols);
                let (matrix, mut want) = (packed(isa, format, rows, cols, &bytes), vec![0.0; rows * cols]);
                dequantize(format, &bytes, &mut want);
                for (row, want) in want.chunks_exact(cols).enumerate() {
                    let mut got = nans(cols);
                    matrix.row(row, &mut got);
                    assert_eq!(got, want, "{format} on {isa}, row {row} of [{rows}, {cols}]");
                }
                assert!(matrix.is_finite());
                let stored_bytes =
                    (matrix.shape().n_panels() * matrix.shape().panel_rows() * bytes.len() / rows) as u64;
                let units = if cols.is_multiple_of(2) { stored_bytes } else { stored_bytes * 2 };
                assert!(matrix.shape().n_bytes() <= units + 4, "{format}: {:?}", matrix.shape());
            }
        }
    }
}

/// What a product computes, in f64, and the sum of the absolute values of its terms.
fn expected(format: NumberFormat, x: &[f32], weights: &[f32], cols: usize) -> (Vec<f64>, Vec<f64>) {
    let x: Vec<f64> = match format {
        NumberFormat::F32 | NumberFormat::F16 => x.iter().map(|&x| f64::from(x)).collect(),
        NumberFormat::Bf16 => x.iter().map(|&x| f64::from(Precision::Bf16.round(x))).collect(),
        _ => x.chunks(32).flat_map(quantized).collect(),
    };
    let (mut sums, mut sizes) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(cols) {
        for w in weights.chunks_exact(cols) {
            sums.push(x.iter().zip(w).map(|(x, &w)| x * f64::from(w)).sum());
            sizes.push(x.iter().zip(w).map(|(x, &w)| (x * f64::from(w)).abs()).sum());
        }
    }
    (sums, sizes)
}

/// A block of 32 elements as int8 with a scale.
fn quantized(x: &[f32]) -> Vec<f64> {
    let d = x.iter().fold(0.0f32, |d, x| d.max(x.abs())) / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    x.iter().map(|x| f64::from(d) * f64::from((x * inverse).round_ties_even())).collect()
}

#[test]
fn products_of_every_format() {
    for format in NumberFormat::ALL {
        for [oc, c] in sizes(format) {
            let bytes = stored(format, oc, c);
            let mut weights = vec![0.0; oc * c];
            dequantize(format, &bytes, &mut weights);
            for rows in [1, 2, 3, 4, 5, 9, 40, 131] {
                let mut x = numbers(3, rows * c);
                // A block of zeros, and one with an outlier.
                x[..c.min(32)].fill(0.0);
                x[rows * c - 1] = 50.0;
                let (want, size) = expected(format, &x, &weights, c);
                for_every_pool(|pool| {
                    let (matrix, mut y) = (packed(pool.isa(), format, oc, c, &bytes), nans(rows * oc));
                    let (a, to) = (MatRef::dense(&x, rows, c), MatMut::dense(&mut y, rows, oc));
                    packed_product(pool, a, &matrix, to, Init::Zero, Epilogue::None);
                    for (i, (&got, want)) in y.iter().zip(&want).enumerate() {
                        // Minima cancel terms: they count as terms of their own, at most 15 times as large.
                        let bound = (c as f64 + 20.0) * EPSILON * size[i] * 16.0 + 1e-30;
                        let error = (f64::from(got) - want).abs();
                        assert!(
                            error <= bound,
                            "{format} {}, [{oc}, {c}], {rows} rows, {i}: {error:e} above {bound:e}",
                            pool.isa()
                        );
                    }
                });
            }
        }
    }
}

/// A row's result does not depend on the other rows, nor on the threads.
#[test]
fn rows_are_independent() {
    for format in NumberFormat::ALL {
        let (oc, c) = (70, if format.block_len() == 1 { 1601 } else { 768 });
        let bytes = stored(format, oc, c);
        let x = numbers(5, 150 * c);
        for isa in Isa::available() {
            let matrix = packed(isa, format, oc, c, &bytes);
            let product = |x: &[f32], n_threads: usize| {
                let (rows, mut y) = (x.len() / c, nans(x.len() / c * oc));
                let (a, to) = (MatRef::dense(x, rows, c), MatMut::dense(&mut y, rows, oc));
                packed_product(&Pool::new(n_threads, isa), a, &matrix, to, Init::Zero, Epilogue::None);
                y
            };
            let all = product(&x, 1);
            assert_eq!(product(&x, 3), all, "{format} {isa}: threads");
            for n in [1, 2, 4, 7, 16, 33] {
                let some = product(&x[3 * c..(3 + n) * c], 2);
                assert_eq!(some, all[3 * oc..(3 + n) * oc], "{format} {isa}: {n} rows of 150");
            }
        }
    }
}

/// Formats without blocks give the bits of the products of matrices that are not packed.
#[test]
fn floats_are_multiplied_as_unpacked_matrices() {
    let cases = [
        (NumberFormat::F32, Precision::F32),
        (NumberFormat::F16, Precision::F32),
        (NumberFormat::Bf16, Precision::Bf16),
    ];
    for (format, precision) in cases {
        for [oc, c] in sizes(format) {
            let (bytes, mut weights) = (stored(format, oc, c), vec![0.0; oc * c]);
            dequantize(format, &bytes, &mut weights);
            for rows in [1, 3, 5, 40] {
                let (x, bias, residual) = (numbers(3, rows * c), numbers(4, oc), numbers(6, rows * oc));
                for_every_pool(|pool| {
                    let matrix = packed(pool.isa(), format, oc, c, &bytes);
                    for step in 0..4 {
                        let (mut plain, mut got) = (residual.clone(), residual.clone());
                        let (mut active, mut got_active) = (nans(rows * oc), nans(rows * oc));
                        let init = [Init::Zero, Init::Add, Init::Bias(&bias), Init::AddBias(&bias)][step];
                        let (a, w) = (MatRef::dense(&x, rows, c), MatRef::dense(&weights, oc, c));
                        let activation = Activation::GeluTanh;
                        let epilogue = Epilogue::Activation { activation, y: &mut active };
                        gemm_then(pool, precision, a, w.t(), MatMut::dense(&mut plain, rows, oc), init, epilogue);
                        let epilogue = Epilogue::Activation { activation, y: &mut got_active };
                        packed_product(pool, a, &matrix, MatMut::dense(&mut got, rows, oc), init, epilogue);
                        assert_eq!(got, plain, "{format} {} [{oc}, {c}], {rows} rows, {init:?}", pool.isa());
                        assert_eq!(got_active, active);
                        let add = || Epilogue::AddDropped { x: &residual, keep: None, rows_per_sequence: rows };
                        gemm_then(pool, precision, a, w.t(), MatMut::dense(&mut plain, rows, oc), init, add());
                        packed_product(pool, a, &matrix, MatMut::dense(&mut got, rows, oc), init, add());
                        assert_eq!(got, plain);
                    }
                });
            }
        }
    }
}

/// Initial values and epilogues of formats of blocks.
#[test]
fn blocks_have_initial_values_and_epilogues() {
    let (format, rows, oc, c) = (NumberFormat::Q8_0, 9, 70, 96);
    let (bytes, x, bias, residual) = (stored(format, oc, c), numbers(3, 9 * c), numbers(4, oc), numbers(6, 9 * oc));
    for_every_pool(|pool| {
        let matrix = packed(pool.isa(), format, oc, c, &bytes);
        let product = |init: Init<'_>, epilogue: Epilogue<'_>| {
            let mut y = residual.clone();
            let (a, to) = (MatRef::dense(&x, rows, c), MatMut::dense(&mut y, rows, oc));
            packed_product(pool, a, &matrix, to, init, epilogue);
            y
        };
        let plain = product(Init::Zero, Epilogue::None);
        let with = |f: &dyn Fn(usize) -> f32| -> Vec<f32> { (0..rows * oc).map(f).collect() };
        assert_eq!(product(Init::Add, Epilogue::None), with(&|i| residual[i] + plain[i]));
        assert_eq!(product(Init::Bias(&bias), Epilogue::None), with(&|i| bias[i % oc] + plain[i]));
        let added = with(&|i| residual[i] + bias[i % oc] + plain[i]);
        assert_eq!(product(Init::AddBias(&bias), Epilogue::None), added);
        let add = Epilogue::AddDropped { x: &residual, keep: None, rows_per_sequence: rows };
        assert_eq!(product(Init::Zero, add), with(&|i| residual[i] + plain[i]));
        let mut active = nans(rows * oc);
        let relu = Epilogue::Activation { activation: Activation::Relu, y: &mut active };
        assert_eq!(product(Init::Zero, relu), plain);
        assert_eq!(active, with(&|i| plain[i].max(0.0)));
    });
}

#[test]
fn numbers_that_are_not_finite_are_not_hidden() {
    for format in NumberFormat::ALL {
        let c = if format.block_len() == 1 { 8 } else { 256 };
        let mut bytes = stored(format, 20, c);
        for isa in Isa::available() {
            let clean = packed(isa, format, 20, c, &bytes);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = numbers(3, 2 * c);
                x[c + 5] = bad;
                let mut y = nans(40);
                let (a, to) = (MatRef::dense(&x, 2, c), MatMut::dense(&mut y, 2, 20));
                packed_product(&Pool::new(1, isa), a, &clean, to, Init::Zero, Epilogue::None);
                assert!(
                    y[..20].iter().all(|y| y.is_finite()) && y[20..].iter().all(|y| !y.is_finite()),
                    "{format} {isa} {bad}"
                );
            }
        }
        // A scale, or an element, of the last row.
        let (n, at) = (bytes.len(), numbers_of(format).first().copied());
        match (format, at) {
            (_, Some(at)) => bytes[n - format.block_bytes() + at + 1] = 0x7c,
            (NumberFormat::F16, _) => bytes[n - 1] = 0x7c,
            _ => bytes[n - 2..].copy_from_slice(&[0x80, 0x7f]),
        }
        assert!(!packed(Isa::detect(), format, 20, c, &bytes).is_finite(), "{format}");
    }
}

#[test]
fn embeddings_of_packed_tables() {
    let (tokens, positions) = ([3, 69, 0, 3], [0, 1, 2, 0]);
    for format in NumberFormat::ALL {
        let (v, c) = (70, if format.block_len() == 1 { 17 } else { 256 });
        let (bytes, wpe, mut wte) = (stored(format, v, c), numbers(2, 3 * c), vec![0.0; v * c]);
        dequantize(format, &bytes, &mut wte);
        for_every_pool(|pool| {
            let (mut want, mut got) = (nans(4 * c), nans(4 * c));
            embedding_forward(pool, &tokens, &positions, &wte, &wpe, c, &mut want);
            let table = packed(pool.isa(), format, v, c, &bytes);
            packed_embedding(pool, &tokens, &positions, &table, &wpe, &mut got);
            assert_eq!(got, want, "{format} {}", pool.isa());
        });
    }
}
