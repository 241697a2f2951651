//! A batch of samples in this machine's memory.

use std::ops::Range;

/// Samples that go through the model together, row-major [B, T], and what each of their targets counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The tokens that go in.
    pub inputs: Vec<u32>,
    /// The token, or class, that each position is to predict; not read where its weight is 0.
    pub targets: Vec<u32>,
    /// What the loss of each target counts: 0 masks it. Empty where each counts 1.
    pub weights: Vec<f32>,
    /// The segment of each token. A segment is a run of equal numbers in a sequence: packed examples, which do not see each
    /// other. Empty where every sequence is one example.
    pub segments: Vec<u32>,
    /// The group of each example, in the order of [`examples`](Self::examples): an objective weighs the examples of a group
    /// against each other (chosen and rejected). Empty where each example stands for itself.
    pub groups: Vec<u32>,
    /// B.
    pub n_sequences: usize,
}

impl Batch {
    /// Next-token prediction on B sequences in which each target counts 1.
    pub fn new(inputs: Vec<u32>, targets: Vec<u32>, n_sequences: usize) -> Batch {
        Batch { inputs, targets, n_sequences, ..Batch::default() }
    }

    /// T.
    pub fn n_positions(&self) -> usize {
        self.inputs.len() / self.n_sequences.max(1)
    }

    /// The sum of the targets' weights: what a loss per target is divided by.
    pub fn total_weight(&self) -> f64 {
        if self.weights.is_empty() {
            return self.targets.len() as f64;
        }
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// The rows of each example: a segment, or a whole sequence where they are not packed.
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
