//! The words of Remaster as types: what is submitted, what is done to it, what comes out.
//!
//! extract -> store -> train -> publish -> upscale: every stage speaks these types and no other.
//!
//! Absent on purpose: IO, async, clocks, randomness and wire types. Whatever is here can be tested with values alone.
//! Types that are stored as JSON carry a `version`; new readers read old files for ever.

mod alignment;
mod capabilities;
mod card;
mod colour;
mod cube;
mod geometry;
mod hash;
mod ids;
mod index;
mod job;
mod lease;
mod manifest;
mod needs;
mod output;
mod pair;
mod preview;
mod run;
mod season;
mod source;
mod task;
mod upscale;

pub use alignment::{
    ActiveArea, Alignment, EpisodeSpan, Lattice, MovedStretch, PairChoice, PathSegment, Slope, Transform,
};
pub use capabilities::Capabilities;
pub use card::{InputColour, ModelArch, ModelCard, StageMetrics};
pub use colour::{CURVE_KNOTS, CodingFound, ColourCurves, ColourTransform, YuvCoding, YuvMatrix, YuvRange};
pub use cube::{Cube, CubeError};
pub use geometry::{Geometry, ModelPixels};
pub use hash::{ContentHash, ContentHasher};
pub use ids::{EpisodeId, IdError, JobId, LeaseToken, RunId, SeasonId, SessionId, TaskId, WorkerId};
pub use index::{
    FieldFilter, FieldPlan, FrameInfo, PictType, Rational, SourceIndex, THUMB_HEIGHT_PX, THUMB_WIDTH_PX,
    VideoInfo,
};
pub use job::{FailureClass, Job, JobAction, JobSpec, JobState, Stage, TaskState};
pub use lease::{Lease, LeaseProgress, Verdict};
pub use manifest::{CurateEpisode, DatasetManifest, EpisodeYield, MANIFEST_VERSION, ShardRef};
pub use needs::{Labels, check_needs, needs_are_met};
pub use output::{
    Container, FieldChoice, NNEDI_WEIGHTS_BYTES, OutputFrame, OutputList, PixelShape, TELECINE_CYCLE_FRAMES,
    check_nnedi_weights,
};
pub use pair::{FieldAction, HdPlace, MaskRect, PairRecord, PairScores};
pub use preview::{
    EpisodePreview, FrameCount, PREVIEW_VERSION, PreviewCost, PreviewEpisode, PreviewEstimate, PreviewJob,
    PreviewOutcome, PreviewReport,
};
pub use run::{RUN_MANIFEST_VERSION, RunManifest};
pub use season::{
    Episode, EpisodeTable, ExtractTable, Season, SeasonError, SeasonFile, SeasonHead, TrainTable,
    UpscaleTable,
};
pub use source::{IndexedSource, SourceRef};
pub use task::{
    AlignResult, AlignSpec, AssembleResult, AssembleSpec, Checkpoint, CurateResult, CurateSpec,
    ExtractResult, ExtractSpec, IndexResult, IndexSpec, OutputObject, PlanResult, PlanSpec, PressResult,
    PressSpec, PressedLike, Progress, PublishResult, PublishSpec, PublishedModel, ShardFrames,
    TASK_RESULT_BYTES_MAX, TaskKind, TaskResult, TaskSpec, TrainResult, TrainSpec, UpscaleResult,
    UpscaleSpec,
};
pub use upscale::{Encoder, FrameRange, ModelRef, OutputSize, Precision, Reuse, SegmentRef, UpscaleSettings};
