//! The JSON that lies beside every pair in a shard.

use serde::{Deserialize, Serialize};

use crate::{
    ActiveArea, ColourCurves, ColourTransform, ContentHash, EpisodeId, Lattice, PictType, Rational, Slope,
    Transform,
};

/// What was done with the fields of the SD frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldAction {
    /// Both fields used as they are.
    Weave,
    /// One field put together with the other one of the frame before or after: the disc carries them shifted.
    ReWeave,
    /// Fields of one film frame were put together as inference does it; what stayed combed was deinterlaced.
    Match,
    /// Deinterlaced as inference does it.
    Deinterlace,
}

/// A rectangle of LR pixels that must not be learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskRect {
    /// First column.
    pub x: u32,
    /// First line.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// Where on the HD frame a pair lies whose lattice is HD's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HdPlace {
    /// The HD pixels that the HR image shows; all of its sides are multiples of `scale`.
    pub area: ActiveArea,
    /// Lines of the LR lattice that the whole SD frame would take: what inference resamples it to.
    pub lines: u32,
}

/// What the gates measured on the finished pair.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PairScores {
    /// Global correlation of LR luma and reduced HR luma.
    pub zncc: f64,
    /// 5th percentile of the correlation of textured 32x32 blocks.
    pub block_zncc_p5: f64,
    /// The same against the HD frame before and after: the better of the two.
    pub neighbour_block_zncc_p5: f64,
    /// Standard deviation of LR luma in 8-bit levels.
    pub luma_sd: f64,
    /// Median absolute colour difference of block means after the fit, in 8-bit levels.
    pub colour_residual: f64,
    /// How far this frame lies off the episode's transform, in LR pixels.
    #[serde(default)]
    pub shift_px: f64,
    /// The same of the ninth of the picture that lies off furthest.
    #[serde(default)]
    pub tile_shift_px: f64,
    /// Largest share of a neighbouring HD frame in one field that the other field lacks, 0 to 1.
    #[serde(default)]
    pub field_share: f64,
    /// Largest share of a neighbouring HD frame in both fields, 0 to 1.
    #[serde(default)]
    pub blend_share: f64,
    /// Gradient energy of LR luma over that of reduced HR luma.
    #[serde(default)]
    pub sharpness: f64,
    /// Share of the active pixels under `mask`.
    #[serde(default)]
    pub masked_share: f64,
}

/// Where a pair came from and what was done to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// Format version, 1.
    pub version: u32,
    /// Episode.
    pub episode: EpisodeId,
    /// Shot, counted from 0 over the episode.
    pub shot: u32,
    /// SD frame, 0-based, PTS order.
    pub sd_index: u32,
    /// HD frame, 0-based, PTS order.
    pub hd_index: u32,
    /// SD presentation time in ticks.
    pub sd_pts: i64,
    /// HD presentation time in ticks.
    pub hd_pts: i64,
    /// Seconds per SD tick.
    pub sd_time_base: Rational,
    /// Seconds per HD tick.
    pub hd_time_base: Rational,
    /// Path segment.
    pub segment: u32,
    /// Frames of HD for frames of SD along it.
    #[serde(default, skip_serializing_if = "Slope::is_one")]
    pub slope: Slope,
    /// On whose pixels the pair lies.
    pub lattice: Lattice,
    /// HR pixels per LR pixel.
    pub scale: u32,
    /// Pixel aspect of the LR image: that of the disc on whose pixels the pair lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sar: Option<Rational>,
    /// The coded SD pixels that carry picture: all that a pair is judged by and learnt from.
    pub active: ActiveArea,
    /// The coded SD pixels that the LR image shows, where these are more than `active`: then what lies around that is under
    /// `mask`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_area: Option<ActiveArea>,
    /// Where it lies on the HD frame, if the lattice is HD's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hd_place: Option<HdPlace>,
    /// LR rectangles to leave out of the loss.
    pub mask: Vec<MaskRect>,
    /// Geometry from SD to HD.
    pub transform: Transform,
    /// Colour change that the HR image went through.
    pub colour: ColourTransform,
    /// Curves that it went through after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<ColourCurves>,
    /// What was done with the fields.
    pub field_action: FieldAction,
    /// What the gates measured.
    pub scores: PairScores,
    /// SD picture type.
    pub pict_type: PictType,
    /// sha256 of the SD source.
    pub sd_hash: ContentHash,
    /// sha256 of the HD source.
    pub hd_hash: ContentHash,
    /// Whether the LR side was made from the HR side.
    pub synthetic: bool,
}

impl PairRecord {
    /// The coded SD pixels that the LR image shows, unless the pair lies on HD pixels.
    #[must_use]
    pub fn shown(&self) -> ActiveArea {
        self.lr_area.unwrap_or(self.active)
    }
}
