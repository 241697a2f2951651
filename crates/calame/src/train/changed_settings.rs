//! Compares the settings of a run with those that its checkpoint was trained with.
//!
//! Every setting is compared, so that a new one cannot be forgotten. A setting is refused if the rest of the training
//! would no longer continue what the checkpoint holds: another shape, another position in the text, other random
//! numbers. All other settings may change, and the caller lists them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::config::RunConfig;

/// A setting whose value differs from the checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedSetting {
    /// The key with its section, such as `train.lr`.
    pub key: String,
    /// The checkpoint's value; empty if the checkpoint does not have the setting.
    pub saved: String,
    /// The run's value now.
    pub now: String,
}

impl ChangedSetting {
    /// Why a training cannot resume with the new value, or `None` if it can.
    pub fn refusal(&self) -> Option<&'static str> {
        const LABEL: &str = "it selects the defaults of a new run; change the settings themselves";
        match self.key.as_str() {
            "model.dropout" | "model.init" | "data.inputs" | "data.eval_batch_size" => None,
            "preset" | "recipe" => Some(LABEL),
            "init_from" => Some("only a new run starts from another model"),
            "text_sha256" => Some("it identifies the text that the checkpoint was trained on"),
            "tokenizer.kind" => Some("the model was trained on the ids of its tokenizer"),
            "train.seed" | "train.rng" => Some("its random numbers would not continue those of the checkpoint"),
            "train.accumulate" => Some("it would change the position in the text"),
            key if key.starts_with("model.") => Some("the checkpoint's weights have another shape"),
            key if key.starts_with("data.") => Some("it would change the position in the text"),
            _ => None,
        }
    }
}

impl RunConfig {
    /// Every setting as text, by its qualified key.
    ///
    /// # Errors
    /// If a value cannot be expressed in TOML, such as an integer beyond `i64::MAX`.
    pub fn flat(&self) -> Result<BTreeMap<String, String>, toml::ser::Error> {
        let mut flat = BTreeMap::new();
        flatten("", &Table::try_from(self)?, &mut flat);
        Ok(flat)
    }

    /// The settings that differ from those of a checkpoint, in the order of their keys. The version of calame is not
    /// a setting.
    ///
    /// # Errors
    /// As [`flat`](Self::flat).
    pub fn changes_since(&self, checkpoint: &RunConfig) -> Result<Vec<ChangedSetting>, toml::ser::Error> {
        let (mut before, now) = (checkpoint.flat()?, self.flat()?);
        let pairs = now.into_iter().map(|(key, now)| (before.remove(&key).unwrap_or_default(), key, now));
        let changed = pairs.filter(|(saved, key, now)| saved != now && key != "version");
        Ok(changed.map(|(saved, key, now)| ChangedSetting { key, saved, now }).collect())
    }
}

fn flatten(prefix: &str, table: &Table, to: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            Value::Table(inside) => flatten(&format!("{path}."), inside, to),
            Value::String(text) => drop(to.insert(path, text.clone())),
            Value::Float(x) => drop(to.insert(path, float(*x))),
            other => drop(to.insert(path, other.to_string())),
        }
    }
}

/// Formats a number without the extra digits of an f32 value that TOML stores as f64.
fn float(x: f64) -> String {
    let narrow = x as f32;
    if (x - f64::from(narrow)).abs() <= x.abs() * 1e-12 { narrow.to_string() } else { x.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn changed(change: impl FnOnce(&mut RunConfig)) -> Vec<ChangedSetting> {
        let saved = RunConfig::of_preset(Preset::Tiny);
        let mut now = saved.clone();
        change(&mut now);
        now.changes_since(&saved).unwrap()
    }

    #[test]
    fn a_change_has_both_values() {
        assert_eq!(changed(|_| {}), []);
        assert_eq!(changed(|c| c.version = "0.0.1".to_owned()), []);
        let found = changed(|c| (c.train.epochs, c.model.dropout) = (20, 0.2));
        let shown: Vec<String> = found.iter().map(|c| format!("{} {} {}", c.key, c.saved, c.now)).collect();
        assert_eq!(shown, ["model.dropout 0 0.2", "train.epochs 10 20"]);
        assert!(found.iter().all(|change| change.refusal().is_none()));
    }

    /// Every setting of `[model]` and `[data]` is refused unless it is listed here as harmless, so a new one is refused
    /// until somebody has thought about it.
    #[test]
    fn what_changes_shape_position_or_random_numbers_is_refused() {
        let keys = RunConfig::of_preset(Preset::Tiny).flat().unwrap().into_keys();
        let refused = |key: &String| {
            ChangedSetting { key: key.clone(), saved: String::new(), now: String::new() }.refusal().is_some()
        };
        let (refused, allowed): (Vec<String>, Vec<String>) = keys.partition(refused);
        for key in
            ["data.batch_size", "data.window", "data.stride", "data.train_fraction", "model.n_head", "train.seed"]
        {
            assert!(refused.iter().any(|k| k == key), "{key}");
        }
        for key in ["train.epochs", "train.lr", "checkpoint.keep", "device.threads", "early_stopping.patience"] {
            assert!(allowed.iter().any(|k| k == key), "{key}");
        }
        let of_sections = allowed.iter().filter(|key| key.starts_with("model.") || key.starts_with("data."));
        let of_sections: Vec<&str> = of_sections.map(String::as_str).collect();
        assert_eq!(of_sections, ["data.eval_batch_size", "data.inputs", "model.dropout", "model.init"]);
    }
}
