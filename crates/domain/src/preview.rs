//! What `remaster preview` asks a worker for and what it hears: frames to look at, and what a season will cost here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{EpisodeId, SeasonId, UpscaleSettings};

/// The format of [`PreviewJob`] and [`PreviewReport`].
pub const PREVIEW_VERSION: u32 = 1;

/// What to preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewJob {
    /// Format version.
    pub version: u32,
    /// Season.
    pub season: SeasonId,
    /// Weights, or the folder of a published model.
    pub model: PathBuf,
    /// Models that run before it, in order.
    #[serde(default)]
    pub before: Vec<PathBuf>,
    /// Models that run on what it made, in order.
    #[serde(default)]
    pub after: Vec<PathBuf>,
    /// A `.cube` file for what the last of them made.
    #[serde(default)]
    pub cube: Option<PathBuf>,
    /// nnedi3's weights, for frames that are deinterlaced.
    #[serde(default)]
    pub nnedi_weights: Option<PathBuf>,
    /// What the user calls all of them.
    pub model_name: String,
    /// How the season will be upscaled.
    pub settings: UpscaleSettings,
    /// Frames to show of each episode.
    pub frames: u32,
    /// What would be upscaled.
    pub episodes: Vec<PreviewEpisode>,
}

/// An episode and its file on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewEpisode {
    /// Id.
    pub id: EpisodeId,
    /// The DVD's file.
    pub sd: PathBuf,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewReport {
    /// Format version.
    pub version: u32,
    /// The page that was written.
    pub file: PathBuf,
    /// Season.
    pub season: SeasonId,
    /// What the user calls the model.
    pub model: String,
    /// What time and size are estimated for, in words.
    pub estimated_for: String,
    /// In the order of the season.
    pub episodes: Vec<EpisodePreview>,
    /// All episodes that can be upscaled.
    pub total: PreviewCost,
}

impl PreviewReport {
    /// Whether some frames were not counted but reckoned from a file's duration.
    #[must_use]
    pub fn is_rough(&self) -> bool {
        self.episodes.iter().any(|episode| {
            matches!(&episode.outcome, PreviewOutcome::Estimate(estimate) if estimate.counted_by == FrameCount::Duration)
        })
    }
}

/// An episode's part of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodePreview {
    /// Id.
    pub id: EpisodeId,
    /// What it will cost, or why it cannot be upscaled.
    #[serde(flatten)]
    pub outcome: PreviewOutcome,
}

/// How the preview of an episode ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviewOutcome {
    /// What it will cost.
    Estimate(PreviewEstimate),
    /// Why it cannot be upscaled.
    Error(String),
}

/// The estimate for an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewEstimate {
    /// What it will cost.
    #[serde(flatten)]
    pub cost: PreviewCost,
    /// Where the number of frames is from.
    pub counted_by: FrameCount,
    /// Size of the output in pixels.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

/// Where a number of frames is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameCount {
    /// Every frame was decoded and counted before.
    Index,
    /// The container's duration times the rate of the frames looked at.
    Duration,
}

/// Frames, time and room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PreviewCost {
    /// Frames that go out.
    pub frames: u64,
    /// Time of one worker.
    pub seconds: f64,
    /// Size of the finished file, sound and subtitles included.
    pub bytes: u64,
}

impl PreviewCost {
    /// Counts another one as well.
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.seconds += other.seconds;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_scripts_expect() {
        let cost = PreviewCost {
            frames: 3,
            seconds: 1.5,
            bytes: 7,
        };
        let estimate = PreviewEstimate {
            cost,
            counted_by: FrameCount::Index,
            width: 8,
            height: 6,
        };
        let episode = |outcome| EpisodePreview {
            id: "E1".parse().expect("a valid id"),
            outcome,
        };
        let text = |outcome| serde_json::to_string(&episode(outcome)).expect("plain data");
        assert_eq!(
            text(PreviewOutcome::Estimate(estimate)),
            r#"{"id":"E1","estimate":{"frames":3,"seconds":1.5,"bytes":7,"counted_by":"index","width":8,"height":6}}"#
        );
        assert_eq!(
            text(PreviewOutcome::Error("gone".to_owned())),
            r#"{"id":"E1","error":"gone"}"#
        );
    }
}
