//! What a run measured: `metrics.jsonl`, one JSON object a line.
//!
//! The file is written while the run goes on and must survive being killed at any byte:
//! each record is one write of one line, so at worst the last line is torn, and readers drop it.

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
