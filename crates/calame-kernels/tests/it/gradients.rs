//! The gradients of the reference compared with central differences in f64, for every input of every operation.

use calame_kernels::{Activation, reference};

use crate::support::{numbers, to_f64};

const STEP: f64 = 1e-5;

/// Compares `gradient` of the scalar `f` at `x` with central differences.
///
/// With steps of 1e-5 the error of a difference is about f‴·1e-10/6 plus a rounding error of 1e-16/1e-5 relative to f;
/// the tolerance of 1e-7 is above both at these magnitudes.
fn check(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{what}: lengths");
    let mut at = x.to_vec();
    for i in 0..x.len() {
        at[i] = x[i] + STEP;
        let above = f(&at);
        at[i] = x[i] - STEP;
        let below = f(&at);
        at[i] = x[i];
        let difference = (above - below) / (2.0 * STEP);
        let error = (difference - gradient[i]).abs();
        assert!(
            error <= 1e-7 * (1.0 + difference.abs()),
            "{what}[{i}]: gradient {}, difference {difference}",
            gradient[i]
        );
    }
}

fn random(seed: u64, n: usize) -> Vec<f64> {
    to_f64(&numbers(seed, n))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn linear() {
    let (r, c, oc) = (3, 5, 4);
    let (x, w, b, dy) = (random(1, r * c), random(2, oc * c), random(3, oc), random(4, r * oc));
    let value = |x: &[f64], w: &[f64], b: &[f64]| {
        let mut y = vec![0.0; r * oc];
        reference::linear_forward(x, w, b, c, &mut y);
        dot(&y, &dy)
    };
    let (mut dx, mut dw, mut db) = (vec![f64::NAN; r * c], vec![0.0; oc * c], vec![0.0; oc]);
    reference::linear_backward(&dy, &x, &w, c, &mut dx, &mut dw, &mut db);
    check("dx", &x, &dx, |x| value(x, &w, &b));
    check("dweight", &w, &dw, |w| value(&x, w, &b));
    check("dbias", &b, &db, |b| value(&x, &w, b));
}

#[test]
fn layer_norm() {
    for (eps, n_bias) in [(1e-5, 6), (0.3, 0)] {
        layer_norm_with(eps, n_bias);
    }
}

fn layer_norm_with(eps: f32, n_bias: usize) {
    let (r, c) = (3, 6);
    let (x, w, b, dy) = (random(1, r * c), random(2, c), random(3, n_bias), random(4, r * c));
    let value = |x: &[f64], w: &[f64], b: &[f64]| {
        let mut y = vec![0.0; r * c];
        reference::layer_norm_forward(x, w, b, eps, &mut y);
        dot(&y, &dy)
    };
    let (mut dx, mut dw, mut db) = (vec![0.0; r * c], vec![0.0; c], vec![0.0; n_bias]);
    reference::layer_norm_backward_add(&dy, &x, &w, eps, &mut dx, &mut dw, &mut db);
    check("dx", &x, &dx, |x| value(x, &w, &b));
    check("dweight", &w, &dw, |w| value(&x, w, &b));
    check("dbias", &b, &db, |b| value(&x, &w, b));
}

#[test]
fn activations() {
    // Not at 0, where ReLU has no derivative.
    let x: Vec<f64> = (0..41).map(|i| f64::from(i - 20) * 0.2 + 0.05).collect();
    let dy = random(1, x.len());
    for activation in Activation::ALL {
        let mut dx = vec![f64::NAN; x.len()];
        reference::activation_backward(activation, &dy, &x, &mut dx);
        check(activation.name(), &x, &dx, |x| {
            let mut y = vec![0.0; x.len()];
            reference::activation_forward(activation, x, &mut y);
            dot(&y, &dy)
        });
    }
}

/// Values of GELU with the erf of PyTorch in f64.
#[test]
fn the_definition_of_gelu_is_that_of_pytorch() {
    let x = [-6.0, -2.5, -0.5, 0.0, 0.3, 1.7, 4.0];
    let mut y = [f64::NAN; 7];
    reference::activation_forward(Activation::Gelu, &x, &mut y);
    let of_pytorch = [
        -5.919525869479969e-9,
        -0.015524163314440398,
        -0.15426876936299344,
        0.0,
        0.1853734266566858,
        1.6242387133104768,
        3.9998733150326675,
    ];
    for (y, want) in y.into_iter().zip(of_pytorch) {
        assert!((y - want).abs() <= 1e-14, "{y} against {want}");
    }
}

#[test]
fn attention() {
    let (b, t, nh, hs) = (2, 5, 2, 3);
    let c = nh * hs;
    let (qkv, dy) = (random(1, b * t * 3 * c), random(2, b * t * c));
    // Without dropout, and with factors of any value.
    let factors = random(3, b * nh * t * t);
    let kept = |s: usize, row: usize, k: usize| factors[(s * nh * t + row) * t + k];
    let all = |_: usize, _: usize, _: usize| 1.0;
    // Packed examples of 2 and 3 positions, and of 5.
    let packed = [0, 0, 2, 2, 2, 0, 0, 0, 0, 0];
    for (starts, scale) in [(None, 0.58), (Some(&packed[..]), 1.0)] {
        for keep in [&all as &dyn Fn(usize, usize, usize) -> f64, &kept] {
            let mut dqkv = vec![f64::NAN; qkv.len()];
            reference::attention_backward((b, t, nh, hs), scale, &dy, &qkv, starts, keep, &mut dqkv);
            check("dqkv", &qkv, &dqkv, |qkv| {
                let mut y = vec![0.0; b * t * c];
                reference::attention_forward((b, t, nh, hs), scale, qkv, starts, keep, &mut y);
                dot(&y, &dy)
            });
        }
    }
}

#[test]
fn embedding() {
    let (tokens, positions, c) = ([2, 0, 2, 3], [0, 1, 0, 1], 3);
    let (wte, wpe, dy) = (random(1, 4 * c), random(2, 2 * c), random(3, 4 * c));
    let value = |wte: &[f64], wpe: &[f64]| {
        let mut y = vec![0.0; 4 * c];
        reference::embedding_forward(&tokens, &positions, wte, wpe, c, &mut y);
        dot(&y, &dy)
    };
    let (mut dwte, mut dwpe) = (vec![0.0; wte.len()], vec![0.0; wpe.len()]);
    reference::embedding_backward(&tokens, &positions, &dy, c, &mut dwte, &mut dwpe);
    check("dwte", &wte, &dwte, |wte| value(wte, &wpe));
    check("dwpe", &wpe, &dwpe, |wpe| value(&wte, wpe));
}

#[test]
fn cross_entropy() {
    let (targets, v) = ([3, 0, 6], 7);
    let logits: Vec<f64> = random(1, 3 * v).iter().map(|z| 4.0 * z).collect();
    for weights in [None, Some([0.5, 0.0, -1.5])] {
        let weights = weights.as_ref().map(<[f64; 3]>::as_slice);
        let mut dlogits = vec![f64::NAN; logits.len()];
        reference::cross_entropy_backward(&logits, &targets, weights, 0.25, &mut dlogits);
        check("dlogits", &logits, &dlogits, |logits| {
            let mut losses = [0.0; 3];
            reference::cross_entropy_forward(logits, &targets, weights, &mut losses);
            0.25 * dot(&losses, weights.unwrap_or(&[1.0; 3]))
        });
    }
}

#[test]
fn dropped_branch() {
    let (x, branch, dy, factors) = (random(1, 12), random(2, 12), random(3, 12), random(4, 12));
    let keep = |r: usize, c: usize| factors[r * 4 + c];
    let dbranch: Vec<f64> = dy.iter().zip(&factors).map(|(dy, f)| dy * f).collect();
    let value = |x: &[f64], branch: &[f64]| {
        let mut y = vec![0.0; 12];
        reference::add_dropped(x, branch, &keep, 4, &mut y);
        dot(&y, &dy)
    };
    check("dx", &x, &dy, |x| value(x, &branch));
    check("dbranch", &branch, &dbranch, |branch| value(&x, branch));
}
