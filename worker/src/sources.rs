//! Finds the file that a task names by hash: where the submitter saw it, under `--sources`, in the cache, in the store.
//!
//! A path is only ever a hint: no file is used before its hash agrees. Reading it is left to media.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use remaster_domain::SourceRef;
use remaster_store::Store;

use crate::cache::{HeldFile, SourceCache};
use crate::catalogue::Catalogue;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Folders deeper than this are not searched: a link that points upwards must not search for ever.
const FOLDER_DEPTH_MAX: usize = 12;
/// Between two looks at whether another attempt has hashed its file, which may take minutes.
const TURN_INTERVAL: Duration = Duration::from_millis(50);

/// Where this worker may look.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    folders: Arc<[PathBuf]>,
    /// One file is hashed at a time: two readers would only slow the disc.
    catalogue: Arc<Mutex<Catalogue>>,
    cache: Arc<SourceCache>,
    store: Store,
}

impl Sources {
    /// Looks under `folders`, keeps downloads and what it knows of files under `cache_folder`.
    pub(crate) fn new(
        folders: Vec<PathBuf>,
        cache_folder: &Path,
        cache_bytes_max: u64,
        store: Store,
    ) -> Self {
        Self {
            folders: folders.into(),
            catalogue: Arc::new(Mutex::new(Catalogue::open(cache_folder.join("catalogue.json")))),
            cache: Arc::new(SourceCache::new(cache_folder.join("sources"), cache_bytes_max)),
            store,
        }
    }

    /// The file of a source.
    pub(crate) async fn find(&self, source: &SourceRef, monitor: &Monitor) -> Result<HeldFile, WorkError> {
        let (own, wanted, looking) = (self.clone(), source.clone(), monitor.clone());
        let found = monitor
            .blocking(move || own.find_local(&wanted, &looking))
            .await?;
        if let Some(path) = found {
            return Ok(HeldFile::own(path));
        }
        if let Some(held) = self.cache.fetch(&self.store, source, monitor).await? {
            return Ok(held);
        }
        Err(WorkError::Retryable(format!(
            "{} ({}) is not on this worker: start a worker with --sources FOLDER that holds it, run one where the \
             submitted path exists, or submit with --upload",
            source.name,
            source.sha256.short()
        )))
    }

    fn find_local(&self, source: &SourceRef, monitor: &Monitor) -> Result<Option<PathBuf>, WorkError> {
        let mut catalogue = self.catalogue_in_turn(monitor)?;
        let mut is_wanted = |path: &Path| match catalogue.hash(path, monitor) {
            Ok(sha256) => Ok(sha256 == source.sha256),
            Err(WorkError::Stopped) => Err(WorkError::Stopped),
            Err(error) => {
                tracing::warn!(%error, "passed over");
                Ok(false)
            }
        };
        let hint = source.path_hint.as_deref().map(Path::new);
        if let Some(path) = hint.filter(|path| has_size(path, source.bytes))
            && is_wanted(path)?
        {
            return Ok(Some(path.to_owned()));
        }
        let mut candidates = Vec::new();
        for folder in self.folders.iter() {
            collect(folder, source.bytes, FOLDER_DEPTH_MAX, &mut candidates);
        }
        // The likely one first: hashing the others may take minutes.
        candidates.sort_by_key(|path| path.file_name().is_none_or(|name| name != source.name.as_str()));
        for path in candidates {
            if is_wanted(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The catalogue once no other attempt uses it, unless this one is told to stop.
    fn catalogue_in_turn(&self, monitor: &Monitor) -> Result<MutexGuard<'_, Catalogue>, WorkError> {
        loop {
            match self.catalogue.try_lock() {
                Ok(catalogue) => return Ok(catalogue),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TURN_INTERVAL),
            }
            monitor.check()?;
        }
    }
}

/// Files of that size under a folder, in path order.
fn collect(folder: &Path, bytes: u64, depth_left: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        tracing::warn!(folder = %folder.display(), "folder cannot be read");
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth_left > 0 {
                collect(&path, bytes, depth_left - 1, found);
            }
        } else if has_size(&path, bytes) {
            found.push(path);
        }
    }
}

fn has_size(path: &Path, bytes: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::ContentHash;
    use remaster_store::Key;
    use tempfile::TempDir;

    use super::*;

    fn source(content: &[u8], hint: Option<String>) -> SourceRef {
        SourceRef {
            sha256: ContentHash::of(content),
            bytes: content.len() as u64,
            name: "disc.mkv".to_owned(),
            path_hint: hint,
        }
    }

    fn sources(root: &TempDir, folders: Vec<PathBuf>) -> (Sources, Store) {
        let store = Store::open(&format!("file://{}/store", root.path().display())).unwrap();
        (
            Sources::new(folders, &root.path().join("cache"), u64::MAX, store.clone()),
            store,
        )
    }

    #[tokio::test]
    async fn a_hint_is_believed_only_when_the_hash_agrees() {
        let root = tempfile::tempdir().unwrap();
        let discs = root.path().join("discs/season one");
        std::fs::create_dir_all(&discs).unwrap();
        std::fs::write(root.path().join("hint.mkv"), b"other").unwrap();
        std::fs::write(discs.join("a.mkv"), b"right").unwrap();
        let hint = root.path().join("hint.mkv").display().to_string();
        let (sources, _) = sources(&root, vec![root.path().join("discs")]);
        let found = sources
            .find(&source(b"right", Some(hint.clone())), &Monitor::silent())
            .await
            .unwrap();
        assert_eq!(found.path(), discs.join("a.mkv"));
        let found = sources
            .find(&source(b"other", Some(hint.clone())), &Monitor::silent())
            .await
            .unwrap();
        assert_eq!(found.path(), Path::new(&hint));
    }

    #[tokio::test]
    async fn an_uploaded_source_is_downloaded_once() {
        let root = tempfile::tempdir().unwrap();
        let (sources, store) = sources(&root, Vec::new());
        let key = Key::source(&ContentHash::of(b"uploaded"));
        store.put_bytes(&key, b"uploaded".to_vec().into()).await.unwrap();
        let wanted = source(b"uploaded", None);
        let (monitor, reports) = Monitor::recording();
        let first = sources.find(&wanted, &monitor).await.unwrap();
        assert_eq!(*reports.lock().unwrap(), [(0, 0, "MiB downloaded".to_owned())]);
        assert_eq!(std::fs::read(first.path()).unwrap(), b"uploaded");
        std::fs::remove_dir_all(root.path().join("store")).unwrap();
        assert_eq!(
            sources.find(&wanted, &Monitor::silent()).await.unwrap().path(),
            first.path()
        );
    }

    #[tokio::test]
    async fn a_source_that_is_nowhere_is_named_with_the_ways_to_provide_it() {
        let root = tempfile::tempdir().unwrap();
        let (sources, _) = sources(&root, Vec::new());
        let error = sources
            .find(&source(b"lost", None), &Monitor::silent())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, WorkError::Retryable(_)));
        assert!(
            ["disc.mkv", "--sources", "--upload"]
                .iter()
                .all(|word| text.contains(word)),
            "{text}"
        );
    }
}
