//! A saved model in any format that calame reads, open for reading by position.

use std::fs::{self, File};
use std::io::Read;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::CheckpointError;
use super::gguf;
use super::hugging_face;
use super::llmc::{self, LlmcFile};
use super::matching::{Place, Places, match_tensors};
use super::names::Naming;
use super::safetensors_files::{SafetensorsFiles, inside};
use super::shape::{self, Guess};
use super::source::{StoredTensor, TensorSource};
use super::tensor_file::transpose;
use super::torch_record::Record;
use super::torch_source::TorchSource;
use crate::model::params::ParamName;
use crate::model::{Gpt, ModelConfig};
use crate::tensor::{Alloc, Tensor};
use crate::tokenizer::{Bpe, Tokenizer};

/// Half of a block's tensors; a file with fewer for each block is of another model, and its lacks are not listed.
const FEWEST_BLOCK_TENSORS: usize = 6;
const INDEX: &str = "model.safetensors.index.json";
const TORCH_WEIGHTS: &str = "pytorch_model.bin";
const NANOGPT: &str = "ckpt.pt";
/// Threads that read a model: first touching its memory, copying and turning its weights each take longer than one core
/// needs to leave for others.
const N_READERS: usize = 4;
/// The first byte of a pickle, and so of what PyTorch wrote before 1.6.
const PICKLE: u8 = 0x80;

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder with config.json and safetensors or pytorch_model.bin.
    HuggingFace,
    /// safetensors without a config.json.
    Safetensors,
    /// A file of torch.save: `.pt`, `.pth`.
    Torch,
    /// A checkpoint of llm.c: `.bin`.
    Llmc,
    /// A file of llama.cpp: `.gguf`.
    Gguf,
}

impl Format {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::HuggingFace => "Hugging Face folder",
            Format::Safetensors => "safetensors",
            Format::Torch => "PyTorch file",
            Format::Llmc => "llm.c checkpoint",
            Format::Gguf => "GGUF",
        }
    }
}

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

/// What opening a file of weights finds, before its tensors are matched with a shape.
pub(super) struct Opened {
    pub format: Format,
    /// The file of the weights, or their index: what errors name.
    pub weights: PathBuf,
    pub source: Box<dyn TensorSource>,
    pub config: ModelConfig,
    /// Whether linear weights stand as [in, out].
    pub conv1d: bool,
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    pub notes: Vec<String>,
}

/// An open model whose tensors have all been found; only what is read takes memory.
pub struct ModelFile {
    path: PathBuf,
    opened: Opened,
    places: Places,
}

impl ModelFile {
    /// Opens a run's folder, a folder in Hugging Face's layout, or a file of weights.
    ///
    /// Everything that the files claim is compared with their sizes before memory is taken for it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; tensors that are missing, unexpected or misshapen as one list.
    pub fn open(path: &Path) -> Result<ModelFile, CheckpointError> {
        let path = find_model(path)?;
        let opened = if path.is_dir() { open_folder(&path)? } else { open_file(&path)? };
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

/// Reads a model and its tokenizer, in any format.
///
/// # Errors
/// As [`ModelFile::open`] and [`ModelFile::read`].
pub fn load_model(path: &Path) -> Result<SavedModel, CheckpointError> {
    ModelFile::open(path)?.load()
}

/// The file or folder that a path means: the path itself, or `model` in a run's folder.
///
/// # Errors
/// If it holds no model.
pub fn find_model(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    for folder in [path.to_owned(), path.join("model")] {
        if [hugging_face::CONFIG, NANOGPT].iter().any(|file| folder.join(file).is_file()) {
            return Ok(folder);
        }
    }
    let remedy = if !path.exists() {
        "there is no such file or folder".to_owned()
    } else if fs::read_dir(path.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some()) {
        format!("its training was not finished: `calame train --resume {}` does that", path.display())
    } else {
        "give a run's folder, a folder with these files, or a file of weights".to_owned()
    };
    Err(not_a_model(path, remedy))
}

fn not_a_model(path: &Path, remedy: String) -> CheckpointError {
    CheckpointError::NotAModel {
        path: path.to_owned(),
        expected: "config.json and model.safetensors in it or in its subfolder model",
        remedy,
    }
}

/// A folder in Hugging Face's layout, or nanoGPT's with its ckpt.pt.
fn open_folder(folder: &Path) -> Result<Opened, CheckpointError> {
    let config_path = folder.join(hugging_face::CONFIG);
    if !config_path.is_file() {
        return open_file(&inside(folder, NANOGPT, folder)?);
    }
    let json = hugging_face::read_json(&config_path)?;
    let config = hugging_face::config_from_json(&config_path, &json)?;
    let named = [hugging_face::WEIGHTS, INDEX, TORCH_WEIGHTS].into_iter().find(|name| folder.join(name).exists());
    let name = named.unwrap_or(hugging_face::WEIGHTS);
    let weights = inside(folder, name, folder)?;
    let source: Box<dyn TensorSource> = match name {
        INDEX => Box::new(SafetensorsFiles::sharded(&weights)?),
        TORCH_WEIGHTS => Box::new(TorchSource::open(&weights)?),
        _ => Box::new(SafetensorsFiles::one(&weights)?),
    };
    let tokenizer = hugging_face::read_tokenizer(folder, &json, &config)?;
    Ok(Opened { format: Format::HuggingFace, weights, source, config, conv1d: true, tokenizer, notes: Vec::new() })
}

/// A file, known by how it begins.
fn open_file(path: &Path) -> Result<Opened, CheckpointError> {
    let mut start = [0; 16];
    let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let n = read_up_to(&mut file, &mut start).map_err(CheckpointError::io("read", path))?;
    let start = &start[..n];
    if start.starts_with(&llmc::MAGIC.to_le_bytes()) {
        return open_llmc(path);
    }
    if start.starts_with(&gguf::MAGIC) {
        return gguf::open(path);
    }
    if start.get(8) == Some(&b'{') {
        return guess(path, Format::Safetensors, SafetensorsFiles::one(path)?, |_, _, _| false, None);
    }
    if !start.starts_with(b"PK\x03\x04") && start.first() != Some(&PICKLE) {
        return Err(not_a_model(
            path,
            "give a run's folder, a folder with these files, or a file of weights".to_owned(),
        ));
    }
    let source = TorchSource::open(path)?;
    if let Some(record) = source.record(path)? {
        return recorded(path, source, record);
    }
    let args = source.model_args().cloned();
    guess(path, Format::Torch, source, TorchSource::shares, args.as_ref())
}

fn open_llmc(path: &Path) -> Result<Opened, CheckpointError> {
    let source = LlmcFile::open(path)?;
    let config = source.config().clone();
    let source = Box::new(source);
    let mut opened = Opened {
        format: Format::Llmc,
        weights: path.to_owned(),
        source,
        config,
        conv1d: false,
        tokenizer: None,
        notes: Vec::new(),
    };
    opened.assume_gpt2_tokenizer();
    Ok(opened)
}

/// A file of PyTorch's that calame wrote: its shape is told, and whose tokenizer it needs.
fn recorded(path: &Path, source: TorchSource, record: Record) -> Result<Opened, CheckpointError> {
    let beside = path.with_file_name(hugging_face::TOKENIZER);
    let Record { config, tokenizer_sha256, .. } = record;
    let mut notes = Vec::new();
    let tokenizer = tokenizer_sha256.and_then(|hash| {
        // A tokenizer beside it may be another model's, or none.
        let found = hugging_face::read_tokenizer_file(&beside).ok();
        let known = found.into_iter().chain([Bpe::gpt2() as Arc<dyn Tokenizer>]);
        let tokenizer = known.into_iter().find(|t| t.hash() == hash && t.n_vocab() <= config.vocab_size);
        if tokenizer.is_none() {
            notes.push(format!("no tokenizer in the file, and its own is not at {}", beside.display()));
        }
        tokenizer
    });
    Ok(Opened {
        format: Format::Torch,
        weights: path.to_owned(),
        source: Box::new(source),
        config,
        conv1d: false,
        tokenizer,
        notes,
    })
}

/// The shape of a model from its tensors, and from what stands beside them.
fn guess<S: TensorSource + 'static>(
    path: &Path,
    format: Format,
    source: S,
    shares: impl Fn(&S, usize, usize) -> bool,
    model_args: Option<&super::PlainValue>,
) -> Result<Opened, CheckpointError> {
    let beside = path.with_file_name(hugging_face::CONFIG);
    let json = if beside.is_file() { Some(hugging_face::read_json(&beside)?) } else { None };
    let n_head = json.as_ref().and_then(|json| json["n_head"].as_u64()).map(|n| n as usize);
    let Guess { config, conv1d, notes } =
        shape::guess(path, source.tensors(), |a, b| shares(&source, a, b), n_head, model_args)?;
    let tokenizer = match (path.parent(), &json) {
        (Some(folder), Some(json)) => hugging_face::read_tokenizer(folder, json, &config)?,
        _ => None,
    };
    let mut opened =
        Opened { format, weights: path.to_owned(), source: Box::new(source), config, conv1d, tokenizer, notes };
    opened.assume_gpt2_tokenizer();
    Ok(opened)
}

impl Opened {
    /// Weights alone have no tokenizer; with GPT-2's vocabulary, padded or not, they were trained with GPT-2's.
    pub fn assume_gpt2_tokenizer(&mut self) {
        let gpt2 = Bpe::gpt2();
        let padded = gpt2.n_vocab().next_multiple_of(128);
        if self.tokenizer.is_none() && (gpt2.n_vocab()..=padded).contains(&self.config.vocab_size) {
            self.notes.push("no tokenizer in the file: GPT-2's is taken".to_owned());
            self.tokenizer = Some(gpt2);
        }
    }
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < bytes.len() {
        match file.read(&mut bytes[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
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
