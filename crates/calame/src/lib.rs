//! calame
