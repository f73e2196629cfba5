//! How the SD and the HD copy of an episode relate: in time, in space and in colour.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{CodingFound, ColourCurves, ColourTransform, FieldFilter, FrameRange, IndexedSource};

/// On whose pixels the pairs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lattice {
    /// SD pixels untouched, HD warped once onto exactly `scale` times.
    SdNative,
    /// HD pixels untouched, SD warped once onto HD / `scale`.
    HdNative,
}

impl Lattice {
    /// The name in season files, on the command line and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SdNative => "sd-native",
            Self::HdNative => "hd-native",
        }
    }
}

impl FromStr for Lattice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |lattice: &Self| lattice.name() == text;
        let found = [Self::SdNative, Self::HdNative].into_iter().find(named);
        found.ok_or_else(|| "expected sd-native or hd-native".to_owned())
    }
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

/// How many HD frames there are for how many SD frames: 1 for 1 where every frame was kept, as by PAL speed-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slope {
    /// HD frames ...
    pub hd: u32,
    /// ... for this many SD frames, at least 1.
    pub sd: u32,
}

impl Slope {
    /// Frame for frame.
    pub const ONE: Self = Self { hd: 1, sd: 1 };

    /// Whether it is frame for frame.
    #[must_use]
    pub fn is_one(&self) -> bool {
        *self == Self::ONE
    }

    /// The HD frame of an SD frame, `floor((hd * i + offset) / sd)`, and the remainder, which is its place in the cadence.
    #[must_use]
    pub fn partner(self, offset: i64, sd_frame: u32) -> (i64, u32) {
        let line = i64::from(self.hd)
            .saturating_mul(i64::from(sd_frame))
            .saturating_add(offset);
        let sd = i64::from(self.sd.max(1));
        (line.div_euclid(sd), line.rem_euclid(sd) as u32)
    }
}

impl Default for Slope {
    fn default() -> Self {
        Self::ONE
    }
}

/// A stretch of SD frames whose HD frame is `floor((slope.hd * i + offset) / slope.sd)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PathSegment {
    /// SD frames, half open.
    pub sd: FrameRange,
    /// HD index minus SD index; in parts of `1 / slope.sd` HD frames where the slope is not 1.
    pub offset: i64,
    /// Frames of HD for frames of SD.
    #[serde(default, skip_serializing_if = "Slope::is_one")]
    pub slope: Slope,
    /// Places in the cadence (remainders of the division above) at which the HD frame is proven; all where none are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<FrameRange>,
    /// Mean zero-mean normalised cross-correlation of the thumbnails along the stretch.
    pub zncc: f64,
    /// Frames whose neighbours at offset +/- 1 fit worse: the evidence for this offset.
    pub discriminating: u32,
}

impl PathSegment {
    /// The HD frame of one of its SD frames; none where the cadence leaves it open.
    #[must_use]
    pub fn hd_frame(&self, sd_frame: u32) -> Option<u32> {
        let (hd, place) = self.slope.partner(self.offset, sd_frame);
        let is_proven = self.places.is_none_or(|places| places.contains(place));
        u32::try_from(hd).ok().filter(|_| is_proven)
    }
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
    /// Stretches that lie elsewhere than `transform` says, in order; none on most discs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<MovedStretch>,
    /// How both sources turned out to be coded, where it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<CodingFound>,
    /// How SD frames are made whole from their fields, before they were aligned and before they are paired.
    #[serde(default, skip_serializing_if = "FieldFilter::is_none")]
    pub fields: FieldFilter,
}

impl Alignment {
    /// The geometry of an SD frame.
    #[must_use]
    pub fn transform_at(&self, sd_frame: u32) -> Transform {
        let stretch = self.moved.iter().find(|stretch| stretch.sd.contains(sd_frame));
        stretch.map_or(self.transform, |stretch| stretch.transform)
    }
}

/// A stretch of SD frames with a geometry of its own: another master, a reel that was laid otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MovedStretch {
    /// SD frames, half open.
    pub sd: FrameRange,
    /// From SD to HD.
    pub transform: Transform,
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
    /// Whether the DVD was made of the Blu-ray, because there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One number in eight is not, where it is read with less care.
    #[test]
    fn what_is_written_is_read_as_the_same_numbers() {
        let transform = Transform {
            sx: 1.8989821295774763,
            sy: 2.5245601649158838,
            tx: 2.8782983255570214,
            ty: 1.8442331511654346,
        };
        let written = serde_json::to_string(&transform).expect("plain data");
        assert_eq!(serde_json::from_str::<Transform>(&written).ok(), Some(transform));
    }

    #[test]
    fn a_lattice_has_one_name_everywhere() {
        for lattice in [Lattice::SdNative, Lattice::HdNative] {
            let written = serde_json::to_value(lattice).ok();
            assert_eq!(written, Some(serde_json::json!(lattice.name())));
            assert_eq!(lattice.name().parse(), Ok(lattice));
        }
        assert!("sd".parse::<Lattice>().is_err());
    }

    #[test]
    fn four_hd_frames_for_five_sd_frames_come_in_a_cadence() {
        let slope = Slope { hd: 4, sd: 5 };
        let along = |offset: i64| (0..6).map(move |sd| slope.partner(offset, sd));
        let frames: Vec<i64> = along(1).map(|(hd, _)| hd).collect();
        assert_eq!(frames, [0, 1, 1, 2, 3, 4]);
        assert_eq!(along(-3).next(), Some((-1, 2)));
        assert_eq!(Slope::ONE.partner(-7, 9), (2, 0));
    }

    #[test]
    fn a_place_of_the_cadence_without_proof_has_no_partner() {
        let segment = PathSegment {
            sd: FrameRange { start: 0, end: 50 },
            offset: 10,
            slope: Slope { hd: 1, sd: 2 },
            places: Some(FrameRange { start: 0, end: 1 }),
            zncc: 1.0,
            discriminating: 9,
        };
        assert_eq!([4, 5].map(|sd| segment.hd_frame(sd)), [Some(7), None]);
    }
}
