//! Paths of inputs that hold in every working directory.

use std::path::Path;

use super::inputs::Input;

/// The input as a run's settings store it: a path or a pattern as an absolute one, so that the run resumes from any
/// working directory; the name of a text as it is. `folder` is the absolute path that relative ones start from.
pub fn absolute_input(input: &str, folder: &Path) -> String {
    let joined = match Input::of(input) {
        Ok(Input::File | Input::Folder) => folder.join(input),
        // Only what the user has typed is a pattern.
        Ok(Input::Glob) if Path::new(input).is_relative() => {
            let Some(folder) = folder.to_str() else { return input.to_owned() };
            Path::new(&glob::Pattern::escape(folder)).join(input)
        }
        _ => return input.to_owned(),
    };
    joined.into_os_string().into_string().unwrap_or_else(|_| input.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Corpus;

    #[test]
    fn paths_and_patterns_become_absolute_and_names_stay() {
        let folder = tempfile::tempdir().unwrap();
        // A folder whose name looks like a pattern.
        let folder = folder.path().join("notes [2026]");
        std::fs::create_dir(&folder).unwrap();
        for name in ["a.txt", "b.txt"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let file = folder.join("a.txt").display().to_string();
        assert_eq!(absolute_input(&file, Path::new("/elsewhere")), file);
        for name in ["builtin", "the-verdict", "missing.txt"] {
            assert_eq!(absolute_input(name, &folder), name);
        }
        // No file of this crate's folder has this ending, so it is a pattern here too.
        let pattern = absolute_input("?.txt", &folder);
        let corpus = Corpus::load(&[pattern], Path::new("")).unwrap();
        assert_eq!(corpus.sources().len(), 2);
        let here = absolute_input("Cargo.toml", &std::env::current_dir().unwrap());
        assert!(Path::new(&here).is_absolute() && here.ends_with("Cargo.toml"));
    }
}
