//! Lists the tests that were skipped, at the end of `cargo test`: this binary runs after all others, since cargo orders
//! packages and binaries by name. It has no test harness, so that its output is shown.
#![forbid(unsafe_code)]

mod record;

use std::fs;

use calame_kernels::Isa;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let records = records();
    let count = match records.len() {
        0 => "none".to_owned(),
        n => n.to_string(),
    };
    println!("\nskipped tests: {count}");
    for record in records {
        println!("  {record}");
    }
    let missing: Vec<&str> = Isa::ALL.into_iter().filter(|isa| !isa.is_available()).map(Isa::name).collect();
    if !missing.is_empty() {
        println!(
            "instruction sets that this machine lacks, so that their kernels were not tested: {}",
            missing.join(", ")
        );
    }
    println!();
}

/// The records of this run, in order. Removes them, and those of earlier runs.
fn records() -> Vec<String> {
    let mut records = Vec::new();
    for entry in fs::read_dir(record::folder()).into_iter().flatten().flatten() {
        let is_of_this_run = entry.file_name().to_string_lossy().starts_with(&record::run());
        if is_of_this_run && let Ok(text) = fs::read_to_string(entry.path()) {
            records.push(text.trim_end().to_owned());
        }
        // Another test run may have removed it.
        let _ = fs::remove_file(entry.path());
    }
    records.sort();
    records
}
