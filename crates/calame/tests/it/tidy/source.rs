//! Source files as tokens: paths, test code, positions.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Breach;

/// A Rust file of the repository; its path starts at the root and uses `/`.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// A path such as `crate::model::Gpt`. A `use` with braces holds several.
#[derive(Debug)]
pub struct UsedPath {
    pub segments: Vec<String>,
    pub line: usize,
    /// The inline modules around the path, from the outside in.
    pub modules: Vec<String>,
    /// An exclamation mark follows.
    pub is_macro: bool,
    /// A dot precedes: a method or a field.
    pub is_member: bool,
}

impl Source {
    pub fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|error| panic!("{}: not Rust: {error}", self.path))
    }

    /// All tokens except those of items under `#[cfg(test)]` and `#[test]`.
    pub fn tokens_outside_tests(&self) -> Vec<TokenTree> {
        outside_tests(self.tokens())
    }

    /// The file without its tests.
    pub fn syntax_outside_tests(&self) -> syn::File {
        let tokens: TokenStream = self.tokens_outside_tests().into_iter().collect();
        syn::parse2(tokens).unwrap_or_else(|error| panic!("{}: without its tests not Rust: {error}", self.path))
    }

    /// All paths outside tests.
    pub fn paths(&self) -> Vec<UsedPath> {
        let mut paths = Vec::new();
        collect_paths(&self.tokens_outside_tests(), &[], &mut paths);
        paths
    }

    pub fn breach(&self, line: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line, rule: rule.into() }
    }

    /// The crate's folder name and the path inside that folder: `crates/calame/src/lib.rs` is (`calame`, `src/lib.rs`).
    pub fn split_crate(&self) -> Option<(&str, &str)> {
        self.path.strip_prefix("crates/")?.split_once('/')
    }

    /// The file's module path in its crate, for files in a crate's src: `src/train/plot.rs` is `["train", "plot"]`.
    pub fn module(&self) -> Option<Vec<String>> {
        let (_, inside) = self.split_crate()?;
        let inside = inside.strip_prefix("src/")?.strip_suffix(".rs")?;
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        let is_root = ["lib", "main"].contains(&inside);
        let segments = inside.split('/').filter(|_| !is_root);
        Some(segments.map(str::to_owned).collect())
    }

    /// Whether the file is in one of `folders`, each a path without `.rs` that stands for a folder or a file.
    pub fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| {
            let rest = self.path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
        })
    }

    pub fn is_numeric_or_library(&self) -> bool {
        self.is_in(&["crates/calame/src", "crates/calame-kernels/src"])
    }
}

/// Matches `#[test]`, `#[cfg(test)]` and `#[cfg(all(test, …))]`, but not `#[cfg(not(test))]`.
pub fn is_for_tests(attribute: &str) -> bool {
    let text = attribute.replace(char::is_whitespace, "");
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Removes every item, field, variant and match arm under a test attribute.
fn outside_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match (token, tokens.get(at + 1)) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                if hash.as_char() == '#'
                    && group.delimiter() == Delimiter::Bracket
                    && is_for_tests(&group.stream().to_string()) =>
            {
                // A doc comment before the attribute is part of the item.
                while matches!(&kept[..], [.., TokenTree::Punct(hash), TokenTree::Group(_)] if hash.as_char() == '#') {
                    kept.truncate(kept.len() - 2);
                }
                at = after_item(&tokens, at + 2);
            }
            (TokenTree::Group(group), _) => {
                let inside = outside_tests(group.stream()).into_iter().collect();
                let mut filtered = Group::new(group.delimiter(), inside);
                filtered.set_span(group.span());
                kept.push(TokenTree::Group(filtered));
                at += 1;
            }
            _ => {
                kept.push(token.clone());
                at += 1;
            }
        }
    }
    kept
}

/// The index after the item or the element of a list that starts at `at`, attributes included.
fn after_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while is_punct(tokens.get(at), '#') {
        at += 2;
    }
    let is_item = is_item(tokens, at);
    let is_use = ident(tokens.get(at)).as_deref() == Some("use");
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => {
                // `const A: B = B { … };` and the last comma of a match arm.
                let ends = is_punct(tokens.get(at), ';') || (!is_item && is_punct(tokens.get(at), ','));
                return at + usize::from(ends);
            }
            TokenTree::Punct(end) if end.as_char() == ';' || (end.as_char() == ',' && !is_item) => return at,
            _ => {}
        }
    }
    at
}

/// Whether an item or a statement starts at `at`; otherwise it is a field, a variant or a match arm.
fn is_item(tokens: &[TokenTree], mut at: usize) -> bool {
    const KEYWORDS: [&str; 16] = [
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "const",
        "static",
        "type",
        "trait",
        "unsafe",
        "async",
        "extern",
        "let",
        "macro_rules",
        "union",
    ];
    if ident(tokens.get(at)).as_deref() == Some("pub") {
        at += 1;
        at += usize::from(matches!(tokens.get(at), Some(TokenTree::Group(_))));
    }
    ident(tokens.get(at)).is_some_and(|word| KEYWORDS.contains(&word.as_str()))
}

pub fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

pub fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

pub fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}

/// Collects the paths among `tokens`, including single names, from all groups.
pub fn collect_paths(tokens: &[TokenTree], modules: &[String], paths: &mut Vec<UsedPath>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(_) => at = collect_path(tokens, at, &[], modules, paths),
            TokenTree::Group(group) => {
                // `mod name {` opens a module; other braces do not.
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

/// Collects the path that begins at `at`, with `prefix` before it; returns the index after it.
fn collect_path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    modules: &[String],
    paths: &mut Vec<UsedPath>,
) -> usize {
    let line = line_of(&tokens[at]);
    let is_range = at >= 2 && is_punct(tokens.get(at - 2), '.');
    let is_member = at >= 1 && is_punct(tokens.get(at - 1), '.') && !is_range;
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
    paths.push(UsedPath { segments, line, modules: modules.to_vec(), is_macro, is_member });
    at
}

/// The lines that contain the identifier `name`, tests included.
pub fn lines_of_ident(tokens: TokenStream, name: &str) -> Vec<usize> {
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

#[test]
fn code_under_a_test_attribute_is_left_out() {
    let kept = |text: &str| {
        let source = super::source("crates/calame/src/a.rs", text);
        source.tokens_outside_tests().into_iter().collect::<TokenStream>().to_string().replace(' ', "")
    };
    assert_eq!(kept("#[cfg(test)]\nmod tests { fn f() {} }\nfn g() {}"), "fng(){}");
    assert_eq!(kept("#[cfg(test)]\nmod tests;\nfn g() {}"), "fng(){}");
    assert_eq!(kept("#[cfg(test)]\nuse a::{b, c};\nfn g() {}"), "fng(){}");
    assert_eq!(kept("#[cfg(test)]\n#[allow(x)]\npub(crate) fn f<A, B>() -> [A; 2] { a }\nfn g() {}"), "fng(){}");
    assert_eq!(kept("#[cfg(test)]\nconst A: B = B { c: 1 };\nfn g() {}"), "fng(){}");
    assert_eq!(kept("#[cfg(not(test))]\nfn g() {}"), "#[cfg(not(test))]fng(){}");
    assert_eq!(kept("enum A { #[cfg(test)] B(u8), C }"), "enumA{C}");
    assert_eq!(kept("struct A { #[cfg(test)] pub b: u8, c: u8 }"), "structA{c:u8}");
    assert_eq!(kept("fn f() { match a { #[cfg(test)] B(_) => { 1 } C => 2, } }"), "fnf(){matcha{C=>2,}}");
    assert_eq!(kept("fn f() { match a { C => 2, #[cfg(test)] B(_) => d() } }"), "fnf(){matcha{C=>2,}}");
}
