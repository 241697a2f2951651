//! calame

pub mod data;
