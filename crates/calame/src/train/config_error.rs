//! The common error of a run's settings.

/// A setting with an invalid value.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("{key} is {value}: expected {expected}")]
pub struct TrainConfigError {
    /// The key with its section, such as `train.lr`.
    pub key: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values that are accepted.
    pub expected: &'static str,
}
