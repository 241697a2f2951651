//! The measurements of a run: `metrics.jsonl`, with one JSON object per line.
//!
//! The file is written during the run and must survive a kill at any byte. Each record is written as one line in a
//! single call, so at worst the last line is truncated, and readers drop it.

mod error;
mod read;
mod record;
mod writer;

pub use error::MetricsError;
pub use read::read;
pub use record::Record;
pub use writer::MetricsWriter;

#[cfg(test)]
mod tests;
