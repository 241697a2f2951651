//! Models by their name on the model hub, tested with a server on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::program::{Outcome, Place};

const NAME: &str = "tests/tiny";
const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";

/// How the server answers requests for the weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Correct,
    /// The first transfer ends in the middle.
    CutOffOnce,
    /// Every byte is wrong.
    Corrupts,
    /// The file's name is a path that leads out of the cache.
    EscapesCache,
    /// The weights are at another server, to which it redirects.
    Redirects(u16),
    /// The weights redirect to themselves.
    RedirectsToItself,
    /// The weights have no name.
    Nameless,
    /// The weights have no length.
    Endless,
    /// The listing is no listing.
    Lists(&'static str),
}

/// A hub with one model.
struct Hub {
    address: String,
    /// Every request's first line and headers, in lower case.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn serve(files: BTreeMap<String, Vec<u8>>, behaviour: Behaviour) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // The thread ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = read_request(&stream);
                seen.lock().unwrap().push(request.to_lowercase());
                let n_before = seen.lock().unwrap().iter().filter(|r| is_transfer(r)).count();
                answer(stream, &request, &files, behaviour, n_before == 1);
            }
        });
        Hub { address, requests }
    }

    /// The requests that contain all of `parts`.
    fn requests(&self, parts: &[&str]) -> Vec<String> {
        let all = self.requests.lock().unwrap().clone();
        all.into_iter().filter(|request| parts.iter().all(|part| request.contains(part))).collect()
    }
}

/// Whether a request is for the weights, and not only for their headers.
fn is_transfer(request: &str) -> bool {
    request.starts_with("get ") && request.contains(&format!("/{WEIGHTS} "))
}

fn read_request(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    lines.map(|line| line + "\n").collect()
}

fn answer(mut stream: TcpStream, request: &str, files: &BTreeMap<String, Vec<u8>>, behaviour: Behaviour, first: bool) {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let not_found = || "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into();
    let listing = format!("/api/models/{NAME}/revision/main");
    let file = path.strip_prefix(&format!("/{NAME}/resolve/{SHA}/"));
    let response: Vec<u8> = if path == listing {
        let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
        let body = match behaviour {
            Behaviour::Lists(text) => text.to_owned(),
            _ => json!({ "sha": SHA, "siblings": siblings }).to_string(),
        };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into()
    } else if let Some((name, content)) = file.and_then(|file| files.get_key_value(file)) {
        let range = request.to_lowercase();
        let range = range.split("\nrange: bytes=").nth(1).and_then(|range| range.lines().next());
        let from: usize = range.map_or(0, |range| range.split_once('-').unwrap().0.parse().unwrap());
        let is_weights = name == WEIGHTS;
        let etag = match behaviour {
            Behaviour::EscapesCache if is_weights => "../../../escaped".to_owned(),
            _ => Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let mut body = content[from..].to_vec();
        if is_weights && behaviour == Behaviour::Corrupts {
            body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
        let (status, range) = if from > 0 { ("206 Partial Content", range) } else { ("200 OK", String::new()) };
        let mut head = format!("HTTP/1.1 {status}\r\n{range}X-Repo-Commit: {SHA}\r\nConnection: close\r\n");
        match behaviour {
            Behaviour::Nameless if is_weights => {}
            _ => head += &format!("ETag: \"{etag}\"\r\n"),
        }
        match behaviour {
            Behaviour::Redirects(port) if is_weights => {
                let location = format!("http://127.0.0.1:{port}/{name}");
                let head = head.replace("200 OK", "302 Found").replace("ETag", "X-Linked-ETag");
                let (size, end) = (content.len(), "Content-Length: 0\r\n\r\n");
                let _ = stream
                    .write_all(format!("{head}Location: {location}\r\nX-Linked-Size: {size}\r\n{end}").as_bytes());
                return;
            }
            Behaviour::RedirectsToItself if is_weights => {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\n");
                let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
                return;
            }
            Behaviour::Endless if is_weights => head += "Transfer-Encoding: chunked\r\n\r\n",
            _ => head += &format!("Content-Length: {}\r\n\r\n", body.len()),
        }
        if request.starts_with("HEAD") {
            body.clear();
        }
        if behaviour == Behaviour::CutOffOnce && first && is_transfer(&request.to_lowercase()) {
            body.truncate(body.len() / 2);
        }
        [head.into_bytes(), body].concat()
    } else {
        not_found()
    };
    let _ = stream.write_all(&response);
}

/// The files of the tests' trained model.
fn model_files(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let names = ["config.json", WEIGHTS, "tokenizer.json"];
    names.map(|name| (name.to_owned(), place.read(&format!("run/model/{name}")))).into()
}

/// Runs a command with a hub at `address`; the cache is `hf` in the place's folder.
fn run(place: &Place, address: &str, args: &[&str]) -> Outcome {
    let mut command = place.command(args);
    Outcome::of(command.env("HF_ENDPOINT", address).output().unwrap())
}

const LOGITS: [&str; 5] = ["logits", NAME, "--ids", "1,2,3", "--json"];

fn in_cache(name: &str) -> String {
    format!("hf/hub/models--tests--tiny/{name}")
}

/// An address without a server: its port was free a moment ago.
fn unused_address() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

#[test]
fn a_model_is_downloaded_once_and_shared_with_other_programs() {
    let place = Place::with_run();
    let hub = Hub::serve(model_files(&place), Behaviour::Correct);
    let local = place.succeeds(&["logits", "run", "--ids", "1,2,3", "--json"]);
    let fetched = run(&place, &hub.address, &LOGITS);
    assert_eq!((fetched.code, &fetched.stdout), (Some(0), &local.stdout), "{fetched:?}");
    // The layout of the hub's own library: blobs by their hash, a snapshot of links, the branch.
    assert_eq!(place.text(&in_cache("refs/main")), SHA);
    let snapshot = in_cache(&format!("snapshots/{SHA}"));
    for (name, content) in model_files(&place) {
        assert!(place.read(&format!("{snapshot}/{name}")) == content, "{name}");
        #[cfg(unix)]
        assert!(fs::read_link(place.path(&format!("{snapshot}/{name}"))).unwrap().starts_with("../../blobs"));
    }
    let n_requests = hub.requests(&[]).len();
    // From now on no network is needed, by any verb.
    assert_eq!(run(&place, &hub.address, &LOGITS).stdout, local.stdout);
    assert_eq!(hub.requests(&[]).len(), n_requests);
    assert_eq!(run(&place, &unused_address(), &LOGITS).stdout, local.stdout);
    let generated =
        run(&place, &unused_address(), &["generate", "--model", NAME, "--context", "The lamp", "--tokens", "3"]);
    assert_eq!(generated.code, Some(0), "{generated:?}");
    let train = [
        "train",
        "--init-from",
        NAME,
        "--run",
        "new",
        "--data",
        "story.txt",
        "--window",
        "8",
        "--stride",
        "8",
        "--epochs",
        "1",
    ];
    let trained = run(&place, &unused_address(), &train);
    assert_eq!(trained.code, Some(0), "{trained:?}");
    let config: toml::Table = place.text("new/config.toml").parse().unwrap();
    assert_eq!(config["init_from"].as_str(), Some(NAME));
}

#[test]
fn a_broken_transfer_is_resumed() {
    let place = Place::with_run();
    let files = model_files(&place);
    let n_bytes = files[WEIGHTS].len();
    let hub = Hub::serve(files.clone(), Behaviour::CutOffOnce);
    let outcome = run(&place, &hub.address, &LOGITS);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(hub.requests(&[WEIGHTS, &format!("range: bytes={}-", n_bytes / 2)]).len(), 1);
    assert!(place.read(&in_cache(&format!("snapshots/{SHA}/{WEIGHTS}"))) == files[WEIGHTS]);
    let blobs: Vec<PathBuf> =
        fs::read_dir(place.path(&in_cache("blobs"))).unwrap().map(|b| b.unwrap().path()).collect();
    assert!(blobs.iter().all(|blob| blob.extension().is_none_or(|end| end != "part")), "{blobs:?}");
}

#[test]
fn a_file_with_a_wrong_checksum_is_refused() {
    let place = Place::with_run();
    let hub = Hub::serve(model_files(&place), Behaviour::Corrupts);
    let outcome = run(&place, &hub.address, &LOGITS);
    outcome.is_error(1, &[NAME, WEIGHTS, "the file received is a different one", "put the model's config.json"]);
    assert!(!place.exists(&in_cache(&format!("snapshots/{SHA}/{WEIGHTS}"))) && !place.exists(&in_cache("refs/main")));
    // A correct server's files replace it.
    let correct = Hub::serve(model_files(&place), Behaviour::Correct);
    assert_eq!(run(&place, &correct.address, &LOGITS).code, Some(0));
}

#[test]
fn a_path_for_a_file_name_is_refused() {
    let place = Place::with_run();
    let hub = Hub::serve(model_files(&place), Behaviour::EscapesCache);
    let outcome = run(&place, &hub.address, &LOGITS);
    outcome.is_error(1, &["the hub gives the file the name \"../../../escaped\""]);
    assert!(!place.exists("hf/escaped") && !place.exists("hf/hub/escaped"));
    let files = BTreeMap::from([
        ("config.json".to_owned(), place.read("run/model/config.json")),
        ("model.safetensors.index.json".to_owned(), br#"{"weight_map": {"wte.weight": "../x"}}"#.to_vec()),
    ]);
    let outcome = run(&Place::new(), &Hub::serve(files, Behaviour::Correct).address, &LOGITS);
    outcome.is_error(1, &["lists a name that is not a file in its folder"]);
}

#[test]
fn shards_are_downloaded_with_their_index() {
    let place = Place::with_run();
    let mut files = model_files(&place);
    let weights = files.remove(WEIGHTS).unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<_, _> = serde_json::from_slice(&weights[8..8 + header]).unwrap();
    let keys = header.keys().filter(|key| *key != "__metadata__");
    let map: serde_json::Map<_, _> = keys.map(|key| (key.clone(), json!("model-00001-of-00001.safetensors"))).collect();
    files.insert("model.safetensors.index.json".to_owned(), json!({ "weight_map": map }).to_string().into());
    files.insert("model-00001-of-00001.safetensors".to_owned(), weights);
    let local = place.succeeds(&["logits", "run", "--ids", "1,2,3", "--json"]);
    let hub = Hub::serve(files, Behaviour::Correct);
    for address in [&hub.address, &unused_address()] {
        let outcome = run(&place, address, &LOGITS);
        assert_eq!((outcome.code, &outcome.stdout), (Some(0), &local.stdout), "{outcome:?}");
    }
}

#[test]
fn without_a_network_the_error_says_where_to_put_which_files() {
    let place = Place::new();
    let folder = place.path("hf/hub/models--tests--tiny");
    let parts = [
        "tests/tiny: no such file or folder, and it cannot be downloaded as a model of the hub",
        "put the model's config.json, model.safetensors and tokenizer.json into a folder and give that folder",
        folder.to_str().unwrap(),
    ];
    run(&place, &unused_address(), &LOGITS).is_error(1, &[&parts[..], &["is there a network?"]].concat());
    let hub = Hub::serve(BTreeMap::new(), Behaviour::Correct);
    let offline = place.command(&LOGITS).env("HF_ENDPOINT", &hub.address).env("HF_HUB_OFFLINE", "1").output().unwrap();
    Outcome::of(offline).is_error(1, &[&parts[..], &["HF_HUB_OFFLINE is set"]].concat());
    assert_eq!(hub.requests(&[]), [""; 0]);
    run(&place, &hub.address, &LOGITS).is_error(1, &["it has none of model.safetensors"]);
    let unknown = ["logits", "tests/unknown", "--ids", "1", "--json"];
    run(&place, &hub.address, &unknown).is_error(1, &["the hub has no such model"]);
    // Below an existing folder it is a path, with a mistake in it.
    place.write("tests/other", "");
    run(&place, &hub.address, &LOGITS).is_error(1, &["tests/tiny: no such file or folder"]);
}

/// If the cache lacks only the tokenizer, the model can be used without a network.
#[test]
fn a_cached_model_without_a_tokenizer_is_used() {
    let place = Place::with_run();
    let mut files = model_files(&place);
    files.remove("tokenizer.json");
    let hub = Hub::serve(files, Behaviour::Correct);
    let first = run(&place, &hub.address, &LOGITS);
    assert_eq!(first.code, Some(0), "{first:?}");
    let again = run(&place, &unused_address(), &LOGITS);
    assert_eq!((again.code, &again.stdout), (Some(0), &first.stdout));
    assert!(again.stderr.contains("the cache has no tokenizer.json for tests/tiny"), "{again:?}");
}

#[test]
fn the_token_goes_to_the_hub() {
    let place = Place::with_run();
    let hub = Hub::serve(model_files(&place), Behaviour::Correct);
    let outcome = place.command(&LOGITS).env("HF_ENDPOINT", &hub.address).env("HF_TOKEN", "hf_test").output().unwrap();
    assert_eq!(outcome.status.code(), Some(0));
    assert_eq!(hub.requests(&["authorization: bearer hf_test"]).len(), hub.requests(&[]).len());
}

/// A server beside the hub's, such as a store of large files: it answers with `body`, and records requests.
fn store(body: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            seen.lock().unwrap().push(read_request(&stream).to_lowercase());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    (port, requests)
}

#[test]
fn a_store_gets_the_request_and_not_the_token() {
    let place = Place::with_run();
    let files = model_files(&place);
    let (port, at_store) = store(files[WEIGHTS].clone());
    let hub = Hub::serve(files.clone(), Behaviour::Redirects(port));
    let outcome = place.command(&LOGITS).env("HF_ENDPOINT", &hub.address).env("HF_TOKEN", "hf_test").output().unwrap();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(place.read(&in_cache(&format!("snapshots/{SHA}/{WEIGHTS}"))) == files[WEIGHTS]);
    assert_eq!(hub.requests(&["authorization: bearer hf_test"]).len(), hub.requests(&[]).len());
    let at_store = at_store.lock().unwrap().clone();
    assert!(!at_store.is_empty() && at_store.iter().all(|request| !request.contains("hf_test")), "{at_store:?}");
}

#[test]
fn a_hub_that_answers_with_nonsense_is_reported() {
    let place = Place::with_run();
    let cases = [
        (Behaviour::RedirectsToItself, "redirects more than 8 times"),
        (Behaviour::Nameless, "the hub gives the file the name \"\""),
        (Behaviour::Endless, "the hub does not say how long the file is"),
        (Behaviour::Lists("{"), "the hub's answer is not JSON"),
        (Behaviour::Lists("[]"), "the hub gives the revision \"\""),
        (Behaviour::Lists("{\"sha\": \"../../etc\"}"), "the hub gives the revision \"../../etc\""),
        (Behaviour::Lists("{\"sha\": \"a\", \"siblings\": 7}"), "it has none of model.safetensors"),
    ];
    for (behaviour, reason) in cases {
        let hub = Hub::serve(model_files(&place), behaviour);
        let fresh = Place::new();
        run(&fresh, &hub.address, &LOGITS).is_error(1, &[NAME, reason, "put the model's config.json"]);
        assert!(!fresh.exists(&in_cache("refs/main")), "{reason}");
    }
    let nested = "[".repeat(100_000);
    let hub = Hub::serve(model_files(&place), Behaviour::Lists(Box::leak(nested.into_boxed_str())));
    run(&Place::new(), &hub.address, &LOGITS).is_error(1, &["the hub's answer is not JSON"]);
    for address in ["nonsense", "http://", "file:///etc", "http://user:name@127.0.0.1", "http://[::1", "\u{e9}://x"] {
        run(&Place::new(), address, &LOGITS).is_error(1, &[NAME, "is not an address of a web server"]);
    }
}

/// What an interrupted start has received is continued by the next one; what does not fit is dropped.
#[test]
fn what_an_earlier_start_received_is_used_or_dropped() {
    let place = Place::with_run();
    let files = model_files(&place);
    let hash: String = Sha256::digest(&files[WEIGHTS]).iter().map(|byte| format!("{byte:02x}")).collect();
    let content = &files[WEIGHTS];
    for (left, resumes) in
        [(content[..1000].to_vec(), true), (vec![0; content.len() + 5], false), (vec![7; 1000], true)]
    {
        let fresh = Place::new();
        fresh.write(&in_cache(&format!("blobs/{hash}.part")), &left);
        let hub = Hub::serve(files.clone(), Behaviour::Correct);
        assert_eq!(run(&fresh, &hub.address, &LOGITS).code, Some(0));
        assert_eq!(hub.requests(&[WEIGHTS, "range: bytes=1000-"]).len(), usize::from(resumes));
        assert!(fresh.read(&in_cache(&format!("snapshots/{SHA}/{WEIGHTS}"))) == *content);
    }
}
