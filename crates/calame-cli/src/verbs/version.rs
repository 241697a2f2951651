//! `calame --version`: what a bug report needs to say about a build.

use calame::ops::Isa;

/// The version, the commit and the target of this build, and the instruction sets that this machine can use of those
/// that it has kernels for.
pub fn long() -> String {
    let names = |sets: Vec<Isa>| sets.into_iter().map(Isa::name).collect::<Vec<_>>().join(", ");
    let available = Isa::available();
    let missing: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| !available.contains(isa)).collect();
    let missing =
        if missing.is_empty() { String::new() } else { format!(" (not on this machine: {})", names(missing)) };
    format!(
        "{}\ncommit        {}\ntarget        {}\ninstructions  {}{missing}",
        env!("CARGO_PKG_VERSION"),
        env!("CALAME_COMMIT"),
        env!("CALAME_TARGET"),
        names(available)
    )
}
