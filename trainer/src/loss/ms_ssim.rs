//! 1 - MS-SSIM (Wang et al. 2003): structure at several sizes. A crop that is too small for five sizes is judged at
//! those it has, with their weights scaled to a sum of 1.

use burn::tensor::module::{avg_pool2d, conv2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions};
use burn::tensor::{Tensor, TensorData};

/// Weights of the sizes from fine to coarse, from the paper.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Side of the Gaussian window and its deviation.
const WINDOW_PX: usize = 11;
const DEVIATION_PX: f64 = 1.5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
/// Structure may be negative, and no power of a negative number is one.
const SIMILARITY_FLOOR: f64 = 1e-6;

/// One minus the mean over pictures and channels.
#[must_use]
pub fn ms_ssim(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    let [count, channels, height, width] = found.dims();
    let planes = |x: Tensor<4>| x.reshape([count * channels, 1, height, width]);
    let (mut found, mut wanted) = (planes(found), planes(wanted));
    let sizes = sizes_of(height.min(width));
    let sum: f64 = WEIGHTS[..sizes].iter().sum();
    let mut product: Option<Tensor<2>> = None;
    for (position, weight) in WEIGHTS[..sizes].iter().enumerate() {
        let (luminance, structure) = similarity(found.clone(), wanted.clone());
        let is_last = position + 1 == sizes;
        let map = if is_last { luminance * structure } else { structure };
        let [n, _, h, w] = map.dims();
        let mean = map.reshape([n, h * w]).mean_dim(1).clamp_min(SIMILARITY_FLOOR);
        let part = mean.powf_scalar(weight / sum);
        product = Some(product.map_or(part.clone(), |product| product * part));
        if !is_last {
            (found, wanted) = (halve(found), halve(wanted));
        }
    }
    -product.expect("there is one size at least").mean() + 1.0
}

/// Sizes at which a window still fits.
fn sizes_of(side_px: usize) -> usize {
    (0..WEIGHTS.len())
        .take_while(|position| side_px >> position >= WINDOW_PX)
        .count()
        .max(1)
}

/// SSIM's two factors at every place where the window fits.
fn similarity(x: Tensor<4>, y: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let (mean_x, mean_y) = (blur(x.clone()), blur(y.clone()));
    let variance_x = blur(x.clone().square()) - mean_x.clone().square();
    let variance_y = blur(y.clone().square()) - mean_y.clone().square();
    let covariance = blur(x * y) - mean_x.clone() * mean_y.clone();
    let structure = (covariance * 2.0 + C2) / (variance_x + variance_y + C2);
    let squares = mean_x.clone().square() + mean_y.clone().square();
    let luminance = (mean_x * mean_y * 2.0 + C1) / (squares + C1);
    (luminance, structure)
}

fn blur(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let side = WINDOW_PX.min(height).min(width);
    let weights: Vec<f64> = (0..side)
        .map(|at| at as f64 - (side - 1) as f64 / 2.0)
        .map(|distance| (-distance.powi(2) / (2.0 * DEVIATION_PX.powi(2))).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|weight| (weight / sum) as f32).collect();
    let kernel =
        |shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(weights.clone(), shape), &x.device());
    let (down, across) = (kernel([1, 1, side, 1]), kernel([1, 1, 1, side]));
    let options = || ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    conv2d(conv2d(x, down, None, options()), across, None, options())
}

fn halve(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([2, 2]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference::{assert_near, fake, real};

    #[test]
    fn it_is_what_pytorch_finds_and_nothing_for_equal_pictures() {
        assert_near(ms_ssim(fake(), real()), 0.023470128);
        assert!(ms_ssim(real(), real()).into_scalar::<f32>().abs() < 1e-6);
    }

    #[test]
    fn small_crops_have_fewer_sizes() {
        assert_eq!([8, 11, 24, 128, 256].map(sizes_of), [1, 1, 2, 4, 5]);
    }
}
