//! Finds shot changes from the thumbnails of the index.
//!
//! A cut differs from its neighbours, not from a fixed number: animation held on twos has still frames, a pan has none.
//! A flash raises two differences in a row and is therefore no cut. Fades and dissolves are not looked for.

use crate::THUMB_BYTES;

/// Shortest shot in frames: what is shorter is a flash or a glitch.
const SHOT_FRAMES_MIN: usize = 8;
/// Frames to each side that say how much motion is usual here.
const WINDOW_FRAMES: usize = 8;
/// Frames to each side that a cut must stand out from.
const NEAR_FRAMES: usize = 3;
/// Mean absolute luma difference that no cut stays below.
const DIFFERENCE_MIN: f32 = 7.0;
/// How far above the usual motion a cut lies.
const MEDIAN_RATIO: f32 = 2.5;
/// How far above each near neighbour a cut lies.
const NEAR_RATIO: f32 = 1.5;

/// First frames of new shots, ascending, without 0. `thumbs` are those of the index, one after the other.
#[must_use]
pub fn find_cuts(thumbs: &[u8]) -> Vec<u32> {
    let frames: Vec<&[u8]> = thumbs.chunks_exact(THUMB_BYTES).collect();
    let differences: Vec<f32> = frames
        .windows(2)
        .map(|pair| mean_difference(pair[0], pair[1]))
        .collect();
    let mut cuts = Vec::new();
    let mut shot_start = 0;
    for (before, &difference) in differences.iter().enumerate() {
        let frame = before + 1;
        let long_enough = frame - shot_start >= SHOT_FRAMES_MIN && frames.len() - frame >= SHOT_FRAMES_MIN;
        if long_enough && stands_out(&differences, before, difference) {
            cuts.push(u32::try_from(frame).expect("frame numbers are 32 bits everywhere"));
            shot_start = frame;
        }
    }
    cuts
}

fn stands_out(differences: &[f32], at: usize, difference: f32) -> bool {
    let around = |reach: usize| {
        let end = differences.len().min(at + reach + 1);
        differences[at.saturating_sub(reach)..at]
            .iter()
            .chain(&differences[at + 1..end])
            .copied()
    };
    let mut usual: Vec<f32> = around(WINDOW_FRAMES).collect();
    usual.sort_by(f32::total_cmp);
    let median = usual.get(usual.len() / 2).copied().unwrap_or(0.0);
    let nearest = around(NEAR_FRAMES).fold(0.0_f32, f32::max);
    difference >= DIFFERENCE_MIN && difference >= MEDIAN_RATIO * median && difference >= NEAR_RATIO * nearest
}

fn mean_difference(a: &[u8], b: &[u8]) -> f32 {
    let sum: u32 = a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
    sum as f32 / a.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A film of flat frames.
    fn film(levels: impl IntoIterator<Item = u8>) -> Vec<u8> {
        levels
            .into_iter()
            .flat_map(|level| vec![level; THUMB_BYTES])
            .collect()
    }

    #[test]
    fn a_cut_between_still_shots_is_found() {
        assert_eq!(find_cuts(&film([[40; 20], [90; 20]].concat())), [20]);
    }

    #[test]
    fn a_flash_is_not_a_cut() {
        let mut levels = [40; 40];
        levels[20] = 200;
        assert_eq!(find_cuts(&film(levels)), [0_u32; 0]);
    }

    #[test]
    fn steady_motion_is_not_a_cut_but_a_cut_within_it_is() {
        let pan = (0..20).map(|i| 10 + i * 4);
        let other = (0..20).map(|i| 250 - i * 4);
        assert_eq!(find_cuts(&film(pan.clone().chain(pan.rev()))), [0_u32; 0]);
        let pan = (0..20).map(|i| 10 + i * 4);
        assert_eq!(find_cuts(&film(pan.chain(other))), [20]);
    }

    #[test]
    fn no_shot_is_shorter_than_the_minimum() {
        let levels = [[40_u8; 10].as_slice(), &[90; 4], &[160; 20]].concat();
        assert_eq!(find_cuts(&film(levels)), [10]);
    }
}
