//! Generates many sequences at once.
//!
//! The caller adds requests and calls [`Engine::step`], which runs one batch through the model and reports what happened;
//! the engine owns no thread and no clock. A batch has a row for each sequence that has a token to continue from, and
//! chunks of prompts as far as the budget of rows allows, so that a long prompt does not stop the others.
//!
//! Keys and values live in the pages of one pool, whose size is the memory budget. A sequence whose beginning equals that of
//! another one shares its pages; those of ended sequences are kept until pages are needed. If the pool is exhausted, the
//! youngest sequence is preempted: it loses its pages, waits, and is computed again.
//!
//! None of this changes a token: a row's logits depend neither on the other rows nor on how a prompt was split, and every
//! sequence has its own sampler.

mod batch;
mod event;
mod limits;
mod prefixes;
mod request;
mod sequence;

use std::collections::VecDeque;
use std::ops::Deref;

use super::error::{GenerateError, check_prompt};
use super::sampler::SamplerScratch;
use crate::model::{Gpt, ModelConfig, PAGE_LEN, PageTable, kv_page_bytes, n_pages};
use crate::ops::Device;
use crate::tensor::Alloc;
use batch::{Batch, Drawing};
pub use event::{EngineState, Event, TokenLogProbs};
pub use limits::EngineLimits;
use prefixes::{Prefixes, common_len};
pub use request::{FinishReason, Request, SequenceId};
pub(super) use sequence::MAX_RESERVED;
use sequence::Sequence;

/// Many sequences of one model.
///
/// Borrows the device and the model (`&Device`, `&Gpt`) or shares their ownership (`Arc<Device>`, `Arc<Gpt>`).
pub struct Engine<D, G> {
    dev: D,
    gpt: G,
    limits: EngineLimits,
    n_pages: usize,
    /// Those that have pages, in the order in which they were admitted.
    running: Vec<Sequence>,
    /// The page table of each running sequence.
    tables: Vec<PageTable>,
    waiting: VecDeque<Sequence>,
    prefixes: Prefixes,
    batch: Batch,
    sampler_scratch: SamplerScratch,
    events: Vec<Event>,
    /// Tables without pages, for sequences to come.
    spare_tables: Vec<PageTable>,
    /// Running sequences that the current step has ended.
    ended: Vec<usize>,
    next_id: u64,
    n_preempted: u64,
    n_drafted: u64,
    n_accepted: u64,
}

/// Memory in bytes that [`Engine::new`] allocates for a model with adapters of up to `rank`.
pub fn engine_bytes(config: &ModelConfig, rank: usize, limits: EngineLimits) -> u64 {
    let mut alloc = Alloc::counting();
    Batch::new(config, rank, limits.n_pages(config), limits.settled(), &mut alloc);
    alloc.bytes()
}

impl<D: Deref<Target = Device>, G: Deref<Target = Gpt>> Engine<D, G> {
    /// An engine without sequences.
    ///
    /// # Errors
    /// If the memory for keys and values does not suffice for one page.
    pub fn new(dev: D, gpt: G, limits: EngineLimits) -> Result<Engine<D, G>, GenerateError> {
        let limits = limits.settled();
        let n_pages = limits.n_pages(&gpt.config);
        if n_pages == 0 {
            let (needed, kv_bytes) = (kv_page_bytes(&gpt.config), limits.kv_bytes);
            return Err(GenerateError::BudgetTooSmall { n_tokens: 1, needed, kv_bytes });
        }
        let alloc = &mut Alloc::on(&dev);
        let batch = Batch::new(&gpt.config, gpt.rank(), n_pages, limits, alloc);
        let n = limits.max_sequences;
        Ok(Engine {
            dev,
            gpt,
            limits,
            n_pages,
            running: Vec::with_capacity(n),
            tables: Vec::with_capacity(n),
            waiting: VecDeque::new(),
            spare_tables: (0..n).map(|_| batch.pool.new_table()).collect(),
            prefixes: Prefixes::with_capacity(n),
            ended: Vec::with_capacity(n),
            batch,
            sampler_scratch: SamplerScratch::default(),
            events: Vec::with_capacity(2 * n),
            next_id: 0,
            n_preempted: 0,
            n_drafted: 0,
            n_accepted: 0,
        })
    }

    /// Adds a sequence; it runs as soon as its turn comes.
    ///
    /// # Errors
    /// If the prompt is empty, exceeds the model's context, or contains unknown ids; if the sampler's rules name one; if
    /// the memory for keys and values is too small for this sequence alone.
    pub fn add(&mut self, request: Request) -> Result<SequenceId, GenerateError> {
        let (config, n_prompt) = (&self.gpt.config, request.prompt.len());
        check_prompt(config, &request.prompt)?;
        request.sampler.check(config.vocab_size)?;
        // The last token is not passed through the model.
        let n_seen = n_prompt.saturating_add(request.max_tokens.saturating_sub(1)).min(config.n_positions);
        if n_pages(n_seen) > self.n_pages {
            let needed = n_pages(n_seen) as u64 * kv_page_bytes(config);
            return Err(GenerateError::BudgetTooSmall { n_tokens: n_seen, needed, kv_bytes: self.limits.kv_bytes });
        }
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Sequence::new(id, request, config.n_positions));
        Ok(id)
    }

    /// Forgets a sequence, whatever it is doing; there is no event. Returns whether there was one.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        if let Some(i) = self.running.iter().position(|sequence| sequence.id == id) {
            self.end(i);
            return true;
        }
        let waiting = self.waiting.iter().position(|sequence| sequence.id == id);
        waiting.is_some_and(|i| self.waiting.remove(i).is_some())
    }

    /// Whether no sequence is running or waiting.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// The prompt of a sequence followed by its new tokens; `None` once it has ended.
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        let mut all = self.running.iter().chain(&self.waiting);
        all.find(|sequence| sequence.id == id).map(|sequence| &sequence.tokens[..])
    }

    /// Numbers of sequences and pages.
    pub fn state(&self) -> EngineState {
        EngineState {
            n_running: self.running.len(),
            n_waiting: self.waiting.len(),
            n_pages: self.n_pages,
            n_free_pages: self.batch.pool.n_free(),
            n_preempted: self.n_preempted,
            n_drafted: self.n_drafted,
            n_accepted: self.n_accepted,
        }
    }

    /// Gives back the pages of ended sequences that are kept for sequences with the same beginning.
    pub fn forget_prefixes(&mut self) {
        self.prefixes.clear(&mut self.batch.pool);
    }

    /// Runs one batch, and returns what happened: no events if there are no sequences.
    pub fn step(&mut self) -> &[Event] {
        self.events.clear();
        self.skip_empty();
        self.slide();
        self.admit();
        self.plan();
        if !self.batch.is_empty() {
            let Engine { dev, gpt, batch, tables, .. } = self;
            batch.run(dev, gpt, tables);
            self.draw();
        }
        &self.events
    }

    /// Ends waiting sequences of which no token was requested.
    fn skip_empty(&mut self) {
        let events = &mut self.events;
        self.waiting.retain(|sequence| {
            if sequence.is_complete() {
                events.push(Event::Finished { sequence: sequence.id, reason: FinishReason::MaxTokens });
            }
            !sequence.is_complete()
        });
    }

    /// Restarts the windows of sequences that have filled the model's context, or ends them.
    fn slide(&mut self) {
        let n_positions = self.gpt.config.n_positions;
        for i in (0..self.running.len()).rev() {
            if self.tables[i].len() + self.running[i].n_pending(&self.tables[i]) <= n_positions {
                continue;
            }
            let sequence = &mut self.running[i];
            match sequence.slide {
                Some(n_dropped) => {
                    sequence.start = sequence.tokens.len() - (n_positions + 1 - n_dropped.clamp(1, n_positions));
                    self.batch.pool.release(&mut self.tables[i]);
                }
                None => {
                    let event = Event::Finished { sequence: sequence.id, reason: FinishReason::Context };
                    self.events.push(event);
                    self.end(i);
                }
            }
        }
    }

    /// Moves waiting sequences to the running ones, in their order, as long as pages suffice for all that they have to
    /// compute.
    fn admit(&mut self) {
        while self.running.len() < self.limits.max_sequences
            && let Some(sequence) = self.waiting.front()
        {
            let (shared, source) = self.longest_prefix(sequence);
            if self.is_being_computed(sequence, shared) {
                return;
            }
            let n_pages = n_pages(sequence.window().len() + 1) - shared / PAGE_LEN;
            let needed: usize = self.reserved_pages() + n_pages;
            let n_free = self.batch.pool.n_free() + self.prefixes.n_pages(&self.batch.pool);
            if needed > n_free && !self.running.is_empty() {
                return;
            }
            let pool = &mut self.batch.pool;
            let mut table = match source {
                None => self.spare_tables.pop().unwrap_or_else(|| pool.new_table()),
                Some(PrefixSource::Running(i)) => pool.fork(&self.tables[i]),
                Some(PrefixSource::Kept(i)) => pool.fork(self.prefixes.use_table(i)),
            };
            pool.truncate(&mut table, shared);
            self.tables.push(table);
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// Pages that running sequences will need for the tokens that they have.
    fn reserved_pages(&self) -> usize {
        let needed = |(sequence, table): (&Sequence, &PageTable)| {
            n_pages(sequence.window().len() + 1).saturating_sub(n_pages(table.len()))
        };
        self.running.iter().zip(&self.tables).map(needed).sum()
    }

    /// The longest beginning of a sequence whose keys and values exist. At least its last token remains, for its logits.
    fn longest_prefix(&self, sequence: &Sequence) -> (usize, Option<PrefixSource>) {
        let window = sequence.window();
        let most = window.len() - 1;
        if sequence.start > 0 {
            return (0, None);
        }
        let running = self.running.iter().zip(&self.tables).enumerate();
        let of_running = running.filter(|(_, (other, _))| other.start == 0).map(|(i, (other, table))| {
            let n = common_len(&other.tokens, window).min(table.len()).min(most);
            (n, Some(PrefixSource::Running(i)))
        });
        let of_kept = self.prefixes.lens(window).map(|(i, n)| (n.min(most), Some(PrefixSource::Kept(i))));
        let all = of_running.chain(of_kept).filter(|(n, _)| *n > 0);
        all.max_by_key(|(n, _)| *n).unwrap_or((0, None))
    }

    /// Whether a running sequence is computing a longer common beginning: it is worth waiting for.
    fn is_being_computed(&self, sequence: &Sequence, shared: usize) -> bool {
        let window = sequence.window();
        sequence.start == 0
            && self.running.iter().zip(&self.tables).any(|(other, table)| {
                let is_computing = other.start == 0 && other.n_pending(table) > 1;
                let n_common = if is_computing { common_len(&other.tokens, window) } else { 0 };
                n_common > table.len() && n_common.min(window.len() - 1) >= shared + PAGE_LEN
            })
    }

    /// Chooses the rows of the next batch, and makes sure that the pool has pages for them.
    fn plan(&mut self) {
        let mut n_drafts = self.limits.max_drafts;
        loop {
            self.batch.plan(&mut self.running, &self.tables, self.limits.max_rows, n_drafts);
            let needed = self.batch.n_pages(&self.tables);
            if needed <= self.batch.pool.n_free() {
                return;
            }
            if n_drafts > 0 {
                n_drafts = 0;
                continue;
            }
            if self.prefixes.drop_oldest(&mut self.batch.pool) {
                continue;
            }
            // The oldest sequence fits alone: `add` has checked that.
            let last = self.running.len() - 1;
            self.batch.pool.release(&mut self.tables[last]);
            let table = self.tables.pop();
            self.keep_table(table);
            self.n_preempted += 1;
            if let Some(sequence) = self.running.pop() {
                self.waiting.push_front(sequence);
            }
        }
    }

    /// Draws the next token of every sequence whose logits the batch has computed.
    fn draw(&mut self) {
        let Engine { dev, gpt, batch, running, tables, sampler_scratch, events, ended, .. } = self;
        let (drawing, logits, pool) = batch.results(dev);
        let vocab_size = gpt.config.vocab_size;
        for &Drawing { sequence: i, first, n_rows } in drawing {
            let sequence = &mut running[i];
            let logits = logits[first * vocab_size..][..n_rows * vocab_size].chunks_exact(vocab_size);
            let n_before = sequence.tokens.len();
            self.n_drafted += n_rows as u64 - 1;
            if let Some(outcome) = sequence.draw(logits, sampler_scratch, events) {
                events.push(outcome);
                ended.push(i);
            }
            self.n_accepted += (sequence.tokens.len() - n_before).saturating_sub(1) as u64;
            // Keys and values of wrong drafts are forgotten; the last new token has none yet.
            pool.truncate(&mut tables[i], sequence.tokens.len() - 1 - sequence.start);
        }
        // Each removal moves those behind it.
        while let Some(i) = self.ended.pop() {
            self.end(i);
        }
    }

    /// Keeps a table without pages for a sequence to come. Those that share a beginning bring tables of their own.
    fn keep_table(&mut self, table: Option<PageTable>) {
        if self.spare_tables.len() < self.limits.max_sequences {
            self.spare_tables.extend(table);
        }
    }

    /// Removes a running sequence; its pages are kept for sequences with the same beginning.
    fn end(&mut self, i: usize) {
        let (sequence, mut table) = (self.running.remove(i), self.tables.remove(i));
        if sequence.start == 0 && !table.is_empty() {
            let spare = self.prefixes.keep(sequence.tokens, table, &mut self.batch.pool);
            self.keep_table(spare);
        } else {
            self.batch.pool.release(&mut table);
            self.keep_table(Some(table));
        }
    }
}

/// Where the keys and values of a common beginning are.
#[derive(Clone, Copy)]
enum PrefixSource {
    Running(usize),
    Kept(usize),
}
