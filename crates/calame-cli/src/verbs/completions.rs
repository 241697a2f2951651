//! `calame completions`: prints a shell's completions, made from the definitions of the command line.

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

use crate::ui::output::print;

/// Print the completions of commands and flags for a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  # bash
  calame completions bash > ~/.local/share/bash-completion/completions/calame
  # zsh, in a folder of $fpath
  calame completions zsh > ~/.zfunc/_calame
  # fish
  calame completions fish > ~/.config/fish/completions/calame.fish")]
pub struct Args {
    /// Shell that reads them
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args, mut definitions: Command) -> Result<()> {
    let name = definitions.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut definitions, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
