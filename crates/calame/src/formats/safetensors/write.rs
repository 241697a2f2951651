//! Writes safetensors files, with one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::device::Device;
use crate::files::{FileError, create_new_file, replace_file};
use crate::formats::CheckpointError;
use crate::formats::narrow::write_elements;
use crate::formats::transpose::transpose;
use crate::quant::NumberFormat;
use crate::tensor::Tensor;

// Elements are written without conversion.
const _: () = assert!(cfg!(target_endian = "little"), "files of tensors are little-endian");

/// Bytes buffered before each write: large enough that system calls cost little next to the disk.
const BUFFER_BYTES: usize = 1 << 20;
/// The tensor data starts at a multiple of this.
const ALIGNMENT: usize = 8;

/// Produces the elements of a tensor when it is written.
type Elements<'a> = Box<dyn Fn() -> Result<Cow<'a, [f32]>, CheckpointError> + 'a>;

/// A tensor to be written.
pub(crate) struct Entry<'a> {
    key: String,
    /// Dimensions in the file.
    shape: Vec<usize>,
    format: NumberFormat,
    elements: Elements<'a>,
}

impl<'a> Entry<'a> {
    /// A tensor in host memory, or the transpose of a matrix if `transposed`.
    pub fn of(key: String, tensor: &'a Tensor, transposed: bool) -> Entry<'a> {
        let shape = file_shape(tensor.dims(), transposed);
        let elements = move || {
            let elements = tensor.host();
            Ok(if transposed { transposed_elements(elements, tensor.row_len()) } else { Cow::Borrowed(elements) })
        };
        Entry { key, shape, format: NumberFormat::F32, elements: Box::new(elements) }
    }

    /// A tensor on a device; its elements are copied to the host when it is written.
    pub fn on(dev: &'a Device, key: String, tensor: &'a Tensor) -> Entry<'a> {
        let elements = move || Ok(dev.host_elements(tensor));
        Entry { key, shape: tensor.dims().to_vec(), format: NumberFormat::F32, elements: Box::new(elements) }
    }

    /// A vector of zeros.
    pub fn zeros(key: String, len: usize) -> Entry<'a> {
        let elements = move || Ok(Cow::Owned(vec![0.0; len]));
        Entry { key, shape: vec![len], format: NumberFormat::F32, elements: Box::new(elements) }
    }

    /// A tensor of this shape that `read` produces when it is written, or the transpose of a matrix if `transposed`.
    pub fn read(
        key: String,
        shape: &[usize],
        transposed: bool,
        read: impl Fn() -> Result<Tensor, CheckpointError> + 'a,
    ) -> Entry<'a> {
        let elements = move || {
            let tensor = read()?;
            let elements = tensor.host();
            let written = if transposed { transposed_elements(elements, tensor.row_len()) } else { elements.into() };
            Ok(Cow::Owned(written.into_owned()))
        };
        Entry { key, shape: file_shape(shape, transposed), format: NumberFormat::F32, elements: Box::new(elements) }
    }

    /// The same tensor, rounded to a format when it is written: f32, f16 or bf16.
    pub fn stored_as(self, format: NumberFormat) -> Entry<'a> {
        Entry { format, ..self }
    }

    fn file_bytes(&self) -> usize {
        self.format.block_bytes() * self.shape.iter().product::<usize>()
    }
}

fn file_shape(shape: &[usize], transposed: bool) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if transposed {
        shape.reverse();
    }
    shape
}

/// The transpose of a matrix with rows of `row_len` elements.
fn transposed_elements(elements: &[f32], row_len: usize) -> Cow<'static, [f32]> {
    let mut transposed = vec![0.0; elements.len()];
    transpose(elements, row_len, &mut transposed);
    Cow::Owned(transposed)
}

/// Writes a new file of tensors in key order, at its final path. The file is complete but not synced.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    entries: impl Iterator<Item = Entry<'a>>,
    metadata: &[(&str, &str)],
) -> Result<(), CheckpointError> {
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, create_new_file(path)?);
    write_to(&mut file, path, entries, metadata)?;
    Ok(file.flush().map_err(FileError::new("write", path))?)
}

fn write_to<'a>(
    file: &mut BufWriter<File>,
    path: &Path,
    entries: impl Iterator<Item = Entry<'a>>,
    metadata: &[(&str, &str)],
) -> Result<(), CheckpointError> {
    let mut entries: Vec<Entry<'_>> = entries.collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let header = header(&entries, metadata).map_err(FileError::new("write", path))?;
    file.write_all(&header).map_err(FileError::new("write", path))?;
    for entry in &entries {
        let elements = (entry.elements)()?;
        let n_bytes = entry.format.block_bytes() * elements.len();
        assert_eq!(n_bytes, entry.file_bytes(), "write: {} is {:?}", entry.key, entry.shape);
        write_elements(file, &elements, entry.format).map_err(FileError::new("write", path))?;
    }
    Ok(())
}

/// The name of a format in a header.
fn dtype(format: NumberFormat) -> Dtype {
    match format {
        NumberFormat::F32 => Dtype::F32,
        NumberFormat::F16 => Dtype::F16,
        NumberFormat::Bf16 => Dtype::BF16,
        other => panic!("write: {other:?} is a format of blocks"),
    }
}

/// The header's length in 8 bytes, followed by the header, padded with spaces.
fn header(entries: &[Entry<'_>], metadata: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut end = 0;
    let info = |entry: &Entry<'_>| {
        let start = end;
        end += entry.file_bytes();
        let info = TensorInfo { dtype: dtype(entry.format), shape: entry.shape.clone(), data_offsets: (start, end) };
        (entry.key.clone(), info)
    };
    let infos = entries.iter().map(info).collect();
    let header = Metadata::new(Some(metadata), infos).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    Ok(bytes)
}

/// Writes a single tensor, for use by another program.
///
/// # Errors
/// If the system refuses; an existing file is intact in that case.
pub fn write_tensor(path: &Path, name: &str, tensor: &Tensor) -> Result<(), CheckpointError> {
    let entry = Entry::of(name.to_owned(), tensor, false);
    replace_file(path, |file| write_to(file, path, std::iter::once(entry), &[]))
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::tensor::Alloc;

    /// The reference is the crate's own writer, which holds the whole file in memory.
    #[test]
    fn a_file_has_the_bytes_that_the_crate_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let mut matrix = Alloc::on_host().zeros([2, 3]);
        matrix.host_mut().copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let read = || {
            let mut tensor = Alloc::on_host().zeros([1, 4]);
            tensor.host_mut().fill(-0.5);
            Ok(tensor)
        };
        // Deliberately not in key order.
        let entries = [
            Entry::of("h.10.w".to_owned(), &matrix, true),
            Entry::zeros("h.2.bias".to_owned(), 3),
            Entry::of("a".to_owned(), &matrix, false),
            Entry::read("late".to_owned(), &[4], false, read),
            Entry::read("turned".to_owned(), &[4, 1], true, || {
                let mut tensor = Alloc::on_host().zeros([4, 1]);
                tensor.host_mut().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
                Ok(tensor)
            }),
        ];
        write_tensors(&path, entries.into_iter(), &[("format", "pt")]).unwrap();
        let expected: [(&str, &[usize], &[f32]); 5] = [
            ("a", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ("h.10.w", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
            ("h.2.bias", &[3], &[0.0; 3]),
            ("late", &[4], &[-0.5; 4]),
            ("turned", &[1, 4], &[1.0, 2.0, 3.0, 4.0]),
        ];
        let views = expected.map(|(key, shape, elements)| {
            (key, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(elements)).unwrap())
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let expected = safetensors::serialize(views, Some(metadata)).unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn an_error_of_reading_is_the_error_of_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let entry = Entry::read("w".to_owned(), &[2], false, || Err(CheckpointError::damaged(Path::new("from"), "it")));
        let error = write_tensors(&path, std::iter::once(entry), &[]).unwrap_err();
        assert!(error.to_string().starts_with("from: it"), "{error}");
    }
}
