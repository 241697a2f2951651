//! The samples of both parts of a text.

use crate::data::{DataConfig, Loader, LoaderError, Windows};

/// The samples of both splits.
#[derive(Debug)]
pub struct Splits {
    /// Trained on, in a new order every epoch.
    pub train: Loader,
    /// The same samples, for the training loss of evaluations: in their order, but where the run follows a PyTorch script.
    pub train_evaluated: Loader,
    /// Never trained on.
    pub validation: Loader,
}

impl Splits {
    /// Batches of both parts as a run's section `[data]` says: evaluations take `eval_batch_size` windows and no window is
    /// left out of them.
    ///
    /// # Errors
    /// If a part has not one batch.
    pub fn new(train: Windows, validation: Windows, data: &DataConfig) -> Result<Splits, LoaderError> {
        let data = data.resolved();
        let of_training = |error: LoaderError| error.in_part("the training part");
        Ok(Splits {
            train_evaluated: Loader::new(train.clone(), data.eval_batch_size, false).map_err(of_training)?,
            train: Loader::new(train, data.batch_size, data.drop_last).map_err(of_training)?,
            validation: Loader::new(validation, data.eval_batch_size, false)
                .map_err(|error| error.in_part("the validation part"))?,
        })
    }
}
