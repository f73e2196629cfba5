//! Where the files of a pair come from: this machine's disk if they were fetched before, else the store.

use std::sync::Arc;

use remaster_store::{PairFiles, Store, StoreError};

use super::dataset::PairRef;
use super::disk::DiskCache;

/// A store, and what was fetched from it if that is kept.
#[derive(Debug, Clone)]
pub struct PairSource {
    store: Store,
    disk: Option<Arc<DiskCache>>,
}

impl From<Store> for PairSource {
    fn from(store: Store) -> Self {
        Self { store, disk: None }
    }
}

impl PairSource {
    /// The same with what is fetched kept on disk, if at all.
    #[must_use]
    pub fn kept_on(self, disk: Option<Arc<DiskCache>>) -> Self {
        Self { disk, ..self }
    }

    /// The store itself, for what is not kept on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the files of a pair, checked by their hashes.
    ///
    /// # Errors
    /// As [`Store::read_pair`].
    pub async fn read(&self, pair: &PairRef) -> Result<PairFiles, StoreError> {
        let Some(disk) = &self.disk else {
            return self.store.read_pair(&pair.shard, &pair.entry).await;
        };
        let (found, entry) = (Arc::clone(disk), pair.entry.clone());
        let found = tokio::task::spawn_blocking(move || found.get(&entry)).await;
        if let Ok(Some(files)) = found {
            return Ok(files);
        }
        let files = self.store.read_pair(&pair.shard, &pair.entry).await?;
        let (keeper, entry, fetched) = (Arc::clone(disk), pair.entry.clone(), files.clone());
        // Nobody waits for it: what was fetched is good, kept or not.
        drop(tokio::task::spawn_blocking(move || keeper.put(&entry, &fetched)));
        Ok(files)
    }
}
