//! A store and what can be done with it: whole objects as bytes or files, ranges, copies, sizes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use remaster_domain::{ContentHash, ContentHasher, OutputObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bucket::Bucket;
use crate::open::{Patience, backend};
use crate::reading::Reading;
use crate::{Key, StoreError};

/// What is up to this size goes up in one put, what is larger in parts of it.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Piece in which a file is read and hashed.
const READ_BYTES: usize = 1024 * 1024;
/// The largest object that S3 copies by itself (`CopyObject`).
const COPY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// Names of files that are being downloaded begin with this; one stays behind where its process dies.
pub const DOWNLOAD_PREFIX: &str = ".download-";

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key as text: a store may hold keys that are not ours.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was written, to the second, in milliseconds since the epoch by the store's clock.
    pub modified_ms: i64,
}

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    pub(crate) bucket: Option<Bucket>,
    url: Arc<str>,
}

impl Store {
    /// Opens `file:///dir` (made if absent) or `s3://bucket/prefix`; asks nothing of the network yet.
    ///
    /// # Errors
    /// [`StoreError::Url`] when the URL names no store.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, &[])
    }

    /// As [`Store::open`], with `AWS_*` settings that win over the environment.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(url: &str, settings: &[(String, String)]) -> Result<Self, StoreError> {
        Self::open_for(url, settings, Patience::Short)
    }

    /// As [`Store::open_with`], for work that took long: while a bucket is away, an operation is tried for four minutes.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_patient(url: &str, settings: &[(String, String)]) -> Result<Self, StoreError> {
        Self::open_for(url, settings, Patience::Long)
    }

    fn open_for(url: &str, settings: &[(String, String)], patience: Patience) -> Result<Self, StoreError> {
        let (backend, bucket) = backend(url, settings, patience)?;
        Ok(Self {
            backend,
            bucket,
            url: url.into(),
        })
    }

    /// The URL it was opened by.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes and reads back a small object, so that a wrong URL or missing rights show at start and not an hour later.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when either fails.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key: Key = "probe/written-at-start".parse()?;
        self.put_bytes(&key, Bytes::from_static(b"remaster")).await?;
        let back = self.get_bytes(&key).await?;
        if back == "remaster" {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                key: key.into(),
                reason: "reads back other than written".to_owned(),
            })
        }
    }

    /// Writes an object, in parts when it is large. Writing the same bytes twice equals writing them once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_bytes(&self, key: &Key, bytes: Bytes) -> Result<OutputObject, StoreError> {
        let size = bytes.len() as u64;
        if bytes.len() > PART_BYTES {
            self.put_parts(key, bytes).await?;
        } else {
            self.backend
                .put(&path(key), bytes.into())
                .await
                .map_err(|error| self.error(key, &error))?;
        }
        Ok(OutputObject {
            key: key.as_str().to_owned(),
            bytes: size,
        })
    }

    /// Part by part, so that no more of them are under way at once than pass in time.
    async fn put_parts(&self, key: &Key, mut bytes: Bytes) -> Result<(), StoreError> {
        let mut writer = self.writer(key);
        while !bytes.is_empty() {
            let part = bytes.split_to(PART_BYTES.min(bytes.len()));
            writer.put(part).await.map_err(|error| self.unavailable(&error))?;
        }
        writer.shutdown().await.map_err(|error| self.unavailable(&error))
    }

    fn writer(&self, key: &Key) -> BufWriter {
        BufWriter::with_capacity(Arc::clone(&self.backend), path(key), PART_BYTES)
    }

    /// Writes a file as an object, in parts when it is large; memory is bounded by one part.
    ///
    /// # Errors
    /// [`StoreError::File`] for the file, [`StoreError::Unavailable`] for the store.
    pub async fn put_file(&self, key: &Key, file: &Path) -> Result<OutputObject, StoreError> {
        let at_file = |source| StoreError::File {
            path: file.to_owned(),
            source,
        };
        let mut reader = tokio::fs::File::open(file).await.map_err(at_file)?;
        let mut writer = self.writer(key);
        let mut piece = vec![0; READ_BYTES];
        let mut size = 0;
        loop {
            let read = reader.read(&mut piece).await.map_err(at_file)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            writer
                .write_all(&piece[..read])
                .await
                .map_err(|error| self.unavailable(&error))?;
        }
        writer
            .shutdown()
            .await
            .map_err(|error| self.unavailable(&error))?;
        Ok(OutputObject {
            key: key.as_str().to_owned(),
            bytes: size,
        })
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn get_bytes(&self, key: &Key) -> Result<Bytes, StoreError> {
        let found = self
            .backend
            .get(&path(key))
            .await
            .map_err(|error| self.error(key, &error))?;
        found.bytes().await.map_err(|error| self.error(key, &error))
    }

    /// Reads a whole object and checks its hash.
    ///
    /// # Errors
    /// As [`Store::get_bytes`], and [`StoreError::Damaged`] when the hash does not fit.
    pub async fn get_verified(&self, key: &Key, expected: &ContentHash) -> Result<Bytes, StoreError> {
        let bytes = self.get_bytes(key).await?;
        check_hash(key, &ContentHash::of(&bytes), expected)?;
        Ok(bytes)
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// As [`Store::get_bytes`].
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.backend
            .get_range(&path(key), range)
            .await
            .map_err(|error| self.error(key, &error))
    }

    /// Downloads an object into a file: beside it first, checked, then renamed. Where the connection breaks it goes on.
    ///
    /// # Errors
    /// As [`Store::get_verified`], and [`StoreError::File`] for the file.
    pub async fn get_file(&self, key: &Key, file: &Path, expected: &ContentHash) -> Result<(), StoreError> {
        self.get_file_seen(key, file, expected, |_| {}).await
    }

    /// The same; `seen` is told the bytes of each piece that came.
    ///
    /// # Errors
    /// As [`Store::get_file`].
    pub async fn get_file_seen(
        &self,
        key: &Key,
        file: &Path,
        expected: &ContentHash,
        mut seen: impl FnMut(u64) + Send,
    ) -> Result<(), StoreError> {
        let at_file = |source| StoreError::File {
            path: file.to_owned(),
            source,
        };
        let directory = file.parent().unwrap_or(Path::new("."));
        tokio::fs::create_dir_all(directory).await.map_err(at_file)?;
        let aside = tempfile::Builder::new()
            .prefix(DOWNLOAD_PREFIX)
            .tempfile_in(directory)
            .map_err(at_file)?;
        let mut writer = tokio::fs::File::from_std(aside.reopen().map_err(at_file)?);
        let mut hasher = ContentHasher::new();
        let mut reading = self.reading(key).await?;
        while let Some(piece) = reading.next().await.map_err(|error| self.error(key, &error))? {
            hasher.update(&piece);
            writer.write_all(&piece).await.map_err(at_file)?;
            seen(piece.len() as u64);
        }
        sync(&mut writer).await.map_err(at_file)?;
        check_hash(key, &hasher.finish(), expected)?;
        aside.persist(file).map_err(|error| at_file(error.error))?;
        Ok(())
    }

    async fn reading(&self, key: &Key) -> Result<Reading, StoreError> {
        Reading::open(Arc::clone(&self.backend), path(key))
            .await
            .map_err(|error| self.error(key, &error))
    }

    /// Size of an object, `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match self.backend.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    /// Copies an object within the store, server-side where the backend can.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let is_too_large = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes > COPY_BYTES_MAX);
        if self.bucket.is_some() && is_too_large(self.size(from).await?) {
            return self.relay(from, to).await;
        }
        self.backend
            .copy(&path(from), &path(to))
            .await
            .map_err(|error| self.error(from, &error))
    }

    /// Copies an object by reading and writing it, in parts; memory is bounded by one.
    async fn relay(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let mut reading = self.reading(from).await?;
        let mut writer = self.writer(to);
        while let Some(piece) = reading.next().await.map_err(|error| self.error(from, &error))? {
            writer
                .write_all(&piece)
                .await
                .map_err(|error| self.unavailable(&error))?;
        }
        writer.shutdown().await.map_err(|error| self.unavailable(&error))
    }

    /// Lists keys and sizes under a prefix. For people and garbage collection: readers follow manifests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = ObjectPath::from(prefix);
        let found = self.backend.list(Some(&prefix));
        let mut keys: Vec<_> = found
            .map_ok(|meta| (meta.location.to_string(), meta.size))
            .try_collect()
            .await
            .map_err(|error: object_store::Error| self.unavailable(&error))?;
        keys.sort();
        Ok(keys)
    }

    /// Lists what lies under a prefix with its age. For garbage collection alone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list_aged(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        let prefix = ObjectPath::from(prefix);
        let found = self.backend.list(Some(&prefix)).map_ok(|meta| ListedObject {
            key: meta.location.to_string(),
            bytes: meta.size,
            modified_ms: modified_ms(&meta),
        });
        found
            .try_collect()
            .await
            .map_err(|error: object_store::Error| self.unavailable(&error))
    }

    /// When an object was last written, as in [`ListedObject`]; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn modified_ms(&self, key: &Key) -> Result<Option<i64>, StoreError> {
        match self.backend.head(&path(key)).await {
            Ok(meta) => Ok(Some(modified_ms(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.backend.delete(&path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    /// Writes a value as JSON under the key that `key_of` makes from its hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_json<T: serde::Serialize + Sync>(
        &self,
        value: &T,
        key_of: impl FnOnce(&ContentHash) -> Key + Send,
    ) -> Result<(ContentHash, OutputObject), StoreError> {
        let bytes = serde_json::to_vec(value).expect("stored types are plain data with string keys");
        let hash = ContentHash::of(&bytes);
        let object = self.put_bytes(&key_of(&hash), bytes.into()).await?;
        Ok((hash, object))
    }

    /// Reads a JSON object.
    ///
    /// # Errors
    /// As [`Store::get_bytes`], and [`StoreError::Damaged`] when it does not parse.
    pub async fn get_json<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Result<T, StoreError> {
        let bytes = self.get_bytes(key).await?;
        parse_json(key, &bytes)
    }

    /// Reads a JSON object and checks its hash.
    ///
    /// # Errors
    /// As [`Store::get_verified`], and [`StoreError::Damaged`] when it does not parse.
    pub async fn get_json_verified<T: serde::de::DeserializeOwned>(
        &self,
        key: &Key,
        expected: &ContentHash,
    ) -> Result<T, StoreError> {
        let bytes = self.get_verified(key, expected).await?;
        parse_json(key, &bytes)
    }

    fn error(&self, key: &Key, error: &object_store::Error) -> StoreError {
        match error {
            object_store::Error::NotFound { .. } => StoreError::NotFound {
                key: key.as_str().to_owned(),
            },
            other => self.unavailable(other),
        }
    }

    fn unavailable(&self, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unavailable {
            url: self.url.to_string(),
            reason: error.to_string(),
        }
    }
}

/// Hashes a file without reading it into memory.
///
/// # Errors
/// What the system says of the file.
pub fn hash_file(file: &Path, mut seen: impl FnMut(u64)) -> std::io::Result<ContentHash> {
    use std::io::Read;
    let mut reader = std::fs::File::open(file)?;
    let mut hasher = ContentHasher::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..read]);
        seen(read as u64);
    }
}

/// A write that is under way while the file is synced would keep its error to itself.
async fn sync(file: &mut tokio::fs::File) -> std::io::Result<()> {
    file.flush().await?;
    file.sync_all().await
}

/// Whole seconds: an S3 server's answer about one object has no more, its listing may.
fn modified_ms(meta: &object_store::ObjectMeta) -> i64 {
    meta.last_modified.timestamp() * 1000
}

fn path(key: &Key) -> ObjectPath {
    ObjectPath::from(key.as_str())
}

fn check_hash(key: &Key, found: &ContentHash, expected: &ContentHash) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("sha256 is {}, expected {}", found.short(), expected.short());
    Err(StoreError::Damaged {
        key: key.as_str().to_owned(),
        reason,
    })
}

pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(key: &Key, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged {
        key: key.as_str().to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_testkit::{S3Server, StoreFault};

    use super::*;

    #[tokio::test]
    async fn a_full_disk_shows_when_the_last_piece_is_synced() {
        let full = tokio::fs::File::options().write(true).open("/dev/full").await;
        let mut full = full.unwrap();
        full.write_all(b"the last piece").await.unwrap();
        let error = sync(&mut full).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn what_a_bucket_does_not_copy_by_itself_is_the_same_when_relayed() {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(folder.path()).unwrap();
        let store = Store::open_with(&server.url("mine"), &server.settings()).unwrap();
        let bytes: Vec<u8> = (0..PART_BYTES * 2 + 7).map(|place| (place % 251) as u8).collect();
        let from = Key::segment(&ContentHash::of(&bytes));
        let to = Key::output(&"season".parse().unwrap(), &"e1".parse().unwrap());
        store.put_bytes(&from, bytes.clone().into()).await.unwrap();
        // One more than a request is repeated.
        server.faults.arm(StoreFault::Truncated, 1, 6);
        store.relay(&from, &to).await.unwrap();
        assert_eq!(server.faults.fired(), 6);
        assert!(store.get_bytes(&to).await.unwrap() == bytes);
        let missing = store.relay(&Key::segment(&ContentHash::of(b"")), &to).await;
        assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    }
}
