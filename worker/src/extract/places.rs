//! Where the SD picture lies in the HD picture: once for the whole episode, or stretch by stretch where it was laid otherwise.
//!
//! The fit is that of pairs. Here the frames it was fitted to are read as luma, and its stretches get their borders.

use std::ops::Range;

use rayon::prelude::*;
use remaster_domain::{FrameRange, MovedStretch, PairChoice, PathSegment, Transform};
use remaster_pairs::{Refusal, Registration, Stretch, solve_stretches};

use super::reader::PairFrames;
use crate::context::Disc;
use crate::picture::rgb_of;

/// Corners that move this much between two halves of the frames mean that one transform does not fit them.
const CORNER_SPREAD_MAX_PX: f64 = 2.0;

/// The stretches of an episode; at least one.
#[derive(Debug)]
pub(super) struct Places(Vec<Stretch>);

impl Places {
    /// Places the frames, which come in SD order.
    pub(super) fn of(frames: &[PairFrames], sd: &Disc, hd: &Disc) -> Result<Self, Refusal> {
        let luma = |pair: &PairFrames| {
            (
                rgb_of(pair.sd_frame(), sd.colour).luma(),
                rgb_of(pair.hd_frame(), hd.colour).luma(),
            )
        };
        let planes: Vec<_> = frames.par_iter().map(luma).collect();
        let stretches = solve_stretches(&planes)?;
        let spread_px = |stretch: &Stretch| stretch.registration.corner_spread_px;
        if let Some(stretch) = stretches.iter().find(|s| spread_px(s) > CORNER_SPREAD_MAX_PX) {
            let reason = format!(
                "the corners lie {:.1} hd pixels apart between two halves of the episode",
                spread_px(stretch)
            );
            return Err(Refusal::Geometry { reason });
        }
        Ok(Self(stretches))
    }

    /// The place of most frames.
    pub(super) fn main(&self) -> &Registration {
        &self.0[self.main_number()].registration
    }

    /// The geometry of one of the frames.
    pub(super) fn transform(&self, frame: usize) -> Transform {
        let stretch = self.0.iter().find(|stretch| stretch.frames.contains(&frame));
        stretch.map_or(self.main().transform, |stretch| stretch.registration.transform)
    }

    /// All stretches but the main one, as SD frames; `choices` are the frames that were placed.
    pub(super) fn moved(
        &self,
        choices: &[PairChoice],
        segments: &[PathSegment],
        sd: &Disc,
    ) -> Vec<MovedStretch> {
        let frames: Vec<u32> = choices.iter().map(|choice| choice.sd).collect();
        let edits: Vec<u32> = segments.iter().map(|segment| segment.sd.start).collect();
        let border = |start: usize| match start {
            0 => 0,
            _ => border_between(frames[start - 1]..frames[start], &edits, &sd.index.cuts),
        };
        let main = self.main_number();
        let others = self.0.iter().enumerate().filter(|(number, _)| *number != main);
        let end = |number: usize| {
            let next = self.0.get(number + 1);
            next.map_or(sd.index.frames.len() as u32, |next| border(next.frames.start))
        };
        others
            .map(|(number, stretch)| MovedStretch {
                sd: FrameRange {
                    start: border(stretch.frames.start),
                    end: end(number),
                },
                transform: stretch.registration.transform,
            })
            .collect()
    }

    fn main_number(&self) -> usize {
        let length = |number: &usize| (self.0[*number].frames.len(), std::cmp::Reverse(*number));
        (0..self.0.len()).max_by_key(length).unwrap_or(0)
    }
}

/// Where a stretch begins between the last frame known to be before it and the first one known to be in it: at an edit of the
/// disc, else at a cut of the film, else in the middle. The gates turn away what lies on the wrong side.
fn border_between(known: Range<u32>, edits: &[u32], cuts: &[u32]) -> u32 {
    let inside = |frame: &&u32| known.start < **frame && **frame <= known.end;
    let edit = edits.iter().find(inside).or_else(|| cuts.iter().find(inside));
    edit.copied()
        .unwrap_or(known.start + (known.end - known.start).div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_an_edit_before_it_is_a_cut() {
        assert_eq!(border_between(10..20, &[0, 15], &[12]), 15);
        assert_eq!(border_between(10..20, &[0, 10], &[12]), 12);
        assert_eq!(border_between(10..21, &[0], &[40]), 16);
    }
}
