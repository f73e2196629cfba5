//! Why a run ended early, as far as somebody acts on it: stop asking, try again, or tell the user what is wrong.

use remaster_domain::FailureClass;
use remaster_model::ModelError;
use remaster_store::StoreError;

/// Why a run or a publication failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A recipe that cannot be used.
    #[error("recipe: {0}")]
    Recipe(String),
    /// A dataset that cannot be trained on.
    #[error("dataset: {0}")]
    Dataset(String),
    /// A part of the dataset that the store does not have, or not whole.
    #[error("dataset: {0}")]
    DatasetObject(StoreError),
    /// More pairs than a sound dataset has could not be read.
    #[error("{count} of {of} pairs cannot be used, last `{key}`: {reason}; extract the season again")]
    TooManyDamaged {
        /// Pairs that could not be used so far.
        count: usize,
        /// Pairs to train on.
        of: usize,
        /// The last one.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A loss that is no number any more.
    #[error("{loss} is {value} at step {step}: the run has diverged; lower the learning rate of its stage")]
    Diverged {
        /// The loss.
        loss: &'static str,
        /// What it is.
        value: f32,
        /// Where.
        step: u64,
    },
    /// Pictures that went flat.
    #[error(
        "the generator's pictures went flat by step {step}, with {loss} at {value}: the run has collapsed; lower the \
         learning rate or that loss's weight"
    )]
    Collapsed {
        /// Where.
        step: u64,
        /// The largest of the generator's losses.
        loss: &'static str,
        /// What it is.
        value: f32,
    },
    /// Batches that memory cannot hold.
    #[error(
        "batch_size {batch_size} with LR crops of {lq_size_px} px needs about {needed_mib} MiB, but {budget_mib} MiB \
         may be held: {advice}"
    )]
    TooLarge {
        /// Crops in a batch.
        batch_size: usize,
        /// Side of an LR crop.
        lq_size_px: u32,
        /// What it would take.
        needed_mib: u64,
        /// What there is.
        budget_mib: u64,
        /// What would fit.
        advice: String,
    },
    /// A checkpoint that is not of this run.
    #[error("checkpoint {0}")]
    Checkpoint(String),
    /// A checkpoint that the coordinator did not take.
    #[error("{0}")]
    Unrecorded(String),
    /// Told to stop.
    #[error("stopped before its end")]
    Stopped,
    /// The network or its weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A local file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of this process ended that should not have.
    #[error("{0} ended abruptly")]
    Broken(&'static str),
}

impl TrainError {
    /// Whether another attempt may go well here, as things are.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Unrecorded(_) | Self::Stopped | Self::File { .. } | Self::Broken(_) => true,
            _ => false,
        }
    }

    /// What a coordinator should make of it. Only what is wrong with the recipe, the dataset or the weights is wrong everywhere:
    /// another trainer may have the memory and the device, and an object may be whole on the next read, or be made again.
    #[must_use]
    pub const fn failure_class(&self) -> FailureClass {
        match self {
            Self::TooLarge { .. }
            | Self::Store(_)
            | Self::DatasetObject(_)
            | Self::Model(ModelError::Device(_) | ModelError::NoGpu { .. } | ModelError::File { .. }) => {
                FailureClass::Retryable
            }
            error if error.is_retryable() => FailureClass::Retryable,
            _ => FailureClass::BadInput,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_trainer_may_have_is_no_fault_of_the_recipe() {
        let too_large = TrainError::TooLarge {
            batch_size: 16,
            lq_size_px: 64,
            needed_mib: 9_000,
            budget_mib: 1_000,
            advice: "set batch_size to 1".to_owned(),
        };
        let missing = StoreError::NotFound {
            key: "checkpoints/x".to_owned(),
        };
        let damaged = StoreError::Damaged {
            key: "shards/x".to_owned(),
            reason: "half of it".to_owned(),
        };
        let damaged = TrainError::DatasetObject(damaged);
        let no_gpu = ModelError::NoGpu { index: 0, seen: 0 };
        for error in [too_large, missing.into(), damaged, no_gpu.into()] {
            assert_eq!(error.failure_class(), FailureClass::Retryable, "{error}");
        }
        let recipe = TrainError::Recipe("no stage".to_owned());
        let weights = TrainError::Model(ModelError::Format("half a file".to_owned()));
        for error in [recipe, weights] {
            assert_eq!(error.failure_class(), FailureClass::BadInput, "{error}");
        }
    }
}
