//! Reads the records of pairs out of their shards without reading a picture: a few hundred bytes each, several at a time.

use remaster_domain::{ContentHash, PairRecord, ShardRef};
use remaster_store::{Key, ShardEntry, ShardIndex, Store};

use crate::error::WorkError;

/// Reads under way at once: a store far away answers in tens of milliseconds, whatever is asked.
const READS_AT_ONCE: usize = 16;

/// The records of the pairs that count, in the order of the shard's keys.
pub(super) async fn read_records(
    store: &Store,
    shard: &ShardRef,
    sidecar: &ShardIndex,
) -> Result<Vec<PairRecord>, WorkError> {
    let entries: Vec<&ShardEntry> = shard
        .keys
        .iter()
        .map(|key| entry_of(sidecar, key))
        .collect::<Result<_, _>>()?;
    let mut records = Vec::with_capacity(entries.len());
    for batch in entries.chunks(READS_AT_ONCE) {
        let read = |entry: &&ShardEntry| {
            let (store, key, entry) = (store.clone(), Key::shard(&shard.sha256), (*entry).clone());
            tokio::spawn(async move { read_record(&store, &key, &entry).await })
        };
        let running: Vec<_> = batch.iter().map(read).collect();
        for record in running {
            let ended = record.await;
            records.push(
                ended.map_err(|error| WorkError::Retryable(format!("a read ended abruptly: {error}")))??,
            );
        }
    }
    Ok(records)
}

/// Where a pair lies in its shard.
pub(super) fn entry_of<'a>(sidecar: &'a ShardIndex, key: &str) -> Result<&'a ShardEntry, WorkError> {
    let found = sidecar.entries.iter().find(|entry| entry.key == key);
    found.ok_or_else(|| WorkError::Retryable(format!("shard {} does not list pair `{key}`", sidecar.shard)))
}

async fn read_record(store: &Store, shard: &Key, entry: &ShardEntry) -> Result<PairRecord, WorkError> {
    let range = entry.json.offset..entry.json.offset + entry.json.length;
    let bytes = store.get_range(shard, range).await?;
    let damaged =
        |what: &str| WorkError::Retryable(format!("`{shard}`: the record of pair `{}` {what}", entry.key));
    if ContentHash::of(&bytes) != entry.json.sha256 {
        return Err(damaged("does not have the hash its sidecar names"));
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("cannot be read: {error}")))
}
