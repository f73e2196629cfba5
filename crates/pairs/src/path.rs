//! Which HD frame is which SD frame: a path over whole-frame offsets, constant between edits.
//!
//! PAL speed-up keeps every frame, so the offset is an integer that changes only where a copy was cut. Other discs repeat
//! frames in a cadence; theirs is a line of another slope, whose offset counts parts of a frame. Taking the best match of each
//! frame alone is right for 72 % of frames; the path is right for all. [`crate::search`] finds it, [`crate::proof`] keeps
//! the stretches with proof.

use remaster_domain::{PathSegment, Slope};

use crate::proof::{blended_share, matching_parts, proven};
use crate::search::cheapest_runs;
use crate::{Refusal, Thumbs};

/// Around a jump, a hold hides the exact place; this many frames on both sides are not used.
pub const EDGE_FRAMES: u32 = 12;
/// Share of moving SD frames that show two HD frames over each other from which a disc was converted between standards:
/// pulldown weaves two fifths, repeated fields weave half.
const BLENDED_SHARE_MIN: f64 = 0.6;

/// What the search takes for proof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathConfig {
    /// Furthest offset in frames.
    pub range_frames: usize,
    /// Cost of a change of offset, in correlation.
    pub jump_cost: f64,
    /// Shortest stretch between two changes.
    pub segment_frames_min: usize,
    /// Frames that must fit better than at offset - 1, and as many that must fit better than at offset + 1.
    pub discriminating_min: u32,
    /// How much better.
    pub margin: f64,
    /// A frame that correlates less has no partner.
    pub frame_zncc_min: f64,
    /// An episode that correlates less is another one.
    pub episode_zncc_min: f64,
    /// Share of SD frames that must lie in proven stretches.
    pub covered_min: f64,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            range_frames: 1500,
            jump_cost: 0.1,
            segment_frames_min: 48,
            discriminating_min: 3,
            margin: 0.003,
            frame_zncc_min: 0.75,
            episode_zncc_min: 0.8,
            covered_min: 0.5,
        }
    }
}

/// Finds the path, or says why there is none.
///
/// # Errors
/// A [`Refusal`] when the sources do not show the same episode frame for frame, or nothing proves that they do.
pub fn align_path(sd: &Thumbs, hd: &Thumbs, config: &PathConfig) -> Result<Vec<PathSegment>, Refusal> {
    let min = config.segment_frames_min;
    if sd.len() < min || hd.len() < min {
        return Err(Refusal::TooShort {
            sd: sd.len(),
            hd: hd.len(),
            min,
        });
    }
    let runs = cheapest_runs(sd, hd, config)?;
    let segments: Vec<PathSegment> = runs
        .iter()
        .flat_map(|&run| matching_parts(sd, hd, run, config))
        .filter_map(|run| proven(sd, hd, run, config))
        .collect();
    verdict(sd, hd, &runs, segments, config)
}

/// The HD frame that an SD frame is paired with, where it lies in a segment; the segment's number comes with it.
#[must_use]
pub fn hd_frame(segments: &[PathSegment], sd_frame: u32) -> Option<(usize, u32)> {
    let number = segments.iter().position(|s| s.sd.contains(sd_frame))?;
    segments[number].hd_frame(sd_frame).map(|hd| (number, hd))
}

/// Whether the path is beyond doubt at a frame: not near the border of its segment, which the ends of both sources are, and
/// at a proven place of its cadence.
#[must_use]
pub fn is_safe(segments: &[PathSegment], sd_frame: u32) -> bool {
    let is_inside =
        |s: &PathSegment| s.sd.start + EDGE_FRAMES <= sd_frame && sd_frame + EDGE_FRAMES < s.sd.end;
    segments
        .iter()
        .any(|s| is_inside(s) && s.hd_frame(sd_frame).is_some())
}

/// HD frames as they follow from SD frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) slope: Slope,
    /// In parts of `1 / slope.sd` HD frames.
    pub(crate) offset: i64,
}

impl Line {
    /// The HD frame of an SD frame, wherever that lies.
    pub(crate) fn at(&self, sd_frame: usize) -> i64 {
        self.slope.partner(self.offset, sd_frame as u32).0
    }

    /// The same where HD has it, moved by `step` frames.
    pub(crate) fn within(&self, hd: &Thumbs, sd_frame: usize, step: i64) -> Option<usize> {
        let index = usize::try_from(self.at(sd_frame) + step).ok()?;
        (index < hd.len()).then_some(index)
    }
}

/// A stretch of SD frames on one line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) line: Line,
}

/// Judges the episode as a whole.
fn verdict(
    sd: &Thumbs,
    hd: &Thumbs,
    runs: &[Run],
    segments: Vec<PathSegment>,
    config: &PathConfig,
) -> Result<Vec<PathSegment>, Refusal> {
    let voting = (0..sd.len()).filter(|&i| !sd.is_low(i)).count().max(1) as f64;
    let in_segment = |s: &PathSegment| (s.sd.start..s.sd.end).filter(|&i| !sd.is_low(i as usize)).count();
    let covered = segments.iter().map(in_segment).sum::<usize>() as f64 / voting;
    let is_covered = !segments.is_empty() && covered >= config.covered_min;
    let zncc = mean_correlation(sd, hd, runs);
    // At slope 1 a disc whose fields are shifted looks like a blend throughout, and can be mended.
    let is_one = segments.iter().all(|segment| segment.slope.is_one());
    if zncc >= config.episode_zncc_min && !(is_covered && is_one) {
        let blended = blended_share(sd, hd, runs);
        if blended >= BLENDED_SHARE_MIN {
            return Err(Refusal::StandardsConverted { blended });
        }
    }
    if is_covered {
        return Ok(segments);
    }
    Err(
        if zncc < config.episode_zncc_min && covered < config.covered_min / 2.0 {
            Refusal::AnotherEpisode { zncc }
        } else if segments.is_empty() {
            Refusal::NoEvidence
        } else {
            Refusal::OtherCut { covered }
        },
    )
}

/// Mean correlation along the path, over the frames that vote and have a partner.
fn mean_correlation(sd: &Thumbs, hd: &Thumbs, runs: &[Run]) -> f64 {
    let (mut sum, mut count) = (0.0, 0u32);
    for run in runs {
        for i in (run.start..run.end).filter(|&i| !sd.is_low(i)) {
            if let Some(index) = run.line.within(hd, i, 0) {
                sum += sd.zncc(i, hd, index);
                count += 1;
            }
        }
    }
    sum / f64::from(count.max(1))
}
