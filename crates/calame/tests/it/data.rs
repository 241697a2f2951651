//! Reads files into a text, cuts a text into windows, and groups windows into batches.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calame::data::corpus::{MAX_BYTES, named_inputs};
use calame::data::names::{self, NAMED_TEXTS};
use calame::data::{
    Corpus, CorpusError, DataConfig, DocumentError, IllFormed, Loader, LoaderError, NameError, SkipReason,
    ValidationPart, Windows, WindowsError, split_by_characters,
};
use calame::files::sha256_hex;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::skipped::skip;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// The folder with texts that are not part of the project, if it is available.
fn shared_data() -> Option<PathBuf> {
    let data = Path::new(SHARED).join("data");
    if data.join("the-verdict.txt").is_file() {
        return Some(data);
    }
    skip(format_args!("{} is missing", data.display()));
    None
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn at(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn load(inputs: &[String]) -> Result<Corpus, DocumentError> {
    Corpus::load(inputs, Path::new("no-cache-folder"))
}

/// The error of an input that is wrong as an input, not in its contents.
fn load_error(input: String) -> (CorpusError, String) {
    let error = load(&[input]).unwrap_err();
    let message = error.to_string();
    match error {
        DocumentError::Input(error) => (error, message),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn tokens(n: u32) -> Arc<[u32]> {
    (0..n).collect()
}

// ---- corpus

#[test]
fn no_input_is_the_builtin_story() {
    let corpus = load(&[]).unwrap();
    let named = load(&["builtin".to_owned()]).unwrap();
    assert_eq!(corpus.text(), named.text());
    assert_eq!(corpus.sources(), named.sources());
    let n_characters = corpus.n_characters();
    assert!((20_000..=22_000).contains(&n_characters), "{n_characters} characters");
    assert_eq!(corpus.sources().len(), 1);
    assert_eq!(corpus.sources()[0].path, Path::new("builtin"));
    assert_eq!(corpus.sources()[0].n_characters, n_characters);
    assert!(!corpus.text().contains('\r'), "line ends must be the same on every system");
}

#[test]
fn a_file_gives_its_text_bytes_and_characters() {
    let dir = folder(&[("a.txt", "déjà vu\n".as_bytes())]);
    let corpus = load(&[at(&dir, "a.txt")]).unwrap();
    assert_eq!(corpus.text(), "déjà vu\n");
    let source = &corpus.sources()[0];
    assert_eq!((source.file_bytes, source.n_characters), (10, 8));
    assert_eq!(source.range, 0..10);
    assert_eq!(corpus.sha256(), "1a5c1f51e3c90032b981fd19174fcccdf8ff764f47bfcea31e594557a7eebb60");
}

#[test]
fn a_folder_gives_its_text_files_sorted_by_path() {
    let dir = folder(&[
        ("b.txt", b"b\n"),
        ("a/z.md", b"az\n"),
        ("a/B.TXT", b"aB\n"),
        ("c.csv", b"no text\n"),
        (".git/config", b"hidden\n"),
        ("d.md/e.txt", b"de\n"),
    ]);
    let corpus = load(&[at(&dir, "")]).unwrap();
    assert_eq!(corpus.text(), "aB\naz\nb\nde\n");
    let path = |name: &str| dir.path().join(name);
    let expected = [path("a/B.TXT"), path("a/z.md"), path("b.txt"), path("d.md/e.txt")];
    assert!(corpus.sources().iter().map(|source| &source.path).eq(&expected));
    let [skipped] = corpus.report().skipped.groups() else { panic!("{:?}", corpus.report()) };
    assert_eq!((skipped.reason, skipped.n_files), (SkipReason::OtherEnding, 1));
    assert!(skipped.example.ends_with("c.csv"));
}

#[test]
fn a_glob_gives_the_files_that_match_whatever_their_endings() {
    let dir = folder(&[("x2.log", b"2\n"), ("x10.log", b"10\n"), ("x/1.log", b"1\n")]);
    let corpus = load(&[at(&dir, "x*")]).unwrap();
    assert_eq!(corpus.text(), "10\n2\n");
    let corpus = load(&[at(&dir, "**/*.log")]).unwrap();
    assert_eq!(corpus.text(), "1\n10\n2\n");
}

#[test]
fn inputs_are_joined_in_the_order_given() {
    let dir = folder(&[("b.txt", "é".as_bytes()), ("a.txt", b"a\n"), ("d/c.md", b"c")]);
    let inputs = ["b.txt", "d", "a.txt", "b.txt"].map(|name| at(&dir, name));
    let corpus = load(&inputs).unwrap();
    // A line break is inserted only where it is missing, so that no two words are joined.
    assert_eq!(corpus.text(), "é\nc\na\né");
    let parts = corpus.sources().iter().map(|source| &corpus.text()[source.range.clone()]);
    assert!(parts.eq(["é", "c", "a\n", "é"]));
    assert!(corpus.sources().iter().map(|source| source.n_characters).eq([1, 1, 2, 1]));
}

#[test]
fn an_existing_path_takes_precedence_over_a_pattern() {
    let dir = folder(&[("a[1].txt", b"brackets"), ("a1.txt", b"one")]);
    assert_eq!(load(&[at(&dir, "a[1].txt")]).unwrap().text(), "brackets");
    assert_eq!(load(&[at(&dir, "a?.txt")]).unwrap().text(), "one");
}

#[test]
fn a_utf8_byte_order_mark_is_dropped() {
    let dir = folder(&[("a.txt", b"\xEF\xBB\xBFone"), ("b.txt", b"\xEF\xBB\xBFtwo")]);
    let corpus = load(&[at(&dir, "a.txt"), at(&dir, "b.txt")]).unwrap();
    assert_eq!(corpus.text(), "one\ntwo");
    assert_eq!(corpus.sources()[1].file_bytes, 6);
    assert_eq!(corpus.sources()[1].n_characters, 3);
}

#[test]
fn a_missing_file_is_named_with_the_names_known() {
    let (error, message) = load_error("no/such/file.txt".to_owned());
    assert!(matches!(error, CorpusError::Missing { .. }));
    assert_says(&message, &["no/such/file.txt", "builtin", "the-verdict"]);
}

#[test]
fn an_empty_file_is_an_error() {
    let dir = folder(&[("empty.txt", b""), ("mark.txt", b"\xEF\xBB\xBF")]);
    for name in ["empty.txt", "mark.txt"] {
        let (error, message) = load_error(at(&dir, name));
        assert!(matches!(error, CorpusError::Empty { .. }), "{error:?}");
        assert_says(&message, &[name, "empty file", "leave it out"]);
    }
}

#[test]
fn a_file_of_white_space_is_an_error() {
    let dir = folder(&[("blank.txt", " \n\t\u{00A0}\n".as_bytes())]);
    let (error, message) = load_error(at(&dir, "blank.txt"));
    assert!(matches!(error, CorpusError::OnlyWhitespace { file_bytes: 6, .. }), "{error:?}");
    assert_says(&message, &["blank.txt", "white space", "6 bytes"]);
}

#[test]
fn bytes_that_are_not_utf8_are_an_error_that_says_where() {
    let dir = folder(&[
        ("latin.txt", b"one\ntwo caf\xE9\n"),
        ("cut.txt", b"caf\xC3"),
        ("utf16le.txt", b"\xFF\xFEa\0b\0"),
        ("utf16be.txt", b"\xFE\xFF\0a\0b"),
        ("utf32.txt", b"\xFF\xFE\0\0a\0\0\0"),
        ("gzip.txt", b"\x1F\x8B\x08\0"),
    ]);
    let found = |name: &str| match load(&[at(&dir, name)]).map_err(|error| (error.to_string(), error)) {
        Err((message, DocumentError::NotUtf8 { found, .. })) => {
            assert_says(&message, &[name, "expected UTF-8"]);
            (found, message)
        }
        other => panic!("{other:?}"),
    };
    let (latin, message) = found("latin.txt");
    assert_eq!(latin, IllFormed::Byte { byte: 0xE9, at: 11, line: 2 });
    assert_says(&message, &["0xE9", "byte 11", "line 2", "iconv"]);
    assert_eq!(found("cut.txt").0, IllFormed::CutOff { at: 3 });
    for name in ["utf16le.txt", "utf16be.txt"] {
        let (mark, message) = found(name);
        assert_eq!(mark, IllFormed::ByteOrderMark { encoding: "UTF-16" });
        assert_says(&message, &["byte order mark", "iconv -f UTF-16 -t UTF-8"]);
    }
    assert_eq!(found("utf32.txt").0, IllFormed::ByteOrderMark { encoding: "UTF-32" });
    let (gzip, message) = found("gzip.txt");
    assert!(matches!(gzip, IllFormed::Format { name: "a gzip archive", .. }), "{gzip:?}");
    assert_says(&message, &["gunzip"]);
}

#[test]
fn a_folder_or_pattern_without_files_is_an_error() {
    let dir = folder(&[("a.csv", b"1,2\n"), ("sub/b.csv", b"3\n")]);
    let (error, message) = load_error(at(&dir, ""));
    assert!(matches!(error, CorpusError::EmptyFolder { .. }), "{error:?}");
    assert_says(&message, &[dir.path().to_str().unwrap(), ".txt", ".md", ".parquet"]);
    // The pattern matches only a folder, which is not a file.
    for pattern in ["*.txt", "su?"] {
        let (error, message) = load_error(at(&dir, pattern));
        assert!(matches!(error, CorpusError::NoMatch { .. }), "{error:?}");
        assert_says(&message, &[pattern, "found none"]);
    }
    let (error, message) = load_error(at(&dir, "***/a"));
    assert!(matches!(error, CorpusError::BadPattern { .. }), "{error:?}");
    assert_says(&message, &["***/a", "expected a pattern"]);
}

#[test]
fn text_past_the_limit_is_an_error_before_it_is_read() {
    let dir = folder(&[("small.txt", b"small\n")]);
    // A sparse file: its size is large, but it takes no disk space. It begins as a text.
    fs::write(dir.path().join("long.txt"), "long\n".repeat(20_000)).unwrap();
    let file = fs::File::options().write(true).open(dir.path().join("long.txt")).unwrap();
    if file.set_len(MAX_BYTES - 5).is_err() {
        skip("the folder for temporary files takes no long file");
        return;
    }
    let error = load(&[at(&dir, "small.txt"), at(&dir, "long.txt")]).unwrap_err();
    let DocumentError::Input(CorpusError::TooLong { ref path, n_bytes }) = error else { panic!("{error:?}") };
    assert_eq!(n_bytes, MAX_BYTES + 1);
    assert_eq!(path, &dir.path().join("long.txt"));
    assert_says(&error.to_string(), &["long.txt", "4294967296", "4294967297"]);
}

#[cfg(unix)]
#[test]
fn a_socket_is_not_a_file_and_a_dangling_link_is_named() {
    let dir = folder(&[("d/a.txt", b"a")]);
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (error, message) = load_error(at(&dir, "socket"));
    assert!(matches!(error, CorpusError::NotAFile { .. }), "{error:?}");
    assert_says(&message, &["socket", "expected a file"]);

    // Links: one to a file is followed, one to the folder itself is not, a dangling one is reported.
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, dir.path().join("d").join(name)).unwrap();
    };
    link("a.txt", "b.txt");
    link(".", "loop.md");
    assert_eq!(load(&[at(&dir, "d")]).unwrap().text(), "a\na");
    link("nowhere", "c.txt");
    let corpus = load(&[at(&dir, "d")]).unwrap();
    assert_eq!(corpus.text(), "a\na");
    assert_says(&corpus.report().lines()[0], &["1 file was not read", "unreadable", "c.txt"]);
}

// ---- names

#[test]
fn the_named_inputs_are_those_without_a_path() {
    let dir = folder(&[("the-verdict", b"mine"), ("a.txt", b"a")]);
    let inputs =
        [at(&dir, "the-verdict"), "builtin".into(), "the-verdict".into(), at(&dir, "a*"), "the-verdict".into()];
    assert_eq!(named_inputs(&inputs).unwrap(), [names::find("the-verdict").unwrap()]);
    assert_eq!(load(&inputs[..1]).unwrap().text(), "mine");
    let error = named_inputs(&["no-such-name"]).unwrap_err();
    assert_says(&error.to_string(), &["no-such-name", "the-verdict"]);
}

#[test]
fn a_named_text_that_is_missing_says_which_file_goes_where() {
    let dir = folder(&[]);
    let error = names::locate("the-verdict", dir.path()).unwrap_err();
    assert!(matches!(error, NameError::Missing { .. }), "{error:?}");
    let path = at(&dir, "the-verdict.txt");
    let address = names::find("the-verdict").unwrap().address;
    assert_says(&error.to_string(), &[&path, "20479 bytes", "by hand", address]);
    let error = names::locate("the-veredict", dir.path()).unwrap_err();
    assert_says(&error.to_string(), &["the-veredict", "known names: builtin, the-verdict"]);
}

#[test]
fn a_named_text_with_another_content_is_an_error() {
    let text = names::find("the-verdict").unwrap();
    let same_length = vec![b'a'; text.file_bytes as usize];
    let dir = folder(&[("1/the-verdict.txt", &same_length), ("2/the-verdict.txt", b"short")]);
    let error = |cache: &str| names::locate("the-verdict", &dir.path().join(cache)).unwrap_err();
    let message = error("1").to_string();
    let sha256 = sha256_hex(&same_length);
    assert_says(&message, &["the-verdict.txt", text.sha256, &sha256, "delete this file"]);
    assert!(matches!(error("2"), NameError::WrongChecksum { .. }));
    assert_says(&error("2").to_string(), &["20479 bytes", "found 5 bytes", "delete this file"]);
    // The corpus reports the same error.
    let via_corpus = Corpus::load(&["the-verdict"], &dir.path().join("1")).unwrap_err();
    assert_eq!(via_corpus.to_string(), message);
}

#[test]
fn the_table_of_names_is_well_formed() {
    for text in NAMED_TEXTS {
        assert_eq!(text.sha256.len(), 64, "{}", text.name);
        assert!(text.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert!(text.address.starts_with("https://"), "{}", text.name);
        assert_eq!(Path::new(text.file_name).components().count(), 1, "{}", text.name);
        assert_eq!(names::find(text.name), Some(text), "the name stands once");
        assert_ne!(text.name, names::BUILTIN);
    }
}

#[test]
fn the_verdict_in_the_cache_is_the_text_of_the_report() {
    let Some(data) = shared_data() else { return };
    let text = names::find("the-verdict").unwrap();
    let sums = fs::read_to_string(data.join("SHA256SUMS")).unwrap();
    assert_says(&sums, &[&format!("{}  {}", text.sha256, text.file_name)]);
    let corpus = Corpus::load(&["the-verdict"], &data).unwrap();
    assert_eq!(corpus.sources()[0].path, data.join("the-verdict.txt"));
    assert_eq!(corpus.sources()[0].file_bytes, text.file_bytes);
    assert_eq!(corpus.n_characters(), 20_479);
    assert_eq!(corpus.sha256(), text.sha256);
    let (train, validation) = split_by_characters(corpus.text(), 0.9);
    assert_eq!(train.chars().count(), 18_431);
    assert_eq!(validation.chars().count(), 2_048);
}

// ---- windows

#[test]
fn the_split_counts_characters_and_rounds_down() {
    assert_eq!(split_by_characters("éàüöß", 0.5), ("éà", "üöß"));
    assert_eq!(split_by_characters("abc", 1.0), ("abc", ""));
    assert_eq!(split_by_characters("", 0.9), ("", ""));
    // int(0.29 * 100) is 28 in Python: the f64 product is below 29.
    assert_eq!(split_by_characters(&"x".repeat(100), 0.29).0.len(), 28);
}

fn sample(windows: &Windows, i: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut input, mut target) = (Vec::new(), Vec::new());
    windows.read(i, &mut input, &mut target).unwrap();
    (input, target)
}

#[test]
fn a_target_is_its_input_shifted_by_one() {
    let windows = Windows::new(tokens(10), 4, 3).unwrap();
    assert_eq!(windows.len(), 2);
    assert_eq!(sample(&windows, 0), (vec![0, 1, 2, 3], vec![1, 2, 3, 4]));
    assert_eq!(sample(&windows, 1), (vec![3, 4, 5, 6], vec![4, 5, 6, 7]));
    assert!(std::panic::catch_unwind(|| sample(&windows, 2)).is_err());
}

#[test]
fn a_part_shorter_than_a_window_is_an_error_with_what_to_change() {
    // As many tokens as a window, so the last target is missing.
    let error = Windows::new(tokens(256), 256, 128).unwrap_err().in_part("the validation part");
    let expected = WindowsError::TooShort { part: "the validation part", n_tokens: 256, window: 256 };
    assert_eq!(error, expected);
    let remedies = ["--window to at most 255", "more text", "data.train_fraction"];
    assert_says(&error.to_string(), &["the validation part has 256", "at least 257"]);
    assert_says(&error.to_string(), &remedies);
    assert_eq!(Windows::new(tokens(257), 256, 128).unwrap().len(), 1);
    for n in [0, 1] {
        let message = Windows::new(tokens(n), 1, 1).unwrap_err().to_string();
        assert_says(&message, &[&format!("{n} tokens"), "more text"]);
        assert!(!message.contains("--window"), "no window would do: {message}");
    }
    let message = Windows::new(tokens(9), usize::MAX, 1).unwrap_err().to_string();
    assert_says(&message, &["at least 18446744073709551616"]);
}

#[test]
fn a_window_or_stride_of_zero_is_an_error() {
    let message = |window, stride| Windows::new(tokens(9), window, stride).unwrap_err().to_string();
    assert_says(&message(0, 1), &["data.window = 0"]);
    assert_says(&message(1, 0), &["data.stride = 0"]);
    assert_eq!(Windows::new(tokens(9), 2, usize::MAX).unwrap().len(), 1);
}

proptest! {
    #[test]
    fn windows_are_those_of_the_books_loop(
        n in 0u32..200,
        window in 1usize..40,
        stride in 1usize..60,
    ) {
        // for i in range(0, len(token_ids) - max_length, stride)
        let ids: Vec<u32> = (0..n).map(|i| i * 7 % 64).collect();
        let mut expected = Vec::new();
        let mut start = 0;
        while (start as i64) < n as i64 - window as i64 {
            expected.push((ids[start..start + window].to_vec(), ids[start + 1..start + window + 1].to_vec()));
            start += stride;
        }
        match Windows::new(ids.clone().into(), window, stride) {
            Ok(windows) => {
                let found: Vec<_> = (0..windows.len()).map(|i| sample(&windows, i)).collect();
                prop_assert_eq!(found, expected);
            }
            Err(_) => prop_assert!(expected.is_empty()),
        }
    }
}

// ---- loader

/// The rows of an epoch by their first token, and the sizes of its batches.
fn epoch(loader: &mut Loader) -> (Vec<u32>, Vec<usize>) {
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let (mut firsts, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let rows = loader.next_batch(&mut inputs, &mut targets).unwrap();
        assert_eq!(inputs.len(), rows * loader.window());
        assert_eq!(targets.len(), rows * loader.window());
        if rows == 0 {
            return (firsts, sizes);
        }
        assert!(inputs.iter().zip(&targets).all(|(x, y)| x + 1 == *y));
        firsts.extend(inputs.chunks(loader.window()).map(|row| row[0]));
        sizes.push(rows);
    }
}

/// Seven windows of three tokens, at 0, 2, …, 12.
fn seven() -> Windows {
    Windows::new(tokens(16), 3, 2).unwrap()
}

#[test]
fn a_last_batch_that_is_not_full_is_kept_or_dropped() {
    let mut kept = Loader::new(seven(), 3, false).unwrap();
    assert_eq!(kept.n_batches(), 3);
    assert_eq!(epoch(&mut kept), (vec![0, 2, 4, 6, 8, 10, 12], vec![3, 3, 1]));
    let mut dropped = Loader::new(seven(), 3, true).unwrap();
    assert_eq!(dropped.n_batches(), 2);
    assert_eq!(epoch(&mut dropped), (vec![0, 2, 4, 6, 8, 10], vec![3, 3]));
    assert_eq!(epoch(&mut dropped), (vec![], vec![]), "the epoch has ended");
    let mut wide = Loader::new(seven(), usize::MAX, false).unwrap();
    assert_eq!(epoch(&mut wide).1, [7]);
}

#[test]
fn an_epoch_follows_the_given_order() {
    let mut loader = Loader::new(seven(), 2, true).unwrap();
    loader.start_epoch(Some(&[6, 0, 5, 1, 4, 2, 3]));
    assert_eq!(epoch(&mut loader).0, [12, 0, 10, 2, 8, 4]);
    loader.start_epoch(None);
    assert_eq!(epoch(&mut loader).0, [0, 2, 4, 6, 8, 10]);
}

#[test]
fn an_order_that_is_not_a_permutation_is_refused() {
    for order in [&[0, 1, 2, 3, 4, 5][..], &[0, 1, 2, 3, 4, 5, 7], &[0, 1, 2, 3, 4, 5, 5]] {
        let mut loader = Loader::new(seven(), 2, true).unwrap();
        let start = std::panic::AssertUnwindSafe(|| loader.start_epoch(Some(order)));
        assert!(std::panic::catch_unwind(start).is_err(), "{order:?} was taken");
    }
    // More samples than one word of the check holds.
    let mut loader = Loader::new(Windows::new(tokens(201), 1, 1).unwrap(), 1, true).unwrap();
    let order: Vec<u32> = (0..200).rev().collect();
    loader.start_epoch(Some(&order));
    assert_eq!(epoch(&mut loader).0, order);
}

#[test]
fn seeking_continues_in_the_same_order() {
    let order = [3, 1, 4, 0, 5, 2, 6];
    let mut whole = Loader::new(seven(), 2, false).unwrap();
    whole.start_epoch(Some(&order));
    let (all, _) = epoch(&mut whole);
    for batch in 0..=4 {
        let mut resumed = Loader::new(seven(), 2, false).unwrap();
        resumed.start_epoch(Some(&order));
        resumed.seek(batch).unwrap();
        assert_eq!(resumed.position(), batch);
        assert_eq!(epoch(&mut resumed).0, all[(2 * batch).min(7)..]);
        assert_eq!(resumed.position(), 4);
    }
    let error = whole.seek(5).unwrap_err();
    assert_eq!(error, LoaderError::NoSuchBatch { batch: 5, n_batches: 4 });
    assert_says(&error.to_string(), &["batch 5", "has 4", "data.stride", "new run"]);
}

#[test]
fn the_buffers_keep_their_place_after_the_first_batch() {
    // A separate binary counts allocations; here a moved or grown buffer is detected.
    let mut loader = Loader::new(seven(), 4, false).unwrap();
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    loader.seek(1).unwrap();
    assert_eq!(loader.next_batch(&mut inputs, &mut targets).unwrap(), 3, "the short batch comes first");
    let place = |v: &Vec<u32>| (v.as_ptr(), v.capacity());
    let before = (place(&inputs), place(&targets));
    for _ in 0..3 {
        loader.start_epoch(None);
        while loader.next_batch(&mut inputs, &mut targets).unwrap() > 0 {}
    }
    assert_eq!((place(&inputs), place(&targets)), before);
}

#[test]
fn a_loader_without_a_batch_is_an_error_with_what_to_change() {
    let error = Loader::new(seven(), 8, true).unwrap_err().in_part("the training part");
    let expected = LoaderError::NoBatch { part: "the training part", n_windows: 7, batch_size: 8 };
    assert_eq!(error, expected);
    let remedies = ["--batch-size to at most 7", "--stride", "data.drop_last=false"];
    assert_says(&error.to_string(), &["the training part gives 7 windows", "needs 8"]);
    assert_says(&error.to_string(), &remedies);
    assert_eq!(Loader::new(seven(), 8, false).unwrap().n_batches(), 1);
    assert_eq!(Loader::new(seven(), 0, false).unwrap_err(), LoaderError::EmptyBatch);
}

#[test]
fn the_report_has_eight_batches_an_epoch() {
    let Some(data) = shared_data() else { return };
    let bpe = tiktoken_rs::r50k_base().unwrap();
    let config = DataConfig::default();
    let corpus = Corpus::load(&["the-verdict"], &data).unwrap();
    assert_eq!(bpe.encode_ordinary(corpus.text()).len(), 5_145);
    let (train, validation) = split_by_characters(corpus.text(), config.train_fraction);
    let loader = |text: &str, drop_last| {
        let ids: Arc<[u32]> = bpe.encode_ordinary(text).into();
        let windows = Windows::new(ids, config.window, config.stride).unwrap();
        Loader::new(windows, config.batch_size, drop_last).unwrap()
    };
    let train = loader(train, config.drop_last);
    assert_eq!((train.n_windows(), train.n_batches()), (35, 8));
    let validation = loader(validation, false);
    assert_eq!((validation.n_windows(), validation.n_batches()), (3, 1));
}

// ---- configuration

#[test]
fn the_defaults_are_the_reports() {
    let config: DataConfig = toml::from_str("").unwrap();
    // Settings from before `validation` existed keep the rule of that time.
    let expected = DataConfig { validation: ValidationPart::End, ..DataConfig::default() };
    assert_eq!(config, expected);
    assert_eq!(config.validate(), Ok(()));
    let text = toml::to_string(&config).unwrap();
    assert_says(&text, &["inputs = []", "train_fraction = 0.9", "window = 256", "stride = 128"]);
    assert_says(&text, &["batch_size = 4", "eval_batch_size = 0", "drop_last = true"]);
    assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let error = toml::from_str::<DataConfig>("windw = 3").unwrap_err().to_string();
    assert_says(&error, &["windw", "window"]);
}

#[test]
fn the_resolved_configuration_replaces_zero() {
    let config: DataConfig = toml::from_str("batch_size = 2").unwrap();
    assert_eq!(config.resolved().eval_batch_size, 2);
    let config: DataConfig = toml::from_str("batch_size = 2\neval_batch_size = 8").unwrap();
    assert_eq!(config.resolved(), config);
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_remedy() {
    let message = |text: &str| {
        let config: DataConfig = toml::from_str(text).unwrap();
        config.validate().unwrap_err().to_string()
    };
    for fraction in ["0.0", "1.0", "-0.1", "nan", "inf"] {
        let message = message(&format!("train_fraction = {fraction}"));
        assert_says(&message, &["data.train_fraction = ", "above 0 and below 1", "0.9"]);
    }
    assert_says(&message("window = 0"), &["data.window = 0", "at least 1"]);
    assert_says(&message("stride = 0"), &["data.stride = 0", "at least 1"]);
    assert_says(&message("batch_size = 0"), &["data.batch_size = 0", "at least 1"]);
    let huge = "window = 4611686018427387904\nbatch_size = 4";
    assert_says(&message(huge), &["data.batch_size = 4", "--window"]);
    let huge = "eval_batch_size = 9223372036854775807";
    assert_says(&message(huge), &["data.eval_batch_size = 9223372036854775807"]);
    assert_says(&message("inputs = ['a.txt', ' ']"), &["data.inputs = \" \"", "leave"]);
}
