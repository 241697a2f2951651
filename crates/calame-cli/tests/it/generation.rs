//! `calame generate` with several texts, prompts and samplers; `chat`, `strategies` and `explain`.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::program::Place;

/// Runs the program with a standard input; returns its output.
fn with_input(place: &Place, args: &[&str], input: &str) -> String {
    let mut child =
        place.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

const GENERATE: [&str; 5] = ["generate", "--model", "run", "--tokens", "6"];

fn generate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&GENERATE[..], more].concat()
}

#[test]
fn several_texts_of_several_prompts() {
    let place = Place::with_run();
    place.write("prompts.txt", "The lamp\n\nThe boy\n");
    let one = |prompt: &str| lines(&place.succeeds(&generate(&["--context", prompt, "--json"])).stdout).remove(0);
    let all = lines(&place.succeeds(&generate(&["--prompts", "prompts.txt", "-n", "2", "--json"])).stdout);
    let named: Vec<_> =
        all.iter().map(|text| (text["prompt"].as_str().unwrap(), text["sample"].as_u64().unwrap())).collect();
    assert_eq!(named, [("The lamp", 0), ("The lamp", 1), ("The boy", 0), ("The boy", 1)]);
    // Greedy: every sample is the text that the prompt gives alone.
    for text in &all {
        assert_eq!(text["text"], one(text["prompt"].as_str().unwrap())["text"]);
    }
    // Drawn: samples differ, and the first is the one of a single text.
    let drawn = ["--context", "The lamp", "--temperature", "1.5", "--json"];
    let samples = lines(&place.succeeds(&generate(&[&drawn[..], &["-n", "5"]].concat())).stdout);
    assert_eq!(samples[0]["text"], lines(&place.succeeds(&generate(&drawn)).stdout)[0]["text"]);
    assert!(samples[1..].iter().any(|text| text["text"] != samples[0]["text"]));
    // For people.
    let shown = place.succeeds(&generate(&["--prompts", "prompts.txt"])).stdout;
    assert!(shown.starts_with("── line 1 ──\nThe lamp") && shown.contains("── line 2 ──\nThe boy"), "{shown}");
    let shown = place.succeeds(&generate(&["-n", "2", "--context", "The lamp", "--echo", "never"])).stdout;
    assert!(shown.starts_with("── 1 ──\n") && !shown.contains("The lamp"), "{shown}");
    // From standard input.
    assert_eq!(lines(&with_input(&place, &generate(&["--prompts", "-", "--json"]), "The lamp\nThe boy\n")).len(), 2);
    let read = with_input(&place, &generate(&["--context", "-"]), "The lamp\n");
    assert_eq!(read, place.succeeds(&generate(&["--context", "The lamp"])).stdout);
    place.write("empty.txt", "\n \n");
    place.fails(&generate(&["--prompts", "empty.txt"]), 1, &["empty.txt has no lines", "a prompt in each line"]);
    place.fails(&generate(&["--prompts", "missing.txt"]), 1, &["missing.txt"]);
    place.write("many.txt", "a\n".repeat(1000));
    let args = generate(&["--prompts", "many.txt", "-n", "101"]);
    place.fails(&args, 2, &["101,000 texts were asked for", "at most 100,000"]);
}

#[test]
fn stop_strings_and_probabilities() {
    let place = Place::with_run();
    let json = |more: &[&str]| {
        let args = generate(&[&["--context", "The lamp", "--json"], more].concat());
        lines(&place.succeeds(&args).stdout).remove(0)
    };
    let whole = json(&[]);
    let new_text = whole["new_text"].as_str().unwrap().to_owned();
    assert_eq!(format!("The lamp{new_text}"), whole["text"].as_str().unwrap());
    // A stop string inside the text, which begins and ends inside tokens.
    let stop: String = new_text.chars().skip(3).take(4).collect();
    let stopped = json(&["--stop", &stop]);
    let expected = &new_text[..new_text.find(&stop).unwrap()];
    assert_eq!((&stopped["new_text"], &stopped["stop"]), (&expected.into(), &stop.as_str().into()));
    let shown = place.succeeds(&generate(&["--context", "The lamp", "--stop", &stop])).stdout;
    assert_eq!(shown, format!("The lamp{expected}\n"));
    place.fails(&generate(&["--stop", ""]), 2, &["--stop: stop string 1 has 0 bytes"]);
    let long = "x".repeat(10_000);
    place.fails(&generate(&["--stop", &long]), 2, &["stop string 1 has 10000 bytes", "1 to 4096"]);
    // Greedy: each token is the most likely one.
    let probable = json(&["--logprobs", "2"]);
    let of_tokens = probable["logprobs"].as_array().unwrap();
    assert_eq!(of_tokens.len(), 6);
    for token in of_tokens {
        assert_eq!((&token["id"], &token["logprob"]), (&token["best"][0]["id"], &token["best"][0]["logprob"]));
        assert!(token["logprob"].as_f64().unwrap() < 0.0 && token["best"].as_array().unwrap().len() == 2);
    }
    let table = place.succeeds(&generate(&["--context", "The lamp", "--logprobs", "2"])).stdout;
    assert_eq!(table.lines().filter(|line| line.contains(" %  ")).count(), 6, "{table}");
    // Drafts change nothing.
    assert_eq!(json(&["--draft", "4"])["text"], whole["text"]);
}

#[test]
fn samplers_and_their_errors() {
    let place = Place::with_run();
    let text = |more: &[&str]| place.succeeds(&generate(&[&["--context", "The lamp"], more].concat())).stdout;
    let greedy = text(&[]);
    let first: Value = lines(&place.succeeds(&generate(&["--context", "The lamp", "--json"])).stdout).remove(0);
    let first = first["tokens"][0].to_string();
    // A forbidden token is not chosen; one that is favoured always is.
    assert_ne!(text(&["--logit-bias", &format!("{first}=-inf")]), greedy);
    let favoured = format!("{first}=100");
    let ids = lines(&place.succeeds(&generate(&["--context", "The lamp", "--json", "--logit-bias", &favoured])).stdout);
    assert!(ids[0]["tokens"].as_array().unwrap().iter().all(|id| id.as_u64() == first.parse().ok()));
    for more in [&["--min-p", "0.5"][..], &["--typical-p", "0.5"], &["--top-k", "3"], &["--repetition-penalty", "2"]] {
        text(more);
    }
    let errors: [(&[&str], &str); 8] = [
        (&["--temperature", "-1"], "temperature is -1"),
        (&["--top-p", "0"], "top-p is 0"),
        (&["--min-p", "2"], "min-p is 2"),
        (&["--typical-p", "0"], "typical-p is 0"),
        (&["--repetition-penalty", "0"], "repetition-penalty is 0"),
        (&["--logit-bias", "x"], "--logit-bias is 'x': expected ID=X"),
        (&["--logit-bias", "1=NaN"], "the logit bias of token 1 is NaN"),
        (&["--frequency-penalty", "inf"], "frequency-penalty is inf"),
    ];
    for (more, message) in errors {
        place.fails(&generate(more), 2, &[message]);
    }
    place.fails(&generate(&["--context", "The lamp", "--logit-bias", "999999=1"]), 1, &["names token 999999"]);
}

#[test]
fn a_conversation() {
    let place = Place::with_run();
    let args = ["chat", "--model", "run", "--template", "plain", "--tokens", "4", "--temperature", "0"];
    let answers = with_input(&place, &args, "The lamp\nThe boy\n\n/reset\nThe lamp\n/quit\nThe boy\n");
    let lines: Vec<&str> = answers.lines().collect();
    // The same message at the beginning has the same answer.
    assert_eq!(lines.len(), 3, "{answers:?}");
    assert_eq!(lines[0], lines[2]);
    // A conversation longer than the context goes on.
    let many = "The lamp\n".repeat(12);
    assert_eq!(with_input(&place, &args, &many).lines().count(), 12);
    place.fails(&["chat", "--model", "nowhere"], 1, &["nowhere"]);
    place.fails(&["chat", "--model", "run", "--temperature", "-1"], 2, &["temperature is -1"]);
}

#[test]
fn samplers_side_by_side() {
    let place = Place::with_run();
    let args = ["strategies", "The lamp", "--model", "run", "--tokens", "5", "--temperatures", "0.1,1,5", "--top", "4"];
    let shown = place.succeeds(&[&args[..], &["--out", "figure.svg"]].concat()).stdout;
    for expected in
        ["next token", "T = 0.1", "T = 5", "── greedy ──\nThe lamp", "── top-p 0.9 ──", "figure  figure.svg"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json: Value = serde_json::from_str(&place.succeeds(&[&args[..], &["--json"]].concat()).stdout).unwrap();
    let series = json["distribution"].as_array().unwrap();
    let of = |i: usize| {
        series[i]["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect::<Vec<_>>()
    };
    // A low temperature favours the most likely token, a high one evens out.
    assert!(of(0)[0] > of(1)[0] && of(1)[0] > of(2)[0], "{series:?}");
    assert!(of(1).iter().sum::<f64>() <= 1.0 + 1e-9 && of(1).windows(2).all(|pair| pair[0] >= pair[1]));
    let greedy =
        place.succeeds(&["generate", "--model", "run", "--context", "The lamp", "--tokens", "5", "--echo", "never"]);
    assert_eq!(json["texts"][0]["text"].as_str().unwrap(), greedy.stdout.trim_end_matches('\n'));
    place.fails(
        &["strategies", "--model", "run", "The lamp", "--temperatures", "0"],
        2,
        &["0 is not a positive number"],
    );
    place.write("mine.svg", "<svg/>");
    place.fails(&["strategies", "--model", "run", "The lamp", "--out", "mine.svg"], 1, &["mine.svg", "not replaced"]);
}

#[test]
fn a_text_explained() {
    let place = Place::with_run();
    let args = ["explain", "The lamp and the boy", "--model", "run", "--head", "1"];
    for out in ["attention.svg", "attention.png"] {
        let shown = place.succeeds(&[&args[..], &["--out", out]].concat()).stdout;
        assert!(shown.contains("probability") && shown.contains("lamp") && shown.contains("figure"), "{shown}");
        assert!(place.exists(out));
    }
    let json: Value = serde_json::from_str(&place.succeeds(&[&args[..], &["--json"]].concat()).stdout).unwrap();
    let (tokens, rows) = (json["tokens"].as_array().unwrap(), json["attention"].as_array().unwrap());
    assert!(tokens.len() == rows.len() && tokens[0]["rank"].is_null());
    for (i, row) in rows.iter().enumerate() {
        let sum: f64 = row.as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9 && row.as_array().unwrap().len() == i + 1);
    }
    // The probability is that of generate.
    let next = &tokens[0]["next"][0];
    assert!(next["logprob"].as_f64().unwrap() < 0.0);
    for (more, message) in [(&["--layer", "1"][..], "layers 0 to 0"), (&["--head", "2"], "heads 0 to 1")] {
        place.fails(&[&["explain", "The lamp", "--model", "run"], more].concat(), 2, &[message]);
    }
    place.fails(&["explain", "", "--model", "run"], 1, &["the text has 0 tokens"]);
}

/// GGUF files in every format run as they are stored.
#[test]
fn every_format_of_gguf() {
    let place = Place::with_run();
    let wide = ["--set", "model.n_embd=256", "--set", "model.n_head=4", "--set", "train.epochs=1", "--run", "wide"];
    place.succeeds(&[&["train", "--config", "tiny.toml"], &wide[..]].concat());
    let eval = |model: &str| -> f64 {
        let args = ["eval", "--model", model, "--data", "story.txt", "--window", "8", "--stride", "8", "--json"];
        serde_json::from_str::<Value>(&place.succeeds(&args).stdout).unwrap()["loss"].as_f64().unwrap()
    };
    let expected = eval("wide");
    for name in [
        "f16", "bf16", "q8_0", "q6_k", "Q5_K", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_nl", "iq4_xs", "q3_k",
        "q2_k", "tq2_0", "tq1_0",
    ] {
        let out = format!("{name}.gguf");
        let written = place.succeeds(&["export", "wide", "--to", "gguf", "--outtype", name, "--out", &out]);
        assert!(written.stdout.contains(&format!("in {}", name.to_lowercase())), "{written:#?}");
        let logits = place.succeeds(&["logits", &out, "--ids", "1,2,3", "--json"]);
        assert_eq!(logits.stdout.lines().count(), 3);
    }
    assert!(expected > 0.0);
    for (name, parts) in [("q4_k_m", &["expected one of f32", "q4_k"][..]), ("int8", &["expected one of"])] {
        place.fails(&["export", "wide", "--to", "gguf", "--outtype", name], 2, parts);
    }
    place.fails(&["export", "wide", "--to", "hf", "--outtype", "q8_0"], 2, &["q8_0 is a format of GGUF files"]);
    // Rows of 16 channels are not whole blocks of 32.
    let narrow = place.succeeds(&["export", "run", "--to", "gguf", "--outtype", "q8_0"]);
    assert!(
        narrow.stdout.contains("matrices are written as F16") || narrow.stderr.contains("matrices are written as F16"),
        "{narrow:#?}"
    );
}

#[test]
fn the_most_likely_texts() {
    let place = Place::with_run();
    let search = |more: &[&'static str]| generate(&[&["--context", "The lamp", "--json"], more].concat());
    let greedy = lines(&place.succeeds(&search(&[])).stdout).remove(0);
    let one = lines(&place.succeeds(&search(&["--beams", "1"])).stdout).remove(0);
    assert_eq!(one["text"], greedy["text"]);
    let texts = lines(&place.succeeds(&search(&["--beams", "4", "-n", "4"])).stdout);
    assert!(texts.len() == 4 && texts[1..].iter().all(|text| text["text"] != texts[0]["text"]), "{texts:?}");
    let shown = place.succeeds(&generate(&["--context", "The lamp", "--beams", "4"]));
    assert!(shown.stdout.starts_with("The lamp") && shown.stderr.contains("score -"), "{shown:#?}");
    place.fails(&search(&["--beams", "2", "-n", "3"]), 2, &["--beams 2 finds fewer texts"]);
    place.fails(&search(&["--beams", "0"]), 2, &["0 is not in 1..=256"]);
    place.fails(&search(&["--beams", "2", "--temperature", "1"]), 2, &["--beams", "cannot be used with"]);
    place.fails(&search(&["--length-penalty", "2"]), 2, &["--beams"]);
    place.fails(
        &search(&["--beams", "2", "--length-penalty", "nan"]),
        2,
        &["length-penalty is NaN", "a finite number"],
    );
    assert!(texts.iter().all(|text| text["score"].as_f64().unwrap() < 0.0 && text["context_is_full"] == false));
    let long =
        place.succeeds(&["generate", "--model", "run", "--context", "The lamp", "--beams", "2", "--tokens", "500"]);
    assert!(long.stderr.contains("a search ends with the model's context"), "{long:#?}");
}

/// With memory for one text at a time the texts are the same; with less there is an error.
#[test]
fn a_memory_for_keys_and_values() {
    let place = Place::with_run();
    let texts = |more: &[&str]| {
        let args = generate(&[&["--context", "The lamp", "-n", "6", "--temperature", "1", "--json"], more].concat());
        lines(&place.succeeds(&args).stdout)
    };
    // A page of 64 positions of the model's two layers of 16 channels.
    assert_eq!(texts(&["--kv-memory", "16.4kB"]), texts(&[]));
    place.fails(&generate(&["--kv-memory", "1kB"]), 1, &["keys and values", "1000 are available", "raise the limit"]);
    place.fails(&generate(&["--kv-memory", "much"]), 2, &["expected a size such as 500MB"]);
}
