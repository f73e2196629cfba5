//! Locally discriminative learning (Liang et al. 2022, arXiv 2203.09195): L1, weighted where the live generator is
//! further off than its average and its error varies from pixel to pixel. That is how GAN artefacts look; detail that
//! is merely missing does not.

use burn::tensor::Tensor;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;

use super::l1;

/// Side of the window whose variance is looked at.
const WINDOW_PX: usize = 7;
/// Root of the whole picture's variance, which weighs one picture against another.
const PICTURE_ROOT: f64 = 0.2;

/// `average` is the moving average's picture of the same input. The weights carry no gradient.
#[must_use]
pub fn ldl(found: Tensor<4>, wanted: Tensor<4>, average: Tensor<4>) -> Tensor<1> {
    let weight = artefacts(found.clone().detach(), wanted.clone().detach(), average.detach());
    l1(weight.clone() * found, weight * wanted)
}

fn artefacts(found: Tensor<4>, wanted: Tensor<4>, average: Tensor<4>) -> Tensor<4> {
    let error = |picture: Tensor<4>| (picture - wanted.clone()).abs().sum_dim(1);
    let (live, calm) = (error(found), error(average));
    let [count, _, height, width] = live.dims();
    let of_picture = live.clone().reshape([count, height * width]).var(1);
    let of_picture = of_picture.powf_scalar(PICTURE_ROOT).reshape([count, 1, 1, 1]);
    let is_better = live.clone().lower(calm);
    (local_variance(live) * of_picture).mask_fill(is_better, 0.0)
}

/// Unbiased variance in a window that shrinks at the edges.
fn local_variance(x: Tensor<4>) -> Tensor<4> {
    let pad = WINDOW_PX / 2;
    let mean = |x: Tensor<4>, counts_padding: bool| {
        let options = AvgPoolOptions::new([WINDOW_PX, WINDOW_PX])
            .with_stride([1, 1])
            .with_padding([pad, pad])
            .with_count_include_pad(counts_padding);
        avg_pool2d(x, options)
    };
    let count = mean(x.ones_like(), true) * (WINDOW_PX * WINDOW_PX) as f64;
    let centre = mean(x.clone(), false);
    let biased = (mean(x.square(), false) - centre.square()).clamp_min(0.0);
    biased * count.clone() / (count - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference::{assert_near, average, fake, real};

    #[test]
    fn it_is_what_pytorch_finds() {
        assert_near(ldl(fake(), real(), average()), 4.995657e-5);
    }

    #[test]
    fn nothing_is_weighted_where_the_live_generator_is_the_better_one() {
        let loss: f32 = ldl(average(), real(), fake() + 2.0).into_scalar();
        assert!(loss.abs() < 1e-9, "{loss}");
    }
}
