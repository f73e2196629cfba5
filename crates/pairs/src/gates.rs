//! Is a finished pair good? Every number that decided is kept with the pair, every rejection has a word to be counted by.
//!
//! Global correlation cannot tell a frame from its neighbour (0.998 in small motion), so textured blocks are judged one by
//! one and the pair must fit better than the HD frames before and after. Limits are measured on MPEG-2 at 2.2 Mb/s,
//! see [`GateLimits`]. The gate of the path is `is_safe`, and was passed before anything was extracted.

use rayon::prelude::*;
use remaster_domain::PairScores;

use crate::colour::{colour_residual, colour_samples};
use crate::{Plane, Rgb};
use remaster_domain::ColourTransform;

/// Side of the blocks, in LR pixels.
const BLOCK_PX: usize = 32;
/// A block whose HD side deviates less is flat: noise decides its correlation.
const TEXTURED_SD_LEVELS: f64 = 6.0;
/// Fewest textured blocks to judge by.
const TEXTURED_BLOCKS_MIN: usize = 4;

/// What a pair must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateLimits {
    /// Least 5th percentile of block correlation.
    pub block_zncc_p5_min: f64,
    /// How much better than the pair's own a neighbour may fit: holds fit both ways.
    pub neighbour_slack: f64,
    /// By how much a block must fit one frame better to vote for it.
    pub block_margin: f64,
    /// Least deviation of LR luma in levels.
    pub luma_sd_min: f64,
    /// Mean LR luma in levels, from and to.
    pub luma_mean: [f64; 2],
    /// Most colour error of blocks in levels, median and 95th percentile.
    pub colour_residual_max: [f64; 2],
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            block_zncc_p5_min: 0.85,
            neighbour_slack: 0.002,
            block_margin: 0.02,
            luma_sd_min: 10.0,
            luma_mean: [20.0, 235.0],
            colour_residual_max: [3.0, 8.0],
        }
    }
}

/// Why a pair was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Too dark, too bright or too flat to teach anything.
    Content,
    /// Blocks do not correlate: another frame, or one of them damaged.
    SameFrame,
    /// A neighbour of the HD frame fits better.
    Neighbour,
    /// Colours differ after the fit: another grade here, a fade, a flash.
    Colour,
}

impl Gate {
    /// The word by which rejections are counted.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::SameFrame => "same-frame",
            Self::Neighbour => "neighbour",
            Self::Colour => "colour",
        }
    }
}

/// What became of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Worth learning from.
    Accepted(PairScores),
    /// Turned away, with what was measured.
    Rejected(Gate, PairScores),
}

/// Judges LR against HR (on the same lattice, `scale` times as large or as large) and against the HD frames before and
/// after it, warped alike; those may be as small as LR to save time.
///
/// # Panics
/// When a neighbour is smaller than LR.
#[must_use]
pub fn judge_pair(lr: &Rgb, hr: &Rgb, neighbours: &[&Rgb], limits: &GateLimits) -> Verdict {
    let reduced = hr.reduce(lr.width, lr.height);
    let (lr_luma, hr_luma) = (lr.luma(), reduced.luma());
    let (mean, luma_sd) = lr_luma.mean_and_sd();
    let own = block_znccs(&lr_luma, &hr_luma);
    let beside = |picture: &&Rgb| block_znccs(&lr_luma, &picture.reduce(lr.width, lr.height).luma());
    let beside: Vec<BlockScores> = neighbours.par_iter().map(beside).collect();
    let residual = colour_residual(&ColourTransform::IDENTITY, &colour_samples(&reduced, lr));
    let scores = PairScores {
        zncc: zncc(&lr_luma.data, &hr_luma.data).unwrap_or(0.0),
        block_zncc_p5: percentile_5(&own).unwrap_or(0.0),
        neighbour_block_zncc_p5: beside.iter().filter_map(percentile_5).fold(-1.0, f64::max),
        luma_sd,
        colour_residual: residual.median,
    };
    let is_lit = (limits.luma_mean[0]..=limits.luma_mean[1]).contains(&mean);
    let [median_max, p95_max] = limits.colour_residual_max;
    let least_p5 = scores.neighbour_block_zncc_p5 - limits.neighbour_slack;
    let outvoted = beside.iter().any(|b| is_outvoted(&own, b, limits.block_margin));
    if luma_sd < limits.luma_sd_min || !is_lit || percentile_5(&own).is_none() {
        Verdict::Rejected(Gate::Content, scores)
    } else if scores.block_zncc_p5 < limits.block_zncc_p5_min {
        Verdict::Rejected(Gate::SameFrame, scores)
    } else if scores.block_zncc_p5 < least_p5 || outvoted {
        Verdict::Rejected(Gate::Neighbour, scores)
    } else if residual.median > median_max || residual.p95 > p95_max {
        Verdict::Rejected(Gate::Colour, scores)
    } else {
        Verdict::Accepted(scores)
    }
}

/// 5th percentile of the correlation of textured 32x32 blocks; none when there are too few of them.
///
/// # Panics
/// When the sizes differ.
#[must_use]
pub fn block_zncc_p5(lr: &Plane, hr: &Plane) -> Option<f64> {
    percentile_5(&block_znccs(lr, hr))
}

/// Correlation of each block, none where HD is flat.
type BlockScores = Vec<Option<f64>>;

fn block_znccs(lr: &Plane, hr: &Plane) -> BlockScores {
    assert_eq!(
        (lr.width, lr.height),
        (hr.width, hr.height),
        "a block lies in both pictures"
    );
    let mut scores = Vec::new();
    for y in (0..lr.height / BLOCK_PX).map(|b| b * BLOCK_PX) {
        for x in (0..lr.width / BLOCK_PX).map(|b| b * BLOCK_PX) {
            let (lr, hr) = (block(lr, x, y), block(hr, x, y));
            let is_textured = hr.mean_and_sd().1 >= TEXTURED_SD_LEVELS;
            scores.push(is_textured.then(|| zncc(&lr.data, &hr.data).unwrap_or(0.0)));
        }
    }
    scores
}

fn percentile_5(scores: &BlockScores) -> Option<f64> {
    let mut values: Vec<f64> = scores.iter().copied().flatten().collect();
    if values.len() < TEXTURED_BLOCKS_MIN {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some(values[values.len() / 20])
}

/// Where a small part of the picture moves, no percentile shows it: blocks that clearly prefer one frame vote.
fn is_outvoted(own: &BlockScores, beside: &BlockScores, margin: f64) -> bool {
    let both = || own.iter().zip(beside).filter_map(|(a, b)| Some((*a)? - (*b)?));
    both().filter(|d| *d < -margin).count() > both().filter(|d| *d > margin).count()
}

fn block(plane: &Plane, x: usize, y: usize) -> Plane {
    let rows = (y..y + BLOCK_PX).flat_map(|line| &plane.row(line)[x..x + BLOCK_PX]);
    Plane::new(BLOCK_PX, BLOCK_PX, rows.copied().collect())
}

/// Correlation; none where one side is flat.
fn zncc(a: &[f32], b: &[f32]) -> Option<f64> {
    let count = a.len() as f64;
    let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x) - mean_a, f64::from(*y) - mean_b);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    (aa > 1e-9 && bb > 1e-9).then(|| ab / (aa * bb).sqrt())
}
