//! The names of recipes: sets of settings that belong together.

use std::str::FromStr;

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
