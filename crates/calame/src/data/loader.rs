//! Groups samples into batches, epoch after epoch, in an order chosen by the caller.

use super::order::Order;
use super::shards::ShardError;
use super::windows::Windows;
use crate::rng::Shuffle;

/// Maximum number of samples on disk whose order is stored as a list (4 MB). Beyond it the order is computed, so
/// that memory does not grow with the text.
pub const LISTED_WINDOWS: usize = 1 << 20;

/// Why samples cannot be grouped into batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// Fewer samples than one batch, while `drop_last` skips batches that are not full.
    #[error(
        "{part} gives {n_windows} windows, but one batch needs {batch_size}, since data.drop_last \
         leaves out a batch that is not full; set --batch-size to at most {n_windows}, a smaller \
         --stride or --window, give more text, or set data.drop_last=false"
    )]
    NoBatch {
        /// The affected part of the text, as the message names it.
        part: &'static str,
        /// Number of samples in this part.
        n_windows: usize,
        /// Samples needed for one batch.
        batch_size: usize,
    },
    /// A batch size of zero.
    #[error("data.batch_size = 0: expected at least 1; the report's batch is 4 samples")]
    EmptyBatch,
    /// More samples than an epoch's order can number with 32 bits.
    #[error(
        "{part} gives {n_windows} windows, and an epoch's order can number at most {}; set a \
         larger --stride",
        u32::MAX
    )]
    TooMany {
        /// The affected part of the text, as the message names it.
        part: &'static str,
        /// Number of samples in this part.
        n_windows: usize,
    },
    /// A batch number past the end of the epoch.
    #[error(
        "batch {batch} of the epoch was asked for, and an epoch has {n_batches}; the text, \
         data.window, data.stride or data.batch_size is not what it was when the position was recorded: \
         set them back, or start a new run"
    )]
    NoSuchBatch {
        /// The requested batch, from 0.
        batch: usize,
        /// Number of batches per epoch.
        n_batches: usize,
    },
}

impl LoaderError {
    /// The same error, with `name` (such as "the training part") in place of "the text".
    #[must_use]
    pub fn in_part(mut self, name: &'static str) -> Self {
        if let Self::NoBatch { part, .. } | Self::TooMany { part, .. } = &mut self {
            *part = name;
        }
        self
    }
}

/// Returns the samples of [`Windows`] in batches of B, row-major `[B, T]`.
///
/// A new loader is at the start of an epoch in ascending order.
#[derive(Clone, Debug)]
pub struct Loader {
    windows: Windows,
    batch_size: usize,
    n_batches: usize,
    n_windows: u32,
    order: Order,
    next: usize,
}

impl Loader {
    /// Creates a loader with batches of `batch_size` samples; `drop_last` skips a final batch that is not full.
    ///
    /// # Errors
    ///
    /// Fails if there is no batch, the batch size is zero, or there are more than 2³² − 1 samples.
    pub fn new(windows: Windows, batch_size: usize, drop_last: bool) -> Result<Self, LoaderError> {
        let n_windows = windows.len();
        if batch_size == 0 {
            return Err(LoaderError::EmptyBatch);
        }
        if drop_last && n_windows < batch_size {
            return Err(LoaderError::NoBatch { part: "the text", n_windows, batch_size });
        }
        let Ok(end) = u32::try_from(n_windows) else {
            return Err(LoaderError::TooMany { part: "the text", n_windows });
        };
        let n_batches = if drop_last { n_windows / batch_size } else { n_windows.div_ceil(batch_size) };
        let order = if windows.tokens().is_some() || n_windows <= LISTED_WINDOWS {
            Order::listed(end)
        } else {
            Order::Ascending
        };
        Ok(Self { windows, batch_size, n_batches, n_windows: end, order, next: 0 })
    }

    /// The windows that the samples are taken from.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Number of batches per epoch, at least one.
    pub fn n_batches(&self) -> usize {
        self.n_batches
    }

    /// Number of samples per epoch, which is the length of an order. Includes the samples that `drop_last` skips.
    pub fn n_windows(&self) -> usize {
        self.n_windows as usize
    }

    /// Whether the order is computed rather than stored. This holds for more than [`LISTED_WINDOWS`] samples on
    /// disk, so that memory does not grow with their number.
    pub fn is_long(&self) -> bool {
        !matches!(self.order, Order::Listed { .. })
    }

    /// Number of samples in a full batch (B).
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number of samples in a batch of the epoch: B, or fewer in a final batch that is not full.
    ///
    /// # Panics
    ///
    /// If the epoch has no such batch.
    pub fn n_rows(&self, batch: usize) -> usize {
        assert!(batch < self.n_batches, "loader: batch {batch} of {}", self.n_batches);
        self.batch_size.min(self.n_windows() - batch * self.batch_size)
    }

    /// Number of tokens that the samples are cut from.
    pub fn n_tokens(&self) -> usize {
        self.windows.n_tokens()
    }

    /// Number of tokens per sample (T).
    pub fn window(&self) -> usize {
        self.windows.window()
    }

    /// Index of the batch that [`next_batch`](Self::next_batch) returns next; `n_batches` at the end of the epoch.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Starts an epoch with the samples in the given `order`; `None` means 0, 1, 2, …
    ///
    /// Allocates only for the first order of a [long](Self::is_long) epoch.
    ///
    /// # Panics
    ///
    /// If `order` does not name each sample once.
    pub fn start_epoch(&mut self, order: Option<&[u32]>) {
        match order {
            Some(order) => self.order.list(self.n_windows, order),
            None => self.order.ascend(),
        }
        self.next = 0;
    }

    /// Starts an epoch with a shuffled order that is computed position by position.
    ///
    /// # Panics
    ///
    /// If the shuffle is not one of [`n_windows`](Self::n_windows) samples.
    pub fn start_shuffled(&mut self, shuffle: Shuffle) {
        assert_eq!(shuffle.n(), u64::from(self.n_windows), "loader: the samples of a shuffle");
        self.order = Order::Shuffled(shuffle);
        self.next = 0;
    }

    /// Moves to a batch of the current epoch, to resume an interrupted run.
    ///
    /// # Errors
    ///
    /// Fails if `batch` is past the end; `n_batches` itself, the end, is allowed.
    pub fn seek(&mut self, batch: usize) -> Result<(), LoaderError> {
        if batch > self.n_batches {
            return Err(LoaderError::NoSuchBatch { batch, n_batches: self.n_batches });
        }
        self.next = batch;
        Ok(())
    }

    /// Overwrites `inputs` and `targets` with the next batch, row-major `[rows, T]`, and returns the number of
    /// rows: B, fewer in a final batch that is not full, 0 (and both empty) at the end of the epoch.
    ///
    /// Nothing is allocated once the two vectors have held a full batch.
    ///
    /// # Errors
    ///
    /// Fails if a token file can no longer be read; the loader then stays at this batch. Tokens in memory never fail.
    pub fn next_batch(&mut self, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) -> Result<usize, ShardError> {
        inputs.clear();
        targets.clear();
        if self.next == self.n_batches {
            return Ok(0);
        }
        // Reserve a full batch at once: after a seek the first batch may be a short one.
        let capacity = self.batch_size.min(self.n_windows()) * self.windows.window();
        inputs.reserve_exact(capacity);
        targets.reserve_exact(capacity);
        let start = self.next * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.n_windows());
        for place in start..end {
            self.windows.read(self.order.at(place), inputs, targets)?;
        }
        self.next += 1;
        Ok(end - start)
    }
}
