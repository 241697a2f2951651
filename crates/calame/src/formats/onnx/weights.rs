//! The weights of an exported model: one file next to the graph, which records the offset of each weight.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::proto::{EXTERNAL, FLOAT, StringStringEntryProto, TensorProto};
use crate::files::create_new_file;
use crate::formats::CheckpointError;
use crate::formats::model_file::ModelFile;
use crate::formats::transpose::transpose;
use crate::model::ModelConfig;
use crate::model::params::{ParamName, shapes};
use crate::tensor::{Alloc, Tensor};

/// File name of the weights, referenced by the graph.
pub(in crate::formats) const DATA: &str = "model.onnx.data";
/// Weights of at least this many bytes are aligned for memory maps, which runtimes use to load them.
const ALIGNED_FROM: u64 = 1 << 20;
/// Memory maps can start at a multiple of this on every system.
const ALIGNMENT: u64 = 64 << 10;

/// A parameter in the weight file: f32, little-endian.
pub(super) struct Weight {
    pub name: ParamName,
    /// Dimensions in the file; linear weights are [in, out], the transpose of ours.
    pub dims: Vec<usize>,
    transposed: bool,
    offset: u64,
}

/// The position of each parameter of a model.
pub(super) fn layout(config: &ModelConfig) -> Vec<Weight> {
    let mut end = 0u64;
    let place = |(name, mut dims): (ParamName, Vec<usize>)| {
        let transposed = name.is_conv1d();
        if transposed {
            dims.reverse();
        }
        let bytes = 4 * dims.iter().product::<usize>() as u64;
        let offset = if bytes < ALIGNED_FROM { end } else { end.next_multiple_of(ALIGNMENT) };
        end = offset + bytes;
        Weight { name, dims, transposed, offset }
    };
    shapes(config).into_iter().map(place).collect()
}

impl Weight {
    /// The weight's entry in the graph.
    pub fn initializer(&self) -> TensorProto {
        let bytes = 4 * self.dims.iter().product::<usize>();
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        TensorProto {
            dims: self.dims.iter().map(|&n| n as i64).collect(),
            data_type: FLOAT,
            name: self.name.to_string(),
            raw_data: None,
            external_data: vec![
                entry("location", DATA.to_owned()),
                entry("offset", self.offset.to_string()),
                entry("length", bytes.to_string()),
            ],
            data_location: Some(EXTERNAL),
        }
    }

    /// Reads the weight from a model, in the file's layout.
    pub fn read(&self, model: &ModelFile) -> Result<Tensor, CheckpointError> {
        let zeros = |reversed: bool| match (self.dims.as_slice(), reversed) {
            (&[rows, cols], false) => Alloc::on_host().zeros([rows, cols]),
            (&[rows, cols], true) => Alloc::on_host().zeros([cols, rows]),
            (dims, _) => Alloc::on_host().zeros([dims.iter().product()]),
        };
        let mut ours = zeros(self.transposed);
        model.read(self.name, &mut ours)?;
        if !self.transposed {
            return Ok(ours);
        }
        let mut theirs = zeros(false);
        transpose(ours.host(), self.dims[0], theirs.host_mut());
        Ok(theirs)
    }
}

/// Writes all weights, one at a time.
pub(super) fn write(path: &Path, weights: &[Weight], model: &ModelFile) -> Result<(), CheckpointError> {
    let mut file = create_new_file(path)?;
    for weight in weights {
        let tensor = weight.read(model)?;
        file.seek(SeekFrom::Start(weight.offset))
            .and_then(|_| file.write_all(bytemuck::cast_slice(tensor.host())))
            .map_err(CheckpointError::io("write", path))?;
    }
    Ok(())
}
