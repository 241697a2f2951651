//! `calame logits`: its file, its JSON, and the ids that it refuses.

use serde_json::Value;

use crate::program::Place;

#[test]
fn a_file_and_json_lines_agree() {
    let place = Place::with_run();
    let outcome = place.succeeds(&["logits", "run", "--ids", "1,2,3", "--out", "l.safetensors", "--json"]);
    let lines: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<u64> = lines.iter().map(|line| line["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    let said: Vec<f32> = lines
        .iter()
        .flat_map(|line| line["logits"].as_array().unwrap())
        .map(|logit| logit.as_f64().unwrap() as f32)
        .collect();
    // The file ends with the tensor's elements, row after row.
    let bytes = place.read("l.safetensors");
    let written = bytes[bytes.len() - 4 * said.len()..].chunks_exact(4);
    let written: Vec<f32> = written.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(said, written);
    assert!(said.iter().all(|x| x.is_finite()) && said.iter().any(|&x| x != said[0]));
}

#[test]
fn ids_that_the_model_lacks() {
    let place = Place::with_run();
    place.fails(&["logits", "run", "--ids", "99999", "--out", "l"], 2, &["99999 is not one of the model's"]);
    let many = vec!["1"; 17].join(",");
    place.fails(&["logits", "run", "--ids", &many, "--out", "l"], 2, &["17 tokens", "context is 16", "give fewer ids"]);
    place.fails(&["logits", "nowhere", "--ids", "1", "--out", "l"], 1, &["nowhere: no such file or folder"]);
}

/// The file is replaced only by the same kind of file, and only when the new one is complete.
#[test]
fn an_existing_file_is_kept_unless_it_has_logits() {
    let place = Place::with_run();
    let logits = |ids: &'static str, out: &'static str| ["logits", "run", "--ids", ids, "--out", out];
    for foreign in ["run/model/model.safetensors", "story.txt", "run"] {
        place.fails(
            &logits("1,2", foreign),
            1,
            &[foreign, "exists already, and is not replaced", "hint: choose another"],
        );
    }
    place.succeeds(&logits("1,2", "l.safetensors"));
    let first = place.read("l.safetensors");
    place.fails(&logits("1,99999", "l.safetensors"), 2, &["99999"]);
    assert!(place.read("l.safetensors") == first);
    place.succeeds(&logits("1,2,3", "l.safetensors"));
    assert!(place.read("l.safetensors").len() > first.len());
}
