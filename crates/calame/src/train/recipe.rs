//! Names of recipes: predefined sets of settings.

use std::str::FromStr;

/// A set of settings, each of which flags and files can override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The report's settings, which are also the defaults: ten epochs at a constant learning rate.
    Book,
    /// For texts below 1 MB: ends when validation no longer improves and keeps the best model.
    SmallData,
    /// For texts that are read once or a few times: GPT-2's warm-up, cosine decay, clipping and weight decay; failed
    /// steps are skipped.
    Long,
}

impl Recipe {
    /// All recipes, in the order of the documentation.
    pub const ALL: [Recipe; 3] = [Recipe::Book, Recipe::SmallData, Recipe::Long];

    /// The name on the command line and in a run's `config.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Book => "book",
            Recipe::SmallData => "small-data",
            Recipe::Long => "long",
        }
    }
}

/// A name that is not a recipe.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no recipe {name}: expected book, small-data or long")]
pub struct UnknownRecipe {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(name: &str) -> Result<Recipe, UnknownRecipe> {
        let found = Recipe::ALL.into_iter().find(|recipe| recipe.name() == name);
        found.ok_or_else(|| UnknownRecipe { name: name.to_owned() })
    }
}
