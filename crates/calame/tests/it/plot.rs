//! The figure of a run: it is drawn, it is correct, and it survives odd records.

use calame::run::metrics::Record;
use calame::run::plot::{FILE_NAMES, PlotError, draw};

/// Losses of the report's run, every 5 steps from step 0: 8 steps of 1,024 tokens per epoch, ten epochs.
const REPORT: [(f32, f32); 16] = [
    (9.787, 9.949),
    (7.818, 8.114),
    (6.418, 6.910),
    (5.598, 6.444),
    (5.517, 6.371),
    (5.172, 6.289),
    (4.691, 6.180),
    (4.245, 6.137),
    (3.936, 6.100),
    (3.523, 6.090),
    (3.064, 6.033),
    (2.688, 6.019),
    (2.273, 6.057),
    (1.824, 6.097),
    (1.584, 6.146),
    (1.314, 6.220),
];

fn evaluation(step: u64, train_loss: f32, val_loss: f32) -> Record {
    Record::Evaluation {
        step,
        epoch: step / 8 + 1,
        train_loss,
        val_loss,
        val_bits_per_byte: None,
        n_tokens_seen: (step + 1) * 1024,
        seconds: 8.0,
    }
}

fn end(step: u64) -> Record {
    Record::End {
        step,
        epoch: step / 8 + 1,
        n_tokens_seen: (step + 1) * 1024,
        total_seconds: 785.0,
        best_step: None,
        best_val_loss: None,
        n_epochs: None,
    }
}

fn report() -> Vec<Record> {
    let losses = REPORT.iter().enumerate();
    let evaluations = losses.map(|(i, (train, val))| evaluation(i as u64 * 5, *train, *val));
    // The file contains the steps too; the last one of an epoch determines the tokens per epoch.
    let steps = (0..80).map(|step| Record::Step {
        step,
        epoch: step / 8 + 1,
        loss: 5.0,
        lr: 4e-4,
        grad_norm: None,
        n_tokens_seen: (step + 1) * 1024,
        step_seconds: 5.9,
        tokens_per_second: 174.0,
    });
    evaluations.chain(steps).chain([end(79)]).collect()
}

fn many() -> Vec<Record> {
    let evaluations = (0..1000u64).map(|i| {
        let noise = ((i * 7919) % 97) as f32 / 97.0 - 0.5;
        let train = 1.0 + 9.0 * (-(i as f32) / 150.0).exp() + 0.3 * noise;
        evaluation(i * 8, train, train + 0.4 + i as f32 / 1500.0)
    });
    evaluations.chain([end(7999)]).collect()
}

fn with_gaps() -> Vec<Record> {
    let mut records = report();
    for (i, (train, val)) in [(3, (f32::NAN, 6.4)), (5, (f32::INFINITY, f32::NAN)), (15, (f32::NAN, f32::NAN))] {
        records[i] = evaluation(i as u64 * 5, train, val);
    }
    records
}

/// Draws `records`, checks all three files and returns the SVG.
fn drawn(records: &[Record], title: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = draw(records, title, folder.path()).expect("drawn");
    assert_eq!(paths, FILE_NAMES.map(|name| folder.path().join(name)));
    let n_files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(n_files, 3, "no temporary file stays");
    let [pdf, svg, png] = paths.map(|path| std::fs::read(path).expect("written"));
    assert!(pdf.starts_with(b"%PDF-") && pdf.trim_ascii_end().ends_with(b"%%EOF"));
    let media_box = b"/MediaBox [0 0 360 216]";
    assert!(pdf.windows(media_box.len()).any(|bytes| bytes == media_box));
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(png[16..20], 1000u32.to_be_bytes(), "width");
    assert_eq!(png[20..24], 600u32.to_be_bytes(), "height");
    let svg = String::from_utf8(svg).expect("UTF-8");
    assert!(svg.contains("width=\"5in\" height=\"3in\""));
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate that is none");
    svg
}

const TRAIN_STROKE: &str = "stroke=\"#1f77b4\"";
const TRAIN_DOT: &str = "fill=\"#1f77b4\"";
const VAL_STROKE: &str = "stroke=\"#d95f02\"";
const VAL_DOT: &str = "fill=\"#d95f02\"";

/// The points of each path with this style; the legend's sample is the last.
fn paths(svg: &str, paint: &str) -> Vec<Vec<(f64, f64)>> {
    let lines = svg.lines().filter(|line| line.contains(paint));
    let data = lines.map(|line| line.split("d=\"").nth(1).expect("path data"));
    data.map(|data| {
        let data = data.trim_end_matches("\"/>");
        let points = data.split(['M', 'L']).filter(|point| !point.is_empty());
        points.filter_map(point).collect()
    })
    .collect()
}

fn point(text: &str) -> Option<(f64, f64)> {
    let (x, y) = text.split_once(' ')?;
    Some((x.parse().ok()?, y.parse().ok()?))
}

#[test]
fn the_report_is_drawn_correctly() {
    let svg = drawn(&report(), None);
    let train = paths(&svg, TRAIN_STROKE);
    assert_eq!(train.len(), 2, "the curve and the legend's sample");
    let curve = &train[0];
    assert_eq!(curve.len(), REPORT.len());
    let (first, last) = (curve[0], curve[15]);
    for (i, (point, (loss, _))) in curve.iter().zip(REPORT).enumerate() {
        let x = first.0 + (last.0 - first.0) * i as f64 / 15.0;
        let share = f64::from((9.787 - loss) / (9.787 - 1.314));
        let y = first.1 + (last.1 - first.1) * share;
        assert!((point.0 - x).abs() <= 1.0, "evaluation {i}: {point:?}");
        assert!((point.1 - y).abs() <= 1.0, "evaluation {i}: {point:?}");
    }
    // There are many dashes, all of them to the right of the first evaluation and above the last training loss.
    let dashes = paths(&svg, VAL_STROKE);
    assert!(dashes.len() > 50, "{} dashes", dashes.len());
    assert!(dashes.iter().flatten().all(|p| p.0 >= first.0 && p.1 < last.1));
}

#[test]
fn the_files_name_no_font_and_are_the_same_each_time() {
    let svg = drawn(&report(), Some("a run"));
    assert!(!svg.contains("<text") && !svg.contains("font"));
    assert_eq!(svg, drawn(&report(), Some("a run")));
}

#[test]
fn a_thousand_evaluations_are_drawn() {
    let svg = drawn(&many(), Some("a long run"));
    assert_eq!(paths(&svg, TRAIN_STROKE)[0].len(), 1000);
}

#[test]
fn a_loss_that_is_not_finite_is_a_gap() {
    let svg = drawn(&with_gaps(), None);
    let lengths: Vec<usize> = paths(&svg, TRAIN_STROKE).iter().map(Vec::len).collect();
    // Evaluations 3, 5 and 15 are missing; 4 is isolated and drawn as a dot; the last path is the legend's sample.
    assert_eq!(lengths, [3, 9, 2]);
    assert_eq!(paths(&svg, TRAIN_DOT).len(), 1);
}

#[test]
fn one_evaluation_is_two_dots_and_two_are_lines() {
    let one = drawn(&[evaluation(0, 9.787, 9.949)], None);
    assert_eq!(paths(&one, TRAIN_DOT).len(), 1);
    assert_eq!(paths(&one, VAL_DOT).len(), 1);
    assert_eq!(paths(&one, TRAIN_STROKE).len(), 1, "the legend's sample");
    let two = [evaluation(0, 9.787, 9.949), evaluation(7, 7.818, 8.114), end(7)];
    let two = drawn(&two, None);
    assert_eq!(paths(&two, TRAIN_DOT).len(), 0);
    assert_eq!(paths(&two, TRAIN_STROKE)[0].len(), 2);
}

#[test]
fn the_legend_never_covers_a_curve() {
    let rising = [evaluation(0, 1.0, 1.1), evaluation(40, 9.8, 9.9), end(79)];
    // Validation alone passes where the legend would be.
    let apart = [evaluation(0, 1.0, 9.8), evaluation(40, 0.5, 9.9), end(79)];
    for records in [&report(), &rising.to_vec(), &apart.to_vec(), &vec![evaluation(0, 9.8, 9.9)]] {
        let svg = drawn(records, None);
        let frame = paths(&svg, "stroke=\"#b0b0b0\"");
        let [corner, .., low] = frame[0][..] else { panic!("the legend has a frame") };
        let mut curves = paths(&svg, TRAIN_STROKE);
        // The last path with this colour is the legend's sample.
        curves.pop();
        curves.extend(paths(&svg, TRAIN_DOT));
        curves.extend(paths(&svg, VAL_DOT));
        let dashes: Vec<(f64, f64)> = paths(&svg, VAL_STROKE).into_iter().flatten().collect();
        let inside = |p: &(f64, f64)| p.0 > corner.0 && p.1 > corner.1 && p.1 < low.1;
        assert!(dashes.iter().any(|p| p.0 < corner.0) || records.len() == 1);
        // The validation's curve is many dashes; inside is the legend's own sample alone, which is level.
        let level: Vec<f64> = dashes.iter().filter(|p| inside(p)).map(|p| p.1).collect();
        assert!(!level.is_empty() && level.iter().all(|y| (y - level[0]).abs() < 0.5), "{level:?}");
        assert!(!curves.iter().flatten().any(inside));
    }
}

#[test]
fn absurd_records_are_drawn_or_refused_but_never_a_panic() {
    let odd = |epoch, n_tokens_seen, train_loss, val_loss| Record::Evaluation {
        step: u64::MAX,
        epoch,
        train_loss,
        val_loss,
        val_bits_per_byte: None,
        n_tokens_seen,
        seconds: 0.0,
    };
    for records in [
        vec![odd(0, 0, 0.0, 0.0)],
        vec![odd(u64::MAX, u64::MAX, f32::MAX, f32::MIN), end(79)],
        vec![odd(2, 1, 1.0, 1.0), odd(1, u64::MAX, 1.0, 1e-38)],
        vec![odd(3, 5, -2.5, -2.5), odd(3, 5, -2.5, -2.5)],
        vec![odd(1, 7, 3.4e38, 3.4e38), end(7)],
    ] {
        drawn(&records, Some("<&>\u{7}漢字 \u{1f600}"));
    }
}

#[test]
fn a_title_is_escaped_and_a_long_one_is_cut() {
    let svg = drawn(&report(), Some("a < b & c"));
    assert!(svg.contains("<title>a &lt; b &amp; c</title>"));
    let svg = drawn(&report(), Some(&"x".repeat(500)));
    assert!(svg.contains(&format!("<title>{}…</title>", "x".repeat(59))));
}

#[test]
fn nothing_to_plot_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let none = draw(&[end(79)], None, folder.path()).expect_err("nothing");
    assert!(matches!(none, PlotError::NoEvaluation { n_records: 1 }));
    let nan = [evaluation(0, f32::NAN, f32::INFINITY)];
    let diverged = draw(&nan, None, folder.path()).expect_err("nothing finite");
    assert!(matches!(diverged, PlotError::NoFiniteLoss { n_evaluations: 1 }));
    let missing = folder.path().join("missing");
    let error = draw(&report(), None, &missing).expect_err("no folder");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn an_existing_figure_is_kept_if_the_new_one_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let svg = folder.path().join("loss-plot.svg");
    // A folder at the path prevents writing, whichever user runs the test.
    std::fs::create_dir(&svg).expect("a folder");
    std::fs::write(svg.join("letter"), "the old one").expect("written");
    let error = draw(&report(), None, folder.path()).expect_err("in the way");
    assert!(matches!(error, PlotError::Io { path, .. } if path == svg));
    assert_eq!(std::fs::read_to_string(svg.join("letter")).expect("still there"), "the old one");
}
