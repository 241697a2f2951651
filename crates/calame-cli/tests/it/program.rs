//! Runs the program in a folder of its own, and checks what every failure must print.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
#[cfg(unix)]
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A text of about 1,200 characters: an epoch has a few steps.
const STORY: &str = include_str!("story.txt");

/// The settings of the tests' trainings, which take 100 ms: one block of 16 channels over words.
const SETTINGS: &str = r#"
preset = "tiny"
[model]
n_layer = 1
n_embd = 16
n_head = 2
n_positions = 16
dropout = 0.1
[data]
inputs = ["story.txt"]
window = 8
stride = 8
[tokenizer]
kind = "simple-v2"
[train]
epochs = 2
eval_batches = 2
eval_every = 5
lr = 0.01
[sample]
prompt = "The lamp"
max_tokens = 6
[device]
threads = 1
"#;

/// The longest that any test waits for a program, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder to work in, with a text and settings.
pub struct Place {
    folder: TempDir,
}

/// The result of a program: its exit code and output.
#[derive(Debug)]
pub struct Outcome {
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// A folder with `story.txt` and `tiny.toml`.
    pub fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a temporary folder") };
        place.write("story.txt", STORY);
        place.write("tiny.toml", SETTINGS);
        place
    }

    /// Like [`new`](Self::new), with a finished run in `run`.
    pub fn with_run() -> Place {
        static TRAINED: OnceLock<Place> = OnceLock::new();
        let trained = TRAINED.get_or_init(|| {
            let place = Place::new();
            place.succeeds(&train(&[]));
            place
        });
        let place = Place::new();
        place.copy(&trained.path("run"), "run");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Copies a folder with all its contents to `name`.
    pub fn copy(&self, from: &Path, name: &str) {
        for (path, content) in files_below(from) {
            self.write(&format!("{name}/{}", path.display()), content);
        }
    }

    /// Every file in the folder, by its path.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = files_below(self.folder.path());
        // A program that was killed leaves its lock file, and the next one removes it.
        files.retain(|path, _| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !(name.starts_with('.') && name.ends_with(".lock"))
        });
        files
    }

    /// The program in this folder, independent of the settings of machine and user.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_calame"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        // As an installed program is started: what it suggests depends on that.
        #[cfg(unix)]
        command.arg0("calame");
        for name in ["CARGO", "CARGO_PKG_NAME", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        for name in ["COLUMNS", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(name);
        }
        // The same instructions on every processor give the same figures. A backtrace would show in the output.
        command.env("CALAME_INSTRUCTION_SET", "portable").env("RUST_BACKTRACE", "1");
        command.env("CALAME_CACHE", self.path("cache"));
        for name in ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.path("hf"));
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        Outcome::of(self.command(args).output().expect("the program starts"))
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn succeeds<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        outcome
    }

    /// Runs a command that must fail as described at [`Outcome::is_error`] and leave every file as it was.
    #[track_caller]
    pub fn fails<A: AsRef<OsStr>>(&self, args: &[A], code: i32, parts: &[&str]) -> Outcome {
        let before = self.files();
        let outcome = self.run(args);
        outcome.is_error(code, parts);
        assert!(before == self.files(), "files have changed: {:?}", self.files().keys());
        outcome
    }
}

impl Outcome {
    pub fn of(output: Output) -> Outcome {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Checks that the program failed with `code`, one line `error: …`, at most one `hint: …`, each of `parts` in these
    /// lines, and no panic.
    #[track_caller]
    pub fn is_error(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let beginning = |with: &str| self.stderr.lines().filter(|line| line.starts_with(with)).count();
        assert_eq!(beginning("error: "), 1, "{self:#?}");
        assert!(beginning("hint: ") <= 1, "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "expected {part:?} in {self:#?}");
        }
        for trace in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(trace), "{self:#?}");
        }
    }
}

/// `calame train` with the tests' settings into `run`, and `more`.
pub fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--config", "tiny.toml", "--run", "run"], more].concat()
}

fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).expect("below").to_owned();
                files.insert(name, fs::read(&path).expect("readable"));
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(folder, folder, &mut files);
    files
}

/// Waits until `holds` returns true, at most [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a run's metrics as JSON, without the figures that depend on the clock.
pub fn metrics_without_times(text: &str) -> Vec<serde_json::Value> {
    let line = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        for time in ["step_seconds", "tokens_per_second", "seconds", "total_seconds"] {
            fields.remove(time);
        }
        value
    };
    text.lines().map(line).collect()
}
