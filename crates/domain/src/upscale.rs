//! Words of the upscale stage: frame ranges, encoder settings, segments and the model to use.

use serde::{Deserialize, Serialize};

use crate::ContentHash;

/// A half-open range of frames of one source in PTS order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRange {
    /// First frame.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl FrameRange {
    /// Frames in the range.
    #[must_use]
    pub fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no frame in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether a frame lies in it.
    #[must_use]
    pub fn contains(self, frame: u32) -> bool {
        (self.start..self.end).contains(&frame)
    }
}

/// Video encoder of the output; both write 10-bit 4:2:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// H.265 by libx265.
    X265,
    /// H.264 High 10 by libx264.
    X264,
}

/// How segments are made. Part of the work key: other settings are other work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpscaleSettings {
    /// Encoder.
    pub encoder: Encoder,
    /// Constant rate factor, 0 (best) to 51.
    pub crf: u32,
    /// Encoder preset by its own name.
    pub preset: String,
    /// Longest segment in frames: a lost worker costs no more than this.
    pub segment_frames_max: u32,
}

impl Default for UpscaleSettings {
    fn default() -> Self {
        Self {
            encoder: Encoder::X265,
            crf: 16,
            preset: "medium".to_owned(),
            segment_frames_max: 240,
        }
    }
}

/// Which model a season asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelRef {
    /// The season's name for a model; resolved once, when the job reaches the upscale stage.
    Channel(String),
    /// A published model.
    Id(ContentHash),
}

/// A finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Source frames it shows.
    pub range: FrameRange,
    /// Object `segments/<sha256>.mkv`.
    pub sha256: ContentHash,
    /// Size of the object.
    pub bytes: u64,
}
