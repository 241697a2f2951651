//! The plan of a run, compared with this machine's memory and speed.

use anyhow::Result;
use calame::model::Preset;
use calame::ops::Device;
use calame::plan::{Machine, Plan, TextSize};
use calame::train::RunConfig;
use serde_json::json;

use super::memory;
use super::ready::{Ready, RunTarget};
use super::rehearsal::{Rehearsal, estimate, rehearse};
use crate::ui::output::{WithHint, duration, note, size};
use crate::ui::verbosity;

/// A plan and the machine that it is made for.
pub struct Planned {
    pub plan: Plan,
    text: TextSize,
    machine: Machine,
    pub available_bytes: Option<u64>,
}

impl Planned {
    /// The plan of a run that is ready. None of its memory is allocated yet, except for a model that was loaded.
    pub fn of(dev: &Device, ready: &Ready) -> Planned {
        let mut held = memory::held_bytes().unwrap_or(0);
        if ready.gpt.is_some() && matches!(ready.target, RunTarget::New(_)) {
            held = held.saturating_sub(4 * ready.config.model.n_parameters() as u64);
        }
        let text = ready.prepared.size.clone();
        let machine = Machine {
            isa: dev.isa(),
            precision: dev.precision(),
            n_threads: dev.n_threads(),
            program_bytes: held.saturating_sub(4 * text.n_in_memory()),
        };
        let plan = Plan::of(&ready.config, &text, &machine, n_steps_done(&ready.target));
        // The plan includes what the program holds already.
        let available_bytes = memory::available_bytes().map(|free| free.saturating_add(held));
        Planned { plan, text, machine, available_bytes }
    }

    /// Estimates the time by a rehearsal, which takes a second or two.
    ///
    /// # Errors
    /// If the rehearsal's tokens cannot be read back.
    pub fn rehearse(&self, config: &RunConfig) -> Result<Timed> {
        let _phase = verbosity::phase("rehearsing the training");
        Ok(self.timed(rehearse(config, &self.text, &self.machine)?))
    }

    /// Estimates the time without delaying the first step of a long training: see [`estimate`].
    pub fn estimate(&self, config: &RunConfig) -> Result<Timed> {
        let _phase = verbosity::phase("estimating the time");
        Ok(self.timed(estimate(config, &self.text, &self.machine, &self.plan)?))
    }

    fn timed(&self, rehearsal: Rehearsal) -> Timed {
        let share_of_peak = self.plan.step_operations / rehearsal.pace.step_seconds / rehearsal.peak;
        Timed { seconds: self.plan.seconds(&rehearsal.pace), share_of_peak, rehearsal }
    }

    /// Whether the machine's memory suffices. Where the free memory is unknown, it is assumed to.
    pub fn fits(&self) -> bool {
        self.available_bytes.is_none_or(|available| self.plan.memory_bytes() <= available)
    }

    /// Warns if the training would take more than nine tenths of the free memory.
    ///
    /// # Errors
    /// If it would take more than all of it; the hint says what to change.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        let (Some(available), needed) = (self.available_bytes, self.plan.memory_bytes()) else { return Ok(()) };
        let message = format!("the training needs {} of memory, {} is free", size(needed), size(available));
        if needed > available {
            return Err(WithHint::new(message, self.remedy(config, available)).into());
        }
        if needed > available / 10 * 9 {
            note(&format!(
                "warning: {message}: if another program takes more memory, the system may kill the training"
            ));
        }
        Ok(())
    }

    /// A change that would make the training fit: a smaller batch, shorter windows, or a smaller model.
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
        if !config.init_from.is_empty() {
            // The shape is that of the given model.
            return "start from a smaller model: no smaller batch or window would fit".to_owned();
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

    /// The plan as a JSON object; without times if they are not estimated.
    pub fn as_json(&self, timed: Option<&Timed>) -> serde_json::Value {
        let plan = &self.plan;
        let memory: serde_json::Map<String, serde_json::Value> =
            plan.memory.iter().map(|(kind, bytes)| (kind.name().replace(' ', "_"), (*bytes).into())).collect();
        json!({
            "n_parameters": plan.n_parameters,
            "memory": memory, "memory_bytes": plan.memory_bytes(), "available_bytes": self.available_bytes,
            "fits": self.fits(),
            "steps_per_epoch": plan.steps_per_epoch, "n_steps": plan.n_steps, "n_steps_done": plan.n_steps_done,
            "tokens_per_step": plan.tokens_per_step, "tokens_per_epoch": plan.tokens_per_epoch,
            "n_evaluations": plan.n_evaluations, "n_samples": plan.n_samples, "step_operations": plan.step_operations,
            "disk": { "model": plan.disk.model, "checkpoints": plan.disk.checkpoints, "records": plan.disk.records,
                "plot": plan.disk.plot },
            "seconds": timed.map(|t| t.seconds), "share_of_peak": timed.map(|t| t.share_of_peak),
            "peak_operations_per_second": timed.map(|t| t.rehearsal.peak),
            "step_seconds": timed.map(|t| t.rehearsal.pace.step_seconds),
            "evaluation_seconds": timed.map(|t| t.rehearsal.pace.evaluation_seconds),
            "sample_seconds": timed.map(|t| t.rehearsal.pace.sample_seconds),
        })
    }

    /// The plan in one line, which `calame train` prints before it starts.
    pub fn line(&self, timed: &Timed) -> String {
        let free = self.available_bytes.map_or(String::new(), |free| format!(" of {} free", size(free)));
        format!(
            "plan   {} of memory{free}, {} on disk, about {} ({:.2} of the peak)",
            size(self.plan.memory_bytes()),
            size(self.plan.disk.total()),
            duration(timed.seconds),
            timed.share_of_peak
        )
    }
}

/// The estimated time of a plan.
pub struct Timed {
    pub seconds: f64,
    /// The operations per second of a step, as a share of the machine's peak in registers.
    pub share_of_peak: f64,
    pub rehearsal: Rehearsal,
}

/// The number of steps after which a stopped run's checkpoint was written, from the name of its folder; 0 for a new
/// run.
fn n_steps_done(target: &RunTarget) -> u64 {
    match target {
        RunTarget::New(_) => 0,
        RunTarget::Stopped(_, checkpoint) => {
            let name = checkpoint.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.rsplit('-').next().and_then(|step| step.parse().ok()).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calame::ops::{Isa, Precision};
    use calame::run::RunFolder;

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
    fn a_training_that_does_not_fit_is_refused_with_one_that_would() {
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
            let stopped = RunTarget::Stopped(run.clone(), run.checkpoints().join(name));
            assert_eq!(n_steps_done(&stopped), n_steps, "{name}");
        }
        // A new run has none, whatever its folder is called.
        assert_eq!(n_steps_done(&RunTarget::New(folder.path().join("step-000123"))), 0);
    }
}
