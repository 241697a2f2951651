//! Folders that cannot be written or exist already; full and read-only disks. Existing files stay as they were.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::program::{Outcome, Place, train};
use crate::skipped::skip;

fn train_into<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--config", "tiny.toml", "--run", run], more].concat()
}

#[test]
fn an_existing_run_is_only_replaced_with_overwrite() {
    let place = Place::with_run();
    place.fails(&train(&[]), 1, &["run exists already", "hint: ", "choose another --run", "--overwrite"]);
    let before = place.files();
    place.succeeds(&train(&["--overwrite", "--seed", "9"]));
    let after = place.files();
    // The name of an event file contains the time of its creation.
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let name = |path: &PathBuf| match path.parent() {
            Some(folder) if folder.ends_with("tensorboard") => folder.join("events"),
            _ => path.clone(),
        };
        files.keys().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&before), names(&after));
    assert_ne!(place.read("run/model/model.safetensors"), before[std::path::Path::new("run/model/model.safetensors")]);
    // A new run that cannot start leaves the old one.
    for wrong in [&["--set", "model.n_head=3"][..], &["--data", "missing.txt"], &["--init-from", "nowhere"]] {
        let code = if wrong[0] == "--set" { 2 } else { 1 };
        place.fails(&train(&[&["--overwrite"], wrong].concat()), code, &[]);
    }
    let huge = train(&["--overwrite", "--set", "model.n_embd=1000000"]);
    place.fails(&huge, 1, &["the disk of run has", " free, the run needs ", "hint: free some space"]);
}

#[test]
fn what_is_not_a_run_is_not_replaced() {
    let place = Place::new();
    place.write("letters/dear.txt", "Dear Ada,");
    for run in ["letters", "story.txt"] {
        let parts = [run, "exists already and is not a run", "hint: choose another --run"];
        place.fails(&train_into(run, &[]), 1, &parts);
        place.fails(&train_into(run, &["--overwrite"]), 1, &parts);
    }
    // An empty folder is used.
    std::fs::create_dir(place.path("empty")).unwrap();
    place.succeeds(&train_into("empty", &["--epochs", "1"]));
    assert!(place.exists("empty/model/model.safetensors"));
}

#[cfg(unix)]
#[test]
fn a_device_is_not_a_folder() {
    let place = Place::new();
    place.fails(&train_into("/dev/full", &["--overwrite"]), 1, &["/dev/full", "is not a run", "hint: "]);
    assert!(!std::path::Path::new("/dev/.full.partial").exists());
}

#[test]
fn folders_that_cannot_be_made() {
    let place = Place::new();
    place.fails(
        &train_into("story.txt/run", &[]),
        1,
        &["story.txt/", "hint: check the path: one of its folders is a file"],
    );
    if cfg!(target_os = "linux") {
        place.fails(&train_into("/proc/run", &[]), 1, &["/proc/", "hint: "]);
    }
    place.fails(&["train", "--resume", "story.txt"], 1, &["story.txt", "hint: "]);
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_on_a_full_disk() {
    let place = Place::with_run();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let parts = ["cannot write to standard output", "No space left", "hint: the disk is full"];
    for args in [&["tokenize", "Hello"][..], &["generate", "--model", "run"], &["plot", "run"]] {
        let outcome = place.command(args).stdout(full()).output().unwrap();
        Outcome::of(outcome).is_error(1, &parts);
    }
    // A training continues, since its folder has everything, and warns once that its output was lost.
    let outcome = Outcome::of(place.command(&train_into("other", &[])).stdout(full()).output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("warning: cannot write to standard output").count(), 1, "{outcome:?}");
    assert_eq!(place.read("other/model/model.safetensors"), place.read("run/model/model.safetensors"));
}

/// Runs `calame train --config tiny.toml` with `args` where `disk/` is a small disk, which only this command sees.
/// `before` is run first, and the files that are on the disk at the end are copied to `after/`. None, with a message,
/// where such disks cannot be mounted.
#[cfg(target_os = "linux")]
fn on_a_disk(place: &Place, options: &str, before: &str, args: &[&str]) -> Option<Outcome> {
    let script = format!(
        "mkdir -p disk && mount -t tmpfs -o {options} none disk || exit 99
         {before}
         \"$0\" train --config tiny.toml \"$@\"; code=$?
         cp -r disk after; exit $code"
    );
    run_script(place, &script, args)
}

/// Runs a script that may mount disks, with the program as `$0`.
#[cfg(target_os = "linux")]
fn run_script(place: &Place, script: &str, args: &[&str]) -> Option<Outcome> {
    let program = place.command(&[""; 0]).get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(program).args(args);
    command
        .current_dir(place.path(""))
        .env("CALAME_INSTRUCTION_SET", "portable")
        .env("RUST_BACKTRACE", "1")
        .env_remove("CARGO");
    let outcome = match command.output() {
        Ok(output) => Outcome::of(output),
        Err(error) => {
            skip(format_args!("no `unshare` to make a small disk with ({error})"));
            return None;
        }
    };
    // If unshare is not allowed, it exits with 1 before the script prints anything.
    if outcome.code == Some(99) || outcome.stderr.starts_with("unshare: ") {
        skip(format_args!("no small disk can be mounted here ({})", outcome.stderr.trim()));
        return None;
    }
    Some(outcome)
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_small_for_the_model() {
    let place = Place::new();
    let Some(outcome) = on_a_disk(&place, "size=1m", "echo precious > disk/file", &["--run", "disk/run"]) else {
        return;
    };
    outcome.is_error(1, &["the disk of disk/run has 1.0", "hint: free some space, or put the run on another disk"]);
    let left: Vec<_> = place.files().into_keys().filter(|path| path.starts_with("after")).collect();
    assert_eq!(left, [std::path::Path::new("after/file")]);
    assert_eq!(place.text("after/file"), "precious\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_small_for_a_stop() {
    let place = Place::new();
    // 500 000 parameters: the model has 2 MB, a checkpoint 6 MB.
    let args = ["--run", "disk/run", "--epochs", "1", "--set", "model.n_positions=31250"];
    let Some(outcome) = on_a_disk(&place, "size=20m", ":", &args) else { return };
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: the disk of disk/run has 2"), "{outcome:?}");
    assert!(place.exists("after/run/model/model.safetensors"));
}

/// Settings with which a checkpoint has 9 MB and the model 3 MB.
#[cfg(target_os = "linux")]
const LARGE: [&str; 8] = [
    "--epochs",
    "6",
    "--set",
    "model.n_positions=47000",
    "--set",
    "checkpoint.every_steps=2",
    "--set",
    "train.eval_every=100",
];

/// A checkpoint that does not fit on the disk leaves the one before it, and the training continues.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_small_for_another_checkpoint() {
    let place = Place::new();
    // One checkpoint and the model fit.
    let args = [&["--run", "disk/run"], &LARGE[..]].concat();
    let Some(outcome) = on_a_disk(&place, "size=15m", ":", &args) else { return };
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let failed = "no checkpoint was written, earlier ones are kept; the training continues";
    assert!(outcome.stderr.contains("No space left on device") && outcome.stderr.contains(failed), "{outcome:?}");
    assert!(outcome.stderr.matches(failed).count() > 1, "each is tried again: {outcome:?}");
    place.succeeds(&[&["train", "--config", "tiny.toml", "--run", "run"], &LARGE[..]].concat());
    assert!(place.read("after/run/model/model.safetensors") == place.read("run/model/model.safetensors"));
}

/// Where two checkpoints fit but not three, the oldest makes space for the next one.
#[cfg(target_os = "linux")]
#[test]
fn an_old_checkpoint_makes_space() {
    let place = Place::new();
    let args = [&["--run", "disk/run"], &LARGE[..]].concat();
    let Some(outcome) = on_a_disk(&place, "size=23m", ":", &args) else { return };
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("no checkpoint was written"), "{outcome:?}");
    assert!(place.exists("after/run/model/model.safetensors"));
}

/// Runs `calame train` on a small disk in the background. As soon as it reports that it tries to write again, `response`
/// is run, with the process in `$pid`.
#[cfg(target_os = "linux")]
fn on_a_disk_that_is_full(
    place: &Place,
    options: &str,
    before: &str,
    response: &str,
    args: &[&str],
) -> Option<Outcome> {
    let script = format!(
        "mkdir -p disk && mount -t tmpfs -o {options} none disk || exit 99
         rm -f code pid err; touch err
         {before}
         (sh -c 'echo $$ > pid; exec \"$@\"' - \"$0\" train --config tiny.toml \"$@\" 2> err; echo $? > code) &
         until [ -s code ]; do
             if [ -d disk/run/tensorboard ] && [ -n \"$FILL\" ]; then
                 dd if=/dev/zero of=disk/filler bs=4k 2> /dev/null; FILL=
             fi
             if grep -q 'trying to save' err; then pid=$(cat pid); {response}; sleep 0.3; fi
             sleep 0.02
         done
         wait; cat err >&2; cp -r disk after; exit $(cat code)"
    );
    run_script(place, &script, args)
}

/// A disk that cannot hold another file, at every point of a run: at its start, at a sample, at a plot, at the model. A
/// run that has begun waits until there is space, and ends as if there had always been enough.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_costs_no_result() {
    let place = Place::with_run();
    let more = "mount -o remount,nr_inodes=200 disk";
    let (mut n_refused, mut n_waited) = (0, 0);
    // An existing run has 17 files and folders without its state; a complete new one has as many.
    for n_files in (20..=38).step_by(3) {
        let options = format!("size=64m,nr_inodes={n_files}");
        let before = "cp -r run copy; rm -r copy/checkpoints; cp -r copy disk/old; rm -r copy";
        let Some(outcome) = on_a_disk_that_is_full(&place, &options, before, more, &["--run", "disk/run"]) else {
            return;
        };
        n_waited += u32::from(outcome.stderr.contains("trying to save"));
        if outcome.code == Some(0) {
            assert_eq!(place.read("after/run/model/model.safetensors"), place.read("run/model/model.safetensors"));
            assert_eq!(place.text("after/run/samples.txt"), place.text("run/samples.txt"));
        } else {
            // It has not begun, so nothing is lost.
            n_refused += 1;
            outcome.is_error(1, &["disk/", "No space left on device", "disk is full: free some space"]);
            assert!(!place.exists("after/run/model") && !outcome.stderr.contains("trying to save"), "{outcome:?}");
        }
        let files = place.files();
        for (path, content) in
            files.iter().filter(|(path, _)| path.starts_with("run") && !path.starts_with("run/checkpoints"))
        {
            let copy = std::path::Path::new("after/old").join(path.strip_prefix("run").unwrap());
            assert_eq!(files.get(&copy), Some(content), "{copy:?}");
        }
        std::fs::remove_dir_all(place.path("after")).unwrap();
    }
    assert!(n_refused > 0 && n_waited > 1, "{n_refused} refused, {n_waited} waited");
}

/// A disk that another program fills in the middle of a training.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_late() {
    let place = Place::new();
    let args = ["--run", "disk/run", "--epochs", "60"];
    let Some(outcome) = on_a_disk_that_is_full(&place, "size=8m", "FILL=yes", "rm -f disk/filler", &args) else {
        return;
    };
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("trying to save").count(), 1, "{outcome:?}");
    place.succeeds(&train(&["--epochs", "60"]));
    for file in ["model/model.safetensors", "samples.txt"] {
        assert!(place.read(&format!("after/run/{file}")) == place.read(&format!("run/{file}")), "{file}");
    }
    let metrics = |run: &str| crate::program::metrics_without_times(&place.text(&format!("{run}/metrics.jsonl")));
    assert_eq!(metrics("after/run"), metrics("run"));
    std::fs::remove_dir_all(place.path("after")).unwrap();
    // A second signal ends the wait, with a message about what is lost.
    let give_up = "kill -TERM $pid; sleep 0.3; kill -TERM $pid";
    let Some(outcome) = on_a_disk_that_is_full(&place, "size=8m", "FILL=yes", give_up, &args) else { return };
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("error: quit without saving: all "), "{outcome:?}");
    assert!(!place.exists("after/run/model"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_disk() {
    let place = Place::with_run();
    let before = "cp -r run disk/run; mount -o remount,ro disk";
    for args in [&["--run", "disk/new"][..], &["--run", "disk/run", "--overwrite"]] {
        let Some(outcome) = on_a_disk(&place, "size=64m", before, args) else { return };
        outcome.is_error(1, &["disk/", "Read-only file system", "hint: nothing can be written there"]);
        for (path, content) in place.files().iter().filter(|(path, _)| path.starts_with("run")) {
            assert_eq!(&place.read(&format!("after/{}", path.display())), content);
        }
        std::fs::remove_dir_all(place.path("after")).unwrap();
    }
}
