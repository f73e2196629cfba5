//! The adversarial losses on logits: plain cross-entropy, and ESRGAN's relativistic average (arXiv 1807.00734), which
//! asks how much more real one batch looks than the other does on average.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use crate::recipe::GanKind;

/// What the generator minimises: its pictures should look real. `real` carries no gradient.
#[must_use]
pub fn generator_loss(kind: GanKind, real: Tensor<4>, fake: Tensor<4>) -> Tensor<1> {
    match kind {
        GanKind::Vanilla => says_real(fake),
        GanKind::Ragan => {
            let real = real.detach();
            (says_fake(relative(real.clone(), fake.clone())) + says_real(relative(fake, real))) / 2.0
        }
    }
}

/// What the discriminator minimises, for real and for fake pictures. Each side is compared with the other one held
/// fixed, as BasicSR's two backward passes do.
#[must_use]
pub fn discriminator_losses(kind: GanKind, real: Tensor<4>, fake: Tensor<4>) -> [Tensor<1>; 2] {
    match kind {
        GanKind::Vanilla => [says_real(real), says_fake(fake)],
        GanKind::Ragan => {
            let of_real = says_real(relative(real.clone(), fake.clone().detach()));
            let of_fake = says_fake(relative(fake, real.detach()));
            [of_real / 2.0, of_fake / 2.0]
        }
    }
}

/// Binary cross-entropy against "all real", in the form that cannot overflow.
fn says_real(logits: Tensor<4>) -> Tensor<1> {
    -log_sigmoid(logits).mean()
}

/// Binary cross-entropy against "all fake".
fn says_fake(logits: Tensor<4>) -> Tensor<1> {
    -log_sigmoid(-logits).mean()
}

fn relative(logits: Tensor<4>, other: Tensor<4>) -> Tensor<4> {
    logits - other.mean().reshape([1, 1, 1, 1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::loss::reference::{assert_near, fake, real};
    use remaster_model::{DeviceKind, device};

    fn logits(values: [f32; 4]) -> Tensor<4> {
        Tensor::<1>::from_floats(values, &device(DeviceKind::default()).unwrap()).reshape([1, 1, 2, 2])
    }

    #[test]
    fn cross_entropy_is_the_known_one_and_never_overflows() {
        assert_near(says_real(logits([0.0; 4])), 2f32.ln());
        // ln(1 + e^-2) and ln(1 + e^2)
        assert_near(says_real(logits([2.0; 4])), 0.126_928);
        assert_near(says_fake(logits([2.0; 4])), 2.126_928);
        assert_near(says_fake(logits([200.0; 4])), 200.0);
    }

    #[test]
    fn relative_logits_subtract_the_other_mean() {
        let found = relative(logits([1.0, 2.0, 3.0, 4.0]), logits([0.0, 0.0, 2.0, 2.0]));
        assert_eq!(found.try_into_vec_as::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn both_kinds_are_what_pytorch_finds() {
        assert_near(generator_loss(GanKind::Vanilla, real(), fake()), 0.48320253);
        assert_near(generator_loss(GanKind::Ragan, real(), fake() * 2.0), 0.49701451);
        let [of_real, of_fake] = discriminator_losses(GanKind::Ragan, real(), fake() * 2.0);
        assert_near(of_real, 0.49191985);
        assert_near(of_fake, 0.50573654);
    }

    #[test]
    fn a_discriminator_that_tells_them_apart_has_the_smaller_loss_and_the_generator_the_larger() {
        let (high, low) = (logits([3.0; 4]), logits([-3.0; 4]));
        for kind in [GanKind::Vanilla, GanKind::Ragan] {
            let sum = |[a, b]: [Tensor<1>; 2]| (a + b).into_scalar::<f32>();
            let right = sum(discriminator_losses(kind, high.clone(), low.clone()));
            let wrong = sum(discriminator_losses(kind, low.clone(), high.clone()));
            assert!(right < 0.2 && wrong > 2.0, "{right} {wrong}");
            let caught: f32 = generator_loss(kind, high.clone(), low.clone()).into_scalar();
            let fooled: f32 = generator_loss(kind, low.clone(), high.clone()).into_scalar();
            assert!(fooled < caught, "{fooled} {caught}");
        }
    }
}
