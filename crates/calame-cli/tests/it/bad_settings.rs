//! Settings that are refused.

use crate::program::{Place, train};

/// A training with `more` that must fail before it writes a file.
#[track_caller]
fn refused(more: &[&str], code: i32, parts: &[&str]) {
    Place::new().fails(&train(more), code, parts);
}

#[test]
fn unknown_keys() {
    refused(
        &["--set", "model.n_heads=2"],
        2,
        &["--set model.n_heads=2", "unknown key model.n_heads", "n_head, n_inner, n_layer"],
    );
    refused(&["--set", "trian.lr=1"], 2, &["unknown key trian", "train"]);
    refused(&["--set", "train=1"], 2, &["train is a section", "train.key=value"]);
    refused(&["--set", "nothing"], 2, &["--set nothing", "expected section.key=value"]);
    refused(&["--set", "train.lr=fast"], 2, &["--set train.lr=fast", "expected f64"]);
    let place = Place::new();
    place.write("wrong.toml", "[train]\nlearning_rate = 3\n");
    let outcome = place.fails(
        &["train", "--config", "wrong.toml", "--run", "run"],
        2,
        &["wrong.toml: unknown key train.learning_rate", "epochs, eps", "lr"],
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
}

#[test]
fn a_config_that_cannot_be_read() {
    let place = Place::new();
    place.write("torn.toml", "[train]\nlr = 1e-3\nseed = \"nine\n");
    let config = |file| ["train", "--config", file, "--run", "run"];
    let outcome = place.fails(&config("torn.toml"), 2, &["torn.toml is not valid TOML: line 3: "]);
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    place.fails(&config("missing.toml"), 1, &["cannot read missing.toml", "hint: check the path"]);
    place.write("binary.toml", [0xff, 0xfe, 0x00]);
    place.fails(&config("binary.toml"), 1, &["cannot read binary.toml", "UTF-8"]);
}

#[test]
fn what_torch_does_not_draw() {
    refused(&["--rng", "numpy"], 2, &["--rng: ", "unknown variant `numpy`", "`calame` or `torch`"]);
    // The preset tiny has the kind of shape that OpenAI's models have.
    refused(&["--rng", "torch"], 2, &["model.init is gpt2: expected pytorch", "set model.init=pytorch"]);
    refused(
        &["--rng", "torch", "--set", "model.init=pytorch"],
        2,
        &["model.tied_head is true: expected false", "train.rng=calame"],
    );
}

#[test]
fn heads_and_windows() {
    refused(&["--set", "model.n_head=3"], 2, &["model.n_head is 3", "model.n_embd = 16", "1, 2, 4, 8, 16"]);
    refused(&["--window", "17"], 2, &["data.window is 17", "is 16", "use --window 16", "model.n_positions=17"]);
    refused(&["--window", "0"], 2, &["data.window = 0", "at least 1"]);
    refused(&["--stride", "0"], 2, &["data.stride = 0", "at least 1"]);
    refused(&["--batch-size", "0"], 2, &["data.batch_size = 0", "at least 1"]);
    refused(&["--set", "model.n_layer=0"], 2, &["model.n_layer is 0", "from 1"]);
    refused(&["--set", "model.dropout=1.0"], 2, &["model.dropout is 1", "dropout < 1"]);
    refused(&["--set", "data.train_fraction=1.0"], 2, &["data.train_fraction = 1", "below 1"]);
}

#[test]
fn numbers_out_of_range() {
    refused(&["--lr", "-1"], 2, &["train.lr is -1", "above 0"]);
    refused(&["--lr", "nan"], 2, &["train.lr is NaN", "above 0"]);
    refused(&["--epochs", "0"], 2, &["train.epochs is 0", "at least 1"]);
    refused(&["--epochs", "9223372036854775807"], 2, &["train.epochs is 9223372036854775807", "at most"]);
    refused(&["--seed", "-1"], 2, &["'-1' for '--seed <N>'"]);
    refused(&["--seed", "18446744073709551615"], 2, &["--seed", "not in 0..=9223372036854775807"]);
    refused(&["--threads", "99999"], 2, &["device.threads is 99999", "at most 1024", "--threads 0"]);
    refused(&["--threads", "-2"], 2, &["--threads"]);
    refused(&["--set", "train.beta2=1.5"], 2, &["train.beta2 is 1.5", "below 1"]);
}

#[test]
fn unknown_names() {
    refused(&["--preset", "gpt9"], 2, &["'gpt9'", "book, gpt2, gpt2-medium, gpt2-large, gpt2-xl, small and tiny"]);
    refused(&["--precision", "fp8"], 2, &["device.precision is 'fp8'", "hint: ", "f32, bf16 or auto"]);
    refused(&["--device", "cuda"], 2, &["device.device is 'cuda'", "hint: ", "cpu"]);
    refused(
        &["--set", "tokenizer.kind=bpe"],
        2,
        &["tokenizer.kind is 'bpe', and no file has that name", "gpt2, simple-v1, simple-v2", "RUN/tokenizer.json"],
    );
    let place = Place::new();
    let before = place.files();
    let mut command = place.command(&train(&["--set", "device.instruction_set=sse"]));
    let outcome = command.env_remove("CALAME_INSTRUCTION_SET").output().unwrap();
    crate::program::Outcome::of(outcome)
        .is_error(2, &["device.instruction_set", "'sse'", "portable, avx2, avx512 or avx512-bf16"]);
    let outcome = place.command(&train(&[])).env("CALAME_INSTRUCTION_SET", "mmx").output().unwrap();
    crate::program::Outcome::of(outcome)
        .is_error(2, &["CALAME_INSTRUCTION_SET", "'mmx'", "portable, avx2, avx512 or avx512-bf16"]);
    assert!(before == place.files());
}

#[test]
fn zero_threads_is_one_for_each_core() {
    let place = Place::new();
    place.succeeds(&train(&["--epochs", "1", "--threads", "0"]));
    let config: toml::Table = place.text("run/config.toml").parse().unwrap();
    let threads = config["device"]["threads"].as_integer().unwrap();
    let allowed = std::thread::available_parallelism().unwrap().get();
    assert!((1..=allowed as i64).contains(&threads), "{threads} threads on {allowed} processors");
    assert_eq!(config["device"]["instruction_set"].as_str(), Some("portable"));
    assert_eq!(config["device"]["precision"].as_str(), Some("f32"));
}

/// Only cores that the process may use count: on one of them there is one thread, however many the machine has.
#[cfg(target_os = "linux")]
#[test]
fn zero_threads_is_one_on_one_core() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let place = Place::new();
    // The affinity of this thread alone, which the program inherits.
    let restricted = std::thread::spawn(move || {
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        place.succeeds(&train(&["--epochs", "1", "--threads", "0"]));
        place.text("run/config.toml")
    });
    let config: toml::Table = restricted.join().unwrap().parse().unwrap();
    assert_eq!(config["device"]["threads"].as_integer(), Some(1));
}

#[test]
fn flags_that_exclude_each_other() {
    let place = Place::with_run();
    for flag in [["--batch-size", "3"], ["--recipe", "long"], ["--init-from", "run"], ["--seed", "1"]] {
        place.fails(&[&["train", "--resume", "run"], &flag[..]].concat(), 2, &["--resume <RUN>", flag[0]]);
    }
    place.fails(&["train", "--preset", "tiny", "--init-from", "run"], 2, &["--preset", "--init-from"]);
    place.fails(&["train", "--overwrite"], 2, &["--run <DIR>"]);
    place.fails(&["tokenize", "a", "--file", "story.txt"], 2, &["--file"]);
    place.fails(&["tokenize", "a", "--decode", "--count"], 2, &["--decode", "--count"]);
    place.fails(&["eval", "--model", "run"], 2, &["--data"]);
}

#[test]
fn a_sample_that_cannot_be_written() {
    refused(&["--set", "sample.prompt="], 1, &["prompt of the samples", "hint: ", "sample.max_tokens=0"]);
    let long = format!("sample.prompt={}", "lamp ".repeat(17));
    refused(&["--set", &long], 1, &["17 tokens", "context is 16", "hint: "]);
    refused(
        &["--set", "tokenizer.kind=simple-v1", "--set", "sample.prompt=zebra"],
        1,
        &["prompt of the samples", "\"zebra\"", "hint: "],
    );
}

#[test]
fn a_vocabulary_that_the_tokenizer_exceeds() {
    refused(&["--set", "model.vocab_size=10"], 1, &["model.vocab_size is 10", "hint: --set model.vocab_size="]);
}

/// A batch of a billion windows is cut to the windows of the text, and takes no more memory.
#[test]
fn batches_beyond_the_text() {
    let place = Place::new();
    let set = ["--epochs", "1", "--set", "data.eval_batch_size=1000000000", "--set", "data.drop_last=false"];
    place.succeeds(&train(&[&set[..], &["--batch-size", "1000000000"]].concat()));
    let steps = place.text("run/metrics.jsonl").lines().filter(|line| line.contains(r#""event":"step""#)).count();
    assert_eq!(steps, 1);
    // If incomplete batches are dropped, there is none.
    refused(&["--batch-size", "1000000000"], 1, &["the training part", "use --batch-size", "drop_last"]);
}

#[test]
fn sampling_out_of_range() {
    let place = Place::with_run();
    let generate = |flag, value| ["generate", "--model", "run", flag, value];
    place.fails(&generate("--temperature", "-1"), 2, &["temperature is -1", "0 (greedy) or a positive number"]);
    place.fails(&generate("--temperature", "nan"), 2, &["temperature is NaN"]);
    place.fails(&generate("--top-p", "1.5"), 2, &["top-p is 1.5", "at most 1"]);
    place.fails(&generate("--top-p", "0"), 2, &["top-p is 0", "above 0"]);
    place.fails(&generate("--top-k", "-3"), 2, &["--top-k"]);
    place.fails(&generate("--precision", "fp8"), 2, &["'fp8'", "f32, bf16 or auto"]);
    place.fails(&generate("--device", "cuda"), 2, &["'cuda'", "cpu"]);
    place.fails(&generate("--threads", "99999"), 2, &["99999", "1024"]);
}
