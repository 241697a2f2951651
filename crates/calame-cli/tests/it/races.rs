//! Two programs that are started at the same moment and want the same path: one has it, the other says who does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::program::{Outcome, Place, train, wait_until};

/// A program that has run, and the number of its process.
#[derive(Debug)]
struct Ran {
    process: u32,
    outcome: Outcome,
}

impl Ran {
    fn has_succeeded(&self) -> bool {
        self.outcome.code == Some(0)
    }

    /// Whether it failed because the other one held the path, and says so.
    fn names(&self, holder: &Ran) -> bool {
        let who = format!("is in use by process {} (`calame ", holder.process);
        self.outcome.stderr.contains(&who) && self.outcome.stderr.contains("`, since 20")
    }
}

/// Further starts if no two programs have met: on a busy machine one may have ended before the other begins.
const MORE_STARTS: usize = 50;

/// Starts two programs at the same moment.
fn race(place: &Place, commands: [&[&str]; 2]) -> [Ran; 2] {
    let start = |args: &&[&str]| -> Child {
        let mut command = place.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    };
    let children: Vec<Child> = commands.iter().map(start).collect();
    let ran = children.into_iter().map(|child| {
        let process = child.id();
        Ran { process, outcome: Outcome::of(child.wait_with_output().expect("its output")) }
    });
    ran.collect::<Vec<_>>().try_into().expect("two")
}

/// Asserts that one of both succeeded, and the other failed because of it. Where one had ended before the other began,
/// the late one may succeed if `may_repeat`, or fail with `late`. Returns whether they met.
#[track_caller]
fn one_wins(ran: &[Ran; 2], may_repeat: bool, late: &str) -> bool {
    let [a, b] = ran;
    let (winner, other) = if a.has_succeeded() { (a, b) } else { (b, a) };
    assert!(winner.has_succeeded(), "{ran:#?}");
    if other.has_succeeded() {
        assert!(may_repeat, "both have succeeded: {ran:#?}");
        return false;
    }
    if other.names(winner) {
        other.outcome.is_error(1, &["wait until it has ended, or choose another path"]);
        return true;
    }
    assert!(!late.is_empty(), "{ran:#?}");
    other.outcome.is_error(1, &[late]);
    false
}

/// The files of a folder, by their names; nothing temporary may be left beside it.
#[track_caller]
fn result(place: &Place, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = place.files();
    let left = files.keys().find(|path| path.iter().any(|part| part.to_string_lossy().starts_with('.')));
    assert_eq!(left, None, "a temporary file is left");
    files.into_iter().filter(|(path, _)| path.starts_with(folder)).collect()
}

/// Few files and no rehearsal: what is tested is the start and the end of a training.
const ONE_EPOCH: [&str; 7] =
    ["--epochs", "1", "--json", "--set", "log.tensorboard=false", "--set", "sample.max_tokens=0"];

fn train_once<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&train(&ONE_EPOCH)[..], more].concat()
}

fn the_same_new_run(n_starts: usize) {
    let reference = Place::new();
    reference.succeeds(&train_once(&[]));
    let (mut n_met, mut n_started) = (0, 0);
    while n_started < n_starts || (n_met == 0 && n_started < n_starts + MORE_STARTS) {
        n_started += 1;
        let place = Place::new();
        let args = train_once(&[]);
        n_met += usize::from(one_wins(&race(&place, [&args, &args]), false, "run exists already"));
        assert!(place.read("run/model/model.safetensors") == reference.read("run/model/model.safetensors"));
        assert_eq!(result(&place, "run").len(), result(&reference, "run").len());
    }
    assert!(n_met > 0, "no two programs met in {n_started} starts");
}

fn the_same_default_run(n_starts: usize) {
    let reference = Place::new();
    reference.succeeds(&train_once(&[]));
    for _ in 0..n_starts {
        let place = Place::new();
        let args = [&["train", "--config", "tiny.toml"], &ONE_EPOCH[..]].concat();
        let ran = race(&place, [&args, &args]);
        // The one that comes second takes the next name.
        assert!(ran.iter().all(Ran::has_succeeded), "{ran:#?}");
        let runs: Vec<PathBuf> = fs::read_dir(place.path("runs")).unwrap().map(|run| run.unwrap().path()).collect();
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert!(runs.iter().any(|run| run.to_string_lossy().ends_with("-tiny-2")), "{runs:?}");
        for run in runs {
            let model = fs::read(run.join("model/model.safetensors")).unwrap();
            assert!(model == reference.read("run/model/model.safetensors"));
        }
        result(&place, "runs");
    }
}

fn one_run_replaced_twice(n_starts: usize) {
    let reference = Place::with_run();
    reference.succeeds(&train_once(&["--overwrite", "--seed", "5"]));
    let place = Place::with_run();
    for _ in 0..n_starts {
        let args = train_once(&["--overwrite", "--seed", "5"]);
        one_wins(&race(&place, [&args, &args]), true, "");
        assert!(place.read("run/model/model.safetensors") == reference.read("run/model/model.safetensors"));
        assert_eq!(result(&place, "run").len(), result(&reference, "run").len());
    }
}

/// A run that was killed after its first checkpoints.
fn stopped() -> Place {
    let place = Place::new();
    let settings = [&ONE_EPOCH[2..], &["--epochs", "20", "--set", "checkpoint.every_steps=1"]].concat();
    let mut child = place.command(&train(&settings)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let has_checkpoint = || fs::read_dir(place.path("run/checkpoints")).is_ok_and(|folder| folder.count() > 1);
    wait_until("a checkpoint", has_checkpoint);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.exists("run/model"), "it has ended; give it more epochs");
    place
}

fn a_run_resumed_twice_or_replaced(n_starts: usize) {
    let stopped = stopped();
    for i in 0..n_starts {
        let place = Place::new();
        place.copy(&stopped.path("run"), "run");
        let resume = ["train", "--resume", "run", "--json"];
        let overwrite = train_once(&["--overwrite"]);
        let other = if i % 2 == 0 { &resume[..] } else { &overwrite };
        // A finished run has nothing to resume, be it the replaced one or the new one.
        one_wins(&race(&place, [&resume, other]), i % 2 == 1, "run is finished");
        assert!(place.exists("run/model/model.safetensors"));
        result(&place, "run");
    }
}

fn one_text_prepared_twice(n_starts: usize) {
    let args = ["data", "prepare", "story.txt", "--out", "prepared", "--threads", "1"];
    let reference = Place::new();
    reference.succeeds(&args);
    let (mut n_met, mut n_started) = (0, 0);
    while n_started < n_starts || (n_met == 0 && n_started < n_starts + MORE_STARTS) {
        n_started += 1;
        let place = Place::new();
        n_met += usize::from(one_wins(&race(&place, [&args, &args]), true, ""));
        assert!(result(&place, "prepared") == result(&reference, "prepared"));
        place.succeeds(&["data", "info", "prepared", "--check"]);
    }
    assert!(n_met > 0, "no two programs met in {n_started} starts");
}

fn one_model_exported_twice(n_starts: usize) {
    for (to, out) in [("gguf", "model.gguf"), ("safetensors", "folder")] {
        let args = ["export", "run", "--to", to, "--out", out, "--force"];
        let (reference, place) = (Place::with_run(), Place::with_run());
        reference.succeeds(&args);
        for i in 0..n_starts {
            // The first finds nothing there, the others what the one before has written.
            let fresh = ["export", "run", "--to", to, "--out", out];
            let first: &[&str] = if i == 0 { &fresh } else { &args };
            one_wins(&race(&place, [first, first]), i > 0, "exists already");
            assert!(result(&place, out) == result(&reference, out));
        }
    }
}

fn one_tokenizer_trained_twice(n_starts: usize) {
    let args = ["tokenizer", "train", "story.txt", "--vocab-size", "300", "--out", "tokenizer.json"];
    let reference = Place::new();
    reference.succeeds(&args);
    for _ in 0..n_starts {
        let place = Place::new();
        one_wins(&race(&place, [&args, &args]), false, "tokenizer.json exists already");
        assert!(result(&place, "tokenizer.json") == result(&reference, "tokenizer.json"));
    }
}

const PAIRS: [fn(usize); 7] = [
    the_same_new_run,
    the_same_default_run,
    one_run_replaced_twice,
    a_run_resumed_twice_or_replaced,
    one_text_prepared_twice,
    one_model_exported_twice,
    one_tokenizer_trained_twice,
];

#[test]
fn of_two_programs_one_has_the_path() {
    PAIRS.iter().for_each(|pair| pair(2));
}

#[test]
#[ignore = "takes minutes: a step of its own in .ci/run"]
fn fifty_starts_of_each_racing_pair() {
    PAIRS.iter().for_each(|pair| pair(50));
}
