//! `calame plot`: draws the figure of a run again.

use crate::program::Place;

const FILES: [&str; 3] = ["run/loss-plot.pdf", "run/loss-plot.svg", "run/loss-plot.png"];

#[test]
fn all_three_files_are_drawn_again() {
    let place = Place::with_run();
    let drawn = FILES.map(|file| place.read(file));
    for file in FILES {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    let outcome = place.succeeds(&["plot", "run"]);
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), FILES);
    for (file, content) in FILES.iter().zip(&drawn) {
        assert!(place.read(file) == *content, "{file} is not what the training drew");
    }
    for (content, magic) in drawn.iter().zip([&b"%PDF-"[..], b"<svg", b"\x89PNG\r\n"]) {
        let start = &content[..content.len().min(200)];
        assert!(start.windows(magic.len()).any(|w| w == magic), "{}", String::from_utf8_lossy(start));
    }
    place.succeeds(&["plot", "run", "--title", "The Harbour"]);
    assert!(FILES.iter().zip(&drawn).all(|(file, content)| place.read(file) != *content), "a title changes them");
    assert!(place.text("run/loss-plot.svg").contains("<svg"));
}

#[test]
fn what_cannot_be_drawn() {
    let place = Place::with_run();
    place.fails(&["plot", "nowhere"], 1, &["nowhere: no such file or folder", "hint: give the folder of a run"]);
    place.write("empty/config.toml", place.read("run/config.toml"));
    place.fails(&["plot", "empty"], 1, &["empty/metrics.jsonl", "hint: check the path"]);
    place.write("empty/metrics.jsonl", "");
    place.fails(&["plot", "empty"], 1, &["cannot draw empty", "expected at least one evaluation"]);
    place.write("empty/metrics.jsonl", "{\"event\":\"step\"}\n{\"event\":\"what\"}\n");
    place.fails(&["plot", "empty"], 1, &["empty/metrics.jsonl:1", "expected a record", "remove the line"]);
    // The last line of a killed run may be incomplete.
    let metrics = place.read("run/metrics.jsonl");
    place.write("run/metrics.jsonl", &metrics[..metrics.len() - 9]);
    place.succeeds(&["plot", "run"]);
}
