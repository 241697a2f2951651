//! Settings that belong together: section by section what a kind of training needs.

use std::str::FromStr;

use super::config::{Decayed, RunConfig};
use super::guard::Remedy;
use super::schedule::Decay;

/// A set of settings, which any flag or file may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The report's, and the defaults: ten epochs at a constant rate.
    Book,
    /// A text of less than a megabyte: ends when validation has stopped getting better, and gives the model that it was best
    /// with.
    SmallData,
    /// A text that is gone through once or a few times: GPT-2's warm-up, cosine, clipping and decay; steps that go bad are
    /// passed over.
    Long,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Recipe; 3] = [Recipe::Book, Recipe::SmallData, Recipe::Long];

    /// Its name on the command line and in a run's file.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Book => "book",
            Recipe::SmallData => "small-data",
            Recipe::Long => "long",
        }
    }

    /// Sets what the recipe sets, over a preset's defaults.
    pub fn apply(self, config: &mut RunConfig) {
        config.recipe = self.name().to_owned();
        match self {
            Recipe::Book => {}
            Recipe::SmallData => {
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
                // Windows that share no token: one pass sees each once.
                config.data.stride = config.data.window;
            }
        }
    }
}

/// A name that no recipe has.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no recipe {name}: expected book, small-data or long")]
pub struct UnknownRecipe {
    /// The name.
    pub name: String,
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(name: &str) -> Result<Recipe, UnknownRecipe> {
        let found = Recipe::ALL.into_iter().find(|recipe| recipe.name() == name);
        found.ok_or_else(|| UnknownRecipe { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn every_recipe_gives_settings_that_can_be() {
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
