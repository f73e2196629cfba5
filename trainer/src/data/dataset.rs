//! A manifest with its sidecars: every pair that counts and where it lies, split into what is trained on and what
//! is held out. Whole shots are held out, so that no frame is judged whose neighbours were learnt. Pairs whose LR was made
//! from HR at extraction are learnt from where a recipe asks for them, and never judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use remaster_domain::{ContentHash, DatasetManifest, Lattice, PairRecord, ShardRef};
use remaster_store::{Key, ShardEntry, Store, StoreError};
use tracing::info;

use super::picture::Pair;
use crate::TrainError;
use crate::recipe::TrainData;

/// Sidecars or records read at once: enough to hide an object store's latency.
const READS_IN_FLIGHT: usize = 16;
/// Records of a shard tried before it is taken to be real: damaged ones are rare, and met again when they are trained on.
const RECORDS_TRIED: usize = 3;
/// Held-out pairs aimed at, as a share of all.
const HELD_OUT_SHARE: f64 = 1.0 / 20.0;
/// Held-out pairs at most: one long shot must not take the data away.
const HELD_OUT_SHARE_MAX: f64 = 1.0 / 5.0;
/// Places tried for a shot to hold out.
const PIVOTS_MAX: usize = 16;
/// Spreads the pivots evenly however many there are: the golden ratio's fraction.
const PIVOT_STRIDE: f64 = 0.618_033_988_749_895;

/// One pair and where it lies.
#[derive(Debug, Clone)]
pub struct PairRef {
    /// Shard it lies in.
    pub shard: ContentHash,
    /// Where in it.
    pub entry: ShardEntry,
    /// Whether its shard is of an episode without SD, whose LR was made from HR.
    pub synthetic: bool,
}

/// A dataset ready to be read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The manifest.
    pub manifest: DatasetManifest,
    /// Its hash.
    pub hash: ContentHash,
    /// Every pair that counts, in the manifest's order.
    pub pairs: Vec<PairRef>,
    /// Pairs to train on, as positions in `pairs`; of the synthetic ones none, unless a recipe asked for them.
    pub train: Vec<usize>,
    /// Pairs to judge by, as positions in `pairs`; may be empty.
    pub held_out: Vec<usize>,
}

impl Dataset {
    /// Reads manifest and sidecars and checks that they fit each other and the run.
    ///
    /// # Errors
    /// [`TrainError::Dataset`] for what no retry mends, [`TrainError::DatasetObject`] for a part that is missing or damaged,
    /// [`TrainError::Store`] for the rest.
    pub async fn open(store: &Store, key: &str, hash: &ContentHash, scale: u32) -> Result<Self, TrainError> {
        let key: Key = key
            .parse()
            .map_err(|error: StoreError| TrainError::Dataset(error.to_string()))?;
        let manifest = store.get_json_verified(&key, hash).await.map_err(of_part)?;
        Self::of_manifest(store, manifest, hash.clone(), scale).await
    }

    /// The same for a manifest that was read already.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub async fn of_manifest(
        store: &Store,
        manifest: DatasetManifest,
        hash: ContentHash,
        scale: u32,
    ) -> Result<Self, TrainError> {
        if manifest.scale != scale {
            let text = format!(
                "its pairs are {} times, but the run is for {scale} times",
                manifest.scale
            );
            return Err(TrainError::Dataset(text));
        }
        let pairs = locate(store, &manifest).await?;
        if pairs.is_empty() {
            let text = format!(
                "season `{}` has no pairs: extract an episode that has both discs",
                manifest.season
            );
            return Err(TrainError::Dataset(text));
        }
        let real: Vec<usize> = (0..pairs.len()).filter(|at| !pairs[*at].synthetic).collect();
        let of_real: Vec<&PairRef> = real.iter().map(|at| &pairs[*at]).collect();
        let held_out = hold_out(store, &of_real).await?;
        let held_out: Vec<usize> = held_out.into_iter().map(|number| real[number]).collect();
        let train = real
            .into_iter()
            .filter(|at| held_out.binary_search(at).is_err())
            .collect();
        Ok(Self {
            manifest,
            hash,
            pairs,
            train,
            held_out,
        })
    }

    /// The same with what a recipe trains on: the synthetic pairs, too, if it says so.
    ///
    /// # Errors
    /// [`TrainError::Dataset`] where nothing is left.
    pub fn chosen_by(self: Arc<Self>, data: &TrainData) -> Result<Arc<Self>, TrainError> {
        let synthetic = (0..self.pairs.len()).filter(|at| self.pairs[*at].synthetic);
        let synthetic: Vec<usize> = synthetic.collect();
        let real = self.pairs.len() - synthetic.len();
        if data.use_synthetic_pairs && !synthetic.is_empty() {
            info!(
                real,
                synthetic = synthetic.len(),
                "synthetic pairs are learnt from, too"
            );
            let mut chosen = Arc::unwrap_or_clone(self);
            chosen.train.extend(synthetic);
            chosen.train.sort_unstable();
            return Ok(Arc::new(chosen));
        }
        if self.train.is_empty() {
            return Err(TrainError::Dataset(format!(
                "all {} pairs of season `{}` are synthetic: extract an episode that has both discs, or set \
                 datasets.train.use_synthetic_pairs = true",
                synthetic.len(),
                self.manifest.season
            )));
        }
        if !synthetic.is_empty() {
            info!(
                real,
                synthetic = synthetic.len(),
                "synthetic pairs are left out, datasets.train.use_synthetic_pairs = true takes them"
            );
        }
        Ok(self)
    }

    /// Reads and decodes the first pair, so that what is wrong with all of them shows before the first step.
    ///
    /// # Errors
    /// [`TrainError::Dataset`] when crops of `lq_size_px` cannot be taken from it.
    pub async fn check_first(&self, store: &Store, lq_size_px: u32) -> Result<(), TrainError> {
        // Damaged pairs are skipped and counted when they are met; here it is about sizes.
        for at in self.train.iter().take(3) {
            let pair = &self.pairs[*at];
            let Ok(files) = store.read_pair(&pair.shard, &pair.entry).await else {
                continue;
            };
            let Ok(pair) = Pair::decode(&files, self.manifest.scale) else {
                continue;
            };
            let named = |reason| TrainError::Dataset(format!("pair `{}`: {reason}", files.key));
            return pair.at_least(lq_size_px).map(drop).map_err(named);
        }
        Ok(())
    }
}

async fn locate(store: &Store, manifest: &DatasetManifest) -> Result<Vec<PairRef>, TrainError> {
    let shards = manifest
        .shards
        .clone()
        .into_iter()
        .map(|shard| locate_in(store.clone(), shard, manifest.lattice));
    let found: Vec<Vec<PairRef>> = futures::stream::iter(shards)
        .buffered(READS_IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn locate_in(store: Store, shard: ShardRef, lattice: Lattice) -> Result<Vec<PairRef>, TrainError> {
    let index = store.shard_index(&shard.sha256).await.map_err(of_part)?;
    let mut entries = index.entries.into_iter();
    let mut found = Vec::with_capacity(shard.keys.len());
    for key in &shard.keys {
        // The keys that count are in the tar's order, so one pass finds them all.
        let Some(entry) = entries.find(|entry| entry.key == *key) else {
            let text = format!(
                "shard {} has no pair `{key}`, or not in its order: extract the season again",
                shard.sha256.short()
            );
            return Err(TrainError::Dataset(text));
        };
        found.push(PairRef {
            shard: shard.sha256.clone(),
            entry,
            synthetic: false,
        });
    }
    if let Some(record) = first_record(&store, &found).await? {
        if record.lattice != lattice {
            return Err(TrainError::Dataset(format!(
                "shard {} of episode {} is {}, its manifest says {}: a dataset holds one lattice, extract the episodes with one",
                shard.sha256.short(),
                shard.episode,
                record.lattice.name(),
                lattice.name()
            )));
        }
        found
            .iter_mut()
            .for_each(|pair| pair.synthetic = record.synthetic);
    }
    Ok(found)
}

/// A shard's first readable record, which speaks for all: a shard is of one episode and one lattice, and an episode has SD or
/// has none.
async fn first_record(store: &Store, pairs: &[PairRef]) -> Result<Option<PairRecord>, TrainError> {
    for pair in pairs.iter().take(RECORDS_TRIED) {
        match read_record(store, pair).await {
            Ok(record) => return Ok(Some(record)),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Whole shots around a few evenly spread pairs. Shots are runs in the manifest's order, so only the pairs around a
/// pivot have their records read: a season of 100,000 pairs starts as fast as a demo.
async fn hold_out(store: &Store, pairs: &[&PairRef]) -> Result<Vec<usize>, TrainError> {
    let share = |share: f64| (pairs.len() as f64 * share) as usize;
    let (aim, most) = (share(HELD_OUT_SHARE).max(1), share(HELD_OUT_SHARE_MAX));
    let mut shots = Shots {
        store,
        pairs,
        known: BTreeMap::new(),
    };
    let mut held = BTreeSet::new();
    for number in 0..PIVOTS_MAX {
        if held.len() >= aim {
            break;
        }
        let pivot = ((number as f64 + 0.5) * PIVOT_STRIDE).fract() * pairs.len() as f64;
        let shot = shots.around(pivot as usize, most).await?;
        if held.len() + shot.len() <= most {
            held.extend(shot);
        }
    }
    Ok(held.into_iter().collect())
}

/// Which shot a pair is of, read as far as it is asked for and a window at a time.
struct Shots<'a> {
    store: &'a Store,
    pairs: &'a [&'a PairRef],
    /// Episode and shot by position; `None` for a pair whose record cannot be read.
    known: BTreeMap<usize, Option<(String, u32)>>,
}

impl Shots<'_> {
    /// The pairs of a pivot's shot; stops early once they are more than `most`.
    async fn around(&mut self, pivot: usize, most: usize) -> Result<Range<usize>, TrainError> {
        let first = pivot.saturating_sub(READS_IN_FLIGHT / 2);
        let Some(shot) = self.at(pivot, first..first + READS_IN_FLIGHT).await? else {
            return Ok(pivot..pivot);
        };
        let belongs = |other: Option<(String, u32)>| other.is_none_or(|other| other == shot);
        let mut run = pivot..pivot + 1;
        while run.start > 0 && run.len() <= most {
            let window = run.start.saturating_sub(READS_IN_FLIGHT)..run.start;
            if !belongs(self.at(run.start - 1, window).await?) {
                break;
            }
            run.start -= 1;
        }
        while run.end < self.pairs.len() && run.len() <= most {
            let window = run.end..run.end + READS_IN_FLIGHT;
            if !belongs(self.at(run.end, window).await?) {
                break;
            }
            run.end += 1;
        }
        Ok(run)
    }

    /// The shot of a pair; where it is not known yet it is read with all others of the window.
    async fn at(&mut self, at: usize, window: Range<usize>) -> Result<Option<(String, u32)>, TrainError> {
        if let Some(known) = self.known.get(&at) {
            return Ok(known.clone());
        }
        let (store, pairs) = (self.store, self.pairs);
        let wanted = window.filter(|at| *at < pairs.len() && !self.known.contains_key(at));
        let places: Vec<usize> = wanted.collect();
        let wanted = places.iter().map(|at| PairRef::clone(pairs[*at])).collect();
        let records = readable_records(store, wanted).await?;
        let shots = records
            .into_iter()
            .map(|record| record.map(|record| (record.episode.to_string(), record.shot)));
        self.known.extend(places.into_iter().zip(shots));
        Ok(self.known.get(&at).cloned().flatten())
    }
}

/// The records of some pairs in their order, several at once; `None` for one that cannot be read and never will.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub(crate) async fn readable_records(
    store: &Store,
    pairs: Vec<PairRef>,
) -> Result<Vec<Option<PairRecord>>, TrainError> {
    let reads = pairs.into_iter().map(|pair| {
        let store = store.clone();
        async move {
            match read_record(&store, &pair).await {
                Ok(record) => Ok(Some(record)),
                Err(error) if error.is_retryable() => Err(error.into()),
                Err(_) => Ok(None),
            }
        }
    });
    futures::stream::iter(reads)
        .buffered(READS_IN_FLIGHT)
        .try_collect()
        .await
}

/// A pair's record without its pictures.
async fn read_record(store: &Store, pair: &PairRef) -> Result<PairRecord, StoreError> {
    let key = Key::shard(&pair.shard);
    let member = &pair.entry.json;
    let bytes = store
        .get_range(&key, member.offset..member.offset.saturating_add(member.length))
        .await?;
    let damaged = |reason: String| StoreError::Damaged {
        key: key.to_string(),
        reason,
    };
    if ContentHash::of(&bytes) != member.sha256 {
        return Err(damaged(format!(
            "the record of `{}` has another hash",
            pair.entry.key
        )));
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

/// An error of a part of the dataset: one that is not there or damaged is told apart from a store that is away.
fn of_part(error: StoreError) -> TrainError {
    if error.is_retryable() {
        error.into()
    } else {
        TrainError::DatasetObject(error)
    }
}
