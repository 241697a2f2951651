//! What a kernel reads and writes.

use crate::packed::activations::Activations;
use crate::packed::blocks::PANEL_ROWS;

/// What a kernel reads: a panel and the rows of x.
pub(in crate::packed) struct PanelOperands<'a> {
    /// The bytes of the panel.
    pub panel: &'a [u8],
    /// Elements of a row of W and of x.
    pub cols: usize,
    pub x: &'a Activations<'a>,
    /// The first row of x.
    pub first_row: usize,
}

/// Overwrites the sums of as many rows of x as the kernel is for.
pub(super) type Fused = unsafe fn(&PanelOperands<'_>, &mut [[f32; PANEL_ROWS]]);
