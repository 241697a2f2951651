//! The program `calame`: its command line.
#![forbid(unsafe_code)]

mod net;
mod training;
mod ui;
mod verbs;

use std::process::ExitCode;

use calame_kernels::ReportingAlloc;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use time::OffsetDateTime;
use time::macros::format_description;

use training::memory;
use ui::output::{is_closed_pipe, print_error_event, quoted, report};
use ui::{help, invocation, verbosity};
use verbs::{
    bench, chat, compare, completions, config, data, eval, explain, export, generate, inspect, logits, man, plan, plot,
    reproduce, runs, strategies, tokenize, tokenizer, train, version,
};

/// Train, evaluate and run GPT models of the GPT-2 family on this machine, without Python.
///
/// `calame train` needs no files: it trains a GPT of 163M parameters on a built-in story, and `calame generate` then
/// continues a prompt with it. `--preset tiny` trains a small model in a minute or two.
///
/// These pages name two sources. The book is Sebastian Raschka, Build a Large Language Model (From Scratch). The report
/// is an account of training the book's model on one short story: its settings are the defaults, and `calame reproduce`
/// repeats its figures.
#[derive(Parser)]
#[command(name = "calame", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    verbosity: verbosity::Args,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::Args>),
    Plan(Box<plan::Args>),
    Runs(runs::Args),
    Compare(compare::Args),
    Generate(Box<generate::Args>),
    Chat(chat::Args),
    Strategies(strategies::Args),
    Explain(explain::Args),
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
    Config(config::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The definitions of the command line, with the commands as an installed program has them.
fn definitions() -> Command {
    help::grouped(Cli::command()).long_version(version::long())
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
    let command = definitions();
    invocation::record(command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect());
    let matches = help::shown(command).try_get_matches().unwrap_or_else(|error| exit_with(&error));
    let json = is_json(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| exit_with(&error));
    cli.verbosity.apply();
    describe_process();
    let outcome = memory::require_program(0).and_then(|()| run(cli.verb));
    verbosity::detail("finished");
    match outcome {
        Ok(code) => code,
        // The reader closed the pipe because it needs no more output.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(report(&error, json)),
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let done = |outcome: anyhow::Result<()>| outcome.map(|()| ExitCode::SUCCESS);
    match verb {
        Verb::Train(args) => train::run(*args),
        Verb::Plan(args) => done(plan::run(&args)),
        Verb::Runs(args) => done(runs::run(&args)),
        Verb::Compare(args) => done(compare::run(&args)),
        Verb::Generate(args) => done(generate::run(*args)),
        Verb::Chat(args) => done(chat::run(args)),
        Verb::Strategies(args) => done(strategies::run(args)),
        Verb::Explain(args) => done(explain::run(args)),
        Verb::Eval(args) => done(eval::run(args)),
        Verb::Tokenize(args) => done(tokenize::run(args)),
        Verb::Tokenizer(args) => tokenizer::run(args),
        Verb::Data(args) => data::run(args),
        Verb::Logits(args) => done(logits::run(args)),
        Verb::Inspect(args) => done(inspect::run(&args)),
        Verb::Export(args) => done(export::run(&args)),
        Verb::Plot(args) => done(plot::run(args)),
        Verb::Reproduce(args) => done(reproduce::run(args)),
        Verb::Bench(args) => done(bench::run(args)),
        Verb::Config(args) => done(config::run(&args)),
        Verb::Completions(args) => done(completions::run(&args, definitions())),
        Verb::Man(args) => done(man::run(&args, definitions())),
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
