//! From the command line to a run that is ready to train: a new one, or one that was stopped.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use calame::checkpoint::{SavedModel, sound_checkpoint};
use calame::device::Workload;
use calame::model::{Gpt, ModelConfig};
use calame::ops::{Device, Isa, Precision};
use calame::tensor::Alloc;
use calame::tokenizer;
use calame::train::{Rng, RunConfig, RunFolder};
use toml::{Table, Value};

use super::args::TrainArgs;
use crate::training::settings::{self, Asked, Settings};
use crate::training::text::{self, Prepared};
use crate::training::{device, runs};
use crate::ui::output::{UsageError, WithHint, note, quoted};

/// A run that is ready to train.
pub struct Ready {
    pub config: RunConfig,
    pub place: Place,
    /// The model to train; a fresh one where there is none.
    pub gpt: Option<Gpt>,
    pub prepared: Prepared,
}

pub enum Place {
    /// To be made here.
    New(PathBuf),
    /// A stopped run and its checkpoint.
    Stopped(RunFolder, PathBuf),
}

impl Place {
    /// The run's folder.
    pub fn path(&self) -> &Path {
        match self {
            Place::New(path) => path,
            Place::Stopped(folder, _) => folder.path(),
        }
    }
}

/// The run that is asked for: a new one, or the rest of a stopped one.
pub fn ready(args: &TrainArgs) -> Result<(Device, Ready)> {
    match &args.resume {
        Some(path) => reopen(path, args),
        None => start(args),
    }
}

/// A new run, but for its folder; the text is known to suffice before memory is taken for the model.
fn start(args: &TrainArgs) -> Result<(Device, Ready)> {
    let settings = settings::resolve(&asked(args))?;
    let mut config = settings.config.clone();
    if config.train.rng == Rng::Torch && config.device.precision == "auto" {
        // Who follows PyTorch number for number does not want products in bf16.
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
    // Looked at again when the folder is made; here it costs no waiting for the model.
    runs::check_free(&path, args.overwrite)?;
    let gpt = source.map(|source| Gpt { config: config.model.clone(), ..source.gpt });
    Ok((dev, Ready { config, place: Place::New(path), gpt, prepared }))
}

fn asked(args: &TrainArgs) -> Asked {
    let mut flags: Vec<(&'static str, Value)> = Vec::new();
    // A size beyond what TOML holds is beyond what anything holds: the largest is refused as it would be.
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
    Asked { config_file: args.config.clone(), flags, set: args.set.clone() }
}

/// The shape of the model that the weights come from, and its tokenizer; only its dropout may be set otherwise.
fn adopt_shape(config: &mut RunConfig, source: &SavedModel, settings: &Settings) -> Result<()> {
    let found = &source.gpt.config;
    let dropout = if settings.was_set("model.dropout") { config.model.dropout } else { found.dropout };
    let adopted = ModelConfig { dropout, ..found.clone() };
    let (asked, has) = (Table::try_from(&config.model)?, Table::try_from(&adopted)?);
    for (key, value) in has.iter().filter(|(key, value)| asked.get(*key) != Some(*value)) {
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

/// The newest checkpoint that is whole; those that are not are told.
fn checkpoint_to_go_on_from(folder: &RunFolder) -> Result<Option<PathBuf>> {
    let (found, damaged) = sound_checkpoint(&folder.checkpoints())?;
    let Some(checkpoint) = found else {
        // Where none is whole, the newest one's error.
        return damaged.into_iter().next().map_or(Ok(None), |error| Err(error.into()));
    };
    for error in &damaged {
        note(&format!("warning: {error}; the checkpoint before it is taken"));
    }
    Ok(Some(checkpoint))
}

/// A run that was stopped, from its folder.
fn reopen(path: &Path, args: &TrainArgs) -> Result<(Device, Ready)> {
    let (folder, mut config) = RunFolder::open(path)?;
    let Some(checkpoint) = checkpoint_to_go_on_from(&folder)? else {
        let hint = if folder.model().exists() {
            let text: String = config.data.inputs.iter().map(|input| format!(" --data {}", quoted(input))).collect();
            let run = quoted(&path.display().to_string());
            format!("it is finished; to train its model further: calame train --init-from {run}{text}")
        } else {
            "it was ended before it could save anything: start it again with --overwrite".to_owned()
        };
        bail!(WithHint::new(format!("{} has no checkpoint to go on from", path.display()), hint));
    };
    let (_, at_checkpoint) = RunFolder::open(&checkpoint)?;
    let random = |config: &RunConfig| (config.train.seed, config.train.rng);
    if at_checkpoint.model != config.model || random(&at_checkpoint) != random(&config) {
        bail!(WithHint::new(
            format!(
                "[model], train.seed or train.rng in {}/config.toml is not what it was when the run was stopped",
                path.display()
            ),
            format!("put it back as it is in {}/config.toml", checkpoint.display())
        ));
    }
    settings::check(&config)?;
    if at_checkpoint.device.precision != config.device.precision {
        note(&format!(
            "warning: the run began in {}, its config.toml says {} now: losses will go another way",
            at_checkpoint.device.precision, config.device.precision
        ));
    }
    let dev = reopen_device(&mut config, args)?;
    let file = folder.path().join(RunFolder::TOKENIZER);
    let tokenizer = tokenizer::read_json(&folder.tokenizer_json()?, &file)?;
    let prepared = text::prepare(&config, Some(tokenizer), None)?;
    if prepared.sha256 != config.text_sha256 {
        bail!(WithHint::new(
            format!("the text is not the one that {} was trained on (its SHA-256 is another)", path.display()),
            "put the text back as it was, or start a new run with --init-from"
        ));
    }
    let gpt = Some(Gpt::zeros(&config.model, &mut Alloc::on(&dev)));
    Ok((dev, Ready { config, place: Place::Stopped(folder, checkpoint), gpt, prepared }))
}

/// The device that the run began on, or the nearest to it that this machine has.
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
                "warning: the run began with {what} {then}, this is {now}: results may differ in the last bits"
            ));
        }
    };
    warn("the instruction set", &recorded, &resolved.instruction_set);
    warn("calame", &config.version, env!("CARGO_PKG_VERSION"));
    config.device = resolved;
    Ok(dev)
}
