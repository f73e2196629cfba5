//! Is a finished pair good? Every number that decided is kept with the pair, every rejection has a word to be counted by.
//!
//! Global correlation cannot tell a frame from its neighbour (0.998 in small motion), so textured blocks are judged one by
//! one and the pair must fit better than the HD frames before and after. Limits are measured by `make bench-pairs`,
//! see [`GateLimits`]. The gate of the path is `is_safe`, and was passed before anything was extracted.

use remaster_domain::{ColourTransform, MaskRect, PairScores};

use crate::colour::{ColourSample, colour_residual, colour_samples};
use crate::fields::field_shares;
use crate::foreign::{foreign_parts, masked_share};
use crate::place::misplaced;
use crate::{Plane, Rgb};

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
    /// How far a frame may lie off the episode's transform, in LR pixels: the whole and any ninth.
    pub shift_px_max: [f64; 2],
    /// Most of a neighbouring frame in one field only, where something moves.
    pub field_share_max: f64,
    /// Most of a neighbouring frame in both fields.
    pub blend_share_max: f64,
    /// Gradient energy of LR over that of reduced HR, from and to.
    pub sharpness: [f64; 2],
    /// Most of the picture that only one disc shows.
    pub masked_share_max: f64,
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
            shift_px_max: [0.25, 0.35],
            field_share_max: 0.15,
            blend_share_max: 0.05,
            sharpness: [0.3, 1.6],
            masked_share_max: 0.15,
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
    /// The frame lies elsewhere than the episode, or part of it does.
    Registration,
    /// The two fields are of different moments.
    Fields,
    /// Two frames lie over each other.
    Blend,
    /// Much blurred or sharpened against the HD copy.
    Sharpness,
    /// Too much that only one disc shows.
    LocalDifference,
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
            Self::Registration => "registration",
            Self::Fields => "fields",
            Self::Blend => "blend",
            Self::Sharpness => "sharpness",
            Self::LocalDifference => "local-difference",
        }
    }
}

/// What became of a pair.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Worth learning from, but for these LR pixels.
    Accepted(PairScores, Vec<MaskRect>),
    /// Turned away, with what was measured.
    Rejected(Gate, PairScores),
}

/// A finished pair with what it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// SD pixels.
    pub lr: &'a Rgb,
    /// HD on `scale` times those pixels, in SD's colours.
    pub hr: &'a Rgb,
    /// Luma of the HD frame before, of this one and of the one after, on the pixels of `lr`, in SD's colours, all three by
    /// the same filter: another one would fit better or worse by itself.
    pub hd_luma: [&'a Plane; 3],
    /// Line of the coded SD frame that the first line of `lr` is: says which field it belongs to.
    pub first_line: u32,
}

/// Judges a pair. What only one disc shows is masked first and left out of all that follows.
///
/// # Panics
/// When the luma planes are not as large as `lr`.
#[must_use]
pub fn judge_pair(pair: &Candidate<'_>, limits: &GateLimits) -> Verdict {
    let lr_luma = pair.lr.luma();
    let mask = foreign_parts(&lr_luma, pair.hd_luma);
    let evidence = Evidence::of(pair, &lr_luma, &mask);
    match evidence.first_fault(limits) {
        Some(gate) => Verdict::Rejected(gate, evidence.scores),
        None => Verdict::Accepted(evidence.scores, mask),
    }
}

/// All that was measured.
struct Evidence {
    scores: PairScores,
    luma_mean: f64,
    colour_p95: f64,
    blocks: [BlockScores; 3],
}

impl Evidence {
    fn of(pair: &Candidate<'_>, lr_luma: &Plane, mask: &[MaskRect]) -> Self {
        let is_foreign = |x: usize, y: usize| mask.iter().any(|m| is_inside(m, x, y));
        let blocks = pair.hd_luma.map(|hd| block_znccs(lr_luma, hd, mask));
        let [before, own, after] = &blocks;
        let reduced = pair.hr.reduce(pair.lr.width, pair.lr.height);
        let residual = colour_residual(
            &ColourTransform::IDENTITY,
            &unmasked_samples(&reduced, pair.lr, mask),
        );
        let (luma_mean, luma_sd) = lr_luma.mean_and_sd();
        let place = misplaced(lr_luma, pair.hd_luma[1], is_foreign);
        let fields = field_shares(lr_luma, pair.hd_luma, pair.first_line, is_foreign);
        let scores = PairScores {
            zncc: zncc(&lr_luma.data, &pair.hd_luma[1].data).unwrap_or(0.0),
            block_zncc_p5: percentile_5(own).unwrap_or(0.0),
            neighbour_block_zncc_p5: [before, after]
                .into_iter()
                .filter_map(percentile_5)
                .fold(-1.0, f64::max),
            luma_sd,
            colour_residual: residual.median,
            shift_px: place.whole_px[0].hypot(place.whole_px[1]),
            tile_shift_px: place.tile_px,
            field_share: fields.difference(),
            blend_share: fields.blend(),
            sharpness: sharpness(lr_luma, pair.hd_luma[1], is_foreign),
            masked_share: masked_share(mask, pair.lr.width, pair.lr.height),
        };
        Self {
            scores,
            luma_mean,
            colour_p95: residual.p95,
            blocks,
        }
    }

    fn first_fault(&self, limits: &GateLimits) -> Option<Gate> {
        let scores = &self.scores;
        let [before, own, after] = &self.blocks;
        let is_lit = (limits.luma_mean[0]..=limits.luma_mean[1]).contains(&self.luma_mean);
        let outvoted = |beside: &BlockScores| is_outvoted(own, beside, limits.block_margin);
        let least_p5 = scores.neighbour_block_zncc_p5 - limits.neighbour_slack;
        let [median_max, p95_max] = limits.colour_residual_max;
        let [sharpness_min, sharpness_max] = limits.sharpness;
        let faults = [
            (
                scores.luma_sd < limits.luma_sd_min || !is_lit || percentile_5(own).is_none(),
                Gate::Content,
            ),
            (
                scores.masked_share > limits.masked_share_max,
                Gate::LocalDifference,
            ),
            (scores.field_share > limits.field_share_max, Gate::Fields),
            (scores.block_zncc_p5 < limits.block_zncc_p5_min, Gate::SameFrame),
            (
                scores.block_zncc_p5 < least_p5 || outvoted(before) || outvoted(after),
                Gate::Neighbour,
            ),
            (scores.blend_share > limits.blend_share_max, Gate::Blend),
            (
                scores.shift_px > limits.shift_px_max[0] || scores.tile_shift_px > limits.shift_px_max[1],
                Gate::Registration,
            ),
            (
                !(sharpness_min..=sharpness_max).contains(&scores.sharpness),
                Gate::Sharpness,
            ),
            (
                scores.colour_residual > median_max || self.colour_p95 > p95_max,
                Gate::Colour,
            ),
        ];
        faults
            .into_iter()
            .find(|(is_fault, _)| *is_fault)
            .map(|(_, gate)| gate)
    }
}

/// Colour samples outside the masks: blocks of the whole picture are few enough to filter them by painting both alike.
fn unmasked_samples(from: &Rgb, to: &Rgb, mask: &[MaskRect]) -> Vec<ColourSample> {
    if mask.is_empty() {
        return colour_samples(from, to);
    }
    // Black is clipped, and clipped blocks give no sample.
    let mut painted = from.clone();
    let size = from.width * from.height;
    for m in mask {
        for line in m.y as usize..(m.y + m.height) as usize {
            for channel in 0..3 {
                let start = channel * size + line * from.width + m.x as usize;
                painted.data[start..start + m.width as usize].fill(0.0);
            }
        }
    }
    colour_samples(&painted, to)
}

fn is_inside(mask: &MaskRect, x: usize, y: usize) -> bool {
    (x as u32).wrapping_sub(mask.x) < mask.width && (y as u32).wrapping_sub(mask.y) < mask.height
}

/// Sum of squared differences of neighbours, across and down, of LR over that of HD.
fn sharpness(lr: &Plane, hd: &Plane, is_foreign: impl Fn(usize, usize) -> bool) -> f64 {
    let (mut of_lr, mut of_hd) = (0.0, 0.0);
    for y in 1..lr.height {
        let energy = |plane: &Plane, x: usize| {
            let (here, row) = (plane.row(y)[x], plane.row(y));
            let (across, down) = (here - row[x - 1], here - plane.row(y - 1)[x]);
            f64::from(across * across + down * down)
        };
        for x in (1..lr.width).filter(|&x| !is_foreign(x, y)) {
            of_lr += energy(lr, x);
            of_hd += energy(hd, x);
        }
    }
    of_lr / of_hd.max(1e-9)
}

/// Correlation of each block, none where HD is flat or where a mask lies.
type BlockScores = Vec<Option<f64>>;

fn block_znccs(lr: &Plane, hd: &Plane, mask: &[MaskRect]) -> BlockScores {
    assert_eq!(
        (lr.width, lr.height),
        (hd.width, hd.height),
        "a block lies in both pictures"
    );
    let mut scores = Vec::new();
    for y in (0..lr.height / BLOCK_PX).map(|b| b * BLOCK_PX) {
        for x in (0..lr.width / BLOCK_PX).map(|b| b * BLOCK_PX) {
            if mask.iter().any(|m| touches_block(m, x, y)) {
                scores.push(None);
                continue;
            }
            let (lr, hd) = (block(lr, x, y), block(hd, x, y));
            let is_textured = hd.mean_and_sd().1 >= TEXTURED_SD_LEVELS;
            scores.push(is_textured.then(|| zncc(&lr.data, &hd.data).unwrap_or(0.0)));
        }
    }
    scores
}

fn touches_block(mask: &MaskRect, x: usize, y: usize) -> bool {
    let (x, y, side) = (x as u32, y as u32, BLOCK_PX as u32);
    x < mask.x + mask.width && mask.x < x + side && y < mask.y + mask.height && mask.y < y + side
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
pub(crate) fn zncc(a: &[f32], b: &[f32]) -> Option<f64> {
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
