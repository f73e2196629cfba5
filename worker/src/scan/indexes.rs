//! Indexes of local files kept by the hash of the file: a folder of discs is decoded once, however often it is scanned.
//!
//! The folder has a bound; what was unused for longest goes first. A file that is half there is not there: the thumbnails
//! are renamed into place whole.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use remaster_domain::{ContentHash, SourceRef};
use remaster_pairs::Thumbs;

use crate::cache::HeldFile;
use crate::catalogue::Catalogue;
use crate::error::WorkError;
use crate::extract::index_file;
use crate::local::write_whole;
use crate::monitor::Monitor;

/// Two seasons of 24 episodes, both copies, at 76 MB for 22 minutes.
const KEPT_BYTES_MAX: u64 = 8 << 30;

/// The folder and the catalogue of file hashes beside it.
#[derive(Debug)]
pub(crate) struct IndexCache {
    folder: PathBuf,
    catalogue: Catalogue,
}

impl IndexCache {
    /// Uses `indexes/` and `catalogue.json` in the user's cache folder.
    pub(crate) fn open(cache: &Path) -> Self {
        Self {
            folder: cache.join("indexes"),
            catalogue: Catalogue::open(cache.join("catalogue.json")),
        }
    }

    /// The hash of a file.
    pub(super) fn hash(&mut self, path: &Path, monitor: &Monitor) -> Result<ContentHash, WorkError> {
        self.catalogue.hash(path, &monitor.quiet())
    }

    /// Makes sure that the thumbnails of a file are there, by decoding it where they are not.
    pub(super) fn ensure(
        &self,
        path: &Path,
        sha256: &ContentHash,
        monitor: &Monitor,
    ) -> Result<(), WorkError> {
        let kept = self.file(sha256);
        if kept.is_file() {
            touch(&kept);
            return Ok(());
        }
        let at_path = |error: std::io::Error| WorkError::of_file(path, &error);
        let source = SourceRef {
            sha256: sha256.clone(),
            bytes: std::fs::metadata(path).map_err(at_path)?.len(),
            name: path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned(),
            path_hint: None,
        };
        let (_, thumbs) = index_file(&HeldFile::own(path.to_owned()), &source, monitor)?;
        std::fs::create_dir_all(&self.folder).map_err(|error| WorkError::of_file(&self.folder, &error))?;
        self.make_room(thumbs.len() as u64);
        write_whole(&kept, &thumbs)
    }

    /// The thumbnails of a file that [`Self::ensure`] was asked for, ready to be compared.
    pub(super) fn thumbs(&self, sha256: &ContentHash) -> Result<Thumbs, WorkError> {
        let file = self.file(sha256);
        let bytes = std::fs::read(&file).map_err(|error| WorkError::of_file(&file, &error))?;
        Thumbs::prepare(&bytes).map_err(|refusal| {
            // It can be made again, and will be once it is gone.
            let _ = std::fs::remove_file(&file);
            WorkError::Retryable(format!("{}: {refusal}", file.display()))
        })
    }

    /// How many frames a file has, where it was decoded before and has not changed since.
    #[cfg(feature = "upscale")]
    pub(crate) fn frames(&self, path: &Path) -> Option<u64> {
        let kept = self.file(&self.catalogue.known(path)?);
        let bytes = std::fs::metadata(kept).ok()?.len();
        Some(bytes / remaster_media::THUMB_BYTES as u64)
    }

    fn file(&self, sha256: &ContentHash) -> PathBuf {
        self.folder.join(format!("{sha256}-v1.thumbs"))
    }

    fn make_room(&self, bytes: u64) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut sum = bytes + kept.iter().map(|(_, size, _)| size).sum::<u64>();
        for (_, size, path) in kept {
            if sum <= KEPT_BYTES_MAX {
                return;
            }
            if std::fs::remove_file(&path).is_ok() {
                sum -= size;
            }
        }
    }
}

fn touch(path: &Path) {
    if let Ok(file) = std::fs::File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}
