//! DISTS (Ding et al. 2020, arXiv 2004.07728): how different two pictures look when one texture is as good as another, by the
//! means and covariances of their VGG16 features and of the pictures themselves.
//!
//! Weights are the user's: torchvision's trunk (`features.N.weight`) with the published `alpha` and `beta`, or the state of a
//! whole DISTS (`stageK.N.weight`).

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::trunk::{
    Trunk, VGG16, figures, missing, normalise, others_and_last, pictures, tensor, wrong_shape,
};
use crate::{ModelError, RgbBatch, StateDict};

/// Mean and deviation of ImageNet's channels.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// Channels of the pictures, which are compared as features are.
const PICTURE_CHANNELS: usize = 3;
/// Keeps means and covariances of nothing from dividing by zero.
const FLOOR: f64 = 1e-6;
/// Keeps the root of nothing away from 0.
const POOL_FLOOR: f64 = 1e-12;
/// A Hann window of five without its zeros, as fourths; the pooling's kernel is its square.
const HANN: [f32; 3] = [0.25, 0.5, 0.25];
/// What a whole DISTS calls the trunk's stages.
const STAGE: &str = "stage";

/// A trunk with its weights of structure and texture, on one device, without gradients.
#[derive(Debug, Clone)]
pub struct Dists {
    trunk: Trunk,
    /// Weights of the means' likeness and of the covariances', `[1, c, 1, 1]` for pictures and each tap; all together 1.
    weights: Vec<[Tensor<4>; 2]>,
}

impl Dists {
    /// Takes trunk, `alpha` and `beta` from what was read of one or several files; other keys are ignored.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] names what is missing or has another shape.
    pub fn from_state(state: &StateDict, device: &Device) -> Result<Self, ModelError> {
        let trunk = Trunk::from_state(state, VGG16, STAGE, device)?;
        let channels: Vec<usize> = std::iter::once(PICTURE_CHANNELS)
            .chain(trunk.channels())
            .collect();
        let all = channels.iter().sum::<usize>();
        let read = |key: &str| -> Result<Tensor<4>, ModelError> {
            let found = state.get(key).ok_or_else(|| missing(key.to_owned()))?;
            if found.shape != [1, all, 1, 1] {
                return Err(wrong_shape(format!(
                    "{key} {:?}, not {:?}",
                    found.shape,
                    [1, all, 1, 1]
                )));
            }
            Ok(tensor(found, device))
        };
        let both = [read("alpha")?, read("beta")?];
        let sum = (both[0].clone().sum() + both[1].clone().sum()).reshape([1, 1, 1, 1]);
        let mut from = 0;
        let weights = channels.into_iter().map(|count| {
            let range = from..from + count;
            from += count;
            both.clone()
                .map(|weights| weights.slice([0..1, range.clone(), 0..1, 0..1]) / sum.clone())
        });
        Ok(Self {
            weights: weights.collect(),
            trunk,
        })
    }

    /// How far all pictures but the last look from the last; 0 is alike.
    ///
    /// # Errors
    /// [`ModelError::Picture`] for pictures that are too small or not what their sizes say.
    pub fn distances_from_last(&self, batch: RgbBatch) -> Result<Vec<f64>, ModelError> {
        let x = pictures(batch, "DISTS", &self.weights[0][0].device())?;
        let taps = self.trunk.features(normalise(x.clone(), MEAN, DEVIATION), pool);
        let features = std::iter::once(x).chain(taps);
        let likeness = features.zip(&self.weights).map(|(features, [alpha, beta])| {
            let (others, last) = others_and_last(features);
            let [means, covariances] = likeness(others, last);
            let weighted = (means * alpha.clone() + covariances * beta.clone()).sum_dim(1);
            let count = weighted.dims()[0];
            weighted.reshape([count])
        });
        let sum = likeness.reduce(|sum, one| sum + one);
        figures(sum.expect("pictures are compared at least").neg() + 1.0)
    }
}

/// Likeness of the means and of what varies around them, `[n, c, 1, 1]`.
fn likeness(others: Tensor<4>, last: Tensor<4>) -> [Tensor<4>; 2] {
    let mean = |x: Tensor<4>| x.mean_dim(2).mean_dim(3);
    let (of_others, of_last) = (mean(others.clone()), mean(last.clone()));
    let (others, last) = (others - of_others.clone(), last - of_last.clone());
    let covariance = mean(others.clone() * last.clone());
    let variances = mean(others.square()) + mean(last.square());
    let squares = of_others.clone().square() + of_last.clone().square();
    [
        (of_others * of_last * 2.0 + FLOOR) / (squares + FLOOR),
        (covariance * 2.0 + FLOOR) / (variances + FLOOR),
    ]
}

/// Root of the weighted mean of squares at half the size: shifts of a pixel do not show as they do with a maximum.
fn pool(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    let window = Tensor::<1>::from_floats(HANN, &x.device());
    let kernel = window.clone().reshape([1, 1, 3, 1]) * window.reshape([1, 1, 1, 3]);
    let options = ConvOptions::new([2, 2], [1, 1], [1, 1], channels);
    (conv2d(x.square(), kernel.repeat_dim(0, channels), None, options) + POOL_FLOOR).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{DeviceKind, decode_safetensors, device};

    const FILE: &[u8] = include_bytes!("../tests/fixtures/dists.safetensors");

    /// Pictures, weights, and the distance that PyTorch found.
    fn reference() -> (RgbBatch, StateDict, f64) {
        let mut state = decode_safetensors(FILE).unwrap();
        let pictures = state.remove("pictures").unwrap();
        let distance = f64::from(state.remove("distance").unwrap().values[0]);
        let batch = RgbBatch {
            count: 2,
            height_px: pictures.shape[2],
            width_px: pictures.shape[3],
            samples: pictures.values,
        };
        (batch, state, distance)
    }

    #[test]
    fn the_distance_is_the_one_that_pytorch_finds_and_a_picture_is_like_itself() {
        let (pictures, state, wanted) = reference();
        let dists = Dists::from_state(&state, &device(DeviceKind::default()).unwrap()).unwrap();
        let found = dists.distances_from_last(pictures.clone()).unwrap();
        assert!(
            (found[0] - wanted).abs() < 1e-5 * wanted,
            "{found:?} instead of {wanted}"
        );
        let half = pictures.samples.len() / 2;
        let mut same = pictures;
        same.samples.copy_within(half.., 0);
        assert!(dists.distances_from_last(same).unwrap()[0].abs() < 1e-6);
    }

    #[test]
    fn the_state_of_a_whole_dists_is_known_and_what_is_missing_or_of_another_size_is_named() {
        let (_, mut state, _) = reference();
        let whole = state.iter().map(|(key, tensor)| {
            let key = key.replace("features.", "stage2.");
            (key, tensor.clone())
        });
        let device = device(DeviceKind::default()).unwrap();
        Dists::from_state(&whole.collect(), &device).unwrap();
        let short = state.get_mut("beta").unwrap();
        short.shape = vec![1, 3, 1, 1];
        short.values.truncate(3);
        let error = Dists::from_state(&state, &device).unwrap_err().to_string();
        assert!(error.contains("beta [1, 3, 1, 1]"), "{error}");
        state.remove("alpha");
        let error = Dists::from_state(&state, &device).unwrap_err().to_string();
        assert!(error.contains("missing alpha"), "{error}");
    }
}
