//! `calame eval`: the tokens that it counts, and its output.

use serde_json::Value;

use crate::program::{Place, train};

fn eval(place: &Place, more: &[&str]) -> Value {
    let args = [&["eval", "--model", "run", "--data", "story.txt", "--json"], more].concat();
    serde_json::from_str(&place.succeeds(&args).stdout).unwrap()
}

fn n_tokens(place: &Place) -> u64 {
    let args = ["tokenize", "--tokenizer", "run", "--count", "--file", "story.txt", "--json"];
    let value: Value = serde_json::from_str(&place.succeeds(&args).stdout).unwrap();
    value["n_tokens"].as_u64().unwrap()
}

#[test]
fn every_token_but_the_first_counts_once() {
    let place = Place::with_run();
    let expected = n_tokens(&place) - 1;
    for (window, stride) in [(16, 16), (16, 8), (16, 1), (8, 8), (8, 5), (7, 3), (1, 1)] {
        let value = eval(&place, &["--window", &window.to_string(), "--stride", &stride.to_string()]);
        assert_eq!((&value["window"], &value["stride"]), (&window.into(), &stride.into()));
        assert_eq!(value["n_tokens"], expected, "window {window}, stride {stride}");
        let (loss, perplexity) = (value["loss"].as_f64().unwrap(), value["perplexity"].as_f64().unwrap());
        assert!(loss > 0.0 && (loss.exp() - perplexity).abs() <= 1e-9 * perplexity, "{value}");
    }
}

#[test]
fn the_defaults_are_whole_windows_of_the_context() {
    let place = Place::with_run();
    let mut value = eval(&place, &[]);
    let mut explicit = eval(&place, &["--window", "16", "--stride", "16"]);
    for value in [&mut value, &mut explicit] {
        value.as_object_mut().unwrap().remove("seconds");
    }
    assert_eq!(value, explicit);
    let plain = place.succeeds(&["eval", "--model", "run", "--data", "story.txt"]).stdout;
    let (loss, perplexity) = (value["loss"].as_f64().unwrap(), value["perplexity"].as_f64().unwrap());
    assert!(plain.contains(&format!("loss        {loss:.4} per token\n")), "{plain}");
    assert!(plain.contains(&format!("perplexity  {perplexity:.2}\n")), "{plain}");
    let bits = value["bits_per_byte"].as_f64().unwrap();
    assert!(plain.contains(&format!("bits/byte   {bits:.4}\n")), "{plain}");
    // By hand: the loss in bits, over the bytes of all words but the first.
    let n_bytes = place.text("story.txt").len() as f64 - value["n_bytes"].as_f64().unwrap();
    assert!((1.0..12.0).contains(&n_bytes), "the first word has {n_bytes} bytes");
    let by_hand = loss * value["n_tokens"].as_f64().unwrap() / 2f64.ln() / value["n_bytes"].as_f64().unwrap();
    assert!((bits - by_hand).abs() < 1e-9, "{bits} against {by_hand}");
    assert!(plain.contains(&format!("{} counted, windows of 16 every 16", n_tokens(&place) - 1)), "{plain}");
}

/// A model that was trained on the text predicts it; one that was hardly trained is close to chance.
#[test]
fn training_lowers_the_loss() {
    let place = Place::new();
    let long = ["--epochs", "40", "--set", "model.dropout=0", "--set", "train.eval_every=1000"];
    place.succeeds(&train(&long));
    let trained = eval(&place, &["--window", "8"])["loss"].as_f64().unwrap();
    let place = Place::with_run();
    let barely = eval(&place, &["--window", "8"])["loss"].as_f64().unwrap();
    assert!(trained < barely - 0.5, "{trained} against {barely}");
    let config: Value = serde_json::from_str(&place.text("run/model/config.json")).unwrap();
    let chance = config["vocab_size"].as_f64().unwrap().ln();
    assert!((barely - chance).abs() < 1.0, "{barely} against {chance}");
}

/// The loss over the text is the mean over its windows: here of two, which are evaluated alone.
#[test]
fn windows_are_averaged_by_their_tokens() {
    let place = Place::with_run();
    // 17 words are 16 predictions, two windows of 8 and then one of 5.
    let words: Vec<&str> =
        "the lamp in the harbour was lit and the boy ran down to the window by the glass the fog was white"
            .split(' ')
            .collect();
    let loss = |words: &[&str]| {
        place.write("part.txt", words.join(" "));
        let args = ["eval", "--model", "run", "--data", "part.txt", "--window", "8", "--json"];
        let value: Value = serde_json::from_str(&place.succeeds(&args).stdout).unwrap();
        assert_eq!(value["n_tokens"], words.len() - 1);
        value["loss"].as_f64().unwrap() * (words.len() - 1) as f64
    };
    let parts = loss(&words[..9]) + loss(&words[8..17]) + loss(&words[16..]);
    let whole = loss(&words);
    assert!((parts - whole).abs() < 1e-4, "{parts} against {whole}");
}
