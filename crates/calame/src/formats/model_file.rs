//! A saved model in any format that calame reads, open for reading by position.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::CheckpointError;
use super::matching::{Place, Places, match_tensors};
use super::names::Naming;
use super::opened::{Format, Opened};
use super::source::{StoredTensor, TensorSource};
use super::transpose::transpose;
use crate::model::params::ParamName;
use crate::model::{Gpt, ModelConfig};
use crate::tensor::{Alloc, Tensor};
use crate::tokenizer::Tokenizer;

/// Half of a block's tensors; a file with fewer for each block is of another model, and what it lacks is not listed.
const FEWEST_BLOCK_TENSORS: usize = 6;
/// Threads that read a model: first touching its memory, copying and transposing its weights each take longer than one core
/// needs to leave for others.
const N_READERS: usize = 4;

/// A model with the tokenizer that it was trained with.
pub struct SavedModel {
    /// The weights.
    pub gpt: Gpt,
    /// Absent where there is none.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// The file or folder that it was read from.
    pub path: PathBuf,
    /// What had to be assumed, a sentence each.
    pub notes: Vec<String>,
}

/// An open model whose tensors have all been found; only what is read takes memory.
pub struct ModelFile {
    path: PathBuf,
    opened: Opened,
    places: Places,
}

impl ModelFile {
    /// The model at `path`, which `opened` gives access to.
    ///
    /// # Errors
    /// Tensors that are missing, unexpected or misshapen, as one list.
    pub(super) fn of(path: PathBuf, opened: Opened) -> Result<ModelFile, CheckpointError> {
        let Opened { weights, source, config, conv1d, .. } = &opened;
        let tensors = source.tensors();
        check_size(weights, tensors, config)?;
        let naming = Naming::of(tensors.iter().map(|t| t.name.as_str()));
        let places = match_tensors(weights, tensors, naming, *conv1d, config)?;
        Ok(ModelFile { path, opened, places })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.opened.format
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.opened.config
    }

    /// The tokenizer beside the weights or, for GPT-2's vocabulary, GPT-2's.
    pub fn tokenizer(&self) -> Option<&Arc<dyn Tokenizer>> {
        self.opened.tokenizer.as_ref()
    }

    /// What had to be assumed, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.opened.notes
    }

    /// The tensors of the files, which can be read in their own number formats.
    pub fn source(&self) -> &dyn TensorSource {
        self.opened.source.as_ref()
    }

    /// Every tensor of the files, those that are no parameters too.
    pub fn stored(&self) -> &[StoredTensor] {
        self.opened.source.tensors()
    }

    /// Reads a parameter, in our layout and rounded to f32, over all of `tensor`.
    ///
    /// # Errors
    /// If it holds numbers that are not finite, or the system refuses.
    ///
    /// # Panics
    /// If the model has no such parameter, or `tensor` not its shape.
    pub fn read(&self, name: ParamName, tensor: &mut Tensor) -> Result<(), CheckpointError> {
        self.read_by_way_of(&mut Vec::new(), name, tensor)
    }

    /// As [`ModelFile::read`], a transposed matrix by way of `stored`, whose memory serves one parameter after another.
    fn read_by_way_of(
        &self,
        stored: &mut Vec<f32>,
        name: ParamName,
        tensor: &mut Tensor,
    ) -> Result<(), CheckpointError> {
        let Place { tensors, transposed } = &self.places.of[&name];
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
        if !all_finite(tensor.host()) {
            return Err(CheckpointError::NotFinite { path: self.opened.weights.clone(), name: name.to_string() });
        }
        Ok(())
    }

    /// Reads the whole model.
    ///
    /// # Errors
    /// As [`ModelFile::read`].
    pub fn load(self) -> Result<SavedModel, CheckpointError> {
        self.check_absent_biases()?;
        let mut gpt = Gpt::zeros(self.config(), &mut Alloc::on_host());
        self.read_all(&mut gpt)?;
        Ok(SavedModel { gpt, tokenizer: self.opened.tokenizer, path: self.path, notes: self.opened.notes })
    }

    /// Reads every parameter, on several threads.
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
            let readers: Vec<_> = (0..N_READERS).map(|_| scope.spawn(read_some)).collect();
            // All are joined, and the first error in their order is told.
            let outcomes = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic)));
            outcomes.fold(Ok(()), Result::and)
        })
    }

    /// What stands in the place of qkv biases in a model without them is zero; if another program trained it on, it has
    /// them now.
    pub(super) fn check_absent_biases(&self) -> Result<(), CheckpointError> {
        for &i in &self.places.absent_biases {
            let source = &self.opened.source;
            let key = source.tensors()[i].name.clone();
            let mut bias = vec![0.0; source.tensors()[i].n_elements().unwrap_or(0)];
            source.read(i, &mut bias)?;
            if bias.iter().any(|x| *x != 0.0) {
                let problem = format!("{key} is not zero, but calame.qkv_bias = false there: make it true");
                return Err(CheckpointError::Tensors { path: self.opened.weights.clone(), problems: vec![problem] });
            }
        }
        Ok(())
    }
}

/// Whether all are numbers: the largest magnitude's bits tell, and no branch stands in the way of vectors.
fn all_finite(x: &[f32]) -> bool {
    const INFINITE: u32 = 0x7f80_0000;
    x.chunks(4096).all(|x| x.iter().fold(0, |most, x| most.max(x.to_bits() & !(1 << 31))) < INFINITE)
}

/// Compared first: a config that claims a million blocks must not cost the memory of them, or of their names.
fn check_size(path: &Path, tensors: &[StoredTensor], config: &ModelConfig) -> Result<(), CheckpointError> {
    let n_parameters = config.n_parameters();
    let there = tensors.iter().fold(0usize, |n, t| n.saturating_add(t.n_elements().unwrap_or(usize::MAX)));
    if n_parameters > there.saturating_mul(2) || config.n_layer > tensors.len() / FEWEST_BLOCK_TENSORS {
        let problem = format!(
            "the configuration speaks of {n_parameters} parameters in {} blocks, the file has {there} in {} tensors",
            config.n_layer,
            tensors.len()
        );
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![problem] });
    }
    Ok(())
}
