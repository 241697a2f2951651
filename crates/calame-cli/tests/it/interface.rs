//! What every command has in common: `-q` and `-v`, colours, and commands to type next.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::program::{Outcome, Place, train};

/// A command of a verb, in a folder with a finished run; what `-v` prints of it.
struct Sample {
    args: &'static [&'static str],
    detail: &'static str,
    /// Whether its output is the same in every run: it has no time or speed.
    is_repeatable: bool,
    code: i32,
}

const fn sample(args: &'static [&'static str], detail: &'static str) -> Sample {
    Sample { args, detail, is_repeatable: true, code: 0 }
}

/// A command for each verb. A new verb needs one.
fn samples() -> BTreeMap<&'static str, Sample> {
    let timed = |args, detail| Sample { is_repeatable: false, ..sample(args, detail) };
    BTreeMap::from([
        ("train", timed(&["train", "--config", "tiny.toml", "--run", "new", "--epochs", "1"], "opened tiny.toml")),
        ("plan", timed(&["plan", "--config", "tiny.toml"], "rehearsing the training took")),
        ("runs", timed(&["runs", "."], "opened ./run")),
        ("compare", sample(&["compare", "run", "run"], "drawing took")),
        ("generate", sample(&["generate", "--model", "run", "--context", "The lamp", "--tokens", "3"], "opened run")),
        ("chat", sample(&["chat", "--model", "run"], "opened run")),
        ("strategies", sample(&["strategies", "The lamp", "--model", "run", "--tokens", "2"], "opened run")),
        ("explain", sample(&["explain", "The lamp", "--model", "run"], "opened run")),
        ("eval", sample(&["eval", "--model", "run", "--data", "story.txt"], "opened story.txt (")),
        ("tokenize", sample(&["tokenize", "--file", "story.txt"], "opened story.txt (")),
        (
            "tokenizer",
            timed(&["tokenizer", "train", "story.txt", "--vocab-size", "260", "--out", "t.json"], "opened story.txt ("),
        ),
        ("data", timed(&["data", "prepare", "story.txt", "--out", "prepared"], "encoding the documents took")),
        ("logits", sample(&["logits", "run", "--ids", "1,2", "--json"], "computing the logits took")),
        ("inspect", sample(&["inspect", "run"], "opened run")),
        ("export", sample(&["export", "run", "--to", "pt"], "writing the model took")),
        ("plot", sample(&["plot", "run"], "opened run/metrics.jsonl (")),
        ("reproduce", Sample { code: 1, ..sample(&["reproduce", "--data", "story.txt"], "opened story.txt (") }),
        ("bench", timed(&["bench", "train", "--preset", "tiny", "--window", "8", "--steps", "1"], "measuring took")),
        ("config", sample(&["config", "--config", "tiny.toml"], "opened tiny.toml (")),
        ("completions", sample(&["completions", "bash"], "finished")),
        ("man", sample(&["man", "--out", "pages"], "wrote pages/calame.1")),
    ])
}

/// The verbs that `calame --help` lists.
fn verbs() -> Vec<String> {
    let help = Place::new().succeeds(&["--help"]).stdout;
    let (_, listed) = help.split_once("Commands:\n").expect("a list of commands");
    let (listed, _) = listed.split_once("\n\n").expect("an end of the list");
    let names = listed.lines().filter(|line| !line.starts_with("    "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

fn with<'a>(flag: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [args, &[flag]].concat()
}

#[test]
fn every_verb_is_quiet_or_verbose_on_request() {
    let samples = samples();
    for verb in verbs() {
        let sample = samples.get(verb.as_str()).unwrap_or_else(|| panic!("{verb} has no sample in this test"));
        let run = |args: &[&str]| {
            let outcome = Place::with_run().run(args);
            assert_eq!(outcome.code, Some(sample.code), "{args:?}: {outcome:#?}");
            outcome
        };
        let normal = run(sample.args);
        let (quiet, verbose) = (run(&with("--quiet", sample.args)), run(&with("-v", sample.args)));
        for line in quiet.stderr.lines() {
            let is_kept = ["error: ", "hint: ", "warning: "].iter().any(|label| line.starts_with(label));
            assert!(is_kept, "{verb}: {line}");
        }
        assert_eq!(quiet.stderr.contains("error: "), sample.code != 0, "{verb}: {quiet:#?}");
        assert!(verbose.stderr.contains(sample.detail) && verbose.stderr.contains("finished"), "{verb}: {verbose:#?}");
        if sample.is_repeatable {
            assert_eq!(quiet.stdout, normal.stdout, "{verb}");
            assert_eq!(verbose.stdout, normal.stdout, "{verb}");
        }
        // A conversation without a message has no answer.
        let has_result = sample.code == 0 && verb != "chat";
        assert!(!has_result || !quiet.stdout.is_empty(), "{verb}: the result is printed");
        // The flags also come before the verb, and exclude each other.
        Place::with_run().fails(&[&["-q", "-v"], sample.args].concat(), 2, &["--quiet", "--verbose"]);
    }
}

#[test]
fn a_quiet_training_prints_its_result() {
    let place = Place::new();
    let outcome = place.succeeds(&train(&["-q"]));
    assert_eq!(outcome.stdout, "model  run/model\nplot   run/loss-plot.pdf\n");
    assert_eq!(outcome.stderr, "");
    // Records for programs are the result that they ask for.
    let records = Place::new().succeeds(&train(&["-q", "--json"])).stdout;
    assert!(records.lines().count() > 5 && records.contains(r#""event":"step""#), "{records}");
}

#[test]
fn warnings_are_hidden_on_a_second_request_only() {
    let prepare = ["data", "prepare", "story.txt", "--out", "p", "--split", "documents", "--val-fraction", "0.0001"];
    let warning = "warning: no document was drawn for validation";
    assert!(Place::new().succeeds(&with("-q", &prepare)).stderr.contains(warning));
    assert_eq!(Place::new().succeeds(&with("-qq", &prepare)).stderr, "");
}

/// Removes the sequences that set colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').expect("the end of a sequence").1)
}

#[test]
fn colours_follow_the_environment() {
    let place = Place::new();
    let commands: [&[&str]; 4] = [&["generate"], &["trian"], &["eval"], &["-v", "inspect", "story.txt"]];
    for args in commands {
        let run = |variables: &[(&str, &str)]| {
            let mut command = place.command(args);
            Outcome::of(command.envs(variables.iter().copied()).output().unwrap()).stderr
        };
        let forced = run(&[("CLICOLOR_FORCE", "1")]);
        assert!(forced.contains("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m"), "{forced:?}");
        for plain in [run(&[]), run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), run(&[("NO_COLOR", "1")])] {
            assert!(!plain.contains('\u{1b}'), "{plain:?}");
            let untimed =
                |text: &str| text.lines().filter(|line| !line.contains(" s  ")).collect::<Vec<_>>().join("\n");
            assert_eq!(untimed(&without_colours(&forced)), untimed(&plain));
        }
    }
    let mut help = place.command(&["--help"]);
    assert!(!Outcome::of(help.output().unwrap()).stdout.contains('\u{1b}'));
}

/// The program as `cargo run` starts it.
fn by_cargo(place: &Place, args: &[&str]) -> Outcome {
    let mut command = place.command(args);
    command.env("CARGO", "cargo").env("CARGO_PKG_NAME", env!("CARGO_PKG_NAME"));
    Outcome::of(command.output().unwrap())
}

/// What `cargo run` needs before the verb for the profile of this build.
fn cargo_prefix() -> String {
    let profile = Path::new(env!("CARGO_BIN_EXE_calame")).parent().unwrap().file_name().unwrap().to_str().unwrap();
    match profile {
        "debug" => "cargo run --".to_owned(),
        "release" => "cargo run --release --".to_owned(),
        other => format!("cargo run --profile {other} --"),
    }
}

#[test]
fn suggested_commands_repeat_how_the_program_was_started() {
    let (place, cargo) = (Place::new(), cargo_prefix());
    let trained = by_cargo(&place, &train(&[])).stdout;
    assert!(trained.contains(&format!("next   {cargo} generate --model run --context 'The lamp'")), "{trained}");
    let outcome = by_cargo(&Place::new(), &["generate"]);
    assert!(outcome.stderr.contains(&format!("`{cargo} train --preset tiny` trains one")), "{outcome:?}");
    let outcome = by_cargo(&place, &["train", "--resume", "run"]);
    assert!(outcome.stderr.contains(&format!("{cargo} train --resume run --epochs")), "{outcome:?}");
    let outcome = by_cargo(&place, &["data", "prepare", "story.txt", "--out", "p"]);
    assert!(outcome.stdout.contains(&format!("next      {cargo} train --data p")), "{outcome:?}");
    let outcome = by_cargo(&place, &["eval"]);
    assert!(outcome.stderr.contains(&format!("Usage: {cargo} eval --data <INPUT>")), "{outcome:?}");
}

/// Wherever a page suggests a command, it can be typed as it is.
#[test]
fn no_page_suggests_a_command_that_was_not_started_so() {
    let (place, verbs) = (Place::new(), verbs());
    for verb in &verbs {
        let page = by_cargo(&place, &[verb, "--help"]).stdout;
        assert!(page.contains(&format!("Usage: {} {verb}", cargo_prefix())), "{page}");
        for other in verbs.iter().filter(|other| *other != "runs") {
            assert!(!page.contains(&format!("calame {other} ")), "{verb} --help: calame {other}: {page}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_program_started_by_its_path_suggests_that_path() {
    let place = Place::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_calame"), place.path("my-calame")).unwrap();
    let mut command = Command::new("./my-calame");
    command.arg("generate").current_dir(place.path("")).env_remove("CARGO");
    let outcome = Outcome::of(command.output().unwrap());
    assert!(outcome.stderr.contains("`./my-calame train --preset tiny` trains one"), "{outcome:?}");
}

#[test]
fn the_version_says_what_was_built() {
    let place = Place::new();
    let short = place.succeeds(&["-V"]).stdout;
    assert_eq!(short, format!("calame {}\n", env!("CARGO_PKG_VERSION")));
    let long = place.succeeds(&["--version"]).stdout;
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, short.trim_end()), "{long}");
    let commit = lines[1].strip_prefix("commit        ").expect("the commit");
    let target = lines[2].strip_prefix("target        ").expect("the target");
    assert!(target.contains(std::env::consts::ARCH), "{target}");
    assert!(lines[3].starts_with("instructions  portable"), "{long}");
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    match head {
        Ok(head) if head.status.success() => {
            let head = String::from_utf8(head.stdout).unwrap();
            assert!(commit.len() == 12 && head.starts_with(commit), "{commit} and {head}");
        }
        _ => assert!(commit == "unknown" || commit.len() == 12, "{commit}"),
    }
}

/// The long flags of a page.
fn flags(page: &str) -> Vec<String> {
    let words = page.lines().filter_map(|line| line.trim_start().strip_prefix("-"));
    let flags =
        words.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--") || word.starts_with('-')));
    flags.map(|flag| format!("--{}", flag.trim_start_matches('-').trim_end_matches('.'))).collect()
}

#[test]
fn completions_have_every_verb_and_flag() {
    let place = Place::new();
    let wanted = flags(&place.succeeds(&["train", "--help"]).stdout);
    assert!(wanted.len() > 20, "{wanted:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = place.succeeds(&["completions", shell]).stdout;
        verbs().iter().for_each(|verb| assert!(script.contains(verb.as_str()), "{shell}: {verb}"));
        for flag in &wanted {
            let name = if shell == "fish" { format!("-l {}", flag.trim_start_matches('-')) } else { flag.clone() };
            assert!(script.contains(&name), "{shell}: {flag}");
        }
        if shell == "bash" && Command::new("bash").arg("--version").output().is_ok() {
            place.write("script", &script);
            assert!(Command::new("bash").arg("-n").arg(place.path("script")).status().unwrap().success());
        }
    }
    place.fails(&["completions", "tcsh"], 2, &["'tcsh'", "bash", "zsh", "fish"]);
}

#[test]
fn the_manual_has_every_verb_and_flag() {
    let place = Place::new();
    place.succeeds(&["man", "--out", "man1"]);
    for verb in verbs() {
        let page = place.text(&format!("man1/calame-{verb}.1"));
        assert!(page.contains(&format!(".TH calame-{verb} 1")), "{page}");
        for flag in flags(&place.succeeds(&[&verb, "--help"]).stdout) {
            assert!(page.contains(&flag.replace('-', "\\-")), "{verb}: {flag}");
        }
        // A paragraph with a title, and what follows the title: every flag is described.
        for three in page.lines().collect::<Vec<_>>().windows(3).filter(|three| three[0] == ".TP") {
            assert!(!three[2].trim().is_empty(), "{verb}: {}", three[1]);
        }
    }
    assert!(place.exists("man1/calame-data-prepare.1") && place.exists("man1/calame-tokenizer-train.1"));
    let page = place.succeeds(&["man"]).stdout;
    assert_eq!(page, place.text("man1/calame.1"));
}

#[test]
fn a_printed_configuration_trains_as_the_settings_that_it_explains() {
    let place = Place::new();
    place.succeeds(&train(&[]));
    let printed = place.succeeds(&["config", "--config", "tiny.toml"]).stdout;
    assert!(printed.contains("# Number of passes over the training text.\nepochs = 2\n"), "{printed}");
    place.write("printed.toml", &printed);
    place.succeeds(&["train", "--config", "printed.toml", "--run", "again"]);
    assert_eq!(place.text("again/config.toml"), place.text("run/config.toml"));
    let set = place.succeeds(&["config", "--preset", "tiny", "--recipe", "long", "--set", "train.lr=0.125"]).stdout;
    assert!(
        set.contains("preset = \"tiny\"") && set.contains("recipe = \"long\"") && set.contains("lr = 0.125"),
        "{set}"
    );
    place.fails(&["config", "--preset", "gpt9"], 2, &["'gpt9'"]);
    place.fails(&["config", "--set", "train.lr=-1"], 2, &["train.lr is -1"]);
    let json = place.succeeds(&["config", "--preset", "tiny", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["model"]["n_embd"], 64);
}

#[test]
fn the_schema_has_every_key_of_a_run() {
    fn walk(path: &str, table: &toml::Table, schema: &serde_json::Value) {
        for (key, value) in table {
            let property = &schema["properties"][key];
            assert!(property["description"].is_string(), "{path}.{key}");
            if let Some(table) = value.as_table() {
                walk(&format!("{path}.{key}"), table, property);
            }
        }
    }
    let place = Place::with_run();
    let schema = place.succeeds(&["config", "--schema"]).stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    walk("", &place.text("run/config.toml").parse().unwrap(), &schema);
    place.fails(&["config", "--schema", "--preset", "tiny"], 2, &["--schema", "--preset"]);
}

/// `-q` hides every progress bar, since one file makes them all.
#[test]
fn progress_bars_are_made_in_one_place() {
    fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, visit);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                visit(&path, &std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut makers = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        let made = ["new(", "new_spinner(", "no_length("].iter().any(|f| text.contains(&format!("ProgressBar::{f}")));
        makers.extend(made.then(|| path.file_name().unwrap().to_owned()));
    });
    assert_eq!(makers, ["progress.rs"]);
}

/// A page that speaks of the report says what it is.
#[test]
fn the_report_is_explained_where_it_appears() {
    let place = Place::new();
    let mut pages: Vec<Vec<&str>> = vec![vec!["--help"], vec!["-h"], vec!["train", "-h"], vec!["reproduce", "-h"]];
    let verbs = verbs();
    pages.extend(verbs.iter().map(|verb| vec![verb.as_str(), "--help"]));
    pages.extend([
        vec!["data", "prepare", "--help"],
        vec!["tokenizer", "train", "--help"],
        vec!["bench", "train", "--help"],
    ]);
    for args in pages {
        let page = place.succeeds(&args).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_named =
            ["the report ", "The report ", "the report's", "the report,"].iter().any(|name| page.contains(name));
        let is_explained = page.contains("an account of training the") || page.contains("see `calame --help`");
        assert!(!is_named || is_explained, "{args:?}: {page}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for page in ["README.md", "docs/guide.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let first = text.lines().find(|line| line.to_lowercase().contains("the report")).unwrap_or_default();
        assert!(first.contains("an account of that exercise"), "{page}: {first}");
    }
}

#[test]
fn pages_fit_narrow_and_wide_terminals() {
    let place = Place::new();
    for verb in verbs() {
        for (columns, widest) in [("60", 60), ("80", 80), ("120", 100)] {
            for flag in ["-h", "--help"] {
                let page = place.command(&[&verb, flag]).env("COLUMNS", columns).output().unwrap();
                for line in Outcome::of(page).stdout.lines() {
                    // A word longer than the rest of the line cannot be broken.
                    let fits = line.chars().count() <= widest || line.split_whitespace().count() <= 1;
                    assert!(fits, "{verb} {flag} in {columns} columns: {line}");
                }
            }
        }
    }
}

#[test]
fn the_readme_begins_with_the_installation() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let headings: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings[..4], ["Installation", "Two commands", "What it prints", "What it does"]);
}
