//! The visitor: every parameter with its name, in one order, for weights, gradients and moments alike.
//!
//! Trees of the same shape are walked in step by zipping their iterators. Tensors that are absent (a bias that a layer does
//! not have, the gradient of a frozen parameter) are given too, so that the places agree; whoever walks passes over them.

use std::fmt;

use super::gpt::{Gpt, Part};
use super::{Block, Init, ModelConfig};
use crate::tensor::Tensor;

/// The name of a parameter: field path, checkpoint key and log entry in one. Printing it gives `h.3.attn.c_attn.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamName {
    /// The block's number, for a parameter of a block.
    pub block: Option<usize>,
    /// The path below the model or the block.
    pub path: &'static str,
}

impl fmt::Display for ParamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            Some(i) => write!(f, "h.{i}.{}", self.path),
            None => f.write_str(self.path),
        }
    }
}

/// What a parameter is for; initialisation and decay depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `wte` and `wpe`.
    Embedding,
    /// The weight of a linear layer.
    Matrix,
    /// The weight of one that writes to the residual stream.
    ResidualMatrix,
    /// The bias of a linear layer.
    Bias,
    /// The weight of a layer normalisation.
    Gain,
    /// Its bias.
    Shift,
}

impl ParamName {
    /// What it is for.
    pub fn kind(&self) -> Kind {
        match self.path {
            "wte.weight" | "wpe.weight" => Kind::Embedding,
            "attn.c_proj.weight" | "mlp.c_proj.weight" => Kind::ResidualMatrix,
            path if path.starts_with("ln_") => {
                if path.ends_with("weight") {
                    Kind::Gain
                } else {
                    Kind::Shift
                }
            }
            path if path.ends_with("bias") => Kind::Bias,
            _ => Kind::Matrix,
        }
    }
}

macro_rules! named {
    ($block:expr; $($path:literal => $tensor:expr),* $(,)?) => {
        [$((ParamName { block: $block, path: $path }, $tensor)),*]
    };
}

/// The fields of a block, by reference or by mutable reference.
macro_rules! of_block {
    ($i:expr, $b:expr, $($r:tt)*) => {
        named![Some($i);
            "ln_1.weight" => $($r)* $b.ln_1.weight,
            "ln_1.bias" => $($r)* $b.ln_1.bias,
            "attn.c_attn.weight" => $($r)* $b.attn.c_attn.weight,
            "attn.c_attn.bias" => $($r)* $b.attn.c_attn.bias,
            "attn.c_proj.weight" => $($r)* $b.attn.c_proj.weight,
            "attn.c_proj.bias" => $($r)* $b.attn.c_proj.bias,
            "ln_2.weight" => $($r)* $b.ln_2.weight,
            "ln_2.bias" => $($r)* $b.ln_2.bias,
            "mlp.c_fc.weight" => $($r)* $b.mlp.c_fc.weight,
            "mlp.c_fc.bias" => $($r)* $b.mlp.c_fc.bias,
            "mlp.c_proj.weight" => $($r)* $b.mlp.c_proj.weight,
            "mlp.c_proj.bias" => $($r)* $b.mlp.c_proj.bias,
        ]
    };
}

fn block(i: usize, b: &Block) -> [(ParamName, &Tensor); 12] {
    of_block!(i, b, &)
}

fn block_mut(i: usize, b: &mut Block) -> [(ParamName, &mut Tensor); 12] {
    of_block!(i, b, &mut)
}

impl Gpt {
    /// Every parameter, absent ones too.
    pub fn tensors(&self) -> impl Iterator<Item = (ParamName, &Tensor)> {
        let first = named![None; "wte.weight" => &self.wte, "wpe.weight" => &self.wpe];
        let last = named![None;
            "ln_f.weight" => &self.ln_f.weight, "ln_f.bias" => &self.ln_f.bias, "lm_head.weight" => &self.lm_head];
        let blocks = self.h.iter().enumerate().flat_map(|(i, b)| block(i, b));
        first.into_iter().chain(blocks).chain(last)
    }

    /// Every parameter to change, absent ones too, in the order of [`Gpt::tensors`].
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (ParamName, &mut Tensor)> {
        let first = named![None; "wte.weight" => &mut self.wte, "wpe.weight" => &mut self.wpe];
        let last = named![None;
            "ln_f.weight" => &mut self.ln_f.weight, "ln_f.bias" => &mut self.ln_f.bias,
            "lm_head.weight" => &mut self.lm_head];
        let blocks = self.h.iter_mut().enumerate().flat_map(|(i, b)| block_mut(i, b));
        first.into_iter().chain(blocks).chain(last)
    }

    /// The parameters of one part, absent ones too.
    pub fn part_mut(&mut self, part: Part) -> impl Iterator<Item = (ParamName, &mut Tensor)> {
        let (mut embeddings, mut head, mut inner) = (None, None, None);
        match part {
            Part::Embeddings => {
                embeddings = Some(named![None; "wte.weight" => &mut self.wte, "wpe.weight" => &mut self.wpe]);
            }
            Part::Head => {
                head = Some(named![None;
                    "ln_f.weight" => &mut self.ln_f.weight, "ln_f.bias" => &mut self.ln_f.bias,
                    "lm_head.weight" => &mut self.lm_head]);
            }
            Part::Block(i) => inner = Some(block_mut(i, self.block_mut(i))),
        }
        let embeddings = embeddings.into_iter().flatten();
        embeddings.chain(head.into_iter().flatten()).chain(inner.into_iter().flatten())
    }

    /// The first parameter that holds a number that is not finite.
    pub fn first_not_finite(&self) -> Option<ParamName> {
        self.tensors().find(|(_, t)| t.as_slice().iter().any(|x| !x.is_finite())).map(|(name, _)| name)
    }
}

/// The names and sizes of a model's parameters, without their memory.
pub fn shapes(config: &ModelConfig) -> Vec<(ParamName, Vec<usize>)> {
    // One block of width 1 has the names; the sizes follow from what each parameter is.
    let small = ModelConfig {
        vocab_size: 1,
        n_positions: 1,
        n_embd: 1,
        n_head: 1,
        n_layer: config.n_layer,
        init: Init::Gpt2,
        ..config.clone()
    };
    let (v, c) = (config.vocab_size, config.n_embd);
    let of = |name: ParamName, tensor: &Tensor| match name.path {
        "wte.weight" | "lm_head.weight" => vec![v, c],
        "wpe.weight" => vec![config.n_positions, c],
        // Of a layer of width 1 the sizes are the multiples of C: [3, 1] stands for [3C, C].
        _ => tensor.dims().iter().map(|n| n * c).collect(),
    };
    Gpt::zeros(&small).tensors().filter(|(_, t)| !t.is_empty()).map(|(name, t)| (name, of(name, t))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn the_visitor_reaches_every_parameter_once() {
        for config in [
            ModelConfig { n_layer: 3, ..Preset::Tiny.config() },
            ModelConfig { tied_head: false, qkv_bias: false, ..Preset::Tiny.config() },
        ] {
            let mut gpt = Gpt::zeros(&config);
            let total: usize = gpt.tensors().map(|(_, t)| t.len()).sum();
            assert_eq!(total, config.n_parameters());
            let names: Vec<String> = gpt.tensors().map(|(name, _)| name.to_string()).collect();
            let unique: std::collections::HashSet<&String> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
            let mutable: Vec<String> = gpt.tensors_mut().map(|(name, _)| name.to_string()).collect();
            assert_eq!(mutable, names);
            let mut parts: Vec<String> = Vec::new();
            let blocks = (0..config.n_layer).map(Part::Block);
            for part in std::iter::once(Part::Embeddings).chain(blocks).chain([Part::Head]) {
                parts.extend(gpt.part_mut(part).map(|(name, _)| name.to_string()));
            }
            assert_eq!(parts, names);
            let there: Vec<(ParamName, Vec<usize>)> =
                gpt.tensors().filter(|(_, t)| !t.is_empty()).map(|(n, t)| (n, t.dims().to_vec())).collect();
            assert_eq!(shapes(&config), there);
        }
    }
}
