//! `calame compare`: plots several runs in one figure and lists their losses and differing settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::files::sha256_of_file;
use calame::run::RunFolder;
use calame::run::plot::{ComparedRun, compare};
use serde_json::json;

use crate::training::runs;
use crate::training::summary::{Summary, Validation};
use crate::ui::output::{note, print, print_json};
use crate::ui::verbosity;
use crate::verbs::outputs;

/// Compare runs: plot their loss curves in one figure, list the settings that differ and their losses.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame compare runs/2026-11-23-book runs/2026-11-23-book-2
  calame compare runs/* --out curves.pdf")]
pub struct Args {
    /// Run folders, or their names under runs/: at least two
    #[arg(required = true, num_args = 2.., value_name = "RUN", value_parser = runs::run_parser())]
    runs: Vec<PathBuf>,

    /// File of the figure; its extension selects the format: .svg, .png or .pdf; an earlier figure of calame is replaced
    #[arg(long, value_name = "FILE", default_value = "compare.svg")]
    out: PathBuf,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Keys that are not settings and are left out of the comparison.
const NOT_COMPARED: [&str; 2] = ["text_sha256", "version"];

pub fn run(args: &Args) -> Result<()> {
    outputs::check_figure(&args.out)?;
    let summaries: Vec<Summary> = args.runs.iter().map(|path| Summary::read(path)).collect::<Result<_>>()?;
    let names = names(&summaries);
    let compared: Vec<ComparedRun<'_>> =
        summaries.iter().zip(&names).map(|(summary, name)| ComparedRun { name, records: &summary.records }).collect();
    let phase = verbosity::phase("drawing");
    compare(&compared, &args.out).with_context(|| format!("cannot draw {}", args.out.display()))?;
    drop(phase);
    let settings = differing(&summaries)?;
    let warnings = warnings(&summaries);
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    if args.json {
        let runs: Vec<serde_json::Value> = summaries
            .iter()
            .map(|summary| {
                let (best, last) = (summary.best(), summary.last());
                json!({ "run": summary.path, "n_steps": summary.n_steps(), "best_val_loss": best.map(|b| b.loss),
                    "best_step": best.map(|b| b.step), "best_val_bits_per_byte": best.and_then(|b| b.bits_per_byte),
                    "last_val_loss": last.map(|l| l.loss) })
            })
            .collect();
        let object = json!({ "file": args.out, "runs": runs, "settings": settings, "warnings": warnings });
        return print_json(&object);
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
        for (key, value) in summary.config.flat()? {
            flat.entry(key).or_insert_with(|| vec![String::new(); summaries.len()])[i] = value;
        }
    }
    flat.retain(|key, values| !NOT_COMPARED.contains(&key.as_str()) && values.iter().any(|value| *value != values[0]));
    Ok(flat)
}

/// What makes the losses of the runs incomparable.
fn warnings(summaries: &[Summary]) -> Vec<String> {
    let differ = |f: &dyn Fn(&Summary) -> String| summaries.iter().any(|summary| f(summary) != f(&summaries[0]));
    let mut warnings = Vec::new();
    if differ(&|s| s.config.text_sha256.clone()) {
        warnings.push("the runs were trained on different texts: each loss is that of the run's own text".to_owned());
    } else if differ(&|s| format!("{} {:?}", s.config.data.train_fraction, s.config.data.validation)) {
        warnings.push("the validation losses are those of different parts of the text".to_owned());
    }
    // The tokenizer's file is the same to the byte if the vocabulary is.
    let tokenizer = |s: &Summary| sha256_of_file(&s.path.join(RunFolder::TOKENIZER), &mut |_| {}).unwrap_or_default();
    let vocabulary = |s: &Summary| format!("{} {}", s.config.tokenizer.kind, s.config.model.vocab_size);
    if differ(&vocabulary) || differ(&tokenizer) {
        warnings.push(
            "the vocabularies differ: losses per token cannot be compared; compare bits per byte instead".to_owned(),
        );
    }
    warnings
}

/// A table with one column per run. The rows are the settings that differ, the number of steps and the losses.
fn table(names: &[String], summaries: &[Summary], settings: &BTreeMap<String, Vec<String>>) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let loss = |found: Option<Validation>| or_none(found.map(|v| format!("{:.3} at {}", v.loss, v.step)));
    let bits =
        |found: Option<Validation>| or_none(found.and_then(|v| v.bits_per_byte).map(|bits| format!("{bits:.3}")));
    let row = |f: &dyn Fn(&Summary) -> String| summaries.iter().map(f).collect::<Vec<String>>();
    let mut rows: Vec<(String, Vec<String>)> = vec![(String::new(), names.to_vec())];
    rows.extend(settings.iter().map(|(key, values)| (key.clone(), values.clone())));
    rows.push(("steps".to_owned(), row(&|s| s.n_steps().to_string())));
    rows.push(("best validation".to_owned(), row(&|s| loss(s.best()))));
    rows.push(("last validation".to_owned(), row(&|s| loss(s.last()))));
    rows.push(("best, bits per byte".to_owned(), row(&|s| bits(s.best()))));
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
        Summary { path: path.into(), config, records: Vec::new(), state: State::Finished, n_steps_saved: None }
    }

    #[test]
    fn losses_that_cannot_be_compared_are_named() {
        let same = [summary("a/x", |_| {}), summary("b/x", |c| c.train.lr = 1e-3)];
        assert!(warnings(&same).is_empty());
        let found = |change: fn(&mut RunConfig)| warnings(&[summary("a/x", |_| {}), summary("b/x", change)]);
        let of_text = found(|c| c.text_sha256 = "other".to_owned());
        assert!(of_text.len() == 1 && of_text[0].contains("were trained on different texts"), "{of_text:?}");
        let of_part = found(|c| c.data.train_fraction = 0.8);
        assert!(of_part.len() == 1 && of_part[0].contains("different parts of the text"), "{of_part:?}");
        for change in [(|c| c.tokenizer.kind = "bpe".to_owned()) as fn(&mut RunConfig), |c| c.model.vocab_size = 9] {
            let of_vocabulary = found(change);
            assert!(
                of_vocabulary.len() == 1 && of_vocabulary[0].contains("compare bits per byte"),
                "{of_vocabulary:?}"
            );
        }
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
