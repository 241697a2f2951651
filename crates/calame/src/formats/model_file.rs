//! A saved model in any supported format, opened for reading by position.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::CheckpointError;
use super::matching::{ParameterLocation, ParameterLocations, match_tensors};
use super::names::Naming;
use super::opened::{Format, Opened};
use super::source::{StoredTensor, TensorSource};
use super::transpose::transpose;
use crate::model::params::ParamName;
use crate::model::{Gpt, ModelConfig};
use crate::tensor::{Alloc, Tensor};
use crate::tokenizer::{TextBounds, Tokenizer};

/// Tensors of a block without biases. A file with fewer per block contains another model, and its missing tensors are not
/// listed.
const FEWEST_BLOCK_TENSORS: usize = 6;
/// Threads that read a model in parallel: touching new memory, copying and transposing each keep more than one core busy.
/// Reading by position from four threads shortened the time of gpt2-124m to its first token from 0.95 to 1.47 s to 0.39 to
/// 0.53 s (LOG.md, 2026-11-25).
const N_READERS: usize = 4;

/// A model in memory, with the tokenizer it was trained with.
pub struct SavedModel {
    /// The model with all weights: in f32, or as stored ([`ModelFile::load_as_stored`]).
    pub gpt: Gpt,
    /// The tokenizer, if the model has one that can be used.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// Why the model's tokenizer cannot be used, if it has one of another kind or a damaged one.
    pub tokenizer_error: Option<CheckpointError>,
    /// The ids with which the model's texts begin and end.
    pub bounds: TextBounds,
    /// The file or folder that was read.
    pub path: PathBuf,
    /// One sentence for each property that had to be assumed, and for what was ignored.
    pub notes: Vec<String>,
}

/// An open model whose tensors have all been found. Only the tensors being read take memory.
pub struct ModelFile {
    path: PathBuf,
    opened: Opened,
    places: ParameterLocations,
}

impl ModelFile {
    /// Maps the tensors of an opened file to parameters.
    ///
    /// # Errors
    /// Missing, unexpected or misshapen tensors, in one list.
    pub(super) fn of(path: PathBuf, mut opened: Opened) -> Result<ModelFile, CheckpointError> {
        opened.settle_text();
        check_size(&opened.weights, opened.source.tensors(), &opened.config)?;
        opened.settle_head()?;
        let Opened { weights, source, config, conv1d, .. } = &opened;
        let tensors = source.tensors();
        let naming = Naming::of(tensors.iter().map(|t| t.name.as_str()));
        let places = match_tensors(weights, tensors, naming, *conv1d, config)?;
        let n_empty = tensors.iter().filter(|tensor| tensor.is_empty()).count();
        if let Some(&first) = places.unused.first() {
            let (n, name) = (places.unused.len(), &tensors[first].name);
            let note = format!("a second head is not used: {n} tensors, {name} is the first");
            opened.notes.push(note);
        }
        if n_empty > 0 {
            opened.notes.push(format!("tensors without elements are ignored: {n_empty}"));
        }
        Ok(ModelFile { path, opened, places })
    }

    /// Path of the file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format in which the model is stored.
    pub fn format(&self) -> Format {
        self.opened.format
    }

    /// Shape and settings of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.opened.config
    }

    /// The tokenizer stored with the weights, or GPT-2's if only the weights are stored and the vocabulary is GPT-2's.
    pub fn tokenizer(&self) -> Option<&Arc<dyn Tokenizer>> {
        self.opened.tokenizer.as_ref()
    }

    /// Why the model's tokenizer cannot be used, if it has one of another kind or a damaged one.
    pub fn tokenizer_error(&self) -> Option<&CheckpointError> {
        self.opened.tokenizer_error.as_ref()
    }

    /// The ids with which the model's texts begin and end: those of its files, otherwise the tokenizer's.
    pub fn bounds(&self) -> &TextBounds {
        &self.opened.bounds
    }

    /// One sentence for each property that had to be assumed, and for what was ignored.
    pub fn notes(&self) -> &[String] {
        &self.opened.notes
    }

    /// The tensors of the files, which can be read in their own number formats.
    pub fn source(&self) -> &dyn TensorSource {
        self.opened.source.as_ref()
    }

    /// All tensors of the files, including those that are not parameters.
    pub fn stored(&self) -> &[StoredTensor] {
        self.opened.source.tensors()
    }

    /// Reads a parameter into `tensor`, overwriting it, in our layout and converted to f32.
    ///
    /// # Errors
    /// If it contains non-finite numbers, or the system refuses.
    ///
    /// # Panics
    /// If the model has no such parameter, or `tensor` has another shape.
    pub fn read(&self, name: ParamName, tensor: &mut Tensor) -> Result<(), CheckpointError> {
        self.read_by_way_of(&mut Vec::new(), name, tensor)
    }

    /// As [`ModelFile::read`]. A transposed matrix is read through `stored`, whose memory is reused.
    fn read_by_way_of(
        &self,
        stored: &mut Vec<f32>,
        name: ParamName,
        tensor: &mut Tensor,
    ) -> Result<(), CheckpointError> {
        let ParameterLocation { tensors, transposed } = self.location(name);
        let source = &self.opened.source;
        if *transposed {
            stored.resize(tensor.len(), 0.0);
            source.read(tensors[0], stored)?;
            transpose(stored, tensor.n_rows(), tensor.host_mut());
        } else {
            let len = tensor.len() / tensors.len();
            for (&i, rows) in tensors.iter().zip(tensor.host_mut().chunks_exact_mut(len)) {
                source.read(i, rows)?;
            }
        }
        if !tensor.is_finite() {
            return Err(self.not_finite_error(name));
        }
        Ok(())
    }

    pub(super) fn not_finite_error(&self, name: ParamName) -> CheckpointError {
        CheckpointError::NotFinite { path: self.opened.weights.clone(), name: name.to_string() }
    }

    /// The tensors that contain a parameter.
    ///
    /// # Panics
    /// If the model has no such parameter.
    pub(super) fn location(&self, name: ParamName) -> &ParameterLocation {
        &self.places.of[&name]
    }

    /// Reads all parameters into a new model.
    ///
    /// # Errors
    /// As [`ModelFile::read`].
    pub fn load(self) -> Result<SavedModel, CheckpointError> {
        self.check_absent_biases()?;
        let mut gpt = Gpt::zeros(self.config(), &mut Alloc::on_host());
        self.read_all(&mut gpt)?;
        Ok(self.into_saved(gpt))
    }

    /// The model with its weights and everything else that is known of it.
    pub(super) fn into_saved(self, gpt: Gpt) -> SavedModel {
        let Opened { tokenizer, tokenizer_error, bounds, notes, .. } = self.opened;
        SavedModel { gpt, tokenizer, tokenizer_error, bounds, path: self.path, notes }
    }

    /// Reads all parameters, using several threads.
    fn read_all(&self, gpt: &mut Gpt) -> Result<(), CheckpointError> {
        let parameters = Mutex::new(gpt.tensors_mut().filter(|(_, tensor)| !tensor.is_empty()));
        let next = || parameters.lock().unwrap_or_else(PoisonError::into_inner).next();
        let read_some = || {
            let mut stored = Vec::new();
            while let Some((name, tensor)) = next() {
                self.read_by_way_of(&mut stored, name, tensor)?;
            }
            Ok::<(), CheckpointError>(())
        };
        thread::scope(|scope| {
            // Where the system refuses threads, fewer read, or this one.
            let start = |_| thread::Builder::new().spawn_scoped(scope, read_some).ok();
            let readers: Vec<_> = (0..N_READERS).filter_map(start).collect();
            if readers.is_empty() {
                return read_some();
            }
            // All threads are joined; the first error in their order is returned.
            let outcomes = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic)));
            outcomes.fold(Ok(()), Result::and)
        })
    }

    /// Checks that the tensors for biases that the model lacks are zero. If another program has trained the model
    /// since, they are not.
    pub(super) fn check_absent_biases(&self) -> Result<(), CheckpointError> {
        for &i in &self.places.absent_biases {
            let source = &self.opened.source;
            let key = source.tensors()[i].name.clone();
            let mut bias = vec![0.0; source.tensors()[i].n_elements().unwrap_or(0)];
            source.read(i, &mut bias)?;
            if bias.iter().any(|x| *x != 0.0) {
                // In a model with biases only that of queries, keys and values can be absent.
                let setting = if self.config().bias { "qkv_bias" } else { "bias" };
                let problem = format!("{key} is not zero, but calame.{setting} = false there: set it to true");
                return Err(CheckpointError::Tensors { path: self.opened.weights.clone(), problems: vec![problem] });
            }
        }
        Ok(())
    }
}

/// Checked first: a configuration that claims a million blocks must not cause their allocation.
fn check_size(path: &Path, tensors: &[StoredTensor], config: &ModelConfig) -> Result<(), CheckpointError> {
    let n_parameters = config.n_parameters();
    let there = tensors.iter().fold(0usize, |n, t| n.saturating_add(t.n_elements().unwrap_or(usize::MAX)));
    if n_parameters > there.saturating_mul(2) || config.n_layer > tensors.len() / FEWEST_BLOCK_TENSORS {
        let problem = format!(
            "the configuration describes {n_parameters} parameters in {} blocks, the file has {there} in {} tensors",
            config.n_layer,
            tensors.len()
        );
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
    }
    Ok(())
}
