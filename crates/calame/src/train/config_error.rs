//! The error of every section of a run's file.

/// A value that a run cannot have.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("{key} is {value}: expected {expected}")]
pub struct TrainConfigError {
    /// The key with its section.
    pub key: &'static str,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub expected: &'static str,
}
