//! What is printed: the only text as it arrives, several in their order, or a JSON object for each.

use std::path::Path;

use anyhow::Result;
use calame::infer::{TextEnd, TokenLogProbs};
use calame::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::Args;
use super::request::Encoded;
use crate::ui::output::{print, print_json};

/// A text, and what is known of it.
struct Text {
    prompt: String,
    /// Position of the prompt among all prompts.
    number: usize,
    prompt_tokens: Vec<u32>,
    /// The prompt, as its tokens say it.
    echoed: String,
    sample: u32,
    new_text: String,
    /// That of a search.
    score: Option<f64>,
    tokens: Vec<u32>,
    log_probs: Vec<TokenLogProbs>,
    end: Option<TextEnd>,
}

/// All texts, in the order of the prompts.
pub struct Report<'a> {
    args: &'a Args,
    model: &'a Path,
    tokenizer: &'a dyn Tokenizer,
    texts: Vec<Text>,
    /// Texts that have been printed.
    n_printed: usize,
    seconds: f64,
}

impl<'a> Report<'a> {
    pub fn new(args: &'a Args, model: &'a Path, tokenizer: &'a dyn Tokenizer) -> Report<'a> {
        Report { args, model, tokenizer, texts: Vec::new(), n_printed: 0, seconds: 0.0 }
    }

    fn is_only_one(&self) -> bool {
        self.args.samples == 1 && self.args.prompts.is_none()
    }

    fn is_streamed(&self) -> bool {
        self.is_only_one() && !self.args.json
    }

    /// Adds a text that begins; the only one is printed from here on. `echoed` is the prompt as its tokens say it.
    pub fn add(&mut self, number: usize, prompt: &Encoded, sample: u32, echoed: String) -> Result<()> {
        if self.is_streamed() && self.args.echo == "always" {
            print(&echoed)?;
        }
        self.texts.push(Text {
            prompt: prompt.text.clone(),
            number,
            prompt_tokens: prompt.tokens.clone(),
            echoed,
            sample,
            new_text: String::new(),
            score: None,
            tokens: Vec::new(),
            log_probs: Vec::new(),
            end: None,
        });
        Ok(())
    }

    /// Adds a token to text `i`, and what of the text it completes.
    pub fn token(&mut self, i: usize, token: u32, piece: &str, log_probs: Option<TokenLogProbs>) -> Result<()> {
        let is_streamed = self.is_streamed();
        let text = &mut self.texts[i];
        text.new_text.push_str(piece);
        text.tokens.push(token);
        text.log_probs.extend(log_probs);
        if is_streamed {
            print(piece)?;
        }
        Ok(())
    }

    /// Records the score that a search has given to text `i`.
    pub fn score(&mut self, i: usize, score: f64) {
        self.texts[i].score = Some(score);
    }

    /// Ends text `i`, and prints those whose turn it is.
    pub fn finish(&mut self, i: usize, rest: &str, end: TextEnd) -> Result<()> {
        let is_streamed = self.is_streamed();
        let text = &mut self.texts[i];
        text.new_text.push_str(rest);
        text.end = Some(end);
        if is_streamed {
            print(&format!("{rest}\n"))?;
        }
        while !self.is_only_one() && self.texts.get(self.n_printed).is_some_and(|text| text.end.is_some()) {
            self.print_text(self.n_printed)?;
            self.n_printed += 1;
        }
        Ok(())
    }

    /// Prints what is only known at the end.
    pub fn end(&mut self, seconds: f64) -> Result<()> {
        self.seconds = seconds;
        if self.is_only_one() && self.args.json {
            return print_json(&self.as_json(0)?);
        }
        if self.is_streamed() && self.args.logprobs.is_some() {
            print(&self.table(0)?)?;
        }
        Ok(())
    }

    fn print_text(&self, i: usize) -> Result<()> {
        if self.args.json {
            return print_json(&self.as_json(i)?);
        }
        let text = &self.texts[i];
        let title = if self.args.prompts.is_none() {
            format!("{}", text.sample + 1)
        } else if self.args.samples == 1 {
            format!("line {}", text.number + 1)
        } else {
            format!("line {}, {}", text.number + 1, text.sample + 1)
        };
        let echoed = if self.args.echo == "always" { text.echoed.as_str() } else { "" };
        let table = if self.args.logprobs.is_some() { self.table(i)? } else { String::new() };
        print(&format!("── {title} ──\n{echoed}{}\n{table}", text.new_text))
    }

    fn as_json(&self, i: usize) -> Result<Value> {
        let text = &self.texts[i];
        let met_end = text.end == Some(TextEnd::Token);
        let stop = if let Some(TextEnd::Stop(stop)) = &text.end { Some(stop) } else { None };
        let shown = &text.tokens[..text.tokens.len() - usize::from(met_end)];
        let whole: Vec<u32> = text.prompt_tokens.iter().chain(shown).copied().collect();
        let whole = match stop {
            None => self.tokenizer.decode(&whole)?,
            Some(_) => format!("{}{}", text.echoed, text.new_text),
        };
        let mut object = json!({
            "model": self.model,
            "prompt": text.prompt,
            "sample": text.sample,
            "text": if self.args.echo == "always" { &whole } else { &text.new_text },
            "new_text": text.new_text,
            "tokens": text.tokens,
            "end_of_text": met_end,
            "stop": stop,
        });
        if let Some(score) = text.score {
            object["score"] = score.into();
            object["context_is_full"] = (text.end == Some(TextEnd::Context)).into();
        }
        if self.is_only_one() {
            object["tokens_per_second"] = (text.tokens.len() as f64 / self.seconds).into();
        }
        if self.args.logprobs.is_some() {
            object["logprobs"] = text
                .log_probs
                .iter()
                .zip(&text.tokens)
                .map(|(of_token, &token)| {
                    let best =
                        of_token.best.iter().map(|best| self.named(best.token, best.log_prob)).collect::<Vec<_>>();
                    let mut named = self.named(token, of_token.chosen);
                    named["best"] = best.into();
                    named
                })
                .collect();
        }
        Ok(object)
    }

    fn named(&self, token: u32, log_prob: f64) -> Value {
        json!({ "id": token, "text": self.text_of(token), "logprob": log_prob })
    }

    /// The text of a token, which may be a part of a character.
    fn text_of(&self, token: u32) -> String {
        self.tokenizer.decode(&[token]).unwrap_or_default()
    }

    /// A line for each token: its probability, and the most likely ones.
    fn table(&self, i: usize) -> Result<String> {
        let text = &self.texts[i];
        let shown = |token: u32| format!("{:?}", self.text_of(token));
        let lines = text.log_probs.iter().zip(&text.tokens).map(|(of_token, &token)| {
            let best = of_token.best.iter().map(|b| format!("{} {:.1} %", shown(b.token), 100.0 * b.log_prob.exp()));
            let best = best.collect::<Vec<_>>().join(", ");
            format!("{:>6.1} %  {:<16} {best}", 100.0 * of_token.chosen.exp(), shown(token)).trim_end().to_owned()
                + "\n"
        });
        Ok(lines.collect())
    }
}
