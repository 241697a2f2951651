//! Running a training, and the parts of it that other verbs use too: settings, text, device, folders of runs,
//! measurements.

pub mod advice;
pub mod args;
pub mod device;
pub mod ending;
pub mod interruption;
pub mod launch;
pub mod memory;
pub mod model;

pub mod observer;
pub mod peaks;
pub mod planned;
pub mod reading;
pub mod ready;
pub mod rehearsal;
pub mod resume;
pub mod runs;
pub mod settings;
pub mod signals;
pub mod space;
pub mod summary;
pub mod text;
