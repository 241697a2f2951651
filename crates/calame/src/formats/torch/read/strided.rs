//! Tensors as views of a storage: which elements they use, and in which order the file contains them.

/// Checks that a tensor's elements are inside the storage and distinct.
///
/// # Errors
/// If an element is outside the storage, or used twice.
pub(super) fn check(shape: &[usize], strides: &[usize], offset: usize, n_storage: u64) -> Result<(), String> {
    if shape.len() != strides.len() {
        return Err(format!("{} sizes and {} strides", shape.len(), strides.len()));
    }
    if shape.contains(&0) {
        return Ok(());
    }
    let outside = || {
        format!(
            "shape {shape:?}, strides {strides:?} and offset {offset} reach outside a storage of {n_storage} elements"
        )
    };
    let mut axes: Vec<(usize, usize)> = strides.iter().copied().zip(shape.iter().copied()).collect();
    axes.sort_unstable();
    let mut reach = 1usize;
    for &(stride, n) in axes.iter().filter(|(_, n)| *n > 1) {
        // Elements that share a position could cost far more memory than the file's size.
        if stride < reach {
            return Err(format!(
                "shape {shape:?} and strides {strides:?} use an element twice, which is not supported"
            ));
        }
        reach = (n - 1).checked_mul(stride).and_then(|more| reach.checked_add(more)).ok_or_else(outside)?;
    }
    match offset.checked_add(reach).and_then(|end| u64::try_from(end).ok()) {
        Some(end) if end <= n_storage => Ok(()),
        _ => Err(outside()),
    }
}

/// A dimension of a walk through a storage: `n` steps of `from` elements in the storage and `to` elements in the
/// row-major tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub n: usize,
    pub from: usize,
    pub to: usize,
}

/// The walk that visits a tensor's elements in storage order. The last axis is the innermost; there is at least one.
///
/// The tensor must have passed [`check`] and have elements.
pub(super) fn walk(shape: &[usize], strides: &[usize]) -> Vec<Axis> {
    let mut axes = Vec::new();
    let mut to = 1;
    for (&n, &from) in shape.iter().zip(strides).rev() {
        axes.push(Axis { n, from, to });
        to *= n;
    }
    axes.retain(|axis| axis.n > 1);
    axes.sort_unstable_by_key(|axis| std::cmp::Reverse(axis.from));
    let mut merged: Vec<Axis> = Vec::new();
    for axis in axes {
        match merged.last_mut() {
            Some(outer) if outer.from == axis.n * axis.from && outer.to == axis.n * axis.to => {
                *outer = Axis { n: outer.n * axis.n, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    if merged.is_empty() {
        merged.push(Axis { n: 1, from: 1, to: 1 });
    }
    merged
}

/// Positions (storage, tensor) at which the innermost axis starts, in storage order.
pub(super) fn starts(outer: &[Axis]) -> impl Iterator<Item = (usize, usize)> {
    let n = outer.iter().map(|axis| axis.n).product();
    (0..n).map(move |mut i| {
        let (mut from, mut to) = (0, 0);
        for axis in outer.iter().rev() {
            from += i % axis.n * axis.from;
            to += i % axis.n * axis.to;
            i /= axis.n;
        }
        (from, to)
    })
}
