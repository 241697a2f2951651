//! GPT-2 as an ONNX graph with a cache of keys and values.
//!
//! Letters: B sequences, T new positions, P positions in the cache, S = P + T; C, NH, HS, V as everywhere else. The
//! cache may be empty (P = 0). Except for the mask, the graph computes the same as `model/`, node by node.

use super::graph::{Dim, Graph, value};
use super::proto::{AttributeProto, BOOL, FLOAT, GraphProto, INT32, INT64, TensorProto, ValueInfoProto};
use crate::model::{Activation, ModelConfig};

const BATCH: Dim<'_> = Dim::Free("batch_size");
const NEW: Dim<'_> = Dim::Free("sequence_length");
const PAST: Dim<'_> = Dim::Free("past_sequence_length");
const ALL: Dim<'_> = Dim::Free("past_sequence_length + sequence_length");

/// The whole graph; `weights` are its parameters under our names.
pub(super) fn graph(config: &ModelConfig, weights: Vec<TensorProto>) -> GraphProto {
    let mut gpt = Gpt2 { config, g: Graph::default() };
    gpt.constants();
    gpt.mask();
    let mut x = gpt.embedding();
    for i in 0..config.n_layer {
        x = gpt.block(i, &x);
    }
    gpt.head(&x);
    let mut initializer = weights;
    initializer.append(&mut gpt.g.constants);
    GraphProto {
        node: gpt.g.nodes,
        name: "gpt2".to_owned(),
        initializer,
        input: inputs(config),
        output: outputs(config),
    }
}

fn inputs(config: &ModelConfig) -> Vec<ValueInfoProto> {
    let mut inputs = vec![
        value("input_ids", INT64, &[BATCH, NEW]),
        value("attention_mask", INT64, &[BATCH, ALL]),
        value("position_ids", INT64, &[BATCH, NEW]),
    ];
    inputs.extend(cache(config, "past_key_values", PAST));
    inputs
}

fn outputs(config: &ModelConfig) -> Vec<ValueInfoProto> {
    let mut outputs = vec![value("logits", FLOAT, &[BATCH, NEW, Dim::Fixed(config.vocab_size)])];
    outputs.extend(cache(config, "present", ALL));
    outputs
}

/// Keys and values of every block, [B, NH, `len`, HS] each.
fn cache<'a>(config: &ModelConfig, prefix: &str, len: Dim<'a>) -> impl Iterator<Item = ValueInfoProto> + use<'a> {
    let dims = [BATCH, Dim::Fixed(config.n_head), len, Dim::Fixed(config.head_size())];
    let prefix = prefix.to_owned();
    let names = (0..config.n_layer).flat_map(move |i| ["key", "value"].map(|what| format!("{prefix}.{i}.{what}")));
    names.map(move |name| value(&name, FLOAT, &dims))
}

fn int(name: &str, i: i64) -> Vec<AttributeProto> {
    vec![AttributeProto::int(name, i)]
}

fn permuted(order: &[i64]) -> Vec<AttributeProto> {
    vec![AttributeProto::ints("perm", order)]
}

/// The constant that multiplies the queries of block `i`.
fn query_scale(config: &ModelConfig, i: usize) -> String {
    if config.attention_scale().is_uniform() { "query.scale".to_owned() } else { format!("query.scale.{i}") }
}

struct Gpt2<'a> {
    config: &'a ModelConfig,
    g: Graph,
}

impl Gpt2<'_> {
    fn constants(&mut self) {
        let (c, n_head, head_size) = (self.config.n_embd, self.config.n_head, self.config.head_size());
        let g = &mut self.g;
        g.int("int.1", 1);
        g.int("int.2", 2);
        g.int32("position.0", 0);
        g.int32("position.1", 1);
        g.ints("axis.1", &[1]);
        g.ints("axes.1.2", &[1, 2]);
        // In a shape, 0 copies the input's dimension and -1 infers it. (Tract misreads a second 0.)
        g.ints("shape.heads", &[0, -1, n_head as i64, head_size as i64]);
        g.ints("shape.merged", &[0, -1, c as i64]);
        g.ints("shape.rows", &[-1, c as i64]);
        g.ints("shape.vocab", &[self.config.vocab_size as i64]);
        g.float("float.0", 0.0);
        if self.config.activation != Activation::Relu {
            g.float("float.1", 1.0);
            g.float("float.half", 0.5);
        }
        // Not minus infinity: a padded row sees no key at all, and its NaN would spread through the cache.
        g.float("float.lowest", f32::MIN);
        match self.config.activation {
            Activation::GeluTanh => {
                g.float("gelu.cube", 0.044_715);
                g.float("gelu.scale", (2.0 / std::f64::consts::PI).sqrt() as f32);
            }
            Activation::Gelu => g.float("gelu.scale", std::f32::consts::FRAC_1_SQRT_2),
            Activation::Relu => {}
        }
        let scale = self.config.attention_scale();
        let n_scales = if scale.is_uniform() { 1 } else { self.config.n_layer };
        for i in 0..n_scales {
            g.float(&query_scale(self.config, i), scale.of(i));
        }
    }

    /// `mask` [B, 1, T, S], which is added to the scores: 0 if the query at P + t may see the key at s, that is if s ≤
    /// P + t and attention_mask[s] ≠ 0; otherwise the lowest float.
    ///
    /// Positions are 32-bit, because tract uses a symbolic type for 64-bit sizes that its Range does not support.
    fn mask(&mut self) {
        let g = &mut self.g;
        g.add("Shape", &["input_ids"], "new.shape", vec![]);
        g.add("Shape", &["past_key_values.0.key"], "past.shape", vec![]);
        g.add("Gather", &["new.shape", "int.1"], "n_new", vec![]);
        g.add("Gather", &["past.shape", "int.2"], "n_past", vec![]);
        g.add("Add", &["n_past", "n_new"], "n_all", vec![]);
        g.add("Cast", &["n_past"], "position.past", int("to", i64::from(INT32)));
        g.add("Cast", &["n_all"], "position.end", int("to", i64::from(INT32)));
        g.add("Range", &["position.0", "position.end", "position.1"], "keys", vec![]);
        g.add("Range", &["position.past", "position.end", "position.1"], "queries", vec![]);
        g.add("Unsqueeze", &["queries", "axis.1"], "queries.column", vec![]);
        g.add("LessOrEqual", &["keys", "queries.column"], "causal", vec![]);
        g.add("Cast", &["attention_mask"], "attended", int("to", i64::from(BOOL)));
        g.add("Unsqueeze", &["attended", "axes.1.2"], "attended.keys", vec![]);
        g.add("And", &["causal", "attended.keys"], "visible", vec![]);
        g.add("Where", &["visible", "float.0", "float.lowest"], "mask", vec![]);
    }

    /// Token plus position embedding, [B, T, C].
    fn embedding(&mut self) -> String {
        let token = self.g.add("Gather", &["wte.weight", "input_ids"], "wte", vec![]);
        let position = self.g.add("Gather", &["wpe.weight", "position_ids"], "wpe", vec![]);
        self.g.add("Add", &[&token, &position], "embedding", vec![])
    }

    /// x = x + attn(ln_1(x)); x = x + mlp(ln_2(x)).
    fn block(&mut self, i: usize, x: &str) -> String {
        let h = format!("h.{i}");
        let normed = self.layer_norm(&format!("{h}.ln_1"), x);
        let y = self.attention(i, &normed);
        let x = self.g.add("Add", &[x, &y], &format!("{h}.middle"), vec![]);
        let normed = self.layer_norm(&format!("{h}.ln_2"), &x);
        let y = self.mlp(&format!("{h}.mlp"), &normed);
        self.g.add("Add", &[&x, &y], &h, vec![])
    }

    fn layer_norm(&mut self, name: &str, x: &str) -> String {
        let epsilon = self.config.layer_norm_epsilon;
        let settings = vec![AttributeProto::int("axis", -1), AttributeProto::float("epsilon", epsilon)];
        let [weight, bias] = ["weight", "bias"].map(|what| format!("{name}.{what}"));
        let inputs: &[&str] = if self.config.bias { &[x, &weight, &bias] } else { &[x, &weight] };
        self.g.add("LayerNormalization", inputs, name, settings)
    }

    /// x·W + bias, W [in, out].
    fn linear(&mut self, name: &str, x: &str, has_bias: bool) -> String {
        let weight = format!("{name}.weight");
        if !has_bias {
            return self.g.add("MatMul", &[x, &weight], name, vec![]);
        }
        let y = self.g.add("MatMul", &[x, &weight], &format!("{name}.product"), vec![]);
        self.g.add("Add", &[&y, &format!("{name}.bias")], name, vec![])
    }

    /// softmax(s·q·kᵀ + mask)·v, with the scale s, over the cache's keys and values and the new ones, which become
    /// `present`.
    fn attention(&mut self, i: usize, x: &str) -> String {
        let at = format!("h.{i}.attn");
        let name = |what: &str| format!("{at}.{what}");
        let qkv = self.linear(&name("c_attn"), x, self.config.has_qkv_bias());
        let parts = ["q", "k", "v"].map(name);
        let outputs = [parts[0].as_str(), &parts[1], &parts[2]];
        self.g.add_several("Split", &[&qkv], &name("split"), &outputs, int("axis", 2));
        // [B, T, C] to [B, NH, T, HS].
        let [q, k, v] = parts.map(|part| {
            let apart = self.g.add("Reshape", &[&part, "shape.heads"], &format!("{part}.apart"), vec![]);
            self.g.add("Transpose", &[&apart], &format!("{part}.heads"), permuted(&[0, 2, 1, 3]))
        });
        // Keys and values with the cache prepended, [B, NH, S, HS].
        let [k, v] = [("key", k), ("value", v)].map(|(what, new)| {
            let past = format!("past_key_values.{i}.{what}");
            self.g.add("Concat", &[&past, &new], &format!("present.{i}.{what}"), int("axis", 2))
        });
        let g = &mut self.g;
        let q = g.add("Mul", &[&q, &query_scale(self.config, i)], &name("q.scaled"), vec![]);
        let k = g.add("Transpose", &[&k], &name("k.transposed"), permuted(&[0, 1, 3, 2]));
        let scores = g.add("MatMul", &[&q, &k], &name("scores"), vec![]);
        let masked = g.add("Add", &[&scores, "mask"], &name("masked"), vec![]);
        let weights = g.add("Softmax", &[&masked], &name("weights"), int("axis", -1));
        let y = g.add("MatMul", &[&weights, &v], &name("y"), vec![]);
        let y = g.add("Transpose", &[&y], &name("y.apart"), permuted(&[0, 2, 1, 3]));
        let y = g.add("Reshape", &[&y, "shape.merged"], &name("y.merged"), vec![]);
        self.linear(&name("c_proj"), &y, self.config.bias)
    }

    fn mlp(&mut self, name: &str, x: &str) -> String {
        let bias = self.config.bias;
        let x = self.linear(&format!("{name}.c_fc"), x, bias);
        let x = match self.config.activation {
            Activation::GeluTanh => self.gelu_tanh(&format!("{name}.gelu"), &x),
            Activation::Gelu => self.gelu(&format!("{name}.gelu"), &x),
            Activation::Relu => self.g.add("Relu", &[&x], &format!("{name}.relu"), vec![]),
        };
        self.linear(&format!("{name}.c_proj"), &x, bias)
    }

    /// ½x·(1 + erf(x/√2)), which runtimes recognise and fuse too.
    fn gelu(&mut self, at: &str, x: &str) -> String {
        let name = |what: &str| format!("{at}.{what}");
        let g = &mut self.g;
        let scaled = g.add("Mul", &["gelu.scale", x], &name("scaled"), vec![]);
        let erf = g.add("Erf", &[&scaled], &name("erf"), vec![]);
        let gate = g.add("Add", &["float.1", &erf], &name("gate"), vec![]);
        let half = g.add("Mul", &["float.half", x], &name("half"), vec![]);
        g.add("Mul", &[&half, &gate], at, vec![])
    }

    /// ½x·(1 + tanh(√(2/π)·x·(1 + 0.044715·x²))), built from basic operators: the Gelu operator exists only since opset
    /// 20 (2023), and runtimes recognise and fuse this form.
    fn gelu_tanh(&mut self, at: &str, x: &str) -> String {
        let name = |what: &str| format!("{at}.{what}");
        let g = &mut self.g;
        let cube = g.add("Mul", &["gelu.cube", x], &name("cube"), vec![]);
        let cube = g.add("Mul", &[&cube, x], &name("squares"), vec![]);
        let cube = g.add("Add", &["float.1", &cube], &name("factor"), vec![]);
        let scaled = g.add("Mul", &["gelu.scale", x], &name("scaled"), vec![]);
        let inner = g.add("Mul", &[&cube, &scaled], &name("inner"), vec![]);
        let tanh = g.add("Tanh", &[&inner], &name("tanh"), vec![]);
        let tanh = g.add("Add", &["float.1", &tanh], &name("gate"), vec![]);
        let half = g.add("Mul", &["float.half", x], &name("half"), vec![]);
        g.add("Mul", &[&half, &tanh], at, vec![])
    }

    /// logits [B, T, V]: a matrix product with the transposed [V, C], so that a tied head can use the token embedding
    /// itself.
    fn head(&mut self, x: &str) {
        let head = if self.config.tied_head { "wte.weight" } else { "lm_head.weight" };
        let x = self.layer_norm("ln_f", x);
        let g = &mut self.g;
        let rows = g.add("Reshape", &[&x, "shape.rows"], "ln_f.rows", vec![]);
        let logits = g.add("Gemm", &[&rows, head], "logits.rows", int("transB", 1));
        let shape = g.add("Concat", &["new.shape", "shape.vocab"], "logits.shape", int("axis", 0));
        g.add("Reshape", &[&logits, &shape], "logits", vec![]);
    }
}
