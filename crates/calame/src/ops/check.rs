//! Sizes that an operation needs to agree.

use crate::tensor::Tensor;

/// Panics with the operation and the shapes of its tensors unless their sizes agree.
#[track_caller]
pub(super) fn check(agrees: bool, operation: &str, tensors: &[(&str, &Tensor)]) {
    assert!(agrees, "{operation}: the sizes do not agree: {}", shapes(tensors));
}

fn shapes(tensors: &[(&str, &Tensor)]) -> String {
    let shapes: Vec<String> = tensors.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.dims())).collect();
    shapes.join(", ")
}
