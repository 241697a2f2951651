//! The preparation in progress.

use std::collections::BTreeMap;

use super::super::documents::Sources;
use super::super::manifest::{Manifest, SourceEntry, TokenizerEntry};
use super::super::shard_format::{IdWidth, Split};
use super::error::PrepareError;
use super::feed::FeedState;
use super::options::PrepareOptions;
use super::state::{State, Workplace};
use super::writer::ShardWriter;
use crate::tokenizer::Tokenizer;

/// A preparation in progress: its shard writers and the state that describes them.
pub(super) struct Job {
    pub workplace: Workplace,
    pub state: State,
    /// Hashes of the documents read before the source at which the preparation resumes.
    pub seen: Vec<u128>,
    writers: BTreeMap<&'static str, ShardWriter>,
    pub end_of_text: Option<u32>,
    pub n_shards_at_checkpoint: usize,
}

impl Job {
    pub(super) fn resume(
        workplace: Workplace,
        state: State,
        tokenizer: &dyn Tokenizer,
        options: &PrepareOptions,
    ) -> Result<Job, PrepareError> {
        let seen = workplace.resume_seen(state.source_start.n_seen)?;
        let width = IdWidth::of_vocabulary(tokenizer.n_vocab());
        let mut writers = BTreeMap::new();
        for split in [Split::Train, Split::Val] {
            let shards: Vec<_> = state.shards.iter().filter(|shard| shard.split == split).cloned().collect();
            let n_begun = if split == Split::Train { state.n_train_begun } else { state.n_val_begun };
            writers
                .insert(split.name(), ShardWriter::resume(workplace.folder(), split, options, width, shards, n_begun)?);
        }
        let end_of_text = tokenizer.end_of_text().filter(|_| options.end_of_text);
        let n_shards_at_checkpoint = state.shards.len();
        Ok(Job { workplace, state, seen, writers, end_of_text, n_shards_at_checkpoint })
    }

    pub(super) fn writer(&mut self, split: Split) -> &mut ShardWriter {
        self.writers.get_mut(split.name()).expect("a writer for each split")
    }

    pub(super) fn n_tokens(&self) -> u64 {
        self.writers.values().map(ShardWriter::n_tokens).sum()
    }

    pub(super) fn n_shards(&self) -> usize {
        self.writers.values().map(|writer| writer.shards().len()).sum()
    }

    /// Syncs everything written so far and records it in the state file.
    pub(super) fn checkpoint(&mut self) -> Result<(), PrepareError> {
        for writer in self.writers.values_mut() {
            writer.sync()?;
        }
        self.workplace.sync_seen()?;
        self.state.n_train_begun = self.writer(Split::Train).n_begun();
        self.state.n_val_begun = self.writer(Split::Val).n_begun();
        self.state.shards = self.writers.values().flat_map(ShardWriter::shards).cloned().collect();
        self.n_shards_at_checkpoint = self.state.shards.len();
        self.workplace.write_state(&self.state)
    }

    /// Closes the last shards and writes the manifest, which makes the folder complete.
    pub(super) fn finish(
        self,
        sources: &Sources,
        tokenizer: &dyn Tokenizer,
        options: &PrepareOptions,
    ) -> Result<Manifest, PrepareError> {
        let FeedState { n_kept, n_text_bytes, dropped, findings, .. } = self.state.feed.clone();
        if self.n_tokens() == 0 {
            return Err(match dropped.first_bad {
                Some(first) => PrepareError::AllBad { n_bad: dropped.bad, first },
                None => PrepareError::NoText { n_files: sources.files.len() },
            });
        }
        let mut shards = Vec::new();
        for writer in self.writers.into_values() {
            shards.extend(writer.finish()?);
        }
        let n_documents = self.state.n_documents_of.clone().into_iter().chain(std::iter::repeat(0));
        let entries = sources.files.iter().zip(n_documents).map(|(source, n_documents)| SourceEntry {
            path: source.path.to_string_lossy().into_owned(),
            file_bytes: source.file_bytes,
            n_documents,
        });
        let manifest = Manifest {
            version: Manifest::VERSION,
            format: options.format,
            tokenizer: TokenizerEntry {
                kind: tokenizer.kind().to_owned(),
                sha256: tokenizer.hash(),
                vocab_size: tokenizer.n_vocab(),
                end_of_text: tokenizer.end_of_text(),
            },
            id_bytes: IdWidth::of_vocabulary(tokenizer.n_vocab()).n_bytes(),
            n_documents: n_kept,
            n_text_bytes,
            shards,
            sources: entries.collect(),
            dropped,
            findings,
            skipped: sources.skipped.clone(),
            options: options.clone(),
        };
        self.workplace.write_manifest(&manifest)?;
        Workplace::clear(self.workplace.folder())?;
        Ok(manifest)
    }
}
