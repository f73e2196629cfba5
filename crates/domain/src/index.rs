//! The index of a source: what one linear decode saw of every frame. Frames are numbered from 0 in PTS order.

use serde::{Deserialize, Serialize};

use crate::ContentHash;

/// Width of an index thumbnail (8-bit luma, area-filtered, rows top to bottom, no padding).
pub const THUMB_WIDTH_PX: usize = 64;
/// Height of an index thumbnail.
pub const THUMB_HEIGHT_PX: usize = 36;

/// An exact ratio, as in `24000/1001` frames a second or `1/1000` s a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rational {
    /// Numerator.
    pub num: i64,
    /// Denominator, never 0.
    pub den: i64,
}

impl Rational {
    /// The ratio as a float.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }
}

/// How a picture was coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PictType {
    /// Intra.
    I,
    /// Predicted.
    P,
    /// Bidirectional.
    B,
    /// Anything else the decoder names.
    Other,
}

/// What the container and decoder say of the video stream. `unknown` tags are `None` and guessed where used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoInfo {
    /// Codec name as ffmpeg gives it.
    pub codec: String,
    /// Coded width in pixels.
    pub width: u32,
    /// Coded height in lines.
    pub height: u32,
    /// Pixel format as ffmpeg names it.
    pub pix_fmt: String,
    /// Sample aspect ratio; 1/1 where the file says nothing.
    pub sar: Rational,
    /// Nominal frames per second.
    pub frame_rate: Rational,
    /// Seconds per PTS tick.
    pub time_base: Rational,
    /// Colour matrix tag as ffmpeg names it (`bt709`, `smpte170m`, `bt470bg`, ...).
    pub matrix: Option<String>,
    /// Range tag: `tv` or `pc`.
    pub range: Option<String>,
}

/// One frame of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// Presentation time in ticks of the stream's time base.
    pub pts: i64,
    /// Picture type.
    pub pict_type: PictType,
    /// Whether decoding can start here.
    pub key: bool,
    /// Whether the stream flags it interlaced (a hint only).
    pub interlaced: bool,
}

/// How frames are made whole from their fields before the network sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldFilter {
    /// Not at all: the frames are whole pictures.
    #[default]
    None,
    /// Fields of one film frame are put together again; what stays combed is deinterlaced.
    Match,
    /// Every frame is deinterlaced to one picture.
    Deinterlace,
}

impl FieldFilter {
    /// Whether frames are shown as they are coded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What the index found out about fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldPlan {
    /// What the frames need.
    pub filter: FieldFilter,
    /// Frames that only repeat another one once fields are matched (hard telecine), ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u32>,
}

impl FieldPlan {
    /// Whether the frames are whole and all of them count.
    #[must_use]
    pub fn is_progressive(&self) -> bool {
        *self == Self::default()
    }
}

/// The index object. Thumbnails lie beside it as raw bytes, `THUMB_WIDTH_PX * THUMB_HEIGHT_PX` per frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceIndex {
    /// Format version, 1.
    pub version: u32,
    /// The source it describes.
    pub source: ContentHash,
    /// The video stream.
    pub video: VideoInfo,
    /// Every frame in PTS order.
    pub frames: Vec<FrameInfo>,
    /// Frames at which a new shot starts, ascending, without 0.
    pub cuts: Vec<u32>,
    /// Frames that show what the one before shows, as far as thumbnails tell, ascending; older indexes do not say. A first field that
    /// is shown twice (soft telecine) is no frame of its own: it stands in `pts`, as frames three fields apart and two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<u32>,
    /// What its fields are; absent in older indexes, which took every source for progressive.
    #[serde(default, skip_serializing_if = "FieldPlan::is_progressive")]
    pub fields: FieldPlan,
}
