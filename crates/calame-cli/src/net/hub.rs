//! Finds models by their name on the Hugging Face Hub, such as `openai-community/gpt2`.
//!
//! Models are stored in the hub's standard cache folder, which is shared with other programs. Missing files are
//! downloaded; a broken transfer is resumed. Nothing that the hub sends is trusted: names are checked before they become
//! paths, sizes and SHA-256 before a file gets its name.

mod cache;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use calame::files::{PathLock, read_text_at_most};
use serde_json::Value;

use self::cache::{ModelCache, Partial};
use super::client::{Client, Limits, RequestError, content_length, header};
use crate::training::runs;
use crate::ui::output::{WithHint, note};
use crate::ui::progress;

/// OpenAI's models, which the hub also accepts without an owner.
const KNOWN: [&str; 4] = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"];
/// A name with one of these extensions is a file, not a model on the hub.
const FILE_EXTENSIONS: [&str; 7] = ["bin", "gguf", "json", "onnx", "pt", "pth", "safetensors"];

/// Names of folders that models of this machine are commonly kept in, and that are no owners on the hub.
const LOCAL_FOLDERS: [&str; 6] = [runs::RUNS, "checkpoints", "models", "model", "out", "output"];
/// Maximum length of a name on the hub: 96 for owner and model together.
const MAX_NAME: usize = 96;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// The files that texts need: the tokenizer in either form, the ids that begin and end texts.
const TEXT_FILES: [&str; 7] = [
    TOKENIZER,
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "generation_config.json",
];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TORCH_WEIGHTS: &str = "pytorch_model.bin";

/// The address of the hub, unless `HF_ENDPOINT` names a mirror.
const ENDPOINT: &str = "https://huggingface.co";
/// Headers of the hub: the revision of a file, and name and size of the one in a store that it redirects to.
const COMMIT: &str = "x-repo-commit";
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";
/// Maximum sizes in bytes of the stored token and of an index.
const MAX_TOKEN_BYTES: u64 = 4096;
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Number of attempts to download a file before the last error is reported. Each attempt resumes the previous one.
const ATTEMPTS: usize = 3;

/// Resolves a path, the name of a run or a name on the hub to a path. A `path` that does not exist resolves to the run of
/// that name under `runs/`, or, if it looks like a name on the hub, to that model's folder in the hub's cache, after
/// downloading it if necessary. Any other `path` is returned unchanged.
///
/// # Errors
/// If the model is not in the cache and cannot be downloaded.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let path = runs::find(path);
    match name_on_hub(&path) {
        Some(name) => Hub::from_env()?.model(name),
        None => Ok(path),
    }
}

/// Returns `path` as a name on the hub: OWNER/NAME or one of the known names. Returns `None` if it is a path; a missing
/// file in an existing folder is a mistyped path.
fn name_on_hub(path: &Path) -> Option<&str> {
    let name = path.to_str().filter(|_| path.symlink_metadata().is_err())?;
    if KNOWN.contains(&name) {
        return Some(name);
    }
    let (owner, model) = name.split_once('/')?;
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !word.contains("--")
            && !word.contains("..")
    };
    let is_file = path.extension().is_some_and(|found| FILE_EXTENSIONS.iter().any(|known| found == *known));
    let is_local = LOCAL_FOLDERS.contains(&owner) || Path::new(owner).exists();
    (is_word(owner) && is_word(model) && name.len() <= MAX_NAME && !is_file && !is_local).then_some(name)
}

/// The hub's cache folder, and how the hub is accessed.
#[derive(Debug)]
struct Hub {
    /// The folder with all models.
    models: PathBuf,
    /// The address of the hub or a mirror.
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    fn from_env() -> Result<Hub> {
        let variable = |name: &str| std::env::var(name).ok();
        Hub::from(variable, std::env::home_dir()).ok_or_else(|| {
            WithHint::new(
                "there is no home folder for the cache of the hub's models",
                "set HF_HOME to a folder, or give a model's folder",
            )
            .into()
        })
    }

    /// Like [`from_env`](Self::from_env), but with explicit variables and home folder. Returns `None` if the cache
    /// folder cannot be determined. The variables are those of the `huggingface_hub` Python library.
    fn from(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Option<Hub> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
        let hub_home = folder("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
        let models = folder("HF_HUB_CACHE").or_else(|| Some(hub_home.as_ref()?.join("hub")))?;
        let saved_token = || {
            let path = folder("HF_TOKEN_PATH").or_else(|| Some(hub_home.as_ref()?.join("token")))?;
            read_text_at_most(&path, MAX_TOKEN_BYTES).ok()
        };
        let token = set("HF_TOKEN").or_else(saved_token).map(|token| token.trim().to_owned());
        let offline = set("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned();
        Some(Hub { models, endpoint, token: token.filter(|token| !token.is_empty()), offline })
    }

    /// Downloads the missing files of a model and returns its folder in the cache.
    fn model(&self, name: &str) -> Result<PathBuf> {
        let cache = ModelCache::new(&self.models, name);
        let cached = find_cached(&cache);
        if let Some(Cached { folder, has_tokenizer: true }) = cached {
            return Ok(folder);
        }
        let fetched = if self.offline { Err(anyhow!("HF_HUB_OFFLINE is set")) } else { self.fetch(name, &cache) };
        match (fetched, cached) {
            (Ok(folder), _) => Ok(folder),
            (Err(error), Some(cached)) => {
                note(&format!("note: the cache has no {TOKENIZER} for {name}, and it cannot be downloaded: {error:#}"));
                Ok(cached.folder)
            }
            (Err(error), None) => {
                let message = format!(
                    "{name}: no such file or folder, and it cannot be downloaded as a model of the hub: {error:#}"
                );
                let hint = format!(
                    "put the model's {CONFIG}, {WEIGHTS} and {TOKENIZER} into a folder and give that folder, or copy {} from a machine that has it",
                    cache.folder().display()
                );
                Err(WithHint::new(message, hint).into())
            }
        }
    }

    /// Downloads the files of a model that calame reads, all from one revision.
    fn fetch(&self, name: &str, cache: &ModelCache) -> Result<PathBuf> {
        let client = Client::new(&self.endpoint, self.token.as_deref(), Limits::default())?;
        let Listing { sha, files: available } = Listing::request(&client, &self.endpoint, name)?;
        let base = format!("{}/{name}/resolve/{sha}", self.endpoint);
        let transfer = Transfer { client: &client, base, cache, sha: &sha };
        let weights = [WEIGHTS, INDEX, TORCH_WEIGHTS].into_iter().find(|file| available.contains(*file));
        let Some(weights) = weights else {
            bail!("it has none of {WEIGHTS}, {INDEX} and {TORCH_WEIGHTS}");
        };
        transfer.file(CONFIG)?;
        for file in TEXT_FILES.into_iter().filter(|file| available.contains(*file)) {
            transfer.file(file)?;
        }
        let path = transfer.file(weights)?;
        if weights == INDEX {
            for shard in shards(&path)? {
                if !available.contains(&shard) {
                    bail!("{INDEX} lists {shard:?}, which the model lacks");
                }
                transfer.file(&shard)?;
            }
        }
        // Writing the reference last makes only complete revisions visible to other programs.
        cache.write_reference(&sha)?;
        Ok(cache.snapshot(&sha))
    }
}

/// A revision of a model: its hash and the names of its files.
struct Listing {
    sha: String,
    files: BTreeSet<String>,
}

impl Listing {
    fn request(client: &Client, endpoint: &str, name: &str) -> Result<Listing> {
        let text = client.text(&format!("{endpoint}/api/models/{name}/revision/main")).map_err(explain)?;
        let json: Value = serde_json::from_str(&text).context("the hub's answer is not JSON")?;
        let sha = json["sha"].as_str().unwrap_or_default().to_owned();
        if !is_safe_file_name(&sha) {
            bail!("the hub gives the revision {sha:?}, which is not a valid name");
        }
        let siblings = json["siblings"].as_array().into_iter().flatten();
        let files = siblings.filter_map(|file| file["rfilename"].as_str().map(str::to_owned)).collect();
        Ok(Listing { sha, files })
    }
}

/// Downloads files of one revision into the cache.
struct Transfer<'a> {
    client: &'a Client,
    /// The address of the revision's files.
    base: String,
    cache: &'a ModelCache,
    sha: &'a str,
}

/// What the hub says about a file before it is transferred.
struct FileInfo {
    /// Its name among the cache's blobs; the SHA-256 of a large file.
    etag: String,
    n_bytes: u64,
}

impl Transfer<'_> {
    /// Downloads a file if the cache lacks it, and returns its path.
    fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.cache.snapshot(self.sha).join(name);
        if path.is_file() {
            return Ok(path);
        }
        let mut outcome = self.attempt(name, &path);
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            outcome = self.attempt(name, &path);
        }
        outcome.with_context(|| name.to_owned())?;
        Ok(path)
    }

    fn attempt(&self, name: &str, path: &Path) -> Result<()> {
        let FileInfo { etag, n_bytes } = self.info(name)?;
        let blob = self.cache.blob(&etag);
        // Another program may be downloading the same file.
        let _lock = PathLock::acquire(&blob)?;
        if !blob.metadata().is_ok_and(|blob| blob.is_file() && blob.len() == n_bytes) {
            let mut partial = Partial::open(&blob, n_bytes)?;
            let bar = progress::bar(Some(n_bytes), "{bar:32} {bytes} of {total_bytes} · {eta} left", false)?;
            let url = format!("{}/{name}", self.base);
            let transferred = self.client.transfer(&url, partial.n_bytes(), n_bytes, &mut |at, piece| {
                partial.write(at, piece)?;
                bar.set_position(at + piece.len() as u64);
                Ok(())
            });
            match transferred {
                Ok(()) => {}
                // What has arrived is kept, and resumed by the next attempt or the next start.
                Err(error @ (RequestError::CutOff { .. } | RequestError::Network(_))) => {
                    partial.sync()?;
                    return Err(explain(error));
                }
                Err(error) => {
                    partial.discard()?;
                    return Err(explain(error));
                }
            }
            partial.finish(n_bytes, &etag)?;
        }
        self.cache.link(&etag, path)
    }

    fn info(&self, name: &str) -> Result<FileInfo> {
        let headers = self.client.headers(&format!("{}/{name}", self.base), COMMIT).map_err(explain)?;
        let etag = header(&headers, LINKED_ETAG).or_else(|| header(&headers, "etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").replace('"', "");
        let commit = header(&headers, COMMIT).unwrap_or_default();
        // Both are used as file names.
        if !is_safe_file_name(&etag) || commit != self.sha {
            bail!("the hub gives the file the name {etag:?} and the revision {commit:?}, which are not those expected");
        }
        let linked = header(&headers, LINKED_SIZE).and_then(|size| size.trim().parse().ok());
        let n_bytes = linked.or_else(|| content_length(&headers));
        let n_bytes = n_bytes.ok_or_else(|| anyhow!("the hub does not say how long the file is"))?;
        Ok(FileInfo { etag, n_bytes })
    }
}

/// A model in the cache whose configuration and weights are complete.
struct Cached {
    /// The folder with the configuration and all weights.
    folder: PathBuf,
    has_tokenizer: bool,
}

fn find_cached(cache: &ModelCache) -> Option<Cached> {
    let folder = cache.snapshot(&cache.reference().filter(|sha| is_safe_file_name(sha))?);
    let exists = |file: &str| folder.join(file).is_file();
    let is_complete = exists(WEIGHTS)
        || exists(TORCH_WEIGHTS)
        || shards(&folder.join(INDEX)).is_ok_and(|shards| shards.iter().all(|shard| exists(shard)));
    let has_tokenizer = exists(TOKENIZER) || (exists("vocab.json") && exists("merges.txt"));
    (exists(CONFIG) && is_complete).then_some(Cached { folder, has_tokenizer })
}

/// Reads the file names that an index lists. The files must be in the folder of the index.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let text = read_text_at_most(index, MAX_INDEX_BYTES)?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("{INDEX} is not JSON"))?;
    let map = json["weight_map"].as_object().ok_or_else(|| anyhow!("{INDEX} has no weight_map"))?;
    let names: Option<BTreeSet<String>> = map.values().map(|name| name.as_str().map(str::to_owned)).collect();
    let names = names.filter(|names| names.iter().all(|name| is_safe_file_name(name)));
    names.ok_or_else(|| anyhow!("{INDEX} lists a name that is not a file in its folder"))
}

/// Whether a string from the hub is safe as a file name in the cache.
fn is_safe_file_name(word: &str) -> bool {
    word.len() <= 200
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A clearer message for an error whose cause is known.
fn explain(error: RequestError) -> anyhow::Error {
    match error {
        RequestError::Status(401 | 403) => {
            anyhow!("the hub has no such model, or restricts access to it (set HF_TOKEN to authenticate)")
        }
        RequestError::Status(404) => anyhow!("the hub has no such model or file"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_hub_are_distinguished_from_paths() {
        for name in ["gpt2", "gpt2-xl", "openai-community/gpt2", "distilbert/distilgpt2", "a/B_c.1"] {
            assert_eq!(name_on_hub(Path::new(name)), Some(name));
        }
        // `src` exists, so src/gpt2 is a path.
        let paths = [
            "gpt3",
            "run",
            "",
            "a/b/c",
            "/a/b",
            "./a/b",
            "../a",
            "a/..",
            "a/.b",
            "a/",
            "a--b/c",
            "a b/c",
            "src/gpt2",
            "src",
            "models/gpt2.gguf",
            "out/model.pt",
            "~/gpt2",
            "é/gpt2",
            "a:b/c",
            "runs/2026-11-23-book",
            "checkpoints/step-100",
            "models/gpt2-124m",
            "out/ckpt",
        ];
        for path in paths {
            assert_eq!(name_on_hub(Path::new(path)), None, "{path}");
        }
        assert_eq!(name_on_hub(Path::new(&format!("a/{}", "b".repeat(95)))), None, "longer than a name can be");
    }

    #[test]
    fn the_hubs_variables_are_followed() {
        let hub = |variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Hub::from(variable, Some(PathBuf::from("/home/ada"))).unwrap()
        };
        let folder = |variables: &[(&str, &str)]| hub(variables).models;
        assert_eq!(folder(&[]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/xdg")]), Path::new("/xdg/huggingface/hub"));
        assert_eq!(folder(&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")]), Path::new("/hf/hub"));
        assert_eq!(folder(&[("HF_HUB_CACHE", "/models"), ("HF_HOME", "/hf")]), Path::new("/models"));
        assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        assert_eq!(hub(&[("HF_TOKEN", " secret\n")]).token.unwrap(), "secret");
        assert!(hub(&[("HF_TOKEN", " "), ("HF_ENDPOINT", "")]).token.is_none());
        assert!(hub(&[("HF_HUB_OFFLINE", "TRUE")]).offline && !hub(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(Hub::from(|_| None, None).is_none());
    }
}
