//! What a model takes of memory, counted by the functions that make its parts, without making them.

use super::dropout::Masks;
use super::gpt::{Saved, Scratch};
use super::{ExtendScratch, ModelConfig, kv_cache, params};
use crate::ops::{self, AttentionShape, Isa, Precision, WorkspaceSize};
use crate::tensor::Rooms;

/// Bytes of a training's parts, all but parameters and text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainingRoom {
    /// What forward keeps for backward.
    pub saved: u64,
    /// The same for evaluations: one block's.
    pub saved_evaluation: u64,
    /// Work space of forward and backward.
    pub scratch: u64,
    /// Logits of a chunk of rows, and the losses.
    pub classifier: u64,
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
    /// T.
    pub n_positions: usize,
    /// Whether dropout masks are stored.
    pub stores_masks: bool,
}

/// Beyond this many rows B·T a training takes more memory than any machine has, and sizes would not fit their numbers.
const MAX_ROWS: usize = 1 << 32;

impl TrainingRoom {
    /// Counts a training of `config` on `n_threads`.
    pub fn of(
        config: &ModelConfig,
        sizes: TrainingSizes,
        isa: Isa,
        precision: Precision,
        n_threads: usize,
    ) -> TrainingRoom {
        let t = sizes.n_positions;
        let [b, evaluated] = [sizes.n_sequences, sizes.n_evaluated].map(|b| b.clamp(1, (MAX_ROWS / t.max(1)).max(1)));
        let most = b.max(evaluated);
        let saved = |n_blocks, n_sequences| {
            let mut rooms = Rooms::counted();
            Saved::with_blocks(config, n_blocks, n_sequences, t, &mut rooms);
            rooms.bytes()
        };
        let (mut scratch, mut classifier) = (Rooms::counted(), Rooms::counted());
        Scratch::with_rooms(config, most * t, &mut scratch, &mut classifier);
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
        TrainingRoom {
            // Every block keeps the same: the second one's share stands for all but the first.
            saved: saved(1, b).saturating_add((saved(2, b) - saved(1, b)).saturating_mul(config.n_layer as u64 - 1)),
            // It has room for the larger batch, and touches what evaluations use.
            saved_evaluation: saved(1, evaluated),
            scratch: scratch.bytes(),
            classifier: classifier.bytes(),
            pool,
            masks: if sizes.stores_masks { Masks::bytes(config, b, t) } else { 0 },
        }
    }
}

/// [m, k, n] of every product of a step on `n_rows` tokens.
fn products(config: &ModelConfig, n_rows: usize) -> impl Iterator<Item = [usize; 3]> + use<> {
    let (c, v) = (config.n_embd, config.vocab_size);
    let chunk = ops::chunk_rows(n_rows).min(n_rows);
    let layers = [(n_rows, c, 3 * c), (n_rows, c, c), (n_rows, c, 4 * c), (n_rows, 4 * c, c), (chunk, c, v)];
    // y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x.
    layers.into_iter().flat_map(|(rows, ins, outs)| [[rows, ins, outs], [rows, outs, ins], [outs, rows, ins]])
}

/// Bytes of all parameters; those of `wte`, and those of one block, among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterBytes {
    /// A tied head counted once.
    pub all: u64,
    /// Of the token embedding.
    pub wte: u64,
    /// Of one block.
    pub block: u64,
}

impl ParameterBytes {
    /// Counts a model's.
    pub fn of(config: &ModelConfig) -> ParameterBytes {
        let mut bytes = ParameterBytes::default();
        // All blocks have the same shape: one stands for them.
        let one = ModelConfig { n_layer: 1, ..config.clone() };
        for (name, dims) in params::shapes(&one) {
            let n = dims.iter().fold(4, |n: u64, &size| n.saturating_mul(size as u64));
            match name.block {
                Some(_) => bytes.block = bytes.block.saturating_add(n),
                None => bytes.all = bytes.all.saturating_add(n),
            }
            if name.path == "wte.weight" {
                bytes.wte = n;
            }
        }
        bytes.all = bytes.all.saturating_add(bytes.block.saturating_mul(config.n_layer as u64));
        bytes
    }
}

/// Bytes that one text of `n_tokens` takes while it is written, its prompt being `n_prompt` of them.
pub fn generation_bytes(config: &ModelConfig, n_prompt: usize, n_tokens: usize) -> u64 {
    let mut rooms = Rooms::counted();
    ExtendScratch::with_rooms(config, n_prompt.clamp(1, config.n_positions), &mut rooms);
    rooms.zeros([config.vocab_size]);
    rooms.bytes() + kv_cache::touched_bytes(config, n_tokens.min(config.n_positions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gpt, Preset};

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        for preset in [Preset::Tiny, Preset::Book, Preset::Gpt2Xl] {
            let config = preset.config();
            let bytes = ParameterBytes::of(&config);
            assert_eq!(bytes.all, 4 * config.n_parameters() as u64, "{}", preset.name());
            assert_eq!(bytes.wte, 4 * (config.vocab_size * config.n_embd) as u64);
        }
        let config = Preset::Tiny.config();
        let one_block: usize = Gpt::zeros_of_one_block(&config).tensors().map(|(_, t)| 4 * t.len()).sum();
        let bytes = ParameterBytes::of(&config);
        assert_eq!(one_block as u64, bytes.all - bytes.block * (config.n_layer as u64 - 1));
    }

    /// What is counted is what is made: the real constructors are asked for the same sizes.
    #[test]
    fn a_step_and_an_evaluation_fit_what_is_counted() {
        let config = ModelConfig { dropout: 0.1, ..Preset::Tiny.config() };
        let sizes = TrainingSizes { n_sequences: 3, n_evaluated: 5, n_positions: 17, stores_masks: true };
        let room = TrainingRoom::of(&config, sizes, Isa::Portable, Precision::F32, 2);
        let (c, v, l, nh) = (config.n_embd, config.vocab_size, config.n_layer, config.n_head);
        let (rows, evaluated) = (3 * 17, 5 * 17);
        // By hand: x and y of C; each block 3C + C + C + 4C, heads, four means and deviations; positions.
        let saved = |rows: usize, l: usize| 4 * rows * ((l + 2) * c + l * (9 * c + nh + 4) + 2 + 1);
        assert_eq!(room.saved, saved(rows, l) as u64);
        assert_eq!(room.saved_evaluation, saved(evaluated, 1) as u64);
        assert_eq!(room.scratch, (4 * evaluated * (3 * c + 4 * c + 8 * c + 2 * c)) as u64);
        assert_eq!(room.classifier, (4 * evaluated * (v + 1)) as u64);
        assert!(room.pool > 0 && room.masks > 0);
    }

    #[test]
    fn sizes_beyond_any_machine_are_counted_as_such() {
        let config = ModelConfig { n_embd: 1 << 24, n_head: 1 << 24, ..Preset::Tiny.config() };
        let sizes =
            TrainingSizes { n_sequences: 1 << 40, n_evaluated: 1 << 40, n_positions: 1 << 20, stores_masks: false };
        let room = TrainingRoom::of(&config, sizes, Isa::Portable, Precision::F32, 2);
        assert!(room.saved > 1 << 50);
    }
}
