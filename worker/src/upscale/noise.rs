//! How much of a source's difference from frame to frame is only its codec: what a held drawing still moves by.
//!
//! A difference is the greatest one of any channel, in levels of 255. Blocks that stand still differ by less than a
//! level in the mean even in poor MPEG-2, and moving ones by several, so the two are told apart by their means and the
//! noise is read off the greatest differences of those that stand still. A pure function of the first pictures of a
//! segment, so that every worker finds the same.

use remaster_pairs::Rgb;

use super::tiles::Rect;

/// Two pictures a drawing held on threes still has in common, eight times over.
pub(super) const PICTURES_MEASURED: usize = 24;
/// As large as a macroblock.
const BLOCK_PX: usize = 16;
/// A block that differs by more in the mean moves.
const STILL_MEAN_LEVELS: f32 = 1.0;
/// What a frame's worst blocks are is chance; this share of them must be within the noise.
const SHARE_WITHIN: f64 = 0.99;
/// A part has some ten blocks, all of them must be within the threshold, and a key frame codes all of them anew.
const MARGIN: f32 = 2.0;
/// More would take slow pans over soft pictures for noise.
const LEVELS_MAX: f32 = 10.0;

/// The threshold in levels for pictures in their order; 0 where nothing stands still.
pub(super) fn noise_levels(pictures: &[Rgb]) -> f32 {
    let mut still: Vec<f32> = pictures
        .windows(2)
        .flat_map(|pair| blocks(&pair[0]).filter_map(|block| still_levels(&pair[0], &pair[1], block)))
        .collect();
    if still.is_empty() {
        return 0.0;
    }
    still.sort_by(f32::total_cmp);
    let place = ((still.len() - 1) as f64 * SHARE_WITHIN).round() as usize;
    (still[place] * MARGIN).min(LEVELS_MAX)
}

/// The greatest difference between two pictures within a part of them, as a share of 1.
pub(super) fn greatest_difference<'a>(
    before: impl Iterator<Item = &'a [f32]>,
    now: impl Iterator<Item = &'a [f32]>,
) -> f32 {
    before.zip(now).fold(0.0, |greatest, (before, now)| {
        let line = before.iter().zip(now).fold(0.0_f32, |greatest, (before, now)| {
            greatest.max((before - now).abs())
        });
        greatest.max(line)
    })
}

/// The lines of a part of a picture, channel after channel.
pub(super) fn lines(picture: &Rgb, part: Rect) -> impl Iterator<Item = &[f32]> {
    (0..3).flat_map(move |channel| {
        let plane = picture.channel(channel);
        (part.top..part.bottom).map(move |y| &plane[y * picture.width..][part.left..part.right])
    })
}

fn blocks(picture: &Rgb) -> impl Iterator<Item = Rect> + use<> {
    let (width, height) = (picture.width, picture.height);
    let places = |side: usize| (0..side / BLOCK_PX).map(|block| block * BLOCK_PX);
    places(height).flat_map(move |top| {
        places(width).map(move |left| Rect {
            left,
            top,
            right: left + BLOCK_PX,
            bottom: top + BLOCK_PX,
        })
    })
}

/// The greatest difference of a block that stands still, in levels.
fn still_levels(before: &Rgb, now: &Rgb, block: Rect) -> Option<f32> {
    let sum: f32 = lines(before, block)
        .zip(lines(now, block))
        .flat_map(|(before, now)| before.iter().zip(now).map(|(before, now)| (before - now).abs()))
        .sum();
    let mean_levels = 255.0 * sum / (3 * BLOCK_PX * BLOCK_PX) as f32;
    (mean_levels <= STILL_MEAN_LEVELS)
        .then(|| 255.0 * greatest_difference(lines(before, block), lines(now, block)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of noise whose right half moves.
    fn picture(number: usize, noise_levels: f32) -> Rgb {
        let value = |i: usize| {
            let (x, y) = (i % 64, i / 64 % 32);
            let chance = ((i * 7919 + number * 104_729) % 1000) as f32 / 1000.0;
            let drawn = ((x + y + if x >= 32 { 8 * number } else { 0 }) % 16) as f32 / 16.0;
            drawn + if chance > 0.8 { noise_levels / 255.0 } else { 0.0 }
        };
        Rgb::new(64, 32, (0..3 * 64 * 32).map(value).collect())
    }

    #[test]
    fn the_threshold_follows_the_noise_of_what_stands_still() {
        let measure = |levels: f32| noise_levels(&[0, 1, 2].map(|number| picture(number, levels)));
        assert_eq!(measure(0.0), 0.0);
        assert!((measure(2.0) - 4.0).abs() < 0.01, "{}", measure(2.0));
        assert_eq!(noise_levels(&[picture(0, 0.0)]), 0.0);
    }
}
