//! The tensors of a batch: tokens, where they stand in their sequences, and what they count.

use crate::ops::{self, Device};
use crate::tensor::{Alloc, Tensor};

/// A batch in this machine's memory, row-major [B, T].
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchSlices<'a> {
    /// The tokens that go in.
    pub inputs: &'a [u32],
    /// The token, or class, that each position is to predict; not read where its weight is 0.
    pub targets: &'a [u32],
    /// What the loss of each target counts; without it each counts 1.
    pub weights: Option<&'a [f32]>,
    /// A number for each token. A segment is a run of equal numbers in a sequence: its tokens see each other only, and its
    /// positions count from 0, as if it were alone.
    pub segments: Option<&'a [u32]>,
    /// B: rows of the batch.
    pub n_sequences: usize,
}

impl<'a> BatchSlices<'a> {
    /// Tokens alone, for logits or hidden states.
    pub fn of_tokens(tokens: &'a [u32], n_sequences: usize) -> BatchSlices<'a> {
        BatchSlices { inputs: tokens, n_sequences, ..BatchSlices::default() }
    }

    /// Next-token prediction in which each target counts 1.
    pub fn new(inputs: &'a [u32], targets: &'a [u32], n_sequences: usize) -> BatchSlices<'a> {
        BatchSlices { inputs, targets, n_sequences, ..BatchSlices::default() }
    }
}

/// A batch on a device: what forward, loss and backward read.
#[derive(Debug)]
pub struct Batch {
    pub(super) inputs: Tensor,
    targets: Tensor,
    weights: Tensor,
    pub(super) positions: Tensor,
    starts: Tensor,
    /// Segments in this machine's memory, turned into starts and positions before they are copied.
    places: [Vec<u32>; 2],
    is_weighted: bool,
    is_packed: bool,
    n_sequences: usize,
    n_positions: usize,
}

impl Batch {
    /// For up to `n_rows` tokens (B·T).
    pub fn new(n_rows: usize, alloc: &mut Alloc<'_>) -> Batch {
        let mut ids = || alloc.ids([n_rows]);
        Batch {
            inputs: ids(),
            targets: ids(),
            positions: ids(),
            starts: ids(),
            weights: alloc.zeros([n_rows]),
            places: [alloc.list(n_rows), alloc.list(n_rows)],
            is_weighted: false,
            is_packed: false,
            n_sequences: 0,
            n_positions: 0,
        }
    }

    /// Copies a batch to the device. Without targets only the inputs are copied.
    ///
    /// # Panics
    /// If there is no token, if the tokens are not B equal rows, if the other slices have not as many elements, or if the
    /// capacity is exceeded.
    pub fn load(&mut self, dev: &Device, from: BatchSlices<'_>) {
        let n_rows = from.inputs.len();
        self.n_sequences = from.n_sequences;
        self.n_positions = n_rows / from.n_sequences.max(1);
        let agrees = |n: usize| n == 0 || n == n_rows;
        assert!(
            n_rows > 0 && self.n_positions * self.n_sequences == n_rows,
            "Batch::load: {n_rows} tokens in {} sequences",
            from.n_sequences
        );
        assert!(
            agrees(from.targets.len())
                && from.weights.is_none_or(|weights| weights.len() == n_rows)
                && from.segments.is_none_or(|segments| segments.len() == n_rows),
            "Batch::load: {n_rows} tokens, {} targets, weights and segments of other lengths",
            from.targets.len()
        );
        for ids in [&mut self.inputs, &mut self.targets, &mut self.positions, &mut self.starts, &mut self.weights] {
            ids.set_rows(n_rows);
        }
        ops::write_ids(dev, from.inputs, &mut self.inputs);
        if !from.targets.is_empty() {
            ops::write_ids(dev, from.targets, &mut self.targets);
        }
        self.set_weights(dev, from.weights);
        self.is_packed = from.segments.is_some();
        match from.segments {
            None => ops::fill_positions(dev, self.n_positions, &mut self.positions),
            Some(segments) => {
                let [starts, positions] = &mut self.places;
                starts.clear();
                positions.clear();
                for sequence in segments.chunks_exact(self.n_positions) {
                    let mut start = 0;
                    for t in 0..sequence.len() {
                        if t > 0 && sequence[t] != sequence[t - 1] {
                            start = t;
                        }
                        starts.push(start as u32);
                        positions.push((t - start) as u32);
                    }
                }
                ops::write_ids(dev, starts, &mut self.starts);
                ops::write_ids(dev, positions, &mut self.positions);
            }
        }
    }

    /// Replaces the weights of the targets.
    ///
    /// # Panics
    /// If there are not as many as tokens.
    pub fn set_weights(&mut self, dev: &Device, weights: Option<&[f32]>) {
        self.is_weighted = weights.is_some();
        if let Some(weights) = weights {
            ops::write(dev, weights, &mut self.weights);
        }
    }

    /// B of the loaded batch.
    pub fn n_sequences(&self) -> usize {
        self.n_sequences
    }

    /// T of the loaded batch.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// R: tokens of the batch.
    pub fn n_rows(&self) -> usize {
        self.n_sequences * self.n_positions
    }

    /// Ids `[R]` of the targets.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }

    /// What each target's loss counts, `[R]`; None where each counts 1.
    pub fn weights(&self) -> Option<&Tensor> {
        self.is_weighted.then_some(&self.weights)
    }

    /// The first position that each query may see, ids `[R]`; None where sequences are not packed.
    pub(super) fn starts(&self) -> Option<&Tensor> {
        self.is_packed.then_some(&self.starts)
    }
}
