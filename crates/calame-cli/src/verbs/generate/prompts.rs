//! The prompts: given as text, one in each line of a file, or from standard input.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use calame::files::read_text_at_most;

use super::Args;
use crate::ui::output::{UsageError, WithHint};

/// Largest file of prompts, and longest standard input.
const MAX_BYTES: u64 = 64 << 20;

/// All prompts, in order.
///
/// # Errors
/// If a file cannot be read, is too long or has no lines.
pub fn read(args: &Args) -> Result<Vec<String>> {
    let Some(path) = &args.prompts else {
        return Ok(vec![if args.context == "-" { standard_input()? } else { args.context.clone() }]);
    };
    let is_standard = path == Path::new("-");
    let text = if is_standard { standard_input()? } else { read_text_at_most(path, MAX_BYTES)? };
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        bail!(WithHint::new(format!("{} has no lines", path.display()), "write a prompt in each line"));
    }
    Ok(lines)
}

fn standard_input() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!(UsageError(format!("standard input is longer than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).context("standard input is not UTF-8")?;
    // A line end that an editor or a shell has added belongs to no prompt.
    Ok(text.strip_suffix('\n').map_or(text.clone(), str::to_owned))
}
