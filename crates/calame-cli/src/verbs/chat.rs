//! `calame chat`: a conversation with a model.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::device::Workload;
use calame::infer::{
    Engine, EngineLimits, LogitRules, Request, Sampler, SamplerConfig, StopStrings, TextEngine, TextEvent, engine_bytes,
};
use calame::model::{Gpt, ModelConfig};
use calame::ops::Device;
use calame::tokenizer::{Special, Tokenizer};
use clap::ValueEnum;

use crate::training::{device, model, runs};
use crate::ui::output::{UsageError, note, print};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Talk with a trained model: it continues the conversation so far.
///
/// Each line is one message. The conversation stays in memory, so that only the new message is computed; if it exceeds
/// the model's context, its oldest messages are forgotten. /reset starts again, /quit or the end of the input ends.
///
/// A model answers well only if it was trained on texts of the template's form.
#[derive(clap::Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  calame chat --model runs/2026-11-23-book
  # a model that was trained on instructions, as in the book's chapter 7
  calame chat --model runs/instructions --template instruction --temperature 0.7"
)]
pub struct Args {
    /// A run or its name under runs/, a folder in Hugging Face's layout, a file of weights, or a name on the model hub
    /// [default: the newest run]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    known: model::Args,

    /// How messages become a text: dialogue (lines that begin with a speaker), instruction (the form of the book's
    /// chapter 7), or plain (nothing is added)
    #[arg(long, value_name = "NAME", value_enum, default_value = "dialogue")]
    template: Template,

    /// The beginning of every conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 200)]
    tokens: usize,

    /// Divisor of the logits: 0 selects the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,

    /// Sample only from the most likely tokens whose total probability reaches this value
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,

    /// Make tokens of the conversation less likely, by dividing their logits: 1 changes nothing
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,

    /// Seed of the sampler
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    #[command(flatten)]
    device: device::Args,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Template {
    Dialogue,
    Instruction,
    Plain,
}

impl Template {
    /// What stands at the beginning of every conversation.
    fn beginning(self) -> &'static str {
        match self {
            Template::Instruction => {
                "Below is an instruction that describes a task. Write a response that appropriately completes the request."
            }
            Template::Dialogue | Template::Plain => "",
        }
    }

    /// A message, up to where its answer begins.
    fn message(self, text: &str) -> String {
        match self {
            Template::Dialogue => format!("User: {text}\nModel:"),
            Template::Instruction => format!("\n\n### Instruction:\n{text}\n\n### Response:\n"),
            Template::Plain => text.to_owned(),
        }
    }

    /// What ends an answer, as text.
    fn stop(self) -> &'static [&'static str] {
        match self {
            Template::Dialogue => &["\nUser:"],
            Template::Instruction => &["\n\n### Instruction:"],
            Template::Plain => &[],
        }
    }

    /// What follows an answer before the next message.
    fn after_answer(self) -> &'static str {
        match self {
            Template::Dialogue => "\n",
            Template::Instruction | Template::Plain => "",
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    let sampler = SamplerConfig {
        temperature: args.temperature,
        top_p: args.top_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplerConfig::default()
    };
    sampler.validate().map_err(UsageError::from)?;
    let path = runs::model_or_newest(args.model.as_deref())?;
    let (dev, _) = device::open(&args.device.config(), Workload::Inference)?;
    let (saved, tokenizer) = model::load_with_tokenizer(&dev, &path, args.known, "message", |config| {
        engine_bytes(config, 0, limits(config))
    })?;
    let limits = limits(&saved.gpt.config);
    let mut chat = Chat {
        texts: TextEngine::new(Engine::new(&dev, &saved.gpt, limits)?, tokenizer.as_ref()),
        tokenizer: tokenizer.as_ref(),
        stop: StopStrings::new(args.template.stop())?,
        ends: saved.bounds.ends.clone(),
        begin: saved.bounds.begin,
        n_positions: saved.gpt.config.n_positions,
        sampler,
        turns: Vec::new(),
        n_answers: 0,
        args: &args,
    };
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        note(&format!("model: {}; /reset starts again, /quit ends", path.display()));
    }
    while let Some(line) = read_line(is_terminal)? {
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => break,
            "/reset" => {
                chat.turns.clear();
                note("the conversation starts again");
            }
            message => chat.answer(message)?,
        }
    }
    Ok(())
}

/// One sequence of up to the whole context, and one more that may be kept from the answer before.
fn limits(config: &ModelConfig) -> EngineLimits {
    let limits = EngineLimits::for_sequences(config, 1, config.n_positions, 0);
    EngineLimits { kv_bytes: 2 * limits.kv_bytes, ..limits }
}

/// The next line of standard input.
fn read_line(is_terminal: bool) -> Result<Option<String>> {
    if is_terminal {
        print("> ")?;
        io::stdout().flush()?;
    }
    let mut line = String::new();
    let mut input = io::Read::take(io::stdin().lock(), MAX_LINE_BYTES);
    let n = input.read_line(&mut line).context("cannot read standard input")?;
    Ok((n > 0).then_some(line))
}

struct Chat<'a> {
    texts: TextEngine<&'a Device, &'a Gpt, &'a dyn Tokenizer>,
    tokenizer: &'a dyn Tokenizer,
    stop: StopStrings,
    ends: Vec<u32>,
    begin: Option<u32>,
    n_positions: usize,
    sampler: SamplerConfig,
    /// The conversation: messages with their answers.
    turns: Vec<String>,
    n_answers: u64,
    args: &'a Args,
}

impl Chat<'_> {
    /// Prints the answer to a message, and adds both to the conversation.
    fn answer(&mut self, message: &str) -> Result<()> {
        self.turns.push(self.args.template.message(message));
        let (prompt, max_tokens) = self.prompt()?;
        let rules = LogitRules { ends: self.ends.clone(), ..LogitRules::default() };
        let sampler = Sampler::for_tokenizer(&self.sampler, self.n_answers, self.tokenizer)?.with_rules(rules)?;
        self.n_answers += 1;
        let request = Request { ends: self.ends.clone(), ..Request::new(prompt, sampler, max_tokens) };
        self.texts.add(request, &self.stop)?;
        let mut answer = String::new();
        while !self.texts.is_idle() {
            for event in self.texts.step() {
                let piece = match event {
                    TextEvent::Piece { text, .. } | TextEvent::Finished { text, .. } => text,
                    TextEvent::Failed { error, .. } => return Err(error.into()),
                };
                print(&piece)?;
                answer += &piece;
            }
        }
        print("\n")?;
        if let Some(turn) = self.turns.last_mut() {
            turn.push_str(&answer);
            turn.push_str(self.args.template.after_answer());
        }
        Ok(())
    }

    /// The ids of the conversation, without its oldest turns if the context has no room for them and an answer, and the most
    /// tokens that the answer may have.
    fn prompt(&mut self) -> Result<(Vec<u32>, usize)> {
        // An answer needs some tokens even if the conversation is long.
        let least = self.args.tokens.clamp(1, (self.n_positions / 4).max(1));
        loop {
            let beginning = self.args.system.as_deref().unwrap_or(self.args.template.beginning());
            let text = format!("{beginning}{}", self.turns.concat());
            let mut ids = self.tokenizer.encode(&text, Special::Allow).context("the message")?;
            if ids.is_empty() {
                ids.extend(self.begin);
            }
            let n_left = (self.n_positions + 1).saturating_sub(ids.len());
            if n_left >= least {
                return Ok((ids, self.args.tokens.min(n_left)));
            }
            if self.turns.len() == 1 {
                // The message alone is too long: its end is answered.
                ids.drain(..ids.len() + least - self.n_positions - 1);
                note("the message exceeds the model's context: only its end is used");
                return Ok((ids, least));
            }
            self.turns.remove(0);
        }
    }
}
