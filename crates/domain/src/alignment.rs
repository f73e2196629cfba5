//! How the SD and the HD copy of an episode relate: in time, in space and in colour.

use serde::{Deserialize, Serialize};

use crate::{ColourCurves, ColourTransform, FrameRange, IndexedSource};

/// On whose pixels the pairs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lattice {
    /// SD pixels untouched, HD warped once onto exactly `scale` times.
    SdNative,
}

/// `x_hd = sx * x_sd + tx`, `y_hd = sy * y_sd + ty`, in pixel-centre coordinates of both (first pixel's centre = 0.5).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// HD pixels per SD pixel, horizontally.
    pub sx: f64,
    /// HD pixels per SD line, vertically.
    pub sy: f64,
    /// Horizontal shift in HD pixels.
    pub tx: f64,
    /// Vertical shift in HD lines.
    pub ty: f64,
}

/// The rectangle of SD pixels that carries picture, in whole pixels of the coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveArea {
    /// First column.
    pub x: u32,
    /// First line.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// A stretch of SD frames whose HD frame is `slope * i + offset`, with the slope at 1 for PAL speed-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PathSegment {
    /// SD frames, half open.
    pub sd: FrameRange,
    /// HD index minus SD index.
    pub offset: i64,
    /// Mean zero-mean normalised cross-correlation of the thumbnails along the stretch.
    pub zncc: f64,
    /// Frames whose neighbours at offset +/- 1 fit worse: the evidence for this offset.
    pub discriminating: u32,
}

/// Everything extraction needs to turn a chosen frame into a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    /// Format version, 1.
    pub version: u32,
    /// On whose pixels the pairs lie.
    pub lattice: Lattice,
    /// HR pixels per LR pixel.
    pub scale: u32,
    /// The path through time.
    pub segments: Vec<PathSegment>,
    /// Geometry, one for the episode.
    pub transform: Transform,
    /// Moves HD colours to SD colours.
    pub colour: ColourTransform,
    /// What the matrix cannot say of it, where curves fit frames better that they were not fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<ColourCurves>,
    /// SD pixels that carry picture.
    pub active: ActiveArea,
}

/// One frame that is to become a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairChoice {
    /// SD frame.
    pub sd: u32,
    /// HD frame.
    pub hd: u32,
    /// Shot it lies in, counted from 0 over the episode.
    pub shot: u32,
    /// Path segment it lies in.
    pub segment: u32,
}

/// The two sources of an episode that has both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeSpan {
    /// The DVD.
    pub sd: IndexedSource,
    /// The Blu-ray.
    pub hd: IndexedSource,
}
