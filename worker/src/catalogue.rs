//! Remembers the hashes of files, so that a folder of discs is read once and not at every start. A file counts as the
//! same while its path, size and modification time are. Left to others: which files are worth hashing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use remaster_domain::{ContentHash, ContentHasher};
use serde::{Deserialize, Serialize};

use crate::error::WorkError;
use crate::monitor::Monitor;

const VERSION: u32 = 1;
/// What is read of a file between two looks at whether to stop.
const READ_BYTES: usize = 1 << 20;

/// What is known of files, kept as JSON in the cache folder.
#[derive(Debug)]
pub(crate) struct Catalogue {
    file: PathBuf,
    known: Known,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    version: u32,
    files: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    modified_ns: u64,
    sha256: ContentHash,
}

impl Catalogue {
    /// Reads what is known; an unreadable file is an empty catalogue, since all of it can be found out again.
    pub(crate) fn open(file: PathBuf) -> Self {
        let known = read(&file);
        Self { file, known }
    }

    /// The hash of a file, from memory where the file is as it was. Progress in MiB while it is read.
    pub(crate) fn hash(&mut self, path: &Path, monitor: &Monitor) -> Result<ContentHash, WorkError> {
        let at_path = |error: std::io::Error| WorkError::of_file(path, &error);
        let path_full = path.canonicalize().map_err(at_path)?;
        let (bytes, modified_ns) = stamp(&path_full).map_err(at_path)?;
        let is_same = |entry: &&Entry| (entry.bytes, entry.modified_ns) == (bytes, modified_ns);
        if self.known.files.get(&path_full).filter(is_same).is_none() {
            // Another worker may have read it meanwhile.
            self.known.files.extend(read(&self.file).files);
        }
        if let Some(entry) = self.known.files.get(&path_full).filter(is_same) {
            return Ok(entry.sha256.clone());
        }
        tracing::info!(path = %path.display(), bytes, "hashing");
        let sha256 = hash(&path_full, bytes, monitor)?;
        let entry = Entry {
            bytes,
            modified_ns,
            sha256: sha256.clone(),
        };
        self.known.files.insert(path_full.clone(), entry.clone());
        if let Err(error) = self.save(path_full, entry) {
            tracing::warn!(file = %self.file.display(), %error, "catalogue not kept");
        }
        Ok(sha256)
    }

    /// The hash of a file that was hashed before and is as it was; the file is not read.
    #[cfg(feature = "upscale")]
    pub(crate) fn known(&self, path: &Path) -> Option<ContentHash> {
        let path = path.canonicalize().ok()?;
        let (bytes, modified_ns) = stamp(&path).ok()?;
        let entry = self.known.files.get(&path)?;
        ((entry.bytes, entry.modified_ns) == (bytes, modified_ns)).then(|| entry.sha256.clone())
    }

    /// Adds one entry to what lies on disk: another worker may have added others meanwhile.
    fn save(&self, path: PathBuf, entry: Entry) -> std::io::Result<()> {
        let mut known = read(&self.file);
        known.version = VERSION;
        known.files.insert(path, entry);
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut aside, &known)?;
        aside.persist(&self.file).map_err(|error| error.error)?;
        Ok(())
    }
}

fn hash(path: &Path, bytes: u64, monitor: &Monitor) -> Result<ContentHash, WorkError> {
    let at_path = |error: std::io::Error| WorkError::of_file(path, &error);
    let mut file = File::open(path).map_err(at_path)?;
    let (mut hasher, mut piece, mut done) = (ContentHasher::new(), vec![0; READ_BYTES], 0);
    loop {
        monitor.check()?;
        let read = file.read(&mut piece).map_err(at_path)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..read]);
        done += read as u64;
        monitor.report_bytes(done, bytes, "MiB hashed");
    }
}

fn read(file: &Path) -> Known {
    let parsed = std::fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
    parsed
        .filter(|known| known.version == VERSION)
        .unwrap_or_default()
}

fn stamp(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    let since_epoch = metadata
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((
        metadata.len(),
        u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_known_file_is_not_read_again_and_a_changed_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mkv");
        std::fs::write(&film, b"one").unwrap();
        let list = folder.path().join("cache/catalogue.json");
        assert_eq!(
            Catalogue::open(list.clone())
                .hash(&film, &Monitor::silent())
                .unwrap(),
            ContentHash::of(b"one")
        );
        // Same size and time with other bytes: only a reader would notice, so the answer must be the old one.
        let modified = std::fs::metadata(&film).unwrap().modified().unwrap();
        std::fs::write(&film, b"two").unwrap();
        std::fs::File::options()
            .append(true)
            .open(&film)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(
            Catalogue::open(list.clone())
                .hash(&film, &Monitor::silent())
                .unwrap(),
            ContentHash::of(b"one")
        );
        std::fs::write(&film, b"three").unwrap();
        assert_eq!(
            Catalogue::open(list).hash(&film, &Monitor::silent()).unwrap(),
            ContentHash::of(b"three")
        );
    }

    #[test]
    fn hashing_tells_how_far_it_is_and_stops_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mkv");
        std::fs::write(&film, vec![1; 3 * READ_BYTES]).unwrap();
        let (monitor, reports) = Monitor::recording();
        let mut catalogue = Catalogue::open(folder.path().join("catalogue.json"));
        catalogue.hash(&film, &monitor).unwrap();
        let told = |done| (done, 3, "MiB hashed".to_owned());
        assert_eq!(*reports.lock().unwrap(), [told(1), told(2), told(3)]);
        std::fs::write(&film, b"another").unwrap();
        monitor.stop();
        assert!(matches!(catalogue.hash(&film, &monitor), Err(WorkError::Stopped)));
    }

    #[test]
    fn a_broken_catalogue_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("catalogue.json");
        std::fs::write(&list, b"{half").unwrap();
        let film = folder.path().join("film.mkv");
        std::fs::write(&film, b"one").unwrap();
        assert_eq!(
            Catalogue::open(list).hash(&film, &Monitor::silent()).unwrap(),
            ContentHash::of(b"one")
        );
    }
}
