//! HTTP with limits: on time, on redirects, on the size of answers, and on who sees the token.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

/// Bytes read from a connection at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// How long and how far a request may go.
#[derive(Clone, Debug)]
pub struct Limits {
    /// To connect, and to send a request.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub read: Duration,
    /// For a whole answer, beside the time for its bytes.
    pub total: Duration,
    /// The slowest transfer that is waited for.
    pub least_bytes_per_second: u64,
    /// Redirects of one request.
    pub redirects: usize,
    /// Bytes of an answer that is read into memory.
    pub answer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
            total: Duration::from_secs(60),
            least_bytes_per_second: 20_000,
            redirects: 8,
            answer_bytes: 16 << 20,
        }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub enum RequestError {
    /// An address, given or received, that is no address of a web server.
    Address(String),
    /// The connection failed, broke or timed out.
    Network(Box<ureq::Error>),
    /// The server answered with this status.
    Status(u16),
    /// More redirects than [`Limits::redirects`].
    Redirects(usize),
    /// A redirect from https to http.
    Downgrade(String),
    /// The answer lacks something, or contradicts what was asked for.
    Answer(String),
    /// The transfer ended too early; the rest can be requested.
    CutOff {
        /// Number of bytes that have arrived.
        n_bytes: u64,
        /// Number of bytes that the answer announced.
        expected: u64,
    },
    /// What was received cannot be written.
    Write(io::Error),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address:?} is not an address of a web server (http:// or https://)"),
            Self::Network(error) => write!(f, "{error} (is there a network?)"),
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::Redirects(n) => write!(f, "the server redirects more than {n} times"),
            Self::Downgrade(address) => write!(f, "the server redirects to {address}, which is not encrypted"),
            Self::Answer(problem) => f.write_str(problem),
            Self::CutOff { n_bytes, expected } => {
                write!(f, "the transfer ended after {n_bytes} of {expected} bytes")
            }
            Self::Write(error) => write!(f, "cannot write what is received: {error}"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<ureq::Error> for RequestError {
    fn from(error: ureq::Error) -> RequestError {
        RequestError::Network(Box::new(error))
    }
}

/// Whether a request asks for the answer's body.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Get,
    Head,
}

/// Sends requests to one server, and to those that it redirects to.
pub struct Client {
    agent: Agent,
    /// The server that the token belongs to.
    home: Uri,
    token: Option<String>,
    limits: Limits,
}

impl Client {
    /// A client of the server at `endpoint`, which alone receives `token`.
    ///
    /// # Errors
    /// If the address is not valid.
    pub fn new(endpoint: &str, token: Option<&str>, limits: Limits) -> Result<Client, RequestError> {
        let home = address(endpoint)?;
        let agent = Agent::config_builder()
            .user_agent(concat!("calame/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here, one by one: each may lead to another server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.connect))
            .timeout_recv_response(Some(limits.read))
            .timeout_per_read(Some(limits.read))
            .build()
            .into();
        // Nobody on the way may read it. On this machine there is no way.
        let is_private = home.scheme_str() == Some("https") || home.host().is_some_and(is_this_machine);
        let token = token.filter(|_| is_private).map(str::to_owned);
        Ok(Client { agent, home, token, limits })
    }

    /// The text of a short answer.
    ///
    /// # Errors
    /// If the request fails, or the answer is too long or not UTF-8.
    pub fn text(&self, url: &str) -> Result<String, RequestError> {
        let response = self.follow(Method::Get, url, None, self.limits.total, |_| false)?;
        let limit = self.limits.answer_bytes;
        let mut bytes = Vec::new();
        let mut body = response.into_body();
        body.as_reader()
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| RequestError::from(ureq::Error::from(error)))?;
        if bytes.len() as u64 > limit {
            return Err(RequestError::Answer(format!("the answer has more than {limit} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| RequestError::Answer("the answer is not UTF-8".to_owned()))
    }

    /// The headers of the first answer that has the header `wanted`: that of this client's server, not of a store that it
    /// redirects to.
    ///
    /// # Errors
    /// If the request fails.
    pub fn headers(&self, url: &str, wanted: &str) -> Result<HeaderMap, RequestError> {
        let is_wanted = |headers: &HeaderMap| headers.contains_key(wanted);
        let response = self.follow(Method::Head, url, None, self.limits.total, is_wanted)?;
        Ok(response.into_parts().0.headers)
    }

    /// Transfers a file of `n_bytes` bytes from byte `from` on: passes them to `sink`, with their position. The server may
    /// ignore `from` and start at 0.
    ///
    /// # Errors
    /// If the request fails, the answer is not that part of a file of this length, or `sink` fails.
    pub fn transfer(
        &self,
        url: &str,
        from: u64,
        n_bytes: u64,
        sink: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), RequestError> {
        let seconds = (n_bytes - from.min(n_bytes)) / self.limits.least_bytes_per_second.max(1);
        let total = self.limits.total.saturating_add(Duration::from_secs(seconds));
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let response = self.follow(Method::Get, url, range.as_deref(), total, |_| false)?;
        let mut at = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let found = header(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
                if parts_of_range(found) != Some((from, n_bytes)) {
                    let expected = format!("expected bytes {from}- of {n_bytes}");
                    return Err(RequestError::Answer(format!("the server sends the part {found:?}, {expected}")));
                }
                from
            }
            _ => 0,
        };
        let mut body = response.into_body();
        let mut reader = body.as_reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let n = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(ureq::Error::from(error).into()),
            };
            if n as u64 > n_bytes.saturating_sub(at) {
                return Err(RequestError::Answer(format!(
                    "the server sends more than the {n_bytes} bytes of the file"
                )));
            }
            sink(at, &piece[..n]).map_err(RequestError::Write)?;
            at += n as u64;
        }
        if at < n_bytes { Err(RequestError::CutOff { n_bytes: at, expected: n_bytes }) } else { Ok(()) }
    }

    /// Sends a request and follows redirects until an answer that is none, or whose headers are those asked for.
    fn follow(
        &self,
        method: Method,
        url: &str,
        range: Option<&str>,
        total: Duration,
        is_wanted: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Response<Body>, RequestError> {
        let mut uri = address(url)?;
        for _ in 0..=self.limits.redirects {
            let response = self.send(method, &uri, range, total)?;
            let status = response.status();
            if is_wanted(response.headers()) && (status.is_success() || status.is_redirection()) {
                return Ok(response);
            }
            if !status.is_redirection() {
                return if status.is_success() { Ok(response) } else { Err(RequestError::Status(status.as_u16())) };
            }
            let location = header(response.headers(), LOCATION.as_str());
            let location = location.ok_or_else(|| RequestError::Answer("a redirect leads nowhere".to_owned()))?;
            uri = redirected(&uri, location)?;
        }
        Err(RequestError::Redirects(self.limits.redirects))
    }

    fn send(
        &self,
        method: Method,
        uri: &Uri,
        range: Option<&str>,
        total: Duration,
    ) -> Result<Response<Body>, RequestError> {
        let request = match method {
            Method::Get => self.agent.get(uri),
            Method::Head => self.agent.head(uri),
        };
        // A length in the headers is that of the file, not of a compressed form.
        let mut request = request.config().timeout_global(Some(total)).build().header(ACCEPT_ENCODING, "identity");
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(token) = self.token.as_ref().filter(|_| has_same_origin(uri, &self.home)) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request.call()?)
    }
}

/// A header's value, if it is there and is text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The length of an answer's body, as its headers give it.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_LENGTH.as_str())?.trim().parse().ok()
}

/// An address of a web server, without a user's name in it.
fn address(text: &str) -> Result<Uri, RequestError> {
    let wrong = || RequestError::Address(text.chars().take(200).collect());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_web && is_plain && uri.host().is_some_and(|host| !host.is_empty()) { Ok(uri) } else { Err(wrong()) }
}

/// The address that a redirect from `uri` leads to.
fn redirected(uri: &Uri, location: &str) -> Result<Uri, RequestError> {
    let (scheme, authority) = (uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |a| a.as_str()));
    let target = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target = address(&target)?;
    if scheme == "https" && target.scheme_str() != Some("https") {
        return Err(RequestError::Downgrade(target.to_string()));
    }
    Ok(target)
}

/// Whether two addresses have the same scheme, host and port.
fn has_same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first byte and the file's length in `bytes FIRST-LAST/LENGTH`.
fn parts_of_range(value: &str) -> Option<(u64, u64)> {
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, length.trim().parse().ok()?))
}

#[cfg(test)]
mod tests;
