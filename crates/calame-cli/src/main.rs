//! The program `calame`: its command line.
#![forbid(unsafe_code)]

mod net;
mod training;
mod ui;
mod verbs;

use std::process::ExitCode;

use calame_kernels::ReportingAlloc;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use time::OffsetDateTime;
use time::macros::format_description;

use training::memory;
use ui::output::{is_closed_pipe, print_error_event, quoted, report};
use verbs::{
    bench, compare, data, eval, export, generate, inspect, logits, plan, plot, reproduce, runs, tokenize, tokenizer,
    train,
};

/// Train, evaluate and run GPT models of the GPT-2 family on this machine, without Python.
///
/// `calame train` needs no files: it trains a GPT of 163M parameters on a built-in story, and `calame generate` then
/// continues a prompt with it. `--preset tiny` trains a small model in a minute or two.
#[derive(Parser)]
#[command(name = "calame", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Plan(Box<plan::Args>),
    Runs(runs::Args),
    Compare(compare::Args),
    Generate(generate::Args),
    Eval(eval::Args),
    Tokenize(tokenize::Args),
    Tokenizer(tokenizer::Args),
    Data(data::Args),
    Logits(logits::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Plot(plot::Args),
    Reproduce(reproduce::Args),
    Bench(bench::Args),
}

/// Where memory runs out after all, the program ends with an error and a hint instead of a signal.
#[global_allocator]
static ALLOCATOR: ReportingAlloc = ReportingAlloc;

/// Tells programs that meet our locks who holds them.
fn describe_process() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
    let now = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc());
    let format = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory]:[offset_minute]"
    );
    calame::files::describe_process(&format!("calame {}", words.join(" ")), &now.format(format).unwrap_or_default());
}

fn main() -> ExitCode {
    let matches = Cli::command().try_get_matches().unwrap_or_else(|error| exit_with(&error));
    let json = is_json(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| exit_with(&error));
    describe_process();
    let outcome = memory::require_program(0).and_then(|()| run(cli.command));
    match outcome {
        Ok(code) => code,
        // The reader closed the pipe because it needs no more output.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(report(&error, json)),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(*args),
        Command::Plan(args) => plan::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Runs(args) => runs::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Compare(args) => compare::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        Command::Eval(args) => eval::run(args).map(|()| ExitCode::SUCCESS),
        Command::Tokenize(args) => tokenize::run(args).map(|()| ExitCode::SUCCESS),
        Command::Tokenizer(args) => tokenizer::run(args),
        Command::Data(args) => data::run(args),
        Command::Logits(args) => logits::run(args).map(|()| ExitCode::SUCCESS),
        Command::Inspect(args) => inspect::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Export(args) => export::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Plot(args) => plot::run(args).map(|()| ExitCode::SUCCESS),
        Command::Reproduce(args) => reproduce::run(args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(args).map(|()| ExitCode::SUCCESS),
    }
}

/// Whether the command prints JSON for programs.
fn is_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false);
    here || matches.subcommand().is_some_and(|(_, matches)| is_json(matches))
}

/// Prints an error of the command line, or the help that was requested, and exits.
fn exit_with(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        print_error_event(error.to_string().trim(), None, 2);
    }
    error.exit()
}
