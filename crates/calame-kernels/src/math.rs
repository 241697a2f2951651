//! Elementary functions without branches, so that loops over them are vectorised, and sums in a fixed order.

/// Number of lanes of a sum, for every instruction set: element i is added to lane i mod 16.
pub(crate) const LANES: usize = 16;

/// e^x, within 2 units in the last place for −87.3 ≤ x ≤ 88.3; x is clamped to these bounds. NaN stays NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 is in two parts so that r is exact to f32. Then Cephes' polynomial of
/// degree 6.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    #[allow(clippy::manual_clamp)]
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // The low bits of the sum hold n; shifted to the exponent they are 2^n. The other bits are shifted out.
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// ln x for normal, finite x > 0, within 2 units in the last place of the result, or of ½ if the result is smaller.
///
/// For other x, NaN included, the result is an arbitrary finite number; use `f32::ln` where x may be NaN.
///
/// x = m·2ⁿ with √½ ≤ m < √2; Cephes' polynomial of degree 9 in m − 1, and ln 2 in two parts.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // The bits of √½ are subtracted, so that the exponent changes at √½·2ⁿ.
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let n = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let p = 7.037_683_6e-2 * m - 1.151_461e-1;
    let p = p * m + 1.167_699_84e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_7e-1;
    let p = p * m + 2.000_071_4e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let m2 = m * m;
    n * 0.693_359_4 + (m + (p * m * m2 - 0.5 * m2 + n * -2.121_944_4e-4))
}

/// (sin 2πt, cos 2πt) for 0 ≤ t < 1, within 2e-7.
///
/// t = q/4 + r with |r| ≤ 1/8; Cephes' polynomials for 2πr, then q rotations by a quarter turn.
#[inline(always)]
pub(crate) fn sin_cos_turns(t: f32) -> (f32, f32) {
    /// 1.5·2²³, as in [`exp`].
    const ROUND: f32 = 12_582_912.0;
    let shifted = t * 4.0 + ROUND;
    let quarter = shifted.to_bits();
    // The difference is exact: both terms are multiples of the last place of t.
    let a = (t - (shifted - ROUND) * 0.25) * std::f32::consts::TAU;
    let a2 = a * a;
    let sin = ((-1.951_529_6e-4 * a2 + 8.332_161e-3) * a2 - 1.666_665_5e-1) * a2 * a + a;
    let cos = ((2.443_315_7e-5 * a2 - 1.388_731_6e-3) * a2 + 4.166_664_6e-2) * a2 * a2 - 0.5 * a2 + 1.0;
    let odd = quarter & 1 == 1;
    let (s, c) = if odd { (cos, sin) } else { (sin, cos) };
    // Signs in the four quarters: sin + + − −, cos + − − +.
    let s = f32::from_bits(s.to_bits() ^ (quarter & 2) << 30);
    let c = f32::from_bits(c.to_bits() ^ (quarter.wrapping_add(1) & 2) << 30);
    (s, c)
}

/// The logistic function 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Reduces sixteen lanes pairwise.
#[inline(always)]
pub(crate) fn reduce(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

/// Sums `f(x[i])` in lanes.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f(x);
    }
    reduce(lanes, |a, b| a + b)
}

/// Sums `f(x[i], y[i])` in lanes.
#[inline(always)]
pub(crate) fn sum_of2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(xs.remainder()).zip(ys.remainder()) {
        *lane += f(x, y);
    }
    reduce(lanes, |a, b| a + b)
}

/// The greatest element, or −∞ if there is none. NaNs are skipped (they show in the sum of exponentials).
#[inline(always)]
pub(crate) fn max_of(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = larger(*lane, x);
    }
    reduce(lanes, larger)
}

/// x ← e^(scale·(x − max)); returns the sum.
#[inline(always)]
pub(crate) fn exp_and_sum(x: &mut [f32], max: f32, scale: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(scale * (*x - max));
            *lane += *x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *x = exp(scale * (*x - max));
        *lane += *x;
    }
    reduce(lanes, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_close() {
        // Every second argument that `fill_normal` uses, and some above 1.
        let below_one = (1..1u32 << 24).step_by(2).map(|i| i as f32 / 16_777_216.0);
        for x in below_one.chain((1..10_000).map(|i| i as f32 * 0.37)) {
            let (got, want) = (f64::from(ln(x)), f64::from(x).ln());
            assert!((got - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want.abs().max(0.5), "ln {x}: {got}, {want}");
        }
    }

    #[test]
    fn sin_and_cos_are_close_all_the_way_round() {
        for i in (0..1u32 << 24).step_by(7) {
            let t = i as f32 / 16_777_216.0;
            let (sin, cos) = sin_cos_turns(t);
            let (want_sin, want_cos) = (std::f64::consts::TAU * f64::from(t)).sin_cos();
            assert!((f64::from(sin) - want_sin).abs() < 2e-7, "sin of {t} turns: {sin}, {want_sin}");
            assert!((f64::from(cos) - want_cos).abs() < 2e-7, "cos of {t} turns: {cos}, {want_cos}");
        }
    }

    #[test]
    fn exp_is_within_two_units() {
        let mut worst: f64 = 0.0;
        for i in 0..2_000_000 {
            let x = -87.0 + 175.0 * (i as f32 / 2_000_000.0);
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max((got - want).abs() / want);
        }
        assert!(worst <= 2.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(1e30) > 1e38);
    }
}
