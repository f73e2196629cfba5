//! What a person looks at to believe the pairs of an episode: one HTML page with everything inside it.
//!
//! The worst pairs come first, so that looking at a few rows says something of all. Left to others: where the page is kept.

mod contact;
mod page;
mod plot;

use std::collections::BTreeMap;

use remaster_domain::{Alignment, EpisodeId, PairRecord, ShardRef};
use remaster_store::{ShardIndex, Store};

use self::contact::{Row, row_of, worst_first};
use super::records::entry_of;
use crate::error::WorkError;

/// Pairs shown; at three pictures of 100 to 160 kB each a page stays below 6 MB.
const ROWS_MAX: usize = 12;

/// What is known of an episode when its pairs are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct SheetInput<'a> {
    pub(super) episode: &'a EpisodeId,
    pub(super) alignment: &'a Alignment,
    /// Frames turned away, by gate.
    pub(super) rejected: &'a BTreeMap<String, u32>,
    /// Pairs left out since another episode shows the same.
    pub(super) repeats: u32,
    /// Frames of the SD copy.
    pub(super) sd_frames: u32,
    /// Shards with the pairs that count, those of other episodes too, and sidecars of at least these.
    pub(super) shards: &'a [ShardRef],
    pub(super) sidecars: &'a [ShardIndex],
    /// Records of at least these pairs, by key.
    pub(super) records: &'a BTreeMap<String, PairRecord>,
}

/// The page of an episode. Reads the pictures of the rows it shows and no others.
pub(super) async fn sheet_of(store: &Store, input: SheetInput<'_>) -> Result<String, WorkError> {
    let own = input
        .shards
        .iter()
        .filter(|shard| shard.episode == *input.episode);
    let keys = own.flat_map(|shard| shard.keys.iter().map(move |key| (&shard.sha256, key)));
    let mut pairs: Vec<_> = keys
        .filter_map(|(shard, key)| Some((shard, key, input.records.get(key)?)))
        .collect();
    let kept = pairs.len();
    pairs.sort_by(|a, b| worst_first(a.2, b.2));
    let mut rows: Vec<Row> = Vec::new();
    for (shard, key, record) in pairs.into_iter().take(ROWS_MAX) {
        let sidecar = input.sidecars.iter().find(|sidecar| sidecar.shard == *shard);
        let Some(sidecar) = sidecar else { continue };
        let pair = store.read_pair(shard, entry_of(sidecar, key)?).await?;
        rows.push(row_of(&pair, record)?);
    }
    Ok(page::render(&input, kept, &rows).into_string())
}
