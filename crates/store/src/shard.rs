//! Shards: WebDataset tars of pairs (USTAR, mtime 0, fixed order) with a sidecar that lets one pair be read by one range.
//!
//! The same pairs in the same order give the same bytes wherever they are written, so a shard's hash says what it holds.

use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use remaster_domain::{ContentHash, ContentHasher, OutputObject};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::store::parse_json;
use crate::{Key, Store, StoreError};

const BLOCK_BYTES: u64 = 512;

/// The three files of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// Key without dots, unique in the dataset.
    pub key: String,
    /// LR picture.
    pub lr_png: Bytes,
    /// HR picture.
    pub hr_png: Bytes,
    /// [`remaster_domain::PairRecord`] as JSON.
    pub json: Bytes,
}

/// Where a member of a shard lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMember {
    /// First byte of its content in the tar.
    pub offset: u64,
    /// Bytes of its content.
    pub length: u64,
    /// sha256 of its content.
    pub sha256: ContentHash,
}

/// Where a pair lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Key of the pair.
    pub key: String,
    /// `<key>.lr.png`.
    pub lr: ShardMember,
    /// `<key>.hr.png`.
    pub hr: ShardMember,
    /// `<key>.json`.
    pub json: ShardMember,
}

/// The sidecar `shards/<sha256>.idx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// Format version, 1.
    pub version: u32,
    /// The tar it describes.
    pub shard: ContentHash,
    /// Size of the tar.
    pub bytes: u64,
    /// Pairs in the tar's order.
    pub entries: Vec<ShardEntry>,
}

/// A shard on local disk, ready to be stored.
#[derive(Debug)]
pub struct FinishedShard {
    /// The tar.
    pub tar: NamedTempFile,
    /// Its sidecar.
    pub index: ShardIndex,
}

/// Writes a shard pair by pair; memory is bounded by one pair.
pub struct ShardWriter {
    tar: tar::Builder<Hashing>,
    entries: Vec<ShardEntry>,
}

impl std::fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter")
            .field("pairs", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl ShardWriter {
    /// Starts a shard in a temporary file under `directory`.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn create(directory: &Path) -> Result<Self, StoreError> {
        let at_file = |source| StoreError::File {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(at_file)?;
        let file = NamedTempFile::new_in(directory).map_err(at_file)?;
        let hashing = Hashing {
            file: BufWriter::new(file),
            hasher: ContentHasher::new(),
            written: 0,
        };
        Ok(Self {
            tar: tar::Builder::new(hashing),
            entries: Vec::new(),
        })
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// [`StoreError::File`], or [`StoreError::Key`] for a key with a dot or slash.
    pub fn push(&mut self, pair: &PairFiles) -> Result<(), StoreError> {
        if pair.key.is_empty() || !pair.key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(StoreError::Key(pair.key.clone()));
        }
        let entry = ShardEntry {
            key: pair.key.clone(),
            lr: self.member(&format!("{}.lr.png", pair.key), &pair.lr_png)?,
            hr: self.member(&format!("{}.hr.png", pair.key), &pair.hr_png)?,
            json: self.member(&format!("{}.json", pair.key), &pair.json)?,
        };
        self.entries.push(entry);
        Ok(())
    }

    /// Pairs so far.
    #[must_use]
    pub fn pair_count(&self) -> usize {
        self.entries.len()
    }

    /// Closes the tar and makes its sidecar.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn finish(self) -> Result<FinishedShard, StoreError> {
        let hashing = self.tar.into_inner().map_err(|source| StoreError::File {
            path: "shard".into(),
            source,
        })?;
        let Hashing {
            file,
            hasher,
            written,
        } = hashing;
        let tar = file.into_inner().map_err(|error| StoreError::File {
            path: "shard".into(),
            source: error.into_error(),
        })?;
        let index = ShardIndex {
            version: 1,
            shard: hasher.finish(),
            bytes: written,
            entries: self.entries,
        };
        Ok(FinishedShard { tar, index })
    }

    fn member(&mut self, name: &str, content: &[u8]) -> Result<ShardMember, StoreError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let at_shard = |source| StoreError::File {
            path: name.into(),
            source,
        };
        let offset = self.tar.get_ref().written + BLOCK_BYTES;
        self.tar
            .append_data(&mut header, name, content)
            .map_err(at_shard)?;
        Ok(ShardMember {
            offset,
            length: content.len() as u64,
            sha256: ContentHash::of(content),
        })
    }
}

impl Store {
    /// Stores a shard and its sidecar.
    ///
    /// # Errors
    /// As [`Store::put_file`].
    pub async fn put_shard(&self, shard: &FinishedShard) -> Result<Vec<OutputObject>, StoreError> {
        let tar = self
            .put_file(&Key::shard(&shard.index.shard), shard.tar.path())
            .await?;
        let sidecar = serde_json::to_vec(&shard.index).expect("the sidecar is plain data");
        let idx = self
            .put_bytes(&Key::shard_index(&shard.index.shard), sidecar.into())
            .await?;
        Ok(vec![tar, idx])
    }

    /// Reads the sidecar of a shard.
    ///
    /// # Errors
    /// As [`Store::get_json`], and [`StoreError::Damaged`] when it describes another shard.
    pub async fn shard_index(&self, shard: &ContentHash) -> Result<ShardIndex, StoreError> {
        let key = Key::shard_index(shard);
        let index: ShardIndex = parse_json(&key, &self.get_bytes(&key).await?)?;
        if index.shard == *shard {
            Ok(index)
        } else {
            Err(StoreError::Damaged {
                key: key.into(),
                reason: "it describes another shard".to_owned(),
            })
        }
    }

    /// Reads one pair by one ranged request and checks the hash of each of its files.
    ///
    /// # Errors
    /// As [`Store::get_range`], and [`StoreError::Damaged`] when a hash does not fit.
    pub async fn read_pair(&self, shard: &ContentHash, entry: &ShardEntry) -> Result<PairFiles, StoreError> {
        let key = Key::shard(shard);
        let members = [&entry.lr, &entry.hr, &entry.json];
        let first = members.iter().map(|m| m.offset).min().unwrap_or(0);
        let end = members
            .iter()
            .map(|m| m.offset.saturating_add(m.length))
            .max()
            .unwrap_or(0);
        let bytes = self.get_range(&key, first..end).await?;
        let cut = |member: &ShardMember| {
            let damaged = || StoreError::Damaged {
                key: key.as_str().to_owned(),
                reason: format!("pair `{}` does not have the hash its sidecar names", entry.key),
            };
            let start = usize::try_from(member.offset - first).map_err(|_| damaged())?;
            let stop = start.saturating_add(usize::try_from(member.length).map_err(|_| damaged())?);
            if stop > bytes.len() {
                return Err(damaged());
            }
            let part = bytes.slice(start..stop);
            if ContentHash::of(&part) == member.sha256 {
                Ok(part)
            } else {
                Err(damaged())
            }
        };
        Ok(PairFiles {
            key: entry.key.clone(),
            lr_png: cut(&entry.lr)?,
            hr_png: cut(&entry.hr)?,
            json: cut(&entry.json)?,
        })
    }
}

/// Counts and hashes what goes to the file.
#[derive(Debug)]
struct Hashing {
    file: BufWriter<NamedTempFile>,
    hasher: ContentHasher,
    written: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
