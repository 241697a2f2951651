//! SIGINT, SIGTERM and SIGKILL during a training.
//!
//! A training blocks when the pipe of its output is full and nobody reads it. So a signal reaches it in the middle,
//! however busy the machine is.

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Outcome, PATIENCE, Place, metrics_without_times, train, wait_until};

/// More evaluations than the smallest pipe can hold lines: 20 epochs of a few steps each.
const LONG: [&str; 4] = ["--epochs", "20", "--set", "train.eval_every=1"];

/// A training that is blocked by its output.
struct Blocked {
    child: Child,
    output: PipeReader,
}

impl Blocked {
    /// Starts a command. With `full` it blocks at its first line, otherwise after a page of lines.
    fn start(place: &Place, args: &[&str], full: bool) -> Blocked {
        let (output, mut pipe) = std::io::pipe().unwrap();
        #[cfg(target_os = "linux")]
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        if full {
            #[cfg(target_os = "linux")]
            pipe.write_all(&[b'\n'; 4096]).unwrap();
            #[cfg(not(target_os = "linux"))]
            pipe.write_all(&[b'\n'; 65536]).unwrap();
        }
        let child = place.command(args).stdout(pipe).stderr(Stdio::piped()).spawn().unwrap();
        Blocked { child, output }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program is running");
    }

    /// Reads the output to its end, so that the command can finish.
    fn end(mut self) -> Outcome {
        let mut stdout = String::new();
        self.output.read_to_string(&mut stdout).unwrap();
        let mut outcome = Outcome::of(self.child.wait_with_output().unwrap());
        outcome.stdout = stdout;
        outcome
    }
}

fn n_lines(place: &Place, file: &str) -> usize {
    fs::read_to_string(place.path(file)).unwrap_or_default().matches('\n').count()
}

/// Starts a training in `run` and stops it by `signal` after a few steps.
fn stopped(place: &Place, signal: Signal) -> Outcome {
    let blocked = Blocked::start(place, &train(&LONG), false);
    wait_until("a step in metrics.jsonl", || n_lines(place, "run/metrics.jsonl") > 0);
    blocked.signal(signal);
    blocked.end()
}

/// Trains an uninterrupted run with the same settings in `whole`.
fn train_uninterrupted(place: &Place) {
    let args = [&["train", "--config", "tiny.toml", "--run", "whole"], &LONG[..]].concat();
    place.succeeds(&args);
}

#[track_caller]
fn assert_as_uninterrupted(place: &Place) {
    for file in ["model/model.safetensors", "model/config.json", "model/tokenizer.json", "samples.txt", "config.toml"] {
        assert!(place.read(&format!("run/{file}")) == place.read(&format!("whole/{file}")), "{file} differs");
    }
    let metrics = |run: &str| metrics_without_times(&place.text(&format!("{run}/metrics.jsonl")));
    assert_eq!(metrics("run"), metrics("whole"));
    let kept = fs::read_dir(place.path("run/checkpoints")).unwrap().count();
    assert_eq!(kept, 1, "a finished run keeps its last state only");
}

/// The answer to the first signal, with the size of what will be saved.
const STOPPING: &str = "stopping after this step, then saving ";

#[test]
fn an_interrupted_training_resumes_to_the_same_bits() {
    let place = Place::new();
    train_uninterrupted(&place);
    let outcome = stopped(&place, Signal::INT);
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    assert!(outcome.stdout.contains("the state is saved. To resume:\n  calame train --resume run\n"), "{outcome:?}");
    let expected = "stopping after this step, then saving 67.8 kB; press again to quit without saving\n";
    // The shortest trainings are saved before there is time for an announcement.
    assert!(outcome.stderr.is_empty() || outcome.stderr == expected, "{outcome:?}");
    assert!(!place.exists("run/model"));
    // Stop once more in the middle of the resumed run.
    let blocked = Blocked::start(&place, &["train", "--resume", "run"], false);
    let n = n_lines(&place, "run/metrics.jsonl");
    wait_until("a step of the resumed run", || n_lines(&place, "run/metrics.jsonl") > n + 3);
    blocked.signal(Signal::INT);
    let outcome = blocked.end();
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    assert!(outcome.stdout.contains("resuming after step "), "{outcome:?}");
    let outcome = place.succeeds(&["train", "--resume", "run"]);
    assert!(outcome.stdout.contains("resuming after step "), "{outcome:?}");
    assert_as_uninterrupted(&place);
}

#[test]
fn a_training_in_bf16_is_resumed_in_bf16() {
    let place = Place::new();
    // The settings end with their section [device].
    place.write("tiny.toml", format!("{}precision = \"bf16\"\n", place.text("tiny.toml")));
    train_uninterrupted(&place);
    stopped(&place, Signal::INT);
    place.succeeds(&["train", "--resume", "run"]);
    assert_as_uninterrupted(&place);
    assert!(place.text("run/config.toml").contains("precision = \"bf16\""));
    place.succeeds(&["generate", "--model", "run", "--precision", "bf16", "--context", "The boy", "--tokens", "3"]);
}

#[test]
fn a_terminated_training_is_saved_too() {
    let place = Place::new();
    let outcome = stopped(&place, Signal::TERM);
    assert_eq!(outcome.code, Some(143), "{outcome:?}");
    assert!(outcome.stdout.contains("calame train --resume run"), "{outcome:?}");
    assert!(place.exists("run/checkpoints"));
}

#[test]
fn a_stop_is_reported_to_programs() {
    let place = Place::new();
    let blocked = Blocked::start(&place, &train(&[&LONG[..], &["--json"]].concat()), false);
    wait_until("a step in metrics.jsonl", || n_lines(&place, "run/metrics.jsonl") > 0);
    blocked.signal(Signal::INT);
    let outcome = blocked.end();
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    let last: serde_json::Value = serde_json::from_str(outcome.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["run"]), (&"stopped".into(), &"run".into()));
    let n_steps = last["n_steps"].as_u64().unwrap();
    assert!(n_steps > 0);
    assert!(place.exists(&format!("run/checkpoints/step-{n_steps:06}/state.json")));
}

/// Reads a program's standard error until it contains `text`, however long the program runs after that.
fn wait_for_error_output(child: &mut Child, text: &str) -> String {
    let mut stderr = child.stderr.take().expect("a pipe");
    let (mut seen, mut piece) = (String::new(), [0; 256]);
    while !seen.contains(text) {
        let n = stderr.read(&mut piece).unwrap();
        assert!(n > 0, "it ended without {text:?}: {seen}");
        seen += std::str::from_utf8(&piece[..n]).unwrap();
    }
    child.stderr = Some(stderr);
    seen
}

/// After the first signal the program waits for a step that cannot end here, and says so; at the second it does not wait,
/// reports what is lost, and exits with another code than after a saved stop.
#[test]
fn a_second_signal_quits_without_saving() {
    for second in [Signal::INT, Signal::TERM] {
        let place = Place::with_run();
        let old = place.files();
        let args = [&["train", "--config", "tiny.toml", "--run", "new"], &LONG[..]].concat();
        let mut blocked = Blocked::start(&place, &args, true);
        wait_until("the run's folder", || place.exists("new/metrics.jsonl"));
        // Signals are handled soon after the folder is there, and before the first line of output.
        std::thread::sleep(Duration::from_millis(500));
        blocked.signal(Signal::INT);
        wait_for_error_output(&mut blocked.child, STOPPING);
        assert_eq!(blocked.child.try_wait().unwrap(), None, "the first signal is a request");
        blocked.signal(second);
        let lost = wait_for_error_output(&mut blocked.child, "quit without saving: ");
        assert!(lost.contains("error: ") && lost.contains("are lost"), "{lost}");
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = blocked.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the second signal did not end it");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(1), "{status:?}");
        let new = place.files();
        assert!(old.iter().all(|(path, content)| new.get(path) == Some(content)));
    }
}

/// Steps that were not saved count neither as steps nor with their losses, and are repeated.
#[test]
fn lost_steps_are_not_listed() {
    let place = Place::new();
    let runs = || {
        let outcome = place.succeeds(&["runs", ".", "--json"]);
        serde_json::from_str::<serde_json::Value>(outcome.stdout.trim()).unwrap()
    };
    let args = train(&[&LONG[..], &["--set", "checkpoint.every_steps=4"]].concat());
    let blocked = Blocked::start(&place, &args, false);
    wait_until("some steps", || n_lines(&place, "run/metrics.jsonl") > 20);
    blocked.signal(Signal::KILL);
    blocked.end();
    let recorded =
        place.text("run/metrics.jsonl").lines().filter(|line| line.contains(r#""event":"step""#)).count() as u64;
    let run = runs();
    let n_steps = run["n_steps"].as_u64().unwrap();
    assert_eq!((&run["state"], n_steps % 4, &run["resumable"]), (&"stopped".into(), 0, &true.into()), "{run}");
    assert_eq!(n_steps + run["n_steps_lost"].as_u64().unwrap(), recorded);
    assert!(run["best_step"].as_u64().unwrap() < n_steps);
    // Without a checkpoint everything is lost.
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    let run = runs();
    assert_eq!(
        (&run["state"], &run["n_steps"], &run["n_steps_lost"]),
        (&"broken off".into(), &0.into(), &recorded.into())
    );
    assert!(run["best_val_loss"].is_null() && run["last_val_loss"].is_null(), "{run}");
}

/// Before there is anything to save, a signal ends the program at once.
#[test]
fn a_signal_before_the_training() {
    let place = Place::new();
    // It encodes the text for seconds.
    place.write("long.txt", "the lamp in the harbour house was lit ".repeat(2_000_000));
    let args = ["train", "--config", "tiny.toml", "--data", "long.txt", "--run", "run"];
    let mut child = place.command(&args).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let start = std::time::Instant::now();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(1) && !place.exists("run"));
}

#[test]
fn a_killed_training_damages_nothing() {
    let place = Place::new();
    train_uninterrupted(&place);
    stopped(&place, Signal::INT);
    let old = place.files();
    for _ in 0..3 {
        let n = n_lines(&place, "run/metrics.jsonl");
        let blocked = Blocked::start(&place, &["train", "--resume", "run"], false);
        wait_until("a step of the resumed run", || n_lines(&place, "run/metrics.jsonl") > n.min(20));
        blocked.signal(Signal::KILL);
        let outcome = blocked.end();
        assert_eq!(outcome.code, None, "{outcome:?}");
        // All earlier files are intact: metrics and samples have only grown, plots are complete.
        let new = place.files();
        for (path, content) in &old {
            let kept = match new.get(path) {
                Some(now) if path.ends_with("metrics.jsonl") || path.ends_with("samples.txt") => {
                    now.starts_with(content)
                }
                // Drawn anew at every evaluation.
                Some(now) if path.extension() == Some("pdf".as_ref()) => now.trim_ascii_end().ends_with(b"%%EOF"),
                Some(now) if path.extension() == Some("svg".as_ref()) => now.ends_with(b"</svg>\n"),
                Some(now) if path.extension() == Some("png".as_ref()) => now.ends_with(b"IEND\xaeB`\x82"),
                now => now == Some(content),
            };
            assert!(kept, "{path:?}");
        }
    }
    place.succeeds(&["train", "--resume", "run"]);
    for file in ["model/model.safetensors", "model/config.json", "model/tokenizer.json"] {
        assert!(place.read(&format!("run/{file}")) == place.read(&format!("whole/{file}")), "{file} differs");
    }
    // Steps that were done twice are recorded once.
    let steps = |run: &str| {
        let records = metrics_without_times(&place.text(&format!("{run}/metrics.jsonl")));
        records.into_iter().filter(|record| record["event"] == "step").collect::<Vec<_>>()
    };
    assert_eq!(steps("run"), steps("whole"));
}

/// A training that is killed before its first step can be started again.
#[test]
fn a_run_killed_at_its_start() {
    let place = Place::new();
    let blocked = Blocked::start(&place, &train(&LONG), true);
    wait_until("the run's folder", || place.exists("run/metrics.jsonl"));
    blocked.signal(Signal::KILL);
    assert_eq!(blocked.end().code, None);
    place.fails(
        &["train", "--resume", "run"],
        1,
        &["run has no checkpoint", "hint: ", "start it again with --overwrite"],
    );
    place.succeeds(&train(&["--overwrite"]));
    assert!(place.exists("run/model/model.safetensors"));
}

#[test]
fn a_text_that_has_changed_is_noticed() {
    let place = Place::new();
    train_uninterrupted(&place);
    stopped(&place, Signal::INT);
    let story = place.read("story.txt");
    place.write("story.txt", [&story[..], b"And so to bed.\n"].concat());
    let resume = ["train", "--resume", "run"];
    place.fails(
        &resume,
        1,
        &["data.inputs", "not the one that run was trained on", "SHA-256", "hint: restore the text"],
    );
    fs::remove_file(place.path("story.txt")).unwrap();
    place.fails(&resume, 1, &["story.txt", "no such file or folder"]);
    place.write("story.txt", story);
    place.succeeds(&resume);
    assert_as_uninterrupted(&place);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let place = Place::new();
    stopped(&place, Signal::INT);
    let folder = fs::read_dir(place.path("run/checkpoints")).unwrap().next().unwrap().unwrap().file_name();
    let file = |name: &str| format!("run/checkpoints/{}/{name}", folder.to_str().unwrap());
    for name in ["weights.safetensors", "m.safetensors", "v.safetensors", "state.json"] {
        let whole = place.read(&file(name));
        place.write(&file(name), &whole[..whole.len() / 2]);
        place.fails(&["train", "--resume", "run"], 1, &[&file(name)]);
        fs::remove_file(place.path(&file(name))).unwrap();
        place.fails(&["train", "--resume", "run"], 1, &[&file(name), "hint: check the path"]);
        place.write(&file(name), whole);
    }
    place.fails(&train(&[]), 1, &["run exists already", "hint: `calame train --resume run` resumes it"]);
    place.succeeds(&["train", "--resume", "run"]);
}

/// A training that cannot write a file of its run saves its state.
#[test]
fn an_error_in_the_middle_loses_nothing() {
    let place = Place::new();
    train_uninterrupted(&place);
    let blocked = Blocked::start(&place, &train(&LONG), true);
    wait_until("the run's folder", || place.exists("run/metrics.jsonl"));
    // A folder where the first sample will be written.
    fs::create_dir(place.path("run/samples.txt")).unwrap();
    let outcome = blocked.end();
    outcome.is_error(1, &["run/samples.txt", "hint: the state after step ", "calame train --resume run"]);
    place.fails(&["train", "--resume", "run", "--threads", "x"], 2, &["--threads"]);
    fs::remove_dir(place.path("run/samples.txt")).unwrap();
    place.succeeds(&["train", "--resume", "run"]);
    assert_eq!(place.read("run/model/model.safetensors"), place.read("whole/model/model.safetensors"));
    assert_eq!(place.read("run/samples.txt"), place.read("whole/samples.txt"));
}

/// A plot that cannot be drawn stops no training. It is an error at the end, when the model is saved.
#[test]
fn a_plot_that_cannot_be_drawn() {
    let place = Place::new();
    train_uninterrupted(&place);
    stopped(&place, Signal::INT);
    let _ = fs::remove_file(place.path("run/loss-plot.svg"));
    fs::create_dir(place.path("run/loss-plot.svg")).unwrap();
    let outcome = place.run(&["train", "--resume", "run"]);
    outcome.is_error(1, &["the model is saved, but the plot could not be drawn", "run/loss-plot.svg"]);
    assert!(outcome.stderr.contains("warning: run/loss-plot.svg: cannot write it"), "{outcome:?}");
    for file in ["model/model.safetensors", "model/config.json", "model/tokenizer.json"] {
        assert!(place.read(&format!("run/{file}")) == place.read(&format!("whole/{file}")), "{file} differs");
    }
}

/// Event files that cannot be written stop no training.
#[test]
fn events_that_cannot_be_written() {
    let place = Place::new();
    train_uninterrupted(&place);
    stopped(&place, Signal::INT);
    fs::remove_dir_all(place.path("run/tensorboard")).unwrap();
    place.write("run/tensorboard", "a file");
    let outcome = place.succeeds(&["train", "--resume", "run"]);
    let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let [warning] = warnings[..] else { panic!("{outcome:?}") };
    assert!(warning.contains("run/tensorboard") && warning.ends_with("the training continues"), "{warning}");
    assert_as_uninterrupted(&place);
}

/// A resumed run uses its own instruction set, whatever the widest one of the machine is.
#[test]
fn a_resumed_run_keeps_its_instruction_set() {
    let place = Place::new();
    stopped(&place, Signal::INT);
    let mut command = place.command(&["train", "--resume", "run"]);
    let outcome = Outcome::of(command.env_remove("CALAME_INSTRUCTION_SET").output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr, "", "no warning about different bits");
    assert!(outcome.stdout.contains("(portable)"), "{outcome:?}");
    train_uninterrupted(&place);
    assert_as_uninterrupted(&place);
}
