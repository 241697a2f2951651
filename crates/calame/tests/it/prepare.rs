//! Large texts: documents, shards and their manifest, and training on them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calame::data::documents::Meter;
use calame::data::manifest::{MANIFEST, TOKENIZER};
use calame::data::prepare::{
    Grain, PrepareError, PrepareObserver, PrepareOptions, PrepareProgress, PrepareStart, Prepared, SplitBy, Texts,
    prepare_with,
};
use calame::data::{
    Corpus, DataConfig, DocumentError, IdWidth, Loader, Manifest, ManifestError, Normalisation, ReadOptions,
    ShardError, ShardFormat, ShardSet, Sources, SpecialTokens, Split, Splits, TokenShard, Windows, find_sources,
    split_by_characters,
};
use calame::files::FileError;
use calame::tokenizer::{self, Bpe, BpeLists, SimpleTokenizer, Special, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with inputs, and the output folder of a preparation.
struct Place {
    folder: TempDir,
    options: PrepareOptions,
    grain: Grain,
    n_threads: usize,
    tokenizer: Arc<dyn Tokenizer>,
}

/// Follows a preparation silently; stops, or panics like a killed program, at a given call.
#[derive(Default)]
struct Watcher {
    n_calls: u64,
    stop_at: Option<u64>,
    die_at: Option<u64>,
    start: Option<PrepareStart>,
    last: PrepareProgress,
}

impl PrepareObserver for Watcher {
    fn started(&mut self, start: PrepareStart) {
        self.start = Some(start);
    }

    fn progress(&mut self, progress: &PrepareProgress) -> ControlFlow<()> {
        self.last = *progress;
        if progress.counting {
            // Counting is not saved: a preparation stopped there starts again.
            return ControlFlow::Continue(());
        }
        self.n_calls += 1;
        assert!(self.die_at != Some(self.n_calls), "killed, as the test wants it");
        if self.stop_at == Some(self.n_calls) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Place {
    fn new() -> Place {
        let options = PrepareOptions { val_fraction: 0.0, ..PrepareOptions::default() };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        Place { folder, options, grain: Grain::default(), n_threads: 2, tokenizer: Bpe::gpt2() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path("in").join(name), bytes).unwrap();
    }

    fn inputs(&self) -> String {
        self.path("in").display().to_string()
    }

    fn sources(&self) -> Result<Sources, DocumentError> {
        find_sources(&[self.inputs()], self.folder.path(), &self.options.reading())
    }

    fn watched(&self, out: &str, watcher: &mut Watcher) -> Result<Prepared, PrepareError> {
        let sources = self.sources()?;
        let (options, out) = (&self.options, self.path(out));
        prepare_with(&sources, self.tokenizer.as_ref(), options, &out, self.n_threads, self.grain, watcher)
    }

    fn prepared(&self, out: &str) -> Manifest {
        match self.watched(out, &mut Watcher::default()).unwrap() {
            Prepared::Done(manifest) => manifest,
            other => panic!("{other:?}"),
        }
    }

    fn error(&self, parts: &[&str]) {
        let error = self.watched("refused", &mut Watcher::default()).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error:?} lacks {part:?}"));
    }

    /// All ids of a split.
    fn ids(&self, out: &str, part: Split) -> Vec<u32> {
        let (manifest, _) = Manifest::read(&self.path(out)).unwrap();
        let shards = ShardSet::open(&self.path(out), &manifest, part).unwrap();
        let mut ids = vec![0; shards.n_tokens()];
        shards.read(0..ids.len(), &mut ids).unwrap();
        ids
    }

    fn text(&self, out: &str, part: Split) -> String {
        self.tokenizer.decode(&self.ids(out, part)).unwrap()
    }

    /// The name and contents of every file in a folder.
    fn files(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path(out)).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }
}

/// A text of `n` words in lines, without repetition of the same order.
fn words(n: usize, salt: usize) -> String {
    const WORDS: [&str; 9] = ["the reed", "a pen", "écrit", "ink,", "who writes", "1908", "it's", "\"No!\"", "Tolstoy"];
    let word = |i: usize| WORDS[(i * i + i / 7 + salt) % WORDS.len()];
    (0..n).map(|i| format!("{}{}", word(i), if i % 11 == 10 { "\n" } else { " " })).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A Parquet file with rows of text, some of them null, and a column of numbers.
fn parquet(rows: &[Option<&[u8]>]) -> Vec<u8> {
    use parquet::basic::Compression;
    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let schema = "message m { OPTIONAL BYTE_ARRAY body (UTF8); REQUIRED INT64 id; }";
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    // Row groups of four rows.
    for rows in rows.chunks(4) {
        let mut group = file.next_row_group().unwrap();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|text| text.to_vec().into()).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(to) => drop(to.write_batch(&values, Some(&levels), None).unwrap()),
                ColumnWriter::Int64ColumnWriter(to) => drop(to.write_batch(&vec![7; rows.len()], None, None).unwrap()),
                _ => unreachable!("the schema has two columns"),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

fn json_lines(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{}\n", json!({ "id": 1, "text": text }))).collect()
}

// File formats.

/// llm.c's dev/data/data_common.py, write_datafile: 256 numbers of 32 bits, then the ids; 20240520 and 1 for GPT-2.
#[test]
fn shards_equal_llm_cs_byte_for_byte() {
    let mut place = Place::new();
    place.write("tea.txt", "Hello, do you like tea?");
    place.options.shard_tokens = 5;
    let manifest = place.prepared("out");
    let expected = |ids: &[u16]| {
        // 20240520 = 0x0134d888.
        let mut bytes = vec![0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, ids.len() as u8, 0, 0, 0];
        bytes.resize(1024, 0);
        ids.iter().for_each(|id| bytes.extend([*id as u8, (*id >> 8) as u8]));
        bytes
    };
    let files = place.files("out");
    assert_eq!(files["train-000000.bin"], expected(&[50256, 15496, 11, 466, 345]));
    assert_eq!(files["train-000001.bin"], expected(&[588, 8887, 30]));
    let names: Vec<&String> = files.keys().collect();
    assert_eq!(names, [MANIFEST, TOKENIZER, "train-000000.bin", "train-000001.bin"]);
    assert_eq!((manifest.id_bytes, manifest.n_tokens(Split::Train), manifest.n_tokens(Split::Val)), (2, 8, 0));
    assert_eq!(manifest.tokenizer.sha256, Bpe::gpt2().hash());
    assert_eq!(manifest.tokenizer.end_of_text, Some(50256));
}

/// nanoGPT's data/openwebtext/prepare.py: the ids as numpy's uint16, the end-of-text token after each document.
#[test]
fn nanogpts_files_are_the_ids_alone() {
    let mut place = Place::new();
    place.write("a.txt", "Hello, do");
    place.write("b.txt", "tea?");
    place.options.format = ShardFormat::Nanogpt;
    place.prepared("out");
    let ids = [15496u16, 11, 466, 50256, 660, 64, 30, 50256];
    let bytes: Vec<u8> = ids.iter().flat_map(|id| [*id as u8, (*id >> 8) as u8]).collect();
    assert_eq!(place.files("out")["train.bin"], bytes);
    assert_eq!(place.ids("out", Split::Train), ids.map(u32::from));
}

/// All pairs of bytes as tokens: 65,793 ids.
fn wide() -> Arc<dyn Tokenizer> {
    let bytes = Bpe::gpt2().to_lists().tokens[..256].to_vec();
    let pairs = bytes.iter().flat_map(|a| bytes.iter().map(move |b| (a, b)));
    let mut tokens = bytes.clone();
    tokens.extend(pairs.clone().map(|(a, b)| format!("{a}{b}")));
    tokens.push("<|endoftext|>".to_owned());
    let merges = pairs.map(|(a, b)| format!("{a} {b}")).collect();
    let specials = vec![tokens.len() as u32 - 1];
    Bpe::from_lists(BpeLists { tokens, merges, specials, added: vec![] }, Path::new("wide.json")).unwrap()
}

/// llm.c's header for larger vocabularies: 20240801, version 7, ids of 32 bits.
#[test]
fn large_vocabularies_have_ids_of_32_bits() {
    let mut place = Place::new();
    place.tokenizer = wide();
    place.write("tea.txt", "tea");
    let manifest = place.prepared("out");
    let mut expected: Vec<u8> = [20_240_801u32, 7, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    expected.resize(1024, 0);
    let ids = place.tokenizer.encode("tea", Special::AsText).unwrap();
    assert_eq!(ids.len(), 2);
    [65_792, ids[0], ids[1]].iter().for_each(|id| expected.extend(id.to_le_bytes()));
    assert_eq!(place.files("out")["train-000000.bin"], expected);
    assert_eq!((manifest.id_bytes, manifest.width()), (4, IdWidth::U32));
    assert_eq!(place.text("out", Split::Train), "<|endoftext|>tea");
    place.options.format = ShardFormat::Nanogpt;
    place.prepared("bare");
    assert_eq!(place.files("bare")["train.bin"][..8], [ids[0].to_le_bytes(), ids[1].to_le_bytes()].concat());
}

// Training data.

/// The windows of a prepared text equal those of the same text in memory, for any shards and any length of the text.
#[test]
fn windows_of_shards_are_those_of_memory() {
    let mut place = Place::new();
    // More than one piece of 1 MiB, with white space of all kinds where it may be cut.
    let text = words(300_000, 1).replace("1908", " \t 1908\r\n\n");
    assert!(text.len() > 3 << 19);
    place.write("long.txt", &text);
    let gpt2 = Bpe::gpt2();
    place.options = PrepareOptions {
        val_fraction: 0.1,
        split: SplitBy::Characters,
        end_of_text: false,
        shard_tokens: 70_001,
        ..PrepareOptions::default()
    };
    let manifest = place.prepared("out");
    assert!(manifest.shards.len() > 5);
    let (train, val) = split_by_characters(&text, 0.9);
    for (part, text) in [(Split::Train, train), (Split::Val, val)] {
        let ids: Arc<[u32]> = gpt2.encode(text, Special::AsText).unwrap().into();
        assert!(place.ids("out", part) == *ids);
        let shards = Arc::new(ShardSet::open(&place.path("out"), &manifest, part).unwrap());
        let mut loaders = [Windows::new(ids, 5000, 3333).unwrap(), Windows::of_shards(shards, 5000, 3333).unwrap()]
            .map(|windows| Loader::new(windows, 4, false).unwrap());
        let order: Vec<u32> = (0..loaders[0].n_windows() as u32).rev().collect();
        let batches = loaders.each_mut().map(|loader| {
            loader.start_epoch(Some(&order));
            let (mut inputs, mut targets, mut all) = (Vec::new(), Vec::new(), Vec::new());
            while loader.next_batch(&mut inputs, &mut targets).unwrap() > 0 {
                all.push((inputs.clone(), targets.clone()));
            }
            all
        });
        assert!(!batches[0].is_empty() && batches[0] == batches[1]);
    }
}

#[test]
fn a_window_may_span_several_shards() {
    let mut place = Place::new();
    place.write("tea.txt", "Hello, do you like tea?");
    (place.options.shard_tokens, place.options.end_of_text) = (2, false);
    let manifest = place.prepared("out");
    let shards = ShardSet::open(&place.path("out"), &manifest, Split::Train).unwrap();
    let ids = [15496, 11, 466, 345, 588, 8887, 30];
    for start in 0..=7 {
        for end in start..=7 {
            let mut found = vec![0; end - start];
            shards.read(start..end, &mut found).unwrap();
            assert_eq!(found, ids[start..end]);
        }
    }
}

#[test]
fn a_shard_that_changes_during_a_training_is_an_error() {
    let mut place = Place::new();
    place.write("tea.txt", "Hello, do you like tea?");
    place.options.end_of_text = false;
    let manifest = place.prepared("out");
    let path = place.path("out").join("train-000000.bin");
    let whole = fs::read(&path).unwrap();
    let next_batch = || {
        let shards = ShardSet::open(&place.path("out"), &manifest, Split::Train)?;
        let mut loader = Loader::new(Windows::of_shards(Arc::new(shards), 3, 3).unwrap(), 2, true).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1032).unwrap();
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        loader.next_batch(&mut inputs, &mut targets).map(|_| ())
    };
    // Truncated while it is open.
    let error = next_batch().unwrap_err();
    assert!(
        matches!(&error, ShardError::File(FileError { action: "read", .. }))
            && error.to_string().contains("train-000000"),
        "{error}"
    );
    // Truncated before it is opened.
    assert!(matches!(next_batch().unwrap_err(), ShardError::Size { found: 1032, .. }));
    // An id outside the vocabulary, in a file of the correct length.
    let mut bytes = whole.clone();
    bytes[1029] = 0xff;
    fs::write(&path, &bytes).unwrap();
    let shards = ShardSet::open(&place.path("out"), &manifest, Split::Train).unwrap();
    let error = shards.read(1..4, &mut [0; 3]).unwrap_err().to_string();
    assert!(error.contains("token 2 has the id") && error.contains("below 50257"), "{error}");
    // Any other change is detected by the checksum.
    for at in [0, 9, 1024, 1030] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = manifest.verify(&place.path("out"), &mut |_| {}).unwrap_err();
        assert!(matches!(error, ManifestError::Damaged { .. }) && error.to_string().contains("train-000000"));
    }
    fs::write(&path, &whole).unwrap();
    let mut n_bytes = 0;
    manifest.verify(&place.path("out"), &mut |n| n_bytes += n).unwrap();
    assert_eq!(n_bytes, whole.len() as u64);
}

// Documents.

#[test]
fn documents_come_out_of_all_kinds_of_files() {
    let mut place = Place::new();
    let long = words(200_000, 2);
    place.write("a.txt", "\u{feff}A text.");
    place.write("b.md", "# A page");
    place.write("c.jsonl", json_lines(&["line one", "line two"]) + "\n\n");
    place.write(
        "d.jsonl.gz",
        [gzip(json_lines(&["packed one"]).as_bytes()), gzip(json_lines(&["two"]).as_bytes())].concat(),
    );
    // Two frames with a skippable frame between them.
    let skipped = [&0x184D_2A53u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
    place.write("e.txt.zst", [zstd(long.as_bytes()), skipped, zstd(b" end")].concat());
    place.write("f.parquet", parquet(&[Some(b"row one"), None, Some(b"row two"), Some(b""), Some(b"row three"), None]));
    place.write("g.md.gz", gzip(b"last"));
    place.write("not.a.text.png", [0xff; 9]);
    place.options.column = "body".to_owned();
    let manifest = place.prepared("out");
    let documents = [
        "A text.",
        "# A page",
        "line one",
        "line two",
        "packed one",
        "two",
        &format!("{long} end"),
        "row one",
        "row two",
        "row three",
        "last",
    ];
    let expected: String = documents.iter().map(|text| format!("<|endoftext|>{text}")).collect();
    assert!(place.text("out", Split::Train) == expected);
    assert_eq!(manifest.n_documents, documents.len() as u64);
    assert_eq!(manifest.n_text_bytes, documents.iter().map(|text| text.len() as u64).sum::<u64>());
    let counts: Vec<u64> = manifest.sources.iter().map(|source| source.n_documents).collect();
    assert_eq!(counts, [1, 1, 2, 2, 1, 3, 1]);
    assert_eq!((manifest.dropped.empty, manifest.dropped.bad), (1, 2));
    assert!(manifest.dropped.first_bad.unwrap().ends_with("f.parquet, row 2: no value"));
}

#[test]
fn bad_lines_are_counted_and_the_first_is_named() {
    let mut place = Place::new();
    place.options.field = "body".to_owned();
    let lines = "{\"body\": \"one\"}\n{\"text\": \"no\"}\nnot json\n{\"body\": 7}\n\n{\"body\": \"two\"}";
    place.write("a.jsonl", [lines.as_bytes(), b"\n{\"body\": \"\xff\"}\n"].concat());
    let manifest = place.prepared("out");
    assert_eq!((manifest.n_documents, manifest.dropped.bad), (2, 4));
    assert!(manifest.dropped.first_bad.unwrap().contains("a.jsonl, line 2: no field \"body\""));
    place.options.field = "content".to_owned();
    place.error(&["none of the 6 lines and rows is a document", "a.jsonl, line 1: no field \"content\"", "--field"]);
}

#[test]
fn files_that_give_no_documents_are_named() {
    let refused = |name: &str, bytes: &[u8], parts: &[&str]| {
        let place = Place::new();
        place.write(name, bytes);
        let error = texts_of(&place, name).unwrap_err().to_string();
        [&[name], parts].concat().iter().for_each(|part| assert!(error.contains(part), "{error:?} lacks {part:?}"));
    };
    refused("a.txt", b"", &["an empty file"]);
    refused("a.txt", b" \n\t ", &["only white space (4 bytes)"]);
    refused("a.txt", b"caf\xe9 au lait", &["expected UTF-8, found byte 0xE9 at byte 3 (line 1)", "iconv"]);
    let far = [words(60_000, 0).as_bytes(), b"\n\n\xff"].concat();
    let (at, line) = (far.len() - 1, far.iter().filter(|byte| **byte == b'\n').count() + 1);
    refused("a.txt", &far, &[&format!("byte 0xFF at byte {at} (line {line})")]);
    refused("a.txt", b"\xff\xfea\0", &["the byte order mark of UTF-16"]);
    let cut = "calam\u{e9}".as_bytes().split_last().unwrap().1;
    refused("a.txt", cut, &["an end inside the character", "byte 5"]);
    let packed = gzip(words(20_000, 0).as_bytes());
    refused("a.txt.gz", &packed[..packed.len() / 2], &["damaged or cut off", "fetch it again"]);
    refused("a.jsonl.gz", b"{\"text\": 1}", &["damaged or cut off"]);
    let packed = zstd(words(20_000, 0).as_bytes());
    refused("a.txt.zst", &packed[..packed.len() / 2], &["damaged or cut off"]);
    refused("a.txt.zst", b"no frame", &["damaged or cut off"]);
    refused("a.parquet", b"PAR1 no, it is not PAR1", &["cannot be read as a Parquet file"]);
    refused("a.parquet", &parquet(&[Some(b"row")]), &["a column of text named \"text\", found body", "--column"]);
    let mut other = Place::new();
    other.write("a.parquet", parquet(&[Some(b"row")]));
    other.options.column = "id".to_owned();
    other.error(&["found a column of another type, INT64"]);
    let unknown = find_sources(&["/no/such/file.txt"], Path::new("."), &ReadOptions::default()).unwrap_err();
    assert!(unknown.to_string().contains("/no/such/file.txt: no such file or folder"));
}

/// Files of a folder that cannot be used are skipped and counted; if none is left, the error lists them.
#[test]
fn unusable_files_of_a_folder_are_skipped() {
    let place = Place::new();
    place.write("a.png", [0xff; 9]);
    place.error(&["/in: expected files ending in .txt, .md", "found none"]);
    let far = [words(60_000, 0).as_bytes(), b"\n\n\xff"].concat();
    let packed = gzip(words(20_000, 0).as_bytes());
    let utf16: Vec<u8> = "A reed and a pen.\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let all: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [
        ("b.txt", &b""[..]),
        ("c.md", b" \n"),
        ("d.txt", &all.repeat(40)),
        ("e.txt", &far),
        ("f.txt.gz", &packed[..packed.len() / 2]),
        ("g.json", b"[{\"text\": \"a\"}]"),
        ("h.txt", &utf16),
        ("i.parquet", b"PAR1 no"),
    ] {
        place.write(name, bytes);
    }
    place.error(&["/in: expected files with text, found none", "2 empty (such as", "1 not text", "g.json"]);
    place.write("k.txt", "A text.");
    place.write("l.json", "{\"text\": \"A line.\"}\n");
    let manifest = place.prepared("out");
    assert_eq!(place.text("out", Split::Train), "<|endoftext|>A text.<|endoftext|>A line.");
    let found: Vec<(String, u64)> =
        manifest.skipped.groups().iter().map(|g| (format!("{:?}", g.reason), g.n_files)).collect();
    let expected =
        [("OtherEnding", 1), ("Empty", 2), ("Binary", 1), ("NotUtf8", 2), ("Unreadable", 2), ("Structured", 1)];
    assert!(found.iter().map(|(reason, n)| (reason.as_str(), *n)).eq(expected), "{found:?}");
    let corpus = Corpus::load(&[place.inputs()], place.folder.path()).unwrap();
    assert_eq!(corpus.report().skipped, manifest.skipped, "train skips the same files");
    assert_eq!(corpus.text(), "A text.\nA line.");
}

/// Reads all texts of a file that is named itself.
fn texts_of(place: &Place, name: &str) -> Result<Vec<String>, DocumentError> {
    let options = place.options.reading();
    let sources = find_sources(&[place.path("in").join(name).display().to_string()], place.folder.path(), &options)?;
    let mut texts = Texts::new(&sources, &options, Meter::default());
    std::iter::from_fn(|| texts.next_text().transpose()).collect()
}

/// 30 bytes that claim two billion row groups: an error, not an aborted process.
#[test]
fn a_parquet_file_that_claims_more_than_it_has() {
    let place = Place::new();
    // Field 2, the schema: a list of one object with a name and no children. Field 4: the row groups.
    let footer = [0x29, 0x1c, 0x48, 1, b'm', 0x15, 0, 0, 0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0, 0];
    let bytes = [&b"PAR1"[..], &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    place.write("a.parquet", &bytes);
    let error = texts_of(&place, "a.parquet").unwrap_err().to_string();
    assert!(error.contains("a.parquet") && error.contains("a list of 2147483647"), "{error}");
}

/// Damaged Parquet files give an error or fewer rows, never a panic outside the reader.
#[test]
fn damaged_parquet_files_never_panic() {
    let whole = parquet(&[Some(b"row one"), None, Some(b"row two"), Some(b"row three"), Some(b"row four")]);
    // The crate's panics are caught; their messages would clutter the test's output.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut place = Place::new();
    place.options.column = "body".to_owned();
    let mut n_refused = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        place.write("a.parquet", &bytes);
        let read = std::panic::AssertUnwindSafe(|| texts_of(&place, "a.parquet"));
        n_refused += usize::from(std::panic::catch_unwind(read).expect("no panic comes out").is_err());
    }
    std::panic::set_hook(hook);
    assert!(n_refused > whole.len() / 20, "{n_refused} of {} flips were refused", whole.len());
}

#[test]
fn gutenbergs_header_and_licence_are_removed() {
    let mut place = Place::new();
    let book = words(250_000, 3);
    let wrapped = format!(
        "Licence.\r\n*** START OF THE PROJECT GUTENBERG EBOOK PENS ***\r\n\r\n{book}\n*** END OF THE PROJECT GUTENBERG EBOOK PENS ***\nMore."
    );
    assert!(wrapped.len() > 1 << 20);
    place.write("a.txt", &wrapped);
    place.write("b.jsonl", json_lines(&[&wrapped, "plain"]));
    place.options.strip_gutenberg = true;
    assert_eq!(place.prepared("out").n_documents, 3);
    let book = book.trim_end();
    let expected = format!("<|endoftext|>{book}<|endoftext|>{book}<|endoftext|>plain");
    assert!(place.text("out", Split::Train) == expected);
}

#[test]
fn duplicates_are_dropped_after_normalisation() {
    let mut place = Place::new();
    let long = words(150_000, 4);
    place.write("a.jsonl", json_lines(&["one", "calame\u{301}", "one", "two", "calam\u{e9}", &long]));
    place.write("b.txt", &long);
    place.write("c.txt", "one");
    place.write("d.txt", format!("{long}."));
    for (dedup, normalise, n_kept, n_duplicates) in
        [(false, Normalisation::None, 9, 0), (true, Normalisation::None, 6, 3), (true, Normalisation::Nfc, 5, 4)]
    {
        (place.options.dedup, place.options.normalise) = (dedup, normalise);
        let out = format!("out-{dedup}-{normalise:?}");
        let manifest = place.prepared(&out);
        assert_eq!((manifest.n_documents, manifest.dropped.duplicates), (n_kept, n_duplicates), "{out}");
        let text = place.text(&out, Split::Train);
        assert_eq!(text.contains("e\u{301}"), normalise == Normalisation::None);
    }
}

#[test]
fn special_tokens_in_a_text_are_text_unless_they_are_allowed() {
    let mut place = Place::new();
    place.write("a.txt", "one<|endoftext|>two");
    (place.options.end_of_text, place.options.special_tokens) = (false, SpecialTokens::Text);
    place.prepared("text");
    assert!(!place.ids("text", Split::Train).contains(&50256));
    place.options.special_tokens = SpecialTokens::Ids;
    place.prepared("ids");
    assert_eq!(place.ids("ids", Split::Train), [505, 50256, 11545]);
}

#[test]
fn documents_are_assigned_by_the_seed() {
    let mut place = Place::new();
    let texts: Vec<String> = (0..400).map(|i| format!("document {i}.")).collect();
    place.write("a.jsonl", json_lines(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
    place.options.val_fraction = 0.25;
    let mut parts = Vec::new();
    for seed in [1, 1, 2] {
        place.options.seed = seed;
        let out = format!("out-{}", parts.len());
        place.prepared(&out);
        let documents = |part| {
            let text = place.text(&out, part);
            text.split("<|endoftext|>").filter(|text| !text.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let (train, val) = (documents(Split::Train), documents(Split::Val));
        assert!((60..140).contains(&val.len()), "{} of 400 for validation", val.len());
        let mut all = [train, val.clone()].concat();
        all.sort_by_key(|text| texts.iter().position(|t| t == text));
        assert_eq!(all, texts);
        parts.push(val);
    }
    assert!(parts[0] == parts[1] && parts[0] != parts[2]);
}

// Threads, interruptions and repetitions.

/// Documents of every kind, with duplicates, in files of several pieces.
fn mixed() -> Place {
    let mut place = Place::new();
    // A small tokenizer, which is fast to write and read.
    place.tokenizer = tokenizer::train([words(5000, 0)].into_iter(), 320, 2).unwrap();
    let lines: Vec<String> = (0..2000).map(|i| format!("{} {}", i % 1500, words(i % 50 + 1, i % 1500))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    place.write("a.jsonl.gz", gzip(json_lines(&lines[..1000]).as_bytes()));
    place.write("b.txt", words(200_000, 5));
    place.write("c.jsonl", json_lines(&lines[800..]) + "bad\n");
    place.write("d.parquet", parquet(&lines[..9].iter().map(|text| Some(text.as_bytes())).collect::<Vec<_>>()));
    place.write("e.txt", words(1000, 6));
    place.options = PrepareOptions {
        val_fraction: 0.2,
        shard_tokens: 100_000,
        dedup: true,
        column: "body".to_owned(),
        ..PrepareOptions::default()
    };
    place.grain = Grain { batch_bytes: 4000, checkpoint_bytes: 30_000 };
    place
}

#[test]
fn the_shards_do_not_depend_on_threads_or_grain() {
    for (split, format) in [(SplitBy::Documents, ShardFormat::Llmc), (SplitBy::Characters, ShardFormat::Nanogpt)] {
        let mut place = mixed();
        (place.options.split, place.options.format) = (split, format);
        place.prepared("two");
        let expected = place.files("two");
        place.n_threads = 1;
        place.prepared("one");
        assert!(place.files("one") == expected);
        (place.n_threads, place.grain) = (3, Grain { batch_bytes: 1, checkpoint_bytes: 1 << 30 });
        place.prepared("three");
        assert!(place.files("three") == expected);
    }
}

/// A preparation that is stopped by its observer or killed at any point, then resumed, produces the same files as an
/// uninterrupted one.
#[test]
fn a_stopped_preparation_resumes_to_the_same_bytes() {
    for (split, format) in [(SplitBy::Documents, ShardFormat::Llmc), (SplitBy::Characters, ShardFormat::Nanogpt)] {
        let mut place = mixed();
        (place.options.split, place.options.format) = (split, format);
        let mut whole = Watcher::default();
        place.watched("whole", &mut whole).unwrap();
        let expected = place.files("whole");
        let n_calls = whole.n_calls;
        assert!(n_calls > 40, "{n_calls}");
        for step in [7, 29] {
            let mut starts = Vec::new();
            let mut n_tries = 0;
            loop {
                n_tries += 1;
                let at = Some(step + n_tries % 2);
                let mut watcher = match n_tries % 2 {
                    0 => Watcher { stop_at: at, ..Watcher::default() },
                    _ => Watcher { die_at: at, ..Watcher::default() },
                };
                let run = std::panic::AssertUnwindSafe(|| place.watched(&format!("{step}"), &mut watcher));
                let ended = std::panic::catch_unwind(run);
                starts.extend(watcher.start);
                match ended {
                    Ok(Ok(Prepared::Done(_))) => break,
                    Ok(Ok(Prepared::Stopped)) | Err(_) => {}
                    other => panic!("{other:?}"),
                }
                assert!(n_tries < 200, "step {step} gets nowhere");
            }
            assert!(place.files(&format!("{step}")) == expected, "{split:?}, stopped every {step} calls");
            assert!(starts.contains(&PrepareStart::Resumed) && !starts.contains(&PrepareStart::Restarted));
        }
    }
}

#[test]
fn the_same_command_again_does_nothing_and_another_is_refused() {
    let mut place = Place::new();
    place.write("a.txt", "Hello, do you like tea?");
    let manifest = place.prepared("out");
    let before = place.files("out");
    let mut watcher = Watcher::default();
    assert_eq!(place.watched("out", &mut watcher).unwrap(), Prepared::WasDone(manifest));
    assert_eq!(watcher.n_calls, 0);
    let refused = |place: &Place, part: &str| {
        let error = place.watched("out", &mut Watcher::default()).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("choose another folder"), "{error}");
    };
    place.options.seed = 7;
    refused(&place, "prepared with other options");
    place.options.seed = PrepareOptions::default().seed;
    place.tokenizer = Arc::new(SimpleTokenizer::v2("Hello, do you like tea?").unwrap());
    refused(&place, "prepared with another tokenizer");
    place.tokenizer = Bpe::gpt2();
    // A word of the same length.
    std::thread::sleep(std::time::Duration::from_millis(20));
    place.write("a.txt", "Hello, do you like ale?");
    refused(&place, "a.txt was changed");
    place.write("b.txt", "More.");
    refused(&place, "prepared from other files");
    assert!(place.files("out") == before);
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full").join("letter.txt"), "mine").unwrap();
    let error = place.watched("full", &mut Watcher::default()).unwrap_err().to_string();
    assert!(error.contains("expected an empty folder") && error.contains("letter.txt"), "{error}");
    assert_eq!(place.files("full").len(), 1);
}

#[test]
fn a_preparation_with_other_options_is_restarted() {
    let mut place = mixed();
    let stopped = place.watched("out", &mut Watcher { stop_at: Some(9), ..Watcher::default() });
    assert_eq!(stopped.unwrap(), Prepared::Stopped);
    place.options.seed = 7;
    let mut watcher = Watcher::default();
    place.watched("out", &mut watcher).unwrap();
    assert_eq!(watcher.start, Some(PrepareStart::Restarted));
    place.prepared("fresh");
    assert!(place.files("out") == place.files("fresh"));
}

#[test]
fn a_state_that_contradicts_the_shards_is_an_error() {
    let mut place = mixed();
    place.options.shard_tokens = 20_000;
    let stop = || place.watched("out", &mut Watcher { stop_at: Some(30), ..Watcher::default() });
    assert_eq!(stop().unwrap(), Prepared::Stopped);
    let shard = place.path("out").join("train-000000.bin");
    fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(2000).unwrap();
    let error = place.watched("out", &mut Watcher::default()).unwrap_err().to_string();
    assert!(error.contains("train-000000.bin: expected 41024 bytes, found 2000"), "{error}");
}

#[test]
fn invalid_options_are_reported() {
    let mut place = Place::new();
    place.write("a.txt", "tea");
    for share in [-0.1, 1.0, f64::NAN] {
        place.options.val_fraction = share;
        place.error(&["the share for validation is", "from 0 to below 1"]);
    }
    place.options.val_fraction = 0.0;
    for n in [0, 1 << 31] {
        place.options.shard_tokens = n;
        place.error(&["the tokens of a shard is", "2147483647"]);
    }
    place.options.shard_tokens = 100;
    place.tokenizer = Arc::new(SimpleTokenizer::v1("tea").unwrap());
    place.error(&["end of text is true", "--end-of-text false"]);
    place.options.end_of_text = false;
    place.write("b.txt", "coffee");
    place.error(&["b.txt", "\"coffee\" is not in the vocabulary"]);
}

// The manifest.

#[test]
fn foreign_manifests_are_refused() {
    let place = Place::new();
    place.write("a.txt", "Hello, do you like tea?");
    place.prepared("out");
    let path = place.path("out").join(MANIFEST);
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let refused = |text: &str, part: &str| {
        fs::write(&path, text).unwrap();
        let error = Manifest::read(&place.path("out")).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("manifest.json"), "{error}");
    };
    refused("", "EOF");
    refused("{\"files\": []}", "unknown field");
    let changed = |pointer: &str, value: Value| {
        let mut manifest = whole.clone();
        *manifest.pointer_mut(pointer).unwrap() = value;
        manifest.to_string()
    };
    refused(&changed("/version", json!(2)), "version 2");
    refused(&changed("/id_bytes", json!(4)), "ids of 4 bytes for 50257 tokens");
    refused(&changed("/shards/0/file", json!("../in/a.txt")), "a shard named \"../in/a.txt\"");
    refused(&changed("/shards/0/file", json!("..")), "a shard named \"..\"");
    refused(&changed("/shards/0/n_tokens", json!(-1)), "expected u64");
    let twice = json!([whole["shards"][0], whole["shards"][0]]);
    refused(&changed("/shards", twice), "the shard train-000000.bin twice");
    // A wrong number of tokens is detected when the shard is opened.
    fs::write(&path, changed("/shards/0/n_tokens", json!(u64::MAX))).unwrap();
    let (manifest, _) = Manifest::read(&place.path("out")).unwrap();
    let error = ShardSet::open(&place.path("out"), &manifest, Split::Train).unwrap_err();
    assert!(matches!(error, ShardError::Size { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(Manifest::read(&place.path("out")), Err(ManifestError::File(_))));
}

#[test]
fn bare_shards_must_have_the_stated_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    fs::write(&path, [1, 0, 2, 0, 3, 0, 4, 0]).unwrap();
    let shard = TokenShard::open_bare(&path, IdWidth::U16, 4).unwrap();
    let mut ids = [0; 3];
    shard.read(1..4, &mut ids).unwrap();
    assert_eq!(ids, [2, 3, 4]);
    TokenShard::open_bare(&path, IdWidth::U32, 2).unwrap().read(1..2, &mut ids[..1]).unwrap();
    assert_eq!(ids[0], 0x0004_0003);
    for n in [3, 5, u64::MAX] {
        assert!(matches!(TokenShard::open_bare(&path, IdWidth::U16, n).unwrap_err(), ShardError::Size { .. }));
    }
}

// A trained tokenizer.

#[test]
fn a_trained_tokenizer_is_read_back_and_used_to_prepare() {
    let text = words(20_000, 8);
    let trained = tokenizer::train([text.clone()].into_iter(), 300, 2).unwrap();
    assert!((280..=300).contains(&trained.n_vocab()), "{}", trained.n_vocab());
    assert_eq!(trained.end_of_text(), Some(trained.n_vocab() as u32 - 1));
    let ids = trained.encode(&text, Special::AsText).unwrap();
    assert_eq!(trained.decode(&ids).unwrap(), text);
    assert!(text.len() > 3 * ids.len(), "{} bytes, {} tokens", text.len(), ids.len());
    // Any text can be encoded, including one never seen in training.
    let odd = "\u{58a8}\u{1f58b}\0 \r\n";
    assert_eq!(trained.decode(&trained.encode(odd, Special::AsText).unwrap()).unwrap(), odd);
    let again = tokenizer::read_json(&trained.to_json(), Path::new("tokenizer.json")).unwrap();
    assert_eq!(again.hash(), trained.hash());
    assert_eq!(
        tokenizer::train([text.clone()].into_iter(), 300, 2).unwrap().hash(),
        trained.hash(),
        "the same text again"
    );
    // Merges depend on how often pairs come, not on the documents that they come in.
    let (first, second) = text.split_at(text[..text.len() / 2].rfind('\n').unwrap() + 1);
    let halves = [first.to_owned(), second.to_owned()];
    assert_eq!(tokenizer::train(halves.into_iter(), 300, 2).unwrap().hash(), trained.hash(), "in two documents");
    let half = tokenizer::train([first.repeat(2)].into_iter(), 300, 2).unwrap();
    assert_ne!(half.hash(), trained.hash(), "another text");
    let mut place = Place::new();
    place.tokenizer = again;
    place.write("a.txt", &text);
    let manifest = place.prepared("out");
    assert_eq!(manifest.tokenizer.kind, "bpe");
    assert_eq!(place.ids("out", Split::Train)[1..], ids);
    // A pair must occur often enough.
    let rare = tokenizer::train([text].into_iter(), 300, 1 << 40).unwrap();
    assert_eq!(rare.n_vocab(), tokenizer::MIN_VOCAB);
    for n in [0, 256, (1 << 20) + 1] {
        assert!(tokenizer::train([String::new()].into_iter(), n, 2).unwrap_err().to_string().contains("257"));
    }
    assert!(tokenizer::train(std::iter::empty(), 300, 2).unwrap_err().to_string().contains("no text"));
}

// One reader for all verbs.

/// The ids of a folder's documents as training and evaluation encode them.
fn trained_ids(place: &Place) -> Vec<u32> {
    let corpus = Corpus::read(&[place.inputs()], place.folder.path(), &place.options.reading()).unwrap();
    corpus.encode_all(place.tokenizer.as_ref()).unwrap()
}

/// The same documents give the same tokens, whether they are prepared or read into memory.
#[test]
fn prepared_tokens_are_those_of_a_training() {
    let long = words(150_000, 7);
    let separated =
        format!("<|endoftext|>one\n<|endoftext|>{long}<|endoftext|>\n<|endoftext|><|endoftext|>two <|endoftext|>\n");
    let runs = format!("x{}y<|endoftext|>{}", " ".repeat(1_200_000), "a".repeat(1_100_000));
    let book = format!(
        "***START OF THE PROJECT GUTENBERG EBOOK PENS***\n\n{long}\n\n***END OF THE PROJECT GUTENBERG EBOOK PENS***\nLaw."
    );
    let lines = json_lines(&["one", "two<|endoftext|>three", "one", "  four\n", "five"]);
    let bpe: Arc<dyn Tokenizer> = tokenizer::train([words(5000, 0)].into_iter(), 320, 2).unwrap();
    let mut lists = bpe.bpe_lists().unwrap();
    lists.tokens.pop();
    lists.specials.clear();
    let without_end = Bpe::from_lists(lists, Path::new("bpe.json")).unwrap();
    assert_eq!(without_end.end_of_text(), None);
    for (name, text) in [
        ("a.txt", separated.as_str()),
        ("a.txt", &runs),
        ("a.txt", &book),
        ("a.jsonl", &lines),
        ("a.txt", "no line end"),
        ("a.txt", "calame\u{301}<|endoftext|>calam\u{e9}"),
    ] {
        for special_tokens in [SpecialTokens::Ids, SpecialTokens::Text] {
            for tokenizer in [Bpe::gpt2() as Arc<dyn Tokenizer>, Arc::clone(&bpe), without_end.clone()] {
                // Long runs take long, in whatever way they are read.
                let is_long = text.len() > 2_000_000;
                if is_long && (special_tokens == SpecialTokens::Text || tokenizer.n_vocab() < 400) {
                    continue;
                }
                for (strip_gutenberg, dedup, normalise) in
                    [(false, false, Normalisation::None), (true, true, Normalisation::Nfc)]
                {
                    // Without an end of text, separators are text and duplicates are whole files, lines and rows.
                    let dedup = dedup && tokenizer.end_of_text().is_some();
                    let mut place = Place::new();
                    place.write(name, text);
                    place.write("b.txt", "  another text");
                    place.tokenizer = Arc::clone(&tokenizer);
                    let mut reading =
                        ReadOptions { special_tokens, strip_gutenberg, dedup, normalise, ..ReadOptions::default() };
                    reading.field = "text".to_owned();
                    place.options = place.options.with_reading(reading);
                    place.options.end_of_text = tokenizer.end_of_text().is_some();
                    let expected = trained_ids(&place);
                    let what = format!("{text:.30?} {special_tokens:?} {} {dedup}", tokenizer.n_vocab());
                    place.prepared("llmc");
                    let ids = place.ids("llmc", Split::Train);
                    let marks = usize::from(place.options.end_of_text);
                    assert!(ids[marks..] == expected, "{what}, llm.c");
                    place.options.format = ShardFormat::Nanogpt;
                    place.prepared("nanogpt");
                    let ids = place.ids("nanogpt", Split::Train);
                    assert!(ids[..ids.len() - marks] == expected, "{what}, nanoGPT");
                }
            }
        }
    }
}

/// A text with separators gives the tokens that it always gave: the separator's id in place.
#[test]
fn a_separator_becomes_its_id_in_place() {
    let gpt2 = Bpe::gpt2();
    for text in [
        "one\n<|endoftext|>\ntwo",
        "<|endoftext|>one<|endoftext|>",
        "\n<|endoftext|><|endoftext|>one<|endoftext|>\n<|endoftext|> \n",
        "one<|endoftext",
    ] {
        let place = Place::new();
        place.write("a.txt", text);
        let expected = gpt2.encode(text, Special::Allow).unwrap();
        assert_eq!(trained_ids(&place), expected, "{text:?}");
        let corpus = Corpus::load(&[place.inputs()], place.folder.path()).unwrap();
        assert_eq!(corpus.text(), text);
        let n = text.matches("<|endoftext|>").count();
        assert_eq!((corpus.documents().len(), corpus.report().findings.separators.n), (n + 1, n as u64));
        let manifest = place.prepared("out");
        assert_eq!(place.ids("out", Split::Train)[1..], expected);
        assert_eq!(manifest.findings.separators.n, n as u64);
    }
    // Without any text, there is no document.
    let place = Place::new();
    place.write("a.txt", "<|endoftext|>\n<|endoftext|> ");
    place.error(&["no text in 1 files"]);
    let error = Corpus::load(&[place.inputs()], place.folder.path()).unwrap_err().to_string();
    assert!(error.contains("no text in 1 files"), "{error}");
}

/// Each document between separators is assigned to a split and compared with earlier ones by itself.
#[test]
fn separated_documents_are_documents() {
    let mut place = Place::new();
    let texts: Vec<String> = (0..300).map(|i| format!("document {}.", i % 200)).collect();
    place.write("a.txt", texts.join("<|endoftext|>"));
    (place.options.dedup, place.options.val_fraction) = (true, 0.25);
    let manifest = place.prepared("out");
    assert_eq!((manifest.n_documents, manifest.dropped.duplicates), (200, 100));
    let n_val = place.text("out", Split::Val).matches("document").count();
    assert!((25..80).contains(&n_val), "{n_val} of 200 for validation");
    let corpus = Corpus::read(&[place.inputs()], place.folder.path(), &place.options.reading()).unwrap();
    assert_eq!(corpus.documents().len(), 200);
    assert!(corpus.documents().iter().all(|range| corpus.text()[range.clone()].starts_with("document")));
}

/// A vocabulary of the words of the whole text covers both splits, wherever the characters are split.
#[test]
fn a_split_does_not_cut_a_word() {
    let text = "The reed--pen's ink, said \"No!\" and again: <|endoftext|> reeds.\n".repeat(12);
    for (kind, tokenizer) in
        [("v1", Arc::new(SimpleTokenizer::v1(&text).unwrap())), ("v2", Arc::new(SimpleTokenizer::v2(&text).unwrap()))]
    {
        let whole = tokenizer.encode(&text, Special::Allow).unwrap();
        for percent in 30..70 {
            let mut place = Place::new();
            place.tokenizer = tokenizer.clone();
            place.write("a.txt", &text);
            let train_fraction = f64::from(percent) / 100.0;
            let data = DataConfig { train_fraction, window: 2, stride: 2, batch_size: 1, ..DataConfig::default() };
            let corpus = Corpus::load(&[place.inputs()], place.folder.path()).unwrap();
            let splits = Splits::from_corpus(&corpus, tokenizer.as_ref(), &data).unwrap();
            let ids = |windows: &Windows| windows.tokens().unwrap().to_vec();
            let (train, val) = (ids(splits.train.windows()), ids(splits.validation.windows()));
            assert_eq!([&train[..], &val].concat(), whole, "{kind} {percent}");
            let of_text = Splits::from_text(&text, tokenizer.as_ref(), &data).unwrap();
            assert_eq!((ids(of_text.train.windows()), ids(of_text.validation.windows())), (train.clone(), val.clone()));
            place.options.val_fraction = 1.0 - train_fraction;
            let n = text.len() as f64;
            if ((1.0 - place.options.val_fraction) * n) as usize != (train_fraction * n) as usize {
                // Another rounding: one character more or less.
                continue;
            }
            (place.options.split, place.options.end_of_text) = (SplitBy::Characters, false);
            place.prepared("out");
            assert_eq!(place.ids("out", Split::Train), train, "{kind} {percent}");
            assert_eq!(place.ids("out", Split::Val), val, "{kind} {percent}");
        }
    }
}

/// Every finding is reported with the first file that has it.
#[test]
fn odd_texts_are_reported() {
    let mut place = Place::new();
    place.write("a.txt", "one\r\ntwo\r\nthree\n");
    place.write("b.txt", "four \0\0 five, and many more words than zeros");
    place.write("c.txt", "*** START OF THE PROJECT GUTENBERG EBOOK PENS ***\nsix");
    place.options.strip_gutenberg = true;
    let findings = place.prepared("out").findings;
    let first = |name: &str| Some(place.path("in").join(name).display().to_string());
    assert_eq!((findings.crlf.n, findings.crlf.first), (2, first("a.txt")));
    assert_eq!((findings.nul.n, findings.nul.first), (2, first("b.txt")));
    assert_eq!((findings.without_marks.n, findings.without_marks.first), (2, first("a.txt")));
}

/// Manifests of earlier versions are read: they lack what was added, and have a bool for special tokens.
#[test]
fn manifests_of_earlier_versions_are_read() {
    let place = Place::new();
    place.write("a.txt", "Hello, do you like tea?");
    place.prepared("out");
    let path = place.path("out").join(MANIFEST);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in ["findings", "skipped"] {
        manifest.as_object_mut().unwrap().remove(key).unwrap();
    }
    let options = manifest["options"].as_object_mut().unwrap();
    options.remove("read_as").unwrap();
    options.remove("special_tokens").unwrap();
    for (allowed, expected) in [(true, SpecialTokens::Ids), (false, SpecialTokens::Text)] {
        let mut old = manifest.clone();
        old["options"]["allow_special"] = json!(allowed);
        fs::write(&path, old.to_string()).unwrap();
        assert_eq!(Manifest::read(&place.path("out")).unwrap().0.options.special_tokens, expected);
    }
}

/// Files as Hugging Face (pyarrow) and Polars write them: zstd and brotli, dictionaries, both versions of pages, large
/// strings, categories. golden/parquet_files.py wrote them.
#[test]
fn parquet_files_of_other_programs_are_read() {
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/parquet"));
    let long = "ink ".repeat(300);
    let rows = ["a reed", "a pen", "écrit", "a reed", &long, "a pen", "a reed"].repeat(3);
    let mut n_files = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        n_files += 1;
        let mut place = Place::new();
        fs::copy(&path, place.path("in").join(&name)).unwrap();
        if name == "lists.parquet" {
            place.error(&["lists.parquet", "found a list in each row, text.list.element"]);
            continue;
        }
        if name == "struct.parquet" {
            place.options.column = "page".to_owned();
            place.error(&["found a column with others in it: page.text"]);
            place.options.column = "page.text".to_owned();
        }
        let texts = texts_of(&place, &name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(texts, rows, "{name}");
        let manifest = place.prepared("out");
        // Of ten rows two are null and one is empty.
        assert_eq!((manifest.n_documents, manifest.dropped.bad, manifest.dropped.empty), (21, 6, 3), "{name}");
        // Damage in the pages is an error or costs rows, never a panic.
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x5a;
            place.write(&name, &bytes);
            let _ = texts_of(&place, &name);
        }
    }
    assert_eq!(n_files, 11);
}
