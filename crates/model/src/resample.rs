//! Changes of picture size that have no weights: nearest and bilinear doubling, pixels into channels and back.

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

/// `[n, c, h, w]` -> `[n, c, h * factor, w * factor]`, each pixel repeated.
pub(crate) fn nearest(x: Tensor<4>, factor: usize) -> Tensor<4> {
    resize(x, factor, InterpolateMode::Nearest)
}

/// `[n, c, h, w]` -> `[n, c, 2 h, 2 w]`, half-pixel centres.
pub(crate) fn bilinear_double(x: Tensor<4>) -> Tensor<4> {
    resize(x, 2, InterpolateMode::Bilinear)
}

/// `[n, c * f * f, h, w]` -> `[n, c, h * f, w * f]`
pub(crate) fn pixel_shuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let channels = c / (factor * factor);
    x.reshape([n, channels, factor, factor, h, w])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([n, channels, h * factor, w * factor])
}

/// `[n, c, h, w]` -> `[n, c * f * f, h / f, w / f]`: the inverse of [`pixel_shuffle`].
pub(crate) fn pixel_unshuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let (rows, columns) = (h / factor, w / factor);
    x.reshape([n, c, rows, factor, columns, factor])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([n, c * factor * factor, rows, columns])
}

fn resize(x: Tensor<4>, factor: usize, mode: InterpolateMode) -> Tensor<4> {
    let [_, _, h, w] = x.dims();
    let options = InterpolateOptions::new(mode)
        .with_align_corners(false)
        .with_output_size([h * factor, w * factor]);
    interpolate(x, options)
}
