//! Samples in batches, epoch after epoch, in an order that comes from outside.

use super::order::Order;
use super::shards::ShardError;
use super::windows::Windows;
use crate::rng::Shuffle;

/// Of more samples in files no order is listed: this many take four megabytes.
pub const LISTED_WINDOWS: usize = 1 << 20;

/// Why samples cannot be given in batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// Not one batch: fewer samples than a batch holds, and a batch that is not full is left out.
    #[error(
        "{part} gives {n_windows} windows, but one batch needs {batch_size}, since data.drop_last \
         leaves out a batch that is not full; set --batch-size to at most {n_windows}, a smaller \
         --stride or --window, give more text, or set data.drop_last=false"
    )]
    NoBatch {
        /// Which part of the text, as the message calls it.
        part: &'static str,
        /// Samples there are.
        n_windows: usize,
        /// Samples of a batch.
        batch_size: usize,
    },
    /// A batch of no samples.
    #[error("data.batch_size = 0: expected at least 1; the report's batch is 4 samples")]
    EmptyBatch,
    /// More samples than an epoch's order can number.
    #[error(
        "{part} gives {n_windows} windows, and an epoch's order can number at most {}; set a \
         larger --stride",
        u32::MAX
    )]
    TooMany {
        /// Which part of the text, as the message calls it.
        part: &'static str,
        /// Samples there are.
        n_windows: usize,
    },
    /// A place that the epoch does not have.
    #[error(
        "batch {batch} of the epoch was asked for, and an epoch has {n_batches}; the text, \
         data.window, data.stride or data.batch_size is not what it was when the place was noted: \
         set them back, or start a new run"
    )]
    NoSuchBatch {
        /// The batch asked for.
        batch: usize,
        /// Batches of an epoch.
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

/// Gives the samples of [`Windows`] in batches of B, row-major [B, T].
///
/// A new loader stands at the start of an epoch in order.
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
    /// A loader of batches of `batch_size` samples; `drop_last` leaves out a last batch that is not
    /// full.
    ///
    /// # Errors
    ///
    /// No batch at all, a batch size of zero, or more than 2³² − 1 samples.
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

    /// The windows that the samples are.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Batches of an epoch, one at least.
    pub fn n_batches(&self) -> usize {
        self.n_batches
    }

    /// Samples of an epoch, those of a batch that is left out included; the length of an order.
    pub fn n_windows(&self) -> usize {
        self.n_windows as usize
    }

    /// Whether orders are worked out rather than listed: of very many samples in files, so that memory does not grow with
    /// them.
    pub fn is_long(&self) -> bool {
        !matches!(self.order, Order::Listed { .. })
    }

    /// Samples of a full batch (B).
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Samples of a batch of the epoch: B, fewer in a last one that is not full.
    ///
    /// # Panics
    ///
    /// If the epoch has no such batch.
    pub fn n_rows(&self, batch: usize) -> usize {
        assert!(batch < self.n_batches, "loader: batch {batch} of {}", self.n_batches);
        self.batch_size.min(self.n_windows() - batch * self.batch_size)
    }

    /// Tokens that the samples are cut from.
    pub fn n_tokens(&self) -> usize {
        self.windows.n_tokens()
    }

    /// Tokens of a sample (T).
    pub fn window(&self) -> usize {
        self.windows.window()
    }

    /// The batch that [`next_batch`](Self::next_batch) gives next; `n_batches` at the end of the
    /// epoch.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes to the start of an epoch whose samples come in `order`; `None` is 0, 1, 2, …
    ///
    /// Allocates nothing, but for an order of a [long](Self::is_long) epoch, which has none listed yet.
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

    /// Goes to the start of an epoch whose samples come in an order that is worked out place by place.
    ///
    /// # Panics
    ///
    /// If it is not one of as many samples.
    pub fn start_shuffled(&mut self, shuffle: Shuffle) {
        assert_eq!(shuffle.n(), u64::from(self.n_windows), "loader: the samples of a shuffle");
        self.order = Order::Shuffled(shuffle);
        self.next = 0;
    }

    /// Goes to a batch of the epoch that has been started, to go on where an interrupted run was.
    ///
    /// # Errors
    ///
    /// A `batch` past the end (`n_batches` itself is the end, and allowed).
    pub fn seek(&mut self, batch: usize) -> Result<(), LoaderError> {
        if batch > self.n_batches {
            return Err(LoaderError::NoSuchBatch { batch, n_batches: self.n_batches });
        }
        self.next = batch;
        Ok(())
    }

    /// Overwrites `inputs` and `targets` with the next batch, row-major [rows, T], and gives its
    /// number of rows: B, fewer in a last batch that is not full, 0 (and both empty) at the end of
    /// the epoch.
    ///
    /// Once the two have held a batch, nothing is allocated.
    ///
    /// # Errors
    ///
    /// If a file with the tokens cannot be read any more, which those in memory never give; the
    /// loader stands before the batch then.
    pub fn next_batch(&mut self, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) -> Result<usize, ShardError> {
        inputs.clear();
        targets.clear();
        if self.next == self.n_batches {
            return Ok(0);
        }
        // As much as a full batch from the start: after a seek the first batch may be a short one.
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
