//! Runs an ONNX export of calame with tract and compares the logits of a prompt, in one pass and token by token through
//! the cache, with those of `calame logits`.
//!
//! `cargo run -- EXPORT/model.onnx 15496,11,466 logits.safetensors`. Exit code 0: both agree within 1e-3; otherwise an
//! error.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{DimLike, TractErrorContext, bail, ensure};

const TOLERANCE: f32 = 1e-3;
/// Number of inputs before those of the cache: ids, mask, positions.
const N_FIRST: usize = 3;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, ids, logits] = args.as_slice() else {
        bail!("expected: EXPORT/model.onnx IDS LOGITS.safetensors, found {args:?}");
    };
    let ids = ids.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let expected = read_logits(Path::new(logits))?;
    let path = Path::new(path);
    let at_once = run(path, &ids, empty_cache(path)?)?.0;
    let (mut one_by_one, mut cache) = (Vec::new(), empty_cache(path)?);
    for &id in &ids {
        let (logits, longer) = run(path, &[id], cache)?;
        one_by_one.extend(logits);
        cache = longer;
    }
    for (what, found) in [("at once", at_once), ("token by token", one_by_one)] {
        ensure!(found.len() == expected.len(), "{what}: expected {} logits, found {}", expected.len(), found.len());
        let gaps = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        // A NaN counts as a difference.
        let gap = gaps.fold(0.0, |most: f32, gap| if gap > most || gap.is_nan() { gap } else { most });
        println!("{what}: max |a - b| = {gap:.2e}, allowed {TOLERANCE:.0e}");
        ensure!(gap <= TOLERANCE, "{what}: logits differ by {gap}");
    }
    println!("passed");
    Ok(())
}

/// Keys and values without any position, [1, NH, 0, HS] each.
fn empty_cache(path: &Path) -> TractResult<Vec<Tensor>> {
    let model = load(path)?;
    let mut cache = Vec::new();
    for i in N_FIRST..model.input_outlets()?.len() {
        let shape = &model.input_fact(i)?.shape;
        let size = |axis: usize| {
            let dim = shape.dim(axis).and_then(|dim| dim.concretize());
            dim.context("a size of the cache")?.to_usize()
        };
        cache.push(Tensor::zero::<f32>(&[1, size(1)?, 0, size(3)?])?);
    }
    Ok(cache)
}

/// Returns the logits [T, V] of new tokens and the extended cache.
///
/// The graph is prepared anew for each shape, because tract 0.22 does not accept it with symbolic sizes.
fn run(path: &Path, ids: &[i64], cache: Vec<Tensor>) -> TractResult<(Vec<f32>, Vec<Tensor>)> {
    let (n_new, n_past) = (ids.len(), cache[0].shape()[2]);
    let positions: Vec<i64> = (n_past..n_past + n_new).map(|position| position as i64).collect();
    let mut inputs = vec![
        Tensor::from_shape(&[1, n_new], ids)?,
        Tensor::from_shape(&[1, n_past + n_new], &vec![1i64; n_past + n_new])?,
        Tensor::from_shape(&[1, n_new], &positions)?,
    ];
    inputs.extend(cache);
    let mut model = load(path)?;
    for (i, input) in inputs.iter().enumerate() {
        model.set_input_fact(i, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    let runnable = model.into_optimized()?.into_runnable()?;
    let outputs = runnable.run(inputs.into_iter().map(Tensor::into_tvalue).collect())?;
    let mut outputs = outputs.into_iter().map(TValue::into_tensor);
    let logits = outputs.next().context("logits")?;
    Ok((logits.as_slice::<f32>()?.to_vec(), outputs.collect()))
}

fn load(path: &Path) -> TractResult<InferenceModel> {
    // The outputs' sizes are symbolic, and tract would compare the symbols with the numbers of this run.
    tract_onnx::onnx().with_ignore_output_shapes(true).model_for_path(path)
}

fn read_logits(path: &Path) -> TractResult<Vec<f32>> {
    let bytes = fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let logits = file.tensor("logits")?;
    Ok(logits.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect())
}
