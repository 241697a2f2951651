//! PyTorch's CPU generator (`torch.manual_seed`), reproduced number for number, so that a run can follow a script.
//!
//! Each method draws the same numbers as the PyTorch call that it names and leaves the generator in the same state.
//! All results equal those of PyTorch 2.15 bit for bit on an AMD processor with AVX2 (golden/README.md lists what
//! was compared). Normals of fewer than 16 elements use the system's f64 logarithm, sine and cosine, as PyTorch
//! does.
//!
//! Differences on other machines, according to PyTorch's sources (not verified):
//! - without AVX2, PyTorch's `uniform_` rounds twice where this one uses a fused multiply-add, and its `normal_` of
//!   16 or more elements uses the C library's logarithm, sine and cosine: the last bits differ, the engine's words do
//!   not;
//! - on Intel processors, where PyTorch is built with MKL, `bernoulli_` and therefore dropout take one seed from
//!   this generator and draw the mask with MKL's MCG31 generator: masks differ, and so does everything drawn after
//!   them. Weights and the loader's order are the same.
//!
//! What a script draws, in order:
//! - a model, module by module as it is built: `nn.Linear` draws its weight and then its bias if it has one,
//!   `nn.Embedding` its weight, other modules nothing. The book's GPTModel builds `tok_emb`, `pos_emb`, then for each
//!   block `W_query`, `W_key`, `W_value`, `out_proj`, `ff.layers.0`, `ff.layers.2`, and finally `out_head`;
//! - a pass over a `DataLoader`, complete or not: [`Generator::pass`] without shuffling,
//!   [`Generator::shuffled_pass`] with shuffling;
//! - dropout in training: [`Generator::dropout_mask`]; a rate of 0 or 1 and evaluation draw nothing.
//!
//! [`Script`] tracks the position of a whole training script.
//!
//! Elements are drawn in memory order. The mask of a tensor that permutes a contiguous one (`t()`, `permute`) has
//! the same memory layout as the tensor, so draws follow memory, not indices. For a tensor with gaps or repeats
//! (`[:, ::2]`, `expand`) the mask is contiguous and draws follow indices.

mod box_muller;
mod engine;
mod script;

use serde::{Deserialize, Serialize};

pub use engine::StateError;
use engine::{Mt19937, State};
pub use script::Script;

/// Below this length `randperm` uses one word per number, from this length on two.
const LONG_PERMUTATION: usize = u32::MAX as usize / 20;
/// Number of random bits of an f64 in [0, 1).
const F64_BITS: u32 = 53;
/// Elements that are filled and then transformed while they are still in the first-level cache (16 kB of f32).
const CHUNK: usize = 4096;
const _: () = assert!(CHUNK.is_multiple_of(16));

/// MT19937 and the spare normal of a pair, which PyTorch keeps between calls: the complete state that `manual_seed`
/// sets.
///
/// Serialized as 624 words and a position (about 7 kB of JSON); deserialized states are checked ([`StateError`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Generator {
    engine: Mt19937,
    kept_normal: Option<f64>,
}

impl TryFrom<State> for Generator {
    type Error = StateError;

    fn try_from(state: State) -> Result<Generator, StateError> {
        let (engine, kept_normal) = state.check()?;
        Ok(Generator { engine, kept_normal })
    }
}

impl From<Generator> for State {
    fn from(generator: Generator) -> State {
        State::new(&generator.engine, generator.kept_normal)
    }
}

impl Generator {
    /// Equivalent to `torch.manual_seed(seed)`, which uses the low 32 bits.
    pub fn new(seed: u64) -> Generator {
        Generator { engine: Mt19937::new(seed), kept_normal: None }
    }

    /// The engine's next 32-bit word.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.engine.next_u32()
    }

    /// The next two words as one, the first in the high half.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let high = self.next_u32();
        u64::from(high) << 32 | u64::from(self.next_u32())
    }

    /// `torch.empty((), dtype=torch.int64).random_()`: a non-negative number with 63 random bits.
    pub fn random(&mut self) -> i64 {
        (self.next_u64() & i64::MAX as u64) as i64
    }

    /// `uniform_(from, to)` of f32: numbers in [from, to), each from 24 bits of one word. `x` is overwritten.
    ///
    /// # Panics
    /// If from > to, or if their difference overflows f32.
    pub fn uniform(&mut self, from: f64, to: f64, x: &mut [f32]) {
        let (from, to) = (from as f32, to as f32);
        let range = to - from;
        assert!(range >= 0.0 && range.is_finite(), "Generator::uniform: no numbers from {from} to {to}");
        self.engine.fill(x, |word| {
            let value = unit(word).mul_add(range, from);
            // Rounding may reach the upper end, which is excluded.
            if value == to { from } else { value }
        });
    }

    /// `normal_(mean, std)` of contiguous f32. `x` is overwritten.
    ///
    /// Sixteen or more elements use one word each, plus sixteen words if the length is not a multiple of 16:
    /// the last sixteen elements are then drawn again. Fewer than sixteen are computed in f64, in pairs from
    /// four words; the second of a pair is kept for the next call with fewer than sixteen, whatever is drawn in
    /// between. PyTorch also uses the second method for tensors with gaps.
    ///
    /// # Panics
    /// If std is negative or not a number.
    pub fn normal(&mut self, mean: f64, std: f64, x: &mut [f32]) {
        assert!(std >= 0.0, "Generator::normal: a standard deviation of {std}");
        let Some(last) = x.len().checked_sub(16) else {
            x.iter_mut().for_each(|x| *x = self.next_normal().mul_add(std, mean) as f32);
            return;
        };
        for x in x.chunks_mut(CHUNK) {
            self.normal_blocks(mean, std, x);
        }
        if !x.len().is_multiple_of(16) {
            self.normal_blocks(mean, std, &mut x[last..]);
        }
    }

    /// Fills all of `x` and transforms its complete blocks of 16.
    fn normal_blocks(&mut self, mean: f64, std: f64, x: &mut [f32]) {
        self.engine.fill(x, unit);
        for block in x.as_chunks_mut().0 {
            box_muller::transform(block, mean as f32, std as f32);
        }
    }

    /// The Box-Muller transform in f64.
    fn next_normal(&mut self) -> f64 {
        if let Some(kept) = self.kept_normal.take() {
            return kept;
        }
        let angle = std::f64::consts::TAU * self.next_f64();
        let radius = (-2.0 * (-self.next_f64()).ln_1p()).sqrt();
        self.kept_normal = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// A number in [0, 1) from 53 bits of two words.
    fn next_f64(&mut self) -> f64 {
        low_bits(self.next_u64()) as f64 / (1u64 << F64_BITS) as f64
    }

    /// `torch.randperm(n)`: fills `order` with 0..n in random order.
    ///
    /// # Panics
    /// If n is 2³² or more.
    pub fn randperm(&mut self, n: usize, order: &mut Vec<u32>) {
        let end = u32::try_from(n).unwrap_or_else(|_| panic!("Generator::randperm: {n} numbers do not fit u32"));
        order.clear();
        if n < LONG_PERMUTATION {
            order.extend(0..end);
            for i in 1..n {
                let left = end - (i as u32 - 1);
                order.swap(i - 1, i - 1 + (self.next_u32() % left) as usize);
            }
        } else {
            // One word modulo so large an n would not be uniform.
            order.reserve_exact(n);
            for i in 0..end {
                let place = (self.next_u64() % (u64::from(i) + 1)) as usize;
                order.push(i);
                order.swap(i as usize, place);
            }
        }
    }

    /// Draws what one pass over a `DataLoader` without shuffling draws: the workers' seed, which is not used here.
    pub fn pass(&mut self) {
        self.random();
    }

    /// Draws what one pass over a `DataLoader(shuffle=True)` draws. Returns the seed of the generator whose
    /// [`randperm`](Generator::randperm) gives the order of the samples.
    ///
    /// PyTorch draws this seed together with the first batch of the pass, before the batch is used.
    pub fn shuffled_pass(&mut self) -> u64 {
        self.pass();
        self.random() as u64
    }

    /// `bernoulli_(p)`: true with probability p, two words per element. `x` is overwritten.
    ///
    /// # Panics
    /// If p is not in [0, 1].
    pub fn bernoulli(&mut self, p: f64, x: &mut [bool]) {
        let end = bernoulli_end(p);
        let mut words = [[0u32; 2]; CHUNK / 8];
        for x in x.chunks_mut(words.len()) {
            let words = &mut words[..x.len()];
            self.engine.fill(words.as_flattened_mut(), |word| word);
            for (x, word) in x.iter_mut().zip(words) {
                *x = is_below(*word, end);
            }
        }
    }

    /// The mask of `nn.functional.dropout`: true if an element is kept (and divided by 1 − rate, in f32).
    ///
    /// Rates 0 and 1 draw nothing. `keep` is overwritten.
    ///
    /// # Panics
    /// If the rate is not in [0, 1].
    pub fn dropout_mask(&mut self, rate: f64, keep: &mut [bool]) {
        if rate == 0.0 || rate == 1.0 {
            keep.fill(rate == 0.0);
        } else {
            self.bernoulli(1.0 - rate, keep);
        }
    }

    /// What `nn.functional.dropout` at a rate multiplies kept elements by: 1 / (1 − rate), divided in f32.
    pub fn dropout_scale(rate: f64) -> f32 {
        1.0 / (1.0 - rate) as f32
    }

    /// The mask that [`dropout_mask`](Self::dropout_mask) draws, as bits, for rows of `columns` elements.
    /// Column c of a row is bit c mod 64 of the row's word c / 64, and 1 means kept; every row starts with a
    /// new word.
    ///
    /// `bits` is overwritten; bits past the end of a row are 0.
    ///
    /// # Panics
    /// If the rate is not in [0, 1), or `bits` does not consist of whole rows.
    pub fn dropout_bits(&mut self, rate: f64, columns: usize, bits: &mut [u64]) {
        let words_per_row = columns.div_ceil(64);
        assert!((0.0..1.0).contains(&rate), "Generator::dropout_bits: a rate of {rate}");
        assert!(bits.len().is_multiple_of(words_per_row), "Generator::dropout_bits: {} words", bits.len());
        let end = bernoulli_end(1.0 - rate);
        let mut words = [[0u32; 2]; 64];
        for (i, bits) in bits.iter_mut().enumerate() {
            let words = &mut words[..(columns - i % words_per_row * 64).min(64)];
            if rate > 0.0 {
                self.engine.fill(words.as_flattened_mut(), |word| word);
            }
            let kept = words.iter().map(|&word| u64::from(is_below(word, end)));
            *bits = kept.enumerate().fold(0, |bits, (column, kept)| bits | kept << column);
        }
    }

    /// The weight of a new `nn.Linear`, row by row. `weight [OC, C]` is overwritten.
    pub fn linear_weight(&mut self, weight: &mut [f32], n_inputs: usize) {
        // kaiming_uniform_ with a = √5, computed in the same steps: 1/√C except for the last bit of f64.
        let slope = 5f64.sqrt();
        let gain = (2.0 / (1.0 + slope * slope)).sqrt();
        let bound = 3f64.sqrt() * (gain / (n_inputs as f64).sqrt());
        self.uniform(-bound, bound, weight);
    }

    /// The bias of a new `nn.Linear` with C inputs. `bias [OC]` is overwritten.
    pub fn linear_bias(&mut self, bias: &mut [f32], n_inputs: usize) {
        let bound = 1.0 / (n_inputs as f64).sqrt();
        self.uniform(-bound, bound, bias);
    }

    /// The weight of a new `nn.Embedding`. `weight [V, C]` is overwritten.
    pub fn embedding(&mut self, weight: &mut [f32]) {
        self.normal(0.0, 1.0, weight);
    }
}

/// A number in [0, 1) from the low 24 bits of a word.
#[inline(always)]
fn unit(word: u32) -> f32 {
    (word & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
}

/// The smallest n with n·2⁻⁵³ ≥ p. The comparison in integers is exact.
fn bernoulli_end(p: f64) -> u64 {
    assert!((0.0..=1.0).contains(&p), "Generator::bernoulli: a probability of {p}");
    (p * (1u64 << F64_BITS) as f64).ceil() as u64
}

#[inline(always)]
fn is_below([high, low]: [u32; 2], end: u64) -> bool {
    low_bits(u64::from(high) << 32 | u64::from(low)) < end
}

#[inline(always)]
fn low_bits(word: u64) -> u64 {
    word & ((1 << F64_BITS) - 1)
}
