//! Files of a crate that import each other, directly or through other files.
//!
//! A file uses another if it imports or names an item that the other defines, or has an `impl` for its type. `mod` and the
//! re-exports of a module's own children are no use: a parent may list what its children define, and a child may reach its
//! siblings through the parent. Test code does not count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proc_macro2::TokenTree;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::modules::{Import, Modules, imports};
use super::source::{UsedPath, collect_paths};
use super::{Breach, Source};

/// Which file of a crate uses which, by paths from the root of the repository.
pub struct Graph {
    /// For each file, the files that it uses, each with the first line that does and the path on that line.
    uses: BTreeMap<String, BTreeMap<String, (usize, String)>>,
}

/// A use that makes a cycle and is still allowed: the first file should not use the second.
pub type AllowedUse<'a> = (&'a str, &'a str);

impl Graph {
    /// The uses among the files of all crates.
    pub fn of(sources: &[Source]) -> Graph {
        let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
        for source in sources {
            if let (Some((name, _)), Some(_)) = (source.split_crate(), source.module()) {
                crates.entry(name).or_default().push(source);
            }
        }
        let mut uses = BTreeMap::new();
        for sources in crates.into_values() {
            let modules = Modules::of_crate(sources.into_iter());
            for (file, parsed) in modules.files.iter().enumerate() {
                let mut visitor = UseVisitor { modules: &modules, file, inline: Vec::new(), uses: BTreeMap::new() };
                visitor.visit_file(&parsed.syntax);
                uses.insert(parsed.source.path.clone(), visitor.uses);
            }
        }
        Graph { uses }
    }

    fn without(&self, allowed: &[AllowedUse<'_>]) -> Graph {
        let mut uses = self.uses.clone();
        for (file, used) in allowed {
            uses.get_mut(*file).and_then(|uses| uses.remove(*used));
        }
        Graph { uses }
    }

    /// The shortest way from one file to another, both included; if they are equal, the shortest cycle.
    fn way(&self, from: &str, to: &str) -> Option<Vec<&str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue: VecDeque<&str> = [self.uses.get_key_value(from)?.0.as_str()].into();
        while let Some(file) = queue.pop_front() {
            for next in self.uses.get(file)?.keys() {
                if next == to {
                    let (mut way, mut at) = (vec![next.as_str(), file], file);
                    while at != from {
                        at = before[at];
                        way.push(at);
                    }
                    way.reverse();
                    return Some(way);
                }
                if next != from && !before.contains_key(next.as_str()) {
                    before.insert(next, file);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// The shortest cycle through each file, each cycle once.
    fn cycles(&self) -> Vec<Vec<&str>> {
        let mut seen = BTreeSet::new();
        let cycles = self.uses.keys().filter_map(|file| self.way(file, file));
        let new = cycles.filter(|cycle| seen.insert(cycle.iter().copied().collect::<BTreeSet<&str>>()));
        new.collect()
    }
}

/// Cycles that remain without the uses in `allowed`, and entries of `allowed` that are no longer needed.
pub fn import_cycles(graph: &Graph, allowed: &[AllowedUse<'_>]) -> Vec<Breach> {
    let rest = graph.without(allowed);
    let mut breaches: Vec<Breach> = rest.cycles().iter().map(|cycle| describe(graph, cycle)).collect();
    for (i, (file, used)) in allowed.iter().enumerate() {
        let mut others = allowed.to_vec();
        others.remove(i);
        let closes = graph.uses.get(*file).is_some_and(|uses| uses.contains_key(*used));
        if !closes || graph.without(&others).way(used, file).is_none() {
            let rule = format!("the allowed use of {used} makes no cycle any more: remove it from the list");
            breaches.push(Breach { path: (*file).to_owned(), line: 1, rule });
        }
    }
    breaches
}

/// The cycle with the line of each use, reported at its first.
fn describe(graph: &Graph, cycle: &[&str]) -> Breach {
    let mut rule = String::from("files import each other:");
    let mut first_line = 1;
    for (i, pair) in cycle.windows(2).enumerate() {
        let (line, path) = &graph.uses[pair[0]][pair[1]];
        if i == 0 {
            first_line = *line;
        }
        rule += &format!("\n    {}:{line}: `{path}` is in {}", pair[0], pair[1]);
    }
    Breach { path: cycle[0].to_owned(), line: first_line, rule }
}

/// Collects the uses of one file.
struct UseVisitor<'a> {
    modules: &'a Modules<'a>,
    file: usize,
    /// The inline modules around the visited item.
    inline: Vec<String>,
    uses: BTreeMap<String, (usize, String)>,
}

impl UseVisitor<'_> {
    fn module(&self, inline: &[String]) -> usize {
        self.modules.inline_module(self.modules.files[self.file].module, inline)
    }

    fn add(&mut self, path: &[String], line: usize, inline: &[String], is_export: bool) {
        for file in self.modules.files_of(path, self.module(inline)) {
            if file != self.file && !(is_export && self.modules.contains(self.file, file)) {
                let used = &self.modules.files[file].source.path;
                self.uses.entry(used.clone()).or_insert_with(|| (line, path.join("::")));
            }
        }
    }

    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut paths = Vec::new();
        collect_paths(&tokens, &self.inline, &mut paths);
        for UsedPath { segments, line, modules, is_member, .. } in paths {
            if !is_member {
                self.add(&segments, line, &modules, false);
            }
        }
    }
}

impl<'ast> Visit<'ast> for UseVisitor<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inline.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, used: &'ast syn::ItemUse) {
        let is_export = !matches!(used.vis, syn::Visibility::Inherited);
        let inline = self.inline.clone();
        for Import { path, line, .. } in imports(&used.tree) {
            self.add(&path, line, &inline, is_export);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let inline = self.inline.clone();
        self.add(&segments, path.span().start().line, &inline, false);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    /// A visibility is no use of the module that it names.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        // `#[serde(default = "super::default_recipe")]`.
        if let syn::Meta::List(list) = &attribute.meta
            && list.path.is_ident("serde")
        {
            for token in list.tokens.clone() {
                if let TokenTree::Literal(literal) = &token
                    && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                    && let Ok(path) = text.parse::<syn::Path>()
                {
                    let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
                    let inline = self.inline.clone();
                    self.add(&segments, token.span().start().line, &inline, false);
                }
            }
        }
    }
}

// The rule on made-up sources.

use super::source;

/// The cycles among made-up files of one crate, given as (path in src, text), as lists of paths in src.
fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources: Vec<Source> = files.iter().map(|(path, text)| source(&format!("crates/a/src/{path}"), text)).collect();
    let graph = Graph::of(&sources);
    let short = |path: &&str| path.trim_start_matches("crates/a/src/").to_owned();
    graph.cycles().iter().map(|cycle| cycle.iter().map(short).collect()).collect()
}

#[test]
fn files_that_use_each_other_are_found_however_it_is_written() {
    let root = ("lib.rs", "mod a; mod b;");
    let b =
        ("b.rs", "use crate::a::A; pub struct B(A); pub trait Do {} pub fn do_b() {} pub(crate) use do_b as again;");
    let cycle = [["a.rs", "b.rs", "a.rs"]];
    for a in [
        "use crate::b::B; pub struct A;",
        "use crate::{b::{B as Other, self}}; pub struct A;",
        "use super::b; pub struct A; fn f() { b::do_b() }",
        "pub struct A; fn f() { super::b::do_b() }",
        "pub struct A; fn f() { assert!(crate::b::B::ok()); }",
        "pub struct A; fn f(x: &dyn crate::b::Do) {}",
        "pub struct A; impl crate::b::Do for A {}",
        "pub struct A; impl crate::b::B { fn more(&self) {} }",
        "pub struct A; mod inner { use super::super::b::B; }",
        "pub struct A; fn f() { use crate::b::B; }",
        "pub use crate::b::B; pub struct A;",
        "pub struct A; fn f() { match x { crate::b::B(_) => {} } }",
        "macro_rules! m { () => { $crate::b::do_b() } } pub struct A;",
        "pub struct A { #[serde(default = \"crate::b::do_b\")] x: u8 }",
        "use crate::b::*; pub struct A; fn f() { do_b() }",
        "use crate::b::again; pub struct A;",
    ] {
        assert_eq!(found(&[root, ("a.rs", a), b]), cycle, "{a}");
    }
}

#[test]
fn files_that_only_one_way_use_each_other_are_left_alone() {
    let root = ("lib.rs", "mod a; mod b; pub use a::A;");
    let b = ("b.rs", "use crate::a::A; pub struct B(A); pub fn do_b() {}");
    for a in [
        "pub struct A;",
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "pub struct A; #[cfg(test)] use crate::b::{B, do_b};",
        "/// [`crate::b::B`]\npub struct A; const C: &str = \"crate::b::B\";",
        "pub struct A; use std::b::B; fn f() { other::b::B::new() }",
        "pub(in crate::b) struct A;",
        "pub struct A; fn f() { A::do_b(); x.do_b(); let B = 1; assert!(x.B); }",
        "use crate::b; pub struct A;",
    ] {
        assert!(found(&[root, ("a.rs", a), b]).is_empty(), "{a}");
    }
}

#[test]
fn re_exports_of_children_are_resolved_and_make_no_cycle() {
    let root = ("lib.rs", "pub mod m; pub use m::{Gpt, Config};");
    let gpt = "use super::Config; use super::layer::Layer; pub struct Gpt(Config, Layer);";
    let layer = ("m/layer.rs", "pub struct Layer; fn f() { crate::Config::new() }");
    let config = ("m/config.rs", "pub struct Config;");
    let files = |parent: &'static str, gpt: &'static str| {
        found(&[root, ("m/mod.rs", parent), ("m/gpt.rs", gpt), layer, config])
    };
    assert!(files("mod gpt; mod layer; mod config; pub use gpt::Gpt; pub use config::*;", gpt).is_empty());
    assert!(
        files("mod gpt; mod layer; mod config; use config::Config; pub use gpt::Gpt; pub use config::Config;", gpt)
            .is_empty()
    );
    // The parent defines what the child uses: one way only is fine.
    let uses_parent = "use super::Shape; pub struct Gpt;";
    assert!(files("mod gpt; mod layer; pub use gpt::Gpt; pub struct Shape;", uses_parent).is_empty());
    let both = [["m/gpt.rs", "m/mod.rs", "m/gpt.rs"]];
    assert_eq!(files("mod gpt; mod layer; pub use gpt::Gpt; pub struct Shape(Gpt);", uses_parent), both);
    assert_eq!(files("mod gpt; mod layer; use gpt::Gpt; pub struct Shape;", uses_parent), both);
    // Through a re-export the cycle is between the files that define.
    let sibling = "use super::Config; pub struct Gpt;";
    let config = ("m/config.rs", "pub struct Config(super::Gpt);");
    let parent = "mod gpt; mod config; pub use gpt::Gpt; pub use config::Config;";
    let cycle = [["m/config.rs", "m/gpt.rs", "m/config.rs"]];
    assert_eq!(found(&[root, ("m/mod.rs", parent), ("m/gpt.rs", sibling), config]), cycle);
}

#[test]
fn a_cycle_over_several_files_is_reported_with_its_lines() {
    let sources = [
        source("crates/a/src/main.rs", "mod a; mod b; mod c;"),
        source("crates/a/src/a.rs", "\nuse crate::b::f;\npub fn e() {}"),
        source("crates/a/src/b.rs", "pub fn f() {\n\n crate::c::g() }"),
        source("crates/a/src/c.rs", "pub fn g() { crate::a::e() }"),
        // A crate of the same shape is not mixed up with it.
        source("crates/d/src/lib.rs", "mod a;"),
        source("crates/d/src/a.rs", "pub fn e() {}"),
    ];
    let graph = Graph::of(&sources);
    let breaches = import_cycles(&graph, &[]);
    assert_eq!(breaches.len(), 1, "{breaches:?}");
    assert_eq!((breaches[0].path.as_str(), breaches[0].line), ("crates/a/src/a.rs", 2));
    for part in ["src/a.rs:2: `crate::b::f`", "src/b.rs:3: `crate::c::g`", "src/c.rs:1: `crate::a::e`"] {
        assert!(breaches[0].rule.contains(part), "{}", breaches[0].rule);
    }
    let (a, b, c) = ("crates/a/src/a.rs", "crates/a/src/b.rs", "crates/a/src/c.rs");
    assert_eq!(import_cycles(&graph, &[(b, c)]), []);
    // Entries that are not needed: no such use, no cycle through it, a second for the same cycle.
    assert_eq!(import_cycles(&graph, &[(b, c), (c, b)]).len(), 1);
    assert_eq!(import_cycles(&graph, &[(b, c), (a, b)]).len(), 2);
    assert_eq!(import_cycles(&graph, &[("crates/a/src/gone.rs", b), (c, a)]).len(), 1);
    let mended = source("crates/a/src/c.rs", "pub fn g() {}");
    let [root, a_text, b_text] = [0, 1, 2].map(|i| sources[i].text.as_str());
    let graph = Graph::of(&[source("crates/a/src/main.rs", root), source(a, a_text), source(b, b_text), mended]);
    assert_eq!(import_cycles(&graph, &[]), []);
    let stale = import_cycles(&graph, &[(b, c)]);
    assert_eq!(stale.len(), 1);
    assert!(stale[0].rule.contains("remove it from the list"), "{}", stale[0].rule);
}
