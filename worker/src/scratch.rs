//! A folder for half-made things, one per process. What a killed process left behind is removed by the next one to start:
//! a lock file says whether its owner lives, because the system drops the lock however a process ends.

use std::fs::File;
use std::path::{Path, PathBuf};

use remaster_domain::WorkerId;

use crate::error::WorkError;

/// This process's folder; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    lock_file: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes the folder under `root` and removes those of processes that are gone.
    pub(crate) fn create(root: &Path, worker: &WorkerId) -> Result<Self, WorkError> {
        let at_root = |error: std::io::Error| WorkError::of_file(root, &error);
        std::fs::create_dir_all(root).map_err(at_root)?;
        let lock_file = root.join(format!("{worker}.lock"));
        let lock = File::create(&lock_file).map_err(at_root)?;
        lock.lock().map_err(at_root)?;
        remove_abandoned(root);
        let folder = root.join(worker.as_str());
        std::fs::create_dir_all(&folder).map_err(at_root)?;
        Ok(Self {
            folder,
            lock_file,
            _lock: lock,
        })
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

fn remove_abandoned(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let lock_file = entry.path();
        let owner = lock_file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .map(str::parse::<WorkerId>);
        let is_lock = lock_file.extension().is_some_and(|extension| extension == "lock");
        let (true, Some(Ok(owner))) = (is_lock, owner) else {
            continue;
        };
        let is_free = File::open(&lock_file).is_ok_and(|file| file.try_lock().is_ok());
        if is_free {
            tracing::info!(%owner, "removing what a former worker left behind");
            let _ = std::fs::remove_dir_all(root.join(owner.as_str()));
            let _ = std::fs::remove_file(&lock_file);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_a_dead_worker_left_is_removed_and_a_live_ones_is_not() {
        let root = tempfile::tempdir().unwrap();
        let worker = |n| WorkerId::from_uuid(Uuid::from_u128(n));
        let alive = Scratch::create(root.path(), &worker(1)).unwrap();
        let dead = root.path().join(worker(2).as_str());
        std::fs::create_dir(&dead).unwrap();
        File::create(root.path().join(format!("{}.lock", worker(2)))).unwrap();
        let own = Scratch::create(root.path(), &worker(3)).unwrap();
        assert!(alive.folder().is_dir() && own.folder().is_dir() && !dead.exists());
        drop((alive, own));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
