//! `--resume` of runs that cannot be resumed. The tests of stopped runs are in signals.rs.

use crate::program::Place;

#[test]
fn a_finished_run() {
    let place = Place::with_run();
    place.fails(
        &["train", "--resume", "run"],
        1,
        &["run has no checkpoint", "hint: it is finished", "--init-from run --data story.txt"],
    );
}

#[test]
fn a_folder_without_a_run() {
    let place = Place::new();
    place.fails(&["train", "--resume", "nowhere"], 1, &["nowhere: no such file or folder", "hint: give the folder"]);
    place.write("folder/file", "");
    place.fails(&["train", "--resume", "folder"], 1, &["folder holds no run", "hint: give the folder of a run"]);
}

#[test]
fn a_run_with_a_damaged_config() {
    let place = Place::with_run();
    let config = place.text("run/config.toml");
    place.write("run/config.toml", &config[..config.len() / 2]);
    place.fails(&["train", "--resume", "run"], 1, &["run/config.toml"]);
    place.write("run/config.toml", format!("colour = 1\n{config}"));
    place.fails(&["train", "--resume", "run"], 1, &["run/config.toml", "unknown field `colour`"]);
}
