//! Prepares a run for training from the command line.

use std::path::Path;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::formats::SavedModel;
use calame::model::{Gpt, ModelConfig};
use calame::ops::{Device, Precision};
use calame::run::RunFolder;
use calame::tokenizer::{Special, Tokenizer};
use calame::train::{Rng, RunConfig};
use toml::Table;

use super::args::TrainArgs;
use super::ready::{Ready, RunTarget};
use super::settings::{self, Settings, absolute_inputs};
use super::{device, model, resume, runs, text};
use crate::ui::output::{UsageError, WithHint, note};

/// What a run is prepared for.
#[derive(Clone, Copy, PartialEq)]
pub enum Purpose {
    /// It is trained: its path is locked before anything else is looked at.
    Training,
    /// Its plan is shown, and nothing is written.
    Planning,
}

/// Prepares the run that the flags describe: a new run or, with `--resume`, a stopped or finished one, whose lock the
/// caller holds.
///
/// # Errors
/// If settings, text or model do not go together, or the run cannot be created or resumed.
pub fn ready(args: &TrainArgs, purpose: Purpose) -> Result<(Device, Ready)> {
    match &args.resume {
        Some(path) => resume::prepare(path, args),
        None => prepare_new(args, purpose),
    }
}

/// Prepares a new run, without creating its folder. The text is checked before memory for the model is allocated.
fn prepare_new(args: &TrainArgs, purpose: Purpose) -> Result<(Device, Ready)> {
    let settings = settings::resolve(&args.requested())?;
    let mut config = settings.config.clone();
    // The default path is named after the preset; a model of another run has its own shape.
    let preset = if config.init_from.is_empty() { config.preset.as_str() } else { settings::CUSTOM };
    let (path, lock) = match purpose {
        Purpose::Training => {
            let (path, lock) = runs::reserve(args.run.as_deref(), preset, args.overwrite)?;
            (path, Some(lock))
        }
        Purpose::Planning => {
            let path = args.run.clone().unwrap_or_else(|| runs::new_path(preset));
            runs::check_free(&path, args.overwrite)?;
            (path, None)
        }
    };
    if config.train.rng == Rng::Torch && config.device.precision == "auto" {
        // A run that follows PyTorch number by number needs products in f32.
        config.device.precision = Precision::F32.name().to_owned();
    }
    let (dev, resolved) = device::open(&config.device, Workload::Training)?;
    config.device = resolved;
    let source = initial_model(&config, args, &settings)?;
    if let Some(source) = &source {
        adopt_shape(&mut config, source, &settings)?;
    }
    settings::fit_window(&mut config, &settings);
    settings::check(&config)?;
    let given = source.as_ref().and_then(|source| source.tokenizer.clone());
    let of_run = args.config.as_ref().map(|file| file.with_file_name(RunFolder::TOKENIZER));
    let prepared = text::prepare(&config, given, of_run.as_deref())?;
    if source.is_none() && prepared.tokenizer.kind() != "gpt2" && !settings.was_set("model.vocab_size") {
        config.model.vocab_size = prepared.tokenizer.n_vocab();
    }
    config.model.validate().map_err(UsageError::from)?;
    let tokenizer = prepared.tokenizer.as_ref();
    if source.is_some() && tokenizer.n_vocab() > config.model.vocab_size {
        config.validate_prompt(tokenizer).map_err(|error| settings::with_hint(error, &config))?;
        text::check_rows(&prepared, config.model.vocab_size)?;
    } else {
        config.validate_tokenizer(tokenizer).map_err(|error| settings::with_hint(error, &config))?;
    }
    warn_of_unknown_words(&config, prepared.tokenizer.as_ref());
    config.fit_batches(&prepared.splits).map_err(|error| settings::with_hint(error, &config))?;
    config.tokenizer.kind = prepared.tokenizer.kind().to_owned();
    config.text_sha256 = prepared.sha256.clone();
    config.data.inputs = absolute_inputs(&config.data.inputs);
    config.init_from = runs::absolute_model(&config.init_from);
    let gpt = source.map(|source| Gpt { config: config.model.clone(), ..source.gpt });
    Ok((dev, Ready { config, target: RunTarget::New(path), lock, gpt, prepared }))
}

/// Reads the model of `init_from`. Its number of heads may be given by --n-head, or by model.n_head in the settings of an
/// earlier run, which contain it.
fn initial_model(config: &RunConfig, args: &TrainArgs, settings: &Settings) -> Result<Option<SavedModel>> {
    let named = match config.init_from.as_str() {
        "" if args.known.n_head.is_some() => {
            let hint = "--set model.n_head=N sets it for a new model";
            bail!(WithHint::usage("--n-head describes the model of --init-from, which is not given", hint))
        }
        "" => return Ok(None),
        named => Path::new(named),
    };
    let unstated = settings.was_set("model.n_head").then_some(config.model.n_head);
    let mut source = model::load(named, model::Args { unstated, ..args.known }, |_| 0)?;
    if let Some(error) = source.tokenizer_error.take() {
        bail!(error);
    }
    Ok(Some(source))
}

/// Warns if the prompt of the samples has words that the tokenizer replaces by its token for unknown words.
fn warn_of_unknown_words(config: &RunConfig, tokenizer: &dyn Tokenizer) {
    let prompt = &config.sample.prompt;
    let is_used = config.sample.max_tokens > 0 && tokenizer.kind() == "simple-v2";
    let seen = tokenizer.encode(prompt, Special::AsText).and_then(|ids| tokenizer.decode(&ids)).unwrap_or_default();
    if is_used && seen.contains("<|unk|>") {
        note(&format!(
            "note: the prompt of the samples, {prompt:?}, has words outside the vocabulary; --set sample.prompt=\"…\" changes it"
        ));
    }
}

/// Takes the shape and the tokenizer from the model of `--init-from`. Only the dropout may be set to another value.
///
/// # Errors
/// If another key of the shape, or the tokenizer, was set to a different value.
fn adopt_shape(config: &mut RunConfig, source: &SavedModel, settings: &Settings) -> Result<()> {
    let found = &source.gpt.config;
    let dropout = if settings.was_set("model.dropout") { config.model.dropout } else { found.dropout };
    let adopted = ModelConfig { dropout, ..found.clone() };
    let (requested, has) = (Table::try_from(&config.model)?, Table::try_from(&adopted)?);
    for (key, value) in has.iter().filter(|(key, value)| requested.get(*key) != Some(*value)) {
        if settings.was_set(&format!("model.{key}")) {
            bail!(UsageError(format!(
                "model.{key} is {value} in the model given by --init-from: it cannot be set to another value"
            )));
        }
    }
    if source
        .tokenizer
        .as_ref()
        .is_some_and(|t| settings.was_set("tokenizer.kind") && t.kind() != config.tokenizer.kind)
    {
        bail!(UsageError("tokenizer.kind is that of the model given by --init-from: it cannot be set".to_owned()));
    }
    config.model = adopted;
    config.preset = settings::CUSTOM.to_owned();
    Ok(())
}
