//! Which stretches two episodes share: openings, credits, recaps. Found by what their frames look like, on one disc's own side,
//! since two copies of the same scene from the same set of discs are as good as equal.
//!
//! A frame becomes 64 bits: the signs of its lowest frequencies. Shared stretches are diagonals on which nearly all of these
//! agree; a sample of frames proposes diagonals, every frame on them decides.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use rayon::prelude::*;

use crate::Thumbs;

/// Bits in which two prints of the same picture may differ.
const SAME_BITS_MAX: u32 = 6;
/// Shortest shared stretch: 3 s.
const REPEAT_FRAMES_MIN: usize = 72;
/// Share of its frames that must agree: single frames flicker, and fades have no print.
const AGREE_SHARE_MIN: f64 = 0.8;
/// Frames without agreement that end a stretch.
const GAP_FRAMES_MAX: usize = 12;
/// Every how manyth frame proposes diagonals: each stretch holds three of them.
const PROBE_STEP: usize = 24;
/// Probes that must speak for a diagonal.
const PROBES_MIN: u32 = 2;
/// Diagonals that are followed: an episode shares a handful of scenes with another.
const DIAGONALS_MAX: usize = 64;
/// Frequencies in each direction.
const FREQUENCIES: usize = 8;

/// The prints of all frames of a source; black and flat frames have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prints(Vec<Option<u64>>);

/// Frames that two sources share: `a_start + n` of the one is `b_start + n` of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedStretch {
    /// First frame in the first source.
    pub a_start: usize,
    /// First frame in the second source.
    pub b_start: usize,
    /// Frames.
    pub frames: usize,
}

impl Prints {
    /// Of all frames of a source.
    #[must_use]
    pub fn of(thumbs: &Thumbs) -> Self {
        let (width, height) = thumbs.size();
        let (across, down) = (cosines(width), cosines(height));
        let print = |frame: usize| {
            let is_plain = thumbs.is_low(frame);
            (!is_plain).then(|| print_of(thumbs.pixels_of(frame), width, &across, &down))
        };
        Self((0..thumbs.len()).into_par_iter().map(print).collect())
    }
}

/// Finds the stretches, longest first; none overlaps another in the first source.
#[must_use]
pub fn shared_stretches(a: &Prints, b: &Prints) -> Vec<SharedStretch> {
    let mut found: Vec<SharedStretch> = diagonals(a, b)
        .into_iter()
        .flat_map(|diagonal| runs_on(a, b, diagonal))
        .collect();
    found.sort_by_key(|stretch| (usize::MAX - stretch.frames, stretch.a_start, stretch.b_start));
    let mut kept: Vec<SharedStretch> = Vec::new();
    for stretch in found {
        let ends_before = |x: &SharedStretch, y: &SharedStretch| x.a_start + x.frames <= y.a_start;
        if kept
            .iter()
            .all(|other| ends_before(other, &stretch) || ends_before(&stretch, other))
        {
            kept.push(stretch);
        }
    }
    kept
}

/// Frame of `b` minus frame of `a`, for the diagonals that most probes speak for.
fn diagonals(a: &Prints, b: &Prints) -> Vec<i64> {
    let probe = |i: usize| -> Vec<i64> {
        let Some(print) = a.0[i] else {
            return Vec::new();
        };
        let alike = |&(_, other): &(usize, &Option<u64>)| other.is_some_and(|other| is_same(print, other));
        b.0.iter()
            .enumerate()
            .filter(alike)
            .map(|(j, _)| j as i64 - i as i64)
            .collect()
    };
    let probes: Vec<usize> = (0..a.0.len()).step_by(PROBE_STEP).collect();
    let votes: Vec<Vec<i64>> = probes.into_par_iter().map(probe).collect();
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    for diagonal in votes.into_iter().flatten() {
        *counts.entry(diagonal).or_default() += 1;
    }
    let mut ranked: Vec<(u32, i64)> = counts
        .into_iter()
        .filter(|&(_, count)| count >= PROBES_MIN)
        .map(|(diagonal, count)| (count, diagonal))
        .collect();
    ranked.sort_by_key(|&(count, diagonal)| (u32::MAX - count, diagonal));
    ranked
        .into_iter()
        .take(DIAGONALS_MAX)
        .map(|(_, diagonal)| diagonal)
        .collect()
}

/// Stretches of agreement on one diagonal.
fn runs_on(a: &Prints, b: &Prints, diagonal: i64) -> Vec<SharedStretch> {
    let first = usize::try_from(-diagonal).unwrap_or(0);
    let last =
        a.0.len()
            .min(usize::try_from(b.0.len() as i64 - diagonal).unwrap_or(0));
    let beside = |i: usize| (i as i64 + diagonal) as usize;
    let agrees = |i: usize| matches!((a.0[i], b.0[beside(i)]), (Some(x), Some(y)) if is_same(x, y));
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for i in (first..last).filter(|&i| agrees(i)) {
        match runs.last_mut() {
            Some(run) if i - run.1 <= GAP_FRAMES_MAX => (run.1, run.2) = (i + 1, run.2 + 1),
            _ => runs.push((i, i + 1, 1)),
        }
    }
    let is_long = |&(start, end, agreed): &(usize, usize, usize)| {
        end - start >= REPEAT_FRAMES_MIN && agreed as f64 >= AGREE_SHARE_MIN * (end - start) as f64
    };
    let stretch = |(start, end, _): (usize, usize, usize)| SharedStretch {
        a_start: start,
        b_start: beside(start),
        frames: end - start,
    };
    runs.into_iter().filter(is_long).map(stretch).collect()
}

fn is_same(a: u64, b: u64) -> bool {
    (a ^ b).count_ones() <= SAME_BITS_MAX
}

/// The values of the lowest cosines, frequency by frequency.
fn cosines(length: usize) -> Vec<Vec<f64>> {
    let wave = |frequency: usize| {
        let at = |x: usize| (PI * frequency as f64 * (x as f64 + 0.5) / length as f64).cos();
        (0..length).map(at).collect()
    };
    (0..FREQUENCIES).map(wave).collect()
}

/// One bit per frequency: above the median or not. The mean brightness, which any grade moves, is not among them.
fn print_of(pixels: &[u8], width: usize, across: &[Vec<f64>], down: &[Vec<f64>]) -> u64 {
    let rows: Vec<[f64; FREQUENCIES]> = pixels
        .chunks_exact(width)
        .map(|row| {
            let sum = |wave: &Vec<f64>| row.iter().zip(wave).map(|(&p, w)| f64::from(p) * w).sum();
            std::array::from_fn(|frequency| sum(&across[frequency]))
        })
        .collect();
    let mut values = [0.0f64; FREQUENCIES * FREQUENCIES];
    for (v, wave) in down.iter().enumerate() {
        for u in 0..FREQUENCIES {
            values[v * FREQUENCIES + u] = rows.iter().zip(wave).map(|(row, w)| row[u] * w).sum();
        }
    }
    let mut sorted = values[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = values
        .iter()
        .enumerate()
        .skip(1)
        .filter(|&(_, &value)| value > median);
    bits.fold(0, |print, (bit, _)| print | 1 << bit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

    use super::*;

    /// Frames of scene `seed`: every frame a picture of its own.
    fn scene(seed: u64, frames: std::ops::Range<u64>, gain: f64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            let law = |n: u64| {
                (seed as f64 * 2.4 + n as f64 * 4.3 + frame as f64 * 0.13 * (n % 5 + 1) as f64).sin()
            };
            for i in 0..THUMB_WIDTH_PX * THUMB_HEIGHT_PX {
                let (x, y) = (
                    (i % THUMB_WIDTH_PX) as f64 / 64.0,
                    (i / THUMB_WIDTH_PX) as f64 / 36.0,
                );
                let wave = |n: u64| {
                    law(n) * (PI * ((n % 4 + 1) as f64 * x + (n / 4 + 1) as f64 * y) + law(n + 50)).cos()
                };
                let value = 120.0 + 22.0 * (0..12).map(wave).sum::<f64>();
                bytes.push((gain * value).clamp(0.0, 255.0) as u8);
            }
        }
        bytes
    }

    fn prints(parts: &[Vec<u8>]) -> Prints {
        Prints::of(&Thumbs::prepare(&parts.concat()).unwrap())
    }

    #[test]
    fn a_shared_opening_is_found_where_it_lies_in_each() {
        let opening = |gain| scene(1, 0..100, gain);
        let a = prints(&[scene(2, 0..40, 1.0), opening(1.0), scene(3, 0..90, 1.0)]);
        let b = prints(&[opening(0.95), scene(4, 0..120, 1.0)]);
        let found = shared_stretches(&a, &b);
        assert_eq!(found.len(), 1, "{found:?}");
        let stretch = found[0];
        assert_eq!(stretch.a_start - stretch.b_start, 40);
        assert!(
            stretch.frames.abs_diff(100) <= 2 && stretch.b_start <= 2,
            "{stretch:?}"
        );
    }

    #[test]
    fn other_scenes_and_black_are_not_shared() {
        let black = vec![16; 200 * 64 * 36];
        let a = prints(&[scene(2, 0..150, 1.0), black.clone()]);
        let b = prints(&[black, scene(5, 0..150, 1.0)]);
        assert_eq!(shared_stretches(&a, &b), []);
    }

    #[test]
    fn a_glimpse_is_no_repeat() {
        let a = prints(&[scene(2, 0..100, 1.0), scene(1, 0..40, 1.0)]);
        let b = prints(&[scene(1, 0..40, 1.0), scene(6, 0..100, 1.0)]);
        assert_eq!(shared_stretches(&a, &b), []);
    }
}
