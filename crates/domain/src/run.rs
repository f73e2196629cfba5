//! The record of a training run: what it was given, where it got to, how good it was. Numbered like dataset manifests.

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, ContentHash, RunId, SeasonId, StageMetrics};

/// Version written into every run manifest.
pub const RUN_MANIFEST_VERSION: u32 = 1;

/// `runs/<run>/manifest-<n>.json`. The highest number says most; the older ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// Format version, [`RUN_MANIFEST_VERSION`].
    pub version: u32,
    /// Run.
    pub run: RunId,
    /// Season whose dataset it learns from.
    pub season: SeasonId,
    /// sha256 of the dataset manifest.
    pub dataset: ContentHash,
    /// Key of the dataset manifest.
    pub dataset_key: String,
    /// Output pixels per input pixel.
    pub scale: u32,
    /// Recipe as TOML text.
    pub recipe: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Model that it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<ContentHash>,
    /// Recorded checkpoints, oldest first. Collected garbage may have taken all but the last of them.
    pub checkpoints: Vec<Checkpoint>,
    /// Steps of the finished run; `None` while it goes on.
    pub steps: Option<u64>,
    /// Validation of each stage; empty while the run goes on.
    pub metrics: Vec<StageMetrics>,
}
