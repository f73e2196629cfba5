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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use burn::tensor::TensorData;
    use remaster_model::{DeviceKind, StateDict, VggTap, decode_safetensors, device};

    use super::*;
    use crate::recipe::Recipe;

    /// Sums of a few hundred terms, in another order than PyTorch's.
    const TOLERANCE: f32 = 1e-5;

    fn fixture(name: &str) -> StateDict {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/model/tests/fixtures");
        decode_safetensors(&std::fs::read(format!("{folder}/{name}")).unwrap()).unwrap()
    }

    /// The largest difference, as a share of the largest value.
    fn furthest(found: Tensor<4>, wanted: &[f32]) -> f32 {
        let found = found.try_into_vec_as::<f32>().unwrap();
        assert_eq!(found.len(), wanted.len());
        let largest = wanted.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max) / largest
    }

    #[test]
    fn features_of_several_layers_their_loss_and_its_gradient_are_pytorchs() {
        let device = device(DeviceKind::default()).unwrap().autodiff();
        let weights = fixture("vgg19-narrow.safetensors");
        let weights = weights
            .into_iter()
            .map(|(key, value)| (key.replacen("net.", "", 1), value));
        let vgg = Vgg19::from_state(&weights.collect(), &device).unwrap();
        let wanted = fixture("vgg19-layers.safetensors");
        let tensor = |name: &str| {
            let host = &wanted[name];
            Tensor::<4>::from_data(TensorData::new(host.values.clone(), host.shape.clone()), &device)
        };

        let names = ["conv1_2", "relu2_2", "conv3_4", "conv4_4", "conv5_4"];
        let taps = names.map(|name| name.parse::<VggTap>().unwrap());
        for (name, found) in names.iter().zip(vgg.features(tensor("fake"), &taps)) {
            let difference = furthest(found.inner(), &wanted[*name].values);
            assert!(difference < TOLERANCE, "{name}: {difference}");
        }

        let layers = "{ conv1_2 = 0.1, relu2_2 = 0.1, conv3_4 = 1.0, conv4_4 = 1.0, conv5_4 = 1.0 }";
        let recipe = Recipe::text_of("demo").replacen(
            "perceptual_opt = {",
            &format!("perceptual_opt = {{ layer_weights = {layers},"),
            1,
        );
        let recipe = Recipe::resolve(&recipe).unwrap();
        let layers = &recipe.stages[1].perceptual_opt.as_ref().unwrap().layer_weights;
        let fake = tensor("fake").require_grad();
        let loss = perceptual(&vgg, layers, fake.clone(), tensor("real"));
        let gradient = fake.grad(&loss.backward()).unwrap();
        let found: f32 = loss.inner().into_scalar();
        let wanted_loss = wanted["loss"].values[0];
        assert!(
            (found - wanted_loss).abs() < TOLERANCE * wanted_loss,
            "{found} instead of {wanted_loss}"
        );
        let difference = furthest(gradient, &wanted["gradient"].values);
        assert!(difference < TOLERANCE, "gradient: {difference}");
    }
}
