//! Pairs fetched from a far store, kept on this machine's disk, so that later epochs and later runs ask the store for
//! nothing. An entry is the bytes of one pair's files in a row, named by their hashes and checked by them whenever it is read:
//! one that a crash or a bad disk has spoilt is fetched again. What does not work here costs time, never the run.
//!
//! In a random order every pair of a dataset is equally likely to come next, so none is thrown out for another of the same
//! dataset; what other datasets left makes room.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use remaster_domain::ContentHash;
use remaster_store::{PairFiles, ShardEntry, Store};
use tracing::{info, warn};

use super::dataset::Dataset;

/// Kept of a far store where nothing is said: some 20,000 pairs, on a disk that has room for films.
const FAR_GIB_DEFAULT: u64 = 50;

/// Where pairs are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCacheConfig {
    /// Folder; made where it is missing.
    pub folder: PathBuf,
    /// Most bytes of all entries together.
    pub bytes_max: u64,
}

/// What a person said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheWish {
    /// Folder.
    pub folder: PathBuf,
    /// Most GiB; where nothing is said it depends on how far the store is.
    pub gib: Option<u64>,
}

impl CacheWish {
    /// What is kept of pairs from this store. One on this machine needs no second copy unless it is asked for.
    #[must_use]
    pub fn for_store(&self, store: &Store) -> Option<DiskCacheConfig> {
        let is_far = !store.url().starts_with("file://");
        let gib = self.gib.unwrap_or(if is_far { FAR_GIB_DEFAULT } else { 0 });
        (gib > 0).then(|| DiskCacheConfig {
            folder: self.folder.clone(),
            bytes_max: gib.saturating_mul(1 << 30),
        })
    }
}

/// An open cache; for one dataset.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    bytes_max: u64,
    kept: Mutex<Kept>,
    damaged: AtomicU64,
}

/// What lies in the folder.
#[derive(Debug, Default)]
struct Kept {
    bytes: u64,
    /// Files that this dataset has no use for, the oldest first.
    others: VecDeque<(PathBuf, u64)>,
    /// Set once writing has failed, which is then said once.
    is_broken: bool,
}

impl DiskCache {
    /// Looks what is there.
    #[must_use]
    pub fn open(config: DiskCacheConfig, dataset: &Dataset) -> Self {
        let DiskCacheConfig { folder, bytes_max } = config;
        let wanted: BTreeSet<String> = dataset.pairs.iter().map(|pair| name_of(&pair.entry)).collect();
        let mut others = vec![];
        let (mut bytes, mut found) = (0, 0);
        for (path, size, modified) in files_in(&folder) {
            bytes += size;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if wanted.contains(name.as_ref()) {
                found += 1;
            } else {
                others.push((modified, path, size));
            }
        }
        others.sort();
        info!(folder = %folder.display(), pairs = found, of = wanted.len(), mib = bytes >> 20, "pairs kept on disk");
        let others = others.into_iter().map(|(_, path, size)| (path, size)).collect();
        Self {
            folder,
            bytes_max,
            kept: Mutex::new(Kept {
                bytes,
                others,
                is_broken: false,
            }),
            damaged: AtomicU64::new(0),
        }
    }

    /// The pair's files, if they are there and whole. Blocks.
    #[must_use]
    pub fn get(&self, entry: &ShardEntry) -> Option<PairFiles> {
        let path = self.path_of(entry);
        let bytes = Bytes::from(std::fs::read(&path).ok()?);
        let found = split(entry, &bytes);
        if found.is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            warn!(key = entry.key, file = %path.display(), "a pair kept on disk is damaged, it is fetched again");
            self.remove(&path, bytes.len() as u64);
        }
        found
    }

    /// Keeps a pair's files if there is room. Blocks.
    pub fn put(&self, entry: &ShardEntry, files: &PairFiles) {
        let parts = [&files.lr_png, &files.hr_png, &files.json];
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        if !self.reserve(bytes) {
            return;
        }
        let path = self.path_of(entry);
        if let Err(error) = write_whole(&path, &parts) {
            let mut kept = self.lock();
            kept.bytes = kept.bytes.saturating_sub(bytes);
            if !std::mem::replace(&mut kept.is_broken, true) {
                warn!(file = %path.display(), %error, "fetched pairs cannot be kept on disk, the run goes on without");
            }
        }
    }

    /// Entries found damaged so far.
    #[must_use]
    pub fn damaged_count(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Makes room and counts it as taken; false where there is none to be had.
    fn reserve(&self, bytes: u64) -> bool {
        let mut kept = self.lock();
        while kept.bytes + bytes > self.bytes_max {
            let Some((path, size)) = kept.others.pop_front() else {
                return false;
            };
            // Where it does not go it goes on being counted.
            if std::fs::remove_file(&path).is_ok() {
                kept.bytes = kept.bytes.saturating_sub(size);
            }
        }
        let may_write = !kept.is_broken;
        if may_write {
            kept.bytes += bytes;
        }
        may_write
    }

    fn remove(&self, path: &Path, bytes: u64) {
        if std::fs::remove_file(path).is_ok() {
            let mut kept = self.lock();
            kept.bytes = kept.bytes.saturating_sub(bytes);
        }
    }

    fn path_of(&self, entry: &ShardEntry) -> PathBuf {
        let name = name_of(entry);
        // A folder with 100,000 files is slow to open on some file systems.
        self.folder.join(&name[..2]).join(name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same files have the same name, whatever shard and dataset they are in.
fn name_of(entry: &ShardEntry) -> String {
    let hashes = [&entry.lr, &entry.hr, &entry.json].map(|member| member.sha256.as_str());
    ContentHash::of(hashes.concat().as_bytes()).to_string()
}

/// The files in an entry's bytes; `None` unless every one has its hash.
fn split(entry: &ShardEntry, bytes: &Bytes) -> Option<PairFiles> {
    let mut from = 0usize;
    let mut parts = [&entry.lr, &entry.hr, &entry.json].map(|member| {
        let to = from.checked_add(usize::try_from(member.length).ok()?)?;
        let part = (to <= bytes.len()).then(|| bytes.slice(from..to))?;
        from = to;
        (ContentHash::of(&part) == member.sha256).then_some(part)
    });
    if from != bytes.len() {
        return None;
    }
    Some(PairFiles {
        key: entry.key.clone(),
        lr_png: parts[0].take()?,
        hr_png: parts[1].take()?,
        json: parts[2].take()?,
    })
}

/// Beside it first, then renamed. Not synced: what a crash leaves half there is known by its hashes.
fn write_whole(path: &Path, parts: &[&Bytes]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut aside = tempfile::Builder::new().prefix(".fetched-").tempfile_in(folder)?;
    for part in parts {
        aside.write_all(part)?;
    }
    aside.persist(path)?;
    Ok(())
}

/// All files two folders deep with their size and age; what cannot be read is as good as not there.
fn files_in(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries(folder).flat_map(|inner| entries(&inner.path()));
    let known = files.filter_map(|file| {
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file.path(), meta.len(), meta.modified().ok()?))
    });
    known.collect()
}
