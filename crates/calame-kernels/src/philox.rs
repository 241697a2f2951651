//! Philox4x32-10, a counter-based generator: random bits as a function of a key and a counter.
//!
//! J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The number of an element can be computed
//! at any time and on any thread, and recomputed in the backward pass, so that nothing is stored.

use crate::math::LANES;

const M0: u64 = 0xD251_1F53;
const M1: u64 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;
const ROUNDS: usize = 10;

/// How many random numbers a call of [`block`] returns.
pub(crate) const BLOCK: usize = 4 * LANES;

/// A key of the generator, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub [u32; 2]);

impl Key {
    /// The key whose bits are those of `seed`.
    pub fn from_seed(seed: u64) -> Key {
        Key([seed as u32, (seed >> 32) as u32])
    }

    /// A key derived from this one and `index`, for practical purposes independent of the keys of other indices.
    pub fn derive(self, index: u64) -> Key {
        let [a, b, ..] = philox([index as u32, (index >> 32) as u32, 0x6B65_7973, 0], self);
        Key([a, b])
    }
}

/// The four random numbers of a counter.
pub fn philox(counter: [u32; 4], key: Key) -> [u32; 4] {
    let mut c = counter;
    let mut k = key.0;
    for _ in 0..ROUNDS {
        let (p0, p1) = (M0 * u64::from(c[0]), M1 * u64::from(c[2]));
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(W0), k[1].wrapping_add(W1)];
    }
    c
}

/// The 64 numbers of sixteen consecutive counters `[16·index + lane, row, sequence, site]`.
///
/// Number i is word i / 16 of lane i mod 16, so that a vector of lanes holds consecutive numbers.
///
/// The state is in the low halves of 64-bit lanes, whose high halves are arbitrary. Vector instructions multiply the
/// low halves of 64-bit lanes, so that nothing moves between lanes before the end; this halves the time of attention's
/// dropout.
#[inline(always)]
pub(crate) fn block(index: u32, rest: [u32; 3], key: Key) -> [[u32; LANES]; 4] {
    const LOW: u64 = u32::MAX as u64;
    let mut c = [0, rest[0], rest[1], rest[2]].map(|word| [u64::from(word); LANES]);
    for (lane, c) in c[0].iter_mut().enumerate() {
        *c = u64::from(index.wrapping_mul(LANES as u32).wrapping_add(lane as u32));
    }
    let mut k = key.0;
    for _ in 0..ROUNDS {
        #[allow(clippy::needless_range_loop, reason = "four arrays in step")]
        for lane in 0..LANES {
            let (p0, p1) = (M0 * (c[0][lane] & LOW), M1 * (c[2][lane] & LOW));
            c[0][lane] = p1 >> 32 ^ c[1][lane] ^ u64::from(k[0]);
            c[1][lane] = p1;
            c[2][lane] = p0 >> 32 ^ c[3][lane] ^ u64::from(k[1]);
            c[3][lane] = p0;
        }
        k = [k[0].wrapping_add(W0), k[1].wrapping_add(W1)];
    }
    let mut words = [[0; LANES]; 4];
    for (to, from) in words.iter_mut().zip(&c) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as u32);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the authors' test suite (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], Key([0; 2])), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], Key([u32::MAX; 2])), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], Key([0xa409_3822, 0x299f_31d0])),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn block_is_sixteen_counters() {
        let key = Key::from_seed(0x1234_5678_9abc_def0);
        let words = block(3, [7, 8, 9], key);
        for lane in 0..LANES {
            let one = philox([48 + lane as u32, 7, 8, 9], key);
            assert_eq!(one, words.map(|word| word[lane]));
        }
    }
}
