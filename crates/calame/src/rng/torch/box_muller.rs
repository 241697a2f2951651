//! The Box-Muller transform (1958) as PyTorch computes it for sixteen f32 at a time on processors with AVX2.
//!
//! The polynomials come from S. Moshier's Cephes (logf, sinf, cosf). Results equal PyTorch's bit for bit because
//! exactly those products are fused with a sum that PyTorch's compiler fuses ([`f32::mul_add`], rounded once on
//! every machine). Rewriting an expression changes bits.

/// Converts one block of uniforms in [0, 1) to normals, pairing j with j + 8. `x` is overwritten.
pub(super) fn transform(x: &mut [f32; 16], mean: f32, std: f32) {
    let (low, high) = x.split_at_mut(8);
    for (a, b) in low.iter_mut().zip(high) {
        // 1 − u is in (0, 1], so its logarithm is finite.
        let radius = (-2.0 * ln(1.0 - *a)).sqrt();
        let (sin, cos) = sin_cos(std::f32::consts::TAU * *b);
        *a = (radius * cos).mul_add(std, mean);
        *b = (radius * sin).mul_add(std, mean);
    }
}

/// ln x for normal x > 0.
///
/// x = m·2ⁿ with √½ ≤ m < √2; a polynomial of degree 9 in m − 1; ln 2 in two parts.
#[inline(always)]
fn ln(x: f32) -> f32 {
    let half_to_one = f32::from_bits(x.to_bits() & 0x007f_ffff | 0x3f00_0000);
    let exponent = (x.to_bits() >> 23) as i32 - 126;
    let small = half_to_one < std::f32::consts::FRAC_1_SQRT_2;
    let m = half_to_one - 1.0 + if small { half_to_one } else { 0.0 };
    let n = (exponent - i32::from(small)) as f32;
    let p = 7.037_683_6e-2_f32.mul_add(m, -1.151_461e-1);
    let p = p.mul_add(m, 1.167_699_84e-1);
    let p = p.mul_add(m, -1.242_014_1e-1);
    let p = p.mul_add(m, 1.424_932_3e-1);
    let p = p.mul_add(m, -1.666_805_8e-1);
    let p = p.mul_add(m, 2.000_071_4e-1);
    let p = p.mul_add(m, -2.499_999_4e-1);
    let p = p.mul_add(m, 3.333_333e-1);
    let m2 = m * m;
    let p = (p * m).mul_add(m2, n * -2.121_944_4e-4);
    n.mul_add(0.693_359_4, m + m2.mul_add(-0.5, p))
}

/// (sin x, cos x) for 0 ≤ x ≤ 2π.
///
/// x = q·π/2 + r with |r| ≤ π/4, π/4 in three parts; polynomials in r, exchanged and negated according to the
/// quadrant q.
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    /// Number of octants per radian, 4/π.
    const OCTANTS: f32 = 1.273_239_5;
    let octant = ((x * OCTANTS) as i32 + 1) & !1;
    let y = octant as f32;
    let r = y.mul_add(-0.785_156_25, x);
    let r = y.mul_add(-2.418_756_5e-4, r);
    let r = y.mul_add(-3.774_895e-8, r);
    let r2 = r * r;
    let c = 2.443_315_7e-5_f32.mul_add(r2, -1.388_731_6e-3);
    let c = c.mul_add(r2, 4.166_664_6e-2);
    let c = (c * r2).mul_add(r2, r2 * -0.5) + 1.0;
    let s = (-1.951_529_6e-4_f32).mul_add(r2, 8.332_161e-3);
    let s = s.mul_add(r2, -1.666_665_5e-1);
    let s = (s * r2).mul_add(r, r);
    let odd = octant & 2 != 0;
    let (sin, cos) = if odd { (c, s) } else { (s, c) };
    // Signs in the four quadrants: sin + + − −, cos + − − +.
    let sin_sign = ((octant & 4) as u32) << 29;
    let cos_sign = ((!(octant - 2) & 4) as u32) << 29;
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ cos_sign))
}
