//! Cross-entropy over the vocabulary: comparison with the reference, weights of rows, invalid targets.

use calame_kernels::{Isa, Pool, cross_entropy_forward, cross_entropy_forward_backward, reference, sum_losses};

use crate::support::{EPSILON, assert_close, for_every_pool, nans, normals, to_f64};

const ROWS: usize = 5;

/// The losses and the gradient, with a scale of 0.5.
fn losses_and_gradient(pool: &Pool, logits: &[f32], targets: &[u32], weights: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
    let (mut z, mut losses) = (logits.to_vec(), nans(ROWS));
    cross_entropy_forward(pool, &mut z, targets, weights, &mut losses);
    let (mut z, mut again) = (logits.to_vec(), nans(ROWS));
    cross_entropy_forward_backward(pool, &mut z, targets, weights, &mut again, 0.5);
    assert_eq!(losses, again);
    (losses, z)
}

#[test]
fn losses_and_gradients_agree_with_the_reference() {
    for v in [1, 7, 16, 17, 65, 50_257] {
        let targets: Vec<u32> = (0..ROWS).map(|r| (r * 31 % v) as u32).collect();
        let logits = normals(1, ROWS * v, 4.0);
        for weights in [None, Some([1.0, 0.25, 0.0, -2.0, 1e-3])] {
            let weights = weights.as_ref().map(<[f32; ROWS]>::as_slice);
            let weights64 = weights.map(to_f64);
            let z64 = to_f64(&logits);
            let (mut losses64, mut dz64) = (vec![f64::NAN; ROWS], vec![f64::NAN; ROWS * v]);
            reference::cross_entropy_forward(&z64, &targets, weights64.as_deref(), &mut losses64);
            reference::cross_entropy_backward(&z64, &targets, weights64.as_deref(), 0.5, &mut dz64);
            for_every_pool(|pool| {
                let (losses, z) = losses_and_gradient(pool, &logits, &targets, weights);
                let tolerance = (v as f64 / 16.0 + 64.0) * EPSILON;
                assert_close("loss", &losses, &losses64, |i| tolerance * (1.0 + losses64[i]));
                let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[i / v].abs()));
                assert_close("dlogits", &z, &dz64, |i| tolerance * (dz64[i].abs() + EPSILON * weight(i)));
            });
        }
    }
}

#[test]
fn no_weights_are_weights_of_one_and_zero_skips_a_row() {
    let v = 1000;
    let logits = normals(1, ROWS * v, 4.0);
    let targets: Vec<u32> = (0..ROWS as u32).collect();
    for_every_pool(|pool| {
        let (losses, dz) = losses_and_gradient(pool, &logits, &targets, None);
        assert_eq!(losses_and_gradient(pool, &logits, &targets, Some(&[1.0; ROWS])), (losses.clone(), dz.clone()));
        // The second row's target is outside the vocabulary and its logits are NaN, but its weight is 0.
        let (mut targets, mut logits) = (targets.clone(), logits.clone());
        targets[1] = u32::MAX;
        logits[v..2 * v].fill(f32::NAN);
        let (some, some_dz) = losses_and_gradient(pool, &logits, &targets, Some(&[1.0, 0.0, 1.0, 1.0, -0.0]));
        assert_eq!(some, [losses[0], 0.0, losses[2], losses[3], 0.0]);
        assert!(some_dz[v..2 * v].iter().chain(&some_dz[4 * v..]).all(|dz| dz.to_bits() == 0));
        assert_eq!((&some_dz[..v], &some_dz[2 * v..4 * v]), (&dz[..v], &dz[2 * v..4 * v]));
    });
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let (logits, targets) = (normals(1, ROWS * 777, 4.0), [3, 1, 4, 1, 5]);
    let bits = |n_threads| {
        let pool = Pool::new(n_threads, Isa::detect());
        let (losses, dz) = losses_and_gradient(&pool, &logits, &targets, Some(&[1.0, 0.3, 0.0, 2.0, -1.0]));
        losses.iter().chain(&dz).map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    assert!(bits(1) == bits(2) && bits(2) == bits(3));
}

#[test]
fn sums_of_losses() {
    for n in [0, 1, 7, 16, 17, 65, 5000] {
        let losses: Vec<f32> = normals(1, n, 3.0);
        let weights: Vec<f32> = normals(2, n, 1.0).into_iter().map(|w| if w < 0.0 { 0.0 } else { w }).collect();
        let plain: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        assert_eq!(sum_losses(&losses, None).to_bits(), plain.to_bits());
        assert_eq!(sum_losses(&losses, Some(&vec![1.0; n])).to_bits(), plain.to_bits());
        let want = reference::sum_losses(&to_f64(&losses), Some(&to_f64(&weights)));
        assert_eq!(sum_losses(&losses, Some(&weights)).to_bits(), want.to_bits());
    }
    assert_eq!(sum_losses(&[f32::NAN, 2.0, 3.0], Some(&[0.0, 0.5, -1.0])), -2.0);
}

#[test]
#[should_panic(expected = "sum_losses: 2 losses, 3 weights")]
fn a_wrong_number_of_weights_of_a_sum_is_named() {
    sum_losses(&[1.0; 2], Some(&[1.0; 3]));
}

#[test]
#[should_panic(expected = "cross entropy: target 7 of row 1 is outside the vocabulary of 7")]
fn a_target_outside_the_vocabulary_is_named() {
    let pool = Pool::new(2, Isa::Portable);
    cross_entropy_forward(&pool, &mut [0.0; 14], &[6, 7], None, &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "cross entropy: 2 targets, 2 losses, Some(3) weights")]
fn a_wrong_number_of_weights_is_named() {
    let pool = Pool::new(1, Isa::Portable);
    cross_entropy_forward(&pool, &mut [0.0; 14], &[6, 6], Some(&[1.0; 3]), &mut [0.0; 2]);
}
