//! The visitor: one walk over the parameters of a model, a block or a part, by shared or by mutable reference.

use super::name::{Factor, ParamName};
use super::table::*;
use crate::model::gpt::Gpt;
use crate::model::trainable::Part;
use crate::model::{Block, Head, LayerNorm, Linear};
use crate::tensor::Tensor;

fn name(block: Option<usize>, param: &'static Param) -> ParamName {
    ParamName { block, param, adapter: None }
}

/// The walks over a linear layer, a normalisation, a block and the parts, by shared or by mutable reference.
macro_rules! walks {
    ($item:ident, $linear:ident, $norm:ident, $block:ident, $embeddings:ident, $head:ident, $own_head:ident,
     $iter:ident $(, $mutable:tt)?) => {
        /// Names and tensors of a tree.
        pub type $item<'a> = (ParamName, &'a $($mutable)? Tensor);

        fn $linear<'a>(
            block: usize,
            layer: &'a $($mutable)? Linear,
            weight: &'static Param,
            bias: &'static Param,
        ) -> impl Iterator<Item = $item<'a>> + use<'a> {
            let of = move |i, factor| ParamName { adapter: Some((i, factor)), ..name(Some(block), weight) };
            let adapters = layer.adapters.$iter().enumerate();
            let factors = adapters.flat_map(move |(i, adapter)| {
                [(of(i, Factor::A), & $($mutable)? adapter.a), (of(i, Factor::B), & $($mutable)? adapter.b)]
            });
            let own = [
                (name(Some(block), weight), & $($mutable)? layer.weight),
                (name(Some(block), bias), & $($mutable)? layer.bias),
            ];
            own.into_iter().chain(factors)
        }

        fn $norm<'a>(
            block: Option<usize>,
            norm: &'a $($mutable)? LayerNorm,
            [weight, bias]: &'static [Param; 2],
        ) -> [$item<'a>; 2] {
            [(name(block, weight), & $($mutable)? norm.weight), (name(block, bias), & $($mutable)? norm.bias)]
        }

        pub(in crate::model) fn $block<'a>(
            i: usize,
            block: &'a $($mutable)? Block,
        ) -> impl Iterator<Item = $item<'a>> + use<'a> {
            let (attn, mlp) = (& $($mutable)? block.attn, & $($mutable)? block.mlp);
            $norm(Some(i), & $($mutable)? block.ln_1, &LN_1)
                .into_iter()
                .chain($linear(i, & $($mutable)? attn.c_attn, &C_ATTN, &C_ATTN_BIAS))
                .chain($linear(i, & $($mutable)? attn.c_proj, &ATTN_C_PROJ, &ATTN_C_PROJ_BIAS))
                .chain($norm(Some(i), & $($mutable)? block.ln_2, &LN_2))
                .chain($linear(i, & $($mutable)? mlp.c_fc, &C_FC, &C_FC_BIAS))
                .chain($linear(i, & $($mutable)? mlp.c_proj, &MLP_C_PROJ, &MLP_C_PROJ_BIAS))
        }

        pub(in crate::model) fn $embeddings<'a>(
            wte: &'a $($mutable)? Tensor,
            wpe: &'a $($mutable)? Tensor,
        ) -> [$item<'a>; 2] {
            [(name(None, &WTE), wte), (name(None, &WPE), wpe)]
        }

        pub(in crate::model) fn $head<'a>(
            ln_f: &'a $($mutable)? LayerNorm,
            lm_head: &'a $($mutable)? Tensor,
        ) -> impl Iterator<Item = $item<'a>> + use<'a> {
            $norm(None, ln_f, &LN_F).into_iter().chain([(name(None, &LM_HEAD), lm_head)])
        }

        impl Head {
            /// Its parameters, absent ones too.
            pub fn $own_head(& $($mutable)? self) -> [$item<'_>; 2] {
                [(name(None, &SCORE), & $($mutable)? self.weight), (name(None, &SCORE_BIAS), & $($mutable)? self.bias)]
            }
        }
    };
}

walks!(Tensors, linear, norm, block, embeddings, head, tensors, iter);
walks!(TensorsMut, linear_mut, norm_mut, block_mut, embeddings_mut, head_mut, tensors_mut, iter_mut, mut);

impl Gpt {
    /// Every parameter, absent ones too.
    pub fn tensors(&self) -> impl Iterator<Item = (ParamName, &Tensor)> {
        let blocks = self.h.iter().enumerate().flat_map(|(i, b)| block(i, b));
        embeddings(&self.wte, &self.wpe).into_iter().chain(blocks).chain(head(&self.ln_f, &self.lm_head))
    }

    /// Every parameter to change, absent ones too, in the order of [`Gpt::tensors`].
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (ParamName, &mut Tensor)> {
        let blocks = self.h.iter_mut().enumerate().flat_map(|(i, b)| block_mut(i, b));
        let first = embeddings_mut(&mut self.wte, &mut self.wpe);
        first.into_iter().chain(blocks).chain(head_mut(&mut self.ln_f, &mut self.lm_head))
    }

    /// The parameters of one part, absent ones too.
    ///
    /// # Panics
    /// If the model lacks the block.
    pub fn part_mut(&mut self, part: Part) -> impl Iterator<Item = (ParamName, &mut Tensor)> {
        let (mut first, mut last, mut inner) = (None, None, None);
        match part {
            Part::Embeddings => first = Some(embeddings_mut(&mut self.wte, &mut self.wpe)),
            Part::Head => last = Some(head_mut(&mut self.ln_f, &mut self.lm_head)),
            Part::Block(i) => inner = Some(block_mut(i, &mut self.h[i])),
        }
        first.into_iter().flatten().chain(last.into_iter().flatten()).chain(inner.into_iter().flatten())
    }
}
