//! From inputs to batches: the text, its tokenizer, its splits.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use calame::data::{Corpus, Windows, split_by_characters};
use calame::tokenizer::{Bpe, SimpleTokenizer, Special, Tokenizer};
use calame::train::plan::TextSize;
use calame::train::{RunConfig, Splits};
use indicatif::{ProgressBar, ProgressStyle};

use crate::download;
use crate::output::{UsageError, WithHint, grouped};

/// A text ready to train on.
pub struct Prepared {
    pub tokenizer: Arc<dyn Tokenizer>,
    pub splits: Splits,
    /// What is trained on, for who looks what of it comes again.
    pub train: Windows,
    /// For the plan.
    pub size: TextSize,
    /// What it is, in a line for people.
    pub description: String,
    /// SHA-256 of the text.
    pub sha256: String,
}

/// Loads a text; what has a name and is not there yet is downloaded.
pub fn load(inputs: &[String]) -> Result<Corpus> {
    let cache = download::cache_dir()?;
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{msg} {bytes}").context("progress")?);
    download::fetch_missing(&download::agent(), inputs, &cache, &mut |text, n_bytes| {
        bar.set_message(format!("downloading {}", text.name));
        bar.set_position(n_bytes);
    })?;
    bar.finish_and_clear();
    Ok(Corpus::load(inputs, &cache)?)
}

/// Tokenises a text and cuts it into batches as the run says; `tokenizer` is a given model's.
///
/// Nothing of the model's size is allocated before it is known that the text is long enough.
pub fn prepare(config: &RunConfig, tokenizer: Option<Arc<dyn Tokenizer>>) -> Result<Prepared> {
    config.data.validate().map_err(UsageError::from)?;
    let data = config.data.resolved();
    if data.window > config.model.n_positions {
        bail!(WithHint::usage(
            format!(
                "data.window is {}, the model's context (model.n_positions) is {}",
                data.window, config.model.n_positions
            ),
            format!("use --window {} or less, or --set model.n_positions={}", config.model.n_positions, data.window),
        ));
    }
    let corpus = load(&data.inputs)?;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None => build_tokenizer(&config.tokenizer.kind, corpus.text())?,
    };
    let (train, validation) = split_by_characters(corpus.text(), data.train_fraction);
    let windows = |text: &str, part: &'static str| -> Result<Windows> {
        let tokens: Arc<[u32]> = tokenizer.encode(text, Special::Allow).with_context(|| part)?.into();
        Ok(Windows::new(tokens, data.window, data.stride).map_err(|e| e.in_part(part))?)
    };
    let (in_training, in_validation) = ("the training part", "the validation part");
    let (train, validation) = (windows(train, in_training)?, windows(validation, in_validation)?);
    let description = describe(&corpus, &train, &validation);
    let size = size_of(&train, &validation, tokenizer.n_vocab());
    let splits = Splits::new(train.clone(), validation, &data)?;
    Ok(Prepared { tokenizer, splits, train, size, description, sha256: corpus.sha256() })
}

fn size_of(train: &Windows, validation: &Windows, n_vocab: usize) -> TextSize {
    let mut size = TextSize {
        n_train_tokens: train.tokens().len() as u64,
        n_validation_tokens: validation.tokens().len() as u64,
        n_windows: train.len() as u64,
        n_validation_windows: validation.len() as u64,
        is_used: Vec::new(),
    };
    size.use_tokens(train.tokens(), n_vocab);
    size
}

fn build_tokenizer(kind: &str, text: &str) -> Result<Arc<dyn Tokenizer>> {
    Ok(match kind {
        "gpt2" => Bpe::gpt2(),
        "simple-v1" => Arc::new(SimpleTokenizer::v1(text)?),
        "simple-v2" => Arc::new(SimpleTokenizer::v2(text)?),
        other => {
            bail!(WithHint::usage(format!("tokenizer.kind is '{other}'"), "there are gpt2, simple-v1 and simple-v2"))
        }
    })
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
        grouped(train.tokens().len() as u64),
        grouped(validation.tokens().len() as u64)
    )
}
