//! The figure of a run: losses over epochs, with the tokens seen on a second axis.
//!
//! Five inches by three, as the report's and as chapter 5 of Raschka, *Build a Large Language Model (From
//! Scratch)*, draws it. The book spaces its evaluations evenly over the epochs; here an evaluation stands where
//! it was taken, at its tokens divided by the tokens of an epoch, so that both axes are true.

mod axis;
mod canvas;
mod compare;
mod curves;
mod error;
mod run;
mod strokes;
mod write;

pub use compare::{ComparedRun, compare};
pub use error::PlotError;
pub use run::{FILE_NAMES, draw};
