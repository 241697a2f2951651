//! The sizes of attention, the position of a head's elements, and the layout of a task's work space.

use crate::aligned::AlignedVec;
use crate::gemm::MatRef;
use crate::gemm::serial::QueryBlock;
use crate::math::LANES;
use crate::philox::BLOCK;
use crate::sizes::has_dims;

/// Number of queries that a task processes at a time.
pub const QUERIES: usize = 64;

/// `n` rounded up to whole vectors.
///
/// Rows are computed up to this length and the excess is discarded; otherwise up to 15 elements at the end of each row
/// would be computed one by one.
pub fn whole_vectors(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// `first_key` rounded down to a whole block of dropout's random numbers.
///
/// Rows are computed from this column; the masked elements before `first_key` are set to zero afterwards.
pub fn whole_blocks(first_key: usize) -> usize {
    first_key / BLOCK * BLOCK
}

/// The sizes of a call of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// B, the number of sequences.
    pub n_sequences: usize,
    /// T, the number of positions of each sequence.
    pub n_positions: usize,
    /// NH, the number of heads.
    pub n_head: usize,
    /// HS, the size of a head.
    pub head_size: usize,
}

impl AttentionShape {
    pub(super) fn channels(&self) -> usize {
        self.n_head * self.head_size
    }

    pub(super) fn check(&self, scale: f32, qkv: usize, y: usize, lse: usize) {
        // The maximum of the scaled scores is that of the scores only if the scale is positive.
        assert!(scale > 0.0, "attention {self:?}: a scale of {scale}");
        let AttentionShape { n_sequences: b, n_positions: t, n_head: nh, head_size: hs } = *self;
        assert!(
            has_dims(qkv, [b, t, 3, nh, hs]) && has_dims(y, [b, t, nh, hs]) && has_dims(lse, [b, t, nh]),
            "attention {self:?}: qkv of {qkv} elements, y of {y}, lse of {lse}"
        );
    }

    /// Asserts that `starts` is [B·T] and that, within a sequence, starts do not decrease and are not after their
    /// positions.
    pub(super) fn check_starts(&self, starts: Option<&[u32]>) {
        let Some(starts) = starts else { return };
        let is_whole = has_dims(starts.len(), [self.n_sequences, self.n_positions]);
        assert!(is_whole, "attention {self:?}: {} starts", starts.len());
        for (s, starts) in starts.chunks_exact(self.n_positions.max(1)).enumerate() {
            let mut before = 0;
            for (t, &start) in starts.iter().enumerate() {
                assert!(
                    before <= start && start as usize <= t,
                    "attention: position {t} of sequence {s} starts at {start}, the one before it at {before}"
                );
                before = start;
            }
        }
    }

    /// Distance between rows of scores, in elements: whole cache lines plus one, since rows 4 kB apart would fall into
    /// the same set of the first-level cache.
    pub(super) fn scores_stride(&self) -> usize {
        whole_vectors(self.n_positions) + LANES
    }
}

/// One head of one sequence, as offsets into the arrays.
#[derive(Clone, Copy)]
pub struct Head {
    pub shape: AttentionShape,
    pub sequence: usize,
    head: usize,
}

impl Head {
    pub fn of_task(shape: AttentionShape, task: usize) -> Head {
        Head { shape, sequence: task / shape.n_head, head: task % shape.n_head }
    }

    /// First element of this head's part (0 = q, 1 = k, 2 = v) of position `t` in qkv [B·T, 3C].
    pub fn qkv_at(&self, part: usize, t: usize) -> usize {
        let c = self.shape.channels();
        (self.sequence * self.shape.n_positions + t) * 3 * c + part * c + self.head * self.shape.head_size
    }

    /// First element of this head in row `t` of y [B·T, C].
    pub fn y_at(&self, t: usize) -> usize {
        (self.sequence * self.shape.n_positions + t) * self.shape.channels() + self.head * self.shape.head_size
    }

    /// First element of this head's lse [B, NH, T].
    pub fn lse_at(&self) -> usize {
        (self.sequence * self.shape.n_head + self.head) * self.shape.n_positions
    }

    /// Rows `from..to` of this head's q, k or v: [to − from, HS].
    pub fn qkv<'a>(&self, qkv: &'a [f32], part: usize, from: usize, to: usize) -> MatRef<'a> {
        MatRef::new(&qkv[self.qkv_at(part, from)..], to - from, self.shape.head_size, 3 * self.shape.channels())
    }

    /// The first key that query `t` sees.
    pub fn first_key(&self, starts: Option<&[u32]>, t: usize) -> usize {
        starts.map_or(0, |starts| starts[self.sequence * self.shape.n_positions + t] as usize)
    }

    /// The block of queries that begins at `t`: its first key is that of its first query, since starts do not decrease.
    pub fn query_block(&self, starts: Option<&[u32]>, t: usize) -> QueryBlock {
        QueryBlock { first: t, first_key: self.first_key(starts, t) }
    }

    /// The row of the dropout mask that belongs to query `t`.
    pub fn drop_row(&self, t: usize) -> usize {
        self.head * self.shape.n_positions + t
    }
}

/// Number of floats that [`carve`] needs for pieces of these lengths.
pub fn carved<const N: usize>(lengths: [usize; N]) -> usize {
    lengths.iter().map(|n| n.next_multiple_of(16)).sum()
}

/// Splits a work space into pieces of the given lengths, each aligned to a cache line.
pub fn carve<const N: usize>(scratch: &mut AlignedVec, lengths: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = scratch.resize_uninit(carved(lengths));
    lengths.map(|n| {
        let (piece, tail) = std::mem::take(&mut rest).split_at_mut(n.next_multiple_of(16));
        rest = tail;
        &mut piece[..n]
    })
}
