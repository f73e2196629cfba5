//! PSNR, SSIM, colour drift and halo of two planar RGB pictures, and how two frames jump, counted where a mask says so.

use super::Scores;

/// Side of SSIM's Gaussian window and its deviation.
const WINDOW_PX: usize = 11;
const DEVIATION_PX: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
/// Weights of R, G, B in Cb and Cr of BT.601, times 255.
const CB: [f64; 3] = [-37.797, -74.203, 112.0];
const CR: [f64; 3] = [112.0, -93.786, -18.214];
/// A halo lies so near its edge.
const HALO_REACH_PX: usize = 3;
/// Luma that an edge spans at least: a quarter of the range shows its halo.
const EDGE_LEVELS: f64 = 56.0;
/// Keeps equal pictures from an endless PSNR.
const SQUARE_FLOOR: f64 = 1e-10;

/// Planes of `width` columns; `counts` has one entry a pixel.
pub(super) fn score(found: &[f32], wanted: &[f32], width: usize, counts: &[bool]) -> Scores {
    let (found, wanted) = (planes(found), planes(wanted));
    let channels = |of: &dyn Fn(usize) -> f64| (0..3).map(of).sum::<f64>() / 3.0;
    let square = channels(&|c| mean_square(&found[c], &wanted[c], counts));
    Scores {
        psnr: psnr(square),
        ssim: channels(&|c| ssim(&found[c], &wanted[c], width, counts)),
        psnr_y: psnr(mean_square(&found[3], &wanted[3], counts)),
        ssim_y: ssim(&found[3], &wanted[3], width, counts),
        colour_drift: colour_drift(&found, &wanted, counts),
        halo: halo(&found[3], &wanted[3], width, counts),
        flicker: None,
        lpips: None,
        dists: None,
    }
}

/// Mean absolute difference between the change of luma from one frame to the next and the wanted change, in levels.
pub(super) fn jump(found: [&[f32]; 2], wanted: [&[f32]; 2], counts: &[bool]) -> f64 {
    let change = |[first, second]: [&[f32]; 2]| -> Vec<f64> {
        let ([.., first], [.., second]) = (planes(first), planes(second));
        first.iter().zip(second).map(|(a, b)| b - a).collect()
    };
    let (found, wanted) = (change(found), change(wanted));
    let differences = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
    mean_where(differences, counts.iter().copied())
}

/// Length of the mean difference in Cb and Cr: what noise there is cancels, a cast of the whole picture stays.
fn colour_drift(found: &[Vec<f64>; 4], wanted: &[Vec<f64>; 4], counts: &[bool]) -> f64 {
    let mean = |weights: [f64; 3]| {
        let of = |planes: &[Vec<f64>; 4], at: usize| {
            (0..3).map(|c| weights[c] * planes[c][at]).sum::<f64>() / 255.0
        };
        let differences = (0..counts.len()).map(|at| of(found, at) - of(wanted, at));
        mean_where(differences, counts.iter().copied())
    };
    mean(CB).hypot(mean(CR))
}

/// How far pixels near edges lie outside all that the wanted picture has around them, on average over these pixels.
fn halo(found: &[f64], wanted: &[f64], width: usize, counts: &[bool]) -> f64 {
    let highest = extremes(wanted, width, f64::max);
    let lowest = extremes(wanted, width, f64::min);
    let over = (0..found.len()).map(|at| (found[at] - highest[at]).max(lowest[at] - found[at]).max(0.0));
    let near_edges = (0..found.len()).map(|at| counts[at] && highest[at] - lowest[at] >= EDGE_LEVELS);
    mean_where(over, near_edges)
}

/// The highest or lowest value around every pixel; the window ends where the picture does.
fn extremes(plane: &[f64], width: usize, pick: fn(f64, f64) -> f64) -> Vec<f64> {
    let height = plane.len() / width;
    let around = |at: usize, len: usize| at.saturating_sub(HALO_REACH_PX)..(at + HALO_REACH_PX + 1).min(len);
    let best = |values: &mut dyn Iterator<Item = f64>| values.reduce(pick).unwrap_or_default();
    let across: Vec<f64> = (0..plane.len())
        .map(|at| {
            let line = at / width * width;
            best(&mut around(at % width, width).map(|x| plane[line + x]))
        })
        .collect();
    (0..plane.len())
        .map(|at| best(&mut around(at / width, height).map(|y| across[y * width + at % width])))
        .collect()
}

/// R, G, B rounded to 8 bit, and the luma of these.
fn planes(samples: &[f32]) -> [Vec<f64>; 4] {
    let plane = samples.len() / 3;
    let eight_bit = |value: &f32| f64::from((value.clamp(0.0, 1.0) * 255.0).round());
    let [r, g, b] = [0, 1, 2].map(|c| {
        samples[c * plane..(c + 1) * plane]
            .iter()
            .map(eight_bit)
            .collect::<Vec<_>>()
    });
    let luma = (0..plane).map(|at| (65.481 * r[at] + 128.553 * g[at] + 24.966 * b[at]) / 255.0 + 16.0);
    let luma = luma.collect();
    [r, g, b, luma]
}

fn psnr(mean_square: f64) -> f64 {
    10.0 * (255.0 * 255.0 / mean_square.max(SQUARE_FLOOR)).log10()
}

fn mean_square(found: &[f64], wanted: &[f64], counts: &[bool]) -> f64 {
    let squares = found.iter().zip(wanted).map(|(a, b)| (a - b).powi(2));
    mean_where(squares, counts.iter().copied())
}

fn mean_where(values: impl Iterator<Item = f64>, counts: impl Iterator<Item = bool>) -> f64 {
    let (mut sum, mut number) = (0.0, 0.0f64);
    for (value, _) in values.zip(counts).filter(|(_, counts)| *counts) {
        sum += value;
        number += 1.0;
    }
    sum / number.max(1.0)
}

/// Mean where the window fits and its middle counts.
fn ssim(x: &[f64], y: &[f64], width: usize, counts: &[bool]) -> f64 {
    let height = x.len() / width;
    if width < WINDOW_PX || height < WINDOW_PX {
        return 0.0;
    }
    let products = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    let [mean_x, mean_y] = [x, y].map(|plane| blur(plane, width));
    let [square_x, square_y, product] = [(x, x), (y, y), (x, y)].map(|(a, b)| blur(&products(a, b), width));
    let (inner, reach) = (width - WINDOW_PX + 1, WINDOW_PX / 2);
    let values = (0..mean_x.len()).map(|at| {
        let (mx, my) = (mean_x[at], mean_y[at]);
        let (vx, vy) = (square_x[at] - mx * mx, square_y[at] - my * my);
        let covariance = product[at] - mx * my;
        ((2.0 * mx * my + C1) * (2.0 * covariance + C2)) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    });
    let middles = (0..mean_x.len()).map(|at| counts[(at / inner + reach) * width + at % inner + reach]);
    mean_where(values, middles)
}

/// Gaussian over every place where the window fits.
fn blur(plane: &[f64], width: usize) -> Vec<f64> {
    let weights = window();
    let inner = width - WINDOW_PX + 1;
    let across: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|line| {
            line.windows(WINDOW_PX)
                .map(|part| part.iter().zip(&weights).map(|(v, w)| v * w).sum())
        })
        .collect();
    let lines = across.len() / inner - WINDOW_PX + 1;
    let down = |at: usize| (0..WINDOW_PX).map(|k| across[at + k * inner] * weights[k]).sum();
    (0..lines * inner).map(down).collect()
}

fn window() -> [f64; WINDOW_PX] {
    let middle = (WINDOW_PX / 2) as f64;
    let weights: [f64; WINDOW_PX] =
        std::array::from_fn(|at| (-(at as f64 - middle).powi(2) / (2.0 * DEVIATION_PX.powi(2))).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

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
