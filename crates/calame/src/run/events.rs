//! TensorBoard event files with a run's losses, learning rates and samples.
//!
//! A file `events.out.tfevents.<seconds>.<host>.calame` is a sequence of TFRecords: the length of the data (u64), a
//! masked CRC-32C of these eight bytes (u32), the data, a masked CRC-32C of the data (u32), all little-endian. The data
//! is an `Event` in Protocol Buffers. Sources: tensorflow/core/lib/io/record_writer.h,
//! tensorflow/core/util/event.proto.
//!
//! A resumed run writes a new file. Its first event invalidates all earlier events of its first step and later ones.

mod proto;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use self::proto::{
    Event, PluginData, SessionLog, Summary, SummaryMetadata, TensorProto, TensorShapeProto, Value, What,
};
use super::metrics::Record;
use crate::files::{FileError, create_folders, create_log};

/// Version of the file format, stored in the first event.
const FILE_VERSION: &str = "brain.Event:2";
/// CRC-32C (Castagnoli), a table of 1 kB.
static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// A file operation on the event file or its folder failed.
    #[error("{}: cannot {} it: {}; log.tensorboard = false writes no event files", .0.path.display(), .0.action, .0.source)]
    File(#[from] FileError),
}

/// Appends a run's records to an event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    frame: Vec<u8>,
    file_bytes: u64,
}

/// The masked CRC of a TFRecord: rotated by 15 bits plus a constant, so that the CRC of data that contains CRCs is
/// reliable.
fn masked_crc(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

impl EventWriter {
    /// Creates a file in `folder`, and the folder if necessary. `wall_time` is the time since 1970, `host` the
    /// machine's name. If the run resumes after `n_steps_done` steps, earlier events of later steps are invalidated.
    ///
    /// # Errors
    /// If the folder or the file cannot be created or written.
    pub fn create(
        folder: &Path,
        wall_time: Duration,
        host: &str,
        n_steps_done: u64,
    ) -> Result<EventWriter, EventsError> {
        create_folders(folder)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let host: String = host.chars().map(|c| if plain(c) { c } else { '-' }).collect();
        // Two files within a second, for example in a test, must have different names.
        let name = |seconds| folder.join(format!("events.out.tfevents.{seconds}.{host}.calame"));
        let path = (wall_time.as_secs()..).map(name).find(|path| !path.exists()).expect("seconds are unbounded");
        let file = create_log(&path)?;
        let mut writer = EventWriter { path, file, frame: Vec::new(), file_bytes: 0 };
        writer.append(wall_time, 0, What::FileVersion(FILE_VERSION.to_owned()))?;
        if n_steps_done > 0 {
            writer.append(wall_time, n_steps_done, What::SessionLog(SessionLog { status: proto::START }))?;
        }
        Ok(writer)
    }

    /// Path of the event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the values of a record that TensorBoard can show, if there are any. The data has been passed to the
    /// system on return.
    ///
    /// # Errors
    /// If the event cannot be written completely; the file is then truncated to the events before it.
    pub fn write(&mut self, record: &Record, wall_time: Duration) -> Result<(), EventsError> {
        let value = match record {
            Record::Step { loss, lr, tokens_per_second, grad_norm, .. } => {
                let mut values = vec![
                    scalar("loss/train_step", *loss),
                    scalar("lr", *lr as f32),
                    scalar("tokens_per_second", *tokens_per_second as f32),
                ];
                values.extend(grad_norm.map(|norm| scalar("grad_norm", norm)));
                values
            }
            Record::Evaluation { train_loss, val_loss, val_bits_per_byte, .. } => {
                let mut values = vec![scalar("loss/train", *train_loss), scalar("loss/validation", *val_loss)];
                values.extend(val_bits_per_byte.map(|bits| scalar("bits_per_byte/validation", bits)));
                values
            }
            Record::Sample { text: words, .. } => vec![text("sample", words)],
            _ => return Ok(()),
        };
        self.append(wall_time, record.step(), What::Summary(Summary { value }))
    }

    fn append(&mut self, wall_time: Duration, step: u64, what: What) -> Result<(), EventsError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time: wall_time.as_secs_f64(), step, what: Some(what) };
        self.frame.clear();
        frame(&event.encode_to_vec(), &mut self.frame);
        if let Err(source) = self.file.write_all(&self.frame) {
            // An incomplete record would end the file for readers. If truncating fails too, the first error is the one
            // to report.
            let _ = self.file.set_len(self.file_bytes);
            return Err(FileError::new("write an event to", &self.path)(source).into());
        }
        self.file_bytes += self.frame.len() as u64;
        Ok(())
    }
}

/// Encodes a record: length, its CRC, the data, its CRC.
fn frame(data: &[u8], to: &mut Vec<u8>) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&masked_crc(&length).to_le_bytes());
    to.extend_from_slice(data);
    to.extend_from_slice(&masked_crc(data).to_le_bytes());
}

fn scalar(tag: &str, value: f32) -> Value {
    Value { tag: tag.to_owned(), simple_value: Some(value), tensor: None, metadata: None }
}

/// A text for the plugin `text`: a tensor of one string without dimensions.
fn text(tag: &str, words: &str) -> Value {
    let plugin_data = Some(PluginData { plugin_name: "text".to_owned() });
    Value {
        tag: tag.to_owned(),
        simple_value: None,
        tensor: Some(TensorProto {
            dtype: proto::STRING,
            tensor_shape: Some(TensorShapeProto {}),
            string_val: vec![words.as_bytes().to_vec()],
        }),
        metadata: Some(SummaryMetadata { plugin_data, data_class: proto::TENSOR }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn checksums_are_those_that_are_published() {
        // RFC 3720, section B.4: 32 zeros, 32 ones, 0 to 31.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CRC.checksum(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(CRC.checksum(&rising), 0x46dd_794e);
        // From crc32c.h: masking twice gives another number.
        assert_ne!(masked_crc(b"foo"), CRC.checksum(b"foo"));
        assert_eq!(masked_crc(b"foo").wrapping_sub(0xa282_ead8).rotate_left(15), CRC.checksum(b"foo"));
    }

    /// Checks a file byte by byte against the published layout.
    #[test]
    fn a_file_has_the_published_layout() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(1_700_000_000_500);
        let mut writer = EventWriter::create(folder.path(), time, "my.host", 0).unwrap();
        let step = Record::Step {
            step: 300,
            epoch: 1,
            loss: 2.5,
            lr: 0.5,
            grad_norm: None,
            n_tokens_seen: 1,
            step_seconds: 1.0,
            tokens_per_second: 8.0,
        };
        writer.write(&step, time).unwrap();
        let name = writer.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, "events.out.tfevents.1700000000.my-host.calame");

        let value = |tag: &str, x: f32| {
            let mut value = vec![0x0a, tag.len() as u8];
            value.extend(tag.as_bytes());
            value.push(0x15);
            value.extend(x.to_le_bytes());
            let mut field = vec![0x0a, value.len() as u8];
            field.extend(value);
            field
        };
        let event = |step: &[u8], field: u8, content: &[u8]| {
            let mut data = vec![0x09];
            data.extend(1_700_000_000.5f64.to_le_bytes());
            data.extend(step);
            data.extend([field, content.len() as u8]);
            data.extend(content);
            data
        };
        let summary = [value("loss/train_step", 2.5), value("lr", 0.5), value("tokens_per_second", 8.0)].concat();
        let mut expected = Vec::new();
        // Field 2 is 300 as a varint; step 0 is omitted. Field 3 is the version, field 5 the summary.
        for data in [event(&[], 0x1a, FILE_VERSION.as_bytes()), event(&[0x10, 0xac, 0x02], 0x2a, &summary)] {
            let length = (data.len() as u64).to_le_bytes();
            expected.extend(length);
            expected.extend(masked_crc(&length).to_le_bytes());
            expected.extend(&data);
            expected.extend(masked_crc(&data).to_le_bytes());
        }
        assert_eq!(fs::read(writer.path()).unwrap(), expected);
    }

    #[test]
    fn a_resumed_run_begins_another_file_that_voids_later_steps() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_secs(1_700_000_000);
        let first = EventWriter::create(folder.path(), time, "h", 0).unwrap();
        let second = EventWriter::create(folder.path(), time, "h", 40).unwrap();
        assert_ne!(first.path(), second.path());
        let bytes = fs::read(second.path()).unwrap();
        let version = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let data = &bytes[8 + 4 + version + 4 + 8 + 4..bytes.len() - 4];
        let event = Event::decode(data).unwrap();
        assert_eq!((event.step, event.what), (40, Some(What::SessionLog(SessionLog { status: proto::START }))));
    }

    #[test]
    fn samples_are_texts() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), Duration::ZERO, "h", 0).unwrap();
        let before = fs::read(writer.path()).unwrap().len();
        let sample = Record::Sample { step: 7, epoch: 1, prompt: "a".into(), text: "a b".into() };
        writer.write(&sample, Duration::ZERO).unwrap();
        let end = Record::End {
            step: 7,
            epoch: 1,
            n_tokens_seen: 8,
            total_seconds: 1.0,
            best_step: None,
            best_val_loss: None,
            n_epochs: None,
        };
        writer.write(&end, Duration::ZERO).unwrap();
        let bytes = fs::read(writer.path()).unwrap();
        let event = Event::decode(&bytes[before + 12..bytes.len() - 4]).unwrap();
        let Some(What::Summary(Summary { value })) = event.what else { panic!("{event:?}") };
        assert_eq!((event.step, value.len(), value[0].tag.as_str()), (7, 1, "sample"));
        assert_eq!(value[0].tensor.as_ref().unwrap().string_val, [b"a b".to_vec()]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = EventWriter::create(&file.join("below"), Duration::ZERO, "h", 0).unwrap_err().to_string();
        assert!(
            error.contains("below/events.out")
                && error.contains("cannot create it")
                && error.contains("log.tensorboard = false"),
            "{error}"
        );
    }
}
