//! Passes the commit and the target to the program, for `calame --version`.
//!
//! The commit is read from `.git`, so that the program `git` is not needed; in a package without `.git`, from the file
//! that `cargo package` adds.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=build.rs");
    let commit = Repository::find(&here).and_then(|repository| repository.watched_commit());
    let commit = commit.or_else(|| packaged_commit(&here));
    println!("cargo::rustc-env=CALAME_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=CALAME_TARGET={}", std::env::var("TARGET").expect("cargo sets it"));
}

/// A repository's folders.
struct Repository {
    /// The folder of `HEAD`: `.git`, or that of a linked work tree.
    git: PathBuf,
    /// The folder of the branches, which linked work trees share.
    common: PathBuf,
}

impl Repository {
    /// The repository whose work tree has the workspace at its root.
    fn find(package: &Path) -> Option<Repository> {
        let entry = package.join("../../.git");
        let git = if entry.is_file() {
            // In a linked work tree, a line with the path of its folder.
            let text = fs::read_to_string(&entry).ok()?;
            entry.parent()?.join(text.strip_prefix("gitdir:")?.trim())
        } else {
            entry
        };
        let common = match fs::read_to_string(git.join("commondir")) {
            Ok(path) => git.join(path.trim()),
            Err(_) => git.clone(),
        };
        git.join("HEAD").is_file().then_some(Repository { git, common })
    }

    /// The commit of `HEAD`. Cargo runs this program again only when that changes.
    fn watched_commit(&self) -> Option<String> {
        let head = fs::read_to_string(self.git.join("HEAD")).ok()?;
        watch(&self.git.join("HEAD"));
        // Grows with each commit and checkout, also while the branch is in `packed-refs` only.
        watch(&self.git.join("logs/HEAD"));
        let Some(branch) = head.trim().strip_prefix("ref: ") else {
            return commit_in(&head);
        };
        let (loose, packed) = (self.common.join(branch), self.common.join("packed-refs"));
        watch(&loose);
        if let Ok(text) = fs::read_to_string(&loose) {
            return commit_in(&text);
        }
        watch(&packed);
        let text = fs::read_to_string(&packed).ok()?;
        let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(_, name)| name == branch))?;
        commit_in(line)
    }
}

/// Lets cargo run this program again when a file changes. A file that is missing would do so in every build.
fn watch(path: &Path) {
    if path.is_file() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// The first twelve digits of the commit at the start of a text.
fn commit_in(text: &str) -> Option<String> {
    let digits: String = text.trim_start().chars().take_while(char::is_ascii_hexdigit).collect();
    (digits.len() >= 40).then(|| digits[..12].to_owned())
}

/// The commit that `cargo package` has recorded.
fn packaged_commit(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join(".cargo_vcs_info.json")).ok()?;
    let (_, value) = text.split_once("\"sha1\"")?;
    commit_in(value.trim_start_matches([':', ' ', '"']))
}
