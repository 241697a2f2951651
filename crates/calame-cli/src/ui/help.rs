//! The command line's definitions as they are shown: flags in groups, and commands that begin as the program
//! was started.

use clap::builder::StyledStr;
use clap::{Arg, Command};

use super::verbosity::OUTPUT;
use super::{invocation, spelling};

/// Flags of `train` that people type every day, in the order of `--help`. They have no heading, so clap shows them
/// first.
const DAILY: [&str; 8] = ["data", "preset", "recipe", "epochs", "lr", "run", "resume", "init_from"];

/// Groups of flags: the verbs that have them, or none for all verbs; the heading; whether `-h` shows them; the flags.
type Group = (&'static [&'static str], &'static str, bool, &'static [&'static str]);

const GROUPS: [Group; 11] = [
    (
        &["train", "plan"],
        "Batches and steps",
        false,
        &["batch_size", "window", "stride", "seed", "rng", "loss_average"],
    ),
    (&["train", "plan"], "Settings and runs", true, &["set", "config", "overwrite"]),
    (
        &[],
        "How files are read",
        false,
        &["field", "column", "read_as", "special_tokens", "strip_gutenberg", "normalise", "dedup"],
    ),
    (&["prepare"], "Shards", false, &["format", "shard_tokens", "end_of_text"]),
    (&["generate", "chat"], "Sampling", true, &["temperature", "top_k", "top_p", "seed"]),
    (
        &["generate", "chat"],
        "More about sampling",
        false,
        &[
            "min_p",
            "typical_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "min_tokens",
        ],
    ),
    (&["generate"], "Search for the most likely text", false, &["beams", "length_penalty"]),
    (&["generate"], "Long texts, speed and memory", false, &["crop", "slide", "ignore_end", "draft", "kv_memory"]),
    (&[], "Device", false, &["device", "precision", "threads"]),
    (&[], "Model files", false, &["n_head"]),
    (&[], OUTPUT, true, &["json", "tui", "echo", "logprobs"]),
];

/// The definitions with their flags in groups, and other spellings of the names that they take.
pub fn grouped(command: Command) -> Command {
    let verb = command.get_name().to_owned();
    command.mut_args(|arg| in_group(&verb, spelling::accepted(arg))).mut_subcommands(grouped)
}

fn in_group(verb: &str, arg: Arg) -> Arg {
    let id = arg.get_id().as_str().to_owned();
    let is_of = |group: &&Group| group.3.contains(&id.as_str()) && (group.0.is_empty() || group.0.contains(&verb));
    if let Some((_, heading, is_short, _)) = GROUPS.iter().find(is_of) {
        return arg.help_heading(*heading).hide_short_help(!is_short);
    }
    match DAILY.iter().position(|flag| *flag == id) {
        Some(order) if ["train", "plan"].contains(&verb) => arg.display_order(order),
        _ => arg,
    }
}

/// The definitions as `--help` and errors show them.
pub fn shown(command: Command) -> Command {
    adapted(command).bin_name(invocation::prefix())
}

/// The definitions with texts that suggest commands as the program was started.
fn adapted(mut command: Command) -> Command {
    let adapt = |text: Option<&StyledStr>| text.map(|text| invocation::adapted(&text.to_string()));
    if let Some(about) = adapt(command.get_about()) {
        command = command.about(about);
    }
    if let Some(about) = adapt(command.get_long_about()) {
        command = command.long_about(about);
    }
    if let Some(after) = adapt(command.get_after_help()) {
        command = command.after_help(after);
    }
    let adapt_arg = move |arg: Arg| {
        let (short, long) = (adapt(arg.get_help()), adapt(arg.get_long_help()));
        let arg = if let Some(help) = short { arg.help(help) } else { arg };
        if let Some(help) = long { arg.long_help(help) } else { arg }
    };
    command.mut_args(adapt_arg).mut_subcommands(adapted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions;

    /// A command's flags without a heading, in the order of `--help`.
    fn ungrouped(command: &Command) -> Vec<String> {
        let flags = command.get_arguments().filter(|arg| !arg.is_positional() && arg.get_help_heading().is_none());
        let mut flags: Vec<(usize, String)> =
            flags.map(|arg| (arg.get_display_order(), arg.get_id().to_string())).collect();
        flags.sort();
        flags.into_iter().map(|(_, id)| id).filter(|id| id != "help" && id != "version").collect()
    }

    fn commands(command: &Command) -> Vec<&Command> {
        let below = command.get_subcommands().flat_map(commands);
        std::iter::once(command).chain(below).collect()
    }

    #[test]
    fn the_eight_daily_flags_come_first() {
        let definitions = definitions();
        for verb in ["train", "plan"] {
            assert_eq!(
                ungrouped(definitions.find_subcommand(verb).unwrap()),
                DAILY,
                "{verb}: give other flags a group"
            );
        }
    }

    #[test]
    fn no_command_has_more_than_eight_flags_outside_groups() {
        for command in commands(&definitions()) {
            let flags = ungrouped(command);
            assert!(flags.len() <= 8, "{}: give some of {flags:?} a group", command.get_name());
        }
    }

    #[test]
    fn every_group_has_its_flags() {
        let definitions = definitions();
        for (verbs, heading, _, flags) in GROUPS {
            for flag in flags {
                let has = |command: &&Command| {
                    (verbs.is_empty() || verbs.contains(&command.get_name()))
                        && command
                            .get_arguments()
                            .any(|arg| arg.get_id() == flag && arg.get_help_heading() == Some(heading))
                };
                assert!(commands(&definitions).iter().any(has), "{heading}: no command has {flag}");
            }
        }
    }

    #[test]
    fn examples_fit_a_terminal() {
        for command in commands(&definitions()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }
}
