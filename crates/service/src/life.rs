//! The name under which a process is known over its lives on this machine.
//!
//! Promises: whoever is killed leaves its name behind and the next to start takes it over, so that one that dies again and
//! again is known as the same; two that live never have the same. Who ends in order leaves nothing, and the next is a new
//! one. A lock file says whether a name's owner lives, because the system drops the lock however a process ends.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A name and the lock that makes it this process's; the lock file is removed when it is dropped.
#[derive(Debug)]
pub struct Life<N>(Locked<N>);

#[derive(Debug)]
struct Locked<N> {
    name: N,
    lock_file: PathBuf,
    _lock: File,
}

impl<N: Display + FromStr + Ord> Life<N> {
    /// Goes on as one of those that were killed, or begins as `new` where there are none. Locks are in this folder, which is
    /// made.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn begin(folder: &Path, new: N) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        if let Some(former) = names(folder).into_iter().find_map(take_over) {
            return Ok(Self(former));
        }
        // Locked before it has a name that others look for.
        let (unnamed, lock_file) = (
            folder.join(format!("{new}.new")),
            folder.join(format!("{new}.lock")),
        );
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        std::fs::rename(&unnamed, &lock_file)?;
        Ok(Self(Locked {
            name: new,
            lock_file,
            _lock: lock,
        }))
    }

    /// The name.
    pub const fn name(&self) -> &N {
        &self.0.name
    }

    /// Ends as one that was killed, for a process that cannot end what it began: the next to start goes on under its name.
    pub fn leave(self) {
        // The lock goes with the process.
        std::mem::forget(self);
    }

    /// Does something for each of the other names that nobody lives under, with nobody beginning to meanwhile. They stay free
    /// for those that start next.
    pub fn for_each_abandoned(&self, mut clear: impl FnMut(&N)) {
        let folder = self.0.lock_file.parent().unwrap_or(Path::new("."));
        for other in names::<N>(folder).into_iter().filter_map(take_over) {
            clear(&other.name);
        }
    }
}

impl<N> Drop for Life<N> {
    fn drop(&mut self) {
        // What stays is taken over by the next start.
        let _ = std::fs::remove_file(&self.0.lock_file);
    }
}

/// All names that have a lock file, in their order.
fn names<N: FromStr + Ord>(folder: &Path) -> Vec<(N, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<(N, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            let name = path.file_stem().filter(|_| is_lock)?.to_str()?.parse().ok()?;
            Some((name, path))
        })
        .collect();
    names.sort();
    names
}

/// Makes a name one's own if nobody lives under it.
fn take_over<N>((name, lock_file): (N, PathBuf)) -> Option<Locked<N>> {
    let lock = File::options().write(true).open(&lock_file).ok()?;
    lock.try_lock().ok()?;
    // Its owner may have removed it in the meantime, in order.
    lock_file.exists().then_some(Locked {
        name,
        lock_file,
        _lock: lock,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_goes_on_after_a_kill_and_not_after_an_end_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |new: u32| Life::begin(folder.path(), new).unwrap();
        let alive = begin(1);
        for killed in [3, 2] {
            File::create(folder.path().join(format!("{killed}.lock"))).unwrap();
        }
        File::create(folder.path().join("other.lock")).unwrap();
        let first = begin(4);
        assert_eq!(*first.name(), 2);
        let mut cleared = vec![];
        first.for_each_abandoned(|name| cleared.push(*name));
        assert_eq!(cleared, [3], "neither its own nor that of one that lives");
        let (second, third) = (begin(5), begin(6));
        assert_eq!((*second.name(), *third.name()), (3, 6));
        drop((alive, first, second, third));
        assert_eq!(*begin(7).name(), 7);
    }
}
