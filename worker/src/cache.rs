//! A folder of downloaded sources with a bound on its size: the ones unused for longest go first.
//!
//! Files are named by their hash and appear whole (the store writes aside, checks and renames), so several workers may
//! share the folder; what several attempts of them want at once is downloaded once. What an attempt of this process reads is
//! never evicted.

use std::collections::HashMap;
use std::fs::{DirEntry, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use remaster_domain::{ContentHash, SourceRef};
use remaster_store::{DOWNLOAD_PREFIX, Key, Store};

use crate::error::WorkError;
use crate::monitor::Monitor;

/// Begins the names of the files by whose locks attempts take turns; the source's hash follows.
const TURN_PREFIX: &str = ".turn-";
/// Between two looks at whether another attempt has downloaded its source, which may take minutes.
const TURN_INTERVAL: Duration = Duration::from_millis(200);
/// A download that was not written to for so long has no process any more: a live one gives a silent store up in half an hour.
const SILENCE_MAX: Duration = Duration::from_secs(60 * 60);

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
        if is_hit(&path, source.bytes) {
            return Ok(Some(held));
        }
        let key = Key::source(&source.sha256);
        if store.size(&key).await?.is_none() {
            return Ok(None);
        }
        let _turn = self.turn(&source.sha256, monitor).await?;
        // Whoever had it before has downloaded the source, if all went well.
        if is_hit(&path, source.bytes) {
            return Ok(Some(held));
        }
        self.remove_leftovers(SystemTime::now());
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

    /// Waits until nobody else downloads the source. `None` in a folder that has no locks: nobody waits there.
    async fn turn(&self, sha256: &ContentHash, monitor: &Monitor) -> Result<Option<Turn>, WorkError> {
        let path = self.folder.join(format!("{TURN_PREFIX}{sha256}"));
        loop {
            let taken = std::fs::create_dir_all(&self.folder).and_then(|()| Turn::take(&path));
            match taken {
                Ok(Some(turn)) => return Ok(Some(turn)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "cannot be locked: others may download the same");
                    return Ok(None);
                }
            }
            monitor.check()?;
            tokio::time::sleep(TURN_INTERVAL).await;
        }
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

    /// Removes what processes left here that died in a download.
    fn remove_leftovers(&self, now: SystemTime) {
        for entry in self.entries() {
            let name = entry.file_name();
            let begins_with = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
            if begins_with(DOWNLOAD_PREFIX) && is_silent(&entry, now) {
                remove(&entry.path());
            } else if begins_with(TURN_PREFIX) {
                // A turn that nobody has is taken, and its file goes with it.
                drop(Turn::take(&entry.path()));
            }
        }
    }

    /// Removes what was unused for longest until `bytes` more would fit.
    fn make_room(&self, bytes: u64) {
        let files = self.evictable();
        for path in evictions(files, self.bytes_max.saturating_sub(bytes)) {
            remove(&path);
        }
    }

    fn evictable(&self) -> Vec<CachedFile> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |path: &Path| held.get(path).is_some_and(|weak| weak.strong_count() > 0);
        let files = self.entries().filter_map(|entry| {
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

    fn entries(&self) -> impl Iterator<Item = DirEntry> {
        std::fs::read_dir(&self.folder).into_iter().flatten().flatten()
    }
}

/// The right to download a source, had by one attempt at a time over all processes on the folder: a lock that the system takes
/// back however its holder dies. Its file goes when the turn ends.
#[derive(Debug)]
struct Turn {
    path: PathBuf,
    _locked: File,
}

impl Turn {
    /// `None` while another attempt has it.
    fn take(path: &Path) -> std::io::Result<Option<Self>> {
        let file = File::options().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last holder may have removed the file after it was opened here: the next ones lock another of that name.
        let locked = file.metadata()?;
        let is_named = std::fs::metadata(path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino()));
        Ok(is_named.then(|| Self {
            path: path.to_owned(),
            _locked: file,
        }))
    }
}

impl Drop for Turn {
    /// While it is locked the file of that name is this one. One that stays does no harm.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
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

fn remove(path: &Path) {
    tracing::info!(file = %path.display(), "removed from the cache");
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "could not be removed from the cache");
    }
}

/// Whether the file is there, which is a use of it.
fn is_hit(path: &Path, bytes: u64) -> bool {
    let is_whole =
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes);
    if is_whole {
        touch(path);
    }
    is_whole
}

fn is_silent(entry: &DirEntry, now: SystemTime) -> bool {
    let written = entry.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > SILENCE_MAX))
}

/// The modification time is the time of last use; a file system that refuses it only makes eviction less fair.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let _ = File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(now));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tempfile::TempDir;

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

    /// A store with a source, and a cache of it.
    async fn stored(root: &TempDir) -> (Store, SourceRef, SourceCache) {
        let store = Store::open(&format!("file://{}/store", root.path().display())).unwrap();
        let bytes = b"uploaded";
        let source = SourceRef {
            sha256: ContentHash::of(bytes),
            bytes: bytes.len() as u64,
            name: "disc.mkv".to_owned(),
            path_hint: None,
        };
        let key = Key::source(&source.sha256);
        store.put_bytes(&key, bytes.to_vec().into()).await.unwrap();
        (store, source, another_cache(root))
    }

    fn another_cache(root: &TempDir) -> SourceCache {
        SourceCache::new(root.path().join("cache"), u64::MAX)
    }

    fn names(cache: &SourceCache) -> Vec<String> {
        let names = cache.entries().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_several_want_at_once_is_downloaded_once() {
        let root = tempfile::tempdir().unwrap();
        let (store, source, cache) = stored(&root).await;
        let of_another_process = another_cache(&root);
        let (monitor, downloads) = Monitor::recording();
        let fetched = tokio::join!(
            cache.fetch(&store, &source, &monitor),
            cache.fetch(&store, &source, &monitor),
            of_another_process.fetch(&store, &source, &monitor),
        );
        for held in [fetched.0, fetched.1, fetched.2] {
            let held = held.unwrap().unwrap();
            assert_eq!(std::fs::read(held.path()).unwrap(), b"uploaded");
        }
        assert_eq!(downloads.lock().unwrap().len(), 1);
        assert_eq!(names(&cache), [source.sha256.as_str()], "no turn's file stays");
    }

    #[tokio::test]
    async fn who_waits_for_anothers_download_stops_when_told_to() {
        let root = tempfile::tempdir().unwrap();
        let (store, source, cache) = stored(&root).await;
        let monitor = Monitor::silent();
        let _turn = cache.turn(&source.sha256, &monitor).await.unwrap().unwrap();
        monitor.stop();
        let waiting = cache.fetch(&store, &source, &monitor).await;
        assert!(matches!(waiting, Err(WorkError::Stopped)), "{waiting:?}");
    }

    #[tokio::test]
    async fn what_dead_processes_left_goes_and_live_downloads_stay() {
        let root = tempfile::tempdir().unwrap();
        let (store, source, cache) = stored(&root).await;
        let monitor = Monitor::silent();
        let live = cache
            .turn(&ContentHash::of(b"live"), &monitor)
            .await
            .unwrap()
            .unwrap();
        let left = |name: &str| File::create(cache.folder.join(name)).unwrap();
        left(&format!("{TURN_PREFIX}{}", source.sha256));
        left(&format!("{TURN_PREFIX}{}", ContentHash::of(b"dead")));
        left(&format!("{DOWNLOAD_PREFIX}live"));
        let long_ago = SystemTime::now() - SILENCE_MAX * 2;
        left(&format!("{DOWNLOAD_PREFIX}dead"))
            .set_modified(long_ago)
            .unwrap();
        left("not-ours").set_modified(long_ago).unwrap();
        cache.fetch(&store, &source, &monitor).await.unwrap().unwrap();
        let turn = live.path.file_name().unwrap().to_str().unwrap();
        let live_download = format!("{DOWNLOAD_PREFIX}live");
        let mut stay = [turn, live_download.as_str(), "not-ours", source.sha256.as_str()];
        stay.sort_unstable();
        assert_eq!(names(&cache), stay);
    }
}
