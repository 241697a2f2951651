//! Prepares a run for training from the command line: a new run, or a stopped one.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::formats::SavedModel;
use calame::model::{Gpt, ModelConfig};
use calame::ops::{Device, Isa, Precision};
use calame::run::RunFolder;
use calame::tensor::Alloc;
use calame::tokenizer;
use calame::train::{Rng, RunConfig, sound_checkpoint};
use toml::{Table, Value};

use super::args::TrainArgs;
use crate::training::settings::{self, RequestedSettings, Settings};
use crate::training::text::{self, Prepared};
use crate::training::{device, runs};
use crate::ui::output::{UsageError, WithHint, note, quoted};
use crate::ui::verbosity;

/// A run that is ready to train.
pub struct Ready {
    pub config: RunConfig,
    pub target: RunTarget,
    /// The model to train; if none, one with initial weights is made.
    pub gpt: Option<Gpt>,
    pub prepared: Prepared,
}

/// The run to train.
pub enum RunTarget {
    /// A new run, whose folder will be created at this path.
    New(PathBuf),
    /// A stopped run, and the checkpoint from which it is resumed.
    Stopped(RunFolder, PathBuf),
}

impl RunTarget {
    /// The path of the run's folder.
    pub fn path(&self) -> &Path {
        match self {
            RunTarget::New(path) => path,
            RunTarget::Stopped(folder, _) => folder.path(),
        }
    }
}

/// Prepares the run that the flags describe: a new run or, with `--resume`, a stopped one.
///
/// # Errors
/// If settings, text or model do not go together, or the run cannot be resumed.
pub fn ready(args: &TrainArgs) -> Result<(Device, Ready)> {
    match &args.resume {
        Some(path) => prepare_resumed(path, args),
        None => prepare_new(args),
    }
}

/// Prepares a new run, without creating its folder. The text is checked before memory for the model is allocated.
fn prepare_new(args: &TrainArgs) -> Result<(Device, Ready)> {
    let settings = settings::resolve(&requested(args))?;
    let mut config = settings.config.clone();
    if config.train.rng == Rng::Torch && config.device.precision == "auto" {
        // A run that follows PyTorch number by number needs products in f32.
        config.device.precision = Precision::F32.name().to_owned();
    }
    let (dev, resolved) = device::open(&config.device, Workload::Training)?;
    config.device = resolved;
    let source = match config.init_from.as_str() {
        "" => None,
        model => Some(runs::load(Path::new(model))?),
    };
    if let Some(source) = &source {
        adopt_shape(&mut config, source, &settings)?;
    }
    settings::check(&config)?;
    let given = source.as_ref().and_then(|source| source.tokenizer.clone());
    let of_run = args.config.as_ref().map(|file| file.with_file_name(RunFolder::TOKENIZER));
    let prepared = text::prepare(&config, given, of_run.as_deref())?;
    if source.is_none() && prepared.tokenizer.kind() != "gpt2" && !settings.was_set("model.vocab_size") {
        config.model.vocab_size = prepared.tokenizer.n_vocab();
    }
    config.model.validate().map_err(UsageError::from)?;
    config.validate_tokenizer(prepared.tokenizer.as_ref()).map_err(settings::with_hint)?;
    config.fit_batches(&prepared.splits).map_err(settings::with_hint)?;
    config.tokenizer.kind = prepared.tokenizer.kind().to_owned();
    config.text_sha256 = prepared.sha256.clone();
    let path = args.run.clone().unwrap_or_else(|| runs::new_path(&config.preset));
    // Checked again when the folder is created; here it fails before the model is made.
    runs::check_free(&path, args.overwrite)?;
    let gpt = source.map(|source| Gpt { config: config.model.clone(), ..source.gpt });
    Ok((dev, Ready { config, target: RunTarget::New(path), gpt, prepared }))
}

/// The settings that the flags give.
fn requested(args: &TrainArgs) -> RequestedSettings {
    let mut flags: Vec<(&'static str, Value)> = Vec::new();
    // A size that TOML cannot hold becomes the largest one, which validation refuses as well.
    let size = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let text = |s: &String| Value::String(s.clone());
    if !args.data.is_empty() {
        flags.push(("data.inputs", Value::Array(args.data.iter().map(text).collect())));
    }
    flags.extend(args.preset.as_ref().map(|s| ("preset", text(s))));
    flags.extend(args.recipe.as_ref().map(|s| ("recipe", text(s))));
    flags.extend(args.loss_average.as_ref().map(|s| ("train.loss_average", text(s))));
    flags.extend(args.init_from.as_ref().map(|p| ("init_from", Value::String(p.display().to_string()))));
    flags.extend(args.epochs.map(|n| ("train.epochs", Value::Integer(n as i64))));
    flags.extend(args.lr.map(|x| ("train.lr", Value::Float(x))));
    flags.extend(args.seed.map(|n| ("train.seed", Value::Integer(n as i64))));
    flags.extend(args.rng.as_ref().map(|s| ("train.rng", text(s))));
    flags.extend(args.batch_size.map(|n| ("data.batch_size", size(n))));
    flags.extend(args.window.map(|n| ("data.window", size(n))));
    flags.extend(args.stride.map(|n| ("data.stride", size(n))));
    flags.extend(args.device.device.as_ref().map(|s| ("device.device", text(s))));
    flags.extend(args.device.precision.as_ref().map(|s| ("device.precision", text(s))));
    flags.extend(args.device.threads.map(|n| ("device.threads", size(n))));
    RequestedSettings { config_file: args.config.clone(), flags, set: args.set.clone() }
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

/// The newest undamaged checkpoint. Prints a warning for each newer one that is damaged.
fn checkpoint_to_resume(folder: &RunFolder) -> Result<Option<PathBuf>> {
    let (found, damaged) = sound_checkpoint(&folder.checkpoints())?;
    let Some(checkpoint) = found else {
        // If all are damaged, the error of the newest.
        return damaged.into_iter().next().map_or(Ok(None), |error| Err(error.into()));
    };
    verbosity::opened(&checkpoint);
    for error in &damaged {
        note(&format!("warning: {error}; using the checkpoint before it"));
    }
    Ok(Some(checkpoint))
}

/// Prepares a stopped run, from its folder.
fn prepare_resumed(path: &Path, args: &TrainArgs) -> Result<(Device, Ready)> {
    verbosity::opened(path);
    let (folder, mut config) = RunFolder::open(path)?;
    let Some(checkpoint) = checkpoint_to_resume(&folder)? else {
        let hint = if folder.model().exists() {
            let text: String = config.data.inputs.iter().map(|input| format!(" --data {}", quoted(input))).collect();
            let run = quoted(&path.display().to_string());
            format!("it is finished; to train its model further: calame train --init-from {run}{text}")
        } else {
            "it ended before its first checkpoint: start it again with --overwrite".to_owned()
        };
        bail!(WithHint::new(format!("{} has no checkpoint to resume from", path.display()), hint));
    };
    let (_, at_checkpoint) = RunFolder::open(&checkpoint)?;
    let random = |config: &RunConfig| (config.train.seed, config.train.rng);
    if at_checkpoint.model != config.model || random(&at_checkpoint) != random(&config) {
        bail!(WithHint::new(
            format!(
                "[model], train.seed or train.rng in {}/config.toml was changed after the run was stopped",
                path.display()
            ),
            format!("restore the values of {}/config.toml", checkpoint.display())
        ));
    }
    settings::check(&config)?;
    if at_checkpoint.device.precision != config.device.precision {
        note(&format!(
            "warning: the run was started in {}, its config.toml says {} now: the losses will differ",
            at_checkpoint.device.precision, config.device.precision
        ));
    }
    let dev = reopen_device(&mut config, args)?;
    let file = folder.path().join(RunFolder::TOKENIZER);
    let tokenizer = tokenizer::read_json(&folder.tokenizer_json()?, &file)?;
    let prepared = text::prepare(&config, Some(tokenizer), None)?;
    if prepared.sha256 != config.text_sha256 {
        bail!(WithHint::new(
            format!("the text is not the one that {} was trained on (its SHA-256 differs)", path.display()),
            "restore the text, or start a new run with --init-from"
        ));
    }
    let gpt = Some(Gpt::zeros(&config.model, &mut Alloc::on(&dev)));
    Ok((dev, Ready { config, target: RunTarget::Stopped(folder, checkpoint), gpt, prepared }))
}

/// Opens the device that the run was started on, or the most similar one of this machine.
fn reopen_device(config: &mut RunConfig, args: &TrainArgs) -> Result<Device> {
    let recorded = config.device.instruction_set.clone();
    config.device.threads = args.device.threads.unwrap_or(config.device.threads);
    if !recorded.parse::<Isa>().is_ok_and(Isa::is_available) {
        config.device.instruction_set = "auto".to_owned();
    }
    let (dev, resolved) = device::open(&config.device, Workload::Training)?;
    let warn = |what: &str, then: &str, now: &str| {
        if then != now {
            note(&format!(
                "warning: the run was started with {what} {then}, now it is {now}: results may differ in the last bits"
            ));
        }
    };
    warn("the instruction set", &recorded, &resolved.instruction_set);
    warn("calame", &config.version, env!("CARGO_PKG_VERSION"));
    config.device = resolved;
    Ok(dev)
}
