//! Random numbers and dropout masks.

use calame_kernels::{DropMask, Isa, Key, Pool, drop_elements, fill_normal, fill_uniform};

use crate::support::{for_every_pool, nans};

fn moments(x: &[f32]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance)
}

#[test]
fn moments_are_those_of_the_distribution() {
    let pool = Pool::new(2, Isa::detect());
    let n = 1_000_003;
    let mut x = nans(n);
    fill_uniform(&pool, Key::from_seed(1), -2.0, 3.0, &mut x);
    let (mean, variance) = moments(&x);
    assert!(x.iter().all(|&x| (-2.0..3.0).contains(&x)));
    // Five standard errors: that of the mean is σ/√n, that of the variance √((κ − 1)/n)·σ² with κ the kurtosis.
    assert!((mean - 0.5).abs() < 5.0 * (25.0f64 / 12.0 / n as f64).sqrt());
    assert!((variance / (25.0 / 12.0) - 1.0).abs() < 5.0 * (0.8 / n as f64).sqrt());
    fill_normal(&pool, Key::from_seed(1), 1.0, 2.0, &mut x);
    let (mean, variance) = moments(&x);
    assert!((mean - 1.0).abs() < 5.0 * 2.0 / (n as f64).sqrt());
    assert!((variance / 4.0 - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
    let beyond = x.iter().filter(|&&x| (x - 1.0).abs() > 6.0).count() as f64 / n as f64;
    assert!((0.002..0.0035).contains(&beyond), "share beyond three standard deviations: {beyond}");
}

#[test]
fn fills_are_a_function_of_key_and_index() {
    let key = Key::from_seed(9).derive(4);
    let mut uniform = nans(40_001);
    fill_uniform(&Pool::new(1, Isa::Portable), key, 0.0, 1.0, &mut uniform);
    let mut first: Option<Vec<f32>> = None;
    for_every_pool(|pool| {
        let mut x = nans(40_001);
        fill_uniform(pool, key, 0.0, 1.0, &mut x);
        assert_eq!(x, uniform);
        let mut shorter = nans(20_000);
        fill_uniform(pool, key, 0.0, 1.0, &mut shorter);
        assert_eq!(shorter, x[..20_000]);
    });
    for isa in Isa::available() {
        let mut x = nans(40_001);
        fill_normal(&Pool::new(3, isa), Key::from_seed(9), 0.0, 1.0, &mut x);
        match &first {
            None => first = Some(x),
            Some(first) => assert!(first.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-5)),
        }
    }
}

#[test]
fn derived_keys_differ() {
    let key = Key::from_seed(7);
    let keys: std::collections::HashSet<[u32; 2]> = (0..10_000).map(|i| key.derive(i).0).collect();
    assert_eq!(keys.len(), 10_000);
}

#[test]
fn dropout_equals_its_definition_and_keeps_the_expected_share() {
    let (rows, rows_per_sequence, cols) = (35, 7, 129);
    let x: Vec<f32> = (0..rows * cols).map(|i| i as f32 + 1.0).collect();
    for p in [0.0, 0.1, 0.5, 0.9] {
        let keep = DropMask::new(Key::from_seed(3), 5, 2, p);
        for_every_pool(|pool| {
            let mut y = nans(x.len());
            drop_elements(pool, &x, &keep, rows_per_sequence, cols, &mut y);
            for (i, y) in y.iter().enumerate() {
                let (row, column) = (i / cols, i % cols);
                let factor = keep.factor(row / rows_per_sequence, row % rows_per_sequence, column);
                assert_eq!(*y, x[i] * factor);
            }
        });
        let n = 200_000;
        let factors: Vec<f32> = (0..n).map(|i| keep.factor(i / 5000, i / 100 % 50, i % 100)).collect();
        // Kept elements make up for the dropped ones: the mean stays.
        assert!(factors.iter().all(|&factor| factor == 0.0 || (factor * (1.0 - p) - 1.0).abs() < 1e-6));
        let kept = factors.iter().filter(|&&factor| factor != 0.0).count() as f64;
        let share = f64::from(1.0 - p);
        assert!((kept / n as f64 - share).abs() <= 5.0 * (share * (1.0 - share) / n as f64).sqrt());
    }
}

/// The factors of a sequence's rows 0 and 1, 500 columns each.
fn factors(mask: &DropMask<'_>, sequence: usize) -> Vec<f32> {
    (0..1000).map(|i| mask.factor(sequence, i / 500, i % 500)).collect()
}

#[test]
fn masks_depend_on_the_index_in_the_whole_batch() {
    let whole = DropMask::new(Key::from_seed(3), 0, 2, 0.5);
    let second_half = DropMask::new(Key::from_seed(3), 4, 2, 0.5);
    assert_eq!(factors(&whole, 4), factors(&second_half, 0));
    assert_eq!(factors(&whole, 5), factors(&second_half, 1));
}

/// Two masks of p = 0.5 agree in about half of their elements if one does not follow from the other.
#[test]
fn seeds_sites_sequences_and_rows_have_masks_of_their_own() {
    let mask = |seed, site| DropMask::new(Key::from_seed(seed), 0, site, 0.5);
    let one = factors(&mask(3, 2), 0);
    for (what, other) in [
        ("another seed", factors(&mask(4, 2), 0)),
        ("another site", factors(&mask(3, 6), 0)),
        ("another sequence", factors(&mask(3, 2), 1)),
        ("the next row", [&one[500..], &one[..500]].concat()),
    ] {
        let n_same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        // Eight standard deviations of 1000 tosses.
        assert!((374..=626).contains(&n_same), "{what}: {n_same} of 1000 elements agree");
    }
}
