//! Which HD frame is which SD frame: a path over whole-frame offsets, constant between edits.
//!
//! PAL speed-up keeps every frame, so the offset is an integer that changes only where a copy was cut. Taking the best
//! match of each frame alone is right for 72 % of frames; the path is right for all. A coarse search over every 8th frame
//! proposes offsets, an exact one over all frames decides among them, and only stretches with proof are kept.

use std::collections::BTreeMap;

use rayon::prelude::*;
use remaster_domain::{FrameRange, PathSegment};

use crate::viterbi::cheapest_path;
use crate::{Refusal, Thumbs};

/// Around a jump, a hold hides the exact place; this many frames on both sides are not used.
pub const EDGE_FRAMES: u32 = 12;
/// Every how manyth frame the coarse search looks at.
const COARSE_STEP: usize = 8;
/// Coarse frames that vote together for offsets worth trying.
const VOTE_FRAMES: usize = 32;
/// Offsets that each vote proposes, each with its neighbours.
const VOTES: usize = 3;
/// Neighbours of a proposed offset that are tried with it.
const REACH: i64 = 2;
/// Most offsets the exact search tries: bounds its memory to 33,000 x 96 costs.
const CANDIDATES_MAX: usize = 96;
/// An offset that leaves less than one in this many frames of the shorter copy in common is not tried: otherwise the
/// cheapest answer to a wrong picture would be no picture at all.
const COMMON_SHARE: i64 = 4;
/// What a frame costs whose partner would lie outside the HD copy: worse than any match, better than a wrong picture.
const OUTSIDE_COST: f32 = 0.5;
/// What a frame without a vote costs at any offset.
const NO_VOTE_COST: f32 = 0.0;

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

/// HD frames per SD frame that discs are known to have.
const SLOPES: [(u32, u32, &str); 4] = [
    (1, 1, "one for one"),
    (24, 25, "24 to 25 frames by repeating"),
    (4, 5, "24 to 30 frames by pulldown"),
    (1, 2, "every frame twice"),
];
/// Mean cost by which another slope must beat 1.
const SLOPE_MARGIN: f64 = 0.005;

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
    let candidates = candidate_offsets(sd, hd, config)?;
    let search = ExactSearch::new(sd, hd, &candidates);
    let runs = search.runs(config);
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
    let hd = i64::from(sd_frame) + segments[number].offset;
    u32::try_from(hd).ok().map(|hd| (number, hd))
}

/// Whether the path is beyond doubt at a frame: not near the border of its segment, which the ends of both sources are.
#[must_use]
pub fn is_safe(segments: &[PathSegment], sd_frame: u32) -> bool {
    let safe = |s: &PathSegment| s.sd.start + EDGE_FRAMES <= sd_frame && sd_frame + EDGE_FRAMES < s.sd.end;
    segments.iter().any(safe)
}

/// A stretch of SD frames at one offset.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    start: usize,
    end: usize,
    offset: i64,
}

/// Settles the slope, then collects the offsets that any part of the episode speaks for, best first.
fn candidate_offsets(sd: &Thumbs, hd: &Thumbs, config: &PathConfig) -> Result<Vec<i64>, Refusal> {
    let coarse_sd = sd.coarse(COARSE_STEP);
    let coarse_hd = hd.coarse(1);
    let offsets = possible_offsets(sd.len() as i64, hd.len() as i64, config.range_frames as i64);
    let table = |num: u32, den: u32| -> Vec<Vec<f32>> {
        let row = |i: usize| {
            let base = (i * COARSE_STEP) as i64 * i64::from(num) / i64::from(den);
            offsets
                .iter()
                .map(|&k| frame_cost(&coarse_sd, i, &coarse_hd, base + k))
                .collect()
        };
        (0..coarse_sd.len()).into_par_iter().map(row).collect()
    };
    let rows = table(1, 1);
    let path = cheapest_path(rows.iter().cloned(), offsets.len(), config.jump_cost);
    let path = path.ok_or(Refusal::NoEvidence)?;
    let frames = coarse_sd.len() as f64;
    let mut least = path.cost - SLOPE_MARGIN * frames;
    let mut better = None;
    for (hd, sd, meaning) in SLOPES.into_iter().skip(1) {
        let cost = cheapest_path(table(hd, sd).into_iter(), offsets.len(), config.jump_cost)
            .map_or(f64::INFINITY, |p| p.cost);
        if cost < least {
            least = cost;
            better = Some(Refusal::Slope { hd, sd, meaning });
        }
    }
    let is_match = least / frames < 1.0 - config.episode_zncc_min;
    if let (Some(refusal), true) = (better, is_match) {
        return Err(refusal);
    }
    let on_path = path.states.iter().map(|&s| offsets[s]);
    Ok(ranked_offsets(on_path, &rows, &offsets))
}

/// Offsets in range that leave the copies a good part in common.
fn possible_offsets(sd: i64, hd: i64, range: i64) -> Vec<i64> {
    let least = sd.min(hd) / COMMON_SHARE;
    let common = |k: i64| sd.min(hd - k) - (-k).max(0);
    (-range.min(sd)..=range.min(hd))
        .filter(|&k| common(k) >= least)
        .collect()
}

/// The coarse path's offsets come first, then those that stretches vote for; each brings its neighbours.
fn ranked_offsets(on_path: impl Iterator<Item = i64>, rows: &[Vec<f32>], offsets: &[i64]) -> Vec<i64> {
    let mut votes: BTreeMap<i64, usize> = BTreeMap::new();
    for offset in on_path {
        // A frame on the path outweighs a place in a vote: the path already weighed all frames together.
        *votes.entry(offset).or_default() += VOTE_FRAMES;
    }
    for stretch in rows.chunks(VOTE_FRAMES) {
        let sum = |state: usize| stretch.iter().map(|row| f64::from(row[state])).sum::<f64>();
        let mut sums: Vec<(f64, usize)> = (0..offsets.len()).map(|s| (sum(s), s)).collect();
        sums.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, state) in sums.into_iter().take(VOTES) {
            *votes.entry(offsets[state]).or_default() += 1;
        }
    }
    let mut ranked: Vec<(usize, i64)> = votes.into_iter().map(|(offset, count)| (count, offset)).collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut chosen = Vec::new();
    for (_, offset) in ranked {
        for near in offset - REACH..=offset + REACH {
            if !chosen.contains(&near) && chosen.len() < CANDIDATES_MAX {
                chosen.push(near);
            }
        }
    }
    chosen.sort_unstable();
    chosen
}

fn frame_cost(sd: &Thumbs, frame: usize, hd: &Thumbs, hd_frame: i64) -> f32 {
    if sd.is_low(frame) {
        return NO_VOTE_COST;
    }
    match usize::try_from(hd_frame) {
        Ok(index) if index < hd.len() => (1.0 - sd.zncc(frame, hd, index)) as f32,
        _ => OUTSIDE_COST,
    }
}

/// The exact search: every frame, few offsets.
struct ExactSearch<'a> {
    sd: &'a Thumbs,
    offsets: &'a [i64],
    rows: Vec<Vec<f32>>,
}

impl<'a> ExactSearch<'a> {
    fn new(sd: &'a Thumbs, hd: &Thumbs, offsets: &'a [i64]) -> Self {
        let row = |i: usize| {
            offsets
                .iter()
                .map(|&k| frame_cost(sd, i, hd, i as i64 + k))
                .collect()
        };
        let rows = (0..sd.len()).into_par_iter().map(row).collect();
        Self { sd, offsets, rows }
    }

    /// The path as stretches of one offset, none of them shorter than allowed unless it is black.
    fn runs(&self, config: &PathConfig) -> Vec<Run> {
        let path = cheapest_path(self.rows.iter().cloned(), self.offsets.len(), config.jump_cost);
        let states = path.map(|p| p.states).unwrap_or_default();
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        for (frame, &state) in states.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.2 == state => run.1 = frame + 1,
                _ => runs.push((frame, frame + 1, state)),
            }
        }
        while let Some(short) = self.shortest_forbidden(&runs, config.segment_frames_min) {
            self.merge(&mut runs, short);
        }
        runs.into_iter()
            .map(|(start, end, state)| Run {
                start,
                end,
                offset: self.offsets[state],
            })
            .collect()
    }

    fn shortest_forbidden(&self, runs: &[(usize, usize, usize)], min: usize) -> Option<usize> {
        let is_black = |run: &(usize, usize, usize)| (run.0..run.1).all(|i| self.sd.is_low(i));
        let forbidden = runs
            .iter()
            .enumerate()
            .filter(|(_, r)| r.1 - r.0 < min && !is_black(r));
        if runs.len() < 2 {
            return None;
        }
        forbidden
            .min_by_key(|(number, r)| (r.1 - r.0, *number))
            .map(|(number, _)| number)
    }

    /// Gives a run to the neighbour whose offset fits its frames better.
    fn merge(&self, runs: &mut Vec<(usize, usize, usize)>, number: usize) {
        let (start, end, _) = runs[number];
        let cost_at = |state: usize| (start..end).map(|i| f64::from(self.rows[i][state])).sum::<f64>();
        let before = number.checked_sub(1).map(|n| cost_at(runs[n].2));
        let after = runs.get(number + 1).map(|r| cost_at(r.2));
        runs[number].2 = match (before, after) {
            (Some(before), Some(after)) if after < before => runs[number + 1].2,
            (Some(_), _) => runs[number - 1].2,
            _ => runs[number + 1].2,
        };
        runs.dedup_by(|next, kept| {
            let same = kept.2 == next.2;
            if same {
                kept.1 = next.1;
            }
            same
        });
    }
}

/// Leaves out frames without a partner: outside the HD copy, or showing something else (a scene one copy lacks).
fn matching_parts(sd: &Thumbs, hd: &Thumbs, run: Run, config: &PathConfig) -> Vec<Run> {
    let first = run.start.max(usize::try_from(-run.offset).unwrap_or(0));
    let limit = usize::try_from(hd.len() as i64 - run.offset).unwrap_or(0);
    let last = run.end.min(limit);
    let mut parts = Vec::new();
    let mut start = first;
    for i in first..last {
        if !sd.is_low(i) && sd.zncc(i, hd, (i as i64 + run.offset) as usize) < config.frame_zncc_min {
            parts.push(Run {
                start,
                end: i,
                offset: run.offset,
            });
            start = i + 1;
        }
    }
    parts.push(Run {
        start,
        end: last.max(start),
        offset: run.offset,
    });
    parts.retain(|part| part.end - part.start >= config.segment_frames_min);
    parts
}

/// Turns a run into a segment when enough frames of it say that this offset and no other is right.
///
/// Offset - 1 and offset + 1 are refuted each on its own: of a drawing held on twos, every frame equals one neighbour.
fn proven(sd: &Thumbs, hd: &Thumbs, run: Run, config: &PathConfig) -> Option<PathSegment> {
    let at = |i: usize, k: i64| {
        let index = usize::try_from(i as i64 + k)
            .ok()
            .filter(|&index| index < hd.len())?;
        Some(sd.zncc(i, hd, index))
    };
    let (mut sum, mut count) = (0.0, 0u32);
    let (mut pro, mut contra) = ([0u32; 2], [0u32; 2]);
    for i in (run.start..run.end).filter(|&i| !sd.is_low(i)) {
        let own = at(i, run.offset)?;
        sum += own;
        count += 1;
        for (side, step) in [-1, 1].into_iter().enumerate() {
            let margin = at(i, run.offset + step).map_or(0.0, |beside| own - beside);
            pro[side] += u32::from(margin > config.margin);
            contra[side] += u32::from(margin < -config.margin);
        }
    }
    let zncc = sum / f64::from(count.max(1));
    let discriminating = pro[0].min(pro[1]);
    let is_right = pro[0] > contra[0] && pro[1] > contra[1];
    let is_proven =
        zncc >= config.episode_zncc_min && discriminating >= config.discriminating_min && is_right;
    is_proven.then_some(PathSegment {
        sd: FrameRange {
            start: run.start as u32,
            end: run.end as u32,
        },
        offset: run.offset,
        zncc,
        discriminating,
    })
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
    if !segments.is_empty() && covered >= config.covered_min {
        return Ok(segments);
    }
    let zncc = mean_correlation(sd, hd, runs);
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
            let partner = usize::try_from(i as i64 + run.offset)
                .ok()
                .filter(|&index| index < hd.len());
            if let Some(index) = partner {
                sum += sd.zncc(i, hd, index);
                count += 1;
            }
        }
    }
    sum / f64::from(count.max(1))
}
