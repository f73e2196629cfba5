//! A folder of downloaded sources with a bound on its size: the ones unused for longest go first.
//!
//! Files are named by their hash and appear whole (the store writes aside, checks and renames), so several workers may
//! share the folder. What an attempt of this process reads is never evicted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use remaster_domain::{ContentHash, SourceRef};
use remaster_store::{Key, Store};

use crate::error::WorkError;
use crate::monitor::Monitor;

/// A file that stays where it is while this lives.
#[derive(Debug, Clone)]
pub(crate) struct HeldFile {
    path: PathBuf,
    _held: Arc<()>,
}

impl HeldFile {
    /// A file that nobody would remove.
    pub(crate) fn own(path: PathBuf) -> Self {
        Self {
            path,
            _held: Arc::default(),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder.
#[derive(Debug)]
pub(crate) struct SourceCache {
    folder: PathBuf,
    bytes_max: u64,
    held: Mutex<HashMap<PathBuf, Weak<()>>>,
}

impl SourceCache {
    /// Uses `folder`, made when first needed.
    pub(crate) fn new(folder: PathBuf, bytes_max: u64) -> Self {
        Self {
            folder,
            bytes_max,
            held: Mutex::default(),
        }
    }

    /// The source, downloaded if it is not there yet, with progress in MiB. `None` when the store does not have it either.
    pub(crate) async fn fetch(
        &self,
        store: &Store,
        source: &SourceRef,
        monitor: &Monitor,
    ) -> Result<Option<HeldFile>, WorkError> {
        let path = self.folder.join(source.sha256.as_str());
        let held = self.hold(&path);
        if is_whole(&path, source.bytes) {
            touch(&path);
            return Ok(Some(held));
        }
        let key = Key::source(&source.sha256);
        if store.size(&key).await?.is_none() {
            return Ok(None);
        }
        self.make_room(source.bytes);
        tracing::info!(name = source.name, bytes = source.bytes, "downloading");
        let mut done = 0;
        let seen = |bytes: u64| {
            done += bytes;
            monitor.report_bytes(done, source.bytes, "MiB downloaded");
        };
        store.get_file_seen(&key, &path, &source.sha256, seen).await?;
        Ok(Some(held))
    }

    fn hold(&self, path: &Path) -> HeldFile {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, weak| weak.strong_count() > 0);
        let held = all.get(path).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(path.to_owned(), Arc::downgrade(&held));
        HeldFile {
            path: path.to_owned(),
            _held: held,
        }
    }

    /// Removes what was unused for longest until `bytes` more would fit.
    fn make_room(&self, bytes: u64) {
        let files = self.evictable();
        for path in evictions(files, self.bytes_max.saturating_sub(bytes)) {
            tracing::info!(file = %path.display(), "removed from the cache");
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "could not be removed from the cache");
            }
        }
    }

    fn evictable(&self) -> Vec<CachedFile> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |path: &Path| held.get(path).is_some_and(|weak| weak.strong_count() > 0);
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let path = entry.path();
            // Nothing else in the folder is ours to remove.
            entry.file_name().to_str()?.parse::<ContentHash>().ok()?;
            let metadata = entry.metadata().ok()?;
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some(CachedFile {
                bytes: metadata.len(),
                used,
                in_use: in_use(&path),
                path,
            })
        });
        files.collect()
    }
}

#[derive(Debug, Clone)]
struct CachedFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    in_use: bool,
}

/// Which files must go so that the rest is within `bytes_max`.
fn evictions(mut files: Vec<CachedFile>, bytes_max: u64) -> Vec<PathBuf> {
    files.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.path.cmp(&b.path)));
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    let mut out = Vec::new();
    for file in files.into_iter().filter(|file| !file.in_use) {
        if total <= bytes_max {
            break;
        }
        total -= file.bytes;
        out.push(file.path);
    }
    out
}

fn is_whole(path: &Path, bytes: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

/// The modification time is the time of last use; a file system that refuses it only makes eviction less fair.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let _ = std::fs::File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(now));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(name: &str, bytes: u64, used_s: u64, in_use: bool) -> CachedFile {
        CachedFile {
            path: name.into(),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used_s),
            in_use,
        }
    }

    #[test]
    fn the_longest_unused_go_first_and_what_is_read_stays() {
        let files = vec![
            file("new", 10, 9, false),
            file("read", 10, 1, true),
            file("old", 10, 2, false),
        ];
        assert_eq!(evictions(files.clone(), 20), [PathBuf::from("old")]);
        assert_eq!(
            evictions(files.clone(), 0),
            [PathBuf::from("old"), PathBuf::from("new")]
        );
        assert!(evictions(files, 30).is_empty());
    }
}
