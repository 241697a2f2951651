//! The flags that say how files are read as documents. Every verb that reads documents has them.

use calame::data::{Normalisation, ReadAs, ReadOptions, ReadReport, SpecialTokens};
use clap::ValueEnum;
use toml::Value;

use crate::ui::output::note;

const HEADING: &str = "How files are read";

/// How files are read as documents.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ReadingArgs {
    /// Field of a line of JSON that has the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub field: Option<String>,

    /// Column of a .parquet file that has the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub column: Option<String>,

    /// What files that are not Parquet contain: auto (as their ending and their beginning say), text, or jsonl
    #[arg(long, value_name = "KIND", value_enum, help_heading = HEADING)]
    pub read_as: Option<Kind>,

    /// What special tokens such as <|endoftext|> in a text are: ids (<|endoftext|> separates documents), or text
    /// [default: ids]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = HEADING)]
    pub special_tokens: Option<Special>,

    /// Remove Project Gutenberg's header and licence
    #[arg(long, help_heading = HEADING)]
    pub strip_gutenberg: bool,

    /// Unicode normalisation of the text: nfc (composed), or none [default: none]
    #[arg(long, value_name = "FORM", value_enum, help_heading = HEADING)]
    pub normalise: Option<Form>,

    /// Skip a document that is identical to an earlier one
    #[arg(long, help_heading = HEADING)]
    pub dedup: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    Auto,
    Text,
    Jsonl,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Special {
    Ids,
    Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Form {
    None,
    Nfc,
}

impl ReadingArgs {
    /// The options for reading; those that were not given have their defaults.
    pub fn options(&self) -> ReadOptions {
        let defaults = ReadOptions::default();
        ReadOptions {
            field: self.field.clone().unwrap_or(defaults.field),
            column: self.column.clone().unwrap_or(defaults.column),
            read_as: self.read_as.map_or(defaults.read_as, |kind| match kind {
                Kind::Auto => ReadAs::Auto,
                Kind::Text => ReadAs::Text,
                Kind::Jsonl => ReadAs::Jsonl,
            }),
            special_tokens: self.special_tokens.map_or(defaults.special_tokens, |special| match special {
                Special::Ids => SpecialTokens::Ids,
                Special::Text => SpecialTokens::Text,
            }),
            strip_gutenberg: self.strip_gutenberg,
            normalise: self.normalise.map_or(defaults.normalise, |form| match form {
                Form::None => Normalisation::None,
                Form::Nfc => Normalisation::Nfc,
            }),
            dedup: self.dedup,
        }
    }

    /// The settings that were given, by their keys in a run's configuration.
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        fn name<E: ValueEnum>(value: E) -> Option<Value> {
            value.to_possible_value().map(|value| Value::String(value.get_name().to_owned()))
        }
        let text = |s: &String| Value::String(s.clone());
        [
            self.field.as_ref().map(|s| ("data.field", text(s))),
            self.column.as_ref().map(|s| ("data.column", text(s))),
            self.read_as.and_then(name).map(|value| ("data.read_as", value)),
            self.special_tokens.and_then(name).map(|value| ("data.special_tokens", value)),
            self.strip_gutenberg.then_some(("data.strip_gutenberg", Value::Boolean(true))),
            self.normalise.and_then(name).map(|value| ("data.normalise", value)),
            self.dedup.then_some(("data.dedup", Value::Boolean(true))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Prints what was noticed while documents were read.
pub fn print_report(report: &ReadReport) {
    report.lines().iter().for_each(|line| note(line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use calame::data::DataConfig;

    /// A flag and the setting of the same name mean the same.
    #[test]
    fn flags_are_settings() {
        let args = ReadingArgs {
            field: Some("body".to_owned()),
            column: Some("page".to_owned()),
            read_as: Some(Kind::Jsonl),
            special_tokens: Some(Special::Text),
            strip_gutenberg: true,
            normalise: Some(Form::Nfc),
            dedup: true,
        };
        let settings: toml::Table =
            args.settings().into_iter().map(|(key, value)| (key["data.".len()..].to_owned(), value)).collect();
        let config: DataConfig = settings.try_into().unwrap();
        assert_eq!(config.reading(), args.options());
        assert_eq!(DataConfig::default().reading(), ReadingArgs::default().options());
    }
}
