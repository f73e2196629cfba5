//! A folder for half-made things, one per worker. What a killed worker left behind is removed by the next one to start, which
//! goes on under its id.

use std::path::{Path, PathBuf};

use remaster_domain::WorkerId;
use remaster_service::Life;

use crate::error::WorkError;

/// This worker's folder; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    life: Life<WorkerId>,
}

impl Scratch {
    /// Makes the folder under `root`, as that of a worker that was killed if there is any, else as `new`; removes what others
    /// left that were killed.
    pub(crate) fn create(root: &Path, new: WorkerId) -> Result<Self, WorkError> {
        let at_root = |error: std::io::Error| WorkError::of_file(root, &error);
        let life = Life::begin(root, new).map_err(at_root)?;
        remove(root, life.name());
        life.for_each_abandoned(|other| remove(root, other));
        let folder = root.join(life.name().as_str());
        std::fs::create_dir_all(&folder).map_err(at_root)?;
        Ok(Self { folder, life })
    }

    /// Whose it is.
    pub(crate) const fn worker(&self) -> &WorkerId {
        self.life.name()
    }

    /// Ends as one that was killed, for a worker that cannot end what it began: the next goes on under its id and clears up.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// Where to write.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next start.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn remove(root: &Path, worker: &WorkerId) {
    let folder = root.join(worker.as_str());
    if folder.exists() {
        tracing::info!(%worker, "removing what a former worker left behind");
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;

    fn worker(number: u128) -> WorkerId {
        WorkerId::from_uuid(Uuid::from_u128(number))
    }

    /// As one that was killed leaves it.
    fn leave(root: &Path, worker: &WorkerId) {
        std::fs::create_dir(root.join(worker.as_str())).unwrap();
        std::fs::write(root.join(worker.as_str()).join("half"), "made").unwrap();
        std::fs::write(root.join(format!("{worker}.lock")), "").unwrap();
    }

    fn is_empty(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn what_a_killed_worker_left_is_removed_and_its_id_taken_over_and_a_live_ones_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let alive = Scratch::create(root, worker(1)).unwrap();
        std::fs::write(alive.folder().join("half"), "made").unwrap();
        leave(root, &worker(2));
        leave(root, &worker(3));
        let first = Scratch::create(root, worker(4)).unwrap();
        assert_eq!(first.worker(), &worker(2));
        assert!(is_empty(first.folder()) && !is_empty(alive.folder()));
        assert!(
            !root.join(worker(3).as_str()).exists(),
            "nor does the other's stay"
        );
        drop((alive, first));
        assert!(!root.join(worker(2).as_str()).exists() && !root.join(worker(1).as_str()).exists());
    }
}
