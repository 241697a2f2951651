//! A client against servers on this machine that misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::*;

/// A server that answers every request, in turn, with the next of `answers`, and repeats the last. It counts requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // The thread ends with the test program.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let request: String = lines.map(|line| line + "\n").collect();
                seen.lock().unwrap().push(request.to_lowercase());
                answer(&request, &mut stream);
            }
        });
        Server { address, requests }
    }

    fn of_bytes(answer: Vec<u8>) -> Server {
        Server::new(move |_, stream| {
            let _ = stream.write_all(&answer);
        })
    }

    fn client(&self, limits: Limits) -> Client {
        Client::new(&self.address, Some("secret"), limits).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn short() -> Limits {
    let moment = Duration::from_millis(300);
    Limits { connect: moment, read: moment, total: Duration::from_millis(900), ..Limits::default() }
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn a_server_that_is_silent_or_slow_is_left() {
    let silent = Server::new(|_, _| thread::sleep(Duration::from_secs(20)));
    let begun = Server::new(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_secs(20));
    });
    // Every piece comes in time, but there is no end.
    let dripping = Server::new(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    for server in [&silent, &begun, &dripping] {
        let client = server.client(short());
        let url = server.address.clone();
        for request in [0, 1] {
            let start = Instant::now();
            let outcome = match request {
                0 => client.text(&url).map(drop),
                _ => client.transfer(&url, 0, 10_000, &mut |_, _| Ok(())),
            };
            assert!(matches!(outcome, Err(RequestError::Network(_))), "{outcome:?}");
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
    }
}

#[test]
fn a_redirect_without_end_is_left() {
    let server = Server::of_bytes(redirect("/again"));
    let error = server.client(Limits { redirects: 3, ..short() }).text(&server.address).unwrap_err();
    assert!(matches!(error, RequestError::Redirects(3)), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn the_token_does_not_follow_a_redirect_to_another_server() {
    let store = Server::of_bytes(ok("text"));
    let to = format!("{}/file", store.address);
    let hub = Server::new(move |request, stream| {
        let answer = if request.contains("/first") { redirect("/second") } else { redirect(&to) };
        let _ = stream.write_all(&answer);
    });
    assert_eq!(hub.client(short()).text(&format!("{}/first", hub.address)).unwrap(), "text");
    let with_token = |requests: Vec<String>| requests.iter().filter(|r| r.contains("bearer secret")).count();
    assert_eq!((hub.requests().len(), with_token(hub.requests())), (2, 2));
    assert_eq!((store.requests().len(), with_token(store.requests())), (1, 0));
    // Neither does it go over the open network without encryption.
    assert!(Client::new("http://example.org", Some("secret"), short()).unwrap().token.is_none());
    assert!(Client::new("https://example.org", Some("secret"), short()).unwrap().token.is_some());
}

#[test]
fn addresses_are_resolved_or_refused() {
    let from: Uri = "https://hub.test/a/b?c=d".parse().unwrap();
    let to = |location: &str| redirected(&from, location).map(|uri| uri.to_string()).ok();
    assert_eq!(to("/x/y"), Some("https://hub.test/x/y".to_owned()));
    assert_eq!(to("y"), Some("https://hub.test/a/y".to_owned()));
    assert_eq!(to("//store.test/x"), Some("https://store.test/x".to_owned()));
    assert_eq!(to("https://store.test:8443/x?y=z"), Some("https://store.test:8443/x?y=z".to_owned()));
    for wrong in [
        "http://hub.test/x",
        "file:///etc/passwd",
        "ftp://hub.test/",
        "https://user@hub.test/",
        "https://",
        "http://[",
        "\u{1f600}://x",
    ] {
        assert_eq!(to(wrong), None, "{wrong}");
    }
    let same = |a: &str, b: &str| has_same_origin(&a.parse().unwrap(), &b.parse().unwrap());
    assert!(same("https://hub.test/a", "https://HUB.test:443/b"));
    for other in ["http://hub.test/", "https://hub.test:444/", "https://hub.test.evil/", "https://evil/hub.test"] {
        assert!(!same("https://hub.test/", other), "{other}");
    }
    assert!(is_this_machine("127.0.0.1") && is_this_machine("[::1]") && is_this_machine("localhost"));
    assert!(!is_this_machine("127.0.0.1.evil.test") && !is_this_machine("10.0.0.1"));
}

/// Whatever arrives, the result is an error or the bytes of the file; nothing panics, hangs or grows.
#[test]
fn no_answer_causes_a_panic() {
    let long = "x".repeat(200_000);
    let answers: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\r\n\r\n".to_vec(),
        b"nonsense".to_vec(),
        b"HTTP/1.1".to_vec(),
        b"HTTP/1.1 999 What\r\n\r\n".to_vec(),
        b"HTTP/1.1 000 \r\n\r\n".to_vec(),
        b"HTTP/9.9 200 OK\r\n\r\n".to_vec(),
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation:\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: http:///x\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: ?\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nETag: \xff\r\nX-Repo-Commit: \xff\xfe\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd".to_vec(),
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-2/1\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 99999999999999999999-/-\r\nContent-Length: 3\r\n\r\nabc"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\nabc").into_bytes(),
        format!("HTTP/1.1 200 OK\r\n{}\r\nabc", "A: b\r\n".repeat(20_000)).into_bytes(),
        ok(&long),
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
        let server = Server::of_bytes(answer);
        let client = server.client(Limits { answer_bytes: 1000, redirects: 2, ..short() });
        let start = Instant::now();
        // A body of at most 1000 bytes, or an error.
        if let Ok(text) = client.text(&server.address) {
            assert!(text.len() <= 1000, "{shown}");
        }
        let _ = client.headers(&server.address, "etag").map(|headers| content_length(&headers));
        for from in [0, 2] {
            let mut received = 0;
            let outcome = client.transfer(&server.address, from, 3, &mut |at, piece| {
                assert!(at + piece.len() as u64 <= 3, "{shown}");
                received = at + piece.len() as u64;
                Ok(())
            });
            assert!(outcome.is_err() || received == 3, "{shown}: {outcome:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{shown}");
    }
}

#[test]
fn a_transfer_starts_where_it_is_asked_to_or_at_the_beginning() {
    let body = "0123456789";
    let part = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\nConnection: close\r\n\r\n{}",
        &body[4..]
    );
    let short_part = part.replace("Content-Length: 6", "Content-Length: 3").replace("456789", "456");
    for (answer, first, expected) in
        [(part.into_bytes(), 4, Ok(10)), (ok(body), 0, Ok(10)), (short_part.into_bytes(), 4, Err(7))]
    {
        let server = Server::of_bytes(answer);
        let mut seen = Vec::new();
        let outcome = server.client(short()).transfer(&server.address, 4, 10, &mut |at, piece| {
            seen.push((at, piece.to_vec()));
            Ok(())
        });
        assert_eq!(seen[0].0, first);
        let end = seen.iter().map(|(at, piece)| at + piece.len() as u64).max().unwrap();
        match expected {
            Ok(length) => assert!(outcome.is_ok() && end == length, "{outcome:?}"),
            Err(at) => assert!(matches!(outcome, Err(RequestError::CutOff { n_bytes, expected: 10 }) if n_bytes == at)),
        }
        assert!(server.requests()[0].contains("range: bytes=4-"));
    }
}
