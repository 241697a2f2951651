//! Draws the losses of a run over epochs, with the tokens seen on a second axis.
//!
//! The size is five by three inches, as in the report and in chapter 5 of Raschka, *Build a Large Language Model (From
//! Scratch)*. The book spaces its evaluations evenly over the epochs; here each is at its true position, its tokens
//! divided by the tokens per epoch, so that both axes are correct.

mod axis;
mod canvas;
mod compare;
mod curves;
mod error;
mod explain;
mod run;
mod strokes;
mod write;

pub use compare::{ComparedRun, compare};
pub use error::PlotError;
pub use explain::{draw_attention, draw_distribution};
pub use run::{FILE_NAMES, draw};
pub use write::is_figure;
