//! The house of ARCHITECTURE.md, held by reading the sources: who may know whom, sizes, `unsafe`, files, the README's tree.
//!
//! Each rule is a function from sources to breaches, tried on made-up sources below and on the repository itself.
//! Sources are read as tokens, so that comments and strings never count and macros do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;

/// Which room of the library may use which, as in the map of ARCHITECTURE.md; `kernels` is the crate.
const ROOMS: [(&str, &[&str]); 13] = [
    ("files", &[]),
    ("tensor", &["kernels"]),
    ("rng", &["kernels"]),
    ("ops", &["kernels"]),
    ("tokenizer", &[]),
    ("model", &["ops"]),
    ("data", &["tokenizer"]),
    ("dist", &[]),
    ("quant", &["kernels"]),
    ("checkpoint", &["model", "quant", "tokenizer"]),
    ("infer", &["model", "ops", "tokenizer", "quant"]),
    ("train", &["model", "ops", "data", "tokenizer", "dist", "checkpoint"]),
    ("tune", &["train", "model", "ops", "data", "tokenizer", "dist", "checkpoint"]),
];
/// What every room may use.
const COMMON: [&str; 3] = ["tensor", "rng", "files"];

/// Which of our crates may use which.
const CRATES: [(&str, &[&str]); 4] = [
    ("calame-kernels", &[]),
    ("calame", &["calame-kernels"]),
    ("calame-server", &["calame"]),
    ("calame-cli", &["calame", "calame-server"]),
];

/// Where the library may open files.
const MAY_OPEN_FILES: [&str; 8] = [
    "crates/calame/src/files",
    "crates/calame/src/checkpoint",
    "crates/calame/src/data",
    "crates/calame/src/tokenizer",
    "crates/calame/src/train/run_folder.rs",
    "crates/calame/src/train/metrics.rs",
    "crates/calame/src/train/plot.rs",
    "crates/calame/src/train/tensorboard.rs",
];

/// A Rust file of the repository, by its path from the root with `/`.
struct Source {
    path: String,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

// Reading sources.

/// A path such as `crate::model::Gpt`, of which a `use` with braces holds several, and the line it stands on.
struct UsedPath {
    segments: Vec<String>,
    line: usize,
    /// Modules that the path stands in, below the file's own.
    modules: Vec<String>,
    /// Whether an exclamation mark follows: a macro.
    is_macro: bool,
}

impl Source {
    fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|error| panic!("{}: not Rust: {error}", self.path))
    }

    /// All tokens but those of items under `#[cfg(test)]` and `#[test]`.
    fn tokens_outside_tests(&self) -> Vec<TokenTree> {
        outside_tests(self.tokens())
    }

    /// All paths outside tests.
    fn paths(&self) -> Vec<UsedPath> {
        let mut paths = Vec::new();
        collect_paths(&self.tokens_outside_tests(), &[], &mut paths);
        paths
    }

    fn breach(&self, line: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line, rule: rule.into() }
    }

    /// `crates/calame/src/train/plot.rs` is `["train", "plot"]`; none for what is not in the library's src.
    fn library_module(&self) -> Option<Vec<String>> {
        let inside = self.path.strip_prefix("crates/calame/src/")?;
        let inside = inside.strip_suffix(".rs")?;
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        let segments = inside.split('/').map(str::to_owned);
        Some(segments.filter(|segment| segment != "lib").collect())
    }

    fn is_numeric_or_library(&self) -> bool {
        ["crates/calame/src/", "crates/calame-kernels/src/"].iter().any(|folder| self.path.starts_with(folder))
    }
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`, but not `#[cfg(not(test))]`.
fn is_for_tests(attribute: &str) -> bool {
    let text = attribute.replace(char::is_whitespace, "");
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Leaves out every item under a test attribute, up to its braces or its semicolon.
fn outside_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let attribute = match (&token, tokens.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
            {
                is_for_tests(&group.stream().to_string())
            }
            _ => false,
        };
        if attribute {
            for skipped in tokens.by_ref() {
                match skipped {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(end) if end.as_char() == ';' => break,
                    _ => {}
                }
            }
        } else if let TokenTree::Group(group) = token {
            let inside = outside_tests(group.stream()).into_iter().collect();
            let mut filtered = Group::new(group.delimiter(), inside);
            filtered.set_span(group.span());
            kept.push(TokenTree::Group(filtered));
        } else {
            kept.push(token);
        }
    }
    kept
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}

/// Collects the paths among `tokens`, single names included, going into all groups.
fn collect_paths(tokens: &[TokenTree], modules: &[String], paths: &mut Vec<UsedPath>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(_) => at = collect_path(tokens, at, &[], modules, paths),
            TokenTree::Group(group) => {
                // `mod name {` makes a module; whatever else has braces does not.
                let mut inside = modules.to_vec();
                if at >= 2 && ident(tokens.get(at - 2)).as_deref() == Some("mod") {
                    inside.extend(ident(tokens.get(at - 1)));
                }
                let stream: Vec<TokenTree> = group.stream().into_iter().collect();
                collect_paths(&stream, &inside, paths);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Collects the path that begins at `at`, with `prefix` before it; gives the place after it.
fn collect_path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    modules: &[String],
    paths: &mut Vec<UsedPath>,
) -> usize {
    let line = line_of(&tokens[at]);
    let mut segments = prefix.to_vec();
    loop {
        segments.extend(ident(tokens.get(at)));
        at += 1;
        if !is_path_separator(tokens, at) {
            break;
        }
        at += 2;
        match tokens.get(at) {
            Some(TokenTree::Ident(_)) => {}
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut branch = 0;
                while branch < branches.len() {
                    branch = match branches[branch] {
                        TokenTree::Ident(_) => collect_path(&branches, branch, &segments, modules, paths),
                        _ => branch + 1,
                    };
                }
                return at + 1;
            }
            _ => break,
        }
    }
    let is_macro = is_punct(tokens.get(at), '!') && !is_punct(tokens.get(at + 1), '=');
    paths.push(UsedPath { segments, line, modules: modules.to_vec(), is_macro });
    at
}

// The rules.

/// Section 1: which room knows which.
fn arrows(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut inside = Vec::new();
    for source in sources {
        match source.library_module() {
            Some(module) if !module.is_empty() => inside.push((source, module)),
            _ => {}
        }
    }
    for (source, module) in &inside {
        let room = module[0].as_str();
        let Some((_, targets)) = ROOMS.iter().find(|(known, _)| *known == room) else {
            let rule = format!("`{room}` is no room of ARCHITECTURE.md, the map");
            breaches.push(source.breach(1, rule));
            continue;
        };
        let mut allowed: BTreeSet<&str> = COMMON.into();
        allowed.insert(room);
        allowed.extend(*targets);
        for path in source.paths() {
            let Some(target) = target_room(&path, module) else {
                continue;
            };
            if !allowed.contains(target.as_str()) {
                let rule = format!("{room} may not use {target} (ARCHITECTURE.md, the map)");
                breaches.push(source.breach(path.line, rule));
            }
        }
    }
    breaches
}

/// The room that a path of a file in `module` leads to; none where it leads nowhere of ours.
fn target_room(path: &UsedPath, module: &[String]) -> Option<String> {
    let segments = &path.segments;
    match segments[0].as_str() {
        "calame_kernels" => Some("kernels".into()),
        // Alone it is a visibility, `pub(crate)`, or a path with generic arguments.
        "crate" => segments.get(1).cloned(),
        "self" | "super" => {
            let mut here: Vec<&String> = module.iter().chain(&path.modules).collect();
            let mut rest = segments.as_slice();
            while let [first, after @ ..] = rest {
                match first.as_str() {
                    "self" => {}
                    "super" => drop(here.pop()),
                    _ => break,
                }
                rest = after;
            }
            here.into_iter().chain(rest).next().cloned()
        }
        _ => None,
    }
}

/// Section 1, among crates: `manifests` are (path, text) of the Cargo.toml files under crates/.
fn crate_arrows(manifests: &[(String, String)]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (path, text) in manifests {
        let breach = |rule: String| Breach { path: path.clone(), line: 1, rule };
        let manifest: toml::Table = text.parse().expect("cargo reads it too");
        let name = manifest["package"]["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
            breaches.push(breach(format!("`{name}` is no crate of ARCHITECTURE.md, the map")));
            continue;
        };
        for used in dependencies(&manifest) {
            let is_ours = CRATES.iter().any(|(known, _)| *known == used);
            if is_ours && !allowed.contains(&used.as_str()) {
                let rule = format!("{name} may not depend on {used} (ARCHITECTURE.md, the map)");
                breaches.push(breach(rule));
            }
        }
    }
    breaches
}

/// The packages in all dependency tables, those of `target.*` included.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else {
            continue;
        };
        if ["dependencies", "dev-dependencies", "build-dependencies"].contains(&key.as_str()) {
            for (name, detail) in table {
                let renamed = detail.get("package").and_then(toml::Value::as_str);
                names.push(renamed.unwrap_or(name).to_owned());
            }
        } else if key == "target" {
            let targets = table.values().filter_map(toml::Value::as_table);
            names.extend(targets.flat_map(dependencies));
        }
    }
    names
}

/// Lines of a file outside its test modules, and lines of each function.
fn sizes(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let test_files = test_files(sources);
    for source in sources {
        if test_files.contains(&source.path) {
            continue;
        }
        let file = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: not Rust: {error}", source.path));
        let mut visitor = SizeVisitor::default();
        visitor.visit_file(&file);
        let n_lines = source.text.lines().count() - visitor.n_test_lines;
        if n_lines > MAX_FILE_LINES {
            let rule = format!("a file has at most {MAX_FILE_LINES} lines, this one {n_lines}");
            breaches.push(source.breach(1, rule));
        }
        for (name, line, n_lines) in visitor.functions {
            if n_lines > MAX_FUNCTION_LINES {
                let rule = format!("a function has at most {MAX_FUNCTION_LINES} lines, `{name}` has {n_lines}");
                breaches.push(source.breach(line, rule));
            }
        }
    }
    breaches
}

/// Files that hold tests only: those in a folder for tests or benchmarks, and those that their parent declares as
/// `#[cfg(test)] mod name;`.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let is_in_folder = |path: &&String| path.contains("/tests/") || path.contains("/benches/");
    let paths = sources.iter().map(|source| &source.path);
    let mut files: BTreeSet<String> = paths.filter(is_in_folder).cloned().collect();
    for source in sources {
        let folder = source.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| folder.strip_suffix(end)).unwrap_or(folder);
        for name in test_modules(source) {
            files.insert(format!("{folder}/{name}.rs"));
            files.insert(format!("{folder}/{name}/mod.rs"));
        }
    }
    files
}

fn test_modules(source: &Source) -> Vec<String> {
    let all: Vec<TokenTree> = source.tokens().into_iter().collect();
    let mut names = declared_modules(&all);
    let kept = declared_modules(&source.tokens_outside_tests());
    names.retain(|name| !kept.contains(name));
    names
}

/// The names of `mod name;` among top-level tokens.
fn declared_modules(tokens: &[TokenTree]) -> Vec<String> {
    let declared =
        tokens.windows(3).filter(|three| ident(three.first()).as_deref() == Some("mod") && is_punct(three.get(2), ';'));
    declared.filter_map(|three| ident(three.get(1))).collect()
}

#[derive(Default)]
struct SizeVisitor {
    n_test_lines: usize,
    /// Name, first line and number of lines, attributes and docs not counted.
    functions: Vec<(String, usize, usize)>,
}

impl SizeVisitor {
    fn add(&mut self, signature: &syn::Signature, visibility: Option<&syn::Visibility>, end: usize) {
        let mut start = signature.span().start().line;
        if let Some(visibility) = visibility
            && !matches!(visibility, syn::Visibility::Inherited)
        {
            start = visibility.span().start().line;
        }
        let name = signature.ident.to_string();
        self.functions.push((name, start, end + 1 - start));
    }
}

fn has_test_attribute(attributes: &[syn::Attribute]) -> bool {
    let texts = attributes.iter().map(|attribute| attribute.meta.span().source_text());
    texts.flatten().any(|text| is_for_tests(&text))
}

impl<'ast> Visit<'ast> for SizeVisitor {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if has_test_attribute(&module.attrs) {
            let (start, end) = (module.span().start().line, module.span().end().line);
            self.n_test_lines += end + 1 - start;
        } else {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !has_test_attribute(&function.attrs) {
            let end = function.block.span().end().line;
            self.add(&function.sig, Some(&function.vis), end);
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !has_test_attribute(&function.attrs) {
            let end = function.block.span().end().line;
            self.add(&function.sig, Some(&function.vis), end);
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, None, block.span().end().line);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

/// `unsafe` in calame-kernels alone; every other crate forbids it at its root.
fn unsafety(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        let Some((krate, inside)) = split_crate(&source.path) else {
            continue;
        };
        // A test binary of its own, such as the one with the counting allocator, may need it.
        let is_own_binary = inside.starts_with("tests/") && !inside.starts_with("tests/it/");
        if krate == "calame-kernels" || is_own_binary {
            continue;
        }
        for line in lines_of_ident(source.tokens(), "unsafe") {
            let rule = "`unsafe` stands in calame-kernels only (ARCHITECTURE.md, rule 9)";
            breaches.push(source.breach(line, rule));
        }
        let is_root = ["src/lib.rs", "src/main.rs"].contains(&inside)
            || (inside.starts_with("src/bin/") && inside.matches('/').count() == 2);
        let text = source.tokens().to_string().replace(' ', "");
        if is_root && !text.contains("#![forbid(unsafe_code)]") {
            let rule = "a crate's root has `#![forbid(unsafe_code)]` (ARCHITECTURE.md, rule 9)";
            breaches.push(source.breach(1, rule));
        }
    }
    breaches
}

/// `crates/calame/src/lib.rs` is (`calame`, `src/lib.rs`).
fn split_crate(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("crates/")?.split_once('/')
}

fn lines_of_ident(tokens: TokenStream, name: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for token in tokens {
        match &token {
            TokenTree::Ident(ident) if ident == name => lines.push(line_of(&token)),
            TokenTree::Group(group) => lines.extend(lines_of_ident(group.stream(), name)),
            _ => {}
        }
    }
    lines
}

/// No committed configuration names a processor: the program chooses its instructions when it runs.
fn configuration(files: &[(String, String)]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (path, text) in files {
        for (i, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            if line.contains("target-cpu") || line.contains("target_cpu") {
                breaches.push(Breach {
                    path: path.clone(),
                    line: i + 1,
                    rule: "no configuration sets target-cpu (ARCHITECTURE.md, rule 10)".into(),
                });
            }
        }
    }
    breaches
}

/// Macros that mark unfinished work, everywhere; printing, leaving, the clock and the environment, in the library.
fn forbidden(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        for path in source.paths() {
            let rule = if is_unfinished(&path) {
                "nothing unfinished is committed"
            } else if source.is_numeric_or_library() && touches_world(&path) {
                "the library never prints, exits, or reads the clock or the environment (ARCHITECTURE.md, rule 4)"
            } else {
                continue;
            };
            let rule = format!("`{}`: {rule}", path.segments.join("::"));
            breaches.push(source.breach(path.line, rule));
        }
    }
    breaches
}

fn is_unfinished(path: &UsedPath) -> bool {
    let last = path.segments.last().map_or("", String::as_str);
    path.is_macro && ["todo", "unimplemented", "dbg"].contains(&last)
}

fn touches_world(path: &UsedPath) -> bool {
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let has = |part: &[&str]| segments.windows(part.len()).any(|window| window == part);
    let prints = ["println", "eprintln", "print", "eprint"];
    (path.is_macro && prints.contains(segments.last().unwrap_or(&"")))
        || has(&["process", "exit"])
        || has(&["process", "abort"])
        || has(&["std", "env"])
        || (segments[0] == "env" && segments.len() > 1)
        || has(&["Instant", "now"])
        || segments.contains(&"SystemTime")
        || has(&["io", "stdout"])
        || has(&["io", "stderr"])
        || has(&["io", "stdin"])
}

/// Files are opened in the rooms for it only.
fn file_opening(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.is_numeric_or_library()) {
        let may = MAY_OPEN_FILES.iter().any(|place| {
            let rest = source.path.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
        });
        for path in source.paths() {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let opens = segments.windows(2).any(|two| two == ["std", "fs"])
                || (["fs", "File", "OpenOptions"].contains(&segments[0]) && segments.len() > 1);
            if opens && !may {
                let rule =
                    format!("`{}`: files are opened elsewhere (ARCHITECTURE.md, rule 7)", path.segments.join("::"));
                breaches.push(source.breach(path.line, rule));
            }
        }
    }
    breaches
}

/// The README's file tree: names only what is there, and names every one of `wanted`.
fn file_tree(path: &str, text: &str, exists: impl Fn(&str) -> bool, wanted: &[String]) -> Vec<Breach> {
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
fn tree_entries(text: &str) -> Vec<(usize, String)> {
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

// The repository.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Path from the root and text of every text file that might be committed, of which `keep` wants the path.
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

fn assert_tidy(breaches: &[Breach]) {
    let lines: Vec<String> =
        breaches.iter().map(|Breach { path, line, rule }| format!("{path}:{line}: {rule}")).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn rooms_know_only_whom_they_may() {
    assert_tidy(&arrows(&sources()));
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let manifests =
        files(|path| path.starts_with("crates/") && path.ends_with("/Cargo.toml") && path.matches('/').count() == 2);
    assert!(manifests.len() >= 3, "the manifests are where this test looks");
    assert_tidy(&crate_arrows(&manifests));
}

#[test]
fn files_and_functions_are_small() {
    assert_tidy(&sizes(&sources()));
}

#[test]
fn unsafe_stands_in_the_kernels_only() {
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
fn the_readme_shows_the_house_as_it_is() {
    let root = root();
    let pages = ["README.md", "ARCHITECTURE.md"];
    let read = |page: &str| std::fs::read_to_string(root.join(page)).unwrap_or_default();
    // The tree may stand in either; where it stands in neither, the README is told so.
    let page = pages.into_iter().find(|page| !tree_entries(&read(page)).is_empty());
    let page = page.unwrap_or("README.md");
    let exists = |path: &str| root.join(path).exists();
    assert_tidy(&file_tree(page, &read(page), exists, &crates_and_rooms()));
}

#[test]
fn the_justfile_and_ci_run_the_same_lines() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("it is there");
    let (justfile, ci) = (read("justfile"), read(".ci/run"));
    let recipes: Vec<&str> = justfile.lines().map(str::trim).collect();
    let (_, commands) = ci.split_once("set -x\n").expect("the commands are shown");
    assert!(commands.lines().count() >= 4, "the commands stand after `set -x`");
    for command in commands.lines() {
        assert!(recipes.contains(&command), ".ci/run only: `{command}`");
    }
}

/// Every crate's folder, and every module at the top of the library as its file or folder.
fn crates_and_rooms() -> Vec<String> {
    let list = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let paths = names.map(|name| format!("{folder}/{name}"));
        paths.collect::<BTreeSet<String>>()
    };
    let rooms = list("crates/calame/src").into_iter();
    let rooms = rooms.filter(|path| !path.ends_with("/lib.rs"));
    list("crates").into_iter().chain(rooms).collect()
}

// The rules themselves, on made-up sources.

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

/// The lines on which `rule` finds a breach in one made-up file.
fn lines(rule: impl Fn(&[Source]) -> Vec<Breach>, path: &str, text: &str) -> Vec<usize> {
    let breaches = rule(&[source(path, text)]);
    breaches.iter().map(|breach| breach.line).collect()
}

#[test]
fn an_arrow_the_wrong_way_is_found_however_it_is_written() {
    let model = |text: &str| lines(arrows, "crates/calame/src/model/gpt.rs", text);
    assert_eq!(model("use crate::train::metrics::Record;"), [1]);
    assert_eq!(model("use crate::{\n    ops::add,\n    train::{self, plot},\n};"), [3, 3]);
    assert_eq!(model("\nfn f() { crate::infer::sampler::greedy() }"), [2]);
    assert_eq!(model("fn f() { assert!(crate::infer::ready()); }"), [1]);
    assert_eq!(model("fn f() { super::super::data::windows() }"), [1]);
    assert_eq!(model("mod inner {\n use super::super::super::data::x;\n}"), [2]);
    assert_eq!(model("use calame_kernels::gemm;"), [1]);
    assert_eq!(model("use crate::Gpt;"), [1]);
}

#[test]
fn arrows_the_right_way_are_left_alone() {
    let model = |text: &str| lines(arrows, "crates/calame/src/model/gpt.rs", text);
    assert!(model("use crate::{ops, tensor::Tensor, rng, model::mlp::Mlp};").is_empty());
    assert!(model("use super::mlp; use self::inner::x; pub(crate) fn f() {}").is_empty());
    assert!(model("mod inner { use super::super::mlp; }").is_empty());
    assert!(model("/// crate::train\n// crate::train\nconst A: &str = \"crate::train\";").is_empty());
    assert!(model("#[cfg(test)]\nmod tests { use crate::train::metrics; }").is_empty());
    let ops = "use calame_kernels::gemm;";
    assert!(lines(arrows, "crates/calame/src/ops/mod.rs", ops).is_empty());
    let tune = "use crate::train::metrics; use crate::data::corpus;";
    assert!(lines(arrows, "crates/calame/src/tune/lora.rs", tune).is_empty());
    assert!(lines(arrows, "crates/calame/src/lib.rs", "pub use crate::model::Gpt;").is_empty());
}

#[test]
fn a_room_of_its_own_making_is_found() {
    assert_eq!(lines(arrows, "crates/calame/src/utils.rs", ""), [1]);
    let infer = "use crate::train::metrics;";
    assert_eq!(lines(arrows, "crates/calame/src/infer/mod.rs", infer), [1]);
    let train = "use crate::infer::sampler;";
    assert_eq!(lines(arrows, "crates/calame/src/train/mod.rs", train), [1]);
}

#[test]
fn a_crate_that_depends_upwards_is_found() {
    let manifest = |name: &str, rest: &str| {
        let path = format!("crates/{name}/Cargo.toml");
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        crate_arrows(&[(path, text)]).len()
    };
    assert_eq!(manifest("calame", "[dependencies]\ncalame-kernels = \"1\"\nserde = \"1\""), 0);
    assert_eq!(manifest("calame", "[dependencies]\ncalame-cli.workspace = true"), 1);
    assert_eq!(manifest("calame-kernels", "[dev-dependencies]\ncalame.workspace = true"), 1);
    assert_eq!(manifest("calame-server", "[dependencies]\nk = { package = \"calame-kernels\" }"), 1);
    assert_eq!(manifest("calame", "[target.'cfg(unix)'.dependencies]\ncalame-server = \"1\""), 1);
    assert_eq!(manifest("calame-extra", ""), 1);
}

#[test]
fn long_files_and_functions_are_found_and_tests_not_counted() {
    let path = "crates/calame/src/ops/mod.rs";
    let function = |n_lines: usize| format!("/// Doc.\npub fn f() {{\n{}}}\n", "f();\n".repeat(n_lines - 2));
    assert!(lines(sizes, path, &function(60)).is_empty());
    assert_eq!(lines(sizes, path, &function(61)), [2]);
    let method = format!("struct A;\nimpl A {{\n{}}}", function(61));
    assert_eq!(lines(sizes, path, &method), [4]);
    let default = format!("trait A {{\nfn f() {{\n{}}}\n}}", "f();\n".repeat(59));
    assert_eq!(lines(sizes, path, &default), [2]);
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(600));
    assert!(lines(sizes, path, &in_tests).is_empty());
    let long = "const A: u8 = 0;\n".repeat(501);
    assert_eq!(lines(sizes, path, &long), [1]);
    assert!(lines(sizes, "crates/calame/tests/it/a.rs", &long).is_empty());
    let parent = source("crates/calame/src/ops/mod.rs", "#[cfg(test)]\nmod tests;\nmod add;");
    let tests = source("crates/calame/src/ops/tests.rs", &long);
    let add = source("crates/calame/src/ops/add.rs", &long);
    let breaches = sizes(&[parent, tests, add]);
    let paths: Vec<&str> = breaches.iter().map(|breach| breach.path.as_str()).collect();
    assert_eq!(paths, ["crates/calame/src/ops/add.rs"]);
}

#[test]
fn unsafe_code_is_found() {
    let forbid = "#![forbid(unsafe_code)]\n";
    let root = "crates/calame/src/lib.rs";
    assert!(lines(unsafety, root, forbid).is_empty());
    assert_eq!(lines(unsafety, root, "//! No forbid."), [1]);
    assert_eq!(lines(unsafety, root, &format!("{forbid}fn f() {{ unsafe {{}} }}")), [2]);
    assert_eq!(lines(unsafety, "crates/calame-cli/src/a.rs", "m!(unsafe {});"), [1]);
    assert!(lines(unsafety, "crates/calame-cli/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";").is_empty());
    assert!(lines(unsafety, "crates/calame-kernels/src/lib.rs", "fn f() { unsafe {} }").is_empty());
    assert!(lines(unsafety, "crates/calame/tests/alloc.rs", "unsafe impl A for B {}").is_empty());
    assert_eq!(lines(unsafety, "crates/calame/tests/it/a.rs", "unsafe impl A for B {}"), [1]);
}

#[test]
fn a_processor_in_the_configuration_is_found() {
    let config = "[build]\nrustflags = [\"-C\", \"target-cpu=native\"]\n".to_owned();
    let breaches = configuration(&[(".cargo/config.toml".into(), config)]);
    assert_eq!(breaches.len(), 1);
    assert_eq!(breaches[0].line, 2);
    assert!(configuration(&[("Cargo.toml".into(), "[profile.release]".into())]).is_empty());
}

#[test]
fn unfinished_work_and_touching_the_world_are_found() {
    let library = |text: &str| lines(forbidden, "crates/calame/src/ops/mod.rs", text);
    for text in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f() { dbg!(1); }",
        "fn f() { println!(\"a\") }",
        "fn f() { std::eprintln!(\"a\") }",
        "fn f() { std::process::exit(1) }",
        "use std::{env, fmt};",
        "fn f() { env::var(\"A\"); }",
        "fn f() { let t = std::time::Instant::now(); }",
        "use std::time::SystemTime;",
        "fn f() { g(std::io::stdout()) }",
    ] {
        assert_eq!(library(text), [1], "{text}");
    }
    for text in [
        "// println!(\"a\")",
        "const A: &str = \"todo!()\";",
        "#[cfg(test)]\nmod tests { fn f() { println!(\"a\") } }",
        "#[test]\nfn f() { println!(\"a\") }",
        "fn f(now: std::time::Instant) { assert!(now != now) }",
        "const A: &str = env!(\"CARGO_PKG_VERSION\");",
        "fn f() { if print != 0 {} }",
    ] {
        assert!(library(text).is_empty(), "{text}");
    }
    // The program prints; it leaves nothing unfinished either.
    let program = |text: &str| lines(forbidden, "crates/calame-cli/src/main.rs", text);
    assert!(program("fn main() { println!(\"a\") }").is_empty());
    assert_eq!(program("fn main() { todo!() }"), [1]);
    // Only the item under the attribute is a test.
    assert_eq!(library("#[cfg(test)]\nuse a::b;\nfn f() { println!(\"a\") }"), [3]);
    assert_eq!(library("#[cfg(not(test))]\nfn f() { println!(\"a\") }"), [2]);
}

#[test]
fn opening_files_elsewhere_is_found() {
    let opens =
        ["use std::fs;", "use std::{fs::File, io};", "fn f() { File::open(p); }", "fn f() { std::fs::read(p); }"];
    for text in opens {
        assert_eq!(lines(file_opening, "crates/calame/src/train/schedule.rs", text), [1], "{text}");
        assert_eq!(lines(file_opening, "crates/calame/src/train/plot/axis.rs", text), [1], "{text}");
        assert_eq!(lines(file_opening, "crates/calame-kernels/src/lib.rs", text), [1], "{text}");
        for path in ["train/plot.rs", "data/corpus.rs", "data.rs", "tokenizer/mod.rs", "checkpoint/hf.rs"] {
            let path = format!("crates/calame/src/{path}");
            assert!(lines(file_opening, &path, text).is_empty(), "{path}: {text}");
        }
        assert!(lines(file_opening, "crates/calame-cli/src/main.rs", text).is_empty());
    }
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
