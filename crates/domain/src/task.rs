//! Tasks: what each kind is given and what it answers. Specs and results are stored and sent as the JSON of these types.
//!
//! A result is at most [`TASK_RESULT_BYTES_MAX`]; whatever is bigger is an object and the result names its hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ActiveArea, Alignment, ColourTransform, ContentHash, CurateEpisode, EpisodeId, EpisodeSpan, FieldChoice,
    FrameRange, IndexedSource, Lattice, PairChoice, RunId, SeasonId, SegmentRef, ShardRef, SourceRef,
    StageMetrics, Transform, UpscaleSettings,
};

/// Largest result that travels in a commit and is kept in the database.
pub const TASK_RESULT_BYTES_MAX: usize = 64 * 1024;

/// Kinds of task in flow order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Decode a source once and describe every frame.
    Index,
    /// Make a DVD of a Blu-ray that has none, like the season's others.
    Press,
    /// Relate the two copies of an episode and choose the pairs.
    Align,
    /// Make one shard of pairs.
    Extract,
    /// Write the dataset manifest.
    Curate,
    /// One training run.
    Train,
    /// Turn a checkpoint into models with cards.
    Publish,
    /// Cut an episode into segments.
    Plan,
    /// Make one segment.
    Upscale,
    /// Join segments and copy all other streams.
    Assemble,
}

impl TaskKind {
    /// All kinds in flow order.
    pub const ALL: [Self; 10] = [
        Self::Index,
        Self::Press,
        Self::Align,
        Self::Extract,
        Self::Curate,
        Self::Train,
        Self::Publish,
        Self::Plan,
        Self::Upscale,
        Self::Assemble,
    ];

    /// The word used on the wire, in the database and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Press => "press",
            Self::Align => "align",
            Self::Extract => "extract",
            Self::Curate => "curate",
            Self::Train => "train",
            Self::Publish => "publish",
            Self::Plan => "plan",
            Self::Upscale => "upscale",
            Self::Assemble => "assemble",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a worker is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
// One at a time is alive per task: a box would cost more to read than the bytes it saves.
#[allow(clippy::large_enum_variant)]
pub enum TaskSpec {
    /// See [`TaskKind::Index`].
    Index(IndexSpec),
    /// See [`TaskKind::Press`].
    Press(PressSpec),
    /// See [`TaskKind::Align`].
    Align(AlignSpec),
    /// See [`TaskKind::Extract`].
    Extract(ExtractSpec),
    /// See [`TaskKind::Curate`].
    Curate(CurateSpec),
    /// See [`TaskKind::Train`].
    Train(TrainSpec),
    /// See [`TaskKind::Publish`].
    Publish(PublishSpec),
    /// See [`TaskKind::Plan`].
    Plan(PlanSpec),
    /// See [`TaskKind::Upscale`].
    Upscale(UpscaleSpec),
    /// See [`TaskKind::Assemble`].
    Assemble(AssembleSpec),
}

impl TaskSpec {
    /// The kind of task.
    #[must_use]
    pub const fn kind(&self) -> TaskKind {
        match self {
            Self::Index(_) => TaskKind::Index,
            Self::Press(_) => TaskKind::Press,
            Self::Align(_) => TaskKind::Align,
            Self::Extract(_) => TaskKind::Extract,
            Self::Curate(_) => TaskKind::Curate,
            Self::Train(_) => TaskKind::Train,
            Self::Publish(_) => TaskKind::Publish,
            Self::Plan(_) => TaskKind::Plan,
            Self::Upscale(_) => TaskKind::Upscale,
            Self::Assemble(_) => TaskKind::Assemble,
        }
    }

    /// Hash of the inputs: two specs with the same work key ask for the same work, whatever job they belong to and
    /// wherever their sources lie.
    #[must_use]
    pub fn work_key(&self) -> ContentHash {
        let mut value = serde_json::to_value(self).expect("specs are plain data with string keys");
        forget_where_sources_lie(&mut value);
        ContentHash::of(value.to_string().as_bytes())
    }
}

/// File names and paths are for people and for finding a file; they do not change the work.
fn forget_where_sources_lie(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            if fields.contains_key("sha256") && fields.contains_key("name") {
                fields.remove("name");
                fields.remove("path_hint");
            }
            fields.values_mut().for_each(forget_where_sources_lie);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget_where_sources_lie),
        _ => {}
    }
}

/// Input of `index`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSpec {
    /// The file to decode.
    pub source: SourceRef,
}

/// Input of `press`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PressSpec {
    /// Episode, for messages.
    pub episode: EpisodeId,
    /// Its Blu-ray.
    pub hd: IndexedSource,
    /// Episodes that have both, in the season's order: at least one.
    pub like: Vec<PressedLike>,
}

/// What an episode with both copies says of how its season's DVDs were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PressedLike {
    /// Both copies.
    pub span: EpisodeSpan,
    /// Geometry between them.
    pub transform: Transform,
    /// SD pixels that carry picture.
    pub active: ActiveArea,
    /// Moves HD colours to SD colours.
    pub colour: ColourTransform,
}

/// Input of `align`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlignSpec {
    /// Episode, for messages and keys.
    pub episode: EpisodeId,
    /// Both copies.
    pub span: EpisodeSpan,
    /// On whose pixels the pairs shall lie.
    pub lattice: Lattice,
    /// HR pixels per LR pixel.
    pub scale: u32,
    /// Most pairs to choose from the episode.
    pub pairs_max: u32,
    /// What inference does with the fields of the SD copy: pairs are of the frames that it shows the network.
    #[serde(default, skip_serializing_if = "FieldChoice::is_auto")]
    pub fields: FieldChoice,
    /// Weights of nnedi3 (`sources/<sha256>`), where it makes frames of fields instead of bwdif.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nnedi_weights: Option<ContentHash>,
}

/// The frames of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFrames {
    /// Number of the shard within the episode, from 0.
    pub number: u32,
    /// Frames in SD order.
    pub frames: Vec<PairChoice>,
}

/// Input of `extract`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractSpec {
    /// Episode.
    pub episode: EpisodeId,
    /// Both copies.
    pub span: EpisodeSpan,
    /// How they relate.
    pub alignment: Alignment,
    /// What to extract.
    pub shard: ShardFrames,
    /// As [`AlignSpec::nnedi_weights`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nnedi_weights: Option<ContentHash>,
}

/// Input of `curate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurateSpec {
    /// Season.
    pub season: SeasonId,
    /// Lattice of all shards.
    pub lattice: Lattice,
    /// Scale of all shards.
    pub scale: u32,
    /// Every committed shard, in episode order, then shard order.
    pub shards: Vec<ShardRef>,
    /// What is known of the episodes, in order; older tasks do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub episodes: Vec<CurateEpisode>,
}

/// Input of `train`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Run, derived from everything below.
    pub run: RunId,
    /// Season whose dataset it is.
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
    /// Model whose weights the first step starts from; drawn from the seed where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<ContentHash>,
}

/// Input of `publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    /// Run that made the checkpoint.
    pub run: RunId,
    /// sha256 of the dataset manifest.
    pub dataset: ContentHash,
    /// Key of the dataset manifest.
    pub dataset_key: String,
    /// Last checkpoint: folder under `checkpoints/`.
    pub checkpoint: ContentHash,
    /// Recipe as TOML text.
    pub recipe: String,
}

/// Input of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSpec {
    /// Episode.
    pub episode: EpisodeId,
    /// The SD copy.
    pub sd: IndexedSource,
    /// Model pinned for the job.
    pub model: ContentHash,
    /// Encoder and segment settings.
    pub settings: UpscaleSettings,
}

/// Input of `upscale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpscaleSpec {
    /// Episode.
    pub episode: EpisodeId,
    /// The SD copy.
    pub sd: IndexedSource,
    /// Frames to make.
    pub range: FrameRange,
    /// Model.
    pub model: ContentHash,
    /// Encoder settings.
    pub settings: UpscaleSettings,
}

/// Input of `assemble`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssembleSpec {
    /// Episode.
    pub episode: EpisodeId,
    /// The SD copy, for its other streams and its timestamps.
    pub sd: IndexedSource,
    /// Segments in frame order without gaps.
    pub segments: Vec<SegmentRef>,
    /// Encoder settings, for the codec the segments have.
    pub settings: UpscaleSettings,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
// One at a time is alive per task: a box would cost more to read than the bytes it saves.
#[allow(clippy::large_enum_variant)]
pub enum TaskResult {
    /// See [`TaskKind::Index`].
    Index(IndexResult),
    /// See [`TaskKind::Press`].
    Press(PressResult),
    /// See [`TaskKind::Align`].
    Align(AlignResult),
    /// See [`TaskKind::Extract`].
    Extract(ExtractResult),
    /// See [`TaskKind::Curate`].
    Curate(CurateResult),
    /// See [`TaskKind::Train`].
    Train(TrainResult),
    /// See [`TaskKind::Publish`].
    Publish(PublishResult),
    /// See [`TaskKind::Plan`].
    Plan(PlanResult),
    /// See [`TaskKind::Upscale`].
    Upscale(UpscaleResult),
    /// See [`TaskKind::Assemble`].
    Assemble(AssembleResult),
}

impl TaskResult {
    /// The kind of task it answers.
    #[must_use]
    pub const fn kind(&self) -> TaskKind {
        match self {
            Self::Index(_) => TaskKind::Index,
            Self::Press(_) => TaskKind::Press,
            Self::Align(_) => TaskKind::Align,
            Self::Extract(_) => TaskKind::Extract,
            Self::Curate(_) => TaskKind::Curate,
            Self::Train(_) => TaskKind::Train,
            Self::Publish(_) => TaskKind::Publish,
            Self::Plan(_) => TaskKind::Plan,
            Self::Upscale(_) => TaskKind::Upscale,
            Self::Assemble(_) => TaskKind::Assemble,
        }
    }
}

/// Answer of `index`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexResult {
    /// sha256 of the index object.
    pub index: ContentHash,
    /// Frames in the source.
    pub frame_count: u32,
}

/// Answer of `press`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressResult {
    /// The made DVD, which lies in the store.
    pub sd: IndexedSource,
}

/// Answer of `align`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlignResult {
    /// How the copies relate.
    pub alignment: Alignment,
    /// Shards to extract, fixed before anything is extracted.
    pub shards: Vec<ShardFrames>,
}

/// Answer of `extract`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractResult {
    /// sha256 of the tar; `None` when the gates let no pair through.
    pub shard: Option<ShardRef>,
    /// Frames turned away, by gate.
    pub rejected: BTreeMap<String, u32>,
}

/// Answer of `curate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurateResult {
    /// sha256 of the manifest object (`datasets/<season>/<sha256>.json`), copied to its number by the coordinator.
    pub manifest: ContentHash,
    /// Pairs that count.
    pub pair_count: u64,
}

/// Answer of `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Last checkpoint: folder under `checkpoints/`.
    pub checkpoint: ContentHash,
    /// Steps over all stages.
    pub steps: u64,
    /// Validation of each stage.
    pub stages: Vec<StageMetrics>,
}

/// A model that `publish` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedModel {
    /// Stage whose EMA weights it holds.
    pub stage: String,
    /// Id: sha256 of its `model.safetensors`.
    pub id: ContentHash,
}

/// Answer of `publish`: one model per stage in stage order. The last one becomes channel `latest`, each one
/// also channel `<stage>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishResult {
    /// Models in stage order.
    pub models: Vec<PublishedModel>,
}

/// Answer of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanResult {
    /// Ranges in frame order that cover every frame once.
    pub segments: Vec<FrameRange>,
}

/// Answer of `upscale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpscaleResult {
    /// The segment.
    pub segment: SegmentRef,
}

/// Answer of `assemble`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssembleResult {
    /// Object `segments/<sha256>.mkv`: the whole episode; the coordinator copies it to `outputs/`.
    pub sha256: ContentHash,
    /// Size of the object.
    pub bytes: u64,
    /// Video frames in it.
    pub frame_count: u32,
}

/// An object that a record or a commit makes count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputObject {
    /// Store key; contains the hash.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// A resumable snapshot that a running task recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Folder under `checkpoints/`.
    pub sha256: ContentHash,
    /// Steps done.
    pub step: u64,
}

/// How far an attempt is, in its own unit (frames, steps, bytes).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 while unknown.
    pub total: u64,
    /// One line for people: `loss 0.0123`, `3.1 fps`.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, hint: Option<&str>) -> TaskSpec {
        TaskSpec::Index(IndexSpec {
            source: SourceRef {
                sha256: ContentHash::of(b"film"),
                bytes: 4,
                name: name.to_owned(),
                path_hint: hint.map(str::to_owned),
            },
        })
    }

    #[test]
    fn where_a_source_lies_does_not_change_the_work() {
        assert_eq!(
            spec("a.mkv", None).work_key(),
            spec("b.mkv", Some("/discs/b.mkv")).work_key()
        );
    }

    #[test]
    fn every_kind_has_its_own_word() {
        for kind in TaskKind::ALL {
            assert_eq!(TaskKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(TaskKind::parse("nonsense"), None);
    }
}
