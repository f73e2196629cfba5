//! Pixel by pixel: L1, and Charbonnier's smooth form of it (Lai et al. 2017, arXiv 1710.01992).

use burn::tensor::Tensor;

/// Charbonnier's epsilon squared, as BasicSR has it.
const CHARBONNIER_EPSILON: f64 = 1e-12;

/// Mean absolute difference.
#[must_use]
pub fn l1(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    (found - wanted).abs().mean()
}

/// Mean of `sqrt(difference^2 + 1e-12)`.
#[must_use]
pub fn charbonnier(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    ((found - wanted).square() + CHARBONNIER_EPSILON).sqrt().mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference::{assert_near, fake, real};

    #[test]
    fn both_are_what_pytorch_finds() {
        assert_near(l1(fake(), real()), 0.04851435);
        assert_near(charbonnier(fake(), real()), 0.04851435);
        assert!(charbonnier(real(), real()).into_scalar::<f32>() < 2e-6);
    }
}
