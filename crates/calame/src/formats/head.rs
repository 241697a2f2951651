//! Whether a model's head is the token embedding.

use super::CheckpointError;
use super::names::{Meaning, Naming};
use super::opened::Opened;
use super::source::TensorSource;

impl Opened {
    /// Compares a stored head with the token embedding, where the configuration calls it tied: the head in the file decides.
    ///
    /// # Errors
    /// If the system refuses to read them.
    pub fn settle_head(&mut self) -> Result<(), CheckpointError> {
        if !self.config.tied_head {
            return Ok(());
        }
        let tensors = self.source.tensors();
        let naming = Naming::of(tensors.iter().map(|t| t.name.as_str()));
        let find = |ours: &str| {
            let is_it = |name: &str| matches!(naming.meaning(name), Meaning::Whole(name) if name == ours);
            tensors.iter().position(|t| !t.is_empty() && is_it(&t.name))
        };
        let (Some(head), Some(wte)) = (find("lm_head.weight"), find("wte.weight")) else { return Ok(()) };
        if is_same(self.source.as_ref(), head, wte)? {
            return Ok(());
        }
        if self.says_tied {
            let [head, wte] = [head, wte].map(|i| &tensors[i].name);
            let note = format!(
                "the model is said to have the token embedding as its head, but {head} differs from {wte}: {head} is used"
            );
            self.notes.push(note);
        }
        self.config.tied_head = false;
        Ok(())
    }
}

/// Whether two tensors have the same elements.
fn is_same(source: &dyn TensorSource, a: usize, b: usize) -> Result<bool, CheckpointError> {
    let (of_a, of_b) = (&source.tensors()[a], &source.tensors()[b]);
    let Some(n) = of_a.n_elements().filter(|_| of_a.shape == of_b.shape && of_a.is_float && of_b.is_float) else {
        return Ok(false);
    };
    if source.shares(a, b) {
        return Ok(true);
    }
    if of_a.format.is_some() && of_a.format == of_b.format {
        let [x, y] = [(a, of_a), (b, of_b)].map(|(i, tensor)| {
            let mut bytes = vec![0; tensor.file_bytes as usize];
            source.read_raw(i, &mut bytes).map(|()| bytes)
        });
        return Ok(x? == y?);
    }
    let [x, y] = [a, b].map(|i| {
        let mut numbers = vec![0.0; n];
        source.read(i, &mut numbers).map(|()| numbers)
    });
    Ok(x? == y?)
}
