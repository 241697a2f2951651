//! What may appear in certain places only: `unsafe`, the clock, files, storage variants.

use super::source::{UsedPath, lines_of_ident};
use super::{Breach, Source};

/// Where the library may open files.
const MAY_OPEN_FILES: [&str; 6] = [
    "crates/calame/src/files",
    "crates/calame/src/formats",
    "crates/calame/src/data",
    "crates/calame/src/tokenizer",
    "crates/calame/src/train/checkpoints",
    "crates/calame/src/run",
];

/// Where the variants of `Storage`, the enum of a tensor's memory, may be named.
const MAY_MATCH_STORAGE: [&str; 2] = ["crates/calame/src/ops", "crates/calame/src/tensor"];

/// Where the type may be named too: what a device must implement includes taking memory.
const MAY_NAME_STORAGE: [&str; 1] = ["crates/calame/src/device"];

/// Where a tensor's elements may be read and written as slices.
const MAY_READ_ELEMENTS: [&str; 3] = ["crates/calame/src/ops", "crates/calame/src/tensor", "crates/calame/src/formats"];

/// The methods of `Tensor` that return its elements as slices.
const ELEMENT_METHODS: [&str; 2] = ["host", "host_mut"];

/// `unsafe` outside calame-kernels, and crate roots that do not forbid it.
pub fn unsafety(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        let Some((krate, inside)) = source.split_crate() else {
            continue;
        };
        // A test binary of its own, such as the one with the counting allocator, may need it.
        let is_own_binary = inside.starts_with("tests/") && !inside.starts_with("tests/it/");
        if krate == "calame-kernels" || is_own_binary {
            continue;
        }
        for line in lines_of_ident(source.tokens(), "unsafe") {
            let rule = "`unsafe` is confined to calame-kernels (ARCHITECTURE.md, rule 9)";
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

/// Committed configuration that names a processor, though the program chooses its instructions when it runs.
pub fn configuration(files: &[(String, String)]) -> Vec<Breach> {
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

/// Macros that mark unfinished work, everywhere; printing, exiting, the clock and the environment, in the library.
pub fn forbidden(sources: &[Source]) -> Vec<Breach> {
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

/// Files of the library that open files without being in [`MAY_OPEN_FILES`].
pub fn file_opening(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.is_numeric_or_library() && !source.is_in(&MAY_OPEN_FILES)) {
        for path in source.paths() {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let opens = segments.windows(2).any(|two| two == ["std", "fs"])
                || (["fs", "File", "OpenOptions"].contains(&segments[0]) && segments.len() > 1);
            if opens {
                let rule =
                    format!("`{}`: files are opened elsewhere (ARCHITECTURE.md, rule 7)", path.segments.join("::"));
                breaches.push(source.breach(path.line, rule));
            }
        }
    }
    breaches
}

/// Where files are opened and written: the one implementation of each way to do it.
const MAY_TOUCH_FILES: [&str; 1] = ["crates/calame/src/files"];

/// Where the system's own files, in /proc and /sys, are read.
const MAY_READ_SYSTEM: [&str; 1] = ["crates/calame-cli/src/training/memory"];

/// Functions of the standard library that write files in a way of their own: a kill, a full disk or another program can
/// spoil what was there.
const WRITING: [[&str; 2]; 7] = [
    ["File", "create"],
    ["File", "create_new"],
    ["File", "options"],
    ["fs", "write"],
    ["fs", "rename"],
    ["fs", "copy"],
    ["fs", "hard_link"],
];

/// Functions that read files without refusing FIFOs and devices, or without a limit.
const READING: [[&str; 2]; 3] = [["File", "open"], ["fs", "read"], ["fs", "read_to_string"]];

/// Files of the library and the program that write or open files by other functions than those of `files/`.
pub fn file_access(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| !source.is_in(&MAY_TOUCH_FILES)) {
        // Tests in files of their own are behind an attribute of their parent.
        if source.module().is_none_or(|module| module.last().is_some_and(|name| name == "tests")) {
            continue;
        }
        for path in source.paths().iter().filter(|path| !path.is_member) {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let has = |list: &[[&str; 2]]| segments.windows(2).any(|pair| list.iter().any(|listed| pair == listed));
            let rule = if has(&WRITING) || segments.contains(&"OpenOptions") {
                "files are written by the functions of files/, which replace them atomically (ARCHITECTURE.md, rule 8)"
            } else if has(&READING) && !source.is_in(&MAY_READ_SYSTEM) {
                "files are opened by the functions of files/, which refuse FIFOs and devices (ARCHITECTURE.md, rule 8)"
            } else {
                continue;
            };
            breaches.push(source.breach(path.line, format!("`{}`: {rule}", path.segments.join("::"))));
        }
    }
    breaches
}

/// Uses of `Storage` outside [`MAY_MATCH_STORAGE`]: its variants, and outside [`MAY_NAME_STORAGE`] also the type by its path
/// or import.
pub fn storage_variants(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_some() && !source.is_in(&MAY_MATCH_STORAGE)) {
        for path in source.paths() {
            let Some(at) = path.segments.iter().position(|segment| segment == "Storage") else {
                continue;
            };
            // A variant of another enum may have the name.
            let is_type = at == 0 || path.segments[at - 1].starts_with(char::is_lowercase);
            let is_variant = at + 1 < path.segments.len();
            if is_type && (is_variant || (at > 0 && !source.is_in(&MAY_NAME_STORAGE))) {
                let rule = "only ops/ and tensor/ match on a tensor's storage (ARCHITECTURE.md)";
                breaches.push(source.breach(path.line, format!("`{}`: {rule}", path.segments.join("::"))));
            }
        }
    }
    breaches
}

/// Files of the library that read a tensor's elements as slices without being in [`MAY_READ_ELEMENTS`].
pub fn element_access(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let library = sources.iter().filter(|source| source.is_in(&["crates/calame/src"]));
    for source in library.filter(|source| !source.is_in(&MAY_READ_ELEMENTS)) {
        for path in source.paths() {
            let is_method = path.is_member || path.segments.len() > 1;
            if is_method && path.segments.last().is_some_and(|last| ELEMENT_METHODS.contains(&last.as_str())) {
                let rule = "only ops/, tensor/ and the file formats read a tensor's elements (ARCHITECTURE.md)";
                breaches.push(source.breach(path.line, format!("`{}`: {rule}", path.segments.join("::"))));
            }
        }
    }
    breaches
}

// The rules on made-up sources.

use super::lines;

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
        for path in
            ["run/plot.rs", "data/corpus.rs", "data.rs", "tokenizer/mod.rs", "formats/hf.rs", "train/checkpoints.rs"]
        {
            let path = format!("crates/calame/src/{path}");
            assert!(lines(file_opening, &path, text).is_empty(), "{path}: {text}");
        }
        assert!(lines(file_opening, "crates/calame-cli/src/main.rs", text).is_empty());
    }
}

#[test]
fn files_written_or_opened_in_another_way_are_found() {
    let program = |text: &str| lines(file_access, "crates/calame-cli/src/verbs/plot.rs", text);
    let library = |text: &str| lines(file_access, "crates/calame/src/formats/gguf/file.rs", text);
    for text in [
        "fn f() { File::create(p); }",
        "fn f() { std::fs::File::create_new(p); }",
        "fn f() { File::options().append(true).open(p); }",
        "use std::fs::OpenOptions;",
        "fn f() { OpenOptions::new().write(true).open(p); }",
        "fn f() { fs::write(p, b); }",
        "use std::fs::{self, rename};",
        "fn f() { std::fs::rename(a, b); }",
        "fn f() { fs::copy(a, b); fn g() {} }",
        "fn f() { xs.map(fs::read); }",
        "fn f() { File::open(p); }",
        "fn f() { let text = format!(\"{}\", std::fs::read_to_string(p)); }",
    ] {
        assert_eq!(program(text), [1], "{text}");
        assert_eq!(library(text), [1], "{text}");
        for elsewhere in
            ["crates/calame/src/files/open.rs", "crates/calame/tests/it/a.rs", "crates/calame-cli/src/net/hub/tests.rs"]
        {
            assert!(lines(file_access, elsewhere, text).is_empty(), "{elsewhere}: {text}");
        }
    }
    for text in [
        "fn f() { files::open_file(p); replace_bytes(p, b); PositionedFile::open(p); }",
        "fn f() { fs::read_dir(p); fs::create_dir_all(p); fs::metadata(p); file.read(b); file.write(b); }",
        "// fs::write\nconst A: &str = \"File::create\";",
        "#[cfg(test)]\nmod tests { fn f() { fs::write(p, b); } }",
        "use std::fs::File; struct A { file: File }",
    ] {
        assert!(program(text).is_empty() && library(text).is_empty(), "{text}");
    }
    let memory = |text: &str| lines(file_access, "crates/calame-cli/src/training/memory.rs", text);
    assert!(memory("fn f() { fs::read_to_string(p); }").is_empty());
    assert_eq!(memory("fn f() { fs::write(p, b); }"), [1]);
}

#[test]
fn storage_named_elsewhere_is_found() {
    let in_file = |path: &str, text: &str| lines(storage_variants, &format!("crates/calame/src/{path}"), text);
    for text in [
        "fn f() { match s { Storage::F32(x) => x } }",
        "use crate::tensor::Storage;",
        "use crate::{ops, tensor::{Tensor, Storage}};",
        "use super::tensor::Storage as S;",
        "fn f(s: &crate::tensor::Storage) {}",
        "fn f() { matches!(s, Storage::Bf16(_)) }",
    ] {
        assert_eq!(in_file("model/gpt.rs", text), [1], "{text}");
        assert_eq!(lines(storage_variants, "crates/calame-cli/src/main.rs", text), [1], "{text}");
        for path in ["ops/linear.rs", "tensor/storage.rs", "tensor.rs"] {
            assert!(in_file(path, text).is_empty(), "{path}: {text}");
        }
    }
    for text in [
        "enum Known { Storage(u8) } fn f() { Known::Storage(1) }",
        "// Storage::F32\nconst A: &str = \"Storage::F32\";",
        "#[cfg(test)]\nmod tests { use crate::tensor::Storage; }",
        "use crate::tensor::StorageKind;",
    ] {
        assert!(in_file("formats/torch/pickle.rs", text).is_empty(), "{text}");
    }
    let device = |text: &str| in_file("device/backend.rs", text);
    assert!(device("use crate::tensor::Storage; trait Backend { fn zeros(&self) -> Storage; }").is_empty());
    assert_eq!(device("use crate::tensor::Storage;\nfn f() { matches!(s, Storage::F32(_)) }"), [2]);
}

#[test]
fn elements_read_elsewhere_are_found() {
    let in_file = |path: &str, text: &str| lines(element_access, &format!("crates/calame/src/{path}"), text);
    for text in [
        "fn f() { self.x.host() }",
        "fn f() { x.host_mut()[0] = 1.0; }",
        "fn f() { xs.iter().map(Tensor::host) }",
        "fn f() { assert_eq!(x.host()[0], 1.0); }",
    ] {
        assert_eq!(in_file("model/gpt.rs", text), [1], "{text}");
        for path in ["ops/linear.rs", "tensor/mod.rs", "tensor.rs", "formats/llmc/mod.rs", "formats/gguf/mod.rs"] {
            assert!(in_file(path, text).is_empty(), "{path}: {text}");
        }
        assert!(lines(element_access, "crates/calame-cli/src/hub.rs", text).is_empty(), "a host of the net: {text}");
    }
    for text in [
        "fn host() { let host = 1; f(host..host); }",
        "fn f() { x.host_bytes() }",
        "// x.host()\nconst A: &str = \"x.host()\";",
        "#[cfg(test)]\nmod tests { fn f() { x.host() } }",
    ] {
        assert!(in_file("model/gpt.rs", text).is_empty(), "{text}");
    }
}
