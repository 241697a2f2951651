//! What is known of every parameter without its memory: shape, purpose, initialisation, decay.

use super::name::ParamName;
use super::table::{BLOCK, EMBEDDINGS, HEAD, Kind, Param, WTE};
use crate::model::{Init, ModelConfig};

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Every element is 0.
    Zeros,
    /// Every element is 1.
    Ones,
    /// Normal with mean 0.
    Normal {
        /// Standard deviation of the distribution.
        std: f32,
    },
    /// Uniform in [−bound, bound).
    Uniform {
        /// The largest magnitude of an element.
        bound: f32,
    },
}

/// Everything that is known of a parameter without its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// The field path, which is also its key in checkpoints.
    pub name: ParamName,
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: Kind,
    /// How a fresh one is drawn.
    pub init: Initial,
    /// Whether it is a matrix, from which GPT-2's weight decay takes.
    pub decays: bool,
}

impl ParamSpec {
    /// The specification of a parameter in a model.
    pub fn new(block: Option<usize>, param: &'static Param, config: &ModelConfig) -> ParamSpec {
        ParamSpec {
            name: ParamName { block, param, adapter: None },
            shape: param.dims(config).as_slice().to_vec(),
            kind: param.kind,
            init: initial(param, config),
            decays: param.kind.is_matrix(),
        }
    }

    /// Whether it is a matrix that forward reads as the right operand of a product: the weight of a linear layer, or the
    /// table of tokens, which may also be the head.
    pub fn is_read_by_products(&self) -> bool {
        self.kind.is_linear_weight() || *self.name.param == WTE
    }
}

fn initial(param: &Param, config: &ModelConfig) -> Initial {
    let uniform = || Initial::Uniform { bound: 1.0 / (param.n_inputs.of(config) as f32).sqrt() };
    match (param.kind, config.init) {
        (Kind::Gain, _) => Initial::Ones,
        (Kind::Shift, _) | (Kind::Bias, Init::Gpt2) => Initial::Zeros,
        (Kind::Embedding, Init::Pytorch) => Initial::Normal { std: 1.0 },
        (Kind::Embedding | Kind::Matrix, Init::Gpt2) => Initial::Normal { std: 0.02 },
        (Kind::ResidualMatrix, Init::Gpt2) => Initial::Normal { std: 0.02 / (2.0 * config.n_layer as f32).sqrt() },
        (Kind::Matrix | Kind::ResidualMatrix | Kind::Bias, Init::Pytorch) => uniform(),
        // Of factor A (appendix E of the book, Kaiming's with a = √5: the same bound); factor B is zero.
        (Kind::LowRank, _) => uniform(),
    }
}

/// The parameters of a model, in the order of the visitor, without their memory.
pub fn specs(config: &ModelConfig) -> impl Iterator<Item = ParamSpec> + use<'_> {
    let blocks = (0..config.n_layer).flat_map(|i| BLOCK.iter().map(move |&param| (Some(i), param)));
    let first = EMBEDDINGS.iter().map(|&param| (None, param));
    let last = HEAD.iter().map(|&param| (None, param));
    let all = first.chain(blocks).chain(last);
    all.filter(|(_, param)| param.is_in(config)).map(|(block, param)| ParamSpec::new(block, param, config))
}

/// Names and sizes of a model's parameters.
pub fn shapes(config: &ModelConfig) -> Vec<(ParamName, Vec<usize>)> {
    specs(config).map(|spec| (spec.name, spec.shape)).collect()
}

/// Names and sizes of the biases that a model lacks; formats that require them hold zeros.
pub fn absent_biases(config: &ModelConfig) -> Vec<(ParamName, Vec<usize>)> {
    let mut all = shapes(&config.with_biases());
    all.retain(|(name, _)| !name.is_in(config));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::device::Device;
    use crate::model::{Gpt, Part, Preset};
    use crate::tensor::Alloc;

    #[test]
    fn the_visitor_reaches_every_parameter_once_and_the_table_has_its_shape() {
        let dev = Device::cpu(1, crate::ops::Isa::Portable, crate::ops::Precision::F32);
        for config in [
            ModelConfig { n_layer: 3, ..Preset::Tiny.config() },
            ModelConfig { tied_head: false, qkv_bias: false, ..Preset::Tiny.config() },
            ModelConfig { bias: false, n_inner: Some(100), ..Preset::Tiny.config() },
        ] {
            let mut gpt = Gpt::zeros(&config, &mut Alloc::on(&dev));
            let total: usize = gpt.tensors().map(|(_, t)| t.len()).sum();
            assert_eq!(total, config.n_parameters());
            let names: Vec<String> = gpt.tensors().map(|(name, _)| name.to_string()).collect();
            let unique: HashSet<&String> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
            let mutable: Vec<String> = gpt.tensors_mut().map(|(name, _)| name.to_string()).collect();
            assert_eq!(mutable, names);
            let mut parts: Vec<String> = Vec::new();
            let blocks = (0..config.n_layer).map(Part::Block);
            for part in std::iter::once(Part::Embeddings).chain(blocks).chain([Part::Head]) {
                parts.extend(gpt.part_mut(part).map(|(name, _)| name.to_string()));
            }
            assert_eq!(parts, names);
            let present: Vec<(ParamName, Vec<usize>)> =
                gpt.tensors().filter(|(_, t)| !t.is_empty()).map(|(n, t)| (n, t.dims().to_vec())).collect();
            assert_eq!(specs(&config).map(|spec| (spec.name, spec.shape)).collect::<Vec<_>>(), present);
            let n_absent: usize = absent_biases(&config).iter().map(|(_, shape)| shape[0]).sum();
            assert_eq!(config.n_parameters() + n_absent, config.with_biases().n_parameters());
        }
    }

    #[test]
    fn initialisation_and_decay_follow_the_kind() {
        let init_of = |init, path: &str| {
            let config = ModelConfig { init, n_layer: 2, n_embd: 64, tied_head: false, ..Preset::Tiny.config() };
            let spec = specs(&config).find(|spec| spec.name.to_string() == path).unwrap();
            (spec.init, spec.decays)
        };
        assert_eq!(init_of(Init::Gpt2, "h.1.mlp.c_proj.weight"), (Initial::Normal { std: 0.01 }, true));
        assert_eq!(init_of(Init::Gpt2, "lm_head.weight"), (Initial::Normal { std: 0.02 }, true));
        assert_eq!(init_of(Init::Gpt2, "h.0.attn.c_proj.bias"), (Initial::Zeros, false));
        assert_eq!(init_of(Init::Pytorch, "wte.weight"), (Initial::Normal { std: 1.0 }, true));
        assert_eq!(init_of(Init::Pytorch, "h.0.mlp.c_proj.bias"), (Initial::Uniform { bound: 1.0 / 16.0 }, false));
        assert_eq!(init_of(Init::Pytorch, "h.0.mlp.c_fc.bias"), (Initial::Uniform { bound: 1.0 / 8.0 }, false));
        assert_eq!(init_of(Init::Pytorch, "ln_f.weight"), (Initial::Ones, false));
    }
}
