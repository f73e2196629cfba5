//! The checkpoints of a local run: a list of the last few, newest last. Older ones are removed once a newer one is
//! whole; one that was damaged since is passed over for the one before.

use std::path::{Path, PathBuf};

use remaster_domain::Checkpoint;
use remaster_store::{Key, Store};
use serde::Deserialize;
use tracing::warn;

use crate::TrainError;
use crate::checkpoint;

/// Names the kept checkpoints of the folder.
const LIST_FILE: &str = "latest.json";

/// The checkpoints in one folder.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
    count: usize,
}

/// Version 1 of the list named a single checkpoint.
#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Several(Vec<Checkpoint>),
    One(Checkpoint),
}

impl Kept {
    /// The last `count` of a folder laid out like a store.
    #[must_use]
    pub fn of(folder: &Path, count: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            count,
        }
    }

    /// Puts a checkpoint last and removes what is too old.
    ///
    /// # Errors
    /// [`TrainError::File`] when the list cannot be written.
    pub fn add(&self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let mut list = self.list()?;
        list.retain(|other| other.sha256 != checkpoint.sha256);
        list.push(checkpoint.clone());
        let old: Vec<_> = list.drain(..list.len().saturating_sub(self.count)).collect();
        let json = serde_json::to_vec(&list).expect("checkpoints are plain data");
        // Beside it first: a crash leaves the old list or the new one, never half of it.
        let (path, aside) = (self.path(), self.path().with_extension("part"));
        std::fs::write(&aside, json).map_err(at(&aside))?;
        std::fs::rename(&aside, &path).map_err(at(&path))?;
        for checkpoint in old {
            let state = self
                .folder
                .join(Key::checkpoint_state(&checkpoint.sha256).as_str());
            // What cannot be removed costs space, not the run.
            let removed = state.parent().map(std::fs::remove_dir_all);
            if let Some(Err(error)) = removed {
                warn!(checkpoint = checkpoint.sha256.short(), %error, "an old checkpoint stays");
            }
        }
        Ok(())
    }

    /// The newest that is whole; `None` before the first.
    ///
    /// # Errors
    /// Why the oldest of them cannot be read, where none is whole.
    pub async fn newest_whole(&self, store: &Store) -> Result<Option<Checkpoint>, TrainError> {
        let mut failed = None;
        for candidate in self.list()?.into_iter().rev() {
            match checkpoint::read(store, &candidate.sha256).await {
                Ok(_) => return Ok(Some(candidate)),
                Err(error) => {
                    warn!(step = candidate.step, %error, "this checkpoint is not taken");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn list(&self) -> Result<Vec<Checkpoint>, TrainError> {
        let path = self.path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(at(&path)(error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(List::Several(list)) => Ok(list),
            Ok(List::One(checkpoint)) => Ok(vec![checkpoint]),
            Err(error) => Err(TrainError::Checkpoint(format!(
                "list {}: {error}",
                path.display()
            ))),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(LIST_FILE)
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::File { path, source }
}
