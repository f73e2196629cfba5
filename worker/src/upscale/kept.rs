//! The finished segments of one file in the making, kept beside the output until that is whole: whatever ends the command,
//! a power cut included, costs no more than the segment it was at. The next run with the same source, models and settings
//! takes them; what other settings made is removed, since nobody will ask for it again.
//!
//! A segment gets its name once it is verified and durable, so a file of that name is whole.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use remaster_domain::ContentHash;

use crate::error::WorkError;

/// Held while a run writes there; never removed before the folder is.
const LOCK_NAME: &str = "lock";

/// The folder of segments beside an output; this process is the only one that writes there.
#[derive(Debug)]
pub(super) struct KeptSegments {
    folder: PathBuf,
    _lock: File,
}

impl KeptSegments {
    /// Opens or makes the folder for `output`, which lies in `folder`, and removes all that is not `wanted`.
    pub(super) fn open(
        folder: &Path,
        output: &Path,
        wanted: &BTreeSet<ContentHash>,
    ) -> Result<Self, WorkError> {
        let name = output
            .file_name()
            .unwrap_or(OsStr::new("output"))
            .to_string_lossy();
        let folder = folder.join(format!(".{name}.segments"));
        let at_folder = |error: std::io::Error| WorkError::of_file(&folder, &error);
        std::fs::create_dir_all(&folder).map_err(at_folder)?;
        let lock = File::create(folder.join(LOCK_NAME)).map_err(at_folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(WorkError::Retryable(format!(
                    "{name} is being written by another process: wait for it, or choose another name"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(at_folder(error)),
        }
        let wanted: BTreeSet<String> = wanted.iter().map(file_name).collect();
        for entry in std::fs::read_dir(&folder).map_err(at_folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != LOCK_NAME && !wanted.contains(&name) {
                std::fs::remove_file(entry.path()).map_err(at_folder)?;
            }
        }
        Ok(Self { folder, _lock: lock })
    }

    /// Where the segment of that work lies once it is made.
    pub(super) fn file(&self, work: &ContentHash) -> PathBuf {
        self.folder.join(file_name(work))
    }

    /// Where it is made: an encoder that outlives a killed run must not write into the file of the next one.
    pub(super) fn partial(&self, work: &ContentHash) -> PathBuf {
        self.folder.join(format!("{work}.{}.partial", std::process::id()))
    }

    /// Gives a verified and durable segment its name.
    pub(super) fn keep(&self, work: &ContentHash) -> Result<(), WorkError> {
        std::fs::rename(self.partial(work), self.file(work))
            .map_err(|error| WorkError::of_file(&self.folder, &error))
    }

    /// Removes all: the output is whole.
    pub(super) fn remove(self) {
        // What stays is only in the way of nobody, and the output is there.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Ends a run that failed: finished segments stay, and how many is said. Without any the folder goes too.
    pub(super) fn leave(self) -> usize {
        let is_segment = |name: &OsStr| Path::new(name).extension() == Some(OsStr::new("mkv"));
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let kept = entries.filter(|entry| is_segment(&entry.file_name())).count();
        if kept == 0 {
            self.remove();
        }
        kept
    }
}

fn file_name(work: &ContentHash) -> String {
    format!("{work}.mkv")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn finished_segments_of_the_same_work_stay_and_all_else_goes() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("film.mkv");
        let (one, two) = (ContentHash::of(b"one"), ContentHash::of(b"two"));
        let open = |wanted: &[&ContentHash]| {
            KeptSegments::open(folder.path(), &output, &wanted.iter().copied().cloned().collect())
        };
        let kept = open(&[&one, &two]).unwrap();
        for work in [&one, &two] {
            std::fs::write(kept.partial(work), b"x").unwrap();
        }
        kept.keep(&one).unwrap();
        assert!(open(&[&one]).unwrap_err().to_string().contains("another process"));
        assert_eq!(kept.leave(), 1);

        let kept = open(&[&one, &two]).unwrap();
        assert!(kept.file(&one).exists() && !kept.partial(&two).exists());
        drop(kept);
        let kept = open(&[&two]).unwrap();
        assert!(!kept.file(&one).exists(), "other settings made it");
        assert_eq!(kept.leave(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
