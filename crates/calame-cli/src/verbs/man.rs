//! `calame man`: writes the manual's pages, made from the definitions of the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use calame::files::{create_parent_folder, replace_bytes};
use clap::Command;
use clap_mangen::Man;

use crate::ui::output::print;
use crate::ui::verbosity;

/// Write the manual's pages: one for the program, and one for each command.
///
/// Without --out, the program's own page is printed in the format that `man -l -` reads.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  calame man | man -l -
  calame man --out ~/.local/share/man/man1
  man calame-train")]
pub struct Args {
    /// Folder for the pages calame.1, calame-train.1 and so on; existing ones are replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args, definitions: Command) -> Result<()> {
    let mut definitions = complete(definitions).disable_help_subcommand(true);
    definitions.build();
    let Some(folder) = &args.out else {
        return print(&page(&definitions)?);
    };
    let mut n_pages = 0;
    write_pages(&definitions, folder, &mut n_pages)?;
    print(&format!("{n_pages} pages written to {}\n", folder.display()))
}

/// The definitions with all flags in full: a page has no short form.
fn complete(definitions: Command) -> Command {
    definitions.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(complete)
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(command: &Command, folder: &Path, n_pages: &mut usize) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.1"));
    create_parent_folder(&path)?;
    replace_bytes(&path, page(command)?.as_bytes())?;
    verbosity::detail(format_args!("wrote {}", path.display()));
    *n_pages += 1;
    command.get_subcommands().try_for_each(|verb| write_pages(verb, folder, n_pages))
}

/// The page of a command, in the language of `man`.
fn page(command: &Command) -> Result<String> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text).context("the manual")?;
    String::from_utf8(text).context("the manual")
}
