//! How the program was started, so that the commands that it suggests work as they are printed.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use super::quoting::quoted;

/// The program's name once it is installed, and in all texts of this crate and the library.
const NAME: &str = "calame";

/// Verbs that are also words of a sentence, as in "what calame runs": replaced between backquotes only.
const WORDS: [&str; 1] = ["runs"];

static STARTED: OnceLock<Invocation> = OnceLock::new();

/// What precedes the verb in a command that repeats the way in which the program was started.
struct Invocation {
    prefix: String,
    verbs: Vec<String>,
}

/// Records how the program was started. `verbs` are its subcommands.
pub fn record(verbs: Vec<String>) {
    let arguments = std::env::args_os().next();
    let of_cargo = std::env::var_os("CARGO").is_some()
        && std::env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == env!("CARGO_PKG_NAME"));
    let profile = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let profile = profile.as_deref().and_then(Path::file_name).filter(|_| of_cargo);
    let _ = STARTED.set(Invocation { prefix: prefix_of(arguments.as_deref(), profile), verbs });
}

/// The words before the verb. `profile` is the folder of the executable if `cargo run` has started it.
fn prefix_of(argument: Option<&OsStr>, profile: Option<&OsStr>) -> String {
    if let Some(profile) = profile {
        return match profile.to_string_lossy().as_ref() {
            "debug" => "cargo run --".to_owned(),
            "release" => "cargo run --release --".to_owned(),
            other => format!("cargo run --profile {other} --"),
        };
    }
    let argument = argument.map(|argument| argument.to_string_lossy().into_owned()).unwrap_or_default();
    // A name without a folder was found on the path.
    if argument.contains(['/', '\\']) { quoted(&argument) } else { NAME.to_owned() }
}

/// The words before the verb, such as `calame` or `cargo run --release --`.
pub fn prefix() -> &'static str {
    STARTED.get().map_or(NAME, |started| &started.prefix)
}

/// A command to suggest: `rest` is the verb and its arguments.
pub fn command(rest: &str) -> String {
    format!("{} {rest}", prefix())
}

/// A text in which every command `calame VERB` begins as the program was started.
pub fn adapted(text: &str) -> String {
    match STARTED.get() {
        Some(started) if started.prefix != NAME => replaced(text, &started.prefix, &started.verbs),
        _ => text.to_owned(),
    }
}

fn replaced(text: &str, prefix: &str, verbs: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NAME) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let previous = out.chars().next_back();
        let verb = found[NAME.len()..].strip_prefix(' ').unwrap_or_default();
        let verb = verb.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
        let is_command = previous.is_none_or(|c| c.is_whitespace() || "`'(".contains(c))
            && verbs.iter().any(|name| name == verb)
            && (previous == Some('`') || !WORDS.contains(&verb));
        out.push_str(if is_command { prefix } else { NAME });
        rest = &found[NAME.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_repeats_how_the_program_was_started() {
        let prefix =
            |argument: &str, profile: Option<&str>| prefix_of(Some(OsStr::new(argument)), profile.map(OsStr::new));
        assert_eq!(prefix("calame", None), "calame");
        assert_eq!(prefix("./target/release/calame", None), "./target/release/calame");
        assert_eq!(prefix("/opt/my tools/calame", None), "'/opt/my tools/calame'");
        assert_eq!(prefix("target/release/calame", Some("release")), "cargo run --release --");
        assert_eq!(prefix("target/debug/calame", Some("debug")), "cargo run --");
        assert_eq!(prefix("target/fast/calame", Some("fast")), "cargo run --profile fast --");
        assert_eq!(prefix_of(None, None), "calame");
    }

    #[test]
    fn commands_are_replaced_and_other_words_are_not() {
        let verbs = ["train", "runs", "data"].map(str::to_owned);
        let adapted = |text: &str| replaced(text, "cargo run --", &verbs);
        assert_eq!(adapted("calame train --data x"), "cargo run -- train --data x");
        assert_eq!(
            adapted("use `calame runs`, or calame data info"),
            "use `cargo run -- runs`, or cargo run -- data info"
        );
        let kept = [
            "the family that calame runs",
            "calame reads it",
            "/home/calame train.txt",
            "calame trains a model",
            "my.calame train",
            "a calame",
            "",
        ];
        kept.iter().for_each(|text| assert_eq!(adapted(text), *text));
    }
}
