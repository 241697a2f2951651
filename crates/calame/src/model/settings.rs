//! How settings of a model are written in files, and the values of those that older files lack.

use crate::ops::Activation;

/// The value of settings that are on by default.
pub(super) fn yes() -> bool {
    true
}

/// ε of GPT-2's layer normalisations.
pub(super) fn one_in_100_000() -> f32 {
    1e-5
}

/// An [`Activation`] as its name.
pub(super) mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Activation;

    pub fn serialize<S: Serializer>(activation: &Activation, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(activation.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Activation, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The width of an MLP: a number, or `"4x"` for four times the width of the residual stream.
pub(super) mod four_times_or_number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    const FOUR_TIMES: &str = "4x";

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Width {
        Number(usize),
        Text(String),
    }

    pub fn serialize<S: Serializer>(width: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
        match width {
            Some(n) => n.serialize(to),
            None => to.serialize_str(FOUR_TIMES),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
        let expected = "expected a whole number, or \"4x\" for four times n_embd";
        match Width::deserialize(from) {
            Ok(Width::Number(n)) => Ok(Some(n)),
            Ok(Width::Text(text)) if text == FOUR_TIMES => Ok(None),
            Ok(Width::Text(text)) => Err(de::Error::custom(format!("n_inner is {text:?}: {expected}"))),
            Err(_) => Err(de::Error::custom(format!("n_inner: {expected}"))),
        }
    }
}
