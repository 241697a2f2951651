//! Computes the learning rate of each step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TrainConfigError;

/// The shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// No decay, as in the report.
    #[default]
    Constant,
    /// Linear decay to the end.
    Linear,
    /// Half a cosine (I. Loshchilov and F. Hutter, "SGDR", 2017, equation 5, without restarts).
    Cosine,
    /// Warm-up, stable, decay: constant for most of the training, then linear (S. Hu et al., "MiniCPM", 2024, section
    /// 4).
    Wsd,
}

/// Section `[schedule]`: the learning rate over the steps of a training, as factors of `train.lr`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Shape after warm-up: `constant`, `linear`, `cosine` or `wsd`.
    pub decay: Decay,
    /// Number of steps over which the rate rises linearly to `train.lr`; 0 for no warm-up.
    pub warmup_steps: u64,
    /// Warm-up as a share of all steps; at most one of the two may be set.
    pub warmup_fraction: f64,
    /// Learning rate of the last step as a share of `train.lr`.
    pub final_factor: f64,
    /// Share of all steps over which `wsd` decays.
    pub wsd_fraction: f64,
}

impl Default for ScheduleConfig {
    fn default() -> ScheduleConfig {
        ScheduleConfig {
            decay: Decay::Constant,
            warmup_steps: 0,
            warmup_fraction: 0.0,
            final_factor: 0.1,
            wsd_fraction: 0.2,
        }
    }
}

impl ScheduleConfig {
    /// Checks that the values are within their ranges.
    ///
    /// # Errors
    /// Returns the first invalid value and the accepted ones.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let error = |key, value: f64, expected| Err(TrainConfigError { key, value: value.to_string(), expected });
        if !share(self.warmup_fraction) {
            return error("schedule.warmup_fraction", self.warmup_fraction, "a share of all steps, from 0 to 1");
        }
        if self.warmup_steps > 0 && self.warmup_fraction > 0.0 {
            let expected = "0, since schedule.warmup_steps is set and means the same";
            return error("schedule.warmup_fraction", self.warmup_fraction, expected);
        }
        if !share(self.final_factor) {
            return error("schedule.final_factor", self.final_factor, "a share of train.lr, from 0 to 1");
        }
        if !(share(self.wsd_fraction) && self.wsd_fraction > 0.0) {
            return error("schedule.wsd_fraction", self.wsd_fraction, "a share of all steps, above 0 and at most 1");
        }
        Ok(())
    }

    /// Number of warm-up steps in a training of `n_steps`.
    fn n_warmup(&self, n_steps: u64) -> u64 {
        let of_fraction = (self.warmup_fraction * n_steps as f64).round() as u64;
        self.warmup_steps.max(of_fraction).min(n_steps)
    }

    /// The factor of `train.lr` at step `step` (from 0) of `n_steps`: (step + 1) / warm-up steps during warm-up, 1
    /// right after it, `final_factor` at the last step.
    pub fn factor(&self, step: u64, n_steps: u64) -> f64 {
        let n_warmup = self.n_warmup(n_steps);
        if step < n_warmup {
            return (step + 1) as f64 / n_warmup as f64;
        }
        let fallen = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => share_of_way(step, n_warmup, n_steps),
            Decay::Cosine => (1.0 - (std::f64::consts::PI * share_of_way(step, n_warmup, n_steps)).cos()) / 2.0,
            Decay::Wsd => {
                let n_falling = (self.wsd_fraction * n_steps as f64).round() as u64;
                share_of_way(step, n_steps.saturating_sub(n_falling).max(n_warmup), n_steps)
            }
        };
        1.0 - fallen * (1.0 - self.final_factor)
    }
}

/// Relative position of `step` between `first` and the last of `n_steps`: 0 up to the first, 1 at the last.
fn share_of_way(step: u64, first: u64, n_steps: u64) -> f64 {
    let n = n_steps.saturating_sub(1).saturating_sub(first);
    if n == 0 { 0.0 } else { (step.saturating_sub(first) as f64 / n as f64).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(config: &ScheduleConfig, n_steps: u64) -> Vec<f64> {
        (0..n_steps).map(|step| config.factor(step, n_steps)).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-12, "{found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn a_constant_rate_is_the_rate_to_the_bit() {
        assert!(factors(&ScheduleConfig::default(), 80).iter().all(|&factor| factor == 1.0));
    }

    #[test]
    fn each_decay_by_hand() {
        let of = |decay, final_factor| ScheduleConfig { decay, final_factor, ..ScheduleConfig::default() };
        assert_close(&factors(&of(Decay::Linear, 0.0), 5), &[1.0, 0.75, 0.5, 0.25, 0.0]);
        let half = 0.5f64.sqrt() / 2.0;
        assert_close(&factors(&of(Decay::Cosine, 0.0), 5), &[1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]);
        assert_close(&factors(&of(Decay::Cosine, 0.2), 3), &[1.0, 0.6, 0.2]);
        let wsd = ScheduleConfig { wsd_fraction: 0.5, ..of(Decay::Wsd, 0.0) };
        assert_close(&factors(&wsd, 6), &[1.0, 1.0, 1.0, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn warm_up_rises_to_the_rate_and_decay_begins_after_it() {
        let warm = ScheduleConfig { warmup_steps: 2, decay: Decay::Linear, final_factor: 0.5, ..Default::default() };
        assert_close(&factors(&warm, 5), &[0.5, 1.0, 1.0, 0.75, 0.5]);
        let same = ScheduleConfig { warmup_steps: 0, warmup_fraction: 0.4, ..warm };
        assert_close(&factors(&same, 5), &[0.5, 1.0, 1.0, 0.75, 0.5]);
        let longer_than_all = ScheduleConfig { warmup_steps: 9, ..Default::default() };
        assert_close(&factors(&longer_than_all, 2), &[0.5, 1.0]);
    }

    #[test]
    fn invalid_values_are_reported() {
        let key = |config: ScheduleConfig| config.validate().unwrap_err().key;
        let default = ScheduleConfig::default;
        assert_eq!(default().validate(), Ok(()));
        assert_eq!(key(ScheduleConfig { warmup_fraction: 1.5, ..default() }), "schedule.warmup_fraction");
        let both = ScheduleConfig { warmup_steps: 3, warmup_fraction: 0.1, ..default() };
        assert_eq!(key(both), "schedule.warmup_fraction");
        assert_eq!(key(ScheduleConfig { final_factor: f64::NAN, ..default() }), "schedule.final_factor");
        assert_eq!(key(ScheduleConfig { wsd_fraction: 0.0, ..default() }), "schedule.wsd_fraction");
    }
}
