//! Texts of many sequences at once.

use std::ops::Deref;

use rustc_hash::FxHashMap;

use super::engine::{Engine, Event, FinishReason, Request, SequenceId, TokenLogProbs};
use super::error::GenerateError;
use super::stop::{StopError, StopStrings};
use super::text_stream::TextStream;
use crate::model::Gpt;
use crate::ops::Device;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Why a text cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The tokens cannot be continued.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The prompt cannot be encoded, or a token cannot be decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A stop string cannot be used.
    #[error(transparent)]
    Stop(#[from] StopError),
}

/// What happened to a text in a step.
#[derive(Debug)]
pub enum TextEvent {
    /// The text has a new token.
    Piece {
        /// The sequence that it belongs to.
        sequence: SequenceId,
        /// The id of the token.
        token: u32,
        /// The text that it completes: empty while a character is incomplete, or what is there may become a stop string.
        text: String,
        /// Its log-probability and the most likely alternatives, if the request asked for them.
        log_probs: Option<TokenLogProbs>,
    },
    /// The text has ended; its sequence is forgotten.
    Finished {
        /// Which sequence it was.
        sequence: SequenceId,
        /// What was held back until now.
        text: String,
        /// What ended the text.
        end: TextEnd,
    },
    /// The text cannot be continued; its sequence is forgotten.
    Failed {
        /// Which sequence it was.
        sequence: SequenceId,
        /// Why it cannot be continued.
        error: TextError,
    },
}

/// What ended a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextEnd {
    /// A token that ends texts, which is not part of the text.
    Token,
    /// This stop string, no part of which is in the text.
    Stop(String),
    /// The requested number of tokens.
    MaxTokens,
    /// The end of the model's context.
    Context,
}

impl From<FinishReason> for TextEnd {
    fn from(reason: FinishReason) -> TextEnd {
        match reason {
            FinishReason::End => TextEnd::Token,
            FinishReason::MaxTokens => TextEnd::MaxTokens,
            FinishReason::Context => TextEnd::Context,
        }
    }
}

/// An [`Engine`] whose sequences are texts: whole characters, which end at stop strings too.
///
/// Borrows device, model and tokenizer, or shares their ownership (`Arc<Device>`, `Arc<Gpt>`, `Arc<dyn Tokenizer>`).
pub struct TextEngine<D, G, T> {
    engine: Engine<D, G>,
    tokenizer: T,
    /// Of every sequence that has not ended.
    streams: FxHashMap<SequenceId, TextStream>,
    events: Vec<TextEvent>,
}

impl<D, G, T> TextEngine<D, G, T>
where
    D: Deref<Target = Device>,
    G: Deref<Target = Gpt>,
    T: Deref<Target: Tokenizer>,
{
    /// The texts of an engine without sequences.
    pub fn new(engine: Engine<D, G>, tokenizer: T) -> TextEngine<D, G, T> {
        TextEngine { engine, tokenizer, streams: FxHashMap::default(), events: Vec::new() }
    }

    /// Adds a text that ends with the request's ids or with a stop string. Returns its sequence and the decoded prompt; a
    /// character left incomplete by the prompt's tokens is part of the first piece instead.
    ///
    /// # Errors
    /// As [`Engine::add`]; also if the prompt cannot be decoded.
    pub fn add(&mut self, request: Request, stop: &StopStrings) -> Result<(SequenceId, String), TextError> {
        let mut stream = TextStream::new(request.ends.clone(), stop);
        // An id that the tokenizer does not know may be one that the model does not know either: that error says more.
        let prompt = stream.prompt(&*self.tokenizer, &request.prompt);
        let id = self.engine.add(request)?;
        let prompt = prompt.inspect_err(|_| {
            self.engine.cancel(id);
        })?;
        self.streams.insert(id, stream);
        Ok((id, prompt))
    }

    /// Forgets a text, whatever it is doing; there is no event. Returns whether there was one.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        self.streams.remove(&id);
        self.engine.cancel(id)
    }

    /// The engine, for its numbers and its tokens.
    pub fn engine(&self) -> &Engine<D, G> {
        &self.engine
    }

    /// Whether no text is running or waiting.
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// Runs one batch, and returns what happened: no events if there are no texts.
    pub fn step(&mut self) -> impl Iterator<Item = TextEvent> {
        let TextEngine { engine, tokenizer, streams, events } = self;
        let mut ended = Vec::new();
        for event in engine.step() {
            let sequence = event.sequence();
            // Without a stream the text has ended in this step: the tokens are drafts that were right after its end.
            if let Some(stream) = streams.get_mut(&sequence)
                && advance(event, stream, &**tokenizer, events)
            {
                streams.remove(&sequence);
                ended.push(sequence);
            }
        }
        // The engine does not know of stop strings.
        for id in ended {
            engine.cancel(id);
        }
        events.drain(..)
    }
}

/// Adds what an event of the engine means for its text; returns whether the text has ended.
fn advance<T: Tokenizer + ?Sized>(
    event: &Event,
    stream: &mut TextStream,
    tokenizer: &T,
    events: &mut Vec<TextEvent>,
) -> bool {
    let sequence = event.sequence();
    match event {
        Event::Token { token, log_probs, .. } => match stream.push(tokenizer, *token) {
            Ok(text) => {
                events.push(TextEvent::Piece { sequence, token: *token, text, log_probs: log_probs.clone() });
                let stop = stopped_by(stream);
                let has_stopped = stop.is_some();
                events.extend(stop.map(|end| TextEvent::Finished { sequence, text: String::new(), end }));
                has_stopped
            }
            Err(error) => {
                events.push(TextEvent::Failed { sequence, error: error.into() });
                true
            }
        },
        Event::Finished { reason, .. } => {
            let text = stream.finish();
            let end = stopped_by(stream).unwrap_or((*reason).into());
            events.push(TextEvent::Finished { sequence, text, end });
            true
        }
        Event::Failed { error, .. } => {
            events.push(TextEvent::Failed { sequence, error: error.clone().into() });
            true
        }
    }
}

/// The stop string that a text has met, as its end.
fn stopped_by(stream: &TextStream) -> Option<TextEnd> {
    stream.met_stop().map(|stop| TextEnd::Stop(stop.to_owned()))
}
