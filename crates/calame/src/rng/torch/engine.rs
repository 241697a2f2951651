//! MT19937 as PyTorch seeds and reads it, and its serialized state.

use serde::{Deserialize, Serialize};

/// Number of 32-bit words in the state.
const N: usize = 624;
/// Offset of the word that the recurrence mixes in.
const M: usize = 397;

/// A deserialized state that no generator can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The number of words is not 624.
    #[error("state of the torch generator: key `words`: expected {N} numbers, found {found}")]
    WordCount {
        /// Number of words in the state.
        found: usize,
    },
    /// All words are zero, a state that the recurrence never leaves.
    #[error("state of the torch generator: key `words`: expected some bits set, found all zero")]
    AllZero,
    /// The position is past the last word.
    #[error("state of the torch generator: key `next`: expected at most {N}, found {found}")]
    Place {
        /// The position in the state.
        found: usize,
    },
    /// The kept normal is not a value that a draw can produce.
    #[error("state of the torch generator: key `kept_normal`: expected the bits of a finite f64, found {bits:#018x}")]
    KeptNormal {
        /// Bit pattern of the kept f64.
        bits: u64,
    },
}

/// The serialized form of a generator, part of a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    words: Vec<u32>,
    next: usize,
    /// Bits of the spare normal in two halves, the high one first: a decimal fraction may not round-trip, and
    /// TOML has no u64.
    kept_normal: Option<[u32; 2]>,
}

impl State {
    pub(super) fn new(engine: &Mt19937, kept_normal: Option<f64>) -> State {
        let halves = |x: f64| [(x.to_bits() >> 32) as u32, x.to_bits() as u32];
        State { words: engine.words.to_vec(), next: engine.next, kept_normal: kept_normal.map(halves) }
    }

    pub(super) fn check(self) -> Result<(Mt19937, Option<f64>), StateError> {
        let words: [u32; N] =
            self.words.try_into().map_err(|words: Vec<u32>| StateError::WordCount { found: words.len() })?;
        if words.iter().all(|&word| word == 0) {
            return Err(StateError::AllZero);
        }
        if self.next > N {
            return Err(StateError::Place { found: self.next });
        }
        let kept_normal = self.kept_normal.map(|[high, low]| f64::from_bits(u64::from(high) << 32 | u64::from(low)));
        match kept_normal {
            Some(x) if !x.is_finite() => Err(StateError::KeptNormal { bits: x.to_bits() }),
            _ => Ok((Mt19937 { words, next: self.next }, kept_normal)),
        }
    }
}

/// The Mersenne Twister of M. Matsumoto and T. Nishimura, ACM TOMACS 8 (1998), with their initialisation of 2002.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mt19937 {
    words: [u32; N],
    /// Index of the next word; N if all have been used.
    next: usize,
}

impl Mt19937 {
    /// Seeds the generator with the low 32 bits of `seed`.
    pub(super) fn new(seed: u64) -> Mt19937 {
        let mut words = [seed as u32; N];
        for i in 1..N {
            let last = words[i - 1];
            words[i] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Mt19937 { words, next: N }
    }

    #[inline]
    pub(super) fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.renew();
        }
        let word = self.words[self.next];
        self.next += 1;
        temper(word)
    }

    /// Fills `x` with f of consecutive words, block by block so that the compiler can vectorise.
    #[inline]
    pub(super) fn fill<T>(&mut self, mut x: &mut [T], f: impl Fn(u32) -> T) {
        while !x.is_empty() {
            if self.next == N {
                self.renew();
            }
            let ready = &self.words[self.next..];
            let n = ready.len().min(x.len());
            let (now, later) = x.split_at_mut(n);
            now.iter_mut().zip(ready).for_each(|(x, &word)| *x = f(temper(word)));
            self.next += n;
            x = later;
        }
    }

    /// Computes the next N words. Uses three loops, because the mixed-in word is ahead in the first and behind
    /// in the second.
    fn renew(&mut self) {
        let words = &mut self.words;
        for i in 0..N - M {
            words[i] = words[i + M] ^ twist(words[i], words[i + 1]);
        }
        for i in N - M..N - 1 {
            words[i] = words[i + M - N] ^ twist(words[i], words[i + 1]);
        }
        words[N - 1] = words[M - 1] ^ twist(words[N - 1], words[0]);
        self.next = 0;
    }
}

#[inline(always)]
fn twist(high: u32, low: u32) -> u32 {
    let mixed = (high & 0x8000_0000 | low & 0x7fff_ffff) >> 1;
    mixed ^ (low & 1).wrapping_neg() & 0x9908_b0df
}

#[inline(always)]
fn temper(mut y: u32) -> u32 {
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c_5680;
    y ^= y << 15 & 0xefc6_0000;
    y ^ y >> 18
}
