//! The optimizer's update, and what is asked of gradients before it.

use super::{AdamWStep, Device, Phase, RowSet, Work};
use crate::tensor::Tensor;

/// One AdamW step on one parameter; its gradient is set to zero. Rows outside `touched` have never had a gradient: their
/// moments are zero, and they only decay.
pub fn adamw(
    dev: &Device,
    step: &AdamWStep,
    touched: &RowSet,
    weight: &mut Tensor,
    grad: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
) {
    let n_updated = match touched {
        RowSet::All => weight.len(),
        RowSet::Some(rows) => weight.row_len() * rows.iter().filter(|&&touched| touched).count(),
    };
    let work = Work::passes(2 * weight.len() + 6 * n_updated);
    dev.run(Phase::AdamW, work, |on| on.adamw(step, touched, weight, grad, m, v));
}

/// The sum of squares of all elements, not finite where one is not.
pub fn sum_of_squares(dev: &Device, x: &Tensor) -> f64 {
    dev.run(Phase::Norm, Work::passes(x.len()), |on| on.sum_of_squares(x))
}

/// Whether every element is a finite number.
pub fn all_finite(dev: &Device, x: &Tensor) -> bool {
    dev.run(Phase::Norm, Work::passes(x.len()), |on| on.all_finite(x))
}

/// Adds the rows of x that hold anything but zeros to `touched`.
pub fn find_touched(dev: &Device, x: &Tensor, touched: &mut RowSet) {
    dev.run(Phase::Norm, Work::passes(x.len()), |on| on.find_touched(x, touched));
}
