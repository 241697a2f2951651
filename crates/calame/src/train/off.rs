//! Settings that are a number or `"off"`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value that disables a setting.
const OFF: &str = "off";

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Stored {
    Number(u64),
    Word(String),
}

pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map_or_else(|| Stored::Word(OFF.to_owned()), Stored::Number).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Stored::deserialize(deserializer) {
        Ok(Stored::Number(n)) => Ok(Some(n)),
        Ok(Stored::Word(word)) if word == OFF => Ok(None),
        _ => Err(D::Error::custom("expected a whole number, or \"off\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TrainConfig;

    #[test]
    fn a_setting_is_a_number_or_off() {
        let read = |toml: &str| toml::from_str::<TrainConfig>(toml).map(|config| config.max_steps);
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("max_steps = \"off\"").unwrap(), None);
        assert_eq!(read("max_steps = 7").unwrap(), Some(7));
        for wrong in ["max_steps = \"none\"", "max_steps = -1", "max_steps = 1.5", "max_steps = true"] {
            assert!(read(wrong).unwrap_err().to_string().contains("or \"off\""), "{wrong}");
        }
        for max_steps in [None, Some(1), Some(u64::MAX >> 1)] {
            let config = TrainConfig { max_steps, ..TrainConfig::default() };
            assert_eq!(toml::from_str::<TrainConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
    }
}
