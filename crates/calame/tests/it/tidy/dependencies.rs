//! Which module and which crate may use which: the dependency table of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use super::source::UsedPath;
use super::{Breach, Source};

const PAGE: &str = "ARCHITECTURE.md";

/// The dependency table: the first fenced block after the line of the page that says `A: B means A may use B`.
///
/// An entry is `names: names`, both lists with commas; two or more spaces separate the entries of a line. An entry with
/// nothing after its colon may use only what all modules may use. `all` on the left is every module of the library, on the
/// right every module and crate. A remark in brackets may follow a name; `(feature)` marks an optional crate. Crates are
/// named with or without `calame-`.
pub struct Table {
    /// What each module or crate may use, by names without `calame-`.
    rows: BTreeMap<String, BTreeSet<String>>,
    /// What every module of the library may use.
    common: BTreeSet<String>,
    /// Crates that may only be optional dependencies.
    optional: BTreeSet<String>,
    /// The table's first line in the page.
    line: usize,
}

/// `calame-kernels` and `calame_kernels` are `kernels`; `calame` stays.
fn short_name(name: &str) -> &str {
    name.strip_prefix("calame-").or_else(|| name.strip_prefix("calame_")).unwrap_or(name)
}

impl Table {
    /// # Errors
    /// If the page has no table, or an entry that is not `names: names`, or two entries for a name.
    pub fn parse(page: &str) -> Result<Table, Breach> {
        let breach = |line: usize, rule: String| Breach { path: PAGE.into(), line, rule };
        let mut lines = page.lines().enumerate().skip_while(|(_, line)| !line.contains("A: B means A may use B"));
        let Some((first, _)) = lines.by_ref().find(|(_, line)| line.starts_with("```")) else {
            let expected = "a line with \"A: B means A may use B\" and after it a fenced block";
            return Err(breach(1, format!("expected {expected}, found none")));
        };
        let mut table =
            Table { rows: BTreeMap::new(), common: BTreeSet::new(), optional: BTreeSet::new(), line: first + 1 };
        for (i, line) in lines.take_while(|(_, line)| !line.starts_with("```")) {
            for entry in line.split("  ").map(str::trim).filter(|entry| !entry.is_empty()) {
                table.add(entry).map_err(|rule| breach(i + 1, rule))?;
            }
        }
        if table.rows.is_empty() {
            return Err(breach(first + 1, "the dependency table has no entry".into()));
        }
        Ok(table)
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        let Some((left, right)) = entry.split_once(':') else {
            return Err(format!("expected `names: names` between double spaces, found `{entry}`"));
        };
        let mut targets = BTreeSet::new();
        for name in right.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (name, remark) = name.split_once('(').unwrap_or((name, ""));
            let name = short_name(name.trim()).to_owned();
            if name.contains(char::is_whitespace) || name.contains(':') {
                return Err(format!("expected names separated by commas, found `{right}`"));
            }
            if remark.trim_end_matches(')') == "feature" {
                self.optional.insert(name.clone());
            }
            targets.insert(name);
        }
        for name in left.split(',').map(str::trim) {
            if name == "all" {
                self.common.extend(targets.iter().cloned());
            } else if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(format!("expected names separated by commas, found `{left}`"));
            } else if self.rows.insert(short_name(name).to_owned(), targets.clone()).is_some() {
                return Err(format!("`{name}` has two entries"));
            }
        }
        Ok(())
    }

    /// What module `name` of the library may use; none if the table does not name it.
    fn allowed<'a>(&'a self, name: &'a str) -> Option<BTreeSet<&'a str>> {
        let row = self.rows.get(name)?;
        Some(row.iter().chain(&self.common).map(String::as_str).chain([name]).collect())
    }
}

/// Breaches of `table` by the modules of the library.
pub fn module_dependencies(table: &Table, sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.is_in(&["crates/calame/src"])) {
        let module = source.module().unwrap_or_default();
        let Some(name) = module.first() else {
            continue;
        };
        let Some(allowed) = table.allowed(name) else {
            breaches.push(source.breach(1, format!("module `{name}` is not in the dependency table of {PAGE}")));
            continue;
        };
        for path in source.paths() {
            if let Some(target) = target(&path, &module)
                && !allowed.contains(target.as_str())
                && !allowed.contains("all")
            {
                let breach =
                    source.breach(path.line, format!("{name} may not use {target} ({PAGE}, dependency table)"));
                if breaches.last() != Some(&breach) {
                    breaches.push(breach);
                }
            }
        }
    }
    breaches
}

/// The module of the library, or the crate of ours, that a path in a file of `module` leads to.
fn target(path: &UsedPath, module: &[String]) -> Option<String> {
    let segments = &path.segments;
    match segments[0].as_str() {
        // Alone it is a visibility, `pub(crate)`.
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
        first => first.strip_prefix("calame_").map(str::to_owned),
    }
}

/// Breaches of `table` by the crates; `manifests` are (path, text) of the Cargo.toml files under crates/. The library may
/// depend on the crates that one of its modules may use.
pub fn crate_dependencies(table: &Table, manifests: &[(String, String)], sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut of_library = table.common.clone();
    for module in modules_of_library(sources) {
        of_library.extend(table.rows.get(&module).into_iter().flatten().cloned());
    }
    for (path, text) in manifests {
        let mut add = |rule: String| breaches.push(Breach { path: path.clone(), line: 1, rule });
        let manifest: toml::Table = text.parse().expect("a manifest that cargo reads");
        let name = manifest["package"]["name"].as_str().unwrap_or_default();
        let allowed = if name == "calame" { Some(&of_library) } else { table.rows.get(short_name(name)) };
        let Some(allowed) = allowed else {
            add(format!("crate `{name}` is not in the dependency table of {PAGE}"));
            continue;
        };
        for (used, is_optional) in dependencies(&manifest) {
            if used != "calame" && !used.starts_with("calame-") {
                continue;
            }
            let short = short_name(&used);
            if !allowed.contains(short) && !allowed.contains("all") {
                add(format!("{name} may not depend on {used} ({PAGE}, dependency table)"));
            } else if table.optional.contains(short) && !is_optional {
                add(format!("{name}'s dependency {used} must be optional ({PAGE}, dependency table)"));
            }
        }
    }
    breaches
}

fn modules_of_library(sources: &[Source]) -> BTreeSet<String> {
    let library = sources.iter().filter(|source| source.is_in(&["crates/calame/src"]));
    library.filter_map(|source| source.module()?.into_iter().next()).collect()
}

/// Names of `table` that are neither a crate of `manifests` nor a module of the library.
pub fn stale_names(table: &Table, manifests: &[(String, String)], sources: &[Source]) -> Vec<Breach> {
    let mut known = modules_of_library(sources);
    for (path, _) in manifests {
        let folder = path.trim_start_matches("crates/").trim_end_matches("/Cargo.toml");
        known.insert(short_name(folder).to_owned());
    }
    known.insert("all".into());
    let named: BTreeSet<&String> = table.rows.iter().flat_map(|(name, row)| row.iter().chain([name])).collect();
    let stale = named.into_iter().chain(&table.common).filter(|name| !known.contains(*name));
    let rule = |name: &String| format!("the dependency table names `{name}`, which is neither a module nor a crate");
    stale.map(|name| Breach { path: PAGE.into(), line: table.line, rule: rule(name) }).collect()
}

/// The packages in all dependency tables, including those of `target.*`, and whether each is optional.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else {
            continue;
        };
        if ["dependencies", "dev-dependencies", "build-dependencies"].contains(&key.as_str()) {
            for (name, detail) in table {
                let renamed = detail.get("package").and_then(toml::Value::as_str);
                let is_optional = detail.get("optional").and_then(toml::Value::as_bool) == Some(true);
                found.push((renamed.unwrap_or(name).to_owned(), is_optional));
            }
        } else if key == "target" {
            let targets = table.values().filter_map(toml::Value::as_table);
            found.extend(targets.flat_map(dependencies));
        }
    }
    found
}

// The rules on made-up sources.

use super::{lines, source};

const MADE_UP: &str = "# Page

Dependencies (A: B means A may use B and no other module of ours):

```text
kernels:                  tensor, rng: kernels          all: tensor, rng
ops: kernels              model: ops                    tokenizer:
data: tokenizer           dist: calame-mpi (feature)    train: model, ops, data, dist
calame-mpi:
calame-server: calame     calame-cli: all
```

ops: train
";

fn table() -> Table {
    Table::parse(MADE_UP).unwrap_or_else(|breach| panic!("{breach:?}"))
}

#[test]
fn the_table_is_read_with_lists_remarks_and_entries_side_by_side() {
    let table = table();
    let row = |name: &str| table.rows[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert!(row("kernels").is_empty());
    assert_eq!((row("tensor"), row("rng")), (vec!["kernels"], vec!["kernels"]));
    assert_eq!(row("train"), ["data", "dist", "model", "ops"]);
    assert_eq!(row("ops"), ["kernels"], "what follows the block is not part of it");
    assert_eq!((row("dist"), row("server"), row("cli")), (vec!["mpi"], vec!["calame"], vec!["all"]));
    assert_eq!(table.common.iter().collect::<Vec<_>>(), ["rng", "tensor"]);
    assert_eq!(table.optional.iter().collect::<Vec<_>>(), ["mpi"]);
    assert_eq!(table.rows.len(), 12);
}

#[test]
fn a_table_that_is_missing_or_malformed_is_found() {
    let line = |page: &str| Table::parse(page).err().map(|breach| breach.line);
    let page = |block: &str| format!("A: B means A may use B\n\n```text\n{block}\n```\n");
    assert_eq!(line(&page("ops: kernels")), None);
    assert_eq!(line(""), Some(1));
    assert_eq!(line("```text\nops: kernels\n```\n"), Some(1));
    assert_eq!(line(&page("")), Some(3));
    assert_eq!(line(&page("ops: kernels  model ops")), Some(4));
    assert_eq!(line(&page("ops: kernels model: ops")), Some(4));
    assert_eq!(line(&page("ops: kernels\nmodel, ops:")), Some(5));
    assert_eq!(line(&page("ops kernels:")), Some(4));
    assert_eq!(line(&page("ops, : kernels")), Some(4));
    assert_eq!(line(&page("kernels:\nkernels: ops")), Some(5));
}

#[test]
fn a_module_that_uses_what_it_may_not_is_found_however_it_is_written() {
    let model = |text: &str| lines(|s| module_dependencies(&table(), s), "crates/calame/src/model/gpt.rs", text);
    assert_eq!(model("use crate::train::metrics::Record;"), [1]);
    assert_eq!(model("use crate::{\n    ops::add,\n    train::{self, plot},\n};"), [3]);
    assert_eq!(model("\nfn f() { crate::infer::sampler::greedy() }"), [2]);
    assert_eq!(model("fn f() { assert!(crate::infer::ready()); }"), [1]);
    assert_eq!(model("fn f() { super::super::data::windows() }"), [1]);
    assert_eq!(model("mod inner {\n use super::super::super::data::x;\n}"), [2]);
    assert_eq!(model("use calame_kernels::gemm;"), [1]);
    assert_eq!(model("use calame_mpi::Communicator;"), [1]);
    assert_eq!(model("use crate::Gpt;"), [1]);
    let train = "use crate::infer::sampler;";
    assert_eq!(lines(|s| module_dependencies(&table(), s), "crates/calame/src/train/mod.rs", train), [1]);
}

#[test]
fn a_module_that_uses_what_it_may_is_left_alone() {
    let in_file = |path: &str, text: &str| lines(|s| module_dependencies(&table(), s), path, text);
    let model = |text: &str| in_file("crates/calame/src/model/gpt.rs", text);
    assert!(model("use crate::{ops, tensor::Tensor, rng, model::mlp::Mlp};").is_empty());
    assert!(model("use super::mlp; use self::inner::x; pub(crate) fn f() {}").is_empty());
    assert!(model("mod inner { use super::super::mlp; }").is_empty());
    assert!(model("/// crate::train\n// crate::train\nconst A: &str = \"crate::train\";").is_empty());
    assert!(model("#[cfg(test)]\nmod tests { use crate::train::metrics; }").is_empty());
    assert!(in_file("crates/calame/src/ops/mod.rs", "use calame_kernels::gemm;").is_empty());
    assert!(in_file("crates/calame/src/dist.rs", "use calame_mpi::Communicator;").is_empty());
    assert!(in_file("crates/calame/src/lib.rs", "pub use crate::model::Gpt;").is_empty());
}

#[test]
fn modules_crates_and_names_missing_on_either_side_are_found() {
    let utils = source("crates/calame/src/utils.rs", "");
    assert_eq!(module_dependencies(&table(), &[utils]).len(), 1);
    let names = ["tensor", "rng", "ops", "model", "tokenizer", "data", "dist", "train"];
    let mut sources: Vec<Source> =
        names.iter().map(|name| source(&format!("crates/calame/src/{name}.rs"), "")).collect();
    let crates = ["calame", "calame-kernels", "calame-mpi", "calame-server", "calame-cli"];
    let manifest = |name: &&str| (format!("crates/{name}/Cargo.toml"), String::new());
    let mut manifests: Vec<_> = crates.iter().map(manifest).collect();
    assert_eq!(stale_names(&table(), &manifests, &sources), []);
    sources.pop();
    manifests.pop();
    let stale: Vec<String> = stale_names(&table(), &manifests, &sources).into_iter().map(|b| b.rule).collect();
    assert_eq!(stale.len(), 2, "{stale:?}");
    assert!(stale[0].contains("`cli`") && stale[1].contains("`train`"), "{stale:?}");
}

#[test]
fn a_crate_that_depends_upwards_or_needs_an_optional_crate_is_found() {
    let sources = [source("crates/calame/src/ops.rs", ""), source("crates/calame/src/dist.rs", "")];
    let manifest = |name: &str, rest: &str| {
        let path = format!("crates/{name}/Cargo.toml");
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        crate_dependencies(&table(), &[(path, text)], &sources).len()
    };
    assert_eq!(manifest("calame", "[dependencies]\ncalame-kernels = \"1\"\nserde = \"1\""), 0);
    assert_eq!(manifest("calame", "[dependencies]\ncalame-cli.workspace = true"), 1);
    assert_eq!(manifest("calame-kernels", "[dev-dependencies]\ncalame.workspace = true"), 1);
    assert_eq!(manifest("calame-server", "[dependencies]\nk = { package = \"calame-kernels\" }"), 1);
    assert_eq!(manifest("calame", "[target.'cfg(unix)'.dependencies]\ncalame-server = \"1\""), 1);
    assert_eq!(manifest("calame-cli", "[dependencies]\ncalame = \"1\"\ncalame-kernels = \"1\""), 0);
    assert_eq!(manifest("calame-extra", ""), 1);
    assert_eq!(manifest("calame", "[dependencies]\ncalame-mpi = { path = \"../calame-mpi\", optional = true }"), 0);
    assert_eq!(manifest("calame", "[dependencies]\ncalame-mpi.workspace = true"), 1);
}
