//! Figures that explain a model: the distribution of the next token, and what a head attends to.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::PlotError;
use super::strokes::{Area, COLORS, Drawn, FRAME_WIDTH, LABEL_EM, TICK_EM, painted, text};
use super::write::write_canvas;

const MARGIN: i32 = 120;
/// Space for the axis on the left, in canvas units.
const LEFT: i32 = 520;
/// Longest label of a token; a longer one is cut.
const MAX_LABEL_CHARS: usize = 14;

/// A label as it fits beside an axis.
fn label(name: &str) -> String {
    if name.chars().count() <= MAX_LABEL_CHARS {
        return name.to_owned();
    }
    name.chars().take(MAX_LABEL_CHARS - 1).chain(['…']).collect()
}

/// Draws a group of bars for each token, one bar for each series of probabilities from 0 to 1, and writes the figure to
/// `path`, in the format of its extension: `.svg`, `.png` or `.pdf`. The file is replaced atomically.
///
/// # Errors
/// If the extension is another one, or the file cannot be written.
///
/// # Panics
/// If a series has not a probability for every token.
pub fn draw_distribution(tokens: &[String], series: &[(String, Vec<f64>)], path: &Path) -> Result<(), PlotError> {
    assert!(series.iter().all(|(_, values)| values.len() == tokens.len()), "draw_distribution: lengths");
    let canvas = painted((8, 4), |root| bars(root, tokens, series))?;
    write_canvas(&canvas, "Probabilities of the next token", path)
}

fn bars(root: &Area<'_>, tokens: &[String], series: &[(String, Vec<f64>)]) -> Drawn {
    const BOTTOM: i32 = 620;
    let (width, height) = root.dim_in_pixel();
    let (right, bottom) = (width as i32 - MARGIN, height as i32 - BOTTOM);
    let highest = series.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    // The axis ends at the next tenth.
    let top_value = ((highest * 10.0).ceil() / 10.0).clamp(0.1, 1.0);
    let y = |value: f64| bottom - ((bottom - MARGIN) as f64 * value / top_value) as i32;
    let right_aligned = text(TICK_EM).pos(Pos::new(HPos::Right, VPos::Center));
    for tick in 0..=5 {
        let value = top_value * f64::from(tick) / 5.0;
        let line = [(LEFT, y(value)), (right, y(value))];
        root.draw(&PathElement::new(line, RGBColor(0xdd, 0xdd, 0xdd).stroke_width(FRAME_WIDTH)))?;
        root.draw_text(&format!("{:.0} %", 100.0 * value), &right_aligned, (LEFT - 50, y(value)))?;
    }
    let group = (right - LEFT) / tokens.len().max(1) as i32;
    let bar = group * 8 / (10 * series.len().max(1) as i32);
    let turned = text(TICK_EM).pos(Pos::new(HPos::Right, VPos::Center)).transform(FontTransform::Rotate270);
    for (i, token) in tokens.iter().enumerate() {
        let start = LEFT + group * i as i32 + group / 10;
        for (k, (_, values)) in series.iter().enumerate() {
            let left = start + bar * k as i32;
            let corners = [(left, y(values[i])), (left + bar - bar / 10, bottom)];
            root.draw(&Rectangle::new(corners, COLORS[k % COLORS.len()].filled()))?;
        }
        root.draw_text(&label(token), &turned, (start + bar * series.len() as i32 / 2, bottom + 40))?;
    }
    root.draw(&PathElement::new([(LEFT, bottom), (right, bottom)], BLACK.stroke_width(FRAME_WIDTH)))?;
    let left_aligned = text(TICK_EM).pos(Pos::new(HPos::Left, VPos::Center));
    // No line of the grid crosses the names.
    let (first, last) = (MARGIN + 160, MARGIN + 160 + 130 * series.len() as i32);
    root.draw(&Rectangle::new([(right - 1550, first - 100), (right, last)], WHITE.filled()))?;
    for (k, (name, _)) in series.iter().enumerate() {
        let at = (right - 1500, first + 130 * k as i32);
        root.draw(&Rectangle::new([(at.0, at.1 - 35), (at.0 + 130, at.1 + 35)], COLORS[k % COLORS.len()].filled()))?;
        root.draw_text(name, &left_aligned, (at.0 + 180, at.1))?;
    }
    Ok(())
}

/// Draws attention weights [T, T] as a grid, a row for each query, and writes the figure to `path`, in the format of its
/// extension: `.svg`, `.png` or `.pdf`. The file is replaced atomically.
///
/// # Errors
/// If the extension is another one, or the file cannot be written.
///
/// # Panics
/// If there is not a weight for each pair of tokens.
pub fn draw_attention(tokens: &[String], weights: &[f64], title: &str, path: &Path) -> Result<(), PlotError> {
    assert!(weights.len() == tokens.len() * tokens.len(), "draw_attention: {} weights", weights.len());
    let canvas = painted((6, 6), |root| grid(root, tokens, weights, title))?;
    write_canvas(&canvas, title, path)
}

fn grid(root: &Area<'_>, tokens: &[String], weights: &[f64], title: &str) -> Drawn {
    const SPACE: i32 = 780;
    let (width, height) = root.dim_in_pixel();
    let centred = text(LABEL_EM).pos(Pos::new(HPos::Center, VPos::Top));
    root.draw_text(title, &centred, (width as i32 / 2, 60))?;
    let cell = ((width as i32 - SPACE - MARGIN).min(height as i32 - SPACE - MARGIN) / tokens.len() as i32).max(1);
    let em = TICK_EM.min(cell * 8 / 10).max(12);
    let beside = text(em).pos(Pos::new(HPos::Right, VPos::Center));
    let above = text(em).pos(Pos::new(HPos::Left, VPos::Center)).transform(FontTransform::Rotate270);
    for (i, token) in tokens.iter().enumerate() {
        let at = SPACE + cell * i as i32;
        root.draw_text(&label(token), &beside, (SPACE - 40, at + cell / 2))?;
        root.draw_text(&label(token), &above, (at + cell / 2, SPACE - 40))?;
        for (k, weight) in weights[i * tokens.len()..][..=i].iter().enumerate() {
            // From white to the first colour.
            let shade = |to: u8| 255 - (f64::from(255 - to) * weight.clamp(0.0, 1.0).sqrt()) as u8;
            let color = RGBColor(shade(0x08), shade(0x30), shade(0x6b));
            let left = SPACE + cell * k as i32;
            root.draw(&Rectangle::new([(left, at), (left + cell, at + cell)], color.filled()))?;
        }
    }
    let end = SPACE + cell * tokens.len() as i32;
    root.draw(&Rectangle::new([(SPACE, SPACE), (end, end)], RGBColor(0x90, 0x90, 0x90).stroke_width(FRAME_WIDTH)))
}
