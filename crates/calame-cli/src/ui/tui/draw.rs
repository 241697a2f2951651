//! The dashboard's layout, for terminals of 60 × 20 characters and larger.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Gauge, Paragraph, Wrap};

use super::charts::{self, TRAIN, VALIDATION, framed};
use super::screen::Screen;
use crate::ui::output::{duration, grouped, size};

/// Terminals of at least this size have larger curves and show the log.
const TALL: u16 = 36;
const WIDE: u16 = 140;
/// Terminals of at least this height have small curves below the losses.
const WITH_CURVES: u16 = 24;
/// Terminals of at least this width have whole names above the small curves.
const WITH_NAMES: u16 = 80;
/// Terminals of at least this width show the figures next to the losses.
const WITH_FIGURES: u16 = 56;

pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let (small, sample) = match area.height {
        TALL.. => (9, 6),
        WITH_CURVES.. => (5, 4),
        // The figures need the lines.
        _ => (0, 4),
    };
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(small),
        Constraint::Length(sample),
        Constraint::Length(1),
    ]);
    let [top, bar, middle, curves, text, keys] = rows.areas(area);
    header(frame, top, screen);
    progress(frame, bar, screen);
    if area.width >= WIDE {
        let [chart, figures, log] =
            Layout::horizontal([Constraint::Min(40), Constraint::Length(30), Constraint::Length(56)]).areas(middle);
        charts::losses(frame, chart, screen);
        self::figures(frame, figures, screen);
        self::log(frame, log, screen);
    } else if area.width >= WITH_FIGURES {
        let [chart, figures] = Layout::horizontal([Constraint::Min(29), Constraint::Length(27)]).areas(middle);
        charts::losses(frame, chart, screen);
        self::figures(frame, figures, screen);
    } else {
        charts::losses(frame, middle, screen);
    }
    if small > 0 {
        small_curves(frame, curves, screen);
    }
    let sample = Paragraph::new(screen.sample.replace('\n', " ")).wrap(Wrap { trim: true });
    frame.render_widget(sample.block(framed(" latest sample ")), text);
    footer(frame, keys, screen);
    if screen.is_asking {
        question(frame, area);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    // The beginning of a long path says least, and so does the end of the model's description.
    let free = usize::from(area.width).saturating_sub(" calame ".len() + 3);
    let run = ending(&screen.about.run, free);
    let left = free.saturating_sub(run.chars().count());
    let line = vec![
        Span::raw(" calame ").bold().reversed(),
        Span::raw(format!(" {run}  ")).bold(),
        Span::raw(beginning(&screen.about.model, left)).fg(Color::DarkGray),
    ];
    frame.render_widget(Line::from(line), area);
}

/// A text, or its end after an ellipsis if it has more than `most` characters.
fn ending(text: &str, most: usize) -> String {
    let n = text.chars().count();
    if n <= most {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(n + 1 - most.max(1))).take(most).collect()
}

/// A text, or its beginning before an ellipsis if it has more than `most` characters.
fn beginning(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = text.chars().take(most.saturating_sub(1));
    kept.chain(std::iter::once('…')).take(most).collect()
}

fn progress(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let (done, total) = (screen.last.n_steps, screen.about.n_steps_total.max(1));
    let left = screen.seconds_left().map_or("…".to_owned(), duration);
    let steps = format!("step {} of {}", grouped(done), grouped(total));
    let whole = format!("{steps} · epoch {} of {} · {left} left", screen.last.epoch.max(1), screen.about.n_epochs);
    let fits = whole.chars().count() + 2 <= usize::from(area.width);
    let label = if fits { whole } else { format!("{steps} · {left} left") };
    let gauge = Gauge::default()
        .ratio((done as f64 / total as f64).clamp(0.0, 1.0))
        .label(label)
        .use_unicode(true)
        .gauge_style(Style::new().fg(Color::Blue).bg(Color::Black));
    frame.render_widget(gauge, area);
}

/// The figures of the last step and the last evaluation.
fn figures(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let last = &screen.last;
    let loss = |loss: f32| format!("{loss:.3}");
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let has_step = last.tokens_per_second > 0.0;
    let of_step = |text: String| or_none(has_step.then_some(text));
    let memory = screen.held_bytes.map(|held| match screen.about.planned_bytes {
        0 => size(held),
        planned => share(held, planned),
    });
    let rows = [
        ("loss", of_step(loss(last.loss)), Color::Reset),
        ("training", or_none(screen.evaluated.map(|(train, _)| loss(train))), TRAIN),
        ("validation", or_none(screen.evaluated.map(|(_, val)| loss(val))), VALIDATION),
        ("best", or_none(screen.best.map(|(best, step)| format!("{best:.3} at {}", grouped(step)))), VALIDATION),
        ("tokens/s", of_step(grouped(last.tokens_per_second.round() as u64)), Color::Reset),
        ("of peak", or_none(screen.share_of_peak().map(|share| format!("{share:.2}"))), Color::Reset),
        ("memory", or_none(memory), Color::Reset),
        ("running", duration(screen.running.as_secs_f64()), Color::Reset),
        ("left", or_none(screen.seconds_left().map(duration)), Color::Reset),
    ];
    let width = usize::from(area.width.saturating_sub(4));
    let lines: Vec<Line<'_>> = rows
        .into_iter()
        .map(|(name, value, color)| {
            let gap = width.saturating_sub(name.len() + value.chars().count());
            Line::from(vec![
                Span::raw(format!(" {name}{}", " ".repeat(gap))).fg(Color::DarkGray),
                Span::raw(value).fg(color).bold(),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(framed(" now ")), area);
}

/// A part of a whole, such as `2.85 of 2.87 GB`; each has its own unit if they differ.
fn share(part: u64, whole: u64) -> String {
    let (part, whole) = (size(part), size(whole));
    match (part.split_once(' '), whole.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} of {whole}"),
        _ => format!("{part} of {whole}"),
    }
}

fn small_curves(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let last = &screen.last;
    let [lr, norm, speed] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    let or_none = |has: bool, value: String| if has { value } else { "–".to_owned() };
    let names = if area.width >= WITH_NAMES { ["learning rate", "gradient norm"] } else { ["lr", "norm"] };
    let has_step = last.tokens_per_second > 0.0;
    let value = or_none(has_step, format!("{:.2e}", last.lr));
    charts::small(frame, lr, screen, names[0], &value, &screen.lr, Color::Magenta);
    let value = last.grad_norm.map_or("–".to_owned(), |norm| format!("{norm:.3}"));
    charts::small(frame, norm, screen, names[1], &value, &screen.grad_norm, Color::Red);
    let value = or_none(has_step, grouped(last.tokens_per_second.round() as u64));
    charts::small(frame, speed, screen, "tokens/s", &value, &screen.speed, Color::Green);
}

/// The last lines that the training would have printed without the dashboard.
fn log(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let n_visible = usize::from(area.height.saturating_sub(2));
    let from = screen.lines.len().saturating_sub(n_visible);
    let lines: Vec<Line<'_>> = screen.lines[from..].iter().map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(framed(" log ")), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let line = if screen.is_stopping {
        let state = size(screen.about.state_bytes);
        let long = format!(" stopping after this step, then saving {state} · Ctrl-C quits without saving");
        let short = format!(" stopping, then saving {state} · Ctrl-C: quit unsaved");
        let fits = long.chars().count() <= usize::from(area.width);
        Line::raw(if fits { long } else { short }).fg(Color::Yellow)
    } else {
        Line::from(vec![Span::raw(" q ").bold(), Span::raw("stop and save").fg(Color::DarkGray)])
    };
    frame.render_widget(line, area);
}

fn question(frame: &mut Frame<'_>, area: Rect) {
    let [row] = Layout::vertical([Constraint::Length(5)]).flex(Flex::Center).areas(area);
    let [area] = Layout::horizontal([Constraint::Length(56)]).flex(Flex::Center).areas(row);
    frame.render_widget(Clear, area);
    let lines = vec![
        Line::raw("Stop after this step and save, to resume later?"),
        Line::raw(""),
        Line::from(vec![Span::raw("y").bold(), Span::raw(" stop    "), Span::raw("n").bold(), Span::raw(" continue")]),
    ];
    frame.render_widget(Paragraph::new(lines).centered().block(framed(" calame ").border_style(Color::Yellow)), area);
}
