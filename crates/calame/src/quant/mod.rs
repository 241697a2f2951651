//! Conversion between number formats of weights, and the choice among them.
//!
//! The formats themselves, their layouts and their reference definitions are in `calame_kernels::formats`, beside the kernels
//! that compute with them.

mod fallback;
mod narrow;

pub use calame_kernels::formats::{NumberFormat, dequantize, quantize};
pub use fallback::format_for_rows;
pub use narrow::{is_in_range, rounded};
