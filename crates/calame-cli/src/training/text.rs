//! Loads the text of a training: downloads, tokenizer, splits.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use calame::data::manifest::{MANIFEST, TOKENIZER};
use calame::data::{Corpus, DataConfig, Manifest, ReadOptions, ShardSet, SpecialTokens, Split, Splits, Windows};
use calame::files::read_text_at_most;
use calame::formats::load_tokenizer;
use calame::plan::TextSize;
use calame::tokenizer::{self, Bpe, END_OF_TEXT, Tokenizer, TokenizerConfig, TokenizerError};
use calame::train::RunConfig;

use super::reading::print_report;
use crate::net::download;
use crate::training::{memory, runs};
use crate::ui::output::{WithHint, grouped};
use crate::ui::{progress, verbosity};

/// A text that is ready to train on.
pub struct Prepared {
    pub tokenizer: Arc<dyn Tokenizer>,
    pub splits: Splits,
    /// The windows of the training split, for the search for copied passages.
    pub train: Windows,
    /// Numbers of tokens and windows, for the plan.
    pub size: TextSize,
    /// The source and the size of the text, in a line for people.
    pub description: String,
    /// SHA-256 of the text or, if it is prepared, of its manifest; recorded in the run's settings.
    pub sha256: String,
}

/// Loads the documents of inputs and prints what was noticed. A text given by its name is downloaded if the cache lacks
/// it.
///
/// # Errors
/// If an input cannot be downloaded or read.
pub fn load(inputs: &[String], options: &ReadOptions) -> Result<Corpus> {
    let cache = download::cache_dir()?;
    fetch(inputs, &cache)?;
    let _phase = verbosity::phase("reading the text");
    let n_bytes = inputs.iter().filter_map(|input| Path::new(input).metadata().ok()).filter(std::fs::Metadata::is_file);
    let n_bytes = n_bytes.map(|found| found.len()).fold(0, u64::saturating_add);
    // Held as text, and its ids.
    let needed = n_bytes.saturating_mul(3);
    memory::require("the text", needed, "prepare it by `calame data prepare`, whose shards are read by position")?;
    let corpus = Corpus::read(inputs, &cache, options)?;
    verbosity::opened_all(corpus.sources().iter().map(|source| source.path.as_path()));
    print_report(corpus.report());
    Ok(corpus)
}

/// Downloads the texts that are given by name and that the cache lacks.
pub fn fetch(inputs: &[String], cache: &Path) -> Result<()> {
    let bar = progress::bar(None, "{msg} {bytes}", false)?;
    download::fetch_missing(&download::agent(), inputs, cache, &mut |text, n_bytes| {
        bar.set_message(format!("downloading {}", text.name));
        bar.set_position(n_bytes);
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// Loads and tokenizes the text of a run, and splits it into training and validation windows.
///
/// `tokenizer` is that of the model to train, if it has one. `of_run` is the tokenizer's file of the run whose settings
/// are used, which they call `bpe`. The text is known to be long enough before memory for the model is allocated.
///
/// # Errors
/// If the text cannot be read or is too short, or does not go with the tokenizer.
pub fn prepare(config: &RunConfig, tokenizer: Option<Arc<dyn Tokenizer>>, of_run: Option<&Path>) -> Result<Prepared> {
    let data = config.data.resolved();
    if let Some(folder) = prepared_folder(&data.inputs)? {
        return of_shards(&folder, &data, &config.tokenizer.kind, tokenizer);
    }
    let corpus = load(&data.inputs, &data.reading())?;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None => build_tokenizer(&config.tokenizer, &corpus, of_run)?,
    };
    let _phase = verbosity::phase("encoding the text");
    let splits = Splits::from_corpus(&corpus, tokenizer.as_ref(), &data)?;
    let (train, validation) = (splits.train.windows().clone(), splits.validation.windows());
    let description = describe(&corpus, &train, validation);
    let size = size_of(&train, validation, tokenizer.n_vocab())?;
    let sha256 = corpus.run_sha256(data.validation);
    Ok(Prepared { tokenizer, splits, train, size, description, sha256 })
}

/// Checks that a model with `vocab_size` tokens has a row for every token of the text, which a tokenizer with more tokens
/// does not guarantee.
///
/// # Errors
/// Names the first token that the model lacks.
pub fn check_rows(prepared: &Prepared, vocab_size: usize) -> Result<()> {
    let mut lacking = None;
    for windows in [&prepared.train, prepared.splits.validation.windows()] {
        windows.for_each_piece(|ids| {
            lacking = lacking.or_else(|| ids.iter().copied().find(|&id| id as usize >= vocab_size));
        })?;
    }
    match lacking {
        None => Ok(()),
        Some(id) => bail!(WithHint::new(
            format!(
                "the text needs the token {id} ({:?}), the model has {}",
                prepared.tokenizer.decode(&[id])?,
                grouped(vocab_size as u64)
            ),
            "the model's tokenizer has more tokens than the model: leave out the text that needs them"
        )),
    }
}

fn size_of(train: &Windows, validation: &Windows, n_vocab: usize) -> Result<TextSize> {
    /// A longer text is assumed to contain every token.
    const LONG: usize = 20_000_000;
    let mut size = TextSize {
        n_train_tokens: train.n_tokens() as u64,
        n_validation_tokens: validation.n_tokens() as u64,
        n_windows: train.len() as u64,
        n_validation_windows: validation.len() as u64,
        is_in_files: train.tokens().is_none(),
        is_used: vec![train.n_tokens() > LONG; n_vocab],
    };
    if train.n_tokens() <= LONG {
        train.for_each_piece(|tokens| size.use_tokens(tokens, n_vocab))?;
    }
    Ok(size)
}

/// The folder of shards that is the only input, or none if the inputs are texts.
///
/// # Errors
/// If there are other inputs besides such a folder.
fn prepared_folder(inputs: &[String]) -> Result<Option<PathBuf>> {
    let folder = |input: &String| {
        let path = Path::new(input);
        let is_manifest = path.file_name().is_some_and(|name| name == MANIFEST) && path.is_file();
        let folder = if is_manifest { path.parent()?.to_owned() } else { path.to_owned() };
        folder.join(MANIFEST).is_file().then_some(folder)
    };
    match (inputs.iter().find_map(folder), inputs.len()) {
        (Some(folder), n) if n > 1 => bail!(WithHint::usage(
            format!("{} is a prepared text, and there are other inputs as well", folder.display()),
            "give it alone, or prepare all inputs together with calame data prepare"
        )),
        (found, _) => Ok(found),
    }
}

/// The windows of a prepared text, whose tokens stay in their files.
fn of_shards(folder: &Path, data: &DataConfig, kind: &str, given: Option<Arc<dyn Tokenizer>>) -> Result<Prepared> {
    verbosity::opened(&folder.join(MANIFEST));
    let (manifest, sha256) = Manifest::read(folder)?;
    let expected = &manifest.tokenizer;
    let tokenizer = match given {
        Some(given) => given,
        None => open_tokenizer(&folder.join(TOKENIZER).display().to_string())?,
    };
    if tokenizer.hash() != expected.sha256 {
        bail!(WithHint::new(
            format!(
                "{} was prepared with another tokenizer: '{}' of {} tokens, SHA-256 {}; this one is '{}' of {} tokens, SHA-256 {}",
                folder.display(),
                expected.kind,
                grouped(expected.vocab_size as u64),
                expected.sha256,
                tokenizer.kind(),
                grouped(tokenizer.n_vocab() as u64),
                tokenizer.hash()
            ),
            "prepare the text again with --tokenizer of this model, or start from a model with that tokenizer"
        ));
    }
    check_shard_settings(folder, data, kind, tokenizer.as_ref())?;
    let windows = |part, name: &'static str| -> Result<Windows> {
        let shards = ShardSet::open(folder, &manifest, part)?;
        if shards.n_tokens() == 0 {
            bail!(WithHint::new(
                format!("{name} of {} has no tokens", folder.display()),
                "prepare the text again with another --val-fraction, or with --split characters if there are few documents"
            ));
        }
        Ok(Windows::of_shards(Arc::new(shards), data.window, data.stride).map_err(|e| e.in_part(name))?)
    };
    let train = windows(Split::Train, "the training part")?;
    let validation = windows(Split::Val, "the validation part")?;
    let description = format!(
        "{}, prepared: {} documents, {} tokens to train on, {} to validate",
        folder.display(),
        grouped(manifest.n_documents),
        grouped(train.n_tokens() as u64),
        grouped(validation.n_tokens() as u64)
    );
    let size = size_of(&train, &validation, tokenizer.n_vocab())?;
    let n_tokens = manifest.n_tokens(Split::Train) + manifest.n_tokens(Split::Val);
    let splits = Splits {
        // The bytes of each split are unknown; those of the whole text are close.
        validation_bytes_per_token: Some(manifest.n_text_bytes as f64 / n_tokens as f64),
        ..Splits::new(train.clone(), validation, data)?
    };
    Ok(Prepared { tokenizer, splits, train, size, description, sha256 })
}

/// Refuses settings that have no effect on a prepared text.
fn check_shard_settings(folder: &Path, data: &DataConfig, kind: &str, tokenizer: &dyn Tokenizer) -> Result<()> {
    if data.reading() != ReadOptions::default() {
        bail!(WithHint::usage(
            format!("{} is a prepared text, which is not read as other files are", folder.display()),
            "leave out the flags and settings on how files are read; calame data prepare has the same ones"
        ));
    }
    // `gpt2` is the default and may not have been set on purpose.
    if kind != "gpt2" && kind != tokenizer.kind() {
        bail!(WithHint::usage(
            format!("tokenizer.kind is '{kind}', {} was prepared with '{}'", folder.display(), tokenizer.kind()),
            "leave tokenizer.kind out: a prepared text has its own tokenizer"
        ));
    }
    Ok(())
}

/// Opens a tokenizer: `gpt2`, or that of a file, run or model.
///
/// # Errors
/// If there is none at the path, or it cannot be read.
pub fn open_tokenizer(name: &str) -> Result<Arc<dyn Tokenizer>> {
    if name == "gpt2" {
        return Ok(Bpe::gpt2());
    }
    let path = runs::find(Path::new(name));
    verbosity::opened(&path);
    if path.is_file() {
        let text = read_text_at_most(&path, tokenizer::MAX_FILE_BYTES)?;
        return Ok(tokenizer::read_json(&text, &path)?);
    }
    for folder in [path.clone(), path.join("model")] {
        if let Some(tokenizer) = load_tokenizer(&folder)? {
            return Ok(tokenizer);
        }
    }
    let message = match path.exists() {
        true => format!("there is no tokenizer at '{name}'"),
        false => format!("there is no tokenizer at '{name}': no such file or folder"),
    };
    bail!(WithHint::new(message, "give gpt2, a tokenizer.json, or a run or model that has one"))
}

fn build_tokenizer(config: &TokenizerConfig, corpus: &Corpus, of_run: Option<&Path>) -> Result<Arc<dyn Tokenizer>> {
    // simple-v2 separates documents by `<|endoftext|>` wherever it is; as part of a word it would be another word.
    let spaced = format!(" {END_OF_TEXT} ");
    let text = match config.kind == "simple-v2" && corpus.report().special_tokens == SpecialTokens::Ids {
        true => Cow::Owned(corpus.text().replace(END_OF_TEXT, &spaced)),
        false => Cow::Borrowed(corpus.text()),
    };
    match config.kind.as_str() {
        "bpe" if let Some(file) = of_run.filter(|file| file.is_file()) => open_tokenizer(&file.display().to_string()),
        // A run or a model with a tokenizer.
        folder if Path::new(folder).is_dir() => open_tokenizer(folder),
        _ => config.build(&text).map_err(|error| match error {
            TokenizerError::UnknownKind { kind } => WithHint::usage(
                format!("tokenizer.kind is '{kind}', and no file has that name"),
                "use gpt2, simple-v1, simple-v2 or the path of a tokenizer.json; that of a run is RUN/tokenizer.json",
            )
            .into(),
            other => other.into(),
        }),
    }
}

fn describe(corpus: &Corpus, train: &Windows, validation: &Windows) -> String {
    let sources: Vec<String> = corpus
        .sources()
        .iter()
        .map(|source| match source.path == Path::new("builtin") {
            true => "the built-in story".to_owned(),
            false => source.path.display().to_string(),
        })
        .collect();
    let sources = match &sources[..] {
        [one] => one.clone(),
        [first, .., last] => format!("{} texts, {first} to {last}", sources.len()),
        [] => String::new(),
    };
    format!(
        "{sources}: {} characters, {} tokens to train on, {} to validate",
        grouped(corpus.n_characters() as u64),
        grouped(train.n_tokens() as u64),
        grouped(validation.n_tokens() as u64)
    )
}
