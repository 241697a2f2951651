//! The figure of a run: losses over epochs, with the tokens seen on a second axis.
//!
//! Five inches by three, as the report's and as chapter 5 of Raschka, *Build a Large Language Model (From
//! Scratch)*, draws it. The book spaces its evaluations evenly over the epochs; here an evaluation stands where
//! it was taken, at its tokens divided by the tokens of an epoch, so that both axes are true.

mod axis;
mod canvas;
mod compare;

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use plotters::coord::ranged1d::ValueFormatter;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendCoord, DrawingErrorKind};

use self::axis::Axis;
use self::canvas::{Canvas, UNITS_PER_INCH};
use super::metrics::Record;
use crate::files::replace_bytes;

pub use self::compare::{ComparedRun, compare};

/// Names of the files that [`draw`] writes.
pub const FILE_NAMES: [&str; 3] = ["loss-plot.pdf", "loss-plot.svg", "loss-plot.png"];

/// Width and height of the figure in inches.
const INCHES: (u32, u32) = (5, 3);
const PIXELS_PER_INCH: u32 = 200;

/// Lengths and sizes of type below are in canvas units, tenths of a point.
const LABEL_EM: i32 = 95;
const TICK_EM: i32 = 80;
const LINE_WIDTH: u32 = 10;
const FRAME_WIDTH: u32 = 7;
const TRAIN_COLOR: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const VAL_COLOR: RGBColor = RGBColor(0xd9, 0x5f, 0x02);

/// A longer title is cut: it would run out of the figure.
const MAX_TITLE_CHARS: usize = 60;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The records hold no evaluation.
    #[error(
        "expected at least one evaluation to plot, found none among {n_records} records; \
         the run was stopped before its first one"
    )]
    NoEvaluation {
        /// Records looked at.
        n_records: usize,
    },
    /// All losses are NaN or infinite.
    #[error("expected a finite loss to plot, found none in {n_evaluations} evaluations; the run has diverged")]
    NoFiniteLoss {
        /// Evaluations looked at.
        n_evaluations: usize,
    },
    /// A figure of another kind was asked for.
    #[error("{}: a figure ends in .svg, .png or .pdf", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written; the one that existed before is intact.
    #[error("{}: cannot write it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The figure could not be laid out.
    #[error("the loss plot: cannot draw it: {reason}")]
    Drawing {
        /// What the plotting library said.
        reason: String,
    },
    /// The picture could not be encoded.
    #[error("loss-plot.png: cannot encode it: {reason}")]
    Png {
        /// What the encoder said.
        reason: String,
    },
}

/// Draws the losses of `records` and writes `loss-plot.pdf`, `loss-plot.svg` and `loss-plot.png` to `folder`.
///
/// Training loss is a solid line, validation loss a dash-dotted one; where a loss is not finite the line has a
/// gap, and a point with gaps on both sides is a dot. The tokens of an epoch are taken from the records; while
/// no epoch has ended they are not known, and the figure then has tokens as its only x axis.
///
/// Each file is replaced atomically: the one that exists stays intact until the new one is complete.
/// Returns the paths in the order of [`FILE_NAMES`].
///
/// # Errors
///
/// No evaluation, no finite loss, or a file that cannot be written.
pub fn draw(records: &[Record], title: Option<&str>, folder: &Path) -> Result<[PathBuf; 3], PlotError> {
    let curves = Curves::from_records(records)?;
    let title = title.map(shorten);
    let canvas = paint(&curves, title.as_deref())?;
    let name = title.as_deref().unwrap_or("Loss");
    let paths = FILE_NAMES.map(|name| folder.join(name));
    for path in &paths {
        write_canvas(&canvas, name, path)?;
    }
    Ok(paths)
}

/// Writes a figure in the format that the path's ending names.
fn write_canvas(canvas: &Canvas, title: &str, path: &Path) -> Result<(), PlotError> {
    let bytes = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("pdf") => canvas.to_pdf(title),
        Some("svg") => canvas.to_svg(title).into_bytes(),
        Some("png") => canvas.to_png(PIXELS_PER_INCH).map_err(|reason| PlotError::Png { reason })?,
        _ => return Err(PlotError::Format { path: path.to_owned() }),
    };
    replace_bytes(path, &bytes).map_err(|error| PlotError::Io { path: path.to_owned(), source: error.source })
}

fn shorten(title: &str) -> String {
    if title.chars().count() <= MAX_TITLE_CHARS {
        return title.to_owned();
    }
    let mut short: String = title.chars().take(MAX_TITLE_CHARS - 1).collect();
    short.push('…');
    short
}

/// What the figure shows, in tokens and nats.
#[derive(Debug)]
struct Curves {
    /// (tokens seen, loss) of each evaluation; the loss may be NaN.
    train: Vec<(f64, f64)>,
    val: Vec<(f64, f64)>,
    /// Right end of the axes, a little beyond the tokens of the last record.
    n_tokens: f64,
    tokens_per_epoch: Option<f64>,
    /// Lowest and highest finite loss.
    losses: (f64, f64),
}

impl Curves {
    fn from_records(records: &[Record]) -> Result<Self, PlotError> {
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for record in records {
            if let Record::Evaluation { train_loss, val_loss, n_tokens_seen, .. } = *record {
                train.push((n_tokens_seen as f64, f64::from(train_loss)));
                val.push((n_tokens_seen as f64, f64::from(val_loss)));
            }
        }
        if train.is_empty() {
            let n_records = records.len();
            return Err(PlotError::NoEvaluation { n_records });
        }
        let finite = || train.iter().chain(&val).map(|p| p.1).filter(|l| l.is_finite());
        let losses = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        if losses.0 > losses.1 {
            let n_evaluations = train.len();
            return Err(PlotError::NoFiniteLoss { n_evaluations });
        }
        let n_tokens = records.iter().filter_map(Record::n_tokens_seen).max();
        Ok(Self {
            train,
            val,
            // A file may claim that nothing was seen yet; an axis must have a length. The bit more keeps the last
            // point off the frame.
            n_tokens: n_tokens.unwrap_or(0).max(1) as f64 * 1.02,
            tokens_per_epoch: tokens_per_epoch(records),
            losses,
        })
    }
}

/// Where the legend begins, as a share of the axis from the left, and where it ends, as a share from below.
const LEGEND_LEFT: f64 = 0.65;
const LEGEND_BOTTOM: f64 = 0.75;

impl Curves {
    /// The loss axis: a twentieth longer than the curves at both ends, and at the top as much longer as keeps the
    /// legend off them.
    fn loss_axis(&self) -> Axis {
        let (low, high) = self.losses;
        let margin = match (high - low) / 20.0 {
            // All losses are the same: an axis must have a length, however large they are.
            0.0 => high.abs() / 20.0 + 0.1,
            margin => margin,
        };
        let bottom = low - margin;
        let left = LEGEND_LEFT * self.n_tokens;
        let under_legend = highest_from(&self.train, left).max(highest_from(&self.val, left));
        let top = bottom + (under_legend + margin - bottom) / LEGEND_BOTTOM;
        Axis::new(bottom..top.max(high + margin), 6, 0.0)
    }
}

/// The highest finite loss from `left` on, counting the point where the curve enters; −∞ where there is none.
fn highest_from(points: &[(f64, f64)], left: f64) -> f64 {
    let entering = points.windows(2).filter_map(|pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (x0 < left && left < x1).then(|| y0 + (y1 - y0) * (left - x0) / (x1 - x0))
    });
    let inside = points.iter().filter(|(x, _)| *x >= left).map(|(_, y)| *y);
    entering.chain(inside).filter(|loss| loss.is_finite()).fold(f64::NEG_INFINITY, f64::max)
}

/// Tokens of one epoch, where the records tell them: every epoch has the same.
///
/// The end of a run tells them, or an epoch whose last step is known to be its last because the next step is of
/// the next epoch.
fn tokens_per_epoch(records: &[Record]) -> Option<f64> {
    let end = |record: &&Record| matches!(record, Record::End { .. });
    if let Some(end) = records.iter().rfind(end) {
        return share(end.n_tokens_seen()?, end.epoch());
    }
    let last = records.iter().map(Record::epoch).max()?;
    let next_step = of_epoch(records, last).map(Record::step).min()?;
    let ended = last.checked_sub(1)?;
    let last_step = of_epoch(records, ended)
        .filter(|record| record.step().checked_add(1) == Some(next_step))
        .find_map(Record::n_tokens_seen)?;
    share(last_step, ended)
}

fn of_epoch(records: &[Record], epoch: u64) -> impl Iterator<Item = &Record> {
    records.iter().filter(move |record| record.epoch() == epoch)
}

fn share(n_tokens: u64, n_epochs: u64) -> Option<f64> {
    (n_tokens > 0 && n_epochs > 0).then(|| n_tokens as f64 / n_epochs as f64)
}

/// The drawing itself.
fn paint(curves: &Curves, title: Option<&str>) -> Result<Canvas, PlotError> {
    let mut canvas = Canvas::new((INCHES.0 * UNITS_PER_INCH, INCHES.1 * UNITS_PER_INCH));
    let root = (&mut canvas).into_drawing_area();
    paint_chart(&root, curves, title).map_err(|error| PlotError::Drawing { reason: error.to_string() })?;
    drop(root);
    Ok(canvas)
}

type Area<'a> = DrawingArea<&'a mut Canvas, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<Infallible>>;

fn paint_chart(root: &Area<'_>, curves: &Curves, title: Option<&str>) -> Drawn {
    let title_height = if title.is_some() { 150 } else { 0 };
    if let Some(title) = title {
        let style = text(LABEL_EM).pos(Pos::new(HPos::Center, VPos::Top));
        let (width, _) = root.dim_in_pixel();
        root.draw_text(title, &style, (width as i32 / 2, 60))?;
    }
    let tokens = Axis::counting(curves.n_tokens);
    let (unit, below, name) = match curves.tokens_per_epoch {
        Some(unit) => {
            let n_epochs = curves.n_tokens / unit;
            // Epochs are counted in whole ones, unless not even one was seen.
            let min_step = if n_epochs >= 1.0 { 1.0 } else { 0.0 };
            (unit, Axis::new(0.0..n_epochs, 11, min_step), "Epochs")
        }
        None => (1.0, tokens.clone(), "Tokens seen"),
    };
    let has_epochs = curves.tokens_per_epoch.is_some();
    let loss = curves.loss_axis();
    let frame = BLACK.stroke_width(FRAME_WIDTH);

    let mut chart = ChartBuilder::on(root)
        .margin(60)
        .margin_top(60 + title_height)
        .margin_right(100)
        .x_label_area_size(270)
        .y_label_area_size(widest_label(root, &loss)? + 210)
        .top_x_label_area_size(if has_epochs { 270 } else { 0 })
        .build_cartesian_2d(below, loss.clone())?
        .set_secondary_coord(tokens, loss);
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(frame)
        .set_all_tick_mark_size(30)
        .label_style(text(TICK_EM))
        .axis_desc_style(text(LABEL_EM))
        .x_desc(name)
        .y_desc("Loss")
        .draw()?;
    chart
        .configure_secondary_axes()
        .axis_style(frame)
        .set_all_tick_mark_size(30)
        .label_style(text(TICK_EM))
        .axis_desc_style(text(LABEL_EM))
        .x_desc("Tokens seen")
        .draw()?;
    for (points, color, dashed) in [(&curves.train, TRAIN_COLOR, false), (&curves.val, VAL_COLOR, true)] {
        chart.draw_series(pieces(points, unit, color, dashed))?;
    }
    let inside = chart.plotting_area().strip_coord_spec();
    paint_frame(&inside)?;
    paint_legend(&inside)
}

/// Width of the axis's widest tick label in canvas units.
fn widest_label(root: &Area<'_>, axis: &Axis) -> Result<u32, DrawingAreaErrorKind<Infallible>> {
    let mut widest = 0;
    for tick in &axis.ticks {
        let (width, _) = root.estimate_text_size(&axis.format_ext(tick), &text(TICK_EM))?;
        widest = widest.max(width);
    }
    Ok(widest)
}

fn text(em: i32) -> TextStyle<'static> {
    ("sans-serif", em).into_font().color(&BLACK)
}

fn paint_frame(inside: &Area<'_>) -> Drawn {
    let (width, height) = inside.dim_in_pixel();
    let corners = [(0, 0), (width as i32 - 1, height as i32 - 1)];
    inside.draw(&Rectangle::new(corners, BLACK.stroke_width(FRAME_WIDTH)))
}

/// The legend in the upper right corner. plotters' own measures text by a guess, not by the font.
fn paint_legend(inside: &Area<'_>) -> Drawn {
    const MARGIN: i32 = 60;
    const PADDING: i32 = 50;
    const SAMPLE_WIDTH: i32 = 250;
    const LINE_HEIGHT: i32 = 125;
    let lines = [("Training loss", TRAIN_COLOR, false), ("Validation loss", VAL_COLOR, true)];
    let style = text(TICK_EM).pos(Pos::new(HPos::Left, VPos::Center));
    let mut text_width = 0;
    for (label, ..) in lines {
        text_width = text_width.max(inside.estimate_text_size(label, &style)?.0 as i32);
    }
    let (width, _) = inside.dim_in_pixel();
    let right = width as i32 - MARGIN;
    let left = right - text_width - SAMPLE_WIDTH - 3 * PADDING;
    let bottom = MARGIN + PADDING + LINE_HEIGHT * lines.len() as i32;
    let corners = [(left, MARGIN), (right, bottom)];
    inside.draw(&Rectangle::new(corners, WHITE.filled()))?;
    let gray = RGBColor(0xb0, 0xb0, 0xb0);
    inside.draw(&Rectangle::new(corners, gray.stroke_width(FRAME_WIDTH)))?;
    let start = left + PADDING;
    for (i, (label, color, dashed)) in lines.into_iter().enumerate() {
        let y = MARGIN + PADDING / 2 + LINE_HEIGHT / 2 + LINE_HEIGHT * i as i32;
        inside.draw(&Piece { points: vec![(start, y), (start + SAMPLE_WIDTH, y)], color, dashed })?;
        inside.draw_text(label, &style, (start + SAMPLE_WIDTH + PADDING, y))?;
    }
    Ok(())
}

/// The unbroken pieces of a curve: what lies between losses that are not finite. x is divided by `unit`.
fn pieces(points: &[(f64, f64)], unit: f64, color: RGBColor, dashed: bool) -> impl Iterator<Item = Piece<(f64, f64)>> {
    points.split(|(_, loss)| !loss.is_finite()).filter(|piece| !piece.is_empty()).map(move |piece| Piece {
        points: piece.iter().map(|(x, y)| (x / unit, *y)).collect(),
        color,
        dashed,
    })
}

/// An unbroken piece of a curve, solid or dash-dotted; a dot where it is a single point.
struct Piece<Coord> {
    points: Vec<Coord>,
    color: RGBColor,
    dashed: bool,
}

impl<'a, Coord: 'a> PointCollection<'a, Coord> for &'a Piece<Coord> {
    type Point = &'a Coord;
    type IntoIter = std::slice::Iter<'a, Coord>;

    fn point_iter(self) -> Self::IntoIter {
        self.points.iter()
    }
}

impl<Coord, DB: DrawingBackend> Drawable<DB> for Piece<Coord> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        points: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let points: Vec<BackendCoord> = points.collect();
        let style = self.color.stroke_width(LINE_WIDTH);
        match points[..] {
            [point] => backend.draw_circle(point, 2 * LINE_WIDTH, &self.color, true),
            _ if self.dashed => dash_dot(&points).into_iter().try_for_each(|dash| backend.draw_path(dash, &style)),
            _ => backend.draw_path(points, &style),
        }
    }
}

/// Cuts a line into dashes and dots along its length; plotters has dashes of one length only.
fn dash_dot(points: &[BackendCoord]) -> Vec<Vec<BackendCoord>> {
    // Dash, gap, dot, gap, as matplotlib's "-.": 6.4, 1.6, 1 and 1.6 line widths.
    let lengths = [6.4, 1.6, 1.0, 1.6].map(|n| n * f64::from(LINE_WIDTH));
    let (mut phase, mut left) = (0, lengths[0]);
    let mut dashes = Vec::new();
    let mut dash = Vec::from_iter(points.first().copied());
    for pair in points.windows(2) {
        let [a, b] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let t = done / length;
            let at = (a.0 + (b.0 - a.0) * t, a.1 + (b.1 - a.1) * t);
            let at = (at.0.round() as i32, at.1.round() as i32);
            if phase % 2 == 0 {
                dash.push(at);
                dashes.push(std::mem::take(&mut dash));
            } else {
                dash.push(at);
            }
            phase = (phase + 1) % lengths.len();
            left = lengths[phase];
        }
        left -= length - done;
        if phase % 2 == 0 {
            dash.push(pair[1]);
        }
    }
    if dash.len() > 1 {
        dashes.push(dash);
    }
    dashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, epoch: u64) -> Record {
        Record::Step {
            step,
            epoch,
            loss: 1.0,
            lr: 1e-3,
            grad_norm: None,
            n_tokens_seen: (step + 1) * 100,
            step_seconds: 1.0,
            tokens_per_second: 100.0,
        }
    }

    #[test]
    fn the_tokens_of_an_epoch_come_from_an_epoch_that_ended() {
        let mut records: Vec<Record> = (0..7).map(|i| step(i, i / 3 + 1)).collect();
        // Three steps an epoch; the third epoch has only begun.
        assert_eq!(tokens_per_epoch(&records), Some(300.0));
        assert_eq!(tokens_per_epoch(&records[..6]), Some(300.0));
        // Within the first epoch nobody knows.
        assert_eq!(tokens_per_epoch(&records[..3]), None);
        assert_eq!(tokens_per_epoch(&[]), None);
        // The last step of an epoch is not among the records: it may have gone on.
        assert_eq!(tokens_per_epoch(&[step(0, 1), step(4, 2)]), None);
        records.truncate(6);
        records.push(Record::End {
            step: 5,
            epoch: 2,
            n_tokens_seen: 600,
            total_seconds: 6.0,
            best_step: None,
            best_val_loss: None,
        });
        assert_eq!(tokens_per_epoch(&records[3..]), Some(300.0));
        // The run was given more epochs and is within one of them.
        records.push(step(9, 4));
        assert_eq!(tokens_per_epoch(&records), Some(300.0));
    }

    #[test]
    fn dashes_follow_the_line_and_cover_their_share_of_it() {
        // Around three corners, so that dashes bend.
        let line = [(0, 0), (3000, 0), (3000, 1000), (1000, 1000)];
        let dashes = dash_dot(&line);
        let length = |dash: &Vec<BackendCoord>| -> f64 {
            let pairs = dash.windows(2);
            pairs.map(|p| f64::from((p[1].0 - p[0].0).abs() + (p[1].1 - p[0].1).abs())).sum()
        };
        let share = dashes.iter().map(length).sum::<f64>() / 6000.0;
        let expected = (6.4 + 1.0) / (6.4 + 1.6 + 1.0 + 1.6);
        assert!((share - expected).abs() < 0.01, "{share} of the line");
        assert!((length(&dashes[0]) - 64.0).abs() <= 1.0);
        assert!((length(&dashes[1]) - 10.0).abs() <= 1.0);
        assert!(dashes.iter().all(|dash| dash.len() >= 2));
        assert_eq!(dash_dot(&[(5, 5), (5, 5)]).len(), 1);
    }
}
