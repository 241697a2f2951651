//! Products under every instruction set: all layouts, initial values, epilogues and ranges of columns.

use calame_kernels::*;

use crate::support::{EPSILON, assert_close, for_every_pool, nans, numbers, to_f64, words};

const SIZES: [usize; 5] = [1, 7, 16, 17, 65];

/// A product in f64, and Σ|a|·|b| of each of its elements.
fn product(
    m: usize,
    n: usize,
    k: usize,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> [Vec<f64>; 2] {
    let sum = |f: &dyn Fn(f64) -> f64| {
        (0..m * n)
            .map(|e| (0..k).map(|p| f(f64::from(a(e / n, p)) * f64::from(b(p, e % n)))).sum())
            .collect::<Vec<f64>>()
    };
    [sum(&|x| x), sum(&f64::abs)]
}

/// The content of C before a product: `c0` if it is added to, otherwise NaN, which every product must overwrite.
fn init_values(init: Init<'_>, c0: &[f32]) -> Vec<f32> {
    if matches!(init, Init::Add | Init::AddBias(_)) { c0.to_vec() } else { nans(c0.len()) }
}

#[test]
fn gemm_in_f32() {
    gemm_for_every_layout_and_initial_value(Precision::F32);
}

#[test]
fn gemm_in_bf16() {
    gemm_for_every_layout_and_initial_value(Precision::Bf16);
}

fn gemm_for_every_layout_and_initial_value(precision: Precision) {
    let mut shapes: Vec<[usize; 3]> = Vec::new();
    for m in SIZES {
        for n in SIZES {
            shapes.extend(SIZES.map(|k| [m, n, k]));
        }
    }
    shapes.extend([[33, 40, 800], [40, 33, 1601], [2, 97, 769], [100, 3100, 9], [5, 5, 0]]);
    for [m, n, k] in shapes {
        let (a, b, c0, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, m * n), numbers(4, n));
        for transposed in 0..4 {
            let (ta, tb) = (transposed & 1 == 1, transposed & 2 == 2);
            let a_at = |i: usize, p: usize| if ta { a[p * m + i] } else { a[i * k + p] };
            let b_at = |p: usize, j: usize| if tb { b[j * k + p] } else { b[p * n + j] };
            // Operands are rounded first. Products of two bf16 are exact in f32, so that the bound of the sum is the
            // same.
            let [sums, sizes] =
                product(m, n, k, |i, p| precision.round(a_at(i, p)), |p, j| precision.round(b_at(p, j)));
            for_every_pool(|pool| {
                for init in [Init::Zero, Init::Add, Init::Bias(&bias), Init::AddBias(&bias)] {
                    let a = if ta { MatRef::dense(&a, k, m).t() } else { MatRef::dense(&a, m, k) };
                    let b = if tb { MatRef::dense(&b, n, k).t() } else { MatRef::dense(&b, k, n) };
                    let mut c = init_values(init, &c0);
                    gemm(pool, precision, a, b, MatMut::dense(&mut c, m, n), init);
                    let first = |i: usize| match init {
                        Init::Zero => 0.0,
                        Init::Add => f64::from(c0[i]),
                        Init::Bias(bias) => f64::from(bias[i % n]),
                        Init::AddBias(bias) => f64::from(c0[i] + bias[i % n]),
                    };
                    let want: Vec<f64> = sums.iter().enumerate().map(|(i, s)| first(i) + s).collect();
                    assert_close("gemm", &c, &want, |i| (k + 3) as f64 * EPSILON * (sizes[i] + first(i).abs()));
                }
            });
        }
    }
}

#[test]
fn gemm_rows_do_not_depend_on_their_number() {
    let (m, n, k) = (70, 65, 1700);
    let (a, b) = (numbers(1, m * k), numbers(2, k * n));
    for_every_pool(|pool| {
        for precision in Precision::ALL {
            let rows = |from: usize, to: usize| {
                let mut c = nans((to - from) * n);
                let (a, b) = (MatRef::dense(&a[from * k..], to - from, k), MatRef::dense(&b, n, k).t());
                gemm(pool, precision, a, b, MatMut::dense(&mut c, to - from, n), Init::Zero);
                c
            };
            let whole = rows(0, m);
            for (from, to) in [(0, 1), (3, 8), (10, 43), (69, 70)] {
                assert_eq!(rows(from, to), whole[from * n..to * n], "rows {from}..{to} in {precision}");
            }
        }
    });
}

/// A product of several slabs of rows and of columns with an epilogue has the bits of the same product a few rows at a
/// time.
#[test]
fn gemm_by_slabs_equals_gemm_by_rows() {
    // These are more rows and columns than any instruction set packs at a time.
    let (m, n, k, few) = (2300, 3100, 9, 30);
    let (a, b, x) = (numbers(1, m * k), numbers(2, k * n), numbers(3, m * n));
    for isa in Isa::available() {
        let pool = &Pool::new(2, isa);
        for precision in Precision::ALL {
            // Every sequence has `few` rows, so that each part begins at the start of a sequence.
            let rows = |from: usize, to: usize| {
                let keep = DropMask::new(Key::from_seed(1), (from / few) as u32, 3, 0.25);
                let epilogue =
                    Epilogue::AddDropped { x: &x[from * n..to * n], keep: Some(&keep), rows_per_sequence: few };
                let mut c = nans((to - from) * n);
                let (a, b) = (MatRef::dense(&a[from * k..], to - from, k), MatRef::dense(&b, n, k).t());
                gemm_then(pool, precision, a, b, MatMut::dense(&mut c, to - from, n), Init::Zero, epilogue);
                c
            };
            let whole = rows(0, m);
            for from in (0..m).step_by(few) {
                let to = (from + few).min(m);
                assert!(rows(from, to) == whole[from * n..to * n], "rows {from}..{to} in {precision} under {isa}");
            }
        }
    }
}

/// A product into a range of columns has the bits of a product into a dense matrix; the other columns are unchanged.
#[test]
fn gemm_into_a_range_of_columns() {
    // There are few and many rows, and one and several blocks of k.
    for (m, n, k) in [(1, 1, 1), (7, 20, 9), (17, 65, 16), (40, 33, 1601), (65, 16, 7)] {
        let (before, after) = (5, 3);
        let stride = before + n + after;
        let (a, b, bias) = (numbers(1, m * k), numbers(2, k * stride), numbers(3, n));
        let c0 = numbers(4, m * stride);
        let columns = |x: &[f32]| -> Vec<f32> {
            x.chunks_exact(stride).flat_map(|row| row[before..before + n].to_vec()).collect()
        };
        for_every_pool(|pool| {
            for precision in Precision::ALL {
                for init in [Init::Zero, Init::Add, Init::Bias(&bias), Init::AddBias(&bias)] {
                    let mut c = c0.clone();
                    let (a, b) = (MatRef::dense(&a, m, k), MatRef::columns(&b, k, stride, before..before + n));
                    gemm(pool, precision, a, b, MatMut::columns(&mut c, m, stride, before..before + n), init);
                    let mut alone = columns(&c0);
                    gemm(pool, precision, a, b, MatMut::dense(&mut alone, m, n), init);
                    assert_eq!(columns(&c), alone, "[{m}, {k}] times [{k}, {n}] from {init:?}");
                    let inside = |i: usize| (before..before + n).contains(&(i % stride));
                    assert!((0..c.len()).all(|i| inside(i) || c[i] == c0[i]));
                }
            }
        });
    }
}

/// Ranges of columns as left and as transposed right operand.
#[test]
fn gemm_of_a_range_of_columns() {
    let (m, n, k, stride) = (20, 33, 17, 40);
    let (a, b) = (numbers(1, m * stride), numbers(2, n * stride));
    let copy = |x: &[f32]| -> Vec<f32> { x.chunks_exact(stride).flat_map(|row| row[9..9 + k].to_vec()).collect() };
    let (a_copy, b_copy) = (copy(&a), copy(&b));
    for_every_pool(|pool| {
        for precision in Precision::ALL {
            let product = |a: MatRef<'_>, b: MatRef<'_>| {
                let mut c = nans(m * n);
                gemm(pool, precision, a, b.t(), MatMut::dense(&mut c, m, n), Init::Zero);
                c
            };
            let range = 9..9 + k;
            assert_eq!(
                product(MatRef::columns(&a, m, stride, range.clone()), MatRef::columns(&b, n, stride, range)),
                product(MatRef::dense(&a_copy, m, k), MatRef::dense(&b_copy, n, k))
            );
        }
    });
}

#[test]
fn a_range_of_columns_may_be_empty() {
    let pool = Pool::new(1, Isa::Portable);
    let (mut none, mut some) = ([0.0; 0], [1.0; 6]);
    let nothing = MatRef::columns(&[], 0, 3, 1..3);
    gemm(
        &pool,
        Precision::F32,
        nothing,
        MatRef::dense(&[0.0; 4], 2, 2),
        MatMut::columns(&mut none, 0, 5, 3..5),
        Init::Zero,
    );
    let (a, b) = (MatRef::dense(&[0.0; 2], 2, 1), MatRef::columns(&[0.0; 6], 1, 6, 6..6));
    gemm(&pool, Precision::F32, a, b, MatMut::columns(&mut some, 2, 3, 3..3), Init::Zero);
    assert_eq!(some, [1.0; 6]);
}

#[test]
#[should_panic(expected = "columns 2..5 of a matrix [2, 4] in 8 elements")]
fn columns_beyond_a_row_are_named() {
    let _ = MatRef::columns(&[0.0; 8], 2, 4, 2..5);
}

#[test]
#[should_panic(expected = "columns 0..2 of a matrix [3, 4] in 8 elements")]
fn columns_of_too_few_elements_are_named() {
    let _ = MatMut::columns(&mut [0.0; 8], 3, 4, 0..2);
}

/// Each epilogue is applied once to each element, in both schedules and with any number of blocks of k.
#[test]
fn epilogues_are_applied_once() {
    for [m, n, k] in [[7, 130, 9], [33, 65, 1], [40, 257, 1601], [150, 300, 17]] {
        let bias = numbers(6, n);
        for_every_pool(|pool| {
            for init in [Init::Zero, Init::Add, Init::Bias(&bias), Init::AddBias(&bias)] {
                check_epilogues(pool, [m, n, k], init);
            }
        });
    }
}

/// Applies every epilogue to one product.
fn check_epilogues(pool: &Pool, [m, n, k]: [usize; 3], init: Init<'_>) {
    let (a, b, x, c0) = (numbers(1, m * k), numbers(2, k * n), numbers(3, m * n), numbers(5, m * n));
    let then = |epilogue: Epilogue<'_>| {
        let mut c = init_values(init, &c0);
        let (a, b) = (MatRef::dense(&a, m, k), MatRef::dense(&b, k, n));
        gemm_then(pool, Precision::F32, a, b, MatMut::dense(&mut c, m, n), init, epilogue);
        c
    };
    let product = then(Epilogue::None);
    for activation in Activation::ALL {
        let mut y = nans(m * n);
        assert_eq!(then(Epilogue::Activation { activation, y: &mut y }), product);
        let mut want = vec![0.0; m * n];
        reference::activation_forward(activation, &to_f64(&product), &mut want);
        assert_close(activation.name(), &y, &want, |i| 1e-5 * (1.0 + want[i].abs()));
        let (pre, mut again) = (numbers(4, m * n), nans(m * n));
        let dx = then(Epilogue::ActivationBackward { activation, x: &pre, y: &mut again });
        reference::activation_backward(activation, &to_f64(&product), &to_f64(&pre), &mut want);
        assert_close("dx", &dx, &want, |i| 1e-5 * (1.0 + f64::from(product[i]).abs()));
        assert!(again.iter().all(|y| y.is_finite()));
    }
    let words = words(5, m.next_multiple_of(7) * n.div_ceil(64));
    let (counted, stored) = (DropMask::new(Key::from_seed(1), 0, 3, 0.25), DropMask::stored(&words, 7, n, 1.5));
    for keep in [None, Some(&counted), Some(&stored)] {
        let y = then(Epilogue::AddDropped { x: &x, keep, rows_per_sequence: 7 });
        let factor = |r: usize, c: usize| keep.map_or(1.0, |k| f64::from(k.factor(r / 7, r % 7, c)));
        let mut want = vec![0.0; m * n];
        reference::add_dropped(&to_f64(&x), &to_f64(&product), &factor, n, &mut want);
        assert_close("x + keep·C", &y, &want, |i| 4.0 * EPSILON * (1.0 + 2.0 * f64::from(product[i]).abs()));
    }
}

#[test]
#[should_panic(expected = "gemm: A [2, 3] times B [4, 5]")]
fn a_wrong_shape_is_named() {
    let mut c = vec![0.0; 10];
    let pool = Pool::new(1, Isa::Portable);
    gemm(
        &pool,
        Precision::F32,
        MatRef::dense(&[0.0; 6], 2, 3),
        MatRef::dense(&[0.0; 20], 4, 5),
        MatMut::dense(&mut c, 2, 5),
        Init::Zero,
    );
}
