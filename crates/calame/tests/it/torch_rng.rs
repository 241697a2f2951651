//! Agreement with PyTorch's generator, call by call, in golden/torch_rng.json.

use calame::rng::torch::Generator;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden::folder;

/// The expected result of a call, and its position in the script.
struct Expected<'a> {
    place: String,
    drawn: &'a Value,
}

impl Expected<'_> {
    fn inside(&self, name: &str) -> Expected<'_> {
        Expected { place: format!("{}, {name}", self.place), drawn: &self.drawn[name] }
    }

    /// Compares all values by the hash of `bytes`, after comparing the first few individually.
    fn equal<T: Copy + TryInto<u64>>(&self, values: &[T], bytes: impl FnMut(T) -> Vec<u8>) {
        let place = &self.place;
        assert_eq!(Some(values.len() as u64), self.drawn["n"].as_u64(), "{place}: how many");
        let first: Vec<u64> = self.drawn["first"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
        let found: Vec<u64> =
            values.iter().take(first.len()).map(|&v| v.try_into().unwrap_or_else(|_| panic!("{place}"))).collect();
        assert_eq!(found, first, "{place}: the first");
        let hash = Sha256::digest(values.iter().copied().flat_map(bytes).collect::<Vec<u8>>());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(hash.as_str()), self.drawn["sha256"].as_str(), "{place}: all");
    }

    fn words(&self, values: &[u32]) {
        self.equal(values, |word| word.to_le_bytes().to_vec());
    }

    fn f32s(&self, values: &[f32]) {
        let bits: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
        self.words(&bits);
    }

    fn mask(&self, values: &[bool]) {
        let bytes: Vec<u8> = values.iter().map(|&kept| u8::from(kept)).collect();
        self.equal(&bytes, |byte| vec![byte]);
    }
}

fn drawn(n: usize, draw: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut x = vec![f32::NAN; n];
    draw(&mut x);
    x
}

fn linear(random: &mut Generator, n_inputs: usize, n_outputs: usize, bias: bool) -> (Vec<f32>, Vec<f32>) {
    let weight = drawn(n_inputs * n_outputs, |x| random.linear_weight(x, n_inputs));
    (weight, if bias { drawn(n_outputs, |x| random.linear_bias(x, n_inputs)) } else { Vec::new() })
}

/// The book's model, in the order in which its modules are built.
fn book(random: &mut Generator, qkv_bias: bool, expected: &Expected<'_>) {
    const V: usize = 67;
    const T: usize = 24;
    const C: usize = 42;
    expected.inside("tok_emb.weight").f32s(&drawn(V * C, |x| random.embedding(x)));
    expected.inside("pos_emb.weight").f32s(&drawn(T * C, |x| random.embedding(x)));
    let mut layer = |name: &str, n_inputs, n_outputs, has_bias| {
        let (weight, bias) = linear(random, n_inputs, n_outputs, has_bias);
        expected.inside(&format!("{name}.weight")).f32s(&weight);
        if has_bias {
            expected.inside(&format!("{name}.bias")).f32s(&bias);
        }
    };
    for i in 0..2 {
        for name in ["W_query", "W_key", "W_value"] {
            layer(&format!("trf_blocks.{i}.att.{name}"), C, C, qkv_bias);
        }
        layer(&format!("trf_blocks.{i}.att.out_proj"), C, C, true);
        layer(&format!("trf_blocks.{i}.ff.layers.0"), C, 4 * C, true);
        layer(&format!("trf_blocks.{i}.ff.layers.2"), 4 * C, C, true);
    }
    layer("out_head", C, V, false);
}

/// One pass over batches of 4, dropping a last one that is not full, abandoned after `n_batches`.
fn loader(random: &mut Generator, n: usize, shuffle: bool, n_batches: Option<u64>) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    if shuffle {
        Generator::new(random.shuffled_pass()).randperm(n, &mut order);
        order.truncate(n / 4 * 4);
    } else {
        random.pass();
    }
    order.truncate(n_batches.map_or(n, |batches| 4 * batches as usize));
    order
}

/// The same mask as bits, for all row lengths that divide its elements, and the same generator state afterwards.
fn as_bits(before: Generator, rate: f64, keep: &[bool], after: &Generator) {
    for columns in (1..=keep.len()).filter(|columns| rate < 1.0 && keep.len().is_multiple_of(*columns)) {
        let words_per_row = columns.div_ceil(64);
        let mut bits = vec![u64::MAX; keep.len() / columns * words_per_row];
        let mut random = before.clone();
        random.dropout_bits(rate, columns, &mut bits);
        assert_eq!(&random, after, "the generator after rows of {columns}");
        for (row, bits) in keep.chunks_exact(columns).zip(bits.chunks_exact(words_per_row)) {
            let bit = |column: usize| bits[column / 64] >> (column % 64) & 1 == 1;
            assert!((0..columns).all(|column| bit(column) == row[column]), "rows of {columns}");
            assert!((columns..64 * words_per_row).all(|column| !bit(column)), "past the end of rows of {columns}");
        }
    }
}

fn run(random: &mut Generator, call: &[Value], expected: &Expected<'_>) {
    let size = |i: usize| call[i].as_u64().unwrap() as usize;
    let float = |i: usize| call[i].as_f64().unwrap();
    let flag = |i: usize| call[i].as_bool().unwrap();
    match call[0].as_str().unwrap() {
        "words" => expected.words(&(0..size(1)).map(|_| random.next_u32()).collect::<Vec<_>>()),
        "random" => assert_eq!(Some(random.random()), expected.drawn["value"].as_i64(), "{}", expected.place),
        "uniform" => expected.f32s(&drawn(size(1), |x| random.uniform(float(2), float(3), x))),
        "normal" => expected.f32s(&drawn(size(1), |x| random.normal(float(2), float(3), x))),
        "randperm" => {
            let mut order = vec![7];
            random.randperm(size(1), &mut order);
            expected.words(&order);
        }
        "dropout" => {
            let n: u64 = call[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
            let mut keep = vec![false; n as usize];
            let before = random.clone();
            random.dropout_mask(float(2), &mut keep);
            as_bits(before, float(2), &keep, random);
            expected.mask(&keep);
            let factor = keep.contains(&true).then(|| u64::from(Generator::dropout_scale(float(2)).to_bits()));
            assert_eq!(factor, expected.drawn["factor"].as_u64(), "{}: the factor", expected.place);
        }
        "loader" => expected.words(&loader(random, size(1), flag(2), call.get(3).and_then(Value::as_u64))),
        "linear" => {
            let has_bias = call.get(3).is_none_or(|bias| bias.as_bool().unwrap());
            let (weight, bias) = linear(random, size(1), size(2), has_bias);
            expected.inside("weight").f32s(&weight);
            if has_bias {
                expected.inside("bias").f32s(&bias);
            }
        }
        "linear_sweep" => {
            let ends = (1..size(1)).flat_map(|n| {
                let (weight, bias) = linear(random, n, 1, true);
                [weight[n - 1], bias[0]]
            });
            expected.f32s(&ends.collect::<Vec<_>>());
        }
        "embedding" => expected.f32s(&drawn(size(1) * size(2), |x| random.embedding(x))),
        "book" => book(random, flag(1), expected),
        other => panic!("{}: no such call: {other}", expected.place),
    }
}

#[test]
fn draws_what_torch_draws() {
    let json = std::fs::read_to_string(folder().join("torch_rng.json")).unwrap();
    let scripts: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(scripts.len() >= 16);
    for script in &scripts {
        let mut random = Generator::new(script["seed"].as_u64().unwrap());
        for (i, step) in script["calls"].as_array().unwrap().iter().enumerate() {
            let call = step["call"].as_array().unwrap();
            // A deserialized generator draws the same numbers.
            random = through_json(&random);
            let place = format!("seed {}, call {i} {}", script["seed"], step["call"]);
            run(&mut random, call, &Expected { place, drawn: &step["drawn"] });
        }
    }
}

fn through_json(random: &Generator) -> Generator {
    let read: Generator = serde_json::from_str(&serde_json::to_string(random).unwrap()).unwrap();
    assert_eq!(&read, random);
    read
}

/// The values published by M. Matsumoto and T. Nishimura for the seed 5489, as in the C++ standard ([rand.predef]).
#[test]
fn ten_thousandth_word() {
    let mut random = Generator::new(5489);
    let last = (0..10_000).map(|_| random.next_u32()).last();
    assert_eq!(last, Some(4_123_659_995));
}

#[test]
fn a_damaged_state_is_an_error_that_says_what() {
    let mut random = Generator::new(1);
    random.normal(0.0, 1.0, &mut [0.0]);
    let whole = serde_json::to_value(&random).unwrap();
    let damaged = |key: &str, value: Value| {
        let mut state = whole.clone();
        state[key] = value;
        serde_json::from_value::<Generator>(state).unwrap_err().to_string()
    };
    let too_few = damaged("words", vec![1; 623].into());
    assert!(too_few.contains("`words`: expected 624 numbers, found 623"), "{too_few}");
    let zero = damaged("words", vec![0; 624].into());
    assert!(zero.contains("`words`: expected some bits set"), "{zero}");
    let place = damaged("next", 625.into());
    assert!(place.contains("`next`: expected at most 624, found 625"), "{place}");
    let infinite = damaged("kept_normal", vec![0x7ff0_0000, 0].into());
    assert!(infinite.contains("`kept_normal`: expected the bits of a finite f64"), "{infinite}");
    damaged("words", "foreign".into());
    damaged("next", (-1).into());
    damaged("another", 1.into());
    assert_eq!(serde_json::from_value::<Generator>(whole.clone()).unwrap(), random);
}

/// A normal that was drawn with another and is kept for the next call is part of the state.
#[test]
fn a_saved_generator_draws_the_same() {
    for n_drawn in [4, 5] {
        let mut random = Generator::new(11);
        random.normal(0.0, 1.0, &mut vec![0.0; n_drawn]);
        let mut read = through_json(&random);
        let draw = |random: &mut Generator| drawn(2000, |x| x.chunks_mut(7).for_each(|x| random.normal(0.0, 1.0, x)));
        assert_eq!(draw(&mut random), draw(&mut read), "after {n_drawn}");
    }
}
