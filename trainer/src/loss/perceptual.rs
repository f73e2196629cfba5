//! The difference of VGG19's conv5_4 before its ReLU, ESRGAN's perceptual loss (arXiv 1809.00219).

use burn::tensor::Tensor;
use remaster_model::Vgg19;

use super::l1;

/// L1 between the VGG19 features of both; the wanted ones carry no gradient.
#[must_use]
pub fn perceptual(vgg: &Vgg19, fake: Tensor<4>, real: Tensor<4>) -> Tensor<1> {
    l1(vgg.forward(fake), vgg.forward(real).detach())
}
