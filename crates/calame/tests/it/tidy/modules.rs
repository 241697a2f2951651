//! The modules of a crate with the names they define and import, and the resolution of paths to files.
//!
//! A path leads to the file that defines the item, however many re-exports lie between: a `use` of `model::Gpt` leads to
//! `model/gpt.rs`. Names made by macros are attributed to the module that a path names.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

type ModuleId = usize;
type FileId = usize;

/// All modules of one crate; the first is its root.
pub struct Modules<'a> {
    pub files: Vec<File<'a>>,
    modules: Vec<Module>,
}

pub struct File<'a> {
    pub source: &'a Source,
    pub syntax: syn::File,
    pub module: ModuleId,
}

struct Module {
    file: FileId,
    path: Vec<String>,
    parent: Option<ModuleId>,
    children: BTreeMap<String, ModuleId>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
}

/// One name, or everything, that a `use` brings into a module.
pub struct Import {
    pub name: Option<String>,
    pub path: Vec<String>,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(ModuleId),
    Item(FileId),
}

impl<'a> Modules<'a> {
    /// The modules of the files in a crate's src folder, whose root comes first in `sources`.
    pub fn of_crate(sources: impl Iterator<Item = &'a Source>) -> Modules<'a> {
        let mut crate_modules = Modules { files: Vec::new(), modules: Vec::new() };
        let mut sources: Vec<&Source> = sources.collect();
        // Parents first.
        sources.sort_by_key(|source| source.module().map_or(0, |module| module.len()));
        for source in sources {
            let Some(path) = source.module() else {
                continue;
            };
            let parent = (!path.is_empty()).then(|| crate_modules.ancestor(&path));
            let file = crate_modules.files.len();
            let module = crate_modules.add_module(file, path, parent);
            let syntax = source.syntax_outside_tests();
            crate_modules.add_items(module, &syntax.items);
            crate_modules.files.push(File { source, syntax, module });
        }
        crate_modules
    }

    /// The innermost module that contains `path`, so that files whose parent is missing are found too.
    fn ancestor(&self, path: &[String]) -> ModuleId {
        let mut module = 0;
        for name in &path[..path.len() - 1] {
            match self.modules[module].children.get(name) {
                Some(&child) => module = child,
                None => break,
            }
        }
        module
    }

    fn add_module(&mut self, file: FileId, path: Vec<String>, parent: Option<ModuleId>) -> ModuleId {
        let id = self.modules.len();
        if let (Some(parent), Some(name)) = (parent, path.last()) {
            self.modules[parent].children.insert(name.clone(), id);
        }
        let (children, items, imports) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        self.modules.push(Module { file, path, parent, children, items, imports });
        id
    }

    fn add_items(&mut self, module: ModuleId, items: &[syn::Item]) {
        for item in items {
            match item {
                syn::Item::Use(used) => self.modules[module].imports.extend(imports(&used.tree)),
                syn::Item::Mod(inline) => {
                    // Those without braces are files.
                    if let Some((_, items)) = &inline.content {
                        let mut path = self.modules[module].path.clone();
                        path.push(inline.ident.to_string());
                        let child = self.add_module(self.modules[module].file, path, Some(module));
                        self.add_items(child, items);
                    }
                }
                item => self.modules[module].items.extend(name_of(item)),
            }
        }
    }

    /// The module `path` below `module`.
    pub fn inline_module(&self, module: ModuleId, path: &[String]) -> ModuleId {
        path.iter().fold(module, |module, name| self.modules[module].children.get(name).copied().unwrap_or(module))
    }

    /// Whether file `inner` belongs to a module inside file `outer`'s.
    pub fn contains(&self, outer: FileId, inner: FileId) -> bool {
        let (outer, inner) = (self.files[outer].module, self.files[inner].module);
        self.modules[inner].path.starts_with(&self.modules[outer].path)
    }

    /// The files that define what `path` names in `module`; empty for other crates, local variables and modules.
    pub fn files_of(&self, path: &[String], module: ModuleId) -> BTreeSet<FileId> {
        let targets = self.resolve(path, module, &mut BTreeSet::new());
        let files = targets.into_iter().filter_map(|target| match target {
            Target::Item(file) => Some(file),
            Target::Module(_) => None,
        });
        files.collect()
    }

    fn resolve(&self, path: &[String], module: ModuleId, visited: &mut Visited) -> BTreeSet<Target> {
        let Some((first, rest)) = path.split_first() else {
            return BTreeSet::new();
        };
        let mut targets = match first.as_str() {
            "crate" => [Target::Module(0)].into(),
            "self" => [Target::Module(module)].into(),
            "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
            name => self.lookup(name, module, visited),
        };
        for name in rest {
            targets = targets.into_iter().flat_map(|target| self.step(target, name, visited)).collect();
        }
        targets
    }

    /// What `name` after `target` in a path leads to.
    fn step(&self, target: Target, name: &str, visited: &mut Visited) -> BTreeSet<Target> {
        let Target::Module(module) = target else {
            // A variant or an associated function is where its type is.
            return [target].into();
        };
        match name {
            "self" => [target].into(),
            "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
            name => {
                let found = self.lookup(name, module, visited);
                let by_macro = found.is_empty().then_some(Target::Item(self.modules[module].file));
                found.into_iter().chain(by_macro).collect()
            }
        }
    }

    /// What `name` means in `module`: its own items and modules, then imports, then glob imports.
    fn lookup(&self, name: &str, module: ModuleId, visited: &mut Visited) -> BTreeSet<Target> {
        if !visited.insert((module, name.to_owned())) {
            return BTreeSet::new();
        }
        let here = &self.modules[module];
        let mut found: BTreeSet<Target> = here.children.get(name).copied().map(Target::Module).into_iter().collect();
        if here.items.contains(name) {
            found.insert(Target::Item(here.file));
        }
        let named = here.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        for import in named {
            found.extend(self.resolve(&import.path, module, visited));
        }
        if found.is_empty() {
            for import in here.imports.iter().filter(|import| import.name.is_none()) {
                for target in self.resolve(&import.path, module, visited) {
                    if let Target::Module(module) = target {
                        found.extend(self.lookup(name, module, visited));
                    }
                }
            }
        }
        visited.remove(&(module, name.to_owned()));
        found
    }
}

/// Names being looked up, so that imports of each other end.
type Visited = BTreeSet<(ModuleId, String)>;

/// The imports of a `use`, one for each name.
pub fn imports(tree: &syn::UseTree) -> Vec<Import> {
    let mut found = Vec::new();
    collect_imports(tree, &mut Vec::new(), &mut found);
    found
}

fn collect_imports(tree: &syn::UseTree, prefix: &mut Vec<String>, found: &mut Vec<Import>) {
    let with = |ident: &syn::Ident, prefix: &[String]| {
        let mut path = prefix.to_vec();
        path.push(ident.to_string());
        path
    };
    let line = |span: proc_macro2::Span| span.start().line;
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            collect_imports(&path.tree, prefix, found);
            prefix.pop();
        }
        syn::UseTree::Name(name) => {
            let path = with(&name.ident, prefix);
            // `use a::{self}` imports `a`.
            let named = path.iter().rev().find(|segment| *segment != "self").cloned();
            found.push(Import { name: named, path, line: line(name.ident.span()) });
        }
        syn::UseTree::Rename(rename) => {
            let name = Some(rename.rename.to_string());
            found.push(Import { name, path: with(&rename.ident, prefix), line: line(rename.ident.span()) });
        }
        syn::UseTree::Glob(glob) => {
            found.push(Import { name: None, path: prefix.clone(), line: line(glob.star_token.spans[0]) });
        }
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                collect_imports(tree, prefix, found);
            }
        }
    }
}

/// The name that an item defines in its module.
fn name_of(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::TraitAlias(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

#[test]
fn a_path_leads_to_the_file_that_defines_the_item() {
    let sources = [
        super::source("crates/a/src/lib.rs", "pub mod m; mod r; pub use m::{Inner as Outer, deep::*}; fn root() {}"),
        super::source("crates/a/src/m/mod.rs", "mod b; pub mod deep; pub use b::Inner; use crate::r; made! { x }"),
        super::source("crates/a/src/m/b.rs", "pub struct Inner; use super::deep; mod own { pub fn f() {} }"),
        super::source("crates/a/src/m/deep.rs", "pub fn d() {} pub use super::super::r::thing;"),
        super::source("crates/a/src/r.rs", "pub fn thing() {} use again;"),
    ];
    let modules = Modules::of_crate(sources.iter());
    let at = |file: &str| modules.files.iter().position(|f| f.source.path.ends_with(file)).expect("a file");
    let resolve = |from: &str, path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        let files = modules.files_of(&path, modules.files[at(from)].module);
        files.into_iter().map(|file| modules.files[file].source.path.trim_start_matches("crates/a/src/")).collect()
    };
    let leads = |from: &str, path: &str, to: &str| {
        let files: Vec<&str> = resolve(from, path);
        let expected: Vec<&str> = [to].into_iter().filter(|to| !to.is_empty()).collect();
        assert_eq!(files, expected, "{path} in {from}");
    };
    leads("lib.rs", "Outer", "m/b.rs");
    leads("r.rs", "crate::Outer::new", "m/b.rs");
    leads("r.rs", "crate::m::Inner", "m/b.rs");
    leads("r.rs", "super::root", "lib.rs");
    leads("lib.rs", "d", "m/deep.rs");
    leads("m/b.rs", "crate::thing", "r.rs");
    leads("m/b.rs", "super::Inner", "m/b.rs");
    leads("m/b.rs", "super::r::thing", "r.rs");
    leads("m/b.rs", "deep::d", "m/deep.rs");
    leads("m/b.rs", "self::own::f", "m/b.rs");
    leads("m/b.rs", "super::from_a_macro", "m/mod.rs");
    leads("m/b.rs", "super::deep", "");
    leads("m/b.rs", "std::mem::swap", "");
    leads("m/b.rs", "Self::new", "");
    leads("r.rs", "again", "");
}
