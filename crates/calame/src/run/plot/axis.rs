//! Axes with ticks at round values.
//!
//! plotters' own ticks support neither whole epochs nor counts with a unit, and would choose the ticks of the figure's
//! two x axes independently.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis of the figure: its range, the positions of its ticks and their labels.
#[derive(Clone)]
pub(super) struct Axis {
    range: Range<f64>,
    pub(super) ticks: Vec<f64>,
    step: f64,
    /// Whether the axis counts tokens.
    is_count: bool,
}

impl Axis {
    /// Ticks at multiples of 1, 2 or 5 times a power of ten, about `n_ticks` of them and never closer than
    /// `min_step`.
    pub(super) fn new(range: Range<f64>, n_ticks: u32, min_step: f64) -> Self {
        let rough = ((range.end - range.start) / f64::from(n_ticks)).max(min_step);
        let power = 10f64.powf(rough.log10().floor());
        // The logarithm may be slightly too small because of rounding.
        let nice = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
        let is_enough = |step: &f64| *step >= rough * (1.0 - 1e-9);
        let step = nice.into_iter().find(is_enough).unwrap_or(nice[3]);
        let first = (range.start / step - 1e-9).ceil();
        let ticks = (0..=n_ticks)
            .map(|i| first + f64::from(i))
            .take_while(|i| *i <= range.end / step + 1e-9)
            .map(|i| i * step)
            .collect();
        Self { range, ticks, step, is_count: false }
    }

    /// An axis from 0 to a number of tokens.
    pub(super) fn counting(end: f64) -> Self {
        Self { is_count: true, ..Self::new(0.0..end, 10, 1.0) }
    }

    /// A label with as many decimals as the tick distance needs.
    fn decimal_label(&self, value: f64) -> String {
        if value.abs() >= 1e6 {
            return format!("{value:.0e}");
        }
        let n_decimals = (-self.step.log10() - 1e-9).ceil().clamp(0.0, 9.0);
        format!("{value:.*}", n_decimals as usize)
    }

    /// A count in the unit that suits the axis: 2000, 20K, 2M, 2B, 2T.
    fn count_label(&self, value: f64) -> String {
        let (unit, letter) = match self.range.end {
            end if end < 1e4 => (1.0, ""),
            end if end < 1e6 => (1e3, "K"),
            end if end < 1e9 => (1e6, "M"),
            end if end < 1e12 => (1e9, "B"),
            _ => (1e12, "T"),
        };
        let value = (value / unit * 1000.0).round() / 1000.0;
        let letter = if value == 0.0 { "" } else { letter };
        format!("{value}{letter}")
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        if self.is_count { self.count_label(*value) } else { self.decimal_label(*value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_at_round_values_within_the_axis() {
        let epochs = Axis::new(0.0..10.2, 11, 1.0);
        let expected: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!(epochs.ticks, expected);
        assert_eq!(Axis::new(0.0..3.5, 11, 1.0).ticks, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Axis::new(0.9..10.4, 6, 0.0).ticks, [2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::new(-1.0..1.0, 4, 0.0).ticks, [-1.0, -0.5, 0.0, 0.5, 1.0]);
        for end in [1e-6, 0.3, 7.0, 99.9, 1e5, 1.8e19, 6.8e38] {
            let axis = Axis::new(0.0..end, 8, 0.0);
            let n_ticks = axis.ticks.len();
            assert!((3..=9).contains(&n_ticks), "{n_ticks} ticks up to {end}");
            assert!(axis.ticks.iter().all(|tick| *tick <= end * (1.0 + 1e-8)));
        }
    }

    #[test]
    fn labels_suit_the_axis() {
        let label = |end: f64, value: f64| Axis::counting(end).format_ext(&value);
        assert_eq!(label(8192.0, 2000.0), "2000");
        assert_eq!(label(81920.0, 20000.0), "20K");
        assert_eq!(label(81920.0, 0.0), "0");
        assert_eq!(label(1.5e6, 2e5), "0.2M");
        assert_eq!(label(3e9, 1e9), "1B");
        assert_eq!(label(1.8e19, 2e18), "2000000T");
        let loss = |range, value: f64| Axis::new(range, 6, 0.0).format_ext(&value);
        assert_eq!(loss(0.9..10.4, 2.0), "2");
        assert_eq!(loss(7.9..10.0, 8.5), "8.5");
        assert_eq!(loss(0.00011..0.00013, 0.000115), "0.000115");
        assert_eq!(loss(0.0..3e38, 1e38), "1e38");
    }
}
