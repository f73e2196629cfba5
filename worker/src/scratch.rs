//! A folder for half-made things, one per process, and the id that goes with it. A lock file says whether its owner lives,
//! because the system drops the lock however a process ends.
//!
//! Promises: what a killed process left behind is removed by the next one to start, and that one takes its id over: one that
//! dies again and again is known as the same worker. A process that ends in order leaves nothing, and the next is a new one.

use std::fs::File;
use std::path::{Path, PathBuf};

use remaster_domain::WorkerId;

use crate::error::WorkError;

/// This process's folder; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    worker: WorkerId,
    folder: PathBuf,
    lock_file: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes the folder under `root`, as that of one that was killed if there is any, else as `new`; empties those of others
    /// that were killed.
    pub(crate) fn create(root: &Path, new: WorkerId) -> Result<Self, WorkError> {
        let at_root = |error: std::io::Error| WorkError::of_file(root, &error);
        std::fs::create_dir_all(root).map_err(at_root)?;
        let mut abandoned = abandoned(root).into_iter();
        let (worker, lock) = match abandoned.next() {
            Some(former) => former,
            None => {
                let lock = File::create(lock_file(root, &new)).map_err(at_root)?;
                lock.lock().map_err(at_root)?;
                (new, lock)
            }
        };
        // The ids of the others stay free for those that start next.
        for (other, _) in abandoned {
            remove(root, &other);
        }
        remove(root, &worker);
        let folder = root.join(worker.as_str());
        std::fs::create_dir_all(&folder).map_err(at_root)?;
        Ok(Self {
            lock_file: lock_file(root, &worker),
            worker,
            folder,
            _lock: lock,
        })
    }

    /// Whose it is.
    pub(crate) fn worker(&self) -> &WorkerId {
        &self.worker
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
        let _ = std::fs::remove_file(&self.lock_file);
    }
}

fn lock_file(root: &Path, worker: &WorkerId) -> PathBuf {
    root.join(format!("{worker}.lock"))
}

/// The workers under `root` that were killed, locked now.
fn abandoned(root: &Path) -> Vec<(WorkerId, File)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut abandoned: Vec<_> = entries
        .filter_map(|entry| lock_if_abandoned(&entry.path()))
        .collect();
    abandoned.sort_by(|(one, _), (other, _)| one.cmp(other));
    abandoned
}

fn lock_if_abandoned(path: &Path) -> Option<(WorkerId, File)> {
    let stem = path
        .extension()
        .filter(|extension| *extension == "lock")
        .and(path.file_stem())?;
    let worker = stem.to_str()?.parse().ok()?;
    let lock = File::options().write(true).open(path).ok()?;
    lock.try_lock().ok()?;
    // Its owner may have removed it in the meantime, in order.
    path.exists().then_some((worker, lock))
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
        File::create(lock_file(root, worker)).unwrap();
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
        let second = Scratch::create(root, worker(5)).unwrap();
        assert_eq!(second.worker(), &worker(3));
        let third = Scratch::create(root, worker(6)).unwrap();
        assert_eq!(third.worker(), &worker(6));
        drop((alive, first, second, third));
        assert!(is_empty(root));
    }
}
