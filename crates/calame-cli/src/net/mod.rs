//! Downloads: named texts, and models by their name on the model hub.

pub mod download;
pub mod hub;
