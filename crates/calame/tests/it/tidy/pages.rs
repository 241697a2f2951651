//! Pages of the repository: the README's tree, the length of ARCHITECTURE.md, the lines of the justfile and `.ci/run`.

use super::Breach;

/// Entries of the README's file tree that do not exist, and names of `wanted` that are not in it.
pub fn file_tree(path: &str, text: &str, exists: impl Fn(&str) -> bool, wanted: &[String]) -> Vec<Breach> {
    let breach = |line: usize, rule: String| Breach { path: path.to_owned(), line, rule };
    let entries = tree_entries(text);
    if entries.is_empty() {
        let rule = "a heading with \"Where things are\" and a ```text block with the file tree";
        return vec![breach(1, format!("expected {rule}, found none"))];
    }
    let missing = entries.iter().filter(|(_, entry)| !exists(entry));
    let mut breaches: Vec<Breach> =
        missing.map(|(line, entry)| breach(*line, format!("the tree names `{entry}`, which is not there"))).collect();
    for name in wanted {
        if !entries.iter().any(|(_, entry)| entry.trim_end_matches('/') == name) {
            let rule = format!("the tree does not name `{name}`");
            breaches.push(breach(entries[0].0, rule));
        }
    }
    breaches
}

/// Line and full path of each entry of the ```text blocks under "Where things are"; nesting is by indentation.
pub fn tree_entries(text: &str) -> Vec<(usize, String)> {
    let mut entries = Vec::new();
    let (mut is_under_heading, mut fence) = (false, None);
    // Folders above the current line with their indentation.
    let mut above: Vec<(usize, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            fence = match fence {
                None => Some(language.trim().to_owned()),
                Some(_) => None,
            };
            above.clear();
        } else if fence.is_none() && line.starts_with('#') {
            is_under_heading = line.to_lowercase().contains("where things are");
        } else if is_under_heading && fence.as_deref() == Some("text") {
            let Some(name) = line.split_whitespace().next() else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            above.retain(|(outer, _)| *outer < indent);
            let folder = above.last().map_or("", |(_, folder)| folder);
            let path = format!("{folder}{name}");
            if name.ends_with('/') {
                above.push((indent, path.clone()));
            }
            entries.push((i + 1, path));
        }
    }
    entries
}

/// A page that has `max` lines or more.
pub fn page_length(path: &str, text: &str, max: usize) -> Vec<Breach> {
    let n_lines = text.lines().count();
    let rule = format!("the page has fewer than {max} lines, this one {n_lines}");
    let breach = Breach { path: path.to_owned(), line: max, rule };
    (n_lines >= max).then_some(breach).into_iter().collect()
}

/// Commands of `.ci/run`, which follow `set -x`, that are no line of the justfile.
pub fn commands_of_ci_only(ci: &str, justfile: &str) -> Vec<Breach> {
    let breach = |line: usize, rule: String| Breach { path: ".ci/run".into(), line, rule };
    let recipes: Vec<&str> = justfile.lines().map(str::trim).collect();
    let mut commands = ci.lines().enumerate().skip_while(|(_, line)| *line != "set -x").skip(1).peekable();
    if commands.peek().is_none() {
        return vec![breach(1, "expected commands after `set -x`, found none".into())];
    }
    let missing = commands.filter(|(_, command)| !recipes.contains(command));
    missing.map(|(i, command)| breach(i + 1, format!("the justfile lacks `{command}`"))).collect()
}

#[test]
fn a_tree_that_does_not_fit_is_found() {
    let tree = "# calame\n\n## Where things are\n\n```text\nREADME.md   what it is\ncrates/\n  calame/   the library\n    src/\n      model/   layers\nLOG.md\n```\n";
    let there = ["README.md", "crates/", "crates/calame/", "crates/calame/src/", "crates/calame/src/model/", "LOG.md"];
    let exists = |path: &str| there.contains(&path);
    let wanted = ["crates/calame".to_owned(), "crates/calame/src/model".to_owned()];
    assert_eq!(file_tree("README.md", tree, exists, &wanted), []);
    let without_log = file_tree("README.md", tree, |path| path != "LOG.md", &wanted);
    assert_eq!(without_log.len(), 1);
    assert_eq!(without_log[0].line, 11);
    let more = ["crates/calame/src/train".to_owned()];
    let unnamed = file_tree("README.md", tree, exists, &more);
    assert_eq!(unnamed.len(), 1);
    assert!(unnamed[0].rule.contains("crates/calame/src/train"));
    for none in [
        "",
        "## Where things are\n\nNowhere.\n",
        "## Files\n```text\nLOG.md\n```\n",
        "## Where things are\n```sh\nLOG.md\n```\n",
    ] {
        assert_eq!(file_tree("README.md", none, exists, &[]).len(), 1, "{none}");
    }
}

#[test]
fn a_page_that_is_too_long_is_found() {
    assert_eq!(page_length("A.md", "one\ntwo\n", 3), []);
    assert_eq!(page_length("A.md", "one\ntwo\nthree\n", 3).len(), 1);
}

#[test]
fn a_command_that_the_justfile_lacks_is_found() {
    let justfile = "test:\n    cargo test\nlint:\n    cargo clippy\n";
    assert_eq!(commands_of_ci_only("apt-get\nset -x\ncargo clippy\ncargo test\n", justfile), []);
    let breaches = commands_of_ci_only("set -x\ncargo test\ncargo doc\n", justfile);
    assert_eq!(breaches.iter().map(|breach| breach.line).collect::<Vec<_>>(), [3]);
    assert_eq!(commands_of_ci_only("cargo test\n", justfile).len(), 1);
    assert_eq!(commands_of_ci_only("set -x\n", justfile).len(), 1);
}
