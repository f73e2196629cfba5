//! SSIM (Wang et al. 2004) of planes of 8-bit values: Gaussian windows of 11, where they fit. One line blurs straight from memory
//! into the next, since validation spends most of its time here.

/// Side of the window and its deviation.
const WINDOW_PX: usize = 11;
const DEVIATION_PX: f64 = 1.5;
/// From the middle of a window to its edge.
pub(super) const REACH_PX: usize = WINDOW_PX / 2;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Which pixels are the middle of a window that fits and all of whose pixels count.
pub(super) fn whole_windows(counts: &[bool], width: usize) -> Vec<bool> {
    let along = |flags: &[bool], stride: usize| -> Vec<bool> {
        let mut run_px = vec![0_usize; flags.len()];
        let mut whole = vec![false; flags.len()];
        for (at, counts) in flags.iter().enumerate() {
            let is_first = if stride == 1 { at % width == 0 } else { at < stride };
            let before = if is_first { 0 } else { run_px[at - stride] };
            run_px[at] = if *counts { before + 1 } else { 0 };
            if run_px[at] >= WINDOW_PX {
                whole[at - REACH_PX * stride] = true;
            }
        }
        whole
    };
    along(&along(counts, 1), width)
}

/// SSIM of every window that fits, line by line: `width - 10` by `lines - 10`. `wanted_means` are [`means`] of the second plane.
pub(super) fn windows(found: &[f64], wanted: &[f64], wanted_means: &[f64], width: usize) -> Vec<f64> {
    let both = || found.iter().zip(wanted);
    let (squares, products): (Vec<f64>, Vec<f64>) = both().map(|(a, b)| (a * a + b * b, a * b)).unzip();
    let means_x = means(found, width);
    let (squares, products) = (means(&squares, width), means(&products, width));
    let mut values = Vec::with_capacity(means_x.len());
    for (at, (mx, my)) in means_x.iter().zip(wanted_means).enumerate() {
        let (mean_squares, mean_product) = (mx * mx + my * my, mx * my);
        let (variances, covariance) = (squares[at] - mean_squares, products[at] - mean_product);
        values.push(
            ((2.0 * mean_product + C1) * (2.0 * covariance + C2)) / ((mean_squares + C1) * (variances + C2)),
        );
    }
    values
}

/// Gaussian means over every window that fits; nothing of a plane that is smaller than a window.
pub(super) fn means(plane: &[f64], width: usize) -> Vec<f64> {
    let lines = plane.len() / width.max(1);
    if width < WINDOW_PX || lines < WINDOW_PX {
        return vec![];
    }
    let (weights, inner) = (weights(), width - WINDOW_PX + 1);
    let mut down = vec![0.0; width];
    let mut found = Vec::with_capacity(inner * (lines - WINDOW_PX + 1));
    for first in 0..=lines - WINDOW_PX {
        down.fill(0.0);
        for (number, weight) in weights.iter().enumerate() {
            let line = &plane[(first + number) * width..][..width];
            add_scaled(&mut down, line, *weight);
        }
        let start = found.len();
        found.resize(start + inner, 0.0);
        for (number, weight) in weights.iter().enumerate() {
            add_scaled(&mut found[start..], &down[number..number + inner], *weight);
        }
    }
    found
}

fn add_scaled(into: &mut [f64], line: &[f64], weight: f64) {
    for (into, value) in into.iter_mut().zip(line) {
        *into += value * weight;
    }
}

fn weights() -> [f64; WINDOW_PX] {
    let middle = REACH_PX as f64;
    let weights: [f64; WINDOW_PX] =
        std::array::from_fn(|at| (-(at as f64 - middle).powi(2) / (2.0 * DEVIATION_PX.powi(2))).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}
