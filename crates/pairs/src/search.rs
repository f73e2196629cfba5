//! Finds the path: a coarse search over every 8th frame settles the slope and proposes offsets, an exact one over all frames
//! decides among them. What of the path is proven is said by [`crate::proof`].

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use remaster_domain::Slope;

use crate::path::{Line, Run};
use crate::viterbi::{Path, cheapest_path};
use crate::{PathConfig, Refusal, Thumbs};

/// Slopes that discs are known to have besides 1: 24 frames to 25 by repeating, the same from 23.976, film to 30 frames by
/// pulldown, every SD frame twice, every HD frame twice or both.
const SLOPES: [Slope; 5] = [
    Slope { hd: 24, sd: 25 },
    Slope { hd: 960, sd: 1001 },
    Slope { hd: 4, sd: 5 },
    Slope { hd: 1, sd: 2 },
    Slope { hd: 2, sd: 1 },
];
/// Mean cost by which another slope must beat 1.
const SLOPE_MARGIN: f64 = 0.005;
/// Every how manyth frame the coarse search looks at.
const COARSE_STEP: usize = 8;
/// Coarse frames that vote together for offsets worth trying.
const VOTE_FRAMES: usize = 32;
/// Offsets that each vote proposes, each with its neighbours.
const VOTES: usize = 3;
/// Neighbours of a proposed offset that are tried with it; of another slope, all places of the cadence.
const REACH: i64 = 2;
/// Places of a cadence that are tried: a place wrong by less than this part of a frame spoils no more frames than proof
/// then leaves out.
const PLACES_MAX: i64 = 25;
/// Most offsets that are tried, each with its neighbours: bounds the exact search to 33,000 x 95 costs at slope 1.
const PROPOSED_MAX: usize = 19;
/// An offset that leaves less than one in this many frames of the shorter copy in common is not tried: otherwise the
/// cheapest answer to a wrong picture would be no picture at all.
const COMMON_SHARE: f64 = 4.0;
/// What a frame costs whose partner would lie outside the HD copy: worse than any match, better than a wrong picture.
const OUTSIDE_COST: f32 = 0.5;
/// What a frame without a vote costs at any offset.
const NO_VOTE_COST: f32 = 0.0;

/// Costs of every coarse frame at every whole-frame offset of a slope.
struct CoarseSearch {
    lines: Vec<Line>,
    rows: Vec<Vec<f32>>,
    path: Path,
}

/// Finds the path as stretches of one line each, at the slope that explains the episode best.
///
/// # Errors
/// [`Refusal::NoEvidence`] when the copies can have nothing in common.
pub(crate) fn cheapest_runs(sd: &Thumbs, hd: &Thumbs, config: &PathConfig) -> Result<Vec<Run>, Refusal> {
    let coarse = (sd.coarse(COARSE_STEP), hd.coarse(1));
    let search = |slope: Slope| CoarseSearch::run((sd.len(), &coarse.0), &coarse.1, slope, config);
    let plain = search(Slope::ONE).ok_or(Refusal::NoEvidence)?;
    let frames = coarse.0.len() as f64;
    let limit = plain.path.cost - SLOPE_MARGIN * frames;
    // Of another episode every slope is wrong, and the likeliest wrong one would explain it best.
    let limit = limit.min((1.0 - config.episode_zncc_min) * frames);
    let others: Vec<CoarseSearch> = match limit > 0.0 {
        // Costs are not negative, so nothing can beat what is already free.
        false => Vec::new(),
        true => SLOPES.into_iter().filter_map(search).collect(),
    };
    let cost = |found: &CoarseSearch| found.path.cost;
    let least = others.iter().map(cost).fold(f64::INFINITY, f64::min);
    if least >= limit {
        return Ok(ExactSearch::new(sd, hd, &plain.proposals(), config).runs(config));
    }
    // Slopes that differ by a thousandth are told apart by all frames only.
    let near = others
        .iter()
        .filter(|found| cost(found) < least + SLOPE_MARGIN * frames);
    let exact: Vec<ExactSearch<'_>> = near
        .map(|found| ExactSearch::new(sd, hd, &found.proposals(), config))
        .collect();
    let best = exact.iter().min_by(|a, b| a.path.cost.total_cmp(&b.path.cost));
    best.map(|best| best.runs(config)).ok_or(Refusal::NoEvidence)
}

impl CoarseSearch {
    fn run(
        (sd_frames, sd): (usize, &Thumbs),
        hd: &Thumbs,
        slope: Slope,
        config: &PathConfig,
    ) -> Option<Self> {
        let lines = possible_lines(
            slope,
            sd_frames as i64,
            hd.len() as i64,
            config.range_frames as i64,
        );
        let row = |i: usize| {
            let cost = |line: &Line| frame_cost(sd, i, hd, line.at(i * COARSE_STEP));
            lines.iter().map(cost).collect()
        };
        let rows: Vec<Vec<f32>> = (0..sd.len()).into_par_iter().map(row).collect();
        let path = cheapest_path(rows.iter().cloned(), lines.len(), config.jump_cost)?;
        Some(Self { lines, rows, path })
    }

    /// The coarse path's lines come first, then those that stretches vote for; each brings its neighbours.
    fn proposals(&self) -> Vec<Line> {
        let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
        for &state in &self.path.states {
            // A frame on the path outweighs a place in a vote: the path already weighed all frames together.
            *votes.entry(state).or_default() += VOTE_FRAMES;
        }
        for stretch in self.rows.chunks(VOTE_FRAMES) {
            let sum = |state: usize| stretch.iter().map(|row| f64::from(row[state])).sum::<f64>();
            let mut sums: Vec<(f64, usize)> = (0..self.lines.len()).map(|s| (sum(s), s)).collect();
            sums.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (_, state) in sums.into_iter().take(VOTES) {
                *votes.entry(state).or_default() += 1;
            }
        }
        let mut ranked: Vec<(usize, usize)> =
            votes.into_iter().map(|(state, count)| (count, state)).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut chosen: BTreeSet<i64> = BTreeSet::new();
        let slope = self.lines[0].slope;
        for (_, state) in ranked {
            let near: Vec<i64> = near_offsets(slope, self.lines[state].offset).collect();
            if chosen.len() + near.len() > PROPOSED_MAX * near.len() {
                break;
            }
            chosen.extend(near);
        }
        chosen.into_iter().map(|offset| Line { slope, offset }).collect()
    }
}

/// An offset and those within a frame of it, as finely as a cadence tells them apart.
fn near_offsets(slope: Slope, offset: i64) -> impl Iterator<Item = i64> {
    let frame = i64::from(slope.sd);
    let step = (frame / PLACES_MAX).max(1);
    let reach = if frame == 1 { REACH } else { frame / step };
    (-reach..=reach).map(move |place| offset + place * step)
}

/// Whole-frame offsets in range that leave the copies a good part in common.
fn possible_lines(slope: Slope, sd: i64, hd: i64, range: i64) -> Vec<Line> {
    let ratio = f64::from(slope.hd) / f64::from(slope.sd);
    let sd_of = |hd: i64| hd as f64 / ratio;
    let least = (sd as f64).min(sd_of(hd)) / COMMON_SHARE;
    let common = |k: i64| (sd as f64).min(sd_of(hd - k)) - sd_of(-k).max(0.0);
    (-range.min(sd)..=range.min(hd))
        .filter(|&k| common(k) >= least.floor())
        .map(|k| Line {
            slope,
            // From the middle of a frame, no place of the cadence is further away than one frame.
            offset: k * i64::from(slope.sd) + i64::from(slope.sd) / 2,
        })
        .collect()
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

/// The exact search: every frame, few lines.
struct ExactSearch<'a> {
    sd: &'a Thumbs,
    lines: Vec<Line>,
    rows: Vec<Vec<f32>>,
    path: Path,
}

impl<'a> ExactSearch<'a> {
    /// `lines` ascend.
    fn new(sd: &'a Thumbs, hd: &Thumbs, lines: &[Line], config: &PathConfig) -> Self {
        let row = |i: usize| {
            let mut last = None;
            let cost = |line: &Line| {
                let hd_frame = line.at(i);
                // Places of one cadence mostly mean the same frame.
                match last {
                    Some((frame, cost)) if frame == hd_frame => cost,
                    _ => {
                        let cost = frame_cost(sd, i, hd, hd_frame);
                        last = Some((hd_frame, cost));
                        cost
                    }
                }
            };
            lines.iter().map(cost).collect()
        };
        let rows: Vec<Vec<f32>> = (0..sd.len()).into_par_iter().map(row).collect();
        let path = cheapest_path(rows.iter().cloned(), lines.len(), config.jump_cost);
        let path = path.expect("a coarse path proposes at least its own lines");
        let lines = lines.to_vec();
        Self {
            sd,
            lines,
            rows,
            path,
        }
    }

    /// The path as stretches of one line, none of them shorter than allowed unless it is black.
    fn runs(&self, config: &PathConfig) -> Vec<Run> {
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        for (frame, &state) in self.path.states.iter().enumerate() {
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
                line: self.lines[state],
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

    /// Gives a run to the neighbour whose line fits its frames better.
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
