//! Continues a prompt with a saved model: `cargo run --release --example generate -- runs/tiny "Every effort"`.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use calame::device::Device;
use calame::formats::load_model;
use calame::infer::{SamplerConfig, TextGeneration, TextOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt] = &arguments[..] else {
        return Err("expected two arguments: a run or a model's folder, and a prompt".into());
    };
    let saved = load_model(Path::new(model))?;
    let tokenizer = saved.tokenizer.ok_or("the model has no tokenizer.json")?;

    let dev = Device::default_cpu();
    let sampler = SamplerConfig { temperature: 0.8, top_k: 50, ..SamplerConfig::default() };
    let options = TextOptions { sampler, max_tokens: 60, ..TextOptions::default() };
    let generation = TextGeneration::new(&dev, &saved.gpt, tokenizer.as_ref(), prompt, &options)?;

    // The text appears as it is made.
    print!("{}", generation.prompt_text());
    for piece in generation {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
