//! What is done to the text of a document before it is tokenized.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::super::documents::{Normalisation, ReadOptions, Stripper};

/// Strips and normalises a document, piece by piece.
pub(super) struct Filter {
    stripper: Option<Stripper>,
    normalise: Normalisation,
}

impl Filter {
    pub(super) fn new(options: &ReadOptions) -> Filter {
        Filter { stripper: options.strip_gutenberg.then(Stripper::default), normalise: options.normalise }
    }

    pub(super) fn apply(&mut self, piece: String) -> String {
        let piece = match &mut self.stripper {
            Some(stripper) => match stripper.strip(&piece) {
                whole if whole.len() == piece.len() => piece,
                rest => rest.to_owned(),
            },
            None => piece,
        };
        match self.normalise {
            Normalisation::None => piece,
            Normalisation::Nfc if piece.is_ascii() || is_nfc_quick(piece.chars()) == IsNormalized::Yes => piece,
            Normalisation::Nfc => piece.nfc().collect(),
        }
    }

    /// Whether marks of Project Gutenberg were searched for in vain.
    pub(super) fn lacks_mark(&self) -> bool {
        self.stripper.as_ref().is_some_and(|stripper| !stripper.has_found_mark())
    }
}
