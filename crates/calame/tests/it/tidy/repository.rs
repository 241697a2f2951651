//! The rules applied to the repository, and the breaches that are still allowed.
//!
//! An allowance only shrinks: a test fails both when there are more breaches and when there are fewer, so that each clean-up
//! lowers it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cycles::{AllowedUse, Graph, import_cycles};
use super::dependencies::{Table, crate_dependencies, module_dependencies, stale_names};
use super::language::{replaced_identifiers, short_docs};
use super::pages::{commands_of_ci_only, file_tree, page_length, tree_entries};
use super::places::{configuration, element_access, file_access, file_opening, forbidden, storage_variants, unsafety};
use super::sizes::sizes;
use super::{Breach, Source};

/// ARCHITECTURE.md is shorter.
const ARCHITECTURE_LINES: usize = 150;

/// Uses that make cycles: the first file should not use the second.
const ALLOWED_USES: [AllowedUse<'_>; 0] = [];

/// How many doc comments have three words or fewer.
const N_ALLOWED_SHORT_DOCS: usize = 0;

/// How often replaced identifiers occur, by pattern; those not listed must not occur.
const ALLOWED_IDENTIFIERS: [(&str, usize); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path from the root and text of every text file that might be committed and whose path `keep` accepts.
fn files(keep: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let root = root();
    let is_ours = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let is_output = entry.depth() == 1 && ["target", "runs", ".git"].contains(&&*name);
        !is_output && name != "target"
    };
    let mut files = Vec::new();
    let entries = walkdir::WalkDir::new(&root).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(is_ours) {
        let entry = entry.expect("the repository can be read");
        let path = entry.path().strip_prefix(&root).expect("below the root");
        let path = path.to_string_lossy().replace('\\', "/");
        if entry.file_type().is_file()
            && keep(&path)
            && let Ok(text) = std::fs::read_to_string(entry.path())
        {
            files.push((path, text));
        }
    }
    files
}

fn sources() -> Vec<Source> {
    let files = files(|path| path.starts_with("crates/") && path.ends_with(".rs"));
    assert!(files.len() > 5, "the sources are where this test looks");
    let sources = files.into_iter();
    sources.map(|(path, text)| Source { path, text }).collect()
}

fn manifests() -> Vec<(String, String)> {
    let manifests =
        files(|path| path.starts_with("crates/") && path.ends_with("/Cargo.toml") && path.matches('/').count() == 2);
    assert!(manifests.len() >= 3, "the manifests are where this test looks");
    manifests
}

fn table() -> Table {
    Table::parse(&read("ARCHITECTURE.md")).unwrap_or_else(|breach| panic!("\n{}\n", listed(&[breach])))
}

fn listed(breaches: &[Breach]) -> String {
    let lines = breaches.iter().map(|Breach { path, line, rule }| format!("{path}:{line}: {rule}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_tidy(breaches: &[Breach]) {
    assert!(breaches.is_empty(), "\n{}\n", listed(breaches));
}

/// Asserts that there are as many breaches as are allowed; `constant` is the name of the allowance.
fn assert_allowed(breaches: &[Breach], n_allowed: usize, constant: &str) {
    let n = breaches.len();
    assert!(n <= n_allowed, "{n} breaches, {n_allowed} allowed by {constant}:\n{}\n", listed(breaches));
    assert!(n == n_allowed, "only {n} breaches are left: lower {constant} from {n_allowed}");
}

#[test]
fn modules_use_only_what_the_table_allows() {
    assert_tidy(&module_dependencies(&table(), &sources()));
}

#[test]
fn crates_use_only_what_the_table_allows() {
    assert_tidy(&crate_dependencies(&table(), &manifests(), &sources()));
}

#[test]
fn the_table_names_only_modules_and_crates_that_exist() {
    assert_tidy(&stale_names(&table(), &manifests(), &sources()));
}

#[test]
fn no_files_import_each_other() {
    assert_tidy(&import_cycles(&Graph::of(&sources()), &ALLOWED_USES));
}

#[test]
fn files_and_functions_are_small() {
    assert_tidy(&sizes(&sources()));
}

#[test]
fn unsafe_code_is_in_the_kernels_only() {
    assert_tidy(&unsafety(&sources()));
}

#[test]
fn no_configuration_names_a_processor() {
    let files = files(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let kinds = [".toml", ".yml", ".yaml", ".sh", ".mk"];
        path.starts_with(".cargo/")
            || path.starts_with(".ci/")
            || path.starts_with(".github/")
            || ["justfile", "Dockerfile", "Makefile", "build.rs"].contains(&name)
            || kinds.iter().any(|kind| name.ends_with(kind))
    });
    assert!(files.iter().any(|(path, _)| path == "Cargo.toml"));
    assert_tidy(&configuration(&files));
}

#[test]
fn the_library_is_finished_and_silent() {
    assert_tidy(&forbidden(&sources()));
}

#[test]
fn files_are_opened_where_they_may_be() {
    assert_tidy(&file_opening(&sources()));
}

#[test]
fn files_are_written_and_opened_in_one_way() {
    assert_tidy(&file_access(&sources()));
}

#[test]
fn storage_is_named_in_ops_and_tensor_only() {
    assert_tidy(&storage_variants(&sources()));
}

#[test]
fn elements_are_read_in_ops_tensor_and_formats_only() {
    assert_tidy(&element_access(&sources()));
}

#[test]
fn doc_comments_say_something() {
    assert_allowed(&short_docs(&sources()), N_ALLOWED_SHORT_DOCS, "N_ALLOWED_SHORT_DOCS");
}

#[test]
fn replaced_identifiers_are_gone() {
    let breaches = replaced_identifiers(&sources());
    let mut wrong = Vec::new();
    for (pattern, breaches) in &breaches {
        let allowed = ALLOWED_IDENTIFIERS.iter().find(|(allowed, _)| allowed == pattern);
        let (n, n_allowed) = (breaches.len(), allowed.map_or(0, |(_, n)| *n));
        if n > n_allowed {
            wrong.push(format!("`{pattern}`: {n} uses, {n_allowed} allowed:\n{}", listed(breaches)));
        } else if n < n_allowed {
            wrong.push(format!("`{pattern}`: only {n} uses are left, lower the allowance from {n_allowed}"));
        }
    }
    for (pattern, n) in ALLOWED_IDENTIFIERS {
        if n == 0 || !breaches.contains_key(pattern) {
            wrong.push(format!("`{pattern}`: remove the entry from the allowances"));
        }
    }
    assert!(wrong.is_empty(), "ALLOWED_IDENTIFIERS:\n{}\n", wrong.join("\n"));
}

#[test]
fn architecture_is_a_short_page() {
    assert_tidy(&page_length("ARCHITECTURE.md", &read("ARCHITECTURE.md"), ARCHITECTURE_LINES));
}

#[test]
fn the_file_tree_shows_what_exists() {
    // Either page may have the tree; if neither has, the breach is reported for the README.
    let page = ["README.md", "ARCHITECTURE.md"].into_iter().find(|page| !tree_entries(&read(page)).is_empty());
    let page = page.unwrap_or("README.md");
    let exists = |path: &str| root().join(path).exists();
    assert_tidy(&file_tree(page, &read(page), exists, &crates_and_modules()));
}

/// Every crate's folder, and every module at the top of the library as its file or folder.
fn crates_and_modules() -> Vec<String> {
    let list = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let paths = names.map(|name| format!("{folder}/{name}"));
        paths.collect::<BTreeSet<String>>()
    };
    let modules = list("crates/calame/src").into_iter().filter(|path| !path.ends_with("/lib.rs"));
    list("crates").into_iter().chain(modules).collect()
}

#[test]
fn the_justfile_and_ci_run_the_same_lines() {
    assert_tidy(&commands_of_ci_only(&read(".ci/run"), &read("justfile")));
}

/// The last test binary lists the tests that `skip` has recorded; a message alone is captured and never seen.
#[test]
fn skipped_tests_are_recorded() {
    let message = concat!("println!(\"", "skip");
    let is_silent = |source: &&Source| source.text.contains(message) && !source.path.ends_with("skipped/record.rs");
    let breach = |source: &Source| {
        let line = source.text.lines().position(|line| line.contains(message)).unwrap_or(0) + 1;
        source.breach(line, "a test that is skipped calls `skipped::skip`, which records it")
    };
    assert_tidy(&sources().iter().filter(is_silent).map(breach).collect::<Vec<_>>());
}
