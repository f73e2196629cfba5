//! Manifests: immutable, numbered lists of what counts. Readers follow them, never a listing of the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Alignment, ContentHash, EpisodeId, EpisodeSpan, Lattice, SeasonId};

/// Version written into every manifest.
pub const MANIFEST_VERSION: u32 = 1;

/// One shard of a dataset and the pairs of it that count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRef {
    /// Episode the pairs come from.
    pub episode: EpisodeId,
    /// sha256 of the tar (`shards/<sha256>.tar`, sidecar beside it as `.idx`).
    pub sha256: ContentHash,
    /// Size of the tar.
    pub bytes: u64,
    /// Pairs that count, in the tar's order.
    pub keys: Vec<String>,
}

/// `datasets/<season>/manifest-<n>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// Format version, [`MANIFEST_VERSION`].
    pub version: u32,
    /// Season the pairs come from.
    pub season: SeasonId,
    /// On whose pixels the pairs lie.
    pub lattice: Lattice,
    /// HR pixels per LR pixel.
    pub scale: u32,
    /// Shards in episode order, then shard order.
    pub shards: Vec<ShardRef>,
    /// What became of each episode, in order; empty in older manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub episodes: Vec<EpisodeYield>,
    /// sha256 of the way back to the Blu-rays' colours, the median of the episodes' (`datasets/<season>/<sha256>.cube`);
    /// older manifests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour_cube: Option<ContentHash>,
}

/// What an episode gave to a dataset, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeYield {
    /// Episode.
    pub episode: EpisodeId,
    /// Pairs that count.
    pub kept: u32,
    /// Pairs that show what another episode shows too, in a better copy.
    pub repeats: u32,
    /// Whether its SD side was made of its Blu-ray, because there is no DVD.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// Frames turned away, by gate.
    pub rejected: BTreeMap<String, u32>,
    /// sha256 of the page to look at (`datasets/<season>/<sha256>.html`).
    pub sheet: ContentHash,
    /// sha256 of the way back to its Blu-ray's colours, as [`DatasetManifest::colour_cube`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour_cube: Option<ContentHash>,
}

/// What `curate` is told of an episode beside its shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurateEpisode {
    /// Episode.
    pub episode: EpisodeId,
    /// Both copies.
    pub span: EpisodeSpan,
    /// How they relate.
    pub alignment: Alignment,
    /// Frames turned away, by gate.
    pub rejected: BTreeMap<String, u32>,
}

impl DatasetManifest {
    /// How many pairs count.
    #[must_use]
    pub fn pair_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.keys.len()).sum()
    }
}
