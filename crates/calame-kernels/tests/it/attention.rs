//! Attention compared with its reference: causal, over packed examples, and over pages of keys and values.

use std::ops::Range;

use calame_kernels::*;

use crate::bounds;
use crate::support::{EPSILON, assert_close, for_every_pool, nans, normals, numbers, to_f64, words};

/// B, T, NH, HS.
type Sizes = (usize, usize, usize, usize);

fn shape_of((n_sequences, n_positions, n_head, head_size): Sizes) -> AttentionShape {
    AttentionShape { n_sequences, n_positions, n_head, head_size }
}

/// GPT-2's scale of the scores, 1/√HS.
fn usual((_, _, _, head_size): Sizes) -> f32 {
    1.0 / (head_size as f32).sqrt()
}

/// The starts of the positions of a sequence that consists of examples of these lengths.
fn starts_of(lengths: &[usize]) -> Vec<u32> {
    let mut starts = Vec::new();
    for &n in lengths {
        starts.extend(vec![starts.len() as u32; n]);
    }
    starts
}

/// Runs forward and backward; returns y, lse and dqkv.
fn passes(
    pool: &Pool,
    precision: Precision,
    sizes: Sizes,
    scale: f32,
    qkv: &[f32],
    dy: &[f32],
    starts: Option<&[u32]>,
    keep: Option<&DropMask<'_>>,
) -> [Vec<f32>; 3] {
    let (b, t, nh, _) = sizes;
    let (mut y, mut lse, mut dqkv) = (nans(dy.len()), nans(b * t * nh), nans(qkv.len()));
    let shape = shape_of(sizes);
    attention_forward(pool, precision, shape, scale, qkv, starts, keep, &mut y, &mut lse);
    attention_backward(pool, precision, shape, scale, dy, qkv, starts, keep, &y, &lse, &mut dqkv);
    [y, lse, dqkv]
}

/// Compares forward and backward of one shape under every pool, without dropout and with both kinds of masks.
fn compare_with_reference(sizes: Sizes, scale: f32, starts: Option<&[u32]>) {
    let (b, t, nh, hs) = sizes;
    let c = nh * hs;
    let (qkv, dy) = (normals(1, b * t * 3 * c, 1.0), numbers(2, b * t * c));
    let (qkv64, dy64, scale64) = (to_f64(&qkv), to_f64(&dy), f64::from(scale));
    let words = words(5, b * nh * t * t.div_ceil(64));
    let stored = DropMask::stored(&words, nh * t, t, 1.25);
    for keep in [None, Some(DropMask::new(Key::from_seed(4), 2, 9, 0.3)), Some(stored)] {
        let factor =
            |s: usize, row: usize, k: usize| keep.as_ref().map_or(1.0, |keep| f64::from(keep.factor(s, row, k)));
        let (mut y64, mut dqkv64) = (vec![f64::NAN; b * t * c], vec![f64::NAN; qkv.len()]);
        reference::attention_forward(sizes, scale64, &qkv64, starts, &factor, &mut y64);
        reference::attention_backward(sizes, scale64, &dy64, &qkv64, starts, &factor, &mut dqkv64);
        for precision in Precision::ALL {
            let bounds = bounds::attention(sizes, scale64, &dy64, &qkv64, starts, &factor, precision);
            for_every_pool(|pool| {
                let [y, _, dqkv] = passes(pool, precision, sizes, scale, &qkv, &dy, starts, keep.as_ref());
                assert_close("y", &y, &y64, |i| bounds.y[i]);
                assert_close("dqkv", &dqkv, &dqkv64, |i| bounds.dqkv[i]);
                // The error is far above that of f32 if and only if operands are rounded to bf16.
                let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
                let apart = norm(&mut y.iter().zip(&y64).map(|(y, want)| f64::from(*y) - want));
                let is_rounded = apart > 1e-4 * norm(&mut y64.iter().copied());
                assert_eq!(is_rounded, precision == Precision::Bf16);
            });
        }
    }
}

#[test]
fn causal() {
    for sizes in [(1, 1, 1, 1), (2, 7, 3, 5), (1, 65, 2, 16), (2, 130, 1, 17), (1, 200, 2, 64)] {
        compare_with_reference(sizes, usual(sizes), None);
    }
}

/// Scores with a scale that is not 1/√HS. Far from it the bounds of bf16, which are of first order, do not hold.
#[test]
fn of_any_scale() {
    let sizes = (1, 65, 2, 16);
    for scale in [0.3, 0.2] {
        compare_with_reference(sizes, scale, None);
    }
}

#[test]
fn packed() {
    // Examples end inside and at the ends of panels, blocks of queries, and blocks of random numbers.
    let cases: [(&[usize], usize, usize); 9] = [
        (&[1], 1, 1),
        (&[3, 4], 3, 5),
        (&[7, 1, 8], 1, 7),
        (&[1, 16], 2, 16),
        (&[17, 30, 18], 2, 17),
        (&[64, 1], 1, 65),
        (&[65, 64, 1], 1, 16),
        (&[10, 118, 2], 1, 5),
        (&[128, 5, 60, 7], 2, 64),
    ];
    for (lengths, nh, hs) in cases {
        // The second sequence is one example: sequences have their own starts.
        let t = lengths.iter().sum();
        let starts = [starts_of(lengths), vec![0; t]].concat();
        let sizes = (2, t, nh, hs);
        compare_with_reference(sizes, usual(sizes), Some(&starts));
    }
}

/// A sliding window: the starts are not those of examples, but they do not decrease.
#[test]
fn a_window_is_a_mask_too() {
    let t = 150;
    let starts: Vec<u32> = (0..t).map(|q: u32| q.saturating_sub(20)).collect();
    let sizes = (1, t as usize, 2, 8);
    compare_with_reference(sizes, usual(sizes), Some(&starts));
}

#[test]
fn starts_of_zero_are_no_starts() {
    let sizes = (2, 130, 2, 17);
    let scale = usual(sizes);
    let (qkv, dy) = (normals(1, 2 * 130 * 3 * 34, 1.0), numbers(2, 2 * 130 * 34));
    let keep = DropMask::new(Key::from_seed(4), 2, 9, 0.3);
    for precision in Precision::ALL {
        for_every_pool(|pool| {
            let some = passes(pool, precision, sizes, scale, &qkv, &dy, Some(&[0; 260]), Some(&keep));
            assert!(some == passes(pool, precision, sizes, scale, &qkv, &dy, None, Some(&keep)));
        });
    }
}

/// Rows `range` of an array of rows of `width`.
fn rows<'a>(x: &'a [f32], range: &Range<usize>, width: usize) -> &'a [f32] {
    &x[range.start * width..range.end * width]
}

#[test]
fn a_packed_example_is_what_it_is_alone() {
    let (lengths, nh, hs, scale) = ([5, 64, 1, 61, 17], 2, 16, 0.25);
    let (t, c) = (lengths.iter().sum(), nh * hs);
    let (qkv, dy) = (normals(1, t * 3 * c, 1.0), numbers(2, t * c));
    let starts = starts_of(&lengths);
    for precision in Precision::ALL {
        for_every_pool(|pool| {
            let [y, lse, dqkv] = passes(pool, precision, (1, t, nh, hs), scale, &qkv, &dy, Some(&starts), None);
            let mut from = 0;
            for n in lengths {
                let range = from..from + n;
                from += n;
                let (qkv, dy) = (rows(&qkv, &range, 3 * c), rows(&dy, &range, c));
                let sizes = (1, n, nh, hs);
                let alone = passes(pool, precision, sizes, scale, qkv, dy, None, None);
                let (scale64, dy64, qkv64) = (f64::from(scale), to_f64(dy), to_f64(qkv));
                let bounds = bounds::attention(sizes, scale64, &dy64, &qkv64, None, &|_, _, _| 1.0, precision);
                // Each of the two may have this error.
                assert_close("y", rows(&y, &range, c), &to_f64(&alone[0]), |i| 2.0 * bounds.y[i]);
                assert_close("dqkv", rows(&dqkv, &range, 3 * c), &to_f64(&alone[2]), |i| 2.0 * bounds.dqkv[i]);
                for h in 0..nh {
                    let lse = &lse[h * t + range.start..h * t + range.end];
                    let want = to_f64(&alone[1][h * n..(h + 1) * n]);
                    assert_close("lse", lse, &want, |i| 64.0 * EPSILON * (1.0 + want[i].abs()));
                }
            }
        });
    }
}

#[test]
fn an_example_does_not_see_the_others() {
    let (lengths, nh, hs, scale) = ([10, 70, 3, 30], 2, 16, 0.25);
    let (t, c) = (lengths.iter().sum(), nh * hs);
    let (qkv, dy) = (normals(1, t * 3 * c, 1.0), numbers(2, t * c));
    let starts = starts_of(&lengths);
    let changed = 10..80;
    // The values are so large that any weight other than 0 would change the other examples.
    let large = |x: &[f32], width: usize| -> Vec<f32> {
        x.iter().enumerate().map(|(i, x)| if changed.contains(&(i / width)) { 1e15 * x } else { *x }).collect()
    };
    for precision in Precision::ALL {
        for_every_pool(|pool| {
            let before = passes(pool, precision, (1, t, nh, hs), scale, &qkv, &dy, Some(&starts), None);
            let (qkv, dy) = (large(&qkv, 3 * c), large(&dy, c));
            let after = passes(pool, precision, (1, t, nh, hs), scale, &qkv, &dy, Some(&starts), None);
            for others in [0..10, 80..t] {
                assert!(rows(&before[0], &others, c) == rows(&after[0], &others, c));
                assert!(rows(&before[2], &others, 3 * c) == rows(&after[2], &others, 3 * c));
            }
        });
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let (lengths, nh, hs, scale) = ([17, 65, 1, 7, 40], 3, 16, 0.25);
    let (t, c) = (lengths.iter().sum(), nh * hs);
    let (qkv, dy) = (normals(1, 2 * t * 3 * c, 1.0), numbers(2, 2 * t * c));
    let packed = starts_of(&lengths).repeat(2);
    let keep = DropMask::new(Key::from_seed(4), 2, 9, 0.3);
    for starts in [None, Some(&packed[..])] {
        for isa in Isa::available() {
            for precision in Precision::ALL {
                let bits = |n_threads| {
                    let (pool, sizes) = (Pool::new(n_threads, isa), (2, t, nh, hs));
                    passes(&pool, precision, sizes, scale, &qkv, &dy, starts, Some(&keep))
                };
                let one = bits(1);
                assert!(one == bits(2) && one == bits(3), "{isa}, {precision}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "a scale of 0")]
fn a_scale_of_zero_is_refused() {
    let (pool, shape) = (Pool::new(1, Isa::Portable), shape_of((1, 1, 1, 1)));
    attention_forward(&pool, Precision::F32, shape, 0.0, &[0.0; 3], None, None, &mut [0.0], &mut [0.0]);
}

fn forward_with_starts(starts: &[u32]) {
    let (pool, shape) = (Pool::new(1, Isa::Portable), shape_of((1, 3, 1, 1)));
    attention_forward(&pool, Precision::F32, shape, 1.0, &[0.0; 9], Some(starts), None, &mut [0.0; 3], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "attention: position 1 of sequence 0 starts at 2")]
fn a_start_after_its_position_is_named() {
    forward_with_starts(&[0, 2, 2]);
}

#[test]
#[should_panic(expected = "attention: position 2 of sequence 0 starts at 0, the one before it at 1")]
fn starts_that_decrease_are_named() {
    forward_with_starts(&[0, 1, 0]);
}

/// Page tables of two sequences, of 5 and 3 pages of 8 positions, whose pages alternate in the store.
const TABLE: [u32; 8] = [7, 5, 3, 1, 6, 0, 2, 4];
const PAGES: KvPages<'static> = KvPages { page_len: 8, table: &TABLE, starts: &[0, 5] };
const N_POSITIONS: [u32; 2] = [37, 20];

/// The sequence and the position of each row of both sequences.
fn rows_of_pages() -> (Vec<u32>, Vec<u32>) {
    (0..2).flat_map(|s: u32| (0..N_POSITIONS[s as usize]).map(move |t| (s, t))).unzip()
}

#[test]
fn over_pages() {
    for (nh, hs, scale) in [(1, 1, 1.0), (3, 5, 0.3), (2, 16, 0.25), (1, 65, 0.0625), (2, 5, 1.0)] {
        let (c, scale64) = (nh * hs, f64::from(scale));
        let (sequences, positions) = rows_of_pages();
        let rows = positions.len();
        let qkv = normals(1, rows * 3 * c, 1.0);
        let store = || vec![7.0; 64 * c];
        let (mut keys64, mut values64, mut want) = (to_f64(&store()), to_f64(&store()), vec![f64::NAN; rows * c]);
        let qkv64 = to_f64(&qkv);
        reference::store_kv(&qkv64, (nh, hs), &sequences, &positions, PAGES, &mut keys64, &mut values64);
        let (k, v) = (&keys64, &values64);
        reference::attention_extend(&qkv64, (nh, hs), scale64, &sequences, &positions, PAGES, k, v, &mut want);
        // The reference over pages equals causal attention.
        for (s, from) in [(0, 0), (1, N_POSITIONS[0] as usize)] {
            let t = N_POSITIONS[s] as usize;
            let mut whole = vec![f64::NAN; t * c];
            let qkv = &qkv64[from * 3 * c..(from + t) * 3 * c];
            reference::attention_forward((1, t, nh, hs), scale64, qkv, None, &|_, _, _| 1.0, &mut whole);
            assert!(whole.iter().zip(&want[from * c..]).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        for_every_pool(|pool| {
            let (mut keys, mut values) = (store(), store());
            store_kv(pool, &qkv, (nh, hs), &sequences, &positions, PAGES, &mut keys, &mut values);
            assert_eq!((to_f64(&keys), to_f64(&values)), (keys64.clone(), values64.clone()));
            let mut y = nans(rows * c);
            attention_extend(pool, &qkv, nh, hs, scale, &sequences, &positions, PAGES, &keys, &values, &mut y);
            let t = N_POSITIONS[0] as usize;
            assert_close("y", &y, &want, |_| (t + 16 * hs) as f64 * EPSILON * 8.0);
            // A row computed alone has the same bits.
            for r in [0, 20, t + 19] {
                let mut one = nans(c);
                let (qkv, s, p) = (&qkv[r * 3 * c..(r + 1) * 3 * c], &sequences[r..=r], &positions[r..=r]);
                attention_extend(pool, qkv, nh, hs, scale, s, p, PAGES, &keys, &values, &mut one);
                assert_eq!(one, y[r * c..(r + 1) * c]);
            }
        });
    }
}

/// A long sequence and a short one: several segments, blocks of rows that see different numbers of pages, and few rows,
/// whose segments are merged afterwards.
#[test]
fn over_many_pages() {
    for (nh, hs) in [(2, 20), (2, 64)] {
        over_pages_of(nh, hs);
    }
}

fn over_pages_of(nh: usize, hs: usize) {
    const LONG: usize = 600;
    let (scale, page_len) = (0.25, 64);
    let c = nh * hs;
    let table: Vec<u32> = (0..14).map(|p| p * 5 % 14).collect();
    let pages = KvPages { page_len, table: &table, starts: &[0, 10] };
    let rows_of = |s: u32, n: usize| (0..n as u32).map(move |t| (s, t));
    let (sequences, positions): (Vec<u32>, Vec<u32>) = rows_of(0, LONG).chain(rows_of(1, 70)).unzip();
    let rows = positions.len();
    let qkv = normals(1, rows * 3 * c, 1.0);
    let (qkv64, store64) = (to_f64(&qkv), vec![7.0; 14 * page_len * c]);
    let (mut keys64, mut values64, mut want) = (store64.clone(), store64, vec![f64::NAN; rows * c]);
    reference::store_kv(&qkv64, (nh, hs), &sequences, &positions, pages, &mut keys64, &mut values64);
    let scale64 = f64::from(scale);
    reference::attention_extend(
        &qkv64,
        (nh, hs),
        scale64,
        &sequences,
        &positions,
        pages,
        &keys64,
        &values64,
        &mut want,
    );
    for_every_pool(|pool| {
        let store = || vec![7.0; 14 * page_len * c];
        let (mut keys, mut values) = (store(), store());
        store_kv(pool, &qkv, (nh, hs), &sequences, &positions, pages, &mut keys, &mut values);
        let extend = |rows: &[usize]| {
            let part = |r: &usize| qkv[r * 3 * c..(r + 1) * 3 * c].to_vec();
            let qkv: Vec<f32> = rows.iter().flat_map(part).collect();
            let of = |all: &[u32]| rows.iter().map(|&r| all[r]).collect::<Vec<u32>>();
            let (sequences, positions, mut y) = (of(&sequences), of(&positions), nans(rows.len() * c));
            attention_extend(pool, &qkv, nh, hs, scale, &sequences, &positions, pages, &keys, &values, &mut y);
            y
        };
        let all = extend(&(0..rows).collect::<Vec<usize>>());
        assert_close("y", &all, &want, |_| (LONG + 16 * hs) as f64 * EPSILON * 8.0);
        // Any choice of rows gives each the same bits.
        let choices: [&[usize]; 7] = [
            &[599],
            &[255, 256, 511, 512],
            &[3, 640, 599],
            &[10, 300, 301, 302, 598, 599],
            &[669, 0],
            &[250, 251, 252, 253, 254, 255, 256, 257, 258, 259, 260, 261, 262, 263, 264, 265],
            &[600, 601, 602, 603, 604, 605, 0, 1, 2, 3, 4, 5],
        ];
        for chosen in choices {
            let want: Vec<f32> = chosen.iter().flat_map(|r| all[r * c..(r + 1) * c].to_vec()).collect();
            assert_eq!(extend(chosen), want, "{chosen:?} on {}", pool.isa());
        }
    });
}

/// There are enough rows and channels for several tasks, pages shared by two sequences, and rows with the same
/// position.
#[test]
fn keys_and_values_are_stored_by_any_number_of_threads() {
    let (rows, c) = (600, 300);
    let qkv = numbers(1, rows * 3 * c);
    let table: Vec<u32> = (0..40).map(|p| p * 7 % 40).collect();
    let pages = KvPages { page_len: 16, table: &table, starts: &[0, 10, 10] };
    let sequences: Vec<u32> = (0..rows as u32).map(|r| r % 3).collect();
    let positions: Vec<u32> = (0..rows as u32).map(|r| r * 31 % 160).collect();
    let store = || vec![7.0f32; 40 * 16 * c];
    let (mut keys, mut values) = (store(), store());
    reference::store_kv(&qkv, (3, 100), &sequences, &positions, pages, &mut keys, &mut values);
    for n_threads in [1, 2, 3] {
        let pool = Pool::new(n_threads, Isa::detect());
        let (mut k, mut v) = (store(), store());
        store_kv(&pool, &qkv, (3, 100), &sequences, &positions, pages, &mut k, &mut v);
        assert!(k == keys && v == values);
    }
}

#[test]
#[should_panic(expected = "store_kv: page 3 of sequence 1 is None in a store of 64 rows, 8 to a page")]
fn a_position_without_a_page_is_named() {
    let pool = Pool::new(1, Isa::Portable);
    store_kv(&pool, &[0.0; 3], (1, 1), &[1], &[24], PAGES, &mut [0.0; 64], &mut [0.0; 64]);
}

#[test]
#[should_panic(expected = "attention_extend: page 0 of sequence 0 is Some(7) in a store of 63 rows, 8 to a page")]
fn a_page_outside_its_store_is_named() {
    let pool = Pool::new(1, Isa::Portable);
    attention_extend(&pool, &[0.0; 3], 1, 1, 1.0, &[0], &[0], PAGES, &[0.0; 63], &[0.0; 63], &mut [0.0]);
}
