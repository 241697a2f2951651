//! The charts of the dashboard: losses, and the small curves below them.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType};

use super::screen::{Curve, Screen};
use crate::ui::output::grouped;

pub const STEP: Color = Color::DarkGray;
pub const TRAIN: Color = Color::Cyan;
pub const VALIDATION: Color = Color::Yellow;

/// The frame that every part of the dashboard has.
pub fn framed<'a>(title: impl Into<Line<'a>>) -> Block<'a> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().fg(Color::DarkGray)).title(title)
}

fn curve<'a>(curve: &'a Curve, color: Color) -> Dataset<'a> {
    // A line needs two points.
    let graph_type = if curve.points().len() == 1 { GraphType::Scatter } else { GraphType::Line };
    Dataset::default().data(curve.points()).marker(Marker::Braille).graph_type(graph_type).style(Style::new().fg(color))
}

/// The range of values that is shown. The first quarter of the steps, where losses fall from the initial weights' and the
/// first steps are slow, would leave the rest of a curve a few dots, so it determines the range only if nothing else has
/// been drawn; `with_low` includes its lowest value. A flat curve is in the middle.
fn bounds(curves: &[&Curve], with_low: bool) -> Option<[f64; 2]> {
    let all = || curves.iter().flat_map(|curve| curve.points());
    let last = all().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    let first = all().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let from = first + (last - first) / 4.0;
    let range = |points: &mut dyn Iterator<Item = f64>| {
        points.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
    };
    let (low, high) = range(&mut all().filter(|p| p.0 >= from).map(|p| p.1));
    if low > high {
        return None;
    }
    let low = if with_low { range(&mut all().map(|p| p.1)).0 } else { low };
    let margin = if high > low { (high - low) * 0.04 } else { low.abs() * 0.5 + 1e-9 };
    Some([low - margin, high + margin])
}

/// Labels at even distances, with as many decimals as distinguish them.
fn labels(n: usize, [from, to]: [f64; 2]) -> Vec<String> {
    let distance = (to - from) / (n - 1) as f64;
    let n_decimals = (1.0 - distance.log10()).ceil().clamp(0.0, 6.0) as usize;
    (0..n).map(|i| format!("{:.n_decimals$}", from + distance * i as f64)).collect()
}

/// The range of steps that is shown: from the first to a little beyond the last.
fn steps(screen: &Screen) -> [f64; 2] {
    let first = screen.step_loss.points().first().map_or(0.0, |p| p.0);
    [first.min(0.0), (screen.last.n_steps as f64 * 1.01).max(1.0)]
}

/// Draws the losses of steps and evaluations.
pub fn losses(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let entry = |mark, name, color| [Span::styled(mark, Style::new().fg(color)), Span::raw(name)];
    let is_narrow = area.width < 44;
    let names = if is_narrow { [" step ", " train ", " val "] } else { [" step  ", " training  ", " validation "] };
    let title: Vec<Span<'_>> = [Span::raw(" loss ").bold()]
        .into_iter()
        .chain(entry("━", names[0], STEP))
        .chain(entry("━", names[1], TRAIN))
        .chain(entry("━", names[2], VALIDATION))
        .collect();
    let block = framed(Line::from(title));
    let Some(y) = bounds(&[&screen.step_loss, &screen.train_loss, &screen.val_loss], true) else {
        let waiting = ratatui::widgets::Paragraph::new("the first step is running …").dim().centered();
        frame.render_widget(waiting.block(block), area);
        return;
    };
    let x = steps(screen);
    // The middle of fewer than four steps has no whole number of its own.
    let n_steps = if x[1] - x[0] < 4.0 { 2 } else { 3 };
    let step = |i: usize| (x[0] + (x[1] - x[0]) * i as f64 / (n_steps - 1) as f64).round() as u64;
    let axis = || Axis::default().style(Style::new().fg(Color::DarkGray));
    let x_axis = axis().bounds(x).labels((0..n_steps).map(|i| grouped(step(i))));
    let y_axis = axis().bounds(y).labels(labels(if area.height > 16 { 5 } else { 3 }, y));
    let curves =
        vec![curve(&screen.step_loss, STEP), curve(&screen.train_loss, TRAIN), curve(&screen.val_loss, VALIDATION)];
    let chart = Chart::new(curves).block(block).x_axis(x_axis).y_axis(y_axis).legend_position(None);
    frame.render_widget(chart, area);
}

/// Draws one figure over the steps, with its last value in the title.
pub fn small(
    frame: &mut Frame<'_>,
    area: Rect,
    screen: &Screen,
    name: &str,
    value: &str,
    values: &Curve,
    color: Color,
) {
    let block = framed(Line::from(vec![Span::raw(format!(" {name} ")), Span::raw(format!("{value} ")).bold()]));
    let Some(y) = bounds(&[values], false) else {
        frame.render_widget(block, area);
        return;
    };
    let chart = Chart::new(vec![curve(values, color)])
        .block(block)
        .x_axis(Axis::default().bounds(steps(screen)))
        .y_axis(Axis::default().bounds(y))
        .legend_position(None);
    frame.render_widget(chart, area);
}
