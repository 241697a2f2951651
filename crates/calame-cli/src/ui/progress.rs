//! Progress bars: drawn on a terminal, unless programs read the output or `-q` was given.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::verbosity::shows_progress;

/// A bar up to `n`, or a counter without an end if there is none. `json` says that programs read the output.
///
/// # Errors
/// If the template is not one of indicatif's.
pub fn bar(n: Option<u64>, template: &str, json: bool) -> Result<ProgressBar> {
    let bar = match n {
        _ if !shows_progress(json) => ProgressBar::hidden(),
        Some(n) => ProgressBar::new(n),
        None => ProgressBar::no_length(),
    };
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}
