//! The difference of VGG19's features, ESRGAN's perceptual loss (arXiv 1809.00219); which features, and how much each counts,
//! is the recipe's.

use burn::tensor::Tensor;
use remaster_model::Vgg19;

use super::l1;
use crate::recipe::LayerWeights;

/// L1 between the VGG19 features of both, layer by layer; the wanted ones carry no gradient.
#[must_use]
pub fn perceptual(vgg: &Vgg19, layers: &LayerWeights, fake: Tensor<4>, real: Tensor<4>) -> Tensor<1> {
    let taps: Vec<_> = layers.of_taps().keys().copied().collect();
    let both = vgg
        .features(fake, &taps)
        .into_iter()
        .zip(vgg.features(real, &taps));
    let each = both.zip(layers.of_taps().values());
    let sum = each.map(|((fake, real), weight)| l1(fake, real.detach()) * *weight);
    sum.reduce(|sum, one| sum + one)
        .expect("a recipe names a layer at least")
}
