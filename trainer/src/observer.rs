//! Who asked for a run, a coordinator or a person: what the loop asks and tells them. Everything else of them is theirs.

use remaster_domain::{Checkpoint, OutputObject};

use crate::TrainError;

/// What the one who asked for the run wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Save what there is, then stop.
    Drain,
    /// Stop at once: somebody else may hold the run by now.
    Stop,
}

/// Who asked for the run.
pub trait Observer: Send {
    /// Asked before every step.
    fn wish(&self) -> Wish;
    /// Told after every step; must not block.
    fn report(&self, done: u64, total: u64, note: &str);
    /// Told of every checkpoint once it lies in the store.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] when the run is not ours any more, [`TrainError::Unrecorded`] when the checkpoint is not taken.
    fn record(&self, checkpoint: &Checkpoint, objects: &[OutputObject]) -> Result<(), TrainError>;
}
