//! Resolves a run's settings. The layers, from lowest to highest precedence, are the defaults of the preset and the
//! recipe, `--config FILE`, the flags, and `--set`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use calame::data::absolute_input;
use calame::files::read_text_at_most;
use calame::model::Preset;
use calame::train::{Recipe, RunConfig, RunConfigError};
use toml::{Table, Value};

use crate::training::device;
use crate::ui::output::{UsageError, WithHint};
use crate::ui::verbosity;

/// The value of `preset` for a run whose shape comes from the model given by `--init-from`.
pub const CUSTOM: &str = "custom";

/// The settings as they were given, before they are resolved.
#[derive(Default)]
pub struct RequestedSettings {
    pub config_file: Option<PathBuf>,
    /// Qualified keys, such as `train.lr`, and their values.
    pub flags: Vec<(&'static str, Value)>,
    /// The unparsed arguments of `--set`: `section.key=value`.
    pub set: Vec<String>,
}

/// The resolved settings, and the keys that were set explicitly.
pub struct Settings {
    pub config: RunConfig,
    explicit: Table,
}

impl Settings {
    /// Whether the qualified key `key` was set by the file, a flag or `--set`.
    pub fn was_set(&self, key: &str) -> bool {
        lookup(&self.explicit, key).is_some()
    }
}

/// Checks the settings as far as possible without the text and its tokenizer.
///
/// # Errors
/// If a value is out of range or two values contradict each other. The error has a hint if a flag resolves it.
pub fn check(config: &RunConfig) -> Result<()> {
    config.validate().map_err(|error| with_hint(error, config))
}

/// Shortens the default window to the context of a model that has a shorter one, and the default stride in proportion.
pub fn fit_window(config: &mut RunConfig, settings: &Settings) {
    let (window, n_positions) = (config.data.window, config.model.n_positions);
    if window <= n_positions || settings.was_set("data.window") {
        return;
    }
    config.data.window = n_positions;
    if !settings.was_set("data.stride") {
        config.data.stride = (config.data.stride * n_positions / window).max(1);
    }
}

/// The inputs as a run's settings store them: paths are absolute, so that the run resumes from any working directory.
pub fn absolute_inputs(inputs: &[String]) -> Vec<String> {
    // Without a working directory, relative paths stay as they are.
    let Ok(folder) = std::env::current_dir() else { return inputs.to_vec() };
    inputs.iter().map(|input| absolute_input(input, &folder)).collect()
}

/// Adds a hint: the flags that resolve the error, for a model whose shape may be given.
pub fn with_hint(error: RunConfigError, config: &RunConfig) -> anyhow::Error {
    use RunConfigError as E;
    let message = error.to_string();
    let sample_hint = "--set sample.prompt=\"…\" changes the prompt, --set sample.max_tokens=0 disables samples";
    match error {
        E::Device(error) => device::with_hint(error),
        E::Window { window, n_positions } => {
            let longer = format!(", or --set model.n_positions={window}");
            let longer = if config.init_from.is_empty() { longer.as_str() } else { "" };
            WithHint::usage(message, format!("use --window {n_positions} or less{longer}")).into()
        }
        E::Vocabulary { .. } if !config.init_from.is_empty() => {
            WithHint::new(message, "its rows cannot be added to: start from a model with this tokenizer").into()
        }
        E::Vocabulary { n_tokens, .. } => {
            WithHint::new(message, format!("--set model.vocab_size={n_tokens} or more")).into()
        }
        E::Prompt { .. } | E::PromptLength { .. } => WithHint::new(message, sample_hint).into(),
        E::Model(_) | E::Data(_) | E::Train(_) | E::Steps { .. } => UsageError(message).into(),
    }
}

/// The settings of a run with the changes that flags and `--set` request.
///
/// # Errors
/// If a key is unknown, or a value has the wrong type; the error names the source.
pub fn changed(config: &RunConfig, requested: &RequestedSettings) -> Result<RunConfig> {
    let base = Table::try_from(config).context("the run's settings")?;
    let mut merged = base.clone();
    for (source, layer) in flag_layers(requested)? {
        check_keys(&source, &base, &layer)?;
        merge(&mut merged, layer);
        config_from(&merged).map_err(|e| UsageError(format!("{source}: {e}")))?;
    }
    config_from(&merged).map_err(|error| UsageError(error).into())
}

/// The settings of the flags and of `--set`, each with its source.
fn flag_layers(requested: &RequestedSettings) -> Result<Vec<(String, Table)>> {
    let mut layers = Vec::new();
    for (key, value) in &requested.flags {
        let flag = format!("--{}", key.rsplit('.').next().unwrap_or(key).replace('_', "-"));
        layers.push((flag, nested(key, value.clone())));
    }
    for assignment in &requested.set {
        layers.push((format!("--set {assignment}"), parse_assignment(assignment)?));
    }
    Ok(layers)
}

/// Resolves the settings; later layers override earlier ones.
///
/// # Errors
/// If a file cannot be read, a key is unknown, or a value has the wrong type; the error names the source.
pub fn resolve(requested: &RequestedSettings) -> Result<Settings> {
    let mut layers: Vec<(String, Table)> = Vec::new();
    if let Some(file) = &requested.config_file {
        layers.push((file.display().to_string(), read(file)?));
    }
    layers.extend(flag_layers(requested)?);
    let (name, preset) = preset_of(&layers, requested.config_file.is_some())?;
    let mut defaults = RunConfig::of_preset(preset);
    if let Some(recipe) = layers.iter().rev().find_map(|(_, layer)| layer.get("recipe")?.as_str()) {
        // A recipe may derive the stride from the window, so the window is set first.
        let window = layers.iter().rev().find_map(|(_, layer)| lookup(layer, "data.window")?.as_integer());
        if let Some(window) = window.and_then(|window| usize::try_from(window).ok()) {
            defaults.data.window = window;
        }
        recipe.parse::<Recipe>().map_err(UsageError::from)?.apply(&mut defaults);
    }
    let base = Table::try_from(defaults).context("the preset's defaults")?;
    let (mut merged, mut explicit) = (base.clone(), Table::new());
    for (source, layer) in layers {
        check_keys(&source, &base, &layer)?;
        merge(&mut explicit, layer.clone());
        merge(&mut merged, layer);
        // Checked after each layer, so that the error of a value of the wrong type names the value's source.
        config_from(&merged).map_err(|e| UsageError(format!("{source}: {e}")))?;
    }
    let mut config = config_from(&merged).map_err(UsageError)?;
    config.preset = name.to_owned();
    config.version = RunConfig::of_preset(preset).version;
    Ok(Settings { config, explicit })
}

/// Returns the name of the preset that the layers select, and the preset whose defaults apply. `has_file` says whether
/// the first layer is a file.
///
/// # Errors
/// If a name is unknown, or another layer selects a different preset than a file that has a `[model]`.
fn preset_of(layers: &[(String, Table)], has_file: bool) -> Result<(&'static str, Preset)> {
    let named = layers.iter().filter_map(|(source, layer)| Some((source, layer.get("preset")?.as_str()?)));
    let named: Vec<(&String, &str)> = named.collect();
    for (_, name) in named.iter().filter(|(_, name)| *name != CUSTOM) {
        name.parse::<Preset>().map_err(UsageError::from)?;
    }
    // The [model] of a file belongs to the file's preset. Another preset would produce a mixture of two shapes.
    if let [(file, in_file), .., (source, selected)] = &named[..]
        && has_file
        && in_file != selected
        && layers[0].1.contains_key("model")
    {
        return Err(UsageError(format!(
            "{source}: {file} has preset = \"{in_file}\" and a [model] for it: remove one of the two"
        ))
        .into());
    }
    let preset = named.last().map_or(Preset::Book.name(), |(_, preset)| preset).to_owned();
    // `custom` requires a file, such as a run's config.toml, which contains every key of the shape.
    match preset.as_str() {
        CUSTOM if has_file => Ok((CUSTOM, Preset::Book)),
        other => {
            let preset: Preset = other.parse().map_err(UsageError::from)?;
            Ok((preset.name(), preset))
        }
    }
}

fn config_from(table: &Table) -> Result<RunConfig, String> {
    table.clone().try_into().map_err(|e: toml::de::Error| e.to_string().trim().replace('\n', " "))
}

fn read(file: &Path) -> Result<Table> {
    verbosity::opened(file);
    let text = read_text_at_most(file, MAX_SETTINGS_BYTES)?;
    text.parse::<Table>().map_err(|e| {
        // The error's Display is five lines that point at the position; this message is one line with a line number.
        let preceding = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = preceding.matches('\n').count() + 1;
        UsageError(format!("{} is not valid TOML: line {line}: {}", file.display(), e.message())).into()
    })
}

/// Maximum size of a settings file in bytes.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// Parses an assignment such as `train.lr=3e-4` into a table. A value that is not valid TOML is taken as a string.
fn parse_assignment(assignment: &str) -> Result<Table> {
    let usage = || UsageError(format!("--set {assignment}: expected section.key=value, such as --set train.lr=3e-4"));
    let (key, value) = assignment.split_once('=').ok_or_else(usage)?;
    if key.split('.').any(|part| part.trim().is_empty()) {
        bail!(usage());
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
    Ok(nested(key.trim(), parsed.unwrap_or_else(|| Value::String(value.to_owned()))))
}

fn nested(key: &str, value: Value) -> Table {
    let mut table = Table::new();
    match key.split_once('.') {
        Some((section, rest)) => table.insert(section.to_owned(), Value::Table(nested(rest, value))),
        None => table.insert(key.to_owned(), value),
    };
    table
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Checks that every key of `layer` exists in `base`.
///
/// # Errors
/// If a key is unknown, with the known keys, or a section is set to a value.
fn check_keys(source: &str, base: &Table, layer: &Table) -> Result<()> {
    check_section(source, "", base, base, layer)
}

/// As [`check_keys`], for a section of all settings.
fn check_section(source: &str, prefix: &str, all: &Table, base: &Table, layer: &Table) -> Result<()> {
    for (key, value) in layer {
        let path = format!("{prefix}{key}");
        match (base.get(key), value) {
            (None, _) => {
                let known: Vec<&str> = base.keys().map(String::as_str).collect();
                let known_keys = if prefix.is_empty() {
                    "known keys are".to_owned()
                } else {
                    format!("[{}] has", prefix.trim_end_matches('.'))
                };
                let meant = nearest(&path, all).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                bail!(UsageError(format!("{source}: unknown key {path}: {known_keys} {}{meant}", known.join(", "))));
            }
            (Some(Value::Table(base)), Value::Table(layer)) => {
                check_section(source, &format!("{path}."), all, base, layer)?;
            }
            (Some(Value::Table(_)), _) => {
                bail!(UsageError(format!("{source}: {path} is a section: set one of its keys, as {path}.key=value")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The setting that an unknown key resembles most: the same name in another section, or one that differs in few letters.
fn nearest(path: &str, all: &Table) -> Option<String> {
    let of_section = |(section, value): (&String, &Value)| {
        let keys = value.as_table().map(|table| table.keys().map(|key| format!("{section}.{key}")).collect());
        keys.unwrap_or_else(|| vec![section.clone()])
    };
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let similarity = |known: &String| {
        let is_of_section =
            known.rsplit_once('.').map(|(section, _)| section) == path.rsplit_once('.').map(|(section, _)| section);
        strsim::jaro_winkler(&name(known), &name(path)) + if is_of_section { 0.01 } else { 0.0 }
    };
    let known = all.iter().flat_map(|entry: (&String, &Value)| -> Vec<String> { of_section(entry) });
    let best = known.map(|known| (similarity(&known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(similarity, _)| *similarity > 0.85).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_near_a_known_one() {
        let error = |assignment: &str| set(&[assignment]).err().unwrap().to_string();
        assert!(error("lr=1").ends_with("did you mean train.lr?"), "{}", error("lr=1"));
        assert!(error("train.epoch=3").ends_with("did you mean train.epochs?"), "{}", error("train.epoch=3"));
        assert!(error("train.window=3").ends_with("did you mean data.window?"), "{}", error("train.window=3"));
        assert!(!error("train.zzz=3").contains("did you mean"), "{}", error("train.zzz=3"));
    }

    fn set(assignments: &[&str]) -> Result<Settings> {
        resolve(&RequestedSettings {
            set: assignments.iter().map(|s| (*s).to_owned()).collect(),
            ..RequestedSettings::default()
        })
    }

    #[test]
    fn later_layers_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, "preset = \"tiny\"\n[train]\nlr = 1e-3\nepochs = 7\n").unwrap();
        let requested = RequestedSettings {
            config_file: Some(file),
            flags: vec![("train.epochs", Value::Integer(3))],
            set: vec!["train.seed=9".to_owned(), "sample.prompt=I said".to_owned(), "train.lr=1".to_owned()],
        };
        let settings = resolve(&requested).unwrap();
        let config = &settings.config;
        assert_eq!((config.preset.as_str(), config.model.n_embd), ("tiny", 64));
        assert_eq!((config.train.lr, config.train.epochs, config.train.seed), (1.0, 3, 9));
        assert_eq!(config.sample.prompt, "I said");
        assert!(settings.was_set("train.epochs") && !settings.was_set("train.weight_decay"));
    }

    #[test]
    fn the_stride_of_a_recipe_follows_the_window() {
        let strides = |assignments: &[&str]| {
            let config = set(assignments).unwrap().config;
            (config.data.window, config.data.stride)
        };
        assert_eq!(strides(&["recipe=long"]), (256, 256));
        assert_eq!(strides(&["recipe=long", "data.window=512"]), (512, 512));
        assert_eq!(strides(&["recipe=long", "data.window=512", "data.stride=64"]), (512, 64));
        assert_eq!(strides(&["data.window=512"]), (512, 128));
        assert!(set(&["recipe=long", "data.window=-1"]).is_err());
    }

    #[test]
    fn errors_name_source_and_key() {
        let message = |assignment| format!("{:#}", set(&[assignment]).err().unwrap());
        assert!(message("train.learning=1").contains("unknown key train.learning: [train] has"));
        assert!(message("trian.lr=1").contains("unknown key trian"));
        assert!(message("train=1").contains("train is a section"));
        assert!(message("train.lr").contains("expected section.key=value"));
        assert!(message("train.lr=fast").contains("--set train.lr=fast") && message("train.lr=fast").contains("f64"));
        assert!(message("preset=gpt9").contains("gpt9"));
    }

    #[test]
    fn every_preset_survives_its_own_file() {
        for preset in Preset::ALL {
            let config = RunConfig::of_preset(preset);
            let text = toml::to_string_pretty(&config).unwrap();
            assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
        }
    }
}
