//! The losses of ESRGAN's two stages, each a scalar tensor of rank 1 before its weight.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use remaster_model::Vgg19;

/// Mean absolute difference.
#[must_use]
pub fn l1(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    (found - wanted).abs().mean()
}

/// L1 between the VGG19 features of both.
#[must_use]
pub fn perceptual(vgg: &Vgg19, fake: Tensor<4>, real: Tensor<4>) -> Tensor<1> {
    l1(vgg.forward(fake), vgg.forward(real).detach())
}

/// Binary cross-entropy of logits against "all real", in the form that cannot overflow.
#[must_use]
pub fn says_real(logits: Tensor<4>) -> Tensor<1> {
    -log_sigmoid(logits).mean()
}

/// Binary cross-entropy of logits against "all fake".
#[must_use]
pub fn says_fake(logits: Tensor<4>) -> Tensor<1> {
    -log_sigmoid(-logits).mean()
}

/// How much more real one batch looks than another does on average: the relativistic average of arXiv 1807.00734.
#[must_use]
pub fn relative(logits: Tensor<4>, other: Tensor<4>) -> Tensor<4> {
    logits - other.mean().reshape([1, 1, 1, 1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use burn::tensor::Device;
    use remaster_model::{DeviceKind, device};

    use super::*;

    fn tensor(values: [f32; 4]) -> Tensor<4> {
        let device: Device = device(DeviceKind::default()).unwrap();
        Tensor::<1>::from_floats(values, &device).reshape([1, 1, 2, 2])
    }

    fn value(loss: Tensor<1>) -> f32 {
        loss.into_scalar()
    }

    #[test]
    fn cross_entropy_of_logits_is_the_known_one_and_never_overflows() {
        assert!((value(says_real(tensor([0.0; 4]))) - 2f32.ln()).abs() < 1e-6);
        // ln(1 + e^-2) and ln(1 + e^2)
        assert!((value(says_real(tensor([2.0; 4]))) - 0.126_928).abs() < 1e-5);
        assert!((value(says_fake(tensor([2.0; 4]))) - 2.126_928).abs() < 1e-5);
        assert!((value(says_fake(tensor([200.0; 4]))) - 200.0).abs() < 1e-3);
    }

    #[test]
    fn relative_logits_subtract_the_other_mean() {
        let found = relative(tensor([1.0, 2.0, 3.0, 4.0]), tensor([0.0, 0.0, 2.0, 2.0]));
        assert_eq!(found.try_into_vec_as::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn l1_is_the_mean_absolute_difference() {
        assert!((value(l1(tensor([0.0, 1.0, 2.0, 3.0]), tensor([1.0, 1.0, 1.0, 1.0]))) - 1.0).abs() < 1e-6);
    }
}
