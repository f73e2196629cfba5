//! PSNR and SSIM of two planar RGB pictures, counted where a mask says so.

use super::Scores;

/// Side of SSIM's Gaussian window and its deviation.
const WINDOW_PX: usize = 11;
const DEVIATION_PX: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
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
    }
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
}
