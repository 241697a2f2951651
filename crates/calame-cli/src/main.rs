//! The program `calame`.
fn main() {}
