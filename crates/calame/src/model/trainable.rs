//! Which parts of a model there are for backward, and which of them are trained.

/// What becomes final together in backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `ln_f` and a head of its own.
    Head,
    /// The parameters of block i.
    Block(usize),
    /// `wte` and `wpe`, and with `wte` a tied head.
    Embeddings,
}

/// Which parameters are trained. Gradients and moments of the others are absent, and backward stops where nothing is left
/// to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// The first block that is trained; embeddings are trained with block 0 only.
    pub first_block: usize,
    /// Whether only adapters, and a head that the objective owns, are trained.
    pub adapters_only: bool,
    /// Whether the model's head, where it is a table of its own, is trained: not with a head that the objective owns.
    pub lm_head: bool,
}

impl Trainable {
    /// Every parameter of the model.
    pub const ALL: Trainable = Trainable { first_block: 0, adapters_only: false, lm_head: true };

    /// The adapters of every block.
    pub const ADAPTERS: Trainable = Trainable { first_block: 0, adapters_only: true, lm_head: false };

    /// The blocks from `first_block` on, the last normalisation and the head, unless the head is `wte`.
    pub fn from_block(first_block: usize) -> Trainable {
        Trainable { first_block, ..Trainable::ALL }
    }

    pub(super) fn embeddings(self) -> bool {
        self.first_block == 0 && !self.adapters_only
    }
}
