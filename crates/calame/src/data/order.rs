//! The order in which an epoch visits the samples.

use crate::rng::Shuffle;

/// Maps each position of an epoch to a sample.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// 0, 1, 2, …; nothing is stored.
    Ascending,
    /// An explicit list, in memory.
    Listed {
        /// The sample at each position.
        order: Vec<u32>,
        /// One bit per sample, to check that an order contains each sample once.
        seen: Vec<u64>,
    },
    /// A permutation that is computed position by position.
    Shuffled(Shuffle),
}

impl Order {
    /// The order 0..n, with memory allocated for any other order.
    pub fn listed(n: u32) -> Order {
        Order::Listed { order: (0..n).collect(), seen: vec![0; (n as usize).div_ceil(64)] }
    }

    /// The sample at position `place` of the epoch.
    pub fn at(&self, place: usize) -> usize {
        match self {
            Order::Ascending => place,
            Order::Listed { order, .. } => order[place] as usize,
            Order::Shuffled(shuffle) => shuffle.at(place as u64) as usize,
        }
    }

    /// Becomes the order `given` of n samples.
    ///
    /// # Panics
    ///
    /// If `given` does not contain each sample exactly once.
    pub fn list(&mut self, n: u32, given: &[u32]) {
        if !matches!(self, Order::Listed { .. }) {
            *self = Order::listed(n);
        }
        let Order::Listed { order, seen } = self else { return };
        assert_permutation(n as usize, seen, given);
        order.copy_from_slice(given);
    }

    /// Becomes the ascending order 0, 1, 2, …
    pub fn ascend(&mut self) {
        match self {
            Order::Listed { order, .. } => (0..).zip(order).for_each(|(i, place)| *place = i),
            other => *other = Order::Ascending,
        }
    }
}

fn assert_permutation(n_windows: usize, seen: &mut [u64], order: &[u32]) {
    assert_eq!(order.len(), n_windows, "loader: the length of an order is the number of samples");
    seen.fill(0);
    for &i in order {
        assert!((i as usize) < n_windows, "loader: an order names sample {i} of {n_windows}");
        let (word, bit) = (i as usize / 64, 1 << (i % 64));
        assert!(seen[word] & bit == 0, "loader: an order names sample {i} twice");
        seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(order: &Order, n: usize) -> Vec<usize> {
        (0..n).map(|place| order.at(place)).collect()
    }

    #[test]
    fn each_kind_names_every_sample_once() {
        let mut order = Order::Ascending;
        assert_eq!(all(&order, 4), [0, 1, 2, 3]);
        order.list(4, &[2, 0, 3, 1]);
        assert_eq!(all(&order, 4), [2, 0, 3, 1]);
        order.ascend();
        assert!(matches!(order, Order::Listed { .. }), "its memory is kept");
        assert_eq!(all(&order, 4), [0, 1, 2, 3]);
        order = Order::Shuffled(Shuffle::of_epoch(1, 0, 50));
        let mut shuffled = all(&order, 50);
        assert_ne!(shuffled, (0..50).collect::<Vec<usize>>());
        shuffled.sort_unstable();
        assert_eq!(shuffled, (0..50).collect::<Vec<usize>>());
        order.ascend();
        assert!(matches!(order, Order::Ascending));
    }

    #[test]
    #[should_panic(expected = "an order names sample 2 twice")]
    fn a_list_is_a_permutation() {
        Order::Ascending.list(3, &[2, 0, 2]);
    }
}
