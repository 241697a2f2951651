//! Downloads one text over HTTP, with limits on size and time.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use calame::data::NamedText;
use calame::files::{FileError, Sha256};
use ureq::Agent;

/// Number of excess bytes that a server may send before the transfer is aborted.
pub(super) const SLACK_BYTES: u64 = 64 * 1024;

// Time limits for connecting, for each read, and for the whole transfer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a transfer failed.
#[derive(Debug)]
pub enum Failure {
    /// The connection failed, broke or timed out.
    Network(Box<ureq::Error>),
    /// The server answered with this status instead of a file.
    Status(u16),
    /// The server announced or sent more bytes than the limit.
    TooLarge {
        /// The number of bytes announced or received so far.
        n_bytes: u64,
    },
    /// The transfer ended before the whole text was received.
    CutOff {
        /// The number of bytes received.
        n_bytes: u64,
        /// The length of the text in bytes.
        expected: u64,
    },
    /// The transfer completed, but the file is not the expected text.
    WrongChecksum {
        /// SHA-256 of the file received.
        found: String,
        /// The length of the file received, in bytes.
        n_bytes: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => write!(f, "{error} (is there a network?)"),
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::TooLarge { n_bytes } => {
                write!(f, "the server sends too many bytes ({n_bytes} or more)")
            }
            Self::CutOff { n_bytes, expected } => {
                write!(f, "the transfer ended after {n_bytes} of {expected} bytes")
            }
            Self::WrongChecksum { found, n_bytes } => {
                write!(f, "the file received is a different one ({n_bytes} bytes, SHA-256 {found})")
            }
        }
    }
}

/// Creates the HTTP client for downloads. It reads the proxy settings from the standard environment variables.
pub fn agent() -> Agent {
    Agent::config_builder()
        .user_agent(concat!("calame/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .timeout_global(Some(TOTAL_TIMEOUT))
        .build()
        .into()
}

/// Passes the bytes at `address` to `sink` as they arrive, then verifies the checksum of `text`. The outer error comes
/// from `sink`, the inner error from the transfer.
pub(super) fn receive(
    agent: &Agent,
    text: &NamedText,
    address: &str,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
    progress: &mut dyn FnMut(u64),
) -> Result<Result<(), Failure>, FileError> {
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

    let found = hasher.finish();
    Ok(if found == text.sha256 {
        Ok(())
    } else if announced.is_none() && n_bytes < text.file_bytes {
        // Without a Content-Length, the end of a broken connection looks like the end of the file.
        Err(cut_off(n_bytes))
    } else {
        Err(Failure::WrongChecksum { found, n_bytes })
    })
}
