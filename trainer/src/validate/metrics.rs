//! PSNR, SSIM, colour drift and halo of planar RGB pictures, and how two frames jump, counted where a mask says so. Whole
//! pictures are gone through in bands, so that what is held beside them stays small.

use std::ops::Range;

use super::{Scores, ssim};

/// Lines looked at at once: some megabytes of a disc's picture.
const BAND_LINES: usize = 64;
/// Pixels of two frames looked at at once; where they lie does not matter.
const JUMP_PX: usize = 1 << 16;
/// Weights of R, G, B in Cb and Cr of BT.601, times 255.
const CB: [f64; 3] = [-37.797, -74.203, 112.0];
const CR: [f64; 3] = [112.0, -93.786, -18.214];
/// A halo lies so near its edge.
const HALO_REACH_PX: usize = 3;
/// Luma that an edge spans at least: a quarter of the range shows its halo.
const EDGE_LEVELS: f64 = 56.0;
/// Keeps equal pictures from an endless PSNR.
const SQUARE_FLOOR: f64 = 1e-10;
/// Place of luma behind R, G and B.
const LUMA: usize = 3;

/// Each of some pictures against the wanted one, in planes of `width` columns; `counts` has one entry a pixel.
pub(super) fn scores<const N: usize>(
    found: [&[f32]; N],
    wanted: &[f32],
    width: usize,
    counts: &[bool],
) -> [Scores; N] {
    let height = counts.len() / width;
    let whole = ssim::whole_windows(counts, width);
    let mut sums = [Sums::default(); N];
    for top in (0..height).step_by(BAND_LINES) {
        let lines = top..(top + BAND_LINES).min(height);
        let band = Band::new(lines, wanted, width, (counts, &whole));
        for (sums, found) in sums.iter_mut().zip(found) {
            band.add_to(sums, &planes(found, width, &band.seen));
        }
    }
    sums.map(Sums::means)
}

/// Mean absolute difference between the change of luma from one frame to the next and the wanted change, in levels.
pub(super) fn jump(found: [&[f32]; 2], wanted: [&[f32]; 2], counts: &[bool]) -> f64 {
    let (mut sum, mut pixels) = (0.0, 0.0f64);
    for start in (0..counts.len()).step_by(JUMP_PX) {
        let some = start..(start + JUMP_PX).min(counts.len());
        let luma = |picture: &[f32]| {
            let [.., luma] = planes(picture, 1, &some);
            luma
        };
        let [[a, b], [c, d]] = [found, wanted].map(|both| both.map(luma));
        for at in (0..some.len()).filter(|at| counts[start + at]) {
            sum += ((b[at] - a[at]) - (d[at] - c[at])).abs();
            pixels += 1.0;
        }
    }
    sum / pixels.max(1.0)
}

/// What is added up over the pixels that count.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    pixels: f64,
    /// Squared differences of R, G, B and luma.
    squares: [f64; 4],
    /// Differences in Cb and Cr: what noise there is cancels, a cast of the whole picture stays.
    chroma: [f64; 2],
    near_edges: f64,
    /// How far pixels near edges lie outside all that the wanted picture has around them.
    over: f64,
    /// Windows of SSIM that fit and all of whose pixels count.
    windows: f64,
    ssim: [f64; 4],
}

impl Sums {
    fn means(self) -> Scores {
        let of_pixels = |sum: f64| sum / self.pixels.max(1.0);
        let of_windows = |sum: f64| sum / self.windows.max(1.0);
        let [cb, cr] = self.chroma.map(of_pixels);
        Scores {
            psnr: psnr(of_pixels(self.squares[..LUMA].iter().sum::<f64>() / 3.0)),
            ssim: of_windows(self.ssim[..LUMA].iter().sum::<f64>() / 3.0),
            psnr_y: psnr(of_pixels(self.squares[LUMA])),
            ssim_y: of_windows(self.ssim[LUMA]),
            colour_drift: cb.hypot(cr),
            halo: self.over / self.near_edges.max(1.0),
            flicker: None,
            lpips: None,
            dists: None,
        }
    }
}

fn psnr(mean_square: f64) -> f64 {
    10.0 * (255.0 * 255.0 / mean_square.max(SQUARE_FLOOR)).log10()
}

/// Some lines of the wanted picture, and what every other picture is held against.
struct Band<'a> {
    /// Lines that are counted.
    own: Range<usize>,
    /// These and as many around them as a window reaches.
    seen: Range<usize>,
    width: usize,
    height: usize,
    counts: &'a [bool],
    /// Middles of windows of SSIM that count.
    whole: &'a [bool],
    /// R, G, B and luma of what is seen.
    planes: [Vec<f64>; 4],
    means: [Vec<f64>; 4],
    /// Highest and lowest luma around every pixel.
    highest: Vec<f64>,
    lowest: Vec<f64>,
}

impl<'a> Band<'a> {
    fn new(
        own: Range<usize>,
        wanted: &[f32],
        width: usize,
        (counts, whole): (&'a [bool], &'a [bool]),
    ) -> Self {
        let height = counts.len() / width;
        let seen = own.start.saturating_sub(ssim::REACH_PX)..(own.end + ssim::REACH_PX).min(height);
        let planes = planes(wanted, width, &seen);
        Self {
            own,
            seen,
            width,
            height,
            counts,
            whole,
            means: [0, 1, 2, 3].map(|of| ssim::means(&planes[of], width)),
            highest: extremes(&planes[LUMA], width, f64::max),
            lowest: extremes(&planes[LUMA], width, f64::min),
            planes,
        }
    }

    fn add_to(&self, sums: &mut Sums, found: &[Vec<f64>; 4]) {
        let of_line = |flags: &'a [bool], line: usize| flags[line * self.width..][..self.width].iter();
        for line in self.own.clone() {
            let start = (line - self.seen.start) * self.width;
            let counted = of_line(self.counts, line).enumerate();
            for (x, _) in counted.filter(|(_, counts)| **counts) {
                self.add_pixel(sums, found, start + x);
            }
        }
        let inner = (self.width + 1).saturating_sub(2 * ssim::REACH_PX + 1);
        let values: [Vec<f64>; 4] = std::array::from_fn(|of| {
            ssim::windows(&found[of], &self.planes[of], &self.means[of], self.width)
        });
        let middles =
            self.own.start.max(ssim::REACH_PX)..self.own.end.min(self.height.saturating_sub(ssim::REACH_PX));
        for line in middles.filter(|_| inner > 0) {
            let start = (line - ssim::REACH_PX - self.seen.start) * inner;
            let middles = of_line(self.whole, line).enumerate();
            for (x, _) in middles
                .skip(ssim::REACH_PX)
                .take(inner)
                .filter(|(_, whole)| **whole)
            {
                let at = start + x - ssim::REACH_PX;
                sums.windows += 1.0;
                (0..4).for_each(|of| sums.ssim[of] += values[of][at]);
            }
        }
    }

    fn add_pixel(&self, sums: &mut Sums, found: &[Vec<f64>; 4], at: usize) {
        sums.pixels += 1.0;
        for of in 0..4 {
            let difference = found[of][at] - self.planes[of][at];
            sums.squares[of] += difference * difference;
            if of < LUMA {
                sums.chroma[0] += CB[of] / 255.0 * difference;
                sums.chroma[1] += CR[of] / 255.0 * difference;
            }
        }
        let (highest, lowest, luma) = (self.highest[at], self.lowest[at], found[LUMA][at]);
        if highest - lowest >= EDGE_LEVELS {
            sums.near_edges += 1.0;
            sums.over += (luma - highest).max(lowest - luma).max(0.0);
        }
    }
}

/// The highest or lowest value around every pixel; the window ends where the picture does.
fn extremes(plane: &[f64], width: usize, pick: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let pick_into = |into: &mut [f64], from: &[f64]| {
        for (into, value) in into.iter_mut().zip(from) {
            *into = pick(*into, *value);
        }
    };
    let spread = |plane: &[f64], stride: usize| {
        let mut found = plane.to_vec();
        for distance in 1..=HALO_REACH_PX {
            let shift = (distance * stride).min(plane.len());
            pick_into(&mut found[shift..], plane);
            pick_into(&mut found, &plane[shift..]);
        }
        found
    };
    let across: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|line| spread(line, 1))
        .collect();
    spread(&across, width)
}

/// R, G, B of some lines rounded to 8 bit, and the luma of these.
fn planes(samples: &[f32], width: usize, lines: &Range<usize>) -> [Vec<f64>; 4] {
    let plane = samples.len() / 3;
    let eight_bit = |value: &f32| f64::from((value.clamp(0.0, 1.0) * 255.0).round());
    let [r, g, b] = [0, 1, 2].map(|channel| {
        let start = channel * plane + lines.start * width;
        let values = samples[start..start + lines.len() * width].iter();
        values.map(eight_bit).collect::<Vec<_>>()
    });
    let luma = (0..r.len()).map(|at| (65.481 * r[at] + 128.553 * g[at] + 24.966 * b[at]) / 255.0 + 16.0);
    let luma = luma.collect();
    [r, g, b, luma]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(found: &[f32], wanted: &[f32], width: usize, counts: &[bool]) -> Scores {
        let [scores] = scores([found], wanted, width, counts);
        scores
    }

    /// The same formula that was given to PyTorch in double precision.
    fn picture(phase: f64) -> Vec<f32> {
        (0..3 * 20 * 16)
            .map(|at| (f64::from(at) * 0.37 + phase).sin().mul_add(0.4, 0.5) as f32)
            .collect()
    }

    #[test]
    fn all_four_are_what_an_independent_computation_finds() {
        let found = score(&picture(0.0), &picture(0.2), 20, &[true; 320]);
        for (found, expected) in [
            (found.psnr, 24.96310873),
            (found.ssim, 0.97988863),
            (found.psnr_y, 27.86816180),
            (found.ssim_y, 0.98013685),
        ] {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    /// Nothing here knows up from left, so one lying band is as good as four standing ones.
    #[test]
    fn a_picture_of_many_bands_is_scored_as_one_of_a_single_band() {
        let value = |long: usize, short: usize, channel: usize| {
            let edge = if long % 23 < 7 { 0.35 } else { 0.0 };
            ((long * 7 + short * 5 + channel) as f32 * 0.37)
                .sin()
                .mul_add(0.2, 0.4 + edge)
        };
        let lying = |shift: usize| -> Vec<f32> {
            let planes = (0..3).flat_map(|channel| (0..20).map(move |short| (channel, short)));
            let lines = planes.flat_map(|(channel, short)| (0..210).map(move |long| (channel, short, long)));
            lines
                .map(|(channel, short, long)| value(long + shift, short, channel))
                .collect()
        };
        let turned = |picture: &[f32]| -> Vec<f32> {
            let planes = picture.chunks_exact(4200);
            planes
                .flat_map(|plane| (0..4200).map(|at| plane[at % 20 * 210 + at / 20]))
                .collect()
        };
        // Whole windows are left between the holes.
        let counts: Vec<bool> = (0..4200).map(|at| at % 210 % 40 > 0).collect();
        let standing: Vec<bool> = (0..4200).map(|at| counts[at % 20 * 210 + at / 20]).collect();
        let (wanted, mut found) = (lying(0), lying(1));
        found
            .iter_mut()
            .for_each(|value| *value = value.mul_add(1.3, -0.15));
        let one = score(&found, &wanted, 210, &counts);
        let four = score(&turned(&found), &turned(&wanted), 20, &standing);
        for (one, four) in [
            (one.psnr, four.psnr),
            (one.ssim, four.ssim),
            (one.psnr_y, four.psnr_y),
            (one.ssim_y, four.ssim_y),
            (one.colour_drift, four.colour_drift),
            (one.halo, four.halo),
        ] {
            assert!((one - four).abs() < 1e-9 && one != 0.0, "{one} and {four}");
        }
    }

    #[test]
    fn masked_pixels_do_not_count() {
        let wanted = picture(0.0);
        let mut found = wanted.clone();
        found[0] = 1.0;
        let mut counts = [true; 320];
        counts[0] = false;
        assert!(score(&found, &wanted, 20, &counts).psnr > 100.0);
        assert!(score(&found, &wanted, 20, &[true; 320]).psnr < 60.0);
    }

    #[test]
    fn what_lies_under_a_mask_changes_no_score_of_what_lies_beside_it() {
        let wanted = picture(0.0);
        let mut found = picture(0.2);
        let counts: Vec<bool> = (0..320).map(|at| at % 20 >= 4).collect();
        let before = score(&found, &wanted, 20, &counts);
        for at in (0..found.len()).filter(|at| at % 20 < 4) {
            found[at] = 0.0;
        }
        assert_eq!(score(&found, &wanted, 20, &counts), before);
        assert!(before.ssim > 0.9, "some windows are left: {before:?}");
    }

    #[test]
    fn a_still_picture_that_flickers_jumps_by_what_it_changes_and_motion_that_is_hds_own_does_not() {
        let (dark, bright, counts) = (vec![0.2; 3 * 320], vec![0.6; 3 * 320], [true; 320]);
        // 0.4 of 255 levels of grey are 0.4 * 219 levels of luma.
        let flickering = jump([&dark, &bright], [&dark, &dark], &counts);
        assert!((flickering - 0.4 * 219.0).abs() < 1e-6, "{flickering}");
        assert_eq!(jump([&dark, &bright], [&dark, &bright], &counts), 0.0);
        // A cast that stays is no flicker.
        assert_eq!(jump([&bright, &bright], [&dark, &dark], &counts), 0.0);
        let half: Vec<bool> = (0..320).map(|at| at < 160).collect();
        let mut second = dark.clone();
        for plane in 0..3 {
            second[plane * 320 + 200..(plane + 1) * 320].fill(0.6);
        }
        assert_eq!(jump([&dark, &second], [&dark, &dark], &half), 0.0);
    }

    /// Planar 32x32: left half dark, right half bright, of one grey each.
    fn edge(dark: f32, bright: f32) -> Vec<f32> {
        (0..3 * 32 * 32)
            .map(|at| if at % 32 < 16 { dark } else { bright })
            .collect()
    }

    #[test]
    fn a_cast_is_drift_and_noise_that_cancels_is_none() {
        let (wanted, counts) = (edge(0.4, 0.6), [true; 1024]);
        let drift = |change: fn(usize) -> f32| {
            let found = wanted.iter().enumerate().map(|(at, value)| value + change(at));
            score(&found.collect::<Vec<_>>(), &wanted, 32, &counts).colour_drift
        };
        // A tenth more blue, which is the last plane: 11.4 levels of Cb, 1.9 of Cr.
        let cast = drift(|at| if at >= 2048 { 26.0 / 255.0 } else { 0.0 });
        assert!((cast - 11.57).abs() < 0.05, "{cast}");
        assert!(drift(|at| if at % 2 == 0 { 0.1 } else { -0.1 }) < 1e-9);
        assert!(drift(|_| 0.1) < 1e-2);
    }

    #[test]
    fn an_overshoot_beside_an_edge_is_halo_and_a_soft_edge_is_none() {
        let (wanted, counts) = (edge(0.2, 0.8), [true; 1024]);
        let halo = |found: &[f32]| score(found, &wanted, 32, &counts).halo;
        assert_eq!(halo(&wanted), 0.0);
        let soft: Vec<f32> = (0..wanted.len())
            .map(|at| {
                if (15..17).contains(&(at % 32)) {
                    0.5
                } else {
                    wanted[at]
                }
            })
            .collect();
        assert_eq!(halo(&soft), 0.0);
        // One of the six columns near the edge is 20 of 255 too bright: 17.2 levels of luma.
        let ringing: Vec<f32> = (0..wanted.len())
            .map(|at| wanted[at] + if at % 32 == 17 { 20.0 / 255.0 } else { 0.0 })
            .collect();
        assert!((halo(&ringing) - 17.18 / 6.0).abs() < 0.05, "{}", halo(&ringing));
    }
}
