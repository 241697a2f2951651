//! Other spellings of names, as people type them: upper case, underscores, the names of other programs.

use std::convert::Infallible;

use calame::tensor::NumberFormat;
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
const FORMATS: [(&str, &str); 7] = [
    ("fp32", "f32"),
    ("float32", "f32"),
    ("float", "f32"),
    ("bfloat16", "bf16"),
    ("fp16", "f16"),
    ("float16", "f16"),
    ("half", "f16"),
];

/// Other names of random number generators.
const GENERATORS: [(&str, &str); 1] = [("pytorch", "torch")];

/// An argument that accepts other spellings, if it takes a name.
pub fn accepted(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "preset" => arg.value_parser(preset),
        "precision" => arg.value_parser(|name: &str| spelled(name, &FORMATS)),
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

/// The number format of a name in any case, by the names of llama.cpp and of PyTorch.
pub fn number_format(name: &str) -> Result<NumberFormat, String> {
    let meant = spelled(name, &FORMATS).unwrap_or_else(|never| match never {});
    let is_named = |format: &NumberFormat| format.name().eq_ignore_ascii_case(&meant.replace('-', "_"));
    NumberFormat::ALL.into_iter().find(is_named).ok_or_else(|| {
        let names = NumberFormat::ALL.map(|format| format.name().to_lowercase());
        format!("expected one of {}", names.join(", "))
    })
}

/// A number of bytes: a number, and B, kB, MB, GB or KiB, MiB, GiB in any case.
pub fn bytes(text: &str) -> Result<u64, String> {
    let invalid = || "expected a size such as 500MB or 2GB".to_owned();
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let factor = match text[at..].trim().to_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(invalid()),
    };
    let number: f64 = text[..at].parse().map_err(|_| invalid())?;
    Ok((number * factor as f64) as u64)
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
        assert_eq!(spelled("BFloat16", &FORMATS).unwrap(), "bf16");
        assert_eq!(spelled("small_data", &[]).unwrap(), "small-data");
        let formats = [("FP16", NumberFormat::F16), ("q8_0", NumberFormat::Q8_0), ("Q4-K", NumberFormat::Q4K)];
        formats.iter().for_each(|(name, format)| assert_eq!(number_format(name), Ok(*format)));
        assert!(number_format("q9").unwrap_err().contains("expected one of f32, "));
        // What is unknown is reported by those who know the names.
        assert_eq!((preset("gpt9"), spelled("fp8", &FORMATS).unwrap()), ("gpt9".to_owned(), "fp8".to_owned()));
    }

    #[test]
    fn sizes_have_units() {
        let sizes = [("500MB", 500_000_000), ("2 GiB", 2 << 30), ("1.5kb", 1500), ("17", 17), ("3g", 3_000_000_000)];
        sizes.iter().for_each(|(text, size)| assert_eq!(bytes(text), Ok(*size), "{text}"));
        ["", "MB", "5 apples", "-1", "1.2.3GB", "1e9"].iter().for_each(|text| assert!(bytes(text).is_err(), "{text}"));
    }
}
