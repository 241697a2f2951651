//! Lengths of files and functions.

use std::collections::BTreeSet;

use proc_macro2::TokenTree;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::source::{ident, is_for_tests, is_punct};
use super::{Breach, Source};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;

/// Lines of a file outside its test modules, and lines of each function.
pub fn sizes(sources: &[Source]) -> Vec<Breach> {
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

// The rule on made-up sources.

use super::{lines, source};

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
