//! The tests of the library, in one binary.

mod plot;
mod tidy;
