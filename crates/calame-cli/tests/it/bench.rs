//! `calame bench`: its JSON, and the arguments that it refuses.

use crate::program::Place;

fn json(args: &[&str]) -> serde_json::Value {
    let outcome = Place::new().succeeds(&[&["bench"], args, &["--threads", "1", "--json"]].concat());
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {lines:?}");
    serde_json::from_str(lines[0]).unwrap()
}

fn positive(value: &serde_json::Value, keys: &[&str]) {
    for key in keys {
        assert!(value[key].as_f64().is_some_and(|x| x > 0.0), "{key} of {value}");
    }
}

#[test]
fn a_step_is_reported_in_one_line() {
    let shape = ["--preset", "tiny", "--batch-size", "2", "--window", "16", "--steps", "2"];
    for precision in ["f32", "bf16"] {
        let step = json(&[&["train"], &shape[..], &["--precision", precision]].concat());
        positive(&step, &["step_ms", "tokens_per_second", "share_of_peak", "peak_operations_per_second"]);
        assert_eq!((&step["precision"], &step["batch_size"]), (&precision.into(), &2.into()));
        if cfg!(target_os = "linux") {
            positive(&step, &["peak_memory_bytes"]);
        }
        // The phases are parts of the step.
        let phases = step["phases"].as_array().unwrap();
        let sum: f64 = phases.iter().map(|phase| phase["ms"].as_f64().unwrap()).sum();
        let max = step["step_ms_max"].as_f64().unwrap();
        assert!(phases.len() > 10 && sum > 0.0 && sum <= max * 1.01, "{sum} of {max}: {phases:?}");
    }
}

#[test]
fn machine_and_products() {
    let machine = json(&["machine"]);
    positive(&machine, &["f32_operations_per_second", "bf16_operations_per_second", "read_bytes_per_second"]);
    let products = json(&["products", "--preset", "tiny", "--batch-size", "1", "--window", "16", "--steps", "1"]);
    positive(&products, &["ms", "share_of_peak"]);
    assert_eq!(products["products"].as_array().unwrap().len(), 15);
    let place = Place::new();
    let text = place.succeeds(&["bench", "train", "--preset", "tiny", "--window", "8", "--steps", "1"]).stdout;
    assert!(text.contains("linear, forward") && text.contains("of the peak"), "{text}");
}

#[test]
fn shapes_that_cannot_be() {
    let place = Place::new();
    place.fails(&["bench", "train", "--preset", "gpt9"], 2, &["'gpt9'"]);
    place.fails(&["bench", "train", "--window", "2000"], 2, &["--window is 2000", "1 to 1024"]);
    place.fails(&["bench", "train", "--window", "0"], 2, &["--window is 0"]);
    place.fails(&["bench", "products", "--dropout", "1"], 2, &["dropout is 1"]);
    place.fails(&["bench", "train", "--batch-size", "0"], 2, &["--batch-size"]);
    place.fails(&["bench", "train", "--precision", "fp8"], 2, &["'fp8'", "f32, bf16 or auto"]);
}
