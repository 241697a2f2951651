//! `calame config`: prints all settings of a training, with an explanation of each.

use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::train::RunConfig;
use serde_json::Value;

use crate::training::settings::{self, RequestedSettings};
use crate::ui::output::{print, print_json};

/// Columns of a comment.
const WIDTH: usize = 96;

/// Print all settings of a training, each with its explanation: a file for `train --config`.
///
/// The values are those of the preset and the recipe. Keep the keys that you change, or all of them: a key that a file
/// leaves out has the value of the preset and the recipe.
///
/// With --schema, print the JSON schema of such files instead. Editors check and complete settings by it; those that
/// support TOML (Taplo, Even Better TOML) read the line `#:schema calame.schema.json` at the top of a file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame config > my.toml
  calame train --config my.toml
  calame config --preset small --recipe long --set train.epochs=3
  calame config --schema > calame.schema.json")]
pub struct Args {
    /// Shape of the model: book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small or tiny [default: book]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// Set of default settings: book, small-data or long [default: book]
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,

    /// TOML file of settings that replace those of preset and recipe, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Change a setting, such as --set model.dropout=0.2; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// Print the JSON schema of the settings
    #[arg(long, conflicts_with_all = ["preset", "recipe", "config", "set", "json"])]
    schema: bool,

    /// Print the settings as one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let schema = RunConfig::json_schema();
    if args.schema {
        return print(&format!("{schema:#}\n"));
    }
    let flag = |key, value: &Option<String>| value.clone().map(|value| (key, toml::Value::String(value)));
    let flags = flag("preset", &args.preset).into_iter().chain(flag("recipe", &args.recipe)).collect();
    let requested = RequestedSettings { config_file: args.config.clone(), flags, set: args.set.clone() };
    let settings = settings::resolve(&requested)?;
    let config = &settings.config;
    settings::check(config)?;
    if args.json {
        return print_json(&serde_json::to_value(config)?);
    }
    // A tokenizer other than the presets' brings its own number of tokens.
    let is_vocabulary_open = config.tokenizer.kind != "gpt2" && !settings.was_set("model.vocab_size");
    print(&commented(config, &schema, if is_vocabulary_open { &["vocab_size"] } else { &[] })?)
}

/// The settings as TOML. A comment before each section and each key has its description from the schema. The keys
/// `left_out` are in a comment themselves: `train` finds their values.
fn commented(config: &RunConfig, schema: &Value, left_out: &[&str]) -> Result<String> {
    let settings = toml::to_string_pretty(config).context("the settings")?;
    let mut text = String::new();
    let title = format!(
        "All settings of a training with the preset {} and the recipe {}. `calame train --config FILE` uses a file \
         of these keys, or of some of them.",
        config.preset, config.recipe
    );
    add_comment(&mut text, "", &title);
    let mut section = schema;
    for line in settings.lines() {
        let name = |line: &'_ str| line.trim_start_matches('[').trim_end_matches(']').to_owned();
        if line.starts_with('[') {
            section = &schema["properties"][name(line)];
            text.push('\n');
            add_comment(&mut text, "", described(section));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with([' ', ']'])) {
            let property = &section["properties"][key];
            text.push('\n');
            add_comment(&mut text, "", described(property));
            for choice in property["oneOf"].as_array().into_iter().flatten() {
                let Some(name) = choice["const"].as_str().or_else(|| choice["enum"][0].as_str()) else { continue };
                add_comment(&mut text, "  ", &format!("{name}: {}", described(choice)));
            }
        }
        if !line.is_empty() {
            let is_left_out = line.split_once(" = ").is_some_and(|(key, _)| left_out.contains(&key));
            text += if is_left_out { "# " } else { "" };
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

/// The description of a key, a section or a choice.
fn described(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// Adds a text as lines of a comment, of at most [`WIDTH`] columns.
fn add_comment(to: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && 2 + indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            *to += &format!("# {indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    *to += &format!("# {indent}{line}\n");
}

#[cfg(test)]
mod tests {
    use calame::model::Preset;
    use calame::train::Recipe;

    use super::*;

    #[test]
    fn every_key_has_a_comment_and_the_file_has_the_same_settings() {
        let schema = RunConfig::json_schema();
        for preset in Preset::ALL {
            for recipe in Recipe::ALL {
                let mut config = RunConfig::of_preset(preset);
                recipe.apply(&mut config);
                config.data.inputs = vec!["first.txt".to_owned(), "second.txt".to_owned()];
                let text = commented(&config, &schema, &[]).unwrap();
                assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config, "{text}");
                let lines: Vec<&str> = text.lines().collect();
                let is_commented = |line: &str| line.starts_with("# ") && line.len() > 3;
                for pair in lines.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#')) {
                    assert!(is_commented(pair[0]), "{}: {}", pair[1], pair[0]);
                }
                assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
            }
        }
    }

    #[test]
    fn the_choices_of_a_key_are_listed() {
        let text = commented(&RunConfig::of_preset(Preset::Tiny), &RunConfig::json_schema(), &[]).unwrap();
        for choice in ["#   calame: ", "#   torch: ", "#   skip: ", "#   cosine: ", "#   matrices: "] {
            assert!(text.contains(choice), "{choice}: {text}");
        }
    }
}
