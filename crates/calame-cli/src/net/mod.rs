//! What the network provides: named texts and models of the hub.

pub mod download;
pub mod hub;
