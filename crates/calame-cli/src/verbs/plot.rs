//! `calame plot`: draws the loss plot of a run.

use std::path::PathBuf;

use anyhow::{Context, Result};
use calame::run::{RunFolder, metrics, plot};

use crate::training::runs;
use crate::ui::output::{print, print_json};
use crate::ui::verbosity;

/// Draw the loss plot of a run again, as PDF, SVG and PNG.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the run, or its name under runs/
    #[arg(value_parser = runs::run_parser())]
    run: PathBuf,

    /// Title above the figure
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let (folder, _) = RunFolder::open(&args.run)?;
    verbosity::opened(&folder.metrics());
    let phase = verbosity::phase("drawing");
    let records = metrics::read(&folder.metrics())?;
    let files = plot::draw(&records, args.title.as_deref(), folder.path())
        .with_context(|| format!("cannot draw {}", args.run.display()))?;
    drop(phase);
    if args.json {
        print_json(&serde_json::json!({ "files": files }))?;
    } else {
        for file in files {
            print(&format!("{}\n", file.display()))?;
        }
    }
    Ok(())
}
