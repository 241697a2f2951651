//! What a verb writes, where something exists already: what calame has not written is never replaced.

use std::path::Path;

use anyhow::{Result, bail};
use calame::files::is_folder_locked;
use calame::run::plot::is_figure;

use crate::ui::output::WithHint;

/// Checks that a result can be written to `path`, which is locked: nothing exists there, or something that `force`
/// permits to replace, that calame has written, and that no program uses.
///
/// `force` is None for a verb that replaces its own earlier result without being told to, and otherwise the flag's name
/// and whether it was given. `foreign` says why an existing file or folder is not calame's.
///
/// # Errors
/// If something else exists there.
pub fn check(path: &Path, force: Option<(&str, bool)>, foreign: impl Fn(&Path) -> Option<String>) -> Result<()> {
    // A dangling link counts as something that exists.
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let shown = path.display();
    if let Some((flag, false)) = force {
        bail!(WithHint::new(
            format!("{shown} exists already"),
            format!("choose another --out, or replace it with {flag}")
        ));
    }
    if let Some(reason) = foreign(path) {
        let message = format!("{shown} exists already, and is not replaced: {reason}");
        bail!(WithHint::new(message, "choose another --out, or remove it yourself"));
    }
    // A training locks the folder of its run, in which the path may be.
    let is_in_use = |folder: &&Path| folder.join("config.toml").is_file() && is_folder_locked(folder);
    if let Some(folder) = path.ancestors().find(is_in_use) {
        let message = format!("{shown} is not replaced: another program is using {}", folder.display());
        bail!(WithHint::new(message, "wait until it has ended, or choose another --out"));
    }
    Ok(())
}

/// As [`check`], for a figure: only an earlier figure of calame is replaced.
///
/// # Errors
/// As [`check`].
pub fn check_figure(path: &Path) -> Result<()> {
    check(path, None, |path| (!is_figure(path)).then(|| "it is not a figure of calame".to_owned()))
}
