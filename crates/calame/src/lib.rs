//! Train, tune, evaluate and run GPT models of the GPT-2 family on the CPU, without Python.
//!
//! The model is GPT-2's, with a forward and a backward pass written by hand for it; the program `calame` is built on this
//! crate. The library never prints, never exits, and reads neither the clock nor the environment: callers pass what it needs.
//!
//! # Training
//!
//! A run is a [`train::RunConfig`]. A [`train::Trainer`] makes its steps, and a [`run::Recorder`] writes what they measure,
//! and the resulting model, into the run's folder.
//!
//! ```
//! use calame::{data::Splits, device::Workload, model::Preset, run::Recorder, train::{RunConfig, Trainer}};
//!
//! # let folder = tempfile::tempdir()?;
//! # let run = folder.path().join("run");
//! let text = "A reed pen writes what the hand decides. ".repeat(80);
//! let mut config = RunConfig::of_preset(Preset::Tiny);
//! config.tokenizer.kind = "simple-v2".to_owned();
//! config.train.epochs = 1;
//! let tokenizer = config.tokenizer.build(&text)?;
//! config.model.vocab_size = tokenizer.n_vocab();
//! config.validate()?;
//! let (dev, _) = config.device.resolve(Workload::Training, None)?;
//! let splits = Splits::from_text(&text, tokenizer.as_ref(), &config.data)?;
//! let mut trainer = Trainer::fresh(&dev, &config, splits);
//! let start = std::time::Instant::now();
//! let clock = Box::new(move || start.elapsed());
//! Recorder::create(&run, &config, tokenizer, false, clock)?.train(&mut trainer)?;
//! # assert!(run.join("model/model.safetensors").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Generating text
//!
//! ```
//! use calame::{device::Device, formats::load_model, infer::{TextOptions, generate_text}};
//!
//! # let (run, dev) = (tempfile::tempdir()?, Device::default_cpu());
//! # let tokenizer = calame::tokenizer::SimpleTokenizer::v2("A reed pen writes what the hand decides.")?;
//! # let vocab_size = calame::tokenizer::Tokenizer::n_vocab(&tokenizer);
//! # let config = calame::model::ModelConfig { vocab_size, ..calame::model::Preset::Tiny.config() };
//! # let gpt = calame::model::Gpt::fresh(&dev, &config, 1);
//! # calame::formats::save_model(&run.path().join("model"), &gpt, Some(&tokenizer))?;
//! let saved = load_model(run.path())?;
//! let tokenizer = saved.tokenizer.ok_or("the model has no tokenizer")?;
//! let dev = Device::default_cpu();
//! let options = TextOptions { max_tokens: 20, ..TextOptions::default() };
//! let text = generate_text(&dev, &saved.gpt, tokenizer.as_ref(), "A reed pen", &options)?;
//! assert!(text.starts_with("A reed pen"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`infer::TextGeneration`] returns the same text piece by piece. Both examples are programs in the repository's folder
//! `examples/`.
//!
//! # Modules, in reading order
//!
//! - [`tensor`]: arrays, their storage, and the allocator that creates every one.
//! - [`device`]: where operations run, and how long they take.
//! - [`ops`]: operations on tensors.
//! - [`model`]: the layers, the model, its parameters and gradients, the pages of keys and values.
//! - [`tokenizer`]: text to token ids and back.
//! - [`data`]: texts, windows, batches; texts larger than memory as shards.
//! - [`train`]: the configuration of a run, the training loop, checkpoints.
//! - [`run`]: what a run leaves in its folder.
//! - [`plan`]: what a run will need.
//! - [`infer`]: drawing tokens, and text from a prompt.
//! - [`formats`]: model files, in calame's format and in those of other programs.
//! - [`quant`]: conversion between number formats of weights.
//! - [`rng`]: counter-based random numbers, and those of PyTorch.
//! - [`files`]: atomic replacement, positioned reads, hashes.
//!
//! ARCHITECTURE.md in the repository has the dependencies between them and the invariants.
#![forbid(unsafe_code)]

pub mod data;
pub mod device;
pub mod files;
pub mod formats;
pub mod infer;
pub mod model;
pub mod ops;
pub mod plan;
pub mod quant;
pub mod rng;
pub mod run;
pub mod tensor;
pub mod tokenizer;
pub mod train;
