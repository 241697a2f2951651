//! `calame bench products`: times each matrix product of a training step separately.

use std::time::Instant;

use anyhow::Result;
use calame::device::Workload;
use calame::model::ModelConfig;
use calame::ops::{self, Device, Epilogue, Phase};
use calame::rng;
use calame::tensor::{Alloc, Tensor};
use serde_json::json;

use super::args::StepArgs;
use crate::training::device;
use crate::training::peaks::{Peak, median};
use crate::ui::output::{print, print_json};
use crate::ui::verbosity;

/// A linear layer of the model and its number of calls per step.
struct Layer {
    name: &'static str,
    n_calls: f64,
    rows: usize,
    ins: usize,
    outs: usize,
}

/// One of the three matrix products of a layer: one in the forward pass and two in the backward pass.
#[derive(Clone, Copy)]
enum Product {
    Y,
    Dx,
    DWeight,
}

impl Product {
    const ALL: [Product; 3] = [Product::Y, Product::Dx, Product::DWeight];

    fn name(self) -> &'static str {
        match self {
            Product::Y => "y",
            Product::Dx => "dx",
            Product::DWeight => "dweight",
        }
    }
}

struct Timed {
    layer: &'static str,
    product: &'static str,
    n_calls: f64,
    n_operations: f64,
    seconds: f64,
}

pub fn run(args: &StepArgs) -> Result<()> {
    let (model, window) = args.shape()?;
    let (dev, resolved) = device::open(&args.device.config(), Workload::Training)?;
    let _phase = verbosity::phase("measuring");
    let mut peak = Peak::new(dev.precision());
    let mut timed = Vec::new();
    for layer in layers(&model, args.batch_size as usize * window) {
        let mut operands = Operands::new(&dev, &layer);
        for product in Product::ALL {
            let seconds = operands.time(&dev, product, args.steps, &mut peak);
            let n_operations = 2.0 * layer.rows as f64 * layer.ins as f64 * layer.outs as f64;
            timed.push(Timed {
                layer: layer.name,
                product: product.name(),
                n_calls: layer.n_calls,
                n_operations,
                seconds,
            });
        }
    }
    let total = |f: &dyn Fn(&Timed) -> f64| timed.iter().map(|t| t.n_calls * f(t)).sum::<f64>();
    let (n_operations, seconds, peak) =
        (total(&|t| t.n_operations), total(&|t| t.seconds), peak.operations_per_second());
    let share_of_peak = n_operations / seconds / peak;
    if args.json {
        let products: Vec<serde_json::Value> = timed
            .iter()
            .map(|t| json!({ "layer": t.layer, "product": t.product, "n_calls": t.n_calls, "ms": 1e3 * t.seconds }))
            .collect();
        return print_json(&json!({
            "preset": args.preset, "batch_size": args.batch_size, "window": window, "precision": resolved.precision,
            "threads": resolved.threads, "instruction_set": resolved.instruction_set, "products": products,
            "peak_operations_per_second": peak, "ms": 1e3 * seconds, "share_of_peak": share_of_peak,
        }));
    }
    print(&format!(
        "matrix products of a step of {}, batch {} x {window}, {} on {} threads ({}) {}\n\n{}\ntotal  {:.0} ms, \
         {:.1} GFLOP/s of {:.1}: {share_of_peak:.3} of the peak\n",
        args.preset,
        args.batch_size,
        resolved.precision,
        resolved.threads,
        resolved.instruction_set,
        device::describe_products(dev.isa(), dev.precision()),
        table(&timed, peak),
        1e3 * seconds,
        n_operations / seconds / 1e9,
        peak / 1e9
    ))
}

fn table(timed: &[Timed], peak: f64) -> String {
    let mut text =
        format!("{:12} {:8} {:>6} {:>9} {:>9} {:>6}\n", "layer", "product", "calls", "ms", "GFLOP/s", "share");
    for t in timed {
        let rate = t.n_operations / t.seconds;
        text += &format!(
            "{:12} {:8} {:6.1} {:9.2} {:9.1} {:6.2}\n",
            t.layer,
            t.product,
            t.n_calls,
            1e3 * t.seconds,
            rate / 1e9,
            rate / peak
        );
    }
    text
}

/// The linear layers of a model for `n_rows` tokens. The head processes the tokens in chunks.
fn layers(model: &ModelConfig, n_rows: usize) -> Vec<Layer> {
    let (c, inner, l) = (model.n_embd, model.inner_size(), model.n_layer);
    let layer = |name, ins, outs| Layer { name, n_calls: l as f64, rows: n_rows, ins, outs };
    let chunk = ops::chunk_rows(n_rows).min(n_rows);
    vec![
        layer("c_attn", c, 3 * c),
        layer("attn.c_proj", c, c),
        layer("c_fc", c, inner),
        layer("mlp.c_proj", inner, c),
        // The last chunk may be shorter and counts as a fraction of a call.
        Layer { name: "lm_head", n_calls: n_rows as f64 / chunk as f64, rows: chunk, ins: c, outs: model.vocab_size },
    ]
}

/// The operands and results of a layer's products.
struct Operands {
    x: Tensor,
    weight: Tensor,
    y: Tensor,
    dweight: Tensor,
}

impl Operands {
    fn new(dev: &Device, layer: &Layer) -> Operands {
        let Layer { rows, ins, outs, .. } = *layer;
        let filled = |index, dims: [usize; 2]| {
            let mut x = Alloc::on(dev).zeros(dims);
            ops::fill_uniform(dev, rng::stream(1, rng::Purpose::Weights, index), -1.0, 1.0, &mut x);
            x
        };
        Operands {
            x: filled(0, [rows, ins]),
            weight: filled(1, [outs, ins]),
            y: filled(2, [rows, outs]),
            dweight: filled(3, [outs, ins]),
        }
    }

    /// Returns the median time of `n` calls in seconds, after one warm-up call. Measures the peak before each call.
    fn time(&mut self, dev: &Device, product: Product, n: u32, peak: &mut Peak) -> f64 {
        let none = &mut Tensor::absent();
        let mut timed_call = || {
            peak.run(dev);
            let start = Instant::now();
            match product {
                Product::Y => {
                    let (x, y) = (self.x.view(), self.y.view_mut());
                    let epilogue = Epilogue::None;
                    ops::linear_forward(dev, Phase::LinearForward, x, &self.weight, none, false, y, epilogue);
                }
                Product::Dx => ops::linear_backward_input(dev, &self.y, &self.weight, false, &mut self.x),
                Product::DWeight => ops::linear_backward_weight(dev, &self.y, &self.x, &mut self.dweight, none),
            }
            start.elapsed().as_secs_f64()
        };
        timed_call();
        median((0..n).map(|_| timed_call()).collect())
    }
}
