//! The memory that a model's parts take, counted by the functions that create them.

use super::dropout::Masks;
use super::gpt::{Saved, Scratch};
use super::gradients::Gradients;
use super::trainable::Trainable;
use super::{Batch, Gpt, ModelConfig};
use crate::ops::{self, AttentionShape, Isa, Precision, WorkspaceSize};
use crate::tensor::Alloc;

/// Bytes of a training's parts, all but parameters, gradients, moments and text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainingMemory {
    /// What forward saves for backward.
    pub saved: u64,
    /// The same for evaluations: that of one block.
    pub saved_evaluation: u64,
    /// Work space of forward and backward.
    pub scratch: u64,
    /// Logits of a chunk of rows, and the losses.
    pub loss: u64,
    /// Token ids, positions and weights of a batch.
    pub batch: u64,
    /// Packed panels of products, and what attention works on, of all threads.
    pub pool: u64,
    /// Stored dropout masks, of a run that follows a PyTorch script.
    pub masks: u64,
}

/// The sizes that a training is planned for.
#[derive(Clone, Copy, Debug)]
pub struct TrainingSizes {
    /// B of a step.
    pub n_sequences: usize,
    /// B of an evaluation.
    pub n_evaluated: usize,
    /// T of steps and evaluations.
    pub n_positions: usize,
    /// Whether dropout masks are stored.
    pub stores_masks: bool,
}

/// Beyond this many rows B·T a training takes more memory than any machine has, and sizes would overflow.
const MAX_ROWS: usize = 1 << 32;

impl TrainingMemory {
    /// Counts a training of `config` on `n_threads`.
    pub fn of(
        config: &ModelConfig,
        sizes: TrainingSizes,
        isa: Isa,
        precision: Precision,
        n_threads: usize,
    ) -> TrainingMemory {
        let t = sizes.n_positions;
        let [b, evaluated] = [sizes.n_sequences, sizes.n_evaluated].map(|b| b.clamp(1, (MAX_ROWS / t.max(1)).max(1)));
        let most = b.max(evaluated);
        let saved =
            |n_blocks, n_sequences| counted(|alloc| drop(Saved::with_blocks(config, n_blocks, n_sequences, t, alloc)));
        let scratch = |n_outputs| counted(|alloc| drop(Scratch::with_outputs(config, most * t, n_outputs, 0, alloc)));
        let largest = products(config, b * t).chain(products(config, evaluated * t));
        let attention = |n_sequences| {
            let (n_head, head_size) = (config.n_head, config.head_size());
            ops::attention_workspace_size(
                isa,
                precision,
                AttentionShape { n_sequences, n_positions: t, n_head, head_size },
            )
        };
        let pool = largest
            .map(|[m, k, n]| ops::gemm_workspace_size(isa, precision, m, k, n))
            .fold(attention(most), WorkspaceSize::max)
            .bytes(n_threads);
        let losses = 4 * (most * t) as u64;
        TrainingMemory {
            // Every block saves the same: the second one's share counts for all but the first.
            saved: saved(1, b).saturating_add((saved(2, b) - saved(1, b)).saturating_mul(config.n_layer as u64 - 1)),
            // It has the capacity for the larger batch, and touches what evaluations use.
            saved_evaluation: saved(1, evaluated),
            scratch: scratch(0).saturating_sub(losses),
            loss: (scratch(config.vocab_size) - scratch(0)).saturating_add(losses),
            batch: counted(|alloc| drop(Batch::new(most * t, alloc))),
            pool,
            masks: if sizes.stores_masks { Masks::bytes(config, b, t) } else { 0 },
        }
    }
}

/// Bytes that `create` asks for, without allocating them.
fn counted(create: impl FnOnce(&mut Alloc<'_>)) -> u64 {
    let mut alloc = Alloc::counting();
    create(&mut alloc);
    alloc.bytes()
}

/// [m, k, n] of every product of a step on `n_rows` tokens.
fn products(config: &ModelConfig, n_rows: usize) -> impl Iterator<Item = [usize; 3]> + use<> {
    let (c, inner, v) = (config.n_embd, config.inner_size(), config.vocab_size);
    let chunk = ops::chunk_rows(n_rows).min(n_rows);
    let layers = [(n_rows, c, 3 * c), (n_rows, c, c), (n_rows, c, inner), (n_rows, inner, c), (chunk, c, v)];
    // y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x.
    layers.into_iter().flat_map(|(rows, ins, outs)| [[rows, ins, outs], [rows, outs, ins], [outs, rows, ins]])
}

/// Bytes that [`Gpt::logits`] allocates for one sequence, the logits included.
pub fn logits_bytes(config: &ModelConfig, n_tokens: usize) -> u64 {
    counted(|alloc| {
        drop(Batch::new(n_tokens, alloc));
        drop(Saved::for_evaluation(config, 1, n_tokens, alloc));
        drop(Scratch::with_outputs(config, n_tokens, 1, 0, alloc));
        drop(alloc.zeros([n_tokens, config.vocab_size]));
    })
}

/// Bytes of all parameters; those of `wte`, and those of one block, among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterBytes {
    /// Of all parameters, a tied head counted once.
    pub all: u64,
    /// Of the token embedding.
    pub wte: u64,
    /// Of each of the L blocks.
    pub block: u64,
}

impl ParameterBytes {
    /// Counts the parameters of a model that need not be in memory.
    pub fn of(config: &ModelConfig) -> ParameterBytes {
        // All blocks have the same shape: the second one's share counts for all but the first.
        let of = |n_layer, vocab_size| {
            let config = ModelConfig { n_layer, vocab_size, ..config.clone() };
            counted(|alloc| drop(Gpt::zeros(&config, alloc)))
        };
        let (v, block) = (config.vocab_size, of(2, 1) - of(1, 1));
        let wte = 4u64.saturating_mul(v as u64).saturating_mul(config.n_embd as u64);
        let all = of(1, v).saturating_add(block.saturating_mul(config.n_layer as u64 - 1));
        ParameterBytes { all, wte, block }
    }
}

/// Bytes of the gradients and of both moments of a model whose blocks share `n_buffers` buffers of gradients.
pub fn gradient_and_moment_bytes(config: &ModelConfig, n_buffers: usize) -> (u64, u64) {
    // Blocks are counted as in [`ParameterBytes::of`].
    let of = |n_layer| {
        let config = ModelConfig { n_layer, ..config.clone() };
        let gradients = |n| counted(|alloc| drop(Gradients::of_shape(&config, None, Trainable::ALL, n, alloc)));
        let moments = counted(|alloc| drop(Gpt::moments_of_shape(&config, Trainable::ALL, alloc)));
        (gradients(n_layer.min(n_buffers)), moments)
    };
    let ((g1, m1), (g2, m2)) = (of(1), of(2));
    let n_more = |n: usize| n.min(config.n_layer).saturating_sub(1) as u64;
    let one_buffer = if n_buffers > 1 { g2 - g1 } else { 0 };
    let gradients = g1.saturating_add(one_buffer.saturating_mul(n_more(n_buffers)));
    (gradients, 2 * m1.saturating_add((m2 - m1).saturating_mul(n_more(usize::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        for preset in [Preset::Tiny, Preset::Book, Preset::Gpt2Xl] {
            let config = preset.config();
            let bytes = ParameterBytes::of(&config);
            assert_eq!(bytes.all, 4 * config.n_parameters() as u64, "{}", preset.name());
            assert_eq!(bytes.wte, 4 * (config.vocab_size * config.n_embd) as u64);
        }
        let config = Preset::Tiny.config();
        // With a tied head, gradients have what parameters have; blocks may share a buffer.
        let bytes = ParameterBytes::of(&config);
        let one_buffer = bytes.all - bytes.block * (config.n_layer as u64 - 1);
        assert_eq!(gradient_and_moment_bytes(&config, 1), (one_buffer, 2 * bytes.all));
        assert_eq!(gradient_and_moment_bytes(&config, config.n_layer), (bytes.all, 2 * bytes.all));
    }

    /// What is counted is what is made: the real constructors are asked for the same sizes.
    #[test]
    fn a_step_and_an_evaluation_fit_what_is_counted() {
        let four_times = ModelConfig { dropout: 0.1, ..Preset::Tiny.config() };
        for config in [ModelConfig { n_inner: Some(100), bias: false, ..four_times.clone() }, four_times] {
            fits_what_is_counted(&config);
        }
    }

    fn fits_what_is_counted(config: &ModelConfig) {
        let sizes = TrainingSizes { n_sequences: 3, n_evaluated: 5, n_positions: 17, stores_masks: true };
        let memory = TrainingMemory::of(config, sizes, Isa::Portable, Precision::F32, 2);
        let (c, v, l, nh, inner) =
            (config.n_embd, config.vocab_size, config.n_layer, config.n_head, config.inner_size());
        let (rows, evaluated) = (3 * 17, 5 * 17);
        // By hand: x and y of C; each block 3C + C + C and the MLP's width, heads, four means and deviations.
        let saved = |rows: usize, l: usize| 4 * rows * ((l + 2) * c + l * (5 * c + inner + nh + 4) + 2);
        assert_eq!(memory.saved, saved(rows, l) as u64);
        assert_eq!(memory.saved_evaluation, saved(evaluated, 1) as u64);
        assert_eq!(memory.scratch, (4 * evaluated * (3 * c + 4 * c + 2 * inner + 2 * c)) as u64);
        assert_eq!(memory.loss, (4 * evaluated * (v + 1)) as u64);
        // Inputs, targets, positions, starts, weights; starts and positions once more before they are copied.
        assert_eq!(memory.batch, (4 * evaluated * 7) as u64);
        assert!(memory.pool > 0 && memory.masks > 0);
    }

    #[test]
    fn sizes_beyond_any_machine_are_counted_as_such() {
        let config = ModelConfig { n_embd: 1 << 24, n_head: 1 << 24, ..Preset::Tiny.config() };
        let sizes =
            TrainingSizes { n_sequences: 1 << 40, n_evaluated: 1 << 40, n_positions: 1 << 20, stores_masks: false };
        let memory = TrainingMemory::of(&config, sizes, Isa::Portable, Precision::F32, 2);
        assert!(memory.saved > 1 << 50);
    }
}
