//! Sizes whose products wrap: each must be refused by the check of the operation, on which its unsafe code relies.

use std::panic::{AssertUnwindSafe, catch_unwind};

use calame_kernels::{
    Activation, AttentionShape, DropMask, Epilogue, Init, Isa, KvPages, MatMut, MatRef, Pool, Precision,
    attention_backward, attention_extend, attention_forward, copy_rows, embedding_forward, gather_rows, gemm_then,
    nonzero_rows, scatter_rows_add, store_kv,
};

/// Half of the bits of a size: its square wraps to 0.
const HALF: usize = 1 << (usize::BITS / 2);
/// Twice this wraps to 0.
const TOP: usize = 1 << (usize::BITS - 1);

/// The operation's own message: an overflow that is found only in a build with checks has another one.
#[track_caller]
fn is_refused(by: &str, operation: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(operation)).expect_err("it is refused");
    let message =
        panic.downcast_ref::<String>().cloned().unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string());
    assert!(message.starts_with(by), "expected {by:?}, found {message:?}");
}

fn pool() -> Pool {
    Pool::new(2, Isa::Portable)
}

#[test]
fn attention() {
    let pool = pool();
    let shapes =
        [(HALF, HALF, 1, 1), (1, HALF, HALF, 1), (1, 1, HALF, HALF), (2, TOP, 1, 1), (1, 2, 1, TOP), (TOP, 1, 2, 0)];
    for (n_sequences, n_positions, n_head, head_size) in shapes {
        let shape = AttentionShape { n_sequences, n_positions, n_head, head_size };
        is_refused("attention AttentionShape", || {
            attention_forward(&pool, Precision::F32, shape, 1.0, &[], None, None, &mut [], &mut []);
        });
        is_refused("attention AttentionShape", || {
            attention_backward(&pool, Precision::F32, shape, 1.0, &[], &[], None, None, &[], &[], &mut []);
        });
    }
}

#[test]
fn pages() {
    let pool = pool();
    let one = KvPages { page_len: 1, table: &[0], starts: &[0] };
    let two = [[0, 0], [0, 1]];
    is_refused("store_kv", || store_kv(&pool, &[], (1, TOP), &two[0], &two[1], one, &mut [], &mut []));
    // The end of page 1 wraps to 0, which lies in every store.
    let wrapping = KvPages { page_len: TOP, table: &[1], starts: &[0] };
    is_refused("store_kv", || store_kv(&pool, &[0.0; 3], (1, 1), &[0], &[0], wrapping, &mut [0.0], &mut [0.0]));
    for (n_head, head_size) in [(HALF, HALF), (TOP, 2), (2, TOP)] {
        is_refused("attention_extend", || {
            attention_extend(&pool, &[], n_head, head_size, 1.0, &two[0], &two[1], one, &[], &[], &mut []);
        });
    }
    is_refused("attention_extend", || {
        attention_extend(&pool, &[0.0; 3], 1, 1, 1.0, &[0], &[0], wrapping, &[0.0], &[0.0], &mut [0.0]);
    });
}

#[test]
fn matrices() {
    let data = [0.0; 8];
    for (rows, cols, stride) in
        [(HALF, HALF, HALF), (TOP + 1, 2, 2), (2, usize::MAX, usize::MAX), (3, 4, TOP), (HALF, 4, HALF)]
    {
        is_refused("matrix", || _ = MatRef::new(&data, rows, cols, stride));
        is_refused("matrix", || _ = MatMut::new(&mut [0.0; 8], rows, cols, stride));
        let columns = cols.saturating_sub(1)..cols;
        is_refused("columns", || _ = MatRef::columns(&data, rows.max(TOP), cols.max(2), columns.clone()));
        is_refused("columns", || _ = MatMut::columns(&mut [0.0; 8], rows.max(TOP), cols.max(2), columns));
    }
    // A single row may have any stride, which is never multiplied.
    let pool = pool();
    let mut c = [0.0; 4];
    let (a, b) = (MatRef::new(&data[..2], 1, 2, usize::MAX), MatRef::dense(&data, 2, 4));
    gemm_then(&pool, Precision::F32, a, b, MatMut::new(&mut c, 1, 4, 4), Init::Zero, Epilogue::None);
    let (a, b) = (MatRef::dense(&data[..4], 4, 1), MatRef::new(&data[..1], 1, 1, usize::MAX));
    gemm_then(&pool, Precision::F32, a, b.t(), MatMut::new(&mut c, 4, 1, 1), Init::Zero, Epilogue::None);
}

#[test]
fn epilogues() {
    let pool = pool();
    let (a, b) = ([0.0; 2], [0.0; 2]);
    let activation = Activation::ALL[0];
    for len in [0, 3, 5] {
        let (x, mut y, mut c) = (vec![0.0; len], vec![0.0; len], [0.0; 4]);
        let mut is_refused_by_check = |epilogue: Epilogue<'_>| {
            is_refused("gemm: ", || {
                let (a, b, c) = (MatRef::dense(&a, 2, 1), MatRef::dense(&b, 1, 2), MatMut::dense(&mut c, 2, 2));
                gemm_then(&pool, Precision::F32, a, b, c, Init::Zero, epilogue);
            });
        };
        is_refused_by_check(Epilogue::Activation { activation, y: &mut y });
        is_refused_by_check(Epilogue::ActivationBackward { activation, x: &x, y: &mut y });
        is_refused_by_check(Epilogue::AddDropped { x: &x, keep: None, rows_per_sequence: 1 });
    }
}

#[test]
fn rows_and_masks() {
    let pool = pool();
    let two = [0, 0];
    is_refused("gather_rows", || gather_rows(&pool, &[], TOP, &two, &mut []));
    is_refused("scatter_rows_add", || scatter_rows_add(&[], TOP, &two, &mut []));
    is_refused("nonzero_rows", || nonzero_rows(&[], TOP, &mut [false; 2]));
    is_refused("embedding_forward", || embedding_forward(&pool, &two, &two, &[], &[], TOP, &mut []));
    is_refused("copy_rows", || copy_rows(&mut [], 1, usize::MAX, 0, 1));
    is_refused("a mask", || _ = DropMask::stored(&[], HALF, HALF * 64, 1.0));
}
