//! The memory of work that does not train: loading, generating, evaluating, exporting. Counted before it is allocated, by the
//! functions that allocate it.

use crate::model::{ModelConfig, ParameterBytes, TrainingMemory, TrainingSizes, logits_bytes};
use crate::ops::{Isa, Precision};
use crate::train::TOKENS_AT_ONCE;

/// The processor's part in the size of an operation's work space.
#[derive(Clone, Copy, Debug)]
pub struct Processor {
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Number format of products.
    pub precision: Precision,
    /// Threads, each with a work space.
    pub n_threads: usize,
}

/// Bytes of a model that is read into memory, and of what its readers hold meanwhile.
pub fn loading_bytes(config: &ModelConfig) -> u64 {
    let ParameterBytes { all, block, .. } = ParameterBytes::of(config);
    // Four readers, each with a matrix [C, 4C] in the file's layout.
    all.saturating_add(block.saturating_mul(2))
}

/// Bytes of evaluating a text in windows, besides the model and the text.
pub fn evaluation_bytes(config: &ModelConfig, window: usize, processor: Processor) -> u64 {
    let window = window.clamp(1, config.n_positions.max(1));
    let sizes = TrainingSizes {
        n_sequences: 1,
        n_evaluated: (TOKENS_AT_ONCE / window).max(1),
        n_positions: window,
        stores_masks: false,
    };
    let memory = TrainingMemory::of(config, sizes, processor.isa, processor.precision, processor.n_threads);
    let parts = [memory.saved_evaluation, memory.scratch, memory.loss, memory.batch, memory.pool];
    parts.into_iter().fold(0, u64::saturating_add)
}

/// Bytes of computing the logits of `n_tokens` tokens, besides the model.
pub fn all_logits_bytes(config: &ModelConfig, n_tokens: usize, processor: Processor) -> u64 {
    let n_positions = n_tokens.clamp(1, config.n_positions.max(1));
    let sizes = TrainingSizes { n_sequences: 1, n_evaluated: 1, n_positions, stores_masks: false };
    let memory = TrainingMemory::of(config, sizes, processor.isa, processor.precision, processor.n_threads);
    logits_bytes(config, n_positions).saturating_add(memory.pool)
}

/// Bytes of writing a model that stays in its file, and of comparing the logits of `n_tokens` tokens.
pub fn export_bytes(config: &ModelConfig, n_tokens: usize, processor: Processor) -> u64 {
    let ParameterBytes { wte, block, .. } = ParameterBytes::of(config);
    // The embedding or a block, and of one parameter the file's bytes and their transpose.
    let parts = wte.max(block).saturating_mul(3);
    parts.saturating_add(all_logits_bytes(config, n_tokens, processor).saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn what_is_planned_grows_with_the_model_and_the_text() {
        let processor = Processor { isa: Isa::Portable, precision: Precision::F32, n_threads: 2 };
        let (small, large) = (Preset::Tiny.config(), Preset::Gpt2.config());
        assert!(loading_bytes(&large) > 4 * large.n_parameters() as u64);
        for bytes in [evaluation_bytes, all_logits_bytes, export_bytes] {
            let [a, b, c] = [(&small, 8), (&small, 64), (&large, 64)].map(|(config, n)| bytes(config, n, processor));
            assert!(0 < a && a <= b && b < c, "{a}, {b}, {c}");
        }
        // The logits themselves are part of it.
        assert!(all_logits_bytes(&large, 1024, processor) > 4 * 1024 * 50_257);
        // No window is longer than the context.
        let of_window = |window| evaluation_bytes(&large, window, processor);
        assert_eq!(of_window(usize::MAX), of_window(large.n_positions));
    }
}
