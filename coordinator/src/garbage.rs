//! Finds and removes objects that nothing names: what attempts wrote that were lost before their commit, checkpoints
//! that no attempt will start from again, and writes that ended in the middle.
//!
//! Only shards, segments, indexes and checkpoints are looked at: what is large and named by a hash. An object stays while
//! any row names it or anything beside it, and while it is young, since an attempt writes before it commits; an attempt
//! that writes it again makes it young again. Of a run the last checkpoints stay. Two coordinators that collect at once
//! remove the same objects.

use std::collections::BTreeSet;

use remaster_store::{Key, ListedObject};
use tracing::info;

use crate::CoordinatorError;
use crate::coordinator::Coordinator;
use crate::db;

/// Where garbage is looked for.
const FOLDERS: [&str; 4] = ["shards", "segments", "indexes", "checkpoints"];
/// Checkpoints of a run that stay: the last, and one before it should that turn out to be damaged.
const CHECKPOINTS_KEPT: i64 = 2;
/// Objects of one call: its answer must fit a message, and a caller waits for it.
const COLLECTED_AT_ONCE: usize = 1_000;
/// A younger object may belong to an attempt that is still at work, whatever the caller says.
const GRACE_MIN_MS: i64 = 60 * 60 * 1_000;

/// An object that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    pub(crate) reason: &'static str,
}

/// What a collection found.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) objects: Vec<Garbage>,
    /// Writes that were never finished: files in a folder, multipart uploads in a bucket.
    pub(crate) unfinished: Vec<ListedObject>,
    /// Whether there may be more than one call collects.
    pub(crate) more: bool,
}

impl Coordinator {
    /// Removes garbage older than the grace period, or only says what it would remove.
    pub(crate) async fn collect_garbage(
        &self,
        grace_ms: i64,
        dry_run: bool,
    ) -> Result<Collected, CoordinatorError> {
        if grace_ms < GRACE_MIN_MS {
            return Err(CoordinatorError::Invalid(format!(
                "a grace period of {grace_ms} ms is too short: attempts that run need {GRACE_MIN_MS} ms at least"
            )));
        }
        let old_ms = self.db.now_beside_objects_ms().await?.saturating_sub(grace_ms);
        let mut collected = Collected::default();
        for folder in FOLDERS {
            // Listed before the rows are read: what is committed meanwhile was not there or is named by then.
            let listed = self.store.list_aged(folder).await?;
            let mut reader = self.reader().await?;
            let named = db::object_keys(&mut reader, folder).await?;
            let outdated = db::outdated_checkpoints(&mut reader, CHECKPOINTS_KEPT, old_ms).await?;
            drop(reader);
            let garbage = choose(listed, &named, &outdated, old_ms);
            let room = COLLECTED_AT_ONCE - collected.objects.len();
            collected.more |= garbage.len() > room;
            collected.objects.extend(garbage.into_iter().take(room));
        }
        let begun = self.store.list_unfinished().await?;
        let dead = begun.into_iter().filter(|object| object.modified_ms <= old_ms);
        collected.unfinished = dead.take(COLLECTED_AT_ONCE).collect();
        if !dry_run {
            for object in &collected.unfinished {
                self.store.remove_unfinished(object).await?;
                info!(key = object.key, "removed, it was never finished");
            }
            for object in &collected.objects {
                self.remove(object, old_ms).await?;
            }
        }
        Ok(collected)
    }

    async fn remove(&self, object: &Garbage, old_ms: i64) -> Result<(), CoordinatorError> {
        let key = &object.key;
        // An attempt may have written it again since it was listed, and be about to commit it.
        if self
            .store
            .modified_ms(key)
            .await?
            .is_some_and(|modified_ms| modified_ms > old_ms)
        {
            return Ok(());
        }
        // The row first: dying between the two leaves an object that nothing names, which the next collection finds.
        let named = key.to_string();
        self.db
            .writer
            .run(move |tx| Box::pin(async move { db::forget_object(tx, &named).await }))
            .await?;
        self.store.delete(key).await?;
        info!(%key, reason = object.reason, "removed");
        Ok(())
    }
}

/// What of a listing is garbage. Keys beside each other stand and fall together: `shards/x.tar` and `shards/x.idx`.
fn choose(
    listed: Vec<ListedObject>,
    named: &[String],
    outdated: &BTreeSet<String>,
    old_ms: i64,
) -> Vec<Garbage> {
    let named: BTreeSet<&str> = named.iter().map(|key| stem(key)).collect();
    let old = listed.into_iter().filter(|object| object.modified_ms <= old_ms);
    let garbage = old.filter_map(|object| {
        let of = stem(&object.key);
        let reason = if outdated.contains(of) {
            "an older checkpoint of its run"
        } else if named.contains(of) {
            return None;
        } else {
            "nothing names it"
        };
        Some(Garbage {
            // What is not named as ours are is not ours to remove.
            key: object.key.parse().ok()?,
            bytes: object.bytes,
            reason,
        })
    });
    garbage.collect()
}

/// Folder and hash of a key: `shards/x` of `shards/x.tar`, `checkpoints/x` of `checkpoints/x/state.json`.
fn stem(key: &str) -> &str {
    let Some((folder, rest)) = key.split_once('/') else {
        return key;
    };
    let hash_bytes = rest.find(['.', '/']).unwrap_or(rest.len());
    &key[..folder.len() + 1 + hash_bytes]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, modified_ms: i64) -> ListedObject {
        ListedObject {
            key: key.to_owned(),
            bytes: 1,
            modified_ms,
        }
    }

    #[test]
    fn what_is_named_or_young_or_beside_what_is_named_stays() {
        let listed = vec![
            object("shards/a.tar", 1),
            object("shards/a.idx", 1),
            object("shards/b.tar", 1),
            object("shards/c.tar", 9),
            object("shards/not_ours", 1),
            object("checkpoints/d/state.json", 1),
        ];
        let garbage = choose(
            listed,
            &["shards/a.tar".to_owned(), "checkpoints/d/state.json".to_owned()],
            &["checkpoints/d".to_owned()].into(),
            5,
        );
        let keys: Vec<_> = garbage.iter().map(|garbage| garbage.key.as_str()).collect();
        assert_eq!(keys, ["shards/b.tar", "checkpoints/d/state.json"]);
    }
}
