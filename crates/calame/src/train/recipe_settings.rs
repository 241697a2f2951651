//! The settings of each recipe, by section.

use super::config::{Decayed, RunConfig};
use super::guard::Remedy;
use super::recipe::Recipe;
use super::schedule::Decay;

/// A model with more parameters is trained on a small text at [`LARGE_LR`]: at 4e-4, the learning rate of these presets,
/// the loss of some seeds jumps by several nats when the warm-up of ten steps is over (docs/recipes.md).
const LARGE_PARAMETERS: usize = 100_000_000;
const LARGE_LR: f64 = 1e-4;

impl Recipe {
    /// Applies the recipe's settings over a preset's defaults.
    pub fn apply(self, config: &mut RunConfig) {
        config.recipe = self.name().to_owned();
        match self {
            Recipe::Book => {}
            Recipe::SmallData => {
                if config.model.n_parameters() > LARGE_PARAMETERS {
                    config.train.lr = LARGE_LR;
                }
                config.train.epochs = 30;
                config.train.clip_norm = 1.0;
                config.train.decayed = Decayed::Matrices;
                config.schedule.warmup_steps = 10;
                config.early_stopping.patience = 5;
            }
            Recipe::Long => {
                config.train.epochs = 1;
                config.train.lr = 6e-4;
                config.train.beta2 = 0.95;
                config.train.clip_norm = 1.0;
                config.train.decayed = Decayed::Matrices;
                config.train.eval_every = 100;
                config.train.eval_batches = 20;
                config.schedule.decay = Decay::Cosine;
                config.schedule.warmup_fraction = 0.02;
                config.guard.remedy = Remedy::Skip;
                config.guard.z_score = 8.0;
                // Windows without overlap, so that one pass sees each token once.
                config.data.stride = config.data.window;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn large_models_learn_small_data_slowly() {
        let lr = |preset| {
            let mut config = RunConfig::of_preset(preset);
            Recipe::SmallData.apply(&mut config);
            config.train.lr
        };
        assert_eq!([Preset::Book, Preset::Gpt2, Preset::Gpt2Xl].map(lr), [1e-4; 3]);
        assert_eq!([Preset::Small, Preset::Tiny].map(lr), [1e-3, 3e-3], "those of the presets");
    }

    #[test]
    fn every_recipe_gives_valid_settings() {
        for preset in Preset::ALL {
            for recipe in Recipe::ALL {
                assert_eq!(recipe.name().parse(), Ok(recipe));
                let mut config = RunConfig::of_preset(preset);
                recipe.apply(&mut config);
                assert_eq!(config.validate_training(), Ok(()), "{preset:?} {recipe:?}");
                assert_eq!(config.recipe, recipe.name());
                assert_eq!(recipe == Recipe::Book, config == RunConfig::of_preset(preset), "{preset:?} {recipe:?}");
            }
        }
        assert_eq!("huge".parse::<Recipe>().unwrap_err().name, "huge");
    }
}
