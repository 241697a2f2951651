//! The plan of a run, held against this machine's memory and speed.

use anyhow::Result;
use calame::model::Preset;
use calame::ops::Device;
use calame::train::RunConfig;
use calame::train::plan::{Machine, Plan, TextSize};

use super::launch::{Place, Ready};
use super::memory;
use super::rehearsal::{Rehearsal, estimate, rehearse};
use crate::ui::output::{WithHint, duration, gigabytes, note};

/// A plan, and what the machine has for it.
pub struct Planned {
    pub plan: Plan,
    text: TextSize,
    machine: Machine,
    pub available_bytes: Option<u64>,
}

impl Planned {
    /// The plan of a run that is ready; memory for it is not taken yet, but for a model that was read.
    pub fn of(dev: &Device, ready: &Ready) -> Planned {
        let mut held = memory::held_bytes().unwrap_or(0);
        if ready.gpt.is_some() && matches!(ready.place, Place::New(_)) {
            held = held.saturating_sub(4 * ready.config.model.n_parameters() as u64);
        }
        let text = ready.prepared.size.clone();
        let machine = Machine {
            isa: dev.isa(),
            precision: dev.precision(),
            n_threads: dev.n_threads(),
            program_bytes: held.saturating_sub(4 * text.n_in_memory()),
        };
        let plan = Plan::of(&ready.config, &text, &machine, n_steps_done(&ready.place));
        // What the program holds is in the plan too.
        let available_bytes = memory::available_bytes().map(|free| free.saturating_add(held));
        Planned { plan, text, machine, available_bytes }
    }

    /// Measures how long it takes, in a second or two.
    pub fn rehearse(&self, config: &RunConfig) -> Result<Timed> {
        Ok(self.timed(rehearse(config, &self.text, &self.machine)?))
    }

    /// About how long it takes, without holding up a long training's first step.
    pub fn estimate(&self, config: &RunConfig) -> Result<Timed> {
        Ok(self.timed(estimate(config, &self.text, &self.machine, &self.plan)?))
    }

    fn timed(&self, rehearsal: Rehearsal) -> Timed {
        let share_of_peak = self.plan.step_operations / rehearsal.pace.step_seconds / rehearsal.peak;
        Timed { seconds: self.plan.seconds(&rehearsal.pace), share_of_peak, rehearsal }
    }

    /// Whether the machine's memory suffices; where the system does not tell, it does.
    pub fn fits(&self) -> bool {
        self.available_bytes.is_none_or(|available| self.plan.memory_bytes() <= available)
    }

    /// An error, with what to change, if memory does not suffice; a warning where it hardly does.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        let (Some(available), needed) = (self.available_bytes, self.plan.memory_bytes()) else { return Ok(()) };
        let message = format!("the training needs {} of memory, {} are free", gigabytes(needed), gigabytes(available));
        if needed > available {
            return Err(WithHint::new(message, self.remedy(config, available)).into());
        }
        if needed > available / 10 * 9 {
            note(&format!("warning: {message}: another program that grows would end it"));
        }
        Ok(())
    }

    /// What would fit: fewer windows a step, shorter ones, a smaller model.
    fn remedy(&self, config: &RunConfig, available: u64) -> String {
        let fits = |config: &RunConfig| Plan::of(config, &self.text, &self.machine, 0).memory_bytes() <= available;
        let mut smaller = config.clone();
        while smaller.data.batch_size > 1 {
            smaller.data.batch_size /= 2;
            smaller.data.eval_batch_size = smaller.data.eval_batch_size.min(smaller.data.batch_size);
            if fits(&smaller) {
                return format!("--batch-size {} would fit", smaller.data.batch_size);
            }
        }
        while smaller.data.window > 64 {
            smaller.data.window /= 2;
            if fits(&smaller) {
                return format!("--batch-size 1 --window {} would fit", smaller.data.window);
            }
        }
        let presets = [Preset::Gpt2Large, Preset::Gpt2Medium, Preset::Book, Preset::Gpt2, Preset::Small, Preset::Tiny];
        let fitting = presets.into_iter().find(|preset| {
            let model = preset.config();
            model.n_parameters() < config.model.n_parameters() && fits(&RunConfig { model, ..smaller.clone() })
        });
        match fitting {
            Some(preset) => format!("a smaller model would fit: --preset {}", preset.name()),
            None => "free some memory: no smaller training of this kind would fit".to_owned(),
        }
    }

    /// The plan in a line, for the beginning of a training.
    pub fn line(&self, timed: &Timed) -> String {
        let free = self.available_bytes.map_or(String::new(), |free| format!(" of {} free", gigabytes(free)));
        format!(
            "plan   {} of memory{free}, {} on the disk, about {} ({:.2} of the peak)",
            gigabytes(self.plan.memory_bytes()),
            gigabytes(self.plan.disk.total()),
            duration(timed.seconds),
            timed.share_of_peak
        )
    }
}

/// How long a plan takes.
pub struct Timed {
    pub seconds: f64,
    /// Of the operations that the machine does in registers, those that a step reaches.
    pub share_of_peak: f64,
    pub rehearsal: Rehearsal,
}

/// A checkpoint's folder says after which step it was written.
fn n_steps_done(place: &Place) -> u64 {
    match place {
        Place::New(_) => 0,
        Place::Stopped(_, checkpoint) => {
            let name = checkpoint.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.rsplit('-').next().and_then(|step| step.parse().ok()).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calame::ops::{Isa, Precision};
    use calame::train::RunFolder;

    fn planned(config: &RunConfig, available_bytes: u64) -> Planned {
        let text =
            TextSize { n_train_tokens: 100_000, n_windows: 700, n_validation_windows: 70, ..TextSize::default() };
        let machine = Machine { isa: Isa::Portable, precision: Precision::F32, n_threads: 2, program_bytes: 0 };
        let plan = Plan::of(config, &text, &machine, 0);
        Planned { plan, text, machine, available_bytes: Some(available_bytes) }
    }

    fn refusal(preset: Preset, batch_size: usize, available_bytes: u64) -> String {
        let mut config = RunConfig::of_preset(preset);
        config.data.batch_size = batch_size;
        config.data = config.data.resolved();
        let planned = planned(&config, available_bytes);
        assert!(!planned.fits() && planned.check(&config).is_err());
        planned.remedy(&config, available_bytes)
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        assert_eq!(refusal(Preset::Book, 64, 4_000_000_000), "--batch-size 16 would fit");
        assert!(refusal(Preset::Book, 4, 1_500_000_000).contains("--preset small"));
        assert!(refusal(Preset::Gpt2Xl, 4, 8_000_000_000).contains("smaller model would fit: --preset gpt2-medium"));
        assert!(refusal(Preset::Tiny, 4, 1_000_000).starts_with("free some memory"));
        let config = RunConfig::of_preset(Preset::Book);
        assert!(planned(&config, 1 << 40).check(&config).is_ok());
    }

    #[test]
    fn a_checkpoints_name_tells_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let config = RunConfig::of_preset(Preset::Tiny);
        let run = RunFolder::create(&folder.path().join("run-7"), &config, "{}", false).unwrap();
        for (name, n_steps) in [("step-000000", 0), ("step-000123", 123), ("step-1000000", 1_000_000)] {
            let stopped = Place::Stopped(run.clone(), run.checkpoints().join(name));
            assert_eq!(n_steps_done(&stopped), n_steps, "{name}");
        }
        // A new run has none, whatever its folder is called.
        assert_eq!(n_steps_done(&Place::New(folder.path().join("step-000123"))), 0);
    }
}
