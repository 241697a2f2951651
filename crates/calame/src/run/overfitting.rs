//! Detects from a run's evaluations that the model memorises its text instead of learning from it.

use super::metrics::Record;

/// Number of evaluations over which the validation loss must have risen.
const SEVERAL: usize = 3;
/// Nats per token by which a loss must have changed; evaluations over a few batches vary by less.
const NOTICEABLE: f32 = 0.02;

/// The course of a run that memorises its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overfitting {
    /// The step of the evaluation with the lowest validation loss, from 0.
    pub best_step: u64,
    /// The lowest validation loss, in nats per token.
    pub best_val_loss: f32,
    /// The last validation loss, in nats per token.
    pub last_val_loss: f32,
}

/// Whether the training loss has fallen since the best evaluation while the validation loss has been higher in at least
/// three evaluations. In its first epoch a model sees every passage for the first time and cannot memorise it, whatever
/// the validation loss does.
pub fn overfitting(records: &[Record]) -> Option<Overfitting> {
    let evaluations: Vec<(u64, u64, f32, f32)> = records
        .iter()
        .filter_map(|record| match *record {
            Record::Evaluation { step, epoch, train_loss, val_loss, .. } => Some((step, epoch, train_loss, val_loss)),
            _ => None,
        })
        .collect();
    let is_finite = |(_, (_, _, train, val)): &(usize, &(u64, u64, f32, f32))| train.is_finite() && val.is_finite();
    let finite = evaluations.iter().enumerate().filter(is_finite);
    let (best, &(best_step, _, train_at_best, best_val_loss)) = finite.min_by(|a, b| a.1.3.total_cmp(&b.1.3))?;
    let since = &evaluations[best + 1..];
    let &(_, epoch, last_train_loss, last_val_loss) = since.last()?;
    let risen = |(_, _, _, val): &(u64, u64, f32, f32)| *val > best_val_loss + NOTICEABLE;
    let is_overfitting = since.len() >= SEVERAL
        && since[since.len() - SEVERAL..].iter().all(risen)
        && last_train_loss < train_at_best - NOTICEABLE
        && epoch > 1;
    is_overfitting.then_some(Overfitting { best_step, best_val_loss, last_val_loss })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An evaluation at every fifth step of epochs of ten steps.
    fn records(losses: &[(f32, f32)]) -> Vec<Record> {
        let record = |(i, &(train_loss, val_loss)): (usize, &(f32, f32))| {
            let step = 5 * i as u64;
            Record::Evaluation {
                step,
                epoch: step / 10 + 1,
                train_loss,
                val_loss,
                val_bits_per_byte: None,
                n_tokens_seen: step,
                seconds: 1.0,
            }
        };
        losses.iter().enumerate().map(record).collect()
    }

    #[test]
    fn a_training_loss_that_falls_while_validation_rises_is_found() {
        let found = overfitting(&records(&[(9.0, 9.1), (5.0, 6.0), (4.0, 6.1), (3.0, 6.2), (2.0, 6.3)]));
        assert_eq!(found, Some(Overfitting { best_step: 5, best_val_loss: 6.0, last_val_loss: 6.3 }));
    }

    #[test]
    fn other_courses_are_none() {
        let none = |losses: &[(f32, f32)]| assert_eq!(overfitting(&records(losses)), None, "{losses:?}");
        none(&[]);
        // Both fall.
        none(&[(9.0, 9.1), (5.0, 6.0), (4.0, 5.5), (3.0, 5.3), (2.0, 5.2)]);
        // One or two evaluations above the best are chance.
        none(&[(9.0, 9.1), (5.0, 6.0), (4.0, 5.5), (3.0, 5.6), (2.0, 5.7)]);
        // Both rise: the learning rate is too high.
        none(&[(9.0, 9.1), (5.0, 6.0), (5.1, 6.1), (5.2, 6.2), (5.3, 6.3)]);
        // Validation is flat.
        none(&[(9.0, 9.1), (5.0, 6.0), (4.0, 6.01), (3.0, 6.01), (2.0, 6.01)]);
        // It rose and is falling again.
        none(&[(9.0, 9.1), (5.0, 6.0), (4.0, 6.3), (3.0, 6.2), (2.0, 6.01)]);
        none(&[(f32::NAN, f32::NAN); 5]);
        none(&[(9.0, 9.0), (5.0, 6.0), (f32::NAN, f32::NAN), (f32::NAN, f32::NAN), (f32::NAN, f32::NAN)]);
    }

    #[test]
    fn a_single_epoch_memorises_nothing() {
        let mut records = records(&[(9.0, 9.1), (5.0, 6.0), (4.0, 6.1), (3.0, 6.2), (2.0, 6.3)]);
        for record in &mut records {
            if let Record::Evaluation { epoch, .. } = record {
                *epoch = 1;
            }
        }
        assert_eq!(overfitting(&records), None);
    }
}
