//! Gradients: buffers that backward fills and passes on, part by part, to the sink that updates the weights from them.
//!
//! Blocks share a ring of buffers. Block i uses buffer i mod k of k: with k = 1 an optimizer that takes each gradient at once
//! needs the memory of one block; with k = L every block has its own, and gradients can be accumulated or clipped.
//! A [`GradientSink`] receives a part by value, so that it can keep it as long as it likes: AdamW returns it at once, a sum
//! over several machines when it has arrived.

use super::head::Head;
use super::params::{self, ParamName};
use super::trainable::{Part, Trainable};
use super::zeros::Zeros;
use super::{Block, Gpt, LayerNorm, ModelConfig};
use crate::ops::{self, Device, RowSet};
use crate::tensor::{Alloc, Tensor};

/// The gradient of the embeddings.
#[derive(Debug)]
pub struct EmbeddingGradient {
    /// [V, C], with the head's share where the head is tied.
    pub wte: Tensor,
    /// Of the position embedding, [n_positions, C].
    pub wpe: Tensor,
    /// Rows of `wte` that are not zero. A sum of gradients has the union of their rows.
    pub touched: RowSet,
}

/// The gradient of what follows the blocks.
#[derive(Debug)]
pub struct HeadGradient {
    /// Of the last normalisation.
    pub ln_f: LayerNorm,
    /// [V, C]; absent where the head is tied.
    pub lm_head: Tensor,
    /// Of the head that the objective owns.
    pub own: Option<Head>,
}

/// The gradient of one part, final and on its way.
#[derive(Debug)]
pub enum PartGradient {
    /// The last normalisation and the head: final first.
    Head(Box<HeadGradient>),
    /// A block, with its number.
    Block(usize, Box<Block>),
    /// The embeddings: final last.
    Embeddings(EmbeddingGradient),
}

impl PartGradient {
    /// The part that it belongs to.
    pub fn part(&self) -> Part {
        match self {
            PartGradient::Head(_) => Part::Head,
            PartGradient::Block(i, _) => Part::Block(*i),
            PartGradient::Embeddings(_) => Part::Embeddings,
        }
    }

    /// The gradients of the model's parameters in the order of [`Gpt::part_mut`], absent ones too.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (ParamName, &mut Tensor)> {
        let (mut first, mut last, mut inner) = (None, None, None);
        match self {
            PartGradient::Embeddings(grad) => first = Some(params::embeddings_mut(&mut grad.wte, &mut grad.wpe)),
            PartGradient::Head(grad) => last = Some(params::head_mut(&mut grad.ln_f, &mut grad.lm_head)),
            PartGradient::Block(i, block) => inner = Some(params::block_mut(*i, block)),
        }
        first.into_iter().flatten().chain(last.into_iter().flatten()).chain(inner.into_iter().flatten())
    }

    /// The gradient of the objective's own head, if this is the part that has it.
    pub fn own_head_mut(&mut self) -> Option<&mut Head> {
        match self {
            PartGradient::Head(grad) => grad.own.as_mut(),
            _ => None,
        }
    }

    /// The rows of `wte` that are not zero; every row in other parts.
    pub fn touched(&self) -> &RowSet {
        match self {
            PartGradient::Embeddings(grad) => &grad.touched,
            _ => &RowSet::All,
        }
    }

    /// Sets everything to zero.
    pub fn zero(&mut self, dev: &Device) {
        self.tensors_mut().for_each(|(_, grad)| ops::zero(dev, grad));
        if let Some(head) = self.own_head_mut() {
            head.tensors_mut().into_iter().for_each(|(_, grad)| ops::zero(dev, grad));
        }
        self.forget_touched();
    }

    /// Notes that the rows of `wte` are zero again.
    pub fn forget_touched(&mut self) {
        if let PartGradient::Embeddings(grad) = self {
            grad.touched.clear();
        }
    }
}

/// The weights that a step may change.
#[derive(Debug)]
pub struct Weights<'a> {
    /// The model's own parameters.
    pub gpt: &'a mut Gpt,
    /// The head that the objective owns.
    pub own_head: Option<&'a mut Head>,
}

impl Weights<'_> {
    /// The same for a shorter time.
    pub fn reborrow(&mut self) -> Weights<'_> {
        Weights { gpt: self.gpt, own_head: self.own_head.as_deref_mut() }
    }
}

/// Where gradients go when they are final.
///
/// Several participants (threads, machines) that train one model each have a sink; what all of them must know goes through
/// it.
pub trait GradientSink {
    /// The sum of a micro-step's losses as all participants have agreed on it, before any gradient is passed on: if it is
    /// not finite for one of them, it is not finite for all, and no weight changes anywhere.
    fn agree(&mut self, loss: f64) -> f64 {
        loss
    }

    /// Takes the final gradient of a part, whose weights are not read again in this pass. Returns the buffer at once, or
    /// keeps it until [`reclaim`](Self::reclaim). A buffer that other blocks share must come back zeroed.
    fn accept(&mut self, dev: &Device, weights: Weights<'_>, gradient: PartGradient) -> Option<PartGradient>;

    /// Whether gradients come back as they are, so that every block needs a buffer of its own.
    fn returns_unchanged(&self) -> bool {
        false
    }

    /// Finishes the oldest gradient that is still held, and returns its buffer; None if none is held.
    fn reclaim(&mut self, dev: &Device, weights: Weights<'_>) -> Option<PartGradient> {
        let _ = (dev, weights);
        None
    }
}

/// A sink that returns every gradient as it is: for accumulating, or for looking at the whole gradient afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReturnAll;

impl GradientSink for ReturnAll {
    fn accept(&mut self, _: &Device, _: Weights<'_>, gradient: PartGradient) -> Option<PartGradient> {
        Some(gradient)
    }

    fn returns_unchanged(&self) -> bool {
        true
    }
}

/// The buffers of a model's gradients: head, embeddings, and a ring for the blocks.
#[derive(Debug)]
pub struct Gradients {
    trainable: Trainable,
    n_layer: usize,
    /// Absent while the sink has it, as are the others.
    head: Option<Box<HeadGradient>>,
    blocks: Vec<Option<Box<Block>>>,
    embeddings: Option<EmbeddingGradient>,
}

impl Gradients {
    /// Zeros for the parameters of `gpt` that are trained, with buffers for `n_buffers` blocks (at least one, at most L).
    ///
    /// # Panics
    /// If blocks with different adapters would share a buffer.
    pub fn new(
        gpt: &Gpt,
        own_head: Option<&Head>,
        trainable: Trainable,
        n_buffers: usize,
        alloc: &mut Alloc<'_>,
    ) -> Gradients {
        let mut gradients = Gradients::of_shape(&gpt.config, own_head, trainable, n_buffers, alloc);
        let trained = &gpt.h[trainable.first_block.min(gpt.h.len())..];
        for (block, like) in gradients.blocks.iter_mut().flatten().zip(trained) {
            block.mirror_adapters(like, alloc);
        }
        let n_buffers = gradients.blocks.len().max(1);
        for (i, block) in trained.iter().enumerate() {
            assert!(
                block.has_adapters_like(&trained[i % n_buffers]),
                "Gradients::new: block {} shares a buffer with one of other adapters",
                trainable.first_block + i
            );
        }
        gradients
    }

    /// As [`new`](Self::new), for a model without adapters that need not be in memory.
    pub fn of_shape(
        config: &ModelConfig,
        own_head: Option<&Head>,
        trainable: Trainable,
        n_buffers: usize,
        alloc: &mut Alloc<'_>,
    ) -> Gradients {
        let n_trained = config.n_layer.saturating_sub(trainable.first_block);
        let mut zeros = Zeros { config, base: !trainable.adapters_only, alloc };
        let head = HeadGradient {
            ln_f: LayerNorm::zeros(&mut zeros, &params::LN_F),
            lm_head: if trainable.lm_head { zeros.tensor(&params::LM_HEAD) } else { Tensor::absent() },
            own: own_head.map(|head| head.zeros_like(zeros.alloc)),
        };
        let blocks =
            (0..n_buffers.clamp(1, n_trained.max(1)).min(n_trained)).map(|_| Some(Box::new(Block::zeros(&mut zeros))));
        let blocks = blocks.collect();
        zeros.base = trainable.embeddings();
        let embeddings = EmbeddingGradient {
            wte: super::gpt::zeros_by_token(&mut zeros),
            wpe: zeros.tensor(&params::WPE),
            touched: if config.tied_head { RowSet::All } else { RowSet::Some(zeros.alloc.list(config.vocab_size)) },
        };
        Gradients {
            trainable,
            n_layer: config.n_layer,
            head: Some(Box::new(head)),
            blocks,
            embeddings: Some(embeddings),
        }
    }

    /// Which parameters have gradients here.
    pub fn trainable(&self) -> Trainable {
        self.trainable
    }

    /// Buffers of the ring.
    pub fn n_buffers(&self) -> usize {
        self.blocks.len()
    }

    /// Every gradient in the model's order, absent ones too.
    ///
    /// # Panics
    /// If a buffer is with the sink, or blocks share one.
    pub fn tensors(&self) -> impl Iterator<Item = (ParamName, &Tensor)> {
        let first = self.trainable.first_block;
        assert_eq!(self.blocks.len(), self.n_layer.saturating_sub(first), "Gradients: blocks share buffers");
        let (embeddings, head) = (held(self.embeddings.as_ref()), held(self.head.as_ref()));
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks.flat_map(move |(slot, block)| params::block(first + slot, held(block.as_deref())));
        let own_head = head.own.as_ref().into_iter().flat_map(Head::tensors);
        let all = params::embeddings(&embeddings.wte, &embeddings.wpe).into_iter().chain(blocks);
        all.chain(params::head(&head.ln_f, &head.lm_head)).chain(own_head)
    }

    /// Sets everything to zero, after a step that failed.
    ///
    /// # Panics
    /// If a buffer is with the sink.
    pub fn zero(&mut self, dev: &Device) {
        let parts = [Part::Head, Part::Embeddings].into_iter();
        let first = self.trainable.first_block;
        for part in parts.chain((first..first + self.blocks.len()).map(Part::Block)) {
            let mut gradient = self.take(part).unwrap_or_else(|| panic!("Gradients::zero: {part:?} is with the sink"));
            gradient.zero(dev);
            self.put(gradient);
        }
    }

    /// Takes a part's buffer, for an update outside of backward; None if the sink has it.
    ///
    /// # Panics
    /// If a block is not trained.
    pub fn take(&mut self, part: Part) -> Option<PartGradient> {
        match part {
            Part::Head => self.head.take().map(PartGradient::Head),
            Part::Embeddings => self.embeddings.take().map(PartGradient::Embeddings),
            Part::Block(i) => {
                let slot = self.slot(i);
                self.blocks[slot].take().map(|block| PartGradient::Block(i, block))
            }
        }
    }

    /// Takes a buffer back.
    ///
    /// # Panics
    /// If a block is not trained.
    pub fn put(&mut self, gradient: PartGradient) {
        match gradient {
            PartGradient::Head(head) => self.head = Some(head),
            PartGradient::Embeddings(embeddings) => self.embeddings = Some(embeddings),
            PartGradient::Block(i, block) => {
                let slot = self.slot(i);
                self.blocks[slot] = Some(block);
            }
        }
    }

    /// Takes back every buffer that the sink still holds, once it has finished with it.
    pub fn drain(&mut self, dev: &Device, mut weights: Weights<'_>, sink: &mut dyn GradientSink) {
        while let Some(gradient) = sink.reclaim(dev, weights.reborrow()) {
            self.put(gradient);
        }
    }

    /// A part's buffer, for which the sink may have to finish others.
    pub(super) fn wait_for(
        &mut self,
        part: Part,
        dev: &Device,
        mut weights: Weights<'_>,
        sink: &mut dyn GradientSink,
    ) -> PartGradient {
        loop {
            if let Some(gradient) = self.take(part) {
                return gradient;
            }
            let returned = sink.reclaim(dev, weights.reborrow());
            self.put(returned.unwrap_or_else(|| panic!("Gradients: the buffer of {part:?} is neither free nor held")));
        }
    }

    fn slot(&self, i: usize) -> usize {
        let first = self.trainable.first_block;
        assert!((first..self.n_layer).contains(&i), "Gradients: block {i} is not among {first}..{}", self.n_layer);
        (i - first) % self.blocks.len()
    }

    /// The gradient of the model's head: its own table, or `wte`.
    pub(super) fn lm_head(&mut self, tied: bool) -> &mut Tensor {
        if tied { &mut held(self.embeddings.as_mut()).wte } else { &mut held(self.head.as_mut()).lm_head }
    }

    /// Weight and bias of the gradient of the objective's own head.
    pub(super) fn own_head(&mut self) -> (&mut Tensor, &mut Tensor) {
        let own = held(self.head.as_mut()).own.as_mut();
        let Head { weight, bias } = own.expect("Gradients: created without the objective's own head");
        (weight, bias)
    }
}

fn held<T>(buffer: Option<T>) -> T {
    buffer.expect("Gradients: a buffer is with the sink")
}
