//! `calame runs`: lists the runs of a folder with their state and figures.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::json;
use time::OffsetDateTime;

use crate::training::runs::RUNS;
use crate::training::space::bytes_below;
use crate::training::summary::{Summary, Validation};
use crate::ui::output::{grouped, note, print, print_json, size, timestamp};

/// List runs with their state, steps, best and last validation loss, speed and size.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame runs
  calame runs experiments/ --json")]
pub struct Args {
    /// The folder of the runs
    #[arg(default_value = RUNS)]
    folder: PathBuf,

    /// Print one JSON object per line for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let entries = match std::fs::read_dir(&args.folder) {
        // No run was started in this folder yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.folder == Path::new(RUNS) => None,
        other => Some(other.with_context(|| format!("cannot read {}", args.folder.display()))?),
    };
    let mut paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // A hidden folder is a run that is just being created, or what a killed program has left of one.
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    paths.retain(|path| path.join("config.toml").is_file() && !is_hidden(path));
    paths.sort();
    let mut summaries = Vec::new();
    for path in paths {
        match Summary::read(&path) {
            Ok(summary) => summaries.push(summary),
            // A damaged run must not hide the others.
            Err(error) => note(&format!("warning: {}", crate::ui::output::message(&error))),
        }
    }
    if args.json {
        return summaries.iter().try_for_each(|summary| print_json(&as_json(summary)));
    }
    if summaries.is_empty() {
        note(&format!(
            "there are no runs in {}; `calame train --preset tiny` trains one in a minute or two",
            args.folder.display()
        ));
        return Ok(());
    }
    print(&table(&summaries))
}

fn table(summaries: &[Summary]) -> String {
    let heads =
        ["run", "preset", "state", "steps", "best", "at", "last", "bits/byte", "tokens/s", "size", "changed (UTC)"];
    let rows: Vec<[String; 11]> = summaries.iter().map(row).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).chain([heads[i].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for cells in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            // Figures are aligned right, words left.
            let padding = " ".repeat(widths[i] - cell.chars().count());
            line += &if (3..10).contains(&i) { format!("{padding}{cell}  ") } else { format!("{cell}{padding}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(summary: &Summary) -> [String; 11] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let loss = |v: Validation| format!("{:.3}", v.loss);
    let best = summary.best();
    [
        summary.name(),
        summary.config.preset.clone(),
        summary.state.name().to_owned(),
        grouped(summary.n_steps()),
        or_none(best.map(loss)),
        or_none(best.map(|best| grouped(best.step))),
        or_none(summary.last().map(loss)),
        or_none(best.and_then(|best| best.bits_per_byte).map(|bits| format!("{bits:.3}"))),
        or_none(summary.tokens_per_second().map(|speed| grouped(speed.round() as u64))),
        size(bytes_below(&summary.path)),
        or_none(summary.changed().map(date)),
    ]
}

/// A time as `2026-11-23 14:05`, in UTC, as the column's head says: the local time zone cannot be read safely while other
/// threads run.
fn date(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute()
    )
}

fn as_json(summary: &Summary) -> serde_json::Value {
    let (best, last) = (summary.best(), summary.last());
    json!({
        "run": summary.path, "preset": summary.config.preset, "state": summary.state.name(),
        "resumable": summary.is_resumable(), "n_steps": summary.n_steps(), "n_steps_lost": summary.n_steps_lost(),
        "best_val_loss": best.map(|b| b.loss), "best_step": best.map(|b| b.step),
        "best_val_bits_per_byte": best.and_then(|b| b.bits_per_byte),
        "last_val_loss": last.map(|l| l.loss), "tokens_per_second": summary.tokens_per_second(),
        "file_bytes": bytes_below(&summary.path), "changed": summary.changed().map(timestamp),
    })
}
