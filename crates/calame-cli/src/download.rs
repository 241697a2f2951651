//! The download of a named text into the cache folder.
//!
//! A file stands in the cache folder under its own name only once its SHA-256 has been checked and
//! its bytes are on the disk; before that it has a temporary name there, and is removed on failure.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use calame::data::corpus::named_inputs;
use calame::data::{CorpusError, NameError, NamedText, names};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use ureq::Agent;

/// What a server may send beyond a text's length before the transfer is broken off, in bytes.
const SLACK_BYTES: u64 = 64 * 1024;

/// Waiting for a connection, waiting for the next bytes, and the whole transfer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a named text is not in the cache folder.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The transfer failed, or what came is not the text.
    #[error(
        "cannot download {} from {address}: {failure}; put {} ({} bytes, SHA-256 {}) at {} by hand",
        text.name, text.file_name, text.file_bytes, text.sha256, path.display()
    )]
    Failed {
        /// The text asked for.
        text: &'static NamedText,
        /// Where it was asked for.
        address: String,
        /// Where the file belongs.
        path: PathBuf,
        /// What went wrong.
        failure: Failure,
    },
    /// The cache folder cannot be made or written to.
    #[error(
        "{}: cannot be written: {reason}; make room or set CALAME_CACHE to another folder",
        path.display()
    )]
    Write {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// No variable says where the cache folder is.
    #[error("no home folder is known to keep texts in; set CALAME_CACHE to a folder")]
    NoHome,
    /// An input that is no input, or a file in the cache folder that is not the text.
    #[error(transparent)]
    Input(#[from] CorpusError),
}

/// What went wrong in a transfer.
#[derive(Debug)]
pub enum Failure {
    /// No connection, or a broken one, or one that came to a halt.
    Network(Box<ureq::Error>),
    /// The server answered, but not with a file.
    Status(u16),
    /// The server sends more than the text can be.
    TooLarge {
        /// Bytes announced, or received so far.
        n_bytes: u64,
    },
    /// The transfer ended early.
    CutOff {
        /// Bytes received.
        n_bytes: u64,
        /// Bytes of the text.
        expected: u64,
    },
    /// A whole file, but another one.
    WrongChecksum {
        /// Its SHA-256.
        found: String,
        /// Its length in bytes.
        n_bytes: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => write!(f, "{error} (is there a network?)"),
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::TooLarge { n_bytes } => {
                write!(f, "the server sends too much ({n_bytes} bytes and perhaps more)")
            }
            Self::CutOff { n_bytes, expected } => {
                write!(f, "the transfer ended after {n_bytes} of {expected} bytes")
            }
            Self::WrongChecksum { found, n_bytes } => {
                write!(f, "what came is another file ({n_bytes} bytes, SHA-256 {found})")
            }
        }
    }
}

/// The folder in which named texts are kept: `$CALAME_CACHE`, else `$XDG_CACHE_HOME/calame`, else
/// `~/.cache/calame`; it need not exist.
///
/// # Errors
///
/// None of the three is known.
pub fn cache_dir() -> Result<PathBuf, DownloadError> {
    cache_dir_from(|name| std::env::var_os(name), std::env::home_dir())
}

/// As [`cache_dir`], from variables and a home folder that are handed in.
fn cache_dir_from(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Result<PathBuf, DownloadError> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|p| !p.as_os_str().is_empty());
    if let Some(cache) = folder("CALAME_CACHE") {
        return Ok(cache);
    }
    // The XDG base directory specification has relative paths ignored.
    if let Some(cache) = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(cache.join("calame"));
    }
    home.filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".cache").join("calame"))
        .ok_or(DownloadError::NoHome)
}

/// The client for downloads; proxies are taken from the usual variables.
pub fn agent() -> Agent {
    Agent::config_builder()
        .user_agent(concat!("calame/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .timeout_global(Some(TOTAL_TIMEOUT))
        .build()
        .into()
}

/// Downloads the named texts among `inputs` that `cache_dir` does not hold yet; `progress` gets the
/// text and the bytes received so far.
///
/// # Errors
///
/// An input that is no path, name or pattern; a file in the cache folder that is not the text it
/// should be; a download that fails.
pub fn fetch_missing<S: AsRef<str>>(
    agent: &Agent,
    inputs: &[S],
    cache_dir: &Path,
    progress: &mut dyn FnMut(&NamedText, u64),
) -> Result<(), DownloadError> {
    for text in named_inputs(inputs)? {
        match names::check(text, cache_dir) {
            Ok(_) => {}
            Err(NameError::Missing { .. }) => {
                download(agent, text, text.address, cache_dir, &mut |n| {
                    progress(text, n);
                })?;
            }
            Err(error) => return Err(CorpusError::from(error).into()),
        }
    }
    Ok(())
}

/// Downloads `text` from `address` into `cache_dir` (made if missing) and gives the file's path;
/// `progress` gets the bytes received so far, of `text.file_bytes`.
///
/// # Errors
///
/// No network, a server that has no such file or sends another one, a folder that cannot be
/// written. What stood in the folder before stands there still, and nothing new does.
pub fn download(
    agent: &Agent,
    text: &'static NamedText,
    address: &str,
    cache_dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, DownloadError> {
    let path = cache_dir.join(text.file_name);
    // The folder first: a folder that cannot be written needs no network to say so.
    let mut file = temporary_file(text, cache_dir).map_err(write_error(cache_dir))?;
    let sink = &mut |bytes: &[u8]| file.write_all(bytes).map_err(write_error(&path));
    let received = receive(agent, text, address, sink, progress)?;
    received.map_err(|failure| {
        let (address, path) = (address.to_owned(), path.clone());
        DownloadError::Failed { text, address, path, failure }
    })?;
    persist(file, &path).map_err(write_error(&path))?;
    Ok(path)
}

/// Gives `sink` the bytes at `address` as they come, and says whether they were `text`. The outer
/// error is the sink's, the inner one the transfer's.
fn receive(
    agent: &Agent,
    text: &NamedText,
    address: &str,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), DownloadError>,
    progress: &mut dyn FnMut(u64),
) -> Result<Result<(), Failure>, DownloadError> {
    let mut body = match agent.get(address).call() {
        Ok(response) => response.into_body(),
        Err(ureq::Error::StatusCode(status)) => return Ok(Err(Failure::Status(status))),
        Err(error) => return Ok(Err(Failure::Network(Box::new(error)))),
    };
    let announced = body.content_length();
    let limit = text.file_bytes + SLACK_BYTES;
    if let Some(n_bytes) = announced.filter(|n_bytes| *n_bytes > limit) {
        return Ok(Err(Failure::TooLarge { n_bytes }));
    }

    let mut reader = body.as_reader();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut n_bytes = 0;
    let cut_off = |n_bytes| Failure::CutOff { n_bytes, expected: text.file_bytes };
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(cut_off(n_bytes)));
            }
            Err(error) => return Ok(Err(Failure::Network(Box::new(error.into())))),
        };
        n_bytes += n as u64;
        if n_bytes > limit {
            return Ok(Err(Failure::TooLarge { n_bytes }));
        }
        hasher.update(&buffer[..n]);
        sink(&buffer[..n])?;
        progress(n_bytes);
    }

    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(if found == text.sha256 {
        Ok(())
    } else if announced.is_none() && n_bytes < text.file_bytes {
        // Without an announced length a whole transfer ends as a broken one does: by closing.
        Err(cut_off(n_bytes))
    } else {
        Err(Failure::WrongChecksum { found, n_bytes })
    })
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> DownloadError + use<> {
    let path = path.to_owned();
    move |reason| DownloadError::Write { path, reason }
}

/// A new file in the cache folder, so that renaming it later stays within one file system; it is
/// removed when it is dropped.
fn temporary_file(text: &NamedText, cache_dir: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(cache_dir)?;
    let prefix = format!(".{}.", text.file_name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part");
    // Temporary files are private by default; a text in a cache folder that several accounts share
    // is to be as readable as any other file there.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(cache_dir)
}

fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name is on the disk once the folder is. Where folders cannot be synced the file is
    // there all the same, and losing it in a crash costs a second download.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, SocketAddr, TcpListener};
    use std::thread::{self, JoinHandle};

    use super::*;

    const BODY: &[u8] = b"Once upon a time.\n";

    static TALE: NamedText = NamedText {
        name: "tale",
        file_name: "tale.txt",
        address: "https://example.invalid/tale.txt",
        sha256: "16badc035e4df060411ceb1f99a599cd190a6dc644e2b7de7f6e726e43bc1475",
        file_bytes: 18,
        description: "a tale",
    };

    /// Without proxies, which do not know this machine, and impatient.
    fn test_agent() -> Agent {
        Agent::config_builder()
            .proxy(None)
            .timeout_per_read(Some(Duration::from_millis(300)))
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into()
    }

    /// A server for one request: answers with `response`, then closes (or waits until the other
    /// side does, if `stall`). Gives its address and, when joined, the request.
    fn serve(response: Vec<u8>, stall: bool) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            // To the end of the request, or to the first bytes of TLS (0x16), which is not spoken.
            while !request.windows(4).any(|end| end == b"\r\n\r\n") && !request.starts_with(b"\x16") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&buffer[..n]),
                }
            }
            // The client may hang up in the middle, which is what some tests are about.
            let _ = stream.write_all(&response);
            if !stall {
                let _ = stream.shutdown(Shutdown::Write);
            }
            while matches!(stream.read(&mut buffer), Ok(n) if n > 0) {}
            String::from_utf8_lossy(&request).into_owned()
        });
        (address, server)
    }

    fn response(head: &str, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
    }

    fn with_length(body: &[u8]) -> Vec<u8> {
        response(&format!("200 OK\r\nContent-Length: {}", body.len()), body)
    }

    fn files_in(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    /// Downloads the tale from `address`, which must fail and leave nothing behind.
    #[track_caller]
    fn failure_from(address: &str) -> (Failure, String) {
        let cache = tempfile::tempdir().unwrap();
        let result = download(&test_agent(), &TALE, address, cache.path(), &mut |_| {});
        assert_eq!(files_in(cache.path()), [] as [OsString; 0], "nothing may be left behind");
        let error = result.unwrap_err();
        let message = error.to_string();
        let place = cache.path().join("tale.txt");
        for part in ["tale", address, TALE.sha256, "18 bytes", place.to_str().unwrap(), "by hand"] {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
        match error {
            DownloadError::Failed { failure, .. } => (failure, message),
            error => panic!("{error:?}"),
        }
    }

    #[track_caller]
    fn failure(response: Vec<u8>) -> (Failure, String) {
        let (address, server) = serve(response, false);
        let failure = failure_from(&format!("http://{address}/tale.txt"));
        server.join().unwrap();
        failure
    }

    #[test]
    fn a_text_is_downloaded_checked_and_then_found() {
        let cache = tempfile::tempdir().unwrap();
        // Made on the way.
        let cache = cache.path().join("deep/cache");
        let (address, server) = serve(with_length(BODY), false);
        let mut seen = Vec::new();
        let url = format!("http://{address}/a/tale.txt");
        let path = download(&agent_like_the_programs(), &TALE, &url, &cache, &mut |n| {
            seen.push(n);
        });
        assert_eq!(path.unwrap(), cache.join("tale.txt"));
        assert_eq!(fs::read(cache.join("tale.txt")).unwrap(), BODY);
        assert_eq!(files_in(&cache), ["tale.txt"], "no temporary file is left");
        assert_eq!(seen.last(), Some(&18));
        assert!(seen.is_sorted());
        assert_eq!(names::check(&TALE, &cache).unwrap(), cache.join("tale.txt"));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /a/tale.txt HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("user-agent: calame/"), "{request}");
    }

    /// The program's own client, but for a proxy, which the machine that tests may have.
    fn agent_like_the_programs() -> Agent {
        let config = agent().config().clone();
        assert!(config.timeouts().global.is_some() && config.timeouts().connect.is_some());
        Agent::config_builder()
            .proxy(None)
            .user_agent(config.user_agent().clone())
            .timeout_connect(config.timeouts().connect)
            .timeout_per_read(config.timeout_per_read())
            .timeout_global(config.timeouts().global)
            .build()
            .into()
    }

    #[test]
    fn a_transfer_without_a_length_ends_with_the_connection() {
        let cache = tempfile::tempdir().unwrap();
        let (address, server) = serve(response("200 OK", BODY), false);
        let url = format!("http://{address}/");
        download(&test_agent(), &TALE, &url, cache.path(), &mut |_| {}).unwrap();
        server.join().unwrap();
        let (failure, message) = failure(response("200 OK", &BODY[..7]));
        assert!(matches!(failure, Failure::CutOff { n_bytes: 7, expected: 18 }), "{failure:?}");
        assert!(message.contains("after 7 of 18 bytes"), "{message}");
    }

    #[test]
    fn another_file_is_refused() {
        let (failure, message) = failure(with_length(b"Once upon a mime.\n"));
        let Failure::WrongChecksum { found, n_bytes: 18 } = failure else { panic!("{failure:?}") };
        assert_eq!(found, names::sha256_hex(b"Once upon a mime.\n"));
        assert!(message.contains(&found), "{message}");
    }

    #[test]
    fn another_file_in_the_cache_stays_as_it_was() {
        let cache = tempfile::tempdir().unwrap();
        fs::write(cache.path().join("tale.txt"), b"mine").unwrap();
        let (address, server) = serve(with_length(b"Once upon a mime.\n"), false);
        let url = format!("http://{address}/");
        download(&test_agent(), &TALE, &url, cache.path(), &mut |_| {}).unwrap_err();
        server.join().unwrap();
        assert_eq!(fs::read(cache.path().join("tale.txt")).unwrap(), b"mine");
        assert_eq!(files_in(cache.path()).len(), 1);
    }

    #[test]
    fn a_status_that_is_no_success_is_named() {
        let (failure, message) = failure(response("404 Not Found\r\nContent-Length: 0", b""));
        assert!(matches!(failure, Failure::Status(404)), "{failure:?}");
        assert!(message.contains("status 404"), "{message}");
    }

    #[test]
    fn more_than_the_text_is_broken_off() {
        // Announced: not one byte is read.
        let (announced, _) = failure(response("200 OK\r\nContent-Length: 99999999999", b"x"));
        assert!(matches!(announced, Failure::TooLarge { n_bytes: 99_999_999_999 }), "{announced:?}");
        // Not announced: soon after the limit.
        let endless = vec![b'x'; 4 * SLACK_BYTES as usize];
        let (unannounced, message) = failure(response("200 OK", &endless));
        let Failure::TooLarge { n_bytes } = unannounced else { panic!("{unannounced:?}") };
        assert!((SLACK_BYTES..=3 * SLACK_BYTES).contains(&n_bytes), "{n_bytes} bytes were read");
        assert!(message.contains("too much"), "{message}");
    }

    #[test]
    fn a_body_that_is_cut_off_is_refused() {
        let (failure, message) = failure(response("200 OK\r\nContent-Length: 18", &BODY[..7]));
        assert!(matches!(failure, Failure::CutOff { n_bytes: 7, expected: 18 }), "{failure:?}");
        assert!(message.contains("after 7 of 18 bytes"), "{message}");
    }

    #[test]
    fn a_server_that_falls_silent_does_not_hold_the_program() {
        let (address, server) = serve(response("200 OK\r\nContent-Length: 18", &BODY[..7]), true);
        let (failure, message) = failure_from(&format!("http://{address}/"));
        assert!(matches!(failure, Failure::Network(_)), "{failure:?}");
        assert!(message.contains("timeout"), "{message}");
        server.join().unwrap();
    }

    #[test]
    fn no_server_and_no_tls_are_network_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (failure, message) = failure_from(&format!("http://{address}/tale.txt"));
        assert!(matches!(failure, Failure::Network(_)), "{failure:?}");
        assert!(message.contains("is there a network?"), "{message}");
        // Also shows that TLS is built in and set up: without it this is another error, or a panic.
        let (address, server) = serve(with_length(BODY), false);
        let (failure, message) = failure_from(&format!("https://{address}/tale.txt"));
        assert!(matches!(failure, Failure::Network(_)), "{failure:?}");
        assert!(message.contains("InvalidContentType"), "{message}");
        server.join().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_needs_no_network_to_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let cache = file.join("cache");
        let error = download(&test_agent(), &TALE, "http://127.0.0.1:1/", &cache, &mut |_| {});
        let error = error.unwrap_err();
        assert!(matches!(error, DownloadError::Write { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(cache.to_str().unwrap()), "{message}");
        assert!(message.contains("CALAME_CACHE"), "{message}");
    }

    #[test]
    fn only_what_is_missing_is_fetched() {
        let cache = tempfile::tempdir().unwrap();
        let fetch = |inputs: &[&str]| fetch_missing(&test_agent(), inputs, cache.path(), &mut |_, _| {});
        fetch(&[]).unwrap();
        fetch(&["builtin", cache.path().to_str().unwrap()]).unwrap();
        assert_eq!(files_in(cache.path()).len(), 0);
        let message = fetch(&["no-such-text"]).unwrap_err().to_string();
        assert!(message.contains("the-verdict"), "{message}");
        // A wrong file under the name is reported; it is the user's, and is not replaced.
        fs::write(cache.path().join("the-verdict.txt"), b"mine").unwrap();
        let message = fetch(&["the-verdict"]).unwrap_err().to_string();
        assert!(message.contains("delete this file"), "{message}");
        assert_eq!(fs::read(cache.path().join("the-verdict.txt")).unwrap(), b"mine");
    }

    #[test]
    fn the_cache_folder_follows_the_variables() {
        let folder = |variables: &[(&str, &str)], home: Option<&str>| {
            let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            cache_dir_from(variable, home.map(PathBuf::from))
        };
        let all = [("CALAME_CACHE", "here"), ("XDG_CACHE_HOME", "/xdg")];
        assert_eq!(folder(&all, Some("/home/ada")).unwrap(), Path::new("here"));
        assert_eq!(folder(&all[1..], Some("/home/ada")).unwrap(), Path::new("/xdg/calame"));
        let empty_or_relative = [("CALAME_CACHE", ""), ("XDG_CACHE_HOME", "xdg")];
        let home = folder(&empty_or_relative, Some("/home/ada")).unwrap();
        assert_eq!(home, Path::new("/home/ada/.cache/calame"));
        let message = folder(&[], None).unwrap_err().to_string();
        assert!(message.contains("CALAME_CACHE"), "{message}");
    }
}
