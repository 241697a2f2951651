//! A training or evaluation batch in the processor's memory.

use std::ops::Range;

/// Sequences that go through the model together, row-major `[B, T]`, with the weight of each target in the loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Input token ids, `[B, T]`.
    pub inputs: Vec<u32>,
    /// The token or class that each position should predict, `[B, T]`; not read where the weight is 0.
    pub targets: Vec<u32>,
    /// Weight of each target in the loss, `[B, T]`; 0 masks it. Empty if every weight is 1.
    pub weights: Vec<f32>,
    /// Segment number of each token, `[B, T]`. A run of equal numbers within a sequence is one packed example;
    /// attention does not cross its borders. Empty if every sequence is one example.
    pub segments: Vec<u32>,
    /// Group of each example, in the order of [`examples`](Self::examples). An objective compares the examples
    /// of a group with each other (chosen and rejected). Empty if the examples are independent.
    pub groups: Vec<u32>,
    /// B, the number of sequences in the batch.
    pub n_sequences: usize,
}

impl Batch {
    /// A batch of B sequences for next-token prediction, with weight 1 for every target.
    pub fn new(inputs: Vec<u32>, targets: Vec<u32>, n_sequences: usize) -> Batch {
        Batch { inputs, targets, n_sequences, ..Batch::default() }
    }

    /// T, the number of positions per sequence; 0 for an empty batch.
    pub fn n_positions(&self) -> usize {
        self.inputs.len() / self.n_sequences.max(1)
    }

    /// Sum of the targets' weights: the divisor of the mean loss.
    pub fn total_weight(&self) -> f64 {
        if self.weights.is_empty() {
            return self.targets.len() as f64;
        }
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// Rows of each example: those of a segment, or of a whole sequence if the batch is not packed.
    pub fn examples(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (t, n) = (self.n_positions(), self.inputs.len());
        let mut from = 0;
        std::iter::from_fn(move || {
            if from >= n {
                return None;
            }
            let end_of_sequence = (from / t + 1) * t;
            let to = match self.segments.get(from) {
                None => end_of_sequence,
                Some(segment) => {
                    let rest = &self.segments[from..end_of_sequence];
                    from + rest.iter().position(|other| other != segment).unwrap_or(rest.len())
                }
            };
            let example = from..to;
            from = to;
            Some(example)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_segments_or_whole_sequences() {
        let mut batch = Batch::new(vec![0; 8], vec![0; 8], 2);
        assert_eq!(batch.examples().collect::<Vec<_>>(), [0..4, 4..8]);
        assert_eq!(batch.total_weight(), 8.0);
        // Equal numbers on both sides of a sequence's end are two segments.
        batch.segments = vec![0, 0, 1, 2, 2, 2, 2, 0];
        assert_eq!(batch.examples().collect::<Vec<_>>(), [0..2, 2..3, 3..4, 4..7, 7..8]);
        batch.weights = vec![0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0];
        assert_eq!(batch.total_weight(), 3.5);
        assert_eq!(Batch::default().examples().count(), 0);
    }
}
