//! Finds and removes objects that nothing names: what attempts wrote that were lost before their commit, uploads for jobs
//! that were never handed in, checkpoints that no attempt will start from again, and writes that ended in the middle.
//!
//! Only objects that a hash names are looked at; names for people stay. An object stays while any row names it or anything
//! beside it, while it is young, since an attempt writes before it commits (one that writes it again makes it young
//! again), and if it is older than the database: what another database's attempts wrote is not ours to judge. Of a run
//! the last checkpoints stay. Two coordinators that collect at once remove the same objects.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use remaster_domain::ContentHash;
use remaster_store::{Key, ListedObject};
use tracing::info;

use crate::CoordinatorError;
use crate::coordinator::Coordinator;
use crate::db;

/// Where garbage is looked for.
const FOLDERS: [&str; 7] = [
    "sources",
    "indexes",
    "shards",
    "datasets",
    "checkpoints",
    "models",
    "segments",
];
/// Checkpoints of a run that stay: the last, and one before it should that turn out to be damaged.
const CHECKPOINTS_KEPT: i64 = 2;
/// Objects of one call: its answer must fit a message, and a caller waits for it.
const COLLECTED_AT_ONCE: usize = 1_000;
/// Calls to the store under way at once: far away, one takes a tenth of a second.
const CALLS_AT_ONCE: usize = 16;
/// A younger object may belong to an attempt that is still at work, whatever the caller says.
const GRACE_MIN_MS: i64 = 60 * 60 * 1_000;
/// A write that has not ended may still go on: a bucket tells when one was begun only, and a disc takes days over a slow line.
const UNFINISHED_MIN_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// Discs are there before the job that names them, by as long as the rest of the season takes, or as an upload that was broken
/// off was left.
const UPLOADED: &str = "sources/";

/// An object that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    pub(crate) why: Why,
}

/// Why an object is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// No row, and no job that was handed in.
    Unnamed,
    /// A checkpoint before the last ones of its run.
    Outdated,
}

impl Why {
    /// The reason in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Unnamed => "nothing names it",
            Self::Outdated => "an older checkpoint of its run",
        }
    }
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

/// Times that decide over age, on the clock of the store's objects.
#[derive(Debug, Clone, Copy)]
struct Ages {
    /// What came before this database is not ours.
    first_ms: i64,
    /// What is younger may be about to count.
    old_ms: i64,
    /// What is younger may be about to be handed in.
    uploaded_ms: i64,
}

impl Ages {
    fn hold(self, key: &str, modified_ms: i64) -> bool {
        let old_ms = if key.starts_with(UPLOADED) {
            self.uploaded_ms
        } else {
            self.old_ms
        };
        self.first_ms <= modified_ms && modified_ms <= old_ms
    }
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
        let began_ms = self.db.now_ms().await?;
        let now_ms = self.db.now_beside_objects_ms().await?;
        let mut collected = Collected::default();
        let Some(first_ms) = db::first_ms(&mut self.reader().await?).await? else {
            return Ok(collected);
        };
        let old_ms = now_ms.saturating_sub(grace_ms);
        let dead_ms = now_ms.saturating_sub(grace_ms.max(UNFINISHED_MIN_MS));
        let ages = Ages {
            first_ms,
            old_ms,
            uploaded_ms: dead_ms,
        };
        for folder in FOLDERS {
            let garbage = self.garbage_in(folder, ages).await?;
            let room = COLLECTED_AT_ONCE - collected.objects.len();
            collected.more |= garbage.len() > room;
            collected.objects.extend(garbage.into_iter().take(room));
        }
        let mut dead = self.store.list_unfinished().await?;
        dead.retain(|object| object.modified_ms <= dead_ms);
        collected.more |= dead.len() > COLLECTED_AT_ONCE;
        dead.truncate(COLLECTED_AT_ONCE);
        collected.unfinished = dead;
        if !dry_run {
            self.remove(&mut collected, ages, began_ms).await?;
        }
        Ok(collected)
    }

    async fn garbage_in(&self, folder: &str, ages: Ages) -> Result<Vec<Garbage>, CoordinatorError> {
        // Listed before the rows are read: what is committed meanwhile was not there or is named by then.
        let mut listed = self.store.list_aged(folder).await?;
        listed.retain(|object| ages.hold(&object.key, object.modified_ms));
        if listed.is_empty() {
            return Ok(vec![]);
        }
        let mut reader = self.reader().await?;
        let mut named = db::object_keys(&mut reader, folder).await?;
        if let "sources" | "models" = folder {
            let asked = db::asked_for(&mut reader, i64::MIN).await?;
            named.extend(asked.into_iter().map(|hash| format!("{folder}/{hash}")));
        }
        let outdated = match folder {
            "checkpoints" => db::outdated_checkpoints(&mut reader, CHECKPOINTS_KEPT, ages.old_ms).await?,
            _ => BTreeSet::new(),
        };
        Ok(choose(listed, &named, &outdated))
    }

    /// Removes what was found, and leaves in `collected` what was removed.
    async fn remove(
        &self,
        collected: &mut Collected,
        ages: Ages,
        began_ms: i64,
    ) -> Result<(), CoordinatorError> {
        for object in &collected.unfinished {
            self.store.remove_unfinished(object).await?;
            info!(key = object.key, "removed, it was never finished");
        }
        let found = std::mem::take(&mut collected.objects);
        // The rows first: dying between the two leaves objects that nothing names, which the next collection finds.
        let still = self
            .db
            .writer
            .run(move |tx| Box::pin(async move { forget(tx, found, ages, began_ms).await }))
            .await?;
        let removed = stream::iter(still).map(|object| async move {
            // An attempt may have written it again since it was listed, and be about to commit it.
            match self.store.modified_ms(&object.key).await? {
                Some(modified_ms) if !ages.hold(object.key.as_str(), modified_ms) => Ok(None),
                _ => {
                    self.store.delete(&object.key).await?;
                    info!(key = %object.key, why = object.why.words(), "removed");
                    Ok::<_, CoordinatorError>(Some(object))
                }
            }
        });
        let removed: Vec<_> = removed.buffered(CALLS_AT_ONCE).try_collect().await?;
        collected.objects = removed.into_iter().flatten().collect();
        Ok(())
    }
}

/// Forgets the rows of what is garbage, and answers what still is, within the transaction: something may have been
/// committed or handed in since it was found.
async fn forget(
    tx: &mut db::Tx,
    found: Vec<Garbage>,
    ages: Ages,
    began_ms: i64,
) -> Result<Vec<Garbage>, CoordinatorError> {
    let outdated = if found.iter().any(|object| object.why == Why::Outdated) {
        db::outdated_checkpoints(&mut tx.connection, CHECKPOINTS_KEPT, ages.old_ms).await?
    } else {
        BTreeSet::new()
    };
    let keys: Vec<_> = found.iter().map(|object| object.key.as_str()).collect();
    let mut named = db::named_of(tx, &keys).await?;
    for hash in db::asked_for(&mut tx.connection, began_ms).await? {
        named.extend(["sources", "models"].map(|folder| format!("{folder}/{hash}")));
    }
    let listed = found.into_iter().map(|object| ListedObject {
        key: object.key.to_string(),
        bytes: object.bytes,
        modified_ms: ages.old_ms,
    });
    let still = choose(listed.collect(), &named, &outdated);
    let keys: Vec<_> = still.iter().map(|object| object.key.as_str()).collect();
    db::forget_objects(tx, &keys).await?;
    Ok(still)
}

/// What of a listing is garbage. Keys beside each other stand and fall together: `shards/x.tar` and `shards/x.idx`.
fn choose(listed: Vec<ListedObject>, named: &[String], outdated: &BTreeSet<String>) -> Vec<Garbage> {
    let named: BTreeSet<&str> = named.iter().filter_map(|key| stem(key)).collect();
    let garbage = listed.into_iter().filter_map(|object| {
        let of = stem(&object.key)?;
        let why = if outdated.contains(of) {
            Why::Outdated
        } else if named.contains(of) {
            return None;
        } else {
            Why::Unnamed
        };
        Some(Garbage {
            // What is not named as ours are is not ours to remove.
            key: object.key.parse().ok()?,
            bytes: object.bytes,
            why,
        })
    });
    garbage.collect()
}

/// A key up to its hash: `shards/x` of `shards/x.tar`, `datasets/s/x` of `datasets/s/x.json`. `None` where it has no hash:
/// that is a name for people.
fn stem(key: &str) -> Option<&str> {
    // A season may be named like a hash.
    let before = if key.starts_with("datasets/") { 2 } else { 1 };
    let (slash, _) = key.match_indices('/').nth(before - 1)?;
    let rest = &key[slash + 1..];
    let hash = &rest[..rest.find(['.', '/']).unwrap_or(rest.len())];
    let is_hash = hash.parse::<ContentHash>().is_ok();
    is_hash.then(|| &key[..slash + 1 + hash.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(of: &str) -> ContentHash {
        ContentHash::of(of.as_bytes())
    }

    fn garbage_of(listed: &[String], named: &[String], outdated: &[String]) -> Vec<String> {
        let listed = listed.iter().map(|key| ListedObject {
            key: key.clone(),
            bytes: 1,
            modified_ms: 0,
        });
        let outdated = outdated.iter().cloned().collect();
        let garbage = choose(listed.collect(), named, &outdated);
        garbage.iter().map(|garbage| garbage.key.to_string()).collect()
    }

    #[test]
    fn what_is_named_stays_with_what_is_beside_it() {
        let [a, b, d] = ["a", "b", "d"].map(hash);
        let listed = [
            format!("shards/{a}.tar"),
            format!("shards/{a}.idx"),
            format!("shards/{b}.tar"),
            "shards/not_ours".to_owned(),
            format!("checkpoints/{d}/state.json"),
        ];
        let named = [listed[0].clone(), listed[4].clone()];
        let garbage = garbage_of(&listed, &named, &[format!("checkpoints/{d}")]);
        assert_eq!(garbage, [listed[2].clone(), listed[4].clone()]);
    }

    #[test]
    fn names_for_people_stay_even_of_a_season_that_is_named_like_a_hash() {
        let (season, of) = (hash("season"), hash("object"));
        let listed = [
            format!("datasets/{season}/manifest-1.json"),
            format!("datasets/{season}/{of}.json"),
        ];
        assert_eq!(garbage_of(&listed, &[], &[]), [listed[1].clone()]);
        assert_eq!(garbage_of(&listed, &[listed[1].clone()], &[]), [""; 0]);
    }

    #[test]
    fn what_is_young_or_older_than_the_database_stays() {
        let ages = Ages {
            first_ms: 3,
            old_ms: 5,
            uploaded_ms: 4,
        };
        let hold = |folder: &str| [2, 3, 4, 5, 6].map(|ms| ages.hold(&format!("{folder}/x"), ms));
        assert_eq!(hold("shards"), [false, true, true, true, false]);
        assert_eq!(hold("sources"), [false, true, true, false, false]);
    }
}
