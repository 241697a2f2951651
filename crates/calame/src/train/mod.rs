//! Training and what a run leaves behind.

pub mod metrics;
pub mod plot;
