//! The table of parameters.

use crate::model::ModelConfig;
use crate::tensor::Dims;

/// A parameter of a model, whichever block it is in.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// The path below the model or the block.
    pub path: &'static str,
    /// What it is for.
    pub kind: Kind,
    pub(super) shape: &'static [Size],
    /// Inputs of its layer.
    pub(super) n_inputs: Size,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The tables `wte` and `wpe`.
    Embedding,
    /// The weight of a linear layer.
    Matrix,
    /// The weight of a linear layer that writes to the residual stream.
    ResidualMatrix,
    /// The bias of a linear layer.
    Bias,
    /// The weight of a layer normalisation.
    Gain,
    /// The bias of a layer normalisation.
    Shift,
    /// A factor of a low-rank adapter.
    LowRank,
}

impl Kind {
    /// Whether it is a table or the weight of a linear layer, from which weight decay takes in GPT-2's recipe.
    pub fn is_matrix(self) -> bool {
        matches!(self, Kind::Embedding | Kind::Matrix | Kind::ResidualMatrix | Kind::LowRank)
    }

    /// Whether it is the weight of a linear layer.
    pub fn is_linear_weight(self) -> bool {
        matches!(self, Kind::Matrix | Kind::ResidualMatrix)
    }
}

/// A size of a parameter, as the model's shape gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// V, the model's vocabulary.
    Vocabulary,
    /// Positions of the model's context.
    Positions,
    /// A multiple of C.
    Channels(usize),
    /// Width of the MLP.
    Inner,
}

impl Size {
    /// The size in a model.
    pub fn of(self, config: &ModelConfig) -> usize {
        match self {
            Size::Vocabulary => config.vocab_size,
            Size::Positions => config.n_positions,
            Size::Channels(n) => n.saturating_mul(config.n_embd),
            Size::Inner => config.inner_size(),
        }
    }
}

impl Param {
    /// Its sizes in a model, outermost first.
    pub fn dims(&self, config: &ModelConfig) -> Dims {
        let mut sizes = [0; 2];
        self.shape.iter().zip(&mut sizes).for_each(|(size, to)| *to = size.of(config));
        Dims::from(&sizes[..self.shape.len()])
    }

    /// Whether it is the token embedding, of which a text touches some rows only.
    pub fn is_token_table(&'static self) -> bool {
        std::ptr::eq(self, &WTE)
    }

    /// Whether it is the position embedding.
    pub fn is_position_table(&'static self) -> bool {
        std::ptr::eq(self, &WPE)
    }

    /// Whether a model of this shape has it.
    pub fn is_in(&'static self, config: &ModelConfig) -> bool {
        match self.kind {
            Kind::Bias if std::ptr::eq(self, &C_ATTN_BIAS) => config.has_qkv_bias(),
            Kind::Bias | Kind::Shift => config.bias,
            _ => !config.tied_head || !std::ptr::eq(self, &LM_HEAD),
        }
    }
}

const C: Size = Size::Channels(1);
const C3: Size = Size::Channels(3);

const fn param(path: &'static str, kind: Kind, shape: &'static [Size], n_inputs: Size) -> Param {
    Param { path, kind, shape, n_inputs }
}

pub static WTE: Param = param("wte.weight", Kind::Embedding, &[Size::Vocabulary, C], C);
pub static WPE: Param = param("wpe.weight", Kind::Embedding, &[Size::Positions, C], C);
pub static LN_1: [Param; 2] = [param("ln_1.weight", Kind::Gain, &[C], C), param("ln_1.bias", Kind::Shift, &[C], C)];
pub static C_ATTN: Param = param("attn.c_attn.weight", Kind::Matrix, &[C3, C], C);
pub static C_ATTN_BIAS: Param = param("attn.c_attn.bias", Kind::Bias, &[C3], C);
pub static ATTN_C_PROJ: Param = param("attn.c_proj.weight", Kind::ResidualMatrix, &[C, C], C);
pub static ATTN_C_PROJ_BIAS: Param = param("attn.c_proj.bias", Kind::Bias, &[C], C);
pub static LN_2: [Param; 2] = [param("ln_2.weight", Kind::Gain, &[C], C), param("ln_2.bias", Kind::Shift, &[C], C)];
pub static C_FC: Param = param("mlp.c_fc.weight", Kind::Matrix, &[Size::Inner, C], C);
pub static C_FC_BIAS: Param = param("mlp.c_fc.bias", Kind::Bias, &[Size::Inner], C);
pub static MLP_C_PROJ: Param = param("mlp.c_proj.weight", Kind::ResidualMatrix, &[C, Size::Inner], Size::Inner);
pub static MLP_C_PROJ_BIAS: Param = param("mlp.c_proj.bias", Kind::Bias, &[C], Size::Inner);
pub static LN_F: [Param; 2] = [param("ln_f.weight", Kind::Gain, &[C], C), param("ln_f.bias", Kind::Shift, &[C], C)];
pub static LM_HEAD: Param = param("lm_head.weight", Kind::Matrix, &[Size::Vocabulary, C], C);
/// A head that an objective owns has as many rows as the objective says: [classes, C].
pub static SCORE: Param = param("score.weight", Kind::Matrix, &[], C);
pub static SCORE_BIAS: Param = param("score.bias", Kind::Bias, &[], C);

/// Parameters that become final last in backward.
pub static EMBEDDINGS: [&Param; 2] = [&WTE, &WPE];
/// Parameters of a block, in the order of the visitor.
pub static BLOCK: [&Param; 12] = [
    &LN_1[0],
    &LN_1[1],
    &C_ATTN,
    &C_ATTN_BIAS,
    &ATTN_C_PROJ,
    &ATTN_C_PROJ_BIAS,
    &LN_2[0],
    &LN_2[1],
    &C_FC,
    &C_FC_BIAS,
    &MLP_C_PROJ,
    &MLP_C_PROJ_BIAS,
];
/// Parameters that become final first in backward.
pub static HEAD: [&Param; 3] = [&LN_F[0], &LN_F[1], &LM_HEAD];
