//! The charts of the dashboard: losses, and the small curves below them.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType};

use super::screen::{Curve, Screen};

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

/// The range of values of some curves, widened so that none runs along the frame. A flat curve is in the middle.
fn bounds(curves: &[&Curve]) -> Option<[f64; 2]> {
    let ranges = curves.iter().filter_map(|curve| curve.range());
    let (low, high) = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
    let margin = if high > low { (high - low) * 0.04 } else { low.abs() * 0.5 + 1e-9 };
    Some([low - margin, high + margin])
}

/// The range of steps that is shown: from the first to a little beyond the last.
fn steps(screen: &Screen) -> [f64; 2] {
    let first = screen.step_loss.points().first().map_or(0.0, |p| p.0);
    [first.min(0.0), (screen.last.n_steps as f64 * 1.01).max(1.0)]
}

/// Draws the losses of steps and evaluations.
pub fn losses(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let entry = |mark, name, color| [Span::styled(mark, Style::new().fg(color)), Span::raw(name)];
    let title: Vec<Span<'_>> = [Span::raw(" loss ").bold()]
        .into_iter()
        .chain(entry("━", " step  ", STEP))
        .chain(entry("━", " training  ", TRAIN))
        .chain(entry("━", " validation ", VALIDATION))
        .collect();
    let block = framed(Line::from(title));
    let Some(y) = bounds(&[&screen.step_loss, &screen.train_loss, &screen.val_loss]) else {
        let waiting = ratatui::widgets::Paragraph::new("the first step is running …").dim().centered();
        frame.render_widget(waiting.block(block), area);
        return;
    };
    let x = steps(screen);
    let n_labels = if area.height > 16 { 5 } else { 3 };
    let label = |i: usize, n: usize, [from, to]: [f64; 2]| from + (to - from) * i as f64 / (n - 1) as f64;
    let x_axis = Axis::default()
        .style(Style::new().fg(Color::DarkGray))
        .bounds(x)
        .labels((0..3).map(|i| format!("{:.0}", label(i, 3, x))));
    let y_axis = Axis::default()
        .style(Style::new().fg(Color::DarkGray))
        .bounds(y)
        .labels((0..n_labels).map(|i| format!("{:.2}", label(i, n_labels, y))));
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
    let Some(y) = bounds(&[values]) else {
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
