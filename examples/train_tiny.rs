//! Trains a small model on a text file and saves it: `cargo run --release --example train_tiny -- story.txt runs/tiny`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use calame::data::Splits;
use calame::device::Workload;
use calame::infer::{TextOptions, generate_text};
use calame::model::Preset;
use calame::run::Recorder;
use calame::train::{RunConfig, Trainer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, run] = &arguments[..] else {
        return Err("expected two arguments: a text file and a folder for the run".into());
    };
    let text = std::fs::read_to_string(file)?;

    let mut config = RunConfig::of_preset(Preset::Tiny);
    config.train.epochs = 3;
    let tokenizer = config.tokenizer.build(&text)?;
    config.model.vocab_size = tokenizer.n_vocab();
    let (dev, resolved) = config.device.resolve(Workload::Training, None)?;
    config.device = resolved;
    config.validate()?;
    config.validate_tokenizer(tokenizer.as_ref())?;

    let splits = Splits::from_text(&text, tokenizer.as_ref(), &config.data)?;
    config.fit_batches(&splits)?;
    let mut trainer = Trainer::fresh(&dev, &config, splits);
    println!("{} parameters, {} steps, {dev:?}", config.model.n_parameters(), trainer.n_steps_total());

    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    let words = tokenizer.clone();
    let mut recorder = Recorder::create(Path::new(run), &config, tokenizer, false, clock)?.with_samples(
        &config.sample.prompt,
        move |dev, gpt, prompt| {
            let options = TextOptions { max_tokens: 30, ..TextOptions::default() };
            generate_text(dev, gpt, words.as_ref(), prompt, &options).inspect(|text| println!("{text}"))
        },
    );
    let outcome = recorder.train(&mut trainer)?;
    for warning in recorder.listener().texts() {
        eprintln!("warning: {warning}");
    }
    println!("{outcome:?}: the model, its metrics and the loss plot are in {run}");
    Ok(())
}
