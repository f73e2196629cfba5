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
}
