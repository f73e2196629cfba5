//! Chooses the frames that the transform is fitted to: spread over the whole episode, with much detail, beyond doubt.

use remaster_domain::{PairChoice, PathSegment, THUMB_HEIGHT_PX, THUMB_WIDTH_PX};
use remaster_pairs::{hd_frame, is_safe};

const THUMB_BYTES: usize = THUMB_WIDTH_PX * THUMB_HEIGHT_PX;
/// Movement, in mean levels from the frame before, that halves the worth of a frame: fields that are shifted against each
/// other, and exposures that are not quite the same, move the fit where the picture moves.
const HALVING_MOTION_LEVELS: u64 = 4;

/// At most `count` frames: the safe ones are cut into that many stretches of equal length and each gives its most
/// detailed one that hardly moves, so neither a busy shot nor a still one can speak for the episode alone.
pub(super) fn registration_frames(
    segments: &[PathSegment],
    sd_thumbs: &[u8],
    count: usize,
) -> Vec<PairChoice> {
    let frames = (sd_thumbs.len() / THUMB_BYTES) as u32;
    let safe: Vec<u32> = (0..frames).filter(|&sd| is_safe(segments, sd)).collect();
    let stretch = safe.len().div_ceil(count.max(1)).max(1);
    let thumb = |sd: u32| &sd_thumbs[sd as usize * THUMB_BYTES..][..THUMB_BYTES];
    let worth = |sd: u32| {
        let motion = motion_levels(thumb(sd.saturating_sub(1)), thumb(sd));
        u64::from(detail(thumb(sd))) * HALVING_MOTION_LEVELS / (HALVING_MOTION_LEVELS + motion)
    };
    let best = |stretch: &[u32]| {
        stretch
            .iter()
            .copied()
            .max_by_key(|&sd| (worth(sd), std::cmp::Reverse(sd)))
    };
    let choice = |sd: u32| {
        let (segment, hd) = hd_frame(segments, sd)?;
        Some(PairChoice {
            sd,
            hd,
            shot: 0,
            segment: segment as u32,
        })
    };
    safe.chunks(stretch).filter_map(best).filter_map(choice).collect()
}

/// Sum of differences of neighbouring pixels, across and down; the smaller of the two, since a picture of stripes fixes
/// only one axis.
fn detail(thumb: &[u8]) -> u32 {
    let difference = |a: u8, b: u8| u32::from(a.abs_diff(b));
    let rows = thumb.chunks_exact(THUMB_WIDTH_PX);
    let across: u32 = rows
        .map(|row| row.windows(2).map(|w| difference(w[0], w[1])).sum::<u32>())
        .sum();
    let down: u32 = thumb
        .iter()
        .zip(&thumb[THUMB_WIDTH_PX..])
        .map(|(&a, &b)| difference(a, b))
        .sum();
    across.min(down)
}

/// Mean difference of two thumbnails.
fn motion_levels(before: &[u8], after: &[u8]) -> u64 {
    let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
    before.iter().zip(after).map(difference).sum::<u64>() / THUMB_BYTES as u64
}

#[cfg(test)]
mod tests {
    use remaster_domain::{FrameRange, Slope};

    use super::*;

    fn segment(start: u32, end: u32, offset: i64) -> PathSegment {
        PathSegment {
            sd: FrameRange { start, end },
            offset,
            slope: Slope::ONE,
            places: None,
            zncc: 1.0,
            discriminating: 9,
        }
    }

    #[test]
    fn every_stretch_gives_its_most_detailed_safe_frame() {
        let frames = 200;
        let mut thumbs = vec![16; frames * THUMB_BYTES];
        for sharp in [5, 30, 150] {
            for (i, pixel) in thumbs[sharp * THUMB_BYTES..(sharp + 1) * THUMB_BYTES]
                .iter_mut()
                .enumerate()
            {
                *pixel = if (i + i / THUMB_WIDTH_PX).is_multiple_of(2) {
                    16
                } else {
                    235
                };
            }
        }
        let chosen = registration_frames(&[segment(0, 200, -4)], &thumbs, 8);
        let sd: Vec<u32> = chosen.iter().map(|c| c.sd).collect();
        assert_eq!(sd.len(), 8);
        assert!(sd.contains(&30) && sd.contains(&150), "{sd:?}");
        assert!(!sd.contains(&5), "too near the start to be safe: {sd:?}");
        assert!(chosen.iter().all(|c| c.hd + 4 == c.sd));
    }

    #[test]
    fn a_short_episode_gives_what_it_has() {
        let thumbs = vec![16; 30 * THUMB_BYTES];
        assert_eq!(registration_frames(&[segment(0, 30, 0)], &thumbs, 24).len(), 6);
        assert!(registration_frames(&[], &thumbs, 24).is_empty());
    }
}
