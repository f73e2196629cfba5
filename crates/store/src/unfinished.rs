//! What writers left half-done who died in the middle of an object: no listing shows it and nothing ever reads it.
//!
//! A folder keeps such a write beside its object, as `name#3`. A bucket keeps it as an unfinished multipart upload,
//! listed here as `name#` and the upload's id. Who may be removed is the caller's to decide, by age.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use url::Url;

use crate::bucket::Upload;
use crate::{Key, ListedObject, Store, StoreError};

/// Keys have fewer parts.
const FOLDER_DEPTH_MAX: usize = 8;

impl Store {
    /// Writes of keys of ours that were begun and have not ended, with their age; none of them need be dead. A bucket tells when one was
    /// begun, not when it was last written to, and not its size, which is 0 here.
    ///
    /// # Errors
    /// [`StoreError::File`] for a folder that cannot be read, [`StoreError::Unavailable`] for a bucket.
    pub async fn list_unfinished(&self) -> Result<Vec<ListedObject>, StoreError> {
        if let Some(bucket) = &self.bucket {
            let uploads = bucket.uploads().await.map_err(|reason| self.refused(reason))?;
            return Ok(uploads.into_iter().filter_map(listed).collect());
        }
        let Some(root) = self.folder() else {
            return Ok(vec![]);
        };
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = vec![];
            walk(&root, &root, FOLDER_DEPTH_MAX, &mut found)?;
            found.sort_by(|a: &ListedObject, b| a.key.cmp(&b.key));
            Ok(found)
        });
        listed.await.expect("reading folders does not panic")
    }

    /// Removes one of them, unless it was written to since it was listed or has ended.
    ///
    /// # Errors
    /// [`StoreError::File`] for a folder, [`StoreError::Unavailable`] for a bucket.
    pub async fn remove_unfinished(&self, unfinished: &ListedObject) -> Result<(), StoreError> {
        if let Some(bucket) = &self.bucket {
            let Some((key, id)) = unfinished.key.split_once('#') else {
                return Ok(());
            };
            return bucket.abort(key, id).await.map_err(|reason| self.refused(reason));
        }
        let Some(root) = self.folder() else {
            return Ok(());
        };
        let path = root.join(&unfinished.key);
        let still = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && is_unfinished(&path) => {
                listed_file(&root, &path, &metadata)?
            }
            _ => return Ok(()),
        };
        if still != *unfinished {
            return Ok(());
        }
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    fn refused(&self, reason: String) -> StoreError {
        StoreError::Unavailable {
            url: self.url().to_owned(),
            reason,
        }
    }

    fn folder(&self) -> Option<PathBuf> {
        let url = Url::parse(self.url()).ok()?;
        (url.scheme() == "file")
            .then(|| url.to_file_path().ok())
            .flatten()
    }
}

/// Keys have no `#`, so the first one ends the key. What is not named as ours are is not ours to abort.
fn listed(upload: Upload) -> Option<ListedObject> {
    let key: Key = upload.key.parse().ok().filter(Key::has_our_folder)?;
    Some(ListedObject {
        key: format!("{key}#{}", upload.upload_id),
        bytes: 0,
        modified_ms: upload.initiated.timestamp_millis(),
    })
}

fn walk(
    root: &Path,
    folder: &Path,
    depth_left: usize,
    found: &mut Vec<ListedObject>,
) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        // Whatever is gone by now has ended.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth_left > 0 {
            walk(root, &path, depth_left - 1, found)?;
        } else if metadata.is_file() && is_unfinished(&path) {
            found.push(listed_file(root, &path, &metadata)?);
        }
    }
    Ok(())
}

fn listed_file(root: &Path, path: &Path, metadata: &std::fs::Metadata) -> Result<ListedObject, StoreError> {
    let modified = metadata.modified().map_err(at(path))?;
    let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ListedObject {
        key: path.strip_prefix(root).unwrap_or(path).display().to_string(),
        bytes: metadata.len(),
        modified_ms: i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
    })
}

/// `name#3`: keys have no `#`.
fn is_unfinished(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let of_object = name.rsplit_once('#');
    of_object.is_some_and(|(object, number)| {
        !object.is_empty() && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use remaster_domain::ContentHash;

    use super::*;
    use crate::Key;

    #[tokio::test]
    async fn only_what_was_never_finished_is_found_and_what_is_written_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", dir.path().display())).unwrap();
        let key = Key::shard(&ContentHash::of(b"pairs"));
        store.put_bytes(&key, Bytes::from_static(b"pairs")).await.unwrap();
        assert_eq!(store.list_unfinished().await.unwrap(), []);
        let half = format!("{key}#1");
        std::fs::write(dir.path().join(&half), b"pa").unwrap();
        std::fs::write(dir.path().join("shards/notes#x"), b"somebody's").unwrap();
        let listed = store.list_unfinished().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].key.as_str(), listed[0].bytes), (half.as_str(), 2));
        std::fs::write(dir.path().join(&half), b"pairs of an attempt that lives").unwrap();
        store.remove_unfinished(&listed[0]).await.unwrap();
        let again = store.list_unfinished().await.unwrap();
        assert_eq!(again.len(), 1, "it was written to meanwhile");
        store.remove_unfinished(&again[0]).await.unwrap();
        assert_eq!(store.list_unfinished().await.unwrap(), []);
        assert!(store.size(&key).await.unwrap().is_some());
    }
}
