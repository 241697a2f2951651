//! calame

pub mod train;
