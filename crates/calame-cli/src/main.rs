//! The program `calame`.

#[expect(dead_code, reason = "it is for the commands that read texts")]
mod download;

fn main() {}
