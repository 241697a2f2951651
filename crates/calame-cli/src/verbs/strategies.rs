//! `calame strategies`: how the choice of the next token changes a text.

use std::path::PathBuf;

use anyhow::{Result, bail};
use calame::device::Workload;
use calame::infer::{
    Engine, EngineLimits, LogProbs, Request, Sampler, SamplerConfig, SequenceId, StopStrings, TextEngine, TextEvent,
    engine_bytes,
};
use calame::model::Gpt;
use calame::ops::{self, Device};
use calame::run::plot;
use calame::tokenizer::{Special, TextBounds, Tokenizer};
use serde_json::json;

use super::outputs;
use crate::training::{device, model, runs};
use crate::ui::output::{UsageError, WithHint, note, print, print_json, visible};

/// Show one prompt continued by several samplers, and the distribution of the next token at several temperatures.
///
/// As the book does in chapter 5: greedy decoding repeats itself, a high temperature loses the thread, and filters keep
/// unlikely tokens out.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  calame strategies \"Every effort moves you\"
  calame strategies --temperatures 0.1,1,5 --out temperatures.svg"
)]
pub struct Args {
    /// The prompt: the text to continue
    #[arg(value_name = "TEXT", default_value = "Every effort moves you")]
    prompt: String,

    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    known: model::Args,

    /// Number of tokens to generate by each sampler
    #[arg(long, value_name = "N", default_value_t = 30)]
    tokens: usize,

    /// The temperatures of the table and the figure
    #[arg(long, value_name = "T", value_delimiter = ',', default_values_t = [0.1, 1.0, 5.0])]
    temperatures: Vec<f32>,

    /// Number of tokens in the table and the figure: the most likely ones
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=40))]
    top: u32,

    /// Draw the distributions: .svg, .png or .pdf
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Seed of the samplers
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    #[command(flatten)]
    device: device::Args,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// The samplers that are compared.
fn samplers(seed: u64) -> Vec<(&'static str, SamplerConfig)> {
    let at = |temperature| SamplerConfig { temperature, seed, ..SamplerConfig::default() };
    vec![
        ("greedy", at(0.0)),
        ("temperature 0.5", at(0.5)),
        ("temperature 1", at(1.0)),
        ("temperature 1.5", at(1.5)),
        ("top-k 50", SamplerConfig { top_k: 50, ..at(1.0) }),
        ("top-p 0.9", SamplerConfig { top_p: 0.9, ..at(1.0) }),
        ("min-p 0.05", SamplerConfig { min_p: 0.05, ..at(1.0) }),
        ("typical-p 0.9", SamplerConfig { typical_p: 0.9, ..at(1.0) }),
        ("repetition penalty 1.3", SamplerConfig { repetition_penalty: 1.3, ..at(0.0) }),
    ]
}

pub fn run(args: Args) -> Result<()> {
    if let Some(temperature) = args.temperatures.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
        bail!(UsageError(format!("--temperatures: {temperature} is not a positive number")));
    }
    if let Some(out) = &args.out {
        outputs::check_figure(out)?;
    }
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let n_samplers = samplers(args.seed).len();
    let n_prompt = args.prompt.len() + 1;
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "prompt", |config| {
        engine_bytes(config, 0, EngineLimits::for_sequences(config, n_samplers, n_prompt, args.tokens))
    })?;
    if args.model.is_none() && !args.json {
        note(&format!("model: {}{}", path.display(), runs::which_model(&path)));
    }
    let mut prompt = tokenizer.encode(&args.prompt, Special::Allow)?;
    if prompt.is_empty() {
        prompt.extend(saved.bounds.begin);
    }
    let n_positions = saved.gpt.config.n_positions;
    if prompt.is_empty() || prompt.len() > n_positions {
        let message = format!("the prompt has {} tokens, expected 1 to {n_positions}", prompt.len());
        bail!(WithHint::new(message, "give another prompt"));
    }
    let distribution = Distribution::of(&args, &dev, &saved.gpt, tokenizer.as_ref(), &prompt)?;
    let texts = texts(&args, &dev, &saved.gpt, tokenizer.as_ref(), &saved.bounds, &prompt)?;
    if let Some(out) = &args.out {
        plot::draw_distribution(&distribution.tokens, &distribution.series, out)?;
    }
    if args.json {
        let texts: Vec<_> = texts.iter().map(|(name, text)| json!({ "sampler": name, "text": text })).collect();
        let distribution: Vec<_> = distribution
            .series
            .iter()
            .map(|(name, values)| json!({ "temperature": name, "probabilities": values }))
            .collect();
        let object = json!({ "prompt": args.prompt, "texts": texts, "distribution": distribution, "figure": args.out });
        return print_json(&object);
    }
    print(&format!("{}\n", distribution.table()))?;
    for (name, text) in texts {
        print(&format!("── {name} ──\n{}{text}\n\n", args.prompt))?;
    }
    if let Some(out) = &args.out {
        print(&format!("figure  {}\n", out.display()))?;
    }
    Ok(())
}

/// The probabilities of the most likely next tokens at each temperature.
struct Distribution {
    tokens: Vec<String>,
    series: Vec<(String, Vec<f64>)>,
}

impl Distribution {
    fn of(args: &Args, dev: &Device, gpt: &Gpt, tokenizer: &dyn Tokenizer, prompt: &[u32]) -> Result<Distribution> {
        let logits = ops::read(dev, &gpt.logits(dev, prompt, 1));
        let vocab_size = gpt.config.vocab_size;
        let last = &logits[(prompt.len() - 1) * vocab_size..][..vocab_size.min(tokenizer.n_vocab())];
        let mut best = Vec::new();
        LogProbs::of(last)?.best(args.top as usize, &mut best);
        let shown = |token: u32| tokenizer.decode(&[token]).map(|text| visible(&text));
        let tokens = best.iter().map(|best| shown(best.token)).collect::<Result<_, _>>()?;
        let series = args.temperatures.iter().map(|&temperature| {
            let scaled: Vec<f32> = last.iter().map(|logit| logit / temperature).collect();
            let probabilities = LogProbs::of(&scaled)?;
            let values = best.iter().map(|best| probabilities.of_token(best.token).exp()).collect();
            Ok((format!("T = {temperature}"), values))
        });
        Ok(Distribution { tokens, series: series.collect::<Result<_>>()? })
    }

    fn table(&self) -> String {
        let head: String = self.series.iter().map(|(name, _)| format!("{name:>10}")).collect();
        let mut text = format!("next token      {head}\n");
        for (i, token) in self.tokens.iter().enumerate() {
            let values: String =
                self.series.iter().map(|(_, values)| format!("{:>8.2} %", 100.0 * values[i])).collect();
            text += &format!("{token:<16}{values}\n");
        }
        text
    }
}

/// The text of each sampler.
fn texts(
    args: &Args,
    dev: &Device,
    gpt: &Gpt,
    tokenizer: &dyn Tokenizer,
    bounds: &TextBounds,
    prompt: &[u32],
) -> Result<Vec<(&'static str, String)>> {
    let samplers = samplers(args.seed);
    let limits = EngineLimits::for_sequences(&gpt.config, samplers.len(), prompt.len(), args.tokens);
    let mut engine = TextEngine::new(Engine::new(dev, gpt, limits)?, tokenizer);
    let stop = StopStrings::new::<&str>(&[])?;
    let mut texts: Vec<(SequenceId, &'static str, String)> = Vec::new();
    for (name, config) in samplers {
        let sampler = Sampler::for_tokenizer(&config, 0, tokenizer)?;
        let request = Request { ends: bounds.ends.clone(), ..Request::new(prompt.to_vec(), sampler, args.tokens) };
        texts.push((engine.add(request, &stop)?.0, name, String::new()));
    }
    while !engine.is_idle() {
        for event in engine.step() {
            let (sequence, piece) = match event {
                TextEvent::Piece { sequence, text, .. } | TextEvent::Finished { sequence, text, .. } => {
                    (sequence, text)
                }
                TextEvent::Failed { error, .. } => return Err(error.into()),
            };
            let of = texts.iter_mut().find(|(id, ..)| *id == sequence);
            of.expect("an event is of a sequence that was added").2.push_str(&piece);
        }
    }
    Ok(texts.into_iter().map(|(_, name, text)| (name, text)).collect())
}
