//! Downloads, tested with a server on this machine.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use calame::data::names;
use calame::files::sha256_hex;

use super::transfer::SLACK_BYTES;
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

/// A client without proxies, which cannot reach this machine, and with short timeouts.
fn test_agent() -> Agent {
    Agent::config_builder()
        .proxy(None)
        .timeout_per_read(Some(Duration::from_millis(300)))
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

/// A server for one request: it sends `response` and closes the connection or, if `stall`, waits until the client does.
/// Returns its address and a thread that returns the request.
fn serve(response: Vec<u8>, stall: bool) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        // Up to the end of the request, or to the first bytes of TLS (0x16), which the server does not support.
        while !request.windows(4).any(|end| end == b"\r\n\r\n") && !request.starts_with(b"\x16") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => request.extend_from_slice(&buffer[..n]),
            }
        }
        // Some tests are about clients that close the connection early.
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

/// Downloads the tale from `address`, which must fail and leave no file.
#[track_caller]
fn failure_from(address: &str) -> (Failure, String) {
    let cache = tempfile::tempdir().unwrap();
    let result = download(&test_agent(), &TALE, address, cache.path(), &mut |_| {});
    assert_eq!(files_in(cache.path()), [] as [OsString; 0], "no file may be left");
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
    // The folder is created.
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

/// The program's own client, but without the proxy that the test machine may have.
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
    assert_eq!(found, sha256_hex(b"Once upon a mime.\n"));
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
fn a_transfer_of_more_than_the_text_is_aborted() {
    // If the length is announced, no byte is read.
    let (announced, _) = failure(response("200 OK\r\nContent-Length: 99999999999", b"x"));
    assert!(matches!(announced, Failure::TooLarge { n_bytes: 99_999_999_999 }), "{announced:?}");
    // If not, reading stops soon after the limit.
    let endless = vec![b'x'; 4 * SLACK_BYTES as usize];
    let (unannounced, message) = failure(response("200 OK", &endless));
    let Failure::TooLarge { n_bytes } = unannounced else { panic!("{unannounced:?}") };
    assert!((SLACK_BYTES..=3 * SLACK_BYTES).contains(&n_bytes), "{n_bytes} bytes were read");
    assert!(message.contains("the server sends too many bytes"), "{message}");
}

#[test]
fn a_body_that_is_cut_off_is_refused() {
    let (failure, message) = failure(response("200 OK\r\nContent-Length: 18", &BODY[..7]));
    assert!(matches!(failure, Failure::CutOff { n_bytes: 7, expected: 18 }), "{failure:?}");
    assert!(message.contains("after 7 of 18 bytes"), "{message}");
}

#[test]
fn a_server_that_stops_sending_does_not_block_the_program() {
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
    // This also shows that TLS is built in: without it the error would be a different one, or a panic.
    let (address, server) = serve(with_length(BODY), false);
    let (failure, message) = failure_from(&format!("https://{address}/tale.txt"));
    assert!(matches!(failure, Failure::Network(_)), "{failure:?}");
    assert!(message.contains("InvalidContentType"), "{message}");
    server.join().unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_reported_before_any_transfer() {
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
    // A wrong file of that name belongs to the user: it is reported and not replaced.
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
