//! The difference of Cb and Cr after averaging over small squares: holds the colours of a stage whose other losses do
//! not see a slow drift, and leaves the fine structure to them.

use burn::tensor::Tensor;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;

use super::l1;

/// Side of the squares: colour is coarse on a DVD already.
const SQUARE_PX: usize = 4;
/// Cb and Cr of BT.601 from RGB.
const CHROMA: [[f32; 3]; 2] = [[-0.168_736, -0.331_264, 0.5], [0.5, -0.418_688, -0.081_312]];

/// L1 of the averaged chroma; sides divide by 4.
#[must_use]
pub fn low_frequency_colour(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    l1(chroma(found), chroma(wanted))
}

fn chroma(rgb: Tensor<4>) -> Tensor<4> {
    let planes = CHROMA.map(|weights| {
        let weights = Tensor::<1>::from_floats(weights, &rgb.device()).reshape([1, 3, 1, 1]);
        (rgb.clone() * weights).sum_dim(1)
    });
    let options = AvgPoolOptions::new([SQUARE_PX, SQUARE_PX]);
    avg_pool2d(Tensor::cat(planes.to_vec(), 1), options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference::{assert_near, fake, real};

    #[test]
    fn it_is_what_pytorch_finds_and_brightness_is_none_of_it() {
        assert_near(low_frequency_colour(fake(), real()), 0.002866996);
        let brighter: f32 = low_frequency_colour(real() + 0.1, real()).into_scalar();
        assert!(brighter < 1e-6, "{brighter}");
    }
}
