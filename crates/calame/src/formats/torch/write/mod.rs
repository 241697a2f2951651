//! Writes a model as a PyTorch file: a state_dict with the book's names, as `torch.save` would write it.
//!
//! `torch.load(path, weights_only=True)` and the book's `GPTModel.load_state_dict` accept it in strict mode. That class
//! has causal masks as buffers, so they are written too, with one storage for all blocks. It always has a head of its
//! own: a tied head is written as a second view of the token embedding's storage. It always has biases, except those of
//! queries, keys and values: zeros are written for those that the model lacks. Other properties are stored in [`Record`].

mod archive;
mod pickle;

use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::Range;
use std::path::Path;

use self::archive::Archive;
use self::pickle::View;
use super::record::{self, Record};
use crate::files::{create_parent_folder, replace_file};
use crate::formats::CheckpointError;
use crate::formats::model_file::ModelFile;
use crate::formats::names::Naming;
use crate::model::params::{ParamName, shapes};
use crate::model::{ModelConfig, Preset};
use crate::tensor::Alloc;

/// The folder that contains everything in the archive; PyTorch uses the file's name or this.
const FOLDER: &str = "archive";
/// Indices of the masks' storage and of the token embedding's, the first parameter.
const MASK: usize = 0;
const WTE: usize = 1;

/// A parameter and its storages: a single one, or those of queries, keys and values.
struct Stored {
    name: ParamName,
    shape: Vec<usize>,
    storages: Range<usize>,
}

/// The contents of the file to be written.
struct Plan {
    views: Vec<View>,
    stored: Vec<Stored>,
    /// Number of elements in each storage.
    storages: Vec<usize>,
}

/// Writes a model as a PyTorch file, tensor by tensor. An existing file at `path` stays intact until the new one is
/// complete. Returns one sentence for each property that the book's class does not have.
///
/// # Errors
/// Returns an error of reading a tensor, or the system's error with the file's name.
pub fn write_torch(path: &Path, model: &ModelFile) -> Result<Vec<String>, CheckpointError> {
    model.check_absent_biases()?;
    let config = model.config().clone();
    let plan = Plan::of(&config);
    let record = Record::new(&config, model.tokenizer().map(AsRef::as_ref), model.bounds());

    create_parent_folder(path)?;
    replace_file(path, |file| {
        let write = || CheckpointError::io("write", path);
        let mut archive = Archive::new(file, 0);
        write_head(&mut archive, &plan, &record).map_err(write())?;
        write_mask(&mut archive, config.n_positions).map_err(write())?;
        for Stored { name, shape, storages } in &plan.stored {
            // The rows are those of queries, keys and values, in this order.
            let mut tensor = Alloc::on_host().zeros([shape[0], shape[1..].iter().product()]);
            if name.is_in(&config) {
                model.read(*name, &mut tensor)?;
            }
            let thirds = tensor.host().chunks_exact(tensor.len() / storages.len());
            for (storage, third) in storages.clone().zip(thirds) {
                archive.add(&entry(storage), bytemuck::cast_slice(third)).map_err(write())?;
            }
        }
        // Version of the archive format, by which a reader recognises files that are too new.
        archive.add(&in_folder("version"), b"3\n").map_err(write())?;
        archive.finish().map_err(write())
    })?;
    Ok(notes(&config))
}

/// What the book's class does in another way, without noticing it in a file.
fn notes(config: &ModelConfig) -> Vec<String> {
    let mut notes = Vec::new();
    if !config.bias {
        notes.push("the model has no biases, the book's GPTModel has: zeros are written".to_owned());
    }
    let usual = Preset::Book.config();
    let mut settings = Vec::new();
    if config.n_inner.is_some() {
        settings.push(format!("n_inner = {}", config.inner_size()));
    }
    if config.activation != usual.activation {
        settings.push(format!("activation = {}", config.activation));
    }
    if config.layer_norm_epsilon != usual.layer_norm_epsilon {
        settings.push(format!("layer_norm_epsilon = {}", config.layer_norm_epsilon));
    }
    if config.scale_attn_weights != usual.scale_attn_weights {
        settings.push(format!("scale_attn_weights = {}", config.scale_attn_weights));
    }
    if config.scale_attn_by_inverse_layer_idx != usual.scale_attn_by_inverse_layer_idx {
        settings.push(format!("scale_attn_by_inverse_layer_idx = {}", config.scale_attn_by_inverse_layer_idx));
    }
    if !settings.is_empty() {
        let settings = settings.join(", ");
        notes.push(format!(
            "the book's GPTModel computes something else: the model has {settings}, which only calame reads from this file; \
             export to safetensors for transformers"
        ));
    }
    notes
}

impl Plan {
    fn of(config: &ModelConfig) -> Plan {
        let mask = [config.n_positions, config.n_positions];
        let mut plan = Plan { views: Vec::new(), stored: Vec::new(), storages: vec![mask.iter().product()] };
        let with_biases = ModelConfig { bias: true, qkv_bias: config.has_qkv_bias(), ..config.clone() };
        for (name, shape) in shapes(&with_biases) {
            if let (Some(i), "attn.c_attn.weight") = (name.block, name.path()) {
                plan.views.push(View { key: format!("trf_blocks.{i}.att.mask"), shape: mask.to_vec(), storage: MASK });
            }
            let keys = Naming::Book.keys(&name.to_string());
            let mut part = shape.clone();
            part[0] /= keys.len();
            let first = plan.storages.len();
            for key in keys {
                let storage = plan.storages.len();
                plan.storages.push(part.iter().product());
                plan.views.push(View { key, shape: part.clone(), storage });
            }
            plan.stored.push(Stored { name, shape, storages: first..plan.storages.len() });
        }
        if config.tied_head {
            let key = Naming::Book.keys("lm_head.weight").remove(0);
            plan.views.push(View { key, shape: vec![config.vocab_size, config.n_embd], storage: WTE });
        }
        plan
    }
}

/// Writes the entries that precede the storages.
fn write_head(archive: &mut Archive<'_, BufWriter<File>>, plan: &Plan, record: &Record) -> io::Result<()> {
    archive.add(&in_folder("data.pkl"), &pickle::state_dict(&plan.views, &plan.storages))?;
    archive.add(&in_folder(".format_version"), b"1")?;
    archive.add(&in_folder(".storage_alignment"), archive::ALIGNMENT.to_string().as_bytes())?;
    archive.add(&in_folder("byteorder"), b"little")?;
    archive.add(&in_folder(record::ENTRY), &record.to_json())
}

/// Writes the causal mask [T, T]: 1 where the key follows the query and is hidden.
fn write_mask(archive: &mut Archive<'_, BufWriter<File>>, n_positions: usize) -> io::Result<()> {
    let row = move |query| {
        let hidden = (0..n_positions).flat_map(move |key| f32::from(u8::from(key > query)).to_le_bytes());
        hidden.collect::<Vec<u8>>()
    };
    archive.add_pieces(&entry(MASK), || (0..n_positions).map(row))
}

fn entry(storage: usize) -> String {
    in_folder(&format!("data/{storage}"))
}

fn in_folder(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;
    use crate::formats::TorchFile;

    /// An archive that starts after a hole of 5 GiB, so that its offsets need 64 bits. A real archive of that size has
    /// one more entry.
    #[test]
    fn places_beyond_32_bits_go_into_their_wide_fields() {
        const HOLE: u64 = 5 << 30;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.pt");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        file.write_all(b"PK\x03\x04").unwrap();
        file.seek(SeekFrom::Start(HOLE)).unwrap();
        let views = [View { key: "w".to_owned(), shape: vec![2, 3], storage: 0 }];
        let mut archive = Archive::new(&mut file, HOLE);
        archive.add("archive/data.pkl", &pickle::state_dict(&views, &[6])).unwrap();
        let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        archive.add(&entry(0), bytemuck::cast_slice(&values)).unwrap();
        archive.add(&in_folder("version"), b"3\n").unwrap();
        archive.finish().unwrap();
        file.flush().unwrap();
        let file = TorchFile::open(&path).unwrap();
        let mut found = [0.0; 6];
        file.read(0, &mut found).unwrap();
        assert_eq!(found, values);
    }
}
