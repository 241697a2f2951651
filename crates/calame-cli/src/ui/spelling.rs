//! Other spellings of names, as people type them: upper case, underscores, the names of other programs.

use std::convert::Infallible;

use clap::Arg;

/// Other names of presets: those of OpenAI's models by size, and of the book's model.
const PRESETS: [(&str, &str); 8] = [
    ("gpt2-small", "gpt2"),
    ("gpt2-124m", "gpt2"),
    ("gpt2-355m", "gpt2-medium"),
    ("gpt2-345m", "gpt2-medium"),
    ("gpt2-774m", "gpt2-large"),
    ("gpt2-1558m", "gpt2-xl"),
    ("gpt2-1.5b", "gpt2-xl"),
    ("report", "book"),
];

/// Other names of number formats: PyTorch's and NumPy's.
const PRECISIONS: [(&str, &str); 4] = [("fp32", "f32"), ("float32", "f32"), ("float", "f32"), ("bfloat16", "bf16")];

/// Other names of random number generators.
const GENERATORS: [(&str, &str); 1] = [("pytorch", "torch")];

/// An argument that accepts other spellings, if it takes a name.
pub fn accepted(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "preset" => arg.value_parser(preset),
        "precision" => arg.value_parser(|name: &str| spelled(name, &PRECISIONS)),
        "rng" => arg.value_parser(|name: &str| spelled(name, &GENERATORS)),
        "recipe" | "loss_average" => arg.value_parser(|name: &str| spelled(name, &[])),
        _ => arg,
    }
}

fn preset(name: &str) -> Result<String, Infallible> {
    let name = name.to_lowercase().replace('_', "-");
    spelled(&name.replace("gpt-2", "gpt2"), &PRESETS)
}

/// The name in lower case and with hyphens, or the one that it stands for.
fn spelled(name: &str, others: &[(&str, &str)]) -> Result<String, Infallible> {
    let name = name.to_lowercase().replace('_', "-");
    let other = others.iter().find(|(other, _)| *other == name);
    Ok(other.map_or(name, |(_, meant)| (*meant).to_owned()))
}

#[cfg(test)]
mod tests {
    use calame::model::Preset;

    use super::*;

    #[test]
    fn names_are_recognised_however_they_are_spelled() {
        let preset = |name: &str| preset(name).unwrap();
        let spellings =
            [("GPT2-XL", "gpt2-xl"), ("gpt2_medium", "gpt2-medium"), ("gpt-2", "gpt2"), ("gpt-2-Small", "gpt2")];
        spellings.iter().for_each(|(name, meant)| assert_eq!(preset(name), *meant));
        for known in Preset::ALL {
            assert_eq!(preset(known.name()), known.name());
        }
        for (_, meant) in PRESETS {
            assert!(meant.parse::<Preset>().is_ok(), "{meant}");
        }
        assert_eq!(spelled("BFloat16", &PRECISIONS).unwrap(), "bf16");
        assert_eq!(spelled("small_data", &[]).unwrap(), "small-data");
        // What is unknown is reported by those who know the names.
        assert_eq!((preset("gpt9"), spelled("fp8", &PRECISIONS).unwrap()), ("gpt9".to_owned(), "fp8".to_owned()));
    }
}
