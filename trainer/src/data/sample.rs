//! One crop of a pair, chosen by seed and place in the order alone, and the batch it goes into. A crop may show some of what is
//! masked, since whole frames do so too: the batch says what of it is not to be learnt.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remaster_domain::MaskRect;

use super::degrade::degrade;
use super::order::Draw;
use super::picture::{Pair, Picture};
use crate::recipe::Degradation;

/// Draws of a crop before the least masked of them is taken: a picture that is masked nearly everywhere should have been
/// rejected at extraction.
const MASK_TRIES_MAX: usize = 32;
/// At most one part in so many of a crop is masked: enough to see how a picture ends at a bar, and little is computed in vain.
const MASKED_PART: u32 = 4;

/// Sets what is drawn for a degradation apart from what is drawn for the crop, so that neither changes the other.
const SYNTHETIC_MARK: u64 = 0x5e_c0_4d_0a_de_64_ad_e5;

/// How often LR is made from HR, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Synthetic {
    /// Share of the crops.
    pub prob: f64,
    /// What is done to them.
    pub degradation: Degradation,
}

impl Synthetic {
    /// The generator of a crop whose LR is to be made.
    fn generator(&self, seed: u64, draw: Draw) -> Option<ChaCha8Rng> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ draw.position.rotate_left(32) ^ SYNTHETIC_MARK);
        rng.set_stream(draw.crop);
        rng.random_bool(self.prob).then_some(rng)
    }
}

/// How crops are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropConfig {
    /// Side of an LR crop.
    pub lq_size_px: u32,
    /// HR pixels per LR pixel.
    pub scale: u32,
    /// Mirror half of them.
    pub hflip: bool,
    /// Turn and flip them.
    pub rotate: bool,
}

/// Where a crop lies in its LR picture and how it is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    x: u32,
    y: u32,
    mirror: bool,
    flip: bool,
    transpose: bool,
}

/// Equal crops of several pairs as floats 0..1, planar.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Its number; the same number is always the same batch.
    pub number: u64,
    /// Crops.
    pub count: usize,
    /// Side of the LR crops.
    pub lq_size_px: usize,
    /// Side of the HR crops.
    pub gt_size_px: usize,
    /// `[count, 3, lq, lq]`
    pub lr: Vec<f32>,
    /// `[count, 3, gt, gt]`
    pub hr: Vec<f32>,
    /// `[count, 1, gt, gt]`, 1 where HR is to be learnt and 0 under a mask; empty where there is no mask in it.
    pub counts: Vec<f32>,
}

impl Batch {
    /// Cuts one crop from each pair; some get an LR that was made from their HR.
    #[must_use]
    pub fn cut<'a>(
        number: u64,
        seed: u64,
        config: CropConfig,
        synthetic: Option<&Synthetic>,
        pairs: impl Iterator<Item = (Draw, &'a Pair)>,
    ) -> Self {
        let lq_size_px = config.lq_size_px as usize;
        let gt_size_px = lq_size_px * config.scale as usize;
        let mut batch = Self {
            number,
            count: 0,
            lq_size_px,
            gt_size_px,
            lr: vec![],
            hr: vec![],
            counts: vec![],
        };
        for (draw, pair) in pairs {
            let crop = choose(seed, draw, config, &pair.lr, &pair.mask);
            let before = batch.hr.len();
            copy(
                &pair.hr,
                crop,
                config.scale,
                config.lq_size_px * config.scale,
                &mut batch.hr,
            );
            let made = synthetic.and_then(|made| Some((made.degradation, made.generator(seed, draw)?)));
            if let Some((degradation, mut rng)) = made {
                let hr = &batch.hr[before..];
                let lr = degrade(hr, gt_size_px, lq_size_px, &degradation, &mut rng);
                batch.lr.extend(lr);
            } else {
                copy(&pair.lr, crop, 1, config.lq_size_px, &mut batch.lr);
            }
            let crop_px = gt_size_px * gt_size_px;
            if masked_px(&pair.mask, (crop.x, crop.y), config.lq_size_px) > 0 {
                batch.counts.resize(batch.count * crop_px, 1.0);
                batch.counts.extend(counts_of(&pair.mask, crop, config));
            }
            batch.count += 1;
            if !batch.counts.is_empty() {
                batch.counts.resize(batch.count * crop_px, 1.0);
            }
        }
        batch
    }
}

fn choose(seed: u64, draw: Draw, config: CropConfig, lr: &Picture, mask: &[MaskRect]) -> Crop {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ draw.position.rotate_left(32));
    rng.set_stream(draw.crop);
    let mut place = || {
        let x = rng.random_range(0..=lr.width_px - config.lq_size_px);
        let y = rng.random_range(0..=lr.height_px - config.lq_size_px);
        (x, y)
    };
    let masked_px_max = config.lq_size_px.pow(2) / MASKED_PART;
    let mut at = place();
    let mut masked = masked_px(mask, at, config.lq_size_px);
    for _ in 1..MASK_TRIES_MAX {
        if masked <= masked_px_max {
            break;
        }
        let other = place();
        let masked_there = masked_px(mask, other, config.lq_size_px);
        if masked_there < masked {
            (at, masked) = (other, masked_there);
        }
    }
    Crop {
        x: at.0,
        y: at.1,
        mirror: rng.random_bool(0.5) && config.hflip,
        flip: rng.random_bool(0.5) && config.rotate,
        transpose: rng.random_bool(0.5) && config.rotate,
    }
}

/// LR pixels of a crop that are masked; those under two rectangles count twice, which only errs towards caution.
fn masked_px(mask: &[MaskRect], (x, y): (u32, u32), side_px: u32) -> u32 {
    let common = |first: u32, length: u32, from: u32| {
        let end = (first + length).min(from + side_px);
        end.saturating_sub(first.max(from))
    };
    let of = |rect: &MaskRect| common(rect.x, rect.width, x) * common(rect.y, rect.height, y);
    mask.iter().map(of).sum()
}

/// What [`Batch::counts`] says of a crop.
fn counts_of(mask: &[MaskRect], crop: Crop, config: CropConfig) -> impl Iterator<Item = f32> {
    crop.places((config.lq_size_px * config.scale) as usize)
        .map(move |(y, x)| {
            let (x, y) = (crop.x + x as u32 / config.scale, crop.y + y as u32 / config.scale);
            let is_masked = |m: &MaskRect| x.wrapping_sub(m.x) < m.width && y.wrapping_sub(m.y) < m.height;
            if mask.iter().any(is_masked) { 0.0 } else { 1.0 }
        })
}

impl Crop {
    /// Line and column in the square that is cut, for every place of the square that is made, line by line. Turning works on
    /// whole squares, so LR and HR stay registered.
    fn places(self, side: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..side * side).map(move |at| {
            let (row, column) = (at / side, at % side);
            let (y, x) = if self.transpose {
                (column, row)
            } else {
                (row, column)
            };
            (
                if self.flip { side - 1 - y } else { y },
                if self.mirror { side - 1 - x } else { x },
            )
        })
    }
}

/// Appends the crop plane by plane.
fn copy(picture: &Picture, crop: Crop, scale: u32, side_px: u32, into: &mut Vec<f32>) {
    let (left, top, side) = (
        (crop.x * scale) as usize,
        (crop.y * scale) as usize,
        side_px as usize,
    );
    for channel in 0..3 {
        into.extend(crop.places(side).map(|(y, x)| {
            let at = ((top + y) * picture.width_px as usize + left + x) * 3 + channel;
            f32::from(picture.rgb[at]) / 255.0
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CropConfig = CropConfig {
        lq_size_px: 4,
        scale: 2,
        hflip: true,
        rotate: true,
    };

    /// HR is LR with every pixel doubled, so registration can be checked exactly.
    fn pair(mask: Vec<MaskRect>) -> Pair {
        let (width_px, height_px) = (20, 12);
        let value = |x: u32, y: u32| (x * 12 + y) as u8;
        let picture = |scale: u32| {
            let (width_px, height_px) = (width_px * scale, height_px * scale);
            let rgb = (0..height_px)
                .flat_map(|y| (0..width_px).flat_map(move |x| [value(x / scale, y / scale); 3]))
                .collect();
            Picture {
                width_px,
                height_px,
                rgb,
            }
        };
        Pair {
            lr: picture(1),
            hr: picture(2),
            mask,
            synthetic: false,
        }
    }

    fn batch(seed: u64, crop: u64, mask: Vec<MaskRect>) -> Batch {
        let pair = pair(mask);
        Batch::cut(
            0,
            seed,
            CONFIG,
            None,
            [(Draw { position: 3, crop }, &pair)].into_iter(),
        )
    }

    #[test]
    fn lr_and_hr_stay_registered_under_every_turn() {
        for crop in 0..64 {
            let batch = batch(1, crop, vec![]);
            for (at, hr) in batch.hr.iter().enumerate() {
                let (channel, y, x) = (at / 64, at / 8 % 8, at % 8);
                assert!((hr - batch.lr[channel * 16 + y / 2 * 4 + x / 2]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_draw_names_one_crop_and_other_draws_others() {
        assert_eq!(batch(1, 5, vec![]), batch(1, 5, vec![]));
        assert_ne!(batch(1, 5, vec![]).lr, batch(1, 6, vec![]).lr);
        assert_ne!(batch(1, 5, vec![]).lr, batch(2, 5, vec![]).lr);
    }

    #[test]
    fn some_crops_get_a_made_lr_and_all_keep_their_hr() {
        let pair = pair(vec![]);
        let synthetic = Synthetic {
            prob: 0.3,
            degradation: Degradation::default(),
        };
        let with = |synthetic: Option<&Synthetic>, crop: u64| {
            let draw = Draw { position: 3, crop };
            Batch::cut(0, 1, CONFIG, synthetic, [(draw, &pair)].into_iter())
        };
        let mut made = 0;
        for crop in 0..400 {
            let (real, mixed) = (with(None, crop), with(Some(&synthetic), crop));
            assert_eq!(real.hr, mixed.hr);
            assert_eq!(mixed, with(Some(&synthetic), crop));
            assert_eq!(mixed.lr.len(), real.lr.len());
            made += u32::from(mixed.lr != real.lr);
        }
        assert!((85..155).contains(&made), "{made} of 400");
    }

    fn rect(x: u32, y: u32, width: u32, height: u32) -> MaskRect {
        MaskRect { x, y, width, height }
    }

    #[test]
    fn a_bar_is_seen_and_never_learnt_whichever_way_a_crop_is_turned() {
        // Pixels are their places: 12 a column.
        let bar = vec![rect(0, 0, 2, 12), rect(2, 0, 18, 1)];
        let is_masked = |value: f32| {
            let place = (value * 255.0).round() as u32;
            place / 12 < 2 || place % 12 < 1
        };
        let mut seen = 0;
        for crop in 0..200 {
            let batch = batch(1, crop, bar.clone());
            let counts = |at: usize| batch.counts.get(at).is_none_or(|&counts| counts == 1.0);
            let masked = (0..64).filter(|&at| is_masked(batch.hr[at])).count();
            assert!(
                (0..64).all(|at| counts(at) != is_masked(batch.hr[at])),
                "crop {crop}"
            );
            assert!(masked <= 64 / 4, "crop {crop} is masked in {masked} of 64");
            seen += u32::from(masked > 0);
        }
        assert!(seen > 20, "the bar is in {seen} of 200 crops");
    }

    #[test]
    fn crops_that_are_masked_for_the_most_part_are_not_cut_while_there_are_others() {
        // Half of the picture; crops may reach one column into it.
        for crop in 0..64 {
            let lowest = batch(1, crop, vec![rect(0, 0, 10, 12)])
                .lr
                .into_iter()
                .fold(1.0, f32::min);
            assert!(lowest * 255.0 >= 9.0 * 12.0 - 0.5, "crop {crop}");
        }
        let everywhere = batch(1, 0, vec![rect(0, 0, 20, 12)]);
        assert_eq!(everywhere.counts, [0.0; 64]);
    }

    #[test]
    fn what_counts_is_said_of_every_crop_once_one_is_masked() {
        let (bare, masked) = (pair(vec![]), pair(vec![rect(0, 0, 20, 12)]));
        let batch = |pairs: [&Pair; 3]| {
            let draws = (0..3).map(|crop| Draw { position: 3, crop });
            Batch::cut(0, 1, CONFIG, None, draws.zip(pairs)).counts
        };
        assert!(batch([&bare; 3]).is_empty());
        let expected = [[1.0; 64], [0.0; 64], [1.0; 64]].concat();
        assert_eq!(batch([&bare, &masked, &bare]), expected);
    }
}
