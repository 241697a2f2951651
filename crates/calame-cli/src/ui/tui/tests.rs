//! The dashboard drawn into a buffer, at the smallest supported size and at a large one.

use std::time::Duration;

use calame::run::metrics::Record;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::screen::{About, Curve, Screen};
use super::{KeyRequest, draw, handle_key};

fn about() -> About {
    About {
        run: "runs/2026-11-25-book".to_owned(),
        model: "book, bf16, 2 threads (avx512-bf16)".to_owned(),
        n_steps_total: 790,
        n_epochs: 10,
        tokens_per_step: 1024,
        step_operations: 788e9,
        peak: 468e9,
        planned_bytes: 2_870_000_000,
        state_bytes: 1_956_000_000,
    }
}

/// The screen after `n_steps` steps of two seconds each.
fn after(n_steps: u64, grad_norm: Option<f32>) -> Screen {
    let mut screen = Screen::new(about(), 0);
    screen.held_bytes = Some(2_850_000_000);
    screen.running = Duration::from_secs(2 * n_steps);
    for step in 0..n_steps {
        let x = step as f32;
        let (epoch, n_tokens_seen) = (step / 79 + 1, (step + 1) * 1024);
        screen.add(&Record::Step {
            step,
            epoch,
            loss: 1.2 + 9.6 * (-x / 90.0).exp() + 0.4 * ((step * 37 % 11) as f32 / 11.0 - 0.5),
            lr: 4e-4 * (f64::from(x) / 300.0).min(1.0),
            grad_norm: grad_norm.map(|norm| norm + (x / 9.0).sin().abs()),
            n_tokens_seen,
            step_seconds: 2.0,
            tokens_per_second: 430.0 + 20.0 * (f64::from(x) / 7.0).sin(),
        });
        screen.step_ended_at(Duration::from_secs(2 * step));
        if step % 5 == 0 {
            let (train_loss, val_loss) = (1.0 + 9.0 * (-x / 90.0).exp(), 5.9 + 4.0 * (-x / 40.0).exp() + x / 900.0);
            let val_bits_per_byte = None;
            screen.add(&Record::Evaluation {
                step,
                epoch,
                train_loss,
                val_loss,
                val_bits_per_byte,
                n_tokens_seen,
                seconds: 1.0,
            });
            screen.log(&format!("Ep {epoch} (Step {step:06}): Train loss {train_loss:.3}, Val loss {val_loss:.3}"));
        }
        if (step + 1) % 79 == 0 {
            let text = "Every effort moves you know,\" was one of the axioms he laid down across the Sevres and silver \
                        of an exquisitely appointed luncheon-table, when, on a later day, I had again run over from \
                        Monte Carlo; and Mrs. Gisburn, beaming on him, added for my enlightenment.";
            screen.add(&Record::Sample { step, epoch, prompt: "Every effort moves you".into(), text: text.into() });
        }
    }
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, screen)).unwrap();
    terminal.backend().to_string()
}

fn check(name: &str, shown: &str) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, shown);
    });
}

#[test]
fn a_small_terminal() {
    check("dashboard_80x24", &drawn(&after(400, Some(0.7)), 80, 24));
}

#[test]
fn a_large_terminal() {
    check("dashboard_160x50", &drawn(&after(400, None), 160, 50));
}

// At every width from 60 to 200 columns all figures are there, each apart from its name, and no title is cut.
#[test]
fn every_width_has_a_clean_layout() {
    let mut screen = after(400, Some(0.7));
    // The widest figures: days, billions of steps, a long path.
    screen.about.run = "/home/somebody/experiments/with/long/names/2026-11-25-book-17".to_owned();
    screen.about.n_steps_total = 123_456_789;
    for width in 60..=200u16 {
        for height in [20, 24, 36, 50] {
            let shown = drawn(&screen, width, height);
            for part in ["step 400 of 123,456,789", "-book-17", "q stop and save", "latest sample"] {
                assert!(shown.contains(part), "{part} at {width} × {height}:\n{shown}");
            }
            // The small curves have their last value in their titles, where there are lines for them.
            assert_eq!(shown.contains("tokens/s 439"), height >= 24, "{width} × {height}:\n{shown}");
            for (name, value) in [
                ("loss", "1.150"),
                ("training", "1.112"),
                ("validation", "6.339"),
                ("best", "6.144 at 180"),
                ("memory", "2.85 of 2.87 GB"),
                ("left", "2857 days 18 h"),
            ] {
                // The bar above the charts has the remaining time too.
                let line = shown.lines().skip(2).find(|line| line.contains(value));
                let Some(line) = line else { panic!("{name} {value} at {width} × {height}:\n{shown}") };
                let before = line.split(value).next().unwrap();
                assert!(before.ends_with(' ') && before.contains(&format!("{name} ")), "{name} at {width}:\n{shown}");
            }
        }
    }
}

// The fall of the first steps does not press the rest of the curves to the bottom.
#[test]
fn the_axis_shows_the_interesting_range() {
    let shown = drawn(&after(400, None), 80, 24);
    // The losses begin at 11 and are between 0.9 and 6.4 since step 100.
    let top: f64 =
        shown.lines().nth(3).unwrap().trim_start_matches(['"', '│']).split('│').next().unwrap().trim().parse().unwrap();
    assert!((5.0..8.0).contains(&top), "{top}:\n{shown}");
    // A loss that jumps later is shown.
    let mut screen = after(400, None);
    screen.add(&Record::Step {
        step: 400,
        epoch: 6,
        loss: 13.9,
        lr: 4e-4,
        grad_norm: None,
        n_tokens_seen: 1,
        step_seconds: 1.0,
        tokens_per_second: 1.0,
    });
    assert!(drawn(&screen, 80, 24).contains("14."), "{}", drawn(&screen, 80, 24));
}

#[test]
fn the_first_step_and_the_question() {
    let mut screen = after(0, None);
    check("dashboard_first_step", &drawn(&screen, 80, 24));
    screen.is_asking = true;
    check("dashboard_question", &drawn(&screen, 80, 24));
}

#[test]
fn any_size_can_be_drawn() {
    let screen = after(100, Some(1.0));
    for (width, height) in [(1, 1), (20, 5), (79, 23), (120, 36), (400, 100)] {
        let shown = drawn(&screen, width, height);
        assert_eq!(shown.lines().count(), usize::from(height), "{width} × {height}");
        assert_eq!(shown.contains("step 100 of 790"), width >= 79, "{width} × {height}:\n{shown}");
    }
}

#[test]
fn keys_ask_before_they_stop() {
    let key = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let mut screen = after(3, None);
    assert_eq!(handle_key(&mut screen, key('y')), KeyRequest::None);
    assert!(!screen.is_stopping);
    assert_eq!(handle_key(&mut screen, key('q')), KeyRequest::None);
    assert!(screen.is_asking);
    assert_eq!(handle_key(&mut screen, key('n')), KeyRequest::None);
    assert!(!screen.is_asking && !screen.is_stopping);
    handle_key(&mut screen, key('q'));
    assert_eq!(handle_key(&mut screen, key('y')), KeyRequest::Stop);
    assert!(screen.is_stopping && !screen.is_asking);
    assert_eq!(handle_key(&mut screen, key('q')), KeyRequest::None);
    assert_eq!(handle_key(&mut screen, interrupt), KeyRequest::Abort);
    let mut screen = after(3, None);
    assert_eq!(handle_key(&mut screen, interrupt), KeyRequest::Stop);
}

#[test]
fn the_remaining_time_follows_from_the_last_steps() {
    let screen = after(400, None);
    assert!((screen.seconds_left().unwrap() - 780.0).abs() < 1e-9);
    assert_eq!(after(1, None).seconds_left(), None);
    assert!((screen.share_of_peak().unwrap() - 0.7).abs() < 0.05);
    assert_eq!(after(0, None).share_of_peak(), None);
    assert_eq!(screen.best.unwrap().1 % 5, 0);
}

#[test]
fn a_long_curve_keeps_its_shape_in_bounded_memory() {
    let mut curve = Curve::default();
    for step in 0..100_000 {
        curve.add(f64::from(step), f64::from(step) * 2.0);
    }
    curve.add(1e9, f64::NAN);
    let points = curve.points();
    assert!(points.len() > 400 && points.len() <= 1024, "{}", points.len());
    assert!(points.iter().all(|(x, y)| (y - 2.0 * x).abs() < 1e-6) && points.windows(2).all(|p| p[0].0 < p[1].0));
    assert!(points[0].0 < 200.0 && points.last().unwrap().0 > 99_000.0);
}

#[test]
fn without_colours_the_symbols_remain() {
    let screen = after(100, Some(1.0));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let frame = terminal.draw(|frame| draw::draw(frame, &screen)).unwrap();
    let mut plain = frame.buffer.clone();
    let coloured =
        |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
    assert!(coloured(&plain));
    super::remove_colours(&mut plain);
    assert!(!coloured(&plain));
    let symbols = |buffer: &Buffer| buffer.content.iter().map(|cell| cell.symbol().to_owned()).collect::<Vec<_>>();
    assert_eq!(symbols(&plain), symbols(terminal.backend().buffer()));
}
