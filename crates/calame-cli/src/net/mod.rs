//! Downloads: named texts, and models by their name on the model hub.

mod client;
pub mod download;
pub mod hub;
