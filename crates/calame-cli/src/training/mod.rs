//! What verbs share about runs: settings, text and device, the training itself, and what the system reports while it runs.

pub mod args;
pub mod device;
pub mod ending;
pub mod launch;
pub mod memory;
pub mod observer;
pub mod peaks;
pub mod planned;
pub mod rehearsal;
pub mod runs;
pub mod settings;
pub mod signals;
pub mod space;
pub mod summary;
pub mod text;
