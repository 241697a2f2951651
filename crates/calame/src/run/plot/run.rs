//! Draws the figure of one run.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::curves::Curves;
use super::error::PlotError;
use super::strokes::{
    Area, Drawn, FRAME_WIDTH, LABEL_EM, Piece, TICK_EM, paint_frame, painted, pieces, text, widest_label,
};
use super::write::write_canvas;
use crate::run::metrics::Record;

/// Names of the files written by [`draw`].
pub const FILE_NAMES: [&str; 3] = ["loss-plot.pdf", "loss-plot.svg", "loss-plot.png"];

/// Width and height of the figure in inches.
const INCHES: (u32, u32) = (5, 3);
const TRAIN_COLOR: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const VAL_COLOR: RGBColor = RGBColor(0xd9, 0x5f, 0x02);

/// Maximum length of a title; a longer one is cut, since it would exceed the figure.
const MAX_TITLE_CHARS: usize = 60;

/// Draws the losses of `records` and writes `loss-plot.pdf`, `loss-plot.svg` and `loss-plot.png` to `folder`.
///
/// Training loss is a solid line, validation loss a dash-dotted one. A non-finite loss leaves a gap, and a point
/// between two gaps is a dot. The number of tokens per epoch comes from the records; until the first epoch has ended it
/// is unknown, and tokens are the only x axis.
///
/// Each file is replaced atomically: an existing one stays intact until the new one is complete.
/// Returns the paths in the order of [`FILE_NAMES`].
///
/// # Errors
///
/// If there is no evaluation or no finite loss, or a file cannot be written.
pub fn draw(records: &[Record], title: Option<&str>, folder: &Path) -> Result<[PathBuf; 3], PlotError> {
    let curves = Curves::from_records(records)?;
    let title = title.map(shorten);
    let canvas = painted(INCHES, |root| paint_chart(root, &curves, title.as_deref()))?;
    let name = title.as_deref().unwrap_or("Loss");
    let paths = FILE_NAMES.map(|name| folder.join(name));
    for path in &paths {
        write_canvas(&canvas, name, path)?;
    }
    Ok(paths)
}

fn shorten(title: &str) -> String {
    if title.chars().count() <= MAX_TITLE_CHARS {
        return title.to_owned();
    }
    let mut short: String = title.chars().take(MAX_TITLE_CHARS - 1).collect();
    short.push('…');
    short
}

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
            // Epochs are counted in whole numbers, unless not even one has been seen.
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

/// Draws the legend in the upper right corner. plotters' own estimates text widths instead of using the font.
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
