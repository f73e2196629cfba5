//! Hashes of files seen before, by path, size and time of change: a season of Blu-rays takes an hour to hash.
//!
//! A convenience only: what cannot be read or written is as if it were not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remaster_domain::ContentHash;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::source::FileOnDisk;

const VERSION: u32 = 1;

/// The file `hashes.json` in the user's cache.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: BTreeMap<PathBuf, Known>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    bytes: u64,
    modified_ns: u64,
    sha256: ContentHash,
}

/// The cache while a season is loaded.
#[derive(Debug)]
pub(crate) struct HashCache {
    file: Option<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    changed: bool,
}

impl HashCache {
    /// Reads the cache of this user.
    pub(crate) fn load() -> Self {
        Self::load_from(
            remaster_service::cache_dir()
                .ok()
                .map(|folder| folder.join("hashes.json")),
        )
    }

    fn load_from(file: Option<PathBuf>) -> Self {
        let stored = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        let known = stored
            .filter(|stored| stored.version == VERSION)
            .unwrap_or_default()
            .files;
        Self {
            file,
            known,
            changed: false,
        }
    }

    /// The hash of a file that has not changed since.
    pub(crate) fn get(&self, path: &Path, file: &FileOnDisk) -> Option<ContentHash> {
        let known = self.known.get(path)?;
        (known.bytes == file.bytes && known.modified_ns == file.modified_ns).then(|| known.sha256.clone())
    }

    /// Remembers a hash.
    pub(crate) fn put(&mut self, path: &Path, file: &FileOnDisk, sha256: &ContentHash) {
        let known = Known {
            bytes: file.bytes,
            modified_ns: file.modified_ns,
            sha256: sha256.clone(),
        };
        self.known.insert(path.to_owned(), known);
        self.changed = true;
    }

    /// Writes what is new, aside first. Files that are gone are forgotten, so the cache does not grow for ever.
    pub(crate) fn save(mut self) {
        let Some(file) = self.file.take().filter(|_| self.changed) else {
            return;
        };
        self.known.retain(|path, _| path.exists());
        let stored = Stored {
            version: VERSION,
            files: self.known,
        };
        let write = || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut aside = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut aside, &stored)?;
            aside.persist(&file)?;
            Ok(())
        };
        if let Err(error) = write() {
            debug!(%error, "hash cache not written");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_changed_file_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("a.mkv");
        std::fs::write(&film, b"film").unwrap();
        let file = FileOnDisk {
            bytes: 4,
            modified_ns: 7,
            written: Vec::new(),
        };
        let hash = ContentHash::of(b"film");
        let at = Some(folder.path().join("cache/hashes.json"));

        let mut cache = HashCache::load_from(at.clone());
        cache.put(&film, &file, &hash);
        cache.save();

        let cache = HashCache::load_from(at);
        assert_eq!(cache.get(&film, &file), Some(hash));
        assert_eq!(
            cache.get(
                &film,
                &FileOnDisk {
                    modified_ns: 8,
                    ..file.clone()
                }
            ),
            None
        );
        assert_eq!(cache.get(&film, &FileOnDisk { bytes: 5, ..file }), None);
    }
}
