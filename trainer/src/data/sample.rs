//! One crop of a pair, chosen by seed and place in the order alone, and the batch it goes into.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remaster_domain::MaskRect;

use super::degrade::degrade;
use super::order::Draw;
use super::picture::{Pair, Picture};
use crate::recipe::Degradation;

/// Draws of a crop before one that touches a masked rectangle is taken after all: a picture that is masked nearly
/// everywhere should have been rejected at extraction.
const MASK_TRIES_MAX: usize = 32;

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
            batch.count += 1;
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
    let mut at = place();
    for _ in 1..MASK_TRIES_MAX {
        if !mask.iter().any(|rect| touches(rect, at, config.lq_size_px)) {
            break;
        }
        at = place();
    }
    Crop {
        x: at.0,
        y: at.1,
        mirror: rng.random_bool(0.5) && config.hflip,
        flip: rng.random_bool(0.5) && config.rotate,
        transpose: rng.random_bool(0.5) && config.rotate,
    }
}

fn touches(rect: &MaskRect, (x, y): (u32, u32), side_px: u32) -> bool {
    x < rect.x + rect.width && rect.x < x + side_px && y < rect.y + rect.height && rect.y < y + side_px
}

/// Appends the crop plane by plane. Turning works on whole squares, so LR and HR stay registered.
fn copy(picture: &Picture, crop: Crop, scale: u32, side_px: u32, into: &mut Vec<f32>) {
    let (left, top, side) = (
        (crop.x * scale) as usize,
        (crop.y * scale) as usize,
        side_px as usize,
    );
    for channel in 0..3 {
        for row in 0..side {
            for column in 0..side {
                let (mut y, mut x) = if crop.transpose {
                    (column, row)
                } else {
                    (row, column)
                };
                if crop.flip {
                    y = side - 1 - y;
                }
                if crop.mirror {
                    x = side - 1 - x;
                }
                let at = ((top + y) * picture.width_px as usize + left + x) * 3 + channel;
                into.push(f32::from(picture.rgb[at]) / 255.0);
            }
        }
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

    #[test]
    fn masked_rectangles_are_not_cut() {
        let mask = vec![MaskRect {
            x: 0,
            y: 0,
            width: 10,
            height: 12,
        }];
        for crop in 0..64 {
            let lowest = batch(1, crop, mask.clone()).lr.into_iter().fold(1.0, f32::min);
            assert!(lowest * 255.0 >= 119.5, "a masked pixel is in crop {crop}");
        }
    }
}
