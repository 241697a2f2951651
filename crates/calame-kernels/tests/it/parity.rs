//! Fast operations compared with their reference: each instruction set, odd sizes, outputs filled with NaN before.
//!
//! Tolerances follow from the sums: the error of a sum of n products in f32, in any order, is at most about
//! n·ε·Σ|terms| (N. Higham, "Accuracy and stability of numerical algorithms", section 3.1).

use calame_kernels::reference;
use calame_kernels::*;

use crate::bounds;
use crate::support::{EPSILON, assert_close, for_every_pool, nans, normals, numbers, to_f64, words};

const SIZES: [usize; 5] = [1, 7, 16, 17, 65];

#[test]
fn layer_norm() {
    for (eps, has_bias) in [(1e-5, true), (1e-5, false), (1e-12, true), (0.3, false)] {
        layer_norm_with(eps, has_bias);
    }
}

fn layer_norm_with(eps: f32, has_bias: bool) {
    for cols in [1, 7, 16, 17, 65, 768] {
        for rows in [1, 17, 65] {
            let (x, w) = (normals(1, rows * cols, 1.0), numbers(2, cols));
            let n_bias = if has_bias { cols } else { 0 };
            let b = numbers(3, n_bias);
            let (dy, dx0) = (numbers(4, rows * cols), numbers(5, rows * cols));
            let (x64, w64, b64, dy64) = (to_f64(&x), to_f64(&w), to_f64(&b), to_f64(&dy));
            let mut y64 = vec![0.0; x.len()];
            reference::layer_norm_forward(&x64, &w64, &b64, eps, &mut y64);
            let (mut dx64, mut dw64, mut db64) = (to_f64(&dx0), vec![0.5; cols], vec![0.25; n_bias]);
            reference::layer_norm_backward_add(&dy64, &x64, &w64, eps, &mut dx64, &mut dw64, &mut db64);
            let bounds = bounds::layer_norm(&x64, &w64, &b64, eps, &dy64, &to_f64(&dx0), 0.5);
            for_every_pool(|pool| {
                let (mut y, mut mean, mut rstd) = (nans(x.len()), nans(rows), nans(rows));
                layer_norm_forward(pool, &x, &w, &b, eps, &mut y, &mut mean, &mut rstd);
                assert_close("y", &y, &y64, |i| bounds.y[i]);
                let mut again = nans(x.len());
                layer_norm_again(pool, &x, &w, &b, &mean, &rstd, &mut again);
                assert_eq!(again, y);
                let (mut dx, mut dw, mut db) = (dx0.clone(), vec![0.5; cols], vec![0.25; n_bias]);
                let grad = Some((&mut dw[..], &mut db[..]));
                layer_norm_backward_add(pool, &dy, &x, &w, &mean, &rstd, &mut dx, grad);
                assert_close("dx", &dx, &dx64, |i| bounds.dx[i]);
                assert_close("dweight", &dw, &dw64, |i| bounds.dweight[i]);
                assert_close("dbias", &db, &db64, |i| bounds.dbias[i]);
            });
        }
    }
}

#[test]
fn activations() {
    Activation::ALL.into_iter().for_each(activation);
}

fn activation(activation: Activation) {
    for n in [1, 7, 16, 17, 65, 70_001] {
        let mut x = normals(1, n, 3.0);
        x[0] = -60.0;
        let dy = numbers(2, n);
        let (x64, dy64) = (to_f64(&x), to_f64(&dy));
        let (mut y64, mut dx64) = (vec![0.0; n], vec![0.0; n]);
        reference::activation_forward(activation, &x64, &mut y64);
        reference::activation_backward(activation, &dy64, &x64, &mut dx64);
        let one = [1.0];
        // The product is 1·x = x, so that only the epilogue is tested.
        let then = |pool: &Pool, row: &[f32], epilogue: Epilogue<'_>| {
            let mut c = nans(n);
            let (a, b) = (MatRef::dense(&one, 1, 1), MatRef::dense(row, 1, n));
            gemm_then(pool, Precision::F32, a, b, MatMut::dense(&mut c, 1, n), Init::Zero, epilogue);
            c
        };
        for_every_pool(|pool| {
            let mut y = nans(n);
            let c = then(pool, &x, Epilogue::Activation { activation, y: &mut y });
            assert_eq!(c, x, "the argument is kept");
            // The argument of the exponential is rounded a few times; its error is relative to its size.
            let u = |i: usize| {
                1.0 + match activation {
                    Activation::GeluTanh => 2.0 * (x64[i] + 0.0447 * x64[i].powi(3)).abs().min(90.0),
                    Activation::Gelu => (0.5 * x64[i] * x64[i]).min(90.0),
                    Activation::Relu => 0.0,
                }
            };
            // Far below zero there is cancellation in the reference: 1 + tanh and 1 + erf have an error of some units of
            // f64 at 1.
            let cancelled = |i: usize| 16.0 * x64[i].abs() * f64::EPSILON;
            assert_close("y", &y, &y64, |i| 8.0 * EPSILON * u(i) * y64[i].abs() + cancelled(i));
            let mut again = nans(n);
            let dx = then(pool, &dy, Epilogue::ActivationBackward { activation, x: &x, y: &mut again });
            assert_eq!(again, y);
            assert_close("dx", &dx, &dx64, |i| 16.0 * EPSILON * u(i) * (1.0 + x64[i].abs()));
        });
    }
}

#[test]
fn embedding() {
    for c in SIZES {
        let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 11).collect();
        let positions: Vec<u32> = (0..40).map(|i| i % 20).collect();
        let (wte, wpe, dy) = (numbers(1, 11 * c), numbers(2, 20 * c), numbers(3, 40 * c));
        let mut want = vec![0.0; 40 * c];
        reference::embedding_forward(&tokens, &positions, &to_f64(&wte), &to_f64(&wpe), c, &mut want);
        let (mut dwte64, mut dwpe64) = (vec![1.0; 11 * c], vec![1.0; 20 * c]);
        reference::embedding_backward(&tokens, &positions, &to_f64(&dy), c, &mut dwte64, &mut dwpe64);
        for_every_pool(|pool| {
            let mut y = nans(40 * c);
            embedding_forward(pool, &tokens, &positions, &wte, &wpe, c, &mut y);
            assert_close("y", &y, &want, |_| 2.0 * EPSILON);
            let (mut dwte, mut dwpe) = (vec![1.0; 11 * c], vec![1.0; 20 * c]);
            embedding_backward(&tokens, &positions, &dy, c, &mut dwte, &mut dwpe);
            assert_close("dwte", &dwte, &dwte64, |_| 36.0 * EPSILON);
            assert_close("dwpe", &dwpe, &dwpe64, |_| 16.0 * EPSILON);
        });
    }
}

#[test]
fn bias_gradient() {
    for cols in [1, 7, 16, 17, 65, 129] {
        let dy = numbers(1, 33 * cols);
        for_every_pool(|pool| {
            let mut db = vec![2.0; cols];
            sum_rows_add(pool, &dy, &mut db);
            let want: Vec<f64> =
                (0..cols).map(|c| 2.0 + (0..33).map(|r| f64::from(dy[r * cols + c])).sum::<f64>()).collect();
            assert_close("dbias", &db, &want, |_| 34.0 * EPSILON * 35.0);
        });
    }
}

#[test]
fn dropped_elements() {
    for cols in SIZES {
        let x = numbers(1, 14 * cols);
        let words = words(5, 14 * cols.div_ceil(64));
        for keep in [DropMask::new(Key::from_seed(1), 0, 3, 0.25), DropMask::stored(&words, 7, cols, 1.5)] {
            let want: Vec<f32> =
                x.iter().enumerate().map(|(i, x)| x * keep.factor(i / cols / 7, i / cols % 7, i % cols)).collect();
            for_every_pool(|pool| {
                let mut in_place = x.clone();
                drop_in_place(pool, &keep, 7, cols, &mut in_place);
                assert_eq!(in_place, want);
                let mut copied = nans(x.len());
                drop_elements(pool, &x, &keep, 7, cols, &mut copied);
                assert_eq!(copied, want);
            });
        }
    }
}

/// A row begins at a word; its column c is bit c mod 64 of word c / 64.
#[test]
fn stored_bits_have_the_documented_layout() {
    let words = [0b101, 0, 0, 0b10, u64::MAX, 0];
    let keep = DropMask::stored(&words, 3, 70, 2.0);
    let kept = |row| (0..70).filter(|&column| keep.factor(0, row, column) == 2.0).collect::<Vec<usize>>();
    assert_eq!(kept(0), [0, 2]);
    assert_eq!(kept(1), [65]);
    assert_eq!(kept(2), (0..64).collect::<Vec<usize>>());
    let of_one_row = DropMask::stored(&words, 1, 70, 2.0);
    assert_eq!(of_one_row.factor(1, 0, 65), keep.factor(0, 1, 65));
}

#[test]
#[should_panic(expected = "a mask of 5 words")]
fn stored_bits_are_whole_sequences() {
    let _ = DropMask::stored(&[0; 5], 3, 70, 2.0);
}

#[test]
fn adamw_steps() {
    for n in [1, 7, 16, 17, 65, 40_000] {
        let (w0, g) = (numbers(1, n), numbers(2, n));
        let hyper = |t: i32| AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            bias_correction1: 1.0 - 0.9f32.powi(t),
            bias_correction2: 1.0 - 0.999f32.powi(t),
            grad_scale: 0.7,
        };
        let (mut w64, mut m64, mut v64) = (to_f64(&w0), vec![0.0; n], vec![0.0; n]);
        let g64 = to_f64(&g);
        (1..=3).for_each(|t| reference::adamw(&hyper(t), &mut w64, &g64, &mut m64, &mut v64));
        for_every_pool(|pool| {
            let (mut w, mut m, mut v) = (w0.clone(), vec![0.0; n], vec![0.0; n]);
            for t in 1..=3 {
                let mut grad = g.clone();
                adamw(pool, &hyper(t), &mut w, &mut grad, &mut m, &mut v);
                assert!(grad.iter().all(|&g| g == 0.0));
            }
            assert_close("weight", &w, &w64, |_| 32.0 * EPSILON);
            assert_close("m", &m, &m64, |_| 8.0 * EPSILON);
            assert_close("v", &v, &v64, |i| 16.0 * EPSILON * v64[i]);
        });
    }
}

#[test]
fn sums_of_squares() {
    for n in [0, 1, 7, 16, 17, 65, 4096, 40_000, 9_000_001] {
        let x = numbers(1, n);
        let expected = reference::sum_of_squares(&to_f64(&x));
        for_every_pool(|pool| {
            let found = sum_of_squares(pool, &x);
            // Each lane sums at most 256 squares in f32; the other sums are in f64.
            assert!((found - expected).abs() <= 260.0 * f64::from(f32::EPSILON) * expected, "{n}: {found}, {expected}");
        });
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let mut x = numbers(1, 70_000);
        x[65_537] = bad;
        for_every_pool(|pool| assert!(!sum_of_squares(pool, &x).is_finite(), "{bad}"));
    }
}

#[test]
fn scaled_sums() {
    for n in [0, 1, 7, 16, 17, 65, 70_001] {
        let (x, y0) = (numbers(1, n), numbers(2, n));
        let mut want = y0.clone();
        reference::add_scaled(-0.3, &x, &mut want);
        for_every_pool(|pool| {
            let mut y = y0.clone();
            add_scaled(pool, -0.3, &x, &mut y);
            // The product and the sum are rounded separately, and so have the same bits everywhere.
            assert_eq!(y, want);
        });
    }
}

#[test]
fn the_same_sum_of_squares_for_any_number_of_threads() {
    let x = numbers(1, 300_000);
    let sum = |n_threads| sum_of_squares(&Pool::new(n_threads, Isa::detect()), &x).to_bits();
    assert!(sum(1) == sum(2) && sum(2) == sum(3));
}

/// Skipping rows whose gradient and moments are zero does not change a bit.
#[test]
fn adamw_of_rows_equals_adamw() {
    let (rows, cols) = (100, 65);
    let touched: Vec<bool> = (0..rows).map(|r| r * r % 7 < 3).collect();
    let of_touched = |x: Vec<f32>| -> Vec<f32> {
        x.into_iter().enumerate().map(|(i, x)| if touched[i / cols] { x } else { 0.0 }).collect()
    };
    let hyper = AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.1,
        bias_correction2: 0.001,
        grad_scale: 1.0,
    };
    let n = rows * cols;
    let (w0, g) = (numbers(1, n), of_touched(numbers(2, n)));
    let (m0, v0) = (of_touched(numbers(3, n)), of_touched(numbers(4, n).into_iter().map(f32::abs).collect()));
    for_every_pool(|pool| {
        let arrays = || (w0.clone(), g.clone(), m0.clone(), v0.clone());
        let (mut all, mut some) = (arrays(), arrays());
        adamw(pool, &hyper, &mut all.0, &mut all.1, &mut all.2, &mut all.3);
        adamw_rows(pool, &hyper, &touched, &mut some.0, &mut some.1, &mut some.2, &mut some.3);
        assert_eq!(all, some);
    });
}
