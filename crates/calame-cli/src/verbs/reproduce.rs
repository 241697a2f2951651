//! `calame reproduce`: repeats the report's training and compares it with PyTorch's figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use calame::device::Workload;
use calame::model::{Gpt, Preset};
use calame::ops::Device;
use calame::tokenizer::Tokenizer;
use calame::train::{EvaluationReport, Observer, Outcome, Rng, RunConfig, SampleConfig, StepReport, Trainer};
use serde::Deserialize;
use serde_json::json;

use crate::training::observer::sample_text;
use crate::training::{device, settings, text};
use crate::ui::output::{WithHint, duration, note, print, print_json};
use crate::ui::verbosity;

/// The figures of PyTorch, written by golden/report.py.
const REPORT: &str = include_str!("../../../../golden/report.json");

/// How far an evaluation may be from PyTorch's, before and after training has amplified the differences of rounding.
const CLOSE: Limit = Limit { last_step: 35, apart: 0.003 };
const LATER: Limit = Limit { last_step: u64::MAX, apart: 0.03 };

/// Characters shown before the first difference between two samples.
const SHOWN: usize = 30;

/// Repeat the report's training (see `calame --help`), and compare every figure with PyTorch's own.
///
/// The report is an account of training the model of Sebastian Raschka's book (Build a Large Language Model From Scratch)
/// on one short story, The Verdict. Initial weights, order of batches and dropout masks are those of PyTorch after torch.manual_seed(123) on a CPU. Each
/// figure is printed next to PyTorch's as soon as it is known, and so is the sample of each epoch. The exit code is 1
/// if an evaluation differs from PyTorch's by more than 0.003 up to step 35, or 0.03 after it. Nothing is saved; ten
/// epochs take minutes.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  # downloads the-verdict once
  calame reproduce
  calame reproduce --data the-verdict.txt --epochs 1")]
pub struct Args {
    /// The report's text: a file, or the-verdict
    #[arg(long, value_name = "INPUT", default_value = "the-verdict")]
    data: String,

    /// Passes over the text, 1 to 10; fewer than ten give the first of the same figures
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10))]
    epochs: u64,

    #[command(flatten)]
    device: device::Args,

    /// Print JSON lines for programs
    #[arg(long)]
    json: bool,
}

struct Limit {
    last_step: u64,
    apart: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    /// The version of PyTorch.
    torch: String,
    text_sha256: String,
    seed: u64,
    dropout: f32,
    /// Losses of the batches, from step 0.
    losses: Vec<f64>,
    evaluations: Vec<Evaluation>,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evaluation {
    step: u64,
    train: f64,
    val: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    epoch: u64,
    text: String,
}

pub fn run(args: Args) -> Result<()> {
    let report: Report = serde_json::from_str(REPORT).context("golden/report.json")?;
    let config = config(&args, &report);
    // The workload Inference means f32 unless another precision is given.
    let (dev, _) = device::open(&config.device, Workload::Inference)?;
    settings::check(&config)?;
    let other_text = |problem: String| {
        let hint = "leave --data out to download the-verdict; or train on your text with `calame train --rng torch`";
        WithHint::new(format!("{} is not the text of the report: {problem}", args.data), hint)
    };
    // The hints on texts that do not fit name flags that this verb does not have.
    let prepared = text::prepare(&config, None, None)
        .map_err(|error| if error.is::<WithHint>() { other_text(error.to_string()).into() } else { error })?;
    ensure!(prepared.sha256 == report.text_sha256, other_text("its SHA-256 differs".to_owned()));
    let mut trainer = Trainer::fresh(&dev, &config, prepared.splits);
    let mut comparison = Comparison::new(report, prepared.tokenizer, config.sample.clone(), args.json);
    comparison.print_header(&dev, trainer.n_steps_total())?;
    let _phase = verbosity::phase("training");
    match trainer.run(&mut comparison)? {
        Outcome::Diverged { step, fault } | Outcome::Lost { step, fault, .. } => {
            bail!("step {step}: {fault}; the training diverged")
        }
        Outcome::Finished | Outcome::StoppedEarly | Outcome::Stopped => comparison.finish(),
    }
}

/// The settings of the report's training.
fn config(args: &Args, report: &Report) -> RunConfig {
    let mut config = RunConfig::of_preset(Preset::Book);
    config.model.dropout = report.dropout;
    config.data.inputs = vec![args.data.clone()];
    (config.train.rng, config.train.seed, config.train.epochs) = (Rng::Torch, report.seed, args.epochs);
    config.device = args.device.config();
    config
}

/// Observes the training and prints its figures next to PyTorch's.
struct Comparison {
    report: Report,
    tokenizer: Arc<dyn Tokenizer>,
    sample: SampleConfig,
    json: bool,
    started: Instant,
    n_figures: usize,
    n_beyond: usize,
    /// The largest difference of an evaluation, and which one it is.
    furthest: (f64, String),
    /// For each epoch with a sample of PyTorch's, whether ours is identical.
    samples: Vec<(u64, bool)>,
}

impl Comparison {
    fn new(report: Report, tokenizer: Arc<dyn Tokenizer>, sample: SampleConfig, json: bool) -> Comparison {
        Comparison {
            report,
            tokenizer,
            sample,
            json,
            started: Instant::now(),
            n_figures: 0,
            n_beyond: 0,
            furthest: (0.0, String::new()),
            samples: Vec::new(),
        }
    }

    fn print_header(&self, dev: &Device, n_steps: u64) -> Result<()> {
        note(&format!(
            "{n_steps} steps in {} on {} threads ({}), compared with PyTorch {}",
            dev.precision(),
            dev.n_threads(),
            dev.isa(),
            self.report.torch
        ));
        if self.json {
            return Ok(());
        }
        print(&format!("{:>4}  {:10} {:>9} {:>9} {:>9}\n", "step", "loss", "PyTorch", "calame", "apart"))
    }

    fn row(&self, step: u64, what: &str, theirs: f64, ours: f32, mark: &str) -> Result<()> {
        if self.json {
            return print_json(&json!({ "step": step, "loss": what, "pytorch": theirs, "calame": ours }));
        }
        let apart = f64::from(ours) - theirs;
        print(&format!("{step:>4}  {what:10} {theirs:>9.5} {ours:>9.5} {apart:>+9.5}{mark}\n"))
    }

    /// Prints a figure that must be close to PyTorch's, and counts it.
    fn compare_figure(&mut self, step: u64, what: &str, theirs: f64, ours: f32) -> Result<()> {
        let limit = if step <= CLOSE.last_step { &CLOSE } else { &LATER };
        let apart = (f64::from(ours) - theirs).abs();
        // False for NaN.
        let is_close = apart <= limit.apart;
        self.n_figures += 1;
        self.n_beyond += usize::from(!is_close);
        if apart.is_nan() || apart > self.furthest.0 {
            self.furthest = (apart, format!("{what}, step {step}"));
        }
        let mark = if is_close { String::new() } else { format!("  beyond {}", limit.apart) };
        self.row(step, what, theirs, ours, &mark)
    }

    fn finish(&self) -> Result<()> {
        if self.json {
            let (furthest, seconds) = (self.furthest.0, self.started.elapsed().as_secs_f64());
            print_json(&json!({ "event": "result", "n_figures": self.n_figures, "n_beyond": self.n_beyond,
                "furthest": furthest, "total_seconds": seconds }))?;
        } else {
            print(&self.summary())?;
        }
        ensure!(
            self.n_beyond == 0,
            "{} of {} figures differ from PyTorch's by more than the limit",
            self.n_beyond,
            self.n_figures
        );
        Ok(())
    }

    fn summary(&self) -> String {
        let (apart, place) = &self.furthest;
        let same: Vec<String> = self.samples.iter().filter(|(_, same)| *same).map(|(n, _)| n.to_string()).collect();
        format!(
            "\nevaluations  {} figures, {} beyond {} (step {} or before) or {} (after it)\n\
             furthest     {apart:.5} ({place})\n\
             samples      {} of {} identical: epochs {}\n\
             time         {}\n",
            self.n_figures,
            self.n_beyond,
            CLOSE.apart,
            CLOSE.last_step,
            LATER.apart,
            same.len(),
            self.samples.len(),
            same.join(", "),
            duration(self.started.elapsed().as_secs_f64())
        )
    }
}

impl Observer for Comparison {
    type Error = anyhow::Error;

    fn now(&mut self) -> Duration {
        self.started.elapsed()
    }

    fn stop_requested(&mut self) -> bool {
        false
    }

    fn step(&mut self, report: &StepReport) -> Result<()> {
        let theirs = usize::try_from(report.step).ok().and_then(|step| self.report.losses.get(step));
        theirs.map_or(Ok(()), |&theirs| self.row(report.step, "batch", theirs, report.loss, ""))
    }

    fn evaluation(&mut self, report: &EvaluationReport) -> Result<()> {
        let Some(&Evaluation { step, train, val }) = self.report.evaluations.iter().find(|e| e.step == report.step)
        else {
            return Ok(());
        };
        self.compare_figure(step, "training", train, report.train_loss)?;
        self.compare_figure(step, "validation", val, report.val_loss)
    }

    fn epoch_end(&mut self, dev: &Device, gpt: &Gpt, epoch: u64, _: u64) -> Result<()> {
        let ours = sample_text(dev, gpt, self.tokenizer.as_ref(), &self.sample)?;
        let theirs = self.report.samples.iter().find(|sample| sample.epoch == epoch).map(|sample| &sample.text);
        self.samples.extend(theirs.map(|theirs| (epoch, *theirs == ours)));
        if self.json {
            return print_json(&json!({ "epoch": epoch, "pytorch": theirs, "calame": ours }));
        }
        print(&compare_samples(epoch, theirs.map(String::as_str), &ours))
    }
}

/// Lines that compare a sample with PyTorch's, if there is one: the sample once if they are identical, else both from
/// the first difference.
fn compare_samples(epoch: u64, theirs: Option<&str>, ours: &str) -> String {
    match theirs {
        None => format!("      sample of epoch {epoch}: {ours:?}\n"),
        Some(theirs) if theirs == ours => format!("      sample of epoch {epoch}, identical: {ours:?}\n"),
        Some(theirs) => {
            let n_same = theirs.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
            let from = |text: &str, n: usize| text.chars().skip(n).collect::<String>();
            let before: String = theirs.chars().take(n_same).skip(n_same.saturating_sub(SHOWN)).collect();
            format!(
                "      sample of epoch {epoch}, identical for {n_same} characters, up to {before:?}\n\
                 \x20       PyTorch: {:?}\n\
                 \x20       calame:  {:?}\n",
                from(theirs, n_same),
                from(ours, n_same)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_complete() {
        let report: Report = serde_json::from_str(REPORT).unwrap();
        let steps: Vec<u64> = report.evaluations.iter().map(|e| e.step).collect();
        assert_eq!(steps, (0..80).step_by(5).collect::<Vec<u64>>());
        assert_eq!((report.seed, report.dropout), (123, 0.1));
        // The figures printed in the report, which have three digits.
        let is = |figure: f64, printed: f64| (figure - printed).abs() <= 0.0005 + 1e-9;
        for (step, train, val) in [(0, 9.787, 9.949), (35, 4.245, 6.137), (75, 1.314, 6.220)] {
            let evaluation = &report.evaluations[step / 5];
            assert!(is(evaluation.train, train) && is(evaluation.val, val), "step {step}");
        }
        assert!(report.losses.len() >= 6 && is(report.losses[0], 11.012));
        assert!(report.samples.iter().any(|s| s.epoch == 1 && s.text.starts_with("Every effort moves you, the, the")));
    }

    #[test]
    fn samples_are_shown_from_their_first_difference() {
        assert!(compare_samples(1, Some("a\nb"), "a\nb").contains("epoch 1, identical: \"a\\nb\""));
        let parted = compare_samples(2, Some("a reed pen"), "a reed hut");
        assert!(
            parted.contains("identical for 7 characters, up to \"a reed \"") && parted.contains("PyTorch: \"pen\"")
        );
        assert!(parted.contains("calame:  \"hut\""));
        assert!(compare_samples(3, None, "alone").contains("\"alone\""));
        // One is a prefix of the other.
        assert!(compare_samples(4, Some("a"), "ab").contains("calame:  \"b\""));
    }
}
