//! The program from outside: whole commands, each in a folder of its own.
#![forbid(unsafe_code)]

mod bad_model;
mod bad_settings;
mod bad_text;
mod bench;
mod data;
mod disk;
mod eval;
mod export;
mod family;
mod foreign_models;
mod generation;
mod hub;
mod init_from;
mod interface;
mod json;
#[cfg(unix)]
mod kills;
mod logits;
#[cfg(target_os = "linux")]
mod memory;
mod pipes;
mod plot;
mod program;
mod races;
mod reproduce;
mod resume;
mod seeing;
#[cfg(unix)]
mod signals;
#[path = "../../../calame-kernels/tests/skipped/record.rs"]
mod skipped;
mod snapshots;
#[cfg(unix)]
mod special_files;
mod texts;
mod tokenize;
