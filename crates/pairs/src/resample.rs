//! Separable resampling: weights for each output column and line once, then two passes of multiply-add.
//!
//! Every filter of this crate goes through here (area, Gaussian and its slope, Lanczos), because a warp by scale and shift is
//! separable and because one edge rule (clamp) and one summing order make results the same for any number of threads.

use rayon::prelude::*;

/// Where a Gaussian ends, in sigmas: eleven taps at the sigma of SSIM.
const GAUSSIAN_REACH: f64 = 3.5;
/// Where its slope ends: cut earlier, it would take brightness for slope.
const SLOPE_REACH: f64 = 4.5;
/// Lines that are filtered side by side: as many as a vector register holds.
const LANES: usize = 8;

/// A filter by its shape along one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel {
    /// Exact coverage of the output pixel.
    Area,
    /// Lanczos with three lobes, widened when it shrinks.
    Lanczos3,
    /// Gaussian of this width in input pixels, whatever the scale.
    Gaussian { sigma_px: f64 },
    /// Derivative by position of the Gaussian-filtered signal.
    GaussianSlope { sigma_px: f64 },
}

/// Weights that make every output position of one axis from input samples.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// First input sample and range in `weights` of each output position.
    taps: Vec<(usize, usize, usize)>,
    weights: Vec<f32>,
}

impl Axis {
    /// Maps the whole input onto the whole output.
    pub(crate) fn fit(kernel: Kernel, input: usize, output: usize) -> Self {
        Self::new(kernel, input, output, input as f64 / output as f64, 0.0)
    }

    /// Output position `i` looks at `scale * (i + 0.5) + shift` in pixel-centre coordinates of the input.
    pub(crate) fn new(kernel: Kernel, input: usize, output: usize, scale: f64, shift: f64) -> Self {
        let centres = (0..output).map(|i| scale * (i as f64 + 0.5) + shift);
        Self::at(kernel, input, scale, centres)
    }

    /// Looks at the given positions; `scale` is the distance between them, for filters that widen.
    pub(crate) fn at(kernel: Kernel, input: usize, scale: f64, centres: impl Iterator<Item = f64>) -> Self {
        let mut axis = Self {
            taps: Vec::new(),
            weights: Vec::new(),
        };
        let radius = kernel.radius(scale);
        for centre in centres {
            let first = (centre - radius - 0.5).floor() as i64;
            let last = (centre + radius + 0.5).ceil() as i64;
            axis.push(kernel, input as i64, scale, centre, first, last);
        }
        axis
    }

    pub(crate) fn len(&self) -> usize {
        self.taps.len()
    }

    /// Adds one output position; samples beyond the edge are the edge's, so their weights are added to it.
    fn push(&mut self, kernel: Kernel, input: i64, scale: f64, centre: f64, first: i64, last: i64) {
        let (low, high) = (first.clamp(0, input - 1), last.clamp(0, input - 1));
        let mut weights = vec![0.0f64; (high - low + 1) as usize];
        let mut plain_sum = 0.0;
        for sample in first..=last {
            let (weight, plain) = kernel.weight(sample as f64 + 0.5 - centre, scale);
            weights[(sample.clamp(0, input - 1) - low) as usize] += weight;
            plain_sum += plain;
        }
        let start = weights.iter().position(|&w| w != 0.0).unwrap_or(0);
        let end = weights
            .iter()
            .rposition(|&w| w != 0.0)
            .map_or(start + 1, |p| p + 1);
        let from = self.weights.len();
        self.weights
            .extend(weights[start..end].iter().map(|w| (w / plain_sum) as f32));
        self.taps.push((low as usize + start, from, self.weights.len()));
    }
}

impl Kernel {
    /// Half the width of the support in input pixels.
    fn radius(self, scale: f64) -> f64 {
        match self {
            Self::Area => scale / 2.0,
            Self::Lanczos3 => 3.0 * scale.max(1.0),
            Self::Gaussian { sigma_px } => GAUSSIAN_REACH * sigma_px,
            Self::GaussianSlope { sigma_px } => SLOPE_REACH * sigma_px,
        }
    }

    /// The weight at a distance, and the value whose sum normalises it.
    fn weight(self, distance: f64, scale: f64) -> (f64, f64) {
        match self {
            Self::Area => {
                let half = scale / 2.0;
                let overlap = (distance + 0.5).min(half) - (distance - 0.5).max(-half);
                let covered = if overlap > 1e-9 { overlap } else { 0.0 };
                (covered, covered)
            }
            Self::Lanczos3 => {
                let value = lanczos3(distance / scale.max(1.0));
                (value, value)
            }
            Self::Gaussian { sigma_px } => {
                let value = gaussian(distance, sigma_px, GAUSSIAN_REACH);
                (value, value)
            }
            Self::GaussianSlope { sigma_px } => {
                let value = gaussian(distance, sigma_px, SLOPE_REACH);
                (value * distance / (sigma_px * sigma_px), value)
            }
        }
    }
}

fn gaussian(distance: f64, sigma_px: f64, reach: f64) -> f64 {
    if distance.abs() > reach * sigma_px {
        0.0
    } else {
        (-0.5 * (distance / sigma_px).powi(2)).exp()
    }
}

/// Zero at whole distances exactly, so that a warp by nothing changes nothing.
fn lanczos3(x: f64) -> f64 {
    if x.abs() < 1e-9 {
        return 1.0;
    }
    if x.abs() >= 3.0 || (x - x.round()).abs() < 1e-9 {
        return 0.0;
    }
    let turn = std::f64::consts::PI * x;
    3.0 * turn.sin() * (turn / 3.0).sin() / (turn * turn)
}

/// Both axes, the one that leaves less for the other first.
pub(crate) fn resample(input: &[f32], input_width: usize, columns: &Axis, lines: &Axis) -> Vec<f32> {
    if lines.len() < input.len() / input_width {
        apply_columns(&apply_lines(input, input_width, lines), input_width, columns)
    } else {
        apply_lines(&apply_columns(input, input_width, columns), columns.len(), lines)
    }
}

/// Filters every line along its columns. Lines go side by side through the taps, so that the sum of each pixel keeps its
/// order and the machine still works on eight of them at a time.
pub(crate) fn apply_columns(input: &[f32], input_width: usize, columns: &Axis) -> Vec<f32> {
    let width = columns.len();
    let height = input.len() / input_width;
    let mut output = vec![0.0f32; width * height];
    output
        .par_chunks_mut(width * LANES)
        .zip(input.par_chunks(input_width * LANES))
        .for_each(|(out, lines)| filter_lines(out, lines, input_width, columns));
    output
}

/// At most [`LANES`] lines.
fn filter_lines(out: &mut [f32], lines: &[f32], input_width: usize, columns: &Axis) {
    let width = columns.len();
    let mut turned = vec![[0.0f32; LANES]; input_width];
    for (lane, line) in lines.chunks_exact(input_width).enumerate() {
        for (place, value) in turned.iter_mut().zip(line) {
            place[lane] = *value;
        }
    }
    for (x, &(start, from, to)) in columns.taps.iter().enumerate() {
        let weights = &columns.weights[from..to];
        let mut sums = [0.0f32; LANES];
        for (weight, samples) in weights.iter().zip(&turned[start..start + weights.len()]) {
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum += weight * sample;
            }
        }
        for (lane, sum) in sums.iter().enumerate().take(out.len() / width) {
            out[lane * width + x] = *sum;
        }
    }
}

/// Filters along the lines; the inner loop runs over whole rows.
pub(crate) fn apply_lines(input: &[f32], width: usize, lines: &Axis) -> Vec<f32> {
    let mut output = vec![0.0f32; width * lines.len()];
    output
        .par_chunks_mut(width)
        .zip(&lines.taps)
        .for_each(|(out, &(start, from, to))| {
            for (offset, &weight) in lines.weights[from..to].iter().enumerate() {
                let line = &input[(start + offset) * width..(start + offset + 1) * width];
                for (value, sample) in out.iter_mut().zip(line) {
                    *value += weight * sample;
                }
            }
        });
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_kernel_measures_the_slope_of_a_ramp() {
        let ramp: Vec<f32> = (0..64).map(|x| 3.0 * x as f32).collect();
        let axis = Axis::new(Kernel::GaussianSlope { sigma_px: 1.5 }, 64, 20, 1.0, 20.3);
        let slopes = apply_columns(&ramp, 64, &axis);
        assert!(slopes.iter().all(|s| (s - 3.0).abs() < 0.02), "{slopes:?}");
    }

    #[test]
    fn lanczos_by_nothing_changes_nothing() {
        let line: Vec<f32> = (0..40).map(|x| ((x * 7919) % 251) as f32).collect();
        let axis = Axis::fit(Kernel::Lanczos3, 40, 40);
        assert_eq!(apply_columns(&line, 40, &axis), line);
    }
}
