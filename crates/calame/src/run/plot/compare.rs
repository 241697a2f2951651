//! Draws the curves of several runs in one figure: a colour per run, training solid, validation dash-dotted.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::curves::Curves;
use super::error::PlotError;
use super::strokes::{
    Area, COLORS, Drawn, FRAME_WIDTH, LABEL_EM, Piece, TICK_EM, paint_frame, painted, pieces, text, widest_label,
};
use super::write::write_canvas;
use crate::run::metrics::Record;

/// Width and height of the figure in inches.
const INCHES: (u32, u32) = (8, 4);
const GRAY: RGBColor = RGBColor(0x50, 0x50, 0x50);
/// Maximum length of a name; the beginning of a longer one is cut, since runs usually differ at the end.
const MAX_NAME_CHARS: usize = 26;

const SAMPLE_WIDTH: i32 = 230;
const LINE_HEIGHT: i32 = 130;
const PADDING: i32 = 60;

/// A run in the figure: its name and its metrics.
#[derive(Clone, Copy, Debug)]
pub struct ComparedRun<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The records of the run's metrics.
    pub records: &'a [Record],
}

/// Draws the losses of several runs over their tokens and writes the figure to `path`, in the format of its extension:
/// `.svg`, `.png` or `.pdf`. The file is replaced atomically.
///
/// # Errors
/// If the extension is another one, there is no run, a run has no evaluation or no finite loss, or the file cannot be
/// written.
pub fn compare(runs: &[ComparedRun<'_>], path: &Path) -> Result<(), PlotError> {
    let curves: Vec<(String, Curves)> = runs
        .iter()
        .map(|run| Ok((shown(run.name), Curves::from_records(run.records)?)))
        .collect::<Result<_, PlotError>>()?;
    if curves.is_empty() {
        return Err(PlotError::NoEvaluation { n_records: 0 });
    }
    let canvas = painted(INCHES, |root| paint(root, &curves))?;
    write_canvas(&canvas, "Losses of several runs", path)
}

/// A name shortened for the legend.
fn shown(name: &str) -> String {
    let n_chars = name.chars().count();
    if n_chars <= MAX_NAME_CHARS {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(n_chars - MAX_NAME_CHARS + 1)).collect()
}

/// An axis from the lowest to the highest finite loss of all runs, with a margin.
fn loss_axis(curves: &[(String, Curves)]) -> Axis {
    let low = curves.iter().map(|(_, c)| c.losses.0).fold(f64::INFINITY, f64::min);
    let high = curves.iter().map(|(_, c)| c.losses.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = match (high - low) / 20.0 {
        // If all losses are equal, the axis must still have a length, whatever their magnitude.
        0.0 => high.abs() / 20.0 + 0.1,
        margin => margin,
    };
    Axis::new(low - margin..high + margin, 6, 0.0)
}

fn paint(root: &Area<'_>, curves: &[(String, Curves)]) -> Drawn {
    let n_tokens = curves.iter().map(|(_, c)| c.n_tokens).fold(1.0, f64::max);
    let (tokens, loss) = (Axis::counting(n_tokens), loss_axis(curves));
    let legend = Legend::of(root, curves)?;
    let frame = BLACK.stroke_width(FRAME_WIDTH);
    let mut chart = ChartBuilder::on(root)
        .margin(60)
        .margin_top(90)
        .margin_right(legend.width() + 2 * PADDING)
        .x_label_area_size(270)
        .y_label_area_size(widest_label(root, &loss)? + 210)
        .build_cartesian_2d(tokens, loss)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(frame)
        .set_all_tick_mark_size(30)
        .label_style(text(TICK_EM))
        .axis_desc_style(text(LABEL_EM))
        .x_desc("Tokens seen")
        .y_desc("Loss")
        .draw()?;
    for (i, (_, curves)) in curves.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        chart.draw_series(pieces(&curves.train, 1.0, color, false))?;
        chart.draw_series(pieces(&curves.val, 1.0, color, true))?;
    }
    paint_frame(&chart.plotting_area().strip_coord_spec())?;
    legend.paint(root)
}

/// The legend, to the right of the plot, where no curve can cross it.
struct Legend {
    /// Text and colour of each line, and whether it is dash-dotted.
    lines: Vec<(String, RGBColor, bool)>,
    text_width: i32,
}

impl Legend {
    fn of(
        root: &Area<'_>,
        curves: &[(String, Curves)],
    ) -> Result<Legend, DrawingAreaErrorKind<std::convert::Infallible>> {
        let runs = curves.iter().enumerate().map(|(i, (name, _))| (name.clone(), COLORS[i % COLORS.len()], false));
        let kinds = [("Training".to_owned(), GRAY, false), ("Validation".to_owned(), GRAY, true)];
        let lines: Vec<_> = runs.chain(kinds).collect();
        let mut text_width = 0;
        for (label, ..) in &lines {
            text_width = text_width.max(root.estimate_text_size(label, &text(TICK_EM))?.0 as i32);
        }
        Ok(Legend { lines, text_width })
    }

    fn width(&self) -> i32 {
        self.text_width + SAMPLE_WIDTH + 2 * PADDING
    }

    fn paint(&self, root: &Area<'_>) -> Drawn {
        let style = text(TICK_EM).pos(Pos::new(HPos::Left, VPos::Center));
        let (width, _) = root.dim_in_pixel();
        let left = width as i32 - self.width() - PADDING / 2;
        let n_runs = self.lines.len() - 2;
        for (i, (label, color, dashed)) in self.lines.iter().enumerate() {
            // The lines that explain the strokes are set apart from those that explain the colours.
            let gap = if i >= n_runs { LINE_HEIGHT / 2 } else { 0 };
            let y = 160 + LINE_HEIGHT * i as i32 + gap;
            let points = vec![(left, y), (left + SAMPLE_WIDTH, y)];
            root.draw(&Piece { points, color: *color, dashed: *dashed })?;
            root.draw_text(label, &style, (left + SAMPLE_WIDTH + PADDING, y))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_beginning() {
        assert_eq!(shown("runs/a"), "runs/a");
        let name = shown(&format!("{}-book-17", "x".repeat(60)));
        assert!(name.starts_with('…') && name.ends_with("-book-17") && name.chars().count() == MAX_NAME_CHARS);
    }
}
