//! Elements shared by all figures: sizes, lettering, frames, and strokes of curves.

use std::convert::Infallible;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters_backend::{BackendCoord, DrawingErrorKind};

use super::axis::Axis;
use super::canvas::{Canvas, UNITS_PER_INCH};
use super::error::PlotError;

/// Lengths and font sizes below are in canvas units, tenths of a point.
pub(super) const LABEL_EM: i32 = 95;
pub(super) const TICK_EM: i32 = 80;
pub(super) const LINE_WIDTH: u32 = 10;
pub(super) const FRAME_WIDTH: u32 = 7;

/// Distinguishable colours on white; a ninth series has the first one again.
pub(super) const COLORS: [RGBColor; 8] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0xc5, 0x1b, 0x3a),
    RGBColor(0x17, 0xa2, 0xb8),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x6b, 0x6b, 0x6b),
];

pub(super) type Area<'a> = DrawingArea<&'a mut Canvas, plotters::coord::Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<Infallible>>;

/// A canvas of a width and height in inches, painted by `paint`.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn painted(
    (width, height): (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<Canvas, PlotError> {
    let mut canvas = Canvas::new((width * UNITS_PER_INCH, height * UNITS_PER_INCH));
    let root = (&mut canvas).into_drawing_area();
    paint(&root).map_err(|error| PlotError::Drawing { reason: error.to_string() })?;
    drop(root);
    Ok(canvas)
}

/// Width of the axis's widest tick label, in canvas units.
pub(super) fn widest_label(root: &Area<'_>, axis: &Axis) -> Result<u32, DrawingAreaErrorKind<Infallible>> {
    let mut widest = 0;
    for tick in &axis.ticks {
        let (width, _) = root.estimate_text_size(&axis.format_ext(tick), &text(TICK_EM))?;
        widest = widest.max(width);
    }
    Ok(widest)
}

pub(super) fn text(em: i32) -> TextStyle<'static> {
    ("sans-serif", em).into_font().color(&BLACK)
}

pub(super) fn paint_frame(inside: &Area<'_>) -> Drawn {
    let (width, height) = inside.dim_in_pixel();
    let corners = [(0, 0), (width as i32 - 1, height as i32 - 1)];
    inside.draw(&Rectangle::new(corners, BLACK.stroke_width(FRAME_WIDTH)))
}

/// The continuous parts of a curve, separated by non-finite losses. x is divided by `unit`.
pub(super) fn pieces(
    points: &[(f64, f64)],
    unit: f64,
    color: RGBColor,
    dashed: bool,
) -> impl Iterator<Item = Piece<(f64, f64)>> {
    points.split(|(_, loss)| !loss.is_finite()).filter(|piece| !piece.is_empty()).map(move |piece| Piece {
        points: piece.iter().map(|(x, y)| (x / unit, *y)).collect(),
        color,
        dashed,
    })
}

/// A continuous part of a curve, solid or dash-dotted; a dot if it is a single point.
pub(super) struct Piece<Coord> {
    pub points: Vec<Coord>,
    pub color: RGBColor,
    pub dashed: bool,
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

/// Divides a line into dashes and dots along its length; plotters supports only dashes of one length.
fn dash_dot(points: &[BackendCoord]) -> Vec<Vec<BackendCoord>> {
    // Dash, gap, dot, gap as in matplotlib's "-.": 6.4, 1.6, 1 and 1.6 line widths.
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
