//! Tests of metrics that are written, killed, damaged and resumed.

use std::path::{Path, PathBuf};

use super::error::MAX_LINE_BYTES;
use super::*;
use crate::train::Progress;

fn at(n_steps: u64) -> Progress {
    Progress { n_steps, settled: true, ..Progress::default() }
}

#[test]
fn what_was_not_settled_is_dropped_with_what_is_done_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("metrics.jsonl");
    let evaluation = Record::Evaluation {
        step: 1,
        epoch: 1,
        train_loss: 3.0,
        val_loss: 4.0,
        val_bits_per_byte: None,
        n_tokens_seen: 2048,
        seconds: 1.0,
    };
    let written = [step(0, 5.0), step(1, 4.0), evaluation, step(2, 3.0)];
    let kept = |progress: &Progress| {
        let _ = std::fs::remove_file(&path);
        let mut writer = MetricsWriter::create(&path).expect("begun");
        written.iter().for_each(|record| writer.write(record).expect("written"));
        MetricsWriter::open_at_step(&path, progress).expect("resumed");
        read(&path).expect("read back").len()
    };
    assert_eq!(kept(&at(2)), 3);
    assert_eq!(kept(&Progress { settled: false, ..at(2) }), 2);
    assert_eq!(kept(&at(3)), 4);
}

fn step(step: u64, loss: f32) -> Record {
    Record::Step {
        step,
        epoch: step / 8 + 1,
        loss,
        lr: 4e-4,
        grad_norm: None,
        n_tokens_seen: (step + 1) * 1024,
        step_seconds: 0.5,
        tokens_per_second: 2048.0,
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("metrics.jsonl");
    (folder, path)
}

fn write_steps(path: &Path, n_steps: u64) {
    let mut writer = MetricsWriter::create(path).expect("a new file");
    for i in 0..n_steps {
        writer.write(&step(i, 9.5)).expect("written");
    }
}

#[test]
fn every_kind_of_record_survives() {
    let (_folder, path) = folder();
    let records = vec![
        step(0, 11.01189),
        Record::Evaluation {
            step: 0,
            epoch: 1,
            train_loss: 9.787,
            val_loss: 9.949,
            val_bits_per_byte: Some(3.5),
            n_tokens_seen: 1024,
            seconds: 8.25,
        },
        Record::Sample {
            step: 7,
            epoch: 1,
            prompt: "Every effort moves you".into(),
            text: "Every effort moves you, the\n\"the\"".into(),
        },
        Record::Memorisation {
            step: 79,
            epoch: 10,
            n_tokens: 50,
            n_copied: 30,
            longest: 21,
            passage: "one of the axioms".into(),
        },
        Record::End {
            step: 79,
            epoch: 10,
            n_tokens_seen: 81920,
            total_seconds: 600.5,
            best_step: None,
            best_val_loss: None,
            n_epochs: None,
        },
    ];
    let mut writer = MetricsWriter::create(&path).expect("a new file");
    for record in &records {
        writer.write(record).expect("written");
    }
    writer.sync().expect("synced");
    assert_eq!(read(&path).expect("read back"), records);
    let text = std::fs::read_to_string(&path).expect("text");
    assert!(text.starts_with(r#"{"event":"step","step":0,"epoch":1,"loss":11.01189,"lr":0.0004,"#));
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn losses_that_are_not_finite_survive_as_nan() {
    let (_folder, path) = folder();
    let mut writer = MetricsWriter::create(&path).expect("a new file");
    for loss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        writer.write(&step(0, loss)).expect("written");
    }
    for record in read(&path).expect("read back") {
        assert!(matches!(record, Record::Step { loss, .. } if loss.is_nan()));
    }
}

#[test]
fn a_missing_loss_is_an_error_not_a_nan() {
    let (_folder, path) = folder();
    let line =
        r#"{"event":"step","step":0,"epoch":1,"lr":0.1,"n_tokens_seen":1,"step_seconds":1.0,"tokens_per_second":1.0}"#;
    std::fs::write(&path, format!("{line}\n")).expect("written");
    let error = read(&path).expect_err("no loss").to_string();
    assert!(error.contains("metrics.jsonl:1:"), "{error}");
    assert!(error.contains("loss"), "{error}");
}

#[test]
fn a_last_line_torn_at_any_byte_is_dropped() {
    let (_folder, path) = folder();
    write_steps(&path, 2);
    let whole = std::fs::read(&path).expect("bytes");
    let first = whole.iter().position(|b| *b == b'\n').expect("a line") + 1;
    for end in first..whole.len() {
        std::fs::write(&path, &whole[..end]).expect("torn");
        // Without its line break the record is complete.
        let expected = 1 + usize::from(end == whole.len() - 1);
        assert_eq!(read(&path).expect("read").len(), expected, "cut at {end}");
    }
}

#[test]
fn a_bad_line_elsewhere_is_an_error_with_its_number() {
    let (_folder, path) = folder();
    write_steps(&path, 3);
    let text = std::fs::read_to_string(&path).expect("text");
    let bad = text.replacen("\"step\":1", "\"step\":-1", 1);
    std::fs::write(&path, &bad).expect("spoiled");
    let error = read(&path).expect_err("a bad line");
    assert!(matches!(error, MetricsError::BadLine { line: 2, .. }));
    assert!(MetricsWriter::open_at_step(&path, &at(1)).is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("text"), bad);
}

#[test]
fn a_line_without_end_is_an_error() {
    let (_folder, path) = folder();
    std::fs::write(&path, vec![b'x'; MAX_LINE_BYTES as usize + 2]).expect("written");
    let error = read(&path).expect_err("too long");
    assert!(matches!(error, MetricsError::LongLine { line: 1, .. }));
}

#[test]
fn a_missing_file_is_an_error_with_its_name() {
    let (_folder, path) = folder();
    let error = read(&path).expect_err("missing").to_string();
    assert!(error.contains("metrics.jsonl: cannot open it"), "{error}");
}

#[test]
fn resuming_drops_what_is_done_again_and_keeps_the_rest_to_the_byte() {
    let (_folder, path) = folder();
    write_steps(&path, 6);
    let whole = std::fs::read(&path).expect("bytes");
    let mut torn = whole.clone();
    torn.extend_from_slice(b"{\"event\":\"st");
    std::fs::write(&path, &torn).expect("torn");
    let mut writer = MetricsWriter::open_at_step(&path, &at(4)).expect("resumed");
    writer.write(&step(4, 3.5)).expect("written");
    let records = read(&path).expect("read back");
    let steps: Vec<u64> = records.iter().map(Record::step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    assert_eq!(records[4], step(4, 3.5));
    let bytes = std::fs::read(&path).expect("bytes");
    let n_same = bytes.iter().zip(&whole).take_while(|(a, b)| a == b).count();
    let n_kept = whole.split_inclusive(|b| *b == b'\n').take(4).flatten();
    assert!(n_same >= n_kept.count());
    let n_files = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder").count();
    assert_eq!(n_files, 1, "a temporary file is left");
}

#[test]
fn resuming_gives_a_last_line_the_break_it_lacks() {
    let (_folder, path) = folder();
    write_steps(&path, 2);
    let mut bytes = std::fs::read(&path).expect("bytes");
    bytes.pop();
    std::fs::write(&path, &bytes).expect("without its line break");
    let mut writer = MetricsWriter::open_at_step(&path, &at(2)).expect("resumed");
    writer.write(&step(2, 3.5)).expect("written");
    assert_eq!(read(&path).expect("read back").len(), 3);
}

#[test]
fn resuming_without_a_file_begins_one_and_a_new_run_never_writes_over_one() {
    let (_folder, path) = folder();
    let mut writer = MetricsWriter::open_at_step(&path, &at(5)).expect("begun");
    writer.write(&step(5, 1.0)).expect("written");
    let error = MetricsWriter::create(&path).expect_err("there already");
    assert!(matches!(error, MetricsError::Exists { .. }));
    assert_eq!(read(&path).expect("untouched").len(), 1);
}
