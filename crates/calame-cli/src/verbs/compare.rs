//! `calame compare`: plots several runs in one figure and lists their losses and differing settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::run::plot::{ComparedRun, compare};
use serde_json::json;
use toml::{Table, Value};

use crate::training::summary::Summary;
use crate::ui::output::{print, print_json};
use crate::ui::verbosity;

/// Compare runs: plot their loss curves in one figure, list the settings that differ and their losses.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame compare runs/2026-11-23-book runs/2026-11-23-book-2
  calame compare runs/* --out curves.pdf")]
pub struct Args {
    /// Run folders, at least two
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// File of the figure; its extension selects the format: .svg, .png or .pdf
    #[arg(long, value_name = "FILE", default_value = "compare.svg")]
    out: PathBuf,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Keys that are not settings and are left out of the comparison.
const NOT_COMPARED: [&str; 2] = ["text_sha256", "version"];

pub fn run(args: &Args) -> Result<()> {
    let summaries: Vec<Summary> = args.runs.iter().map(|path| Summary::read(path)).collect::<Result<_>>()?;
    let names = names(&summaries);
    let compared: Vec<ComparedRun<'_>> =
        summaries.iter().zip(&names).map(|(summary, name)| ComparedRun { name, records: &summary.records }).collect();
    let phase = verbosity::phase("drawing");
    compare(&compared, &args.out).with_context(|| format!("cannot draw {}", args.out.display()))?;
    drop(phase);
    let settings = differing(&summaries)?;
    if args.json {
        let runs: Vec<serde_json::Value> = summaries
            .iter()
            .map(|summary| {
                let (best, last) = (summary.best(), summary.last());
                json!({ "run": summary.path, "n_steps": summary.n_steps(), "best_val_loss": best.map(|b| b.0),
                    "best_step": best.map(|b| b.1), "last_val_loss": last.map(|l| l.0) })
            })
            .collect();
        return print_json(&json!({ "file": args.out, "runs": runs, "settings": settings }));
    }
    print(&format!("{}\n{}\n", table(&names, &summaries, &settings), args.out.display()))
}

/// The name of each folder, or its path if another folder has the same name.
fn names(summaries: &[Summary]) -> Vec<String> {
    let short: Vec<String> = summaries.iter().map(Summary::name).collect();
    let is_unique = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    let path = |summary: &Summary| summary.path.display().to_string();
    short.iter().zip(summaries).map(|(name, s)| if is_unique(name) { name.clone() } else { path(s) }).collect()
}

/// The keys whose values differ between runs, with the value in each run: empty if the run does not have the key.
fn differing(summaries: &[Summary]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut flat: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (i, summary) in summaries.iter().enumerate() {
        flatten("", &Table::try_from(&summary.config)?, &mut |key, value| {
            let values = flat.entry(key).or_insert_with(|| vec![String::new(); summaries.len()]);
            values[i] = value;
        });
    }
    flat.retain(|key, values| !NOT_COMPARED.contains(&key.as_str()) && values.iter().any(|value| *value != values[0]));
    Ok(flat)
}

fn flatten(prefix: &str, table: &Table, add: &mut dyn FnMut(String, String)) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            Value::Table(inside) => flatten(&format!("{path}."), inside, add),
            Value::String(text) => add(path, text.clone()),
            Value::Float(x) => add(path, format_float(*x)),
            other => add(path, other.to_string()),
        }
    }
}

/// Formats a number without the extra digits of an f32 value that TOML stores as f64.
fn format_float(x: f64) -> String {
    let narrow = (x as f32).to_string();
    if (x - f64::from(x as f32)).abs() <= x.abs() * 1e-12 { narrow } else { x.to_string() }
}

/// A table with one column per run. The rows are the settings that differ, the number of steps and the losses.
fn table(names: &[String], summaries: &[Summary], settings: &BTreeMap<String, Vec<String>>) -> String {
    let loss =
        |found: Option<(f32, u64)>| found.map_or("–".to_owned(), |(loss, step)| format!("{loss:.3} at {step}"));
    let row = |f: &dyn Fn(&Summary) -> String| summaries.iter().map(f).collect::<Vec<String>>();
    let mut rows: Vec<(String, Vec<String>)> = vec![(String::new(), names.to_vec())];
    rows.extend(settings.iter().map(|(key, values)| (key.clone(), values.clone())));
    rows.push(("steps".to_owned(), row(&|s| s.n_steps().to_string())));
    rows.push(("best validation".to_owned(), row(&|s| loss(s.best()))));
    rows.push(("last validation".to_owned(), row(&|s| loss(s.last()))));
    let first = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let width = |i: usize| rows.iter().map(|(_, cells)| cells[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut text = String::new();
    for (key, cells) in &rows {
        let mut line = format!("{key:first$}");
        for (cell, width) in cells.iter().zip(&widths) {
            line += &format!("  {cell:width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::summary::State;
    use calame::model::Preset;
    use calame::train::RunConfig;

    fn summary(path: &str, change: impl FnOnce(&mut RunConfig)) -> Summary {
        let mut config = RunConfig::of_preset(Preset::Tiny);
        change(&mut config);
        Summary { path: path.into(), config, records: Vec::new(), state: State::Finished }
    }

    #[test]
    fn settings_that_differ_are_found_and_the_others_left_out() {
        let runs = [
            summary("a/x", |_| {}),
            summary("b/x", |c| (c.train.lr, c.data.inputs) = (4e-4, vec!["t.txt".to_owned()])),
            summary("c/y", |c| (c.model.dropout, c.text_sha256) = (0.1, "other".to_owned())),
        ];
        let found = differing(&runs).unwrap();
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(keys, ["data.inputs", "model.dropout", "train.lr"]);
        assert_eq!(found["train.lr"], ["0.003", "0.0004", "0.003"]);
        assert_eq!(found["model.dropout"], ["0", "0", "0.1"]);
        assert_eq!(names(&runs), ["a/x", "b/x", "y"]);
    }
}
