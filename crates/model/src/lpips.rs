//! LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1: how different two pictures look, as the weighted distance of
//! their AlexNet or VGG16 features. Which of the two is inferred from the tensors.
//!
//! Weights are the user's: torchvision's trunk (`features.N.weight`) with the published heads (`lin0.model.1.weight`), or
//! the state of a whole `lpips.LPIPS` (`net.sliceK.N.weight`). AlexNet with the published heads is what people quote.

use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::trunk::{
    ALEX, Trunk, VGG16, figures, find, missing, normalise, others_and_last, pictures, tensor, wrong_shape,
};
use crate::{HostTensor, ModelError, RgbBatch, StateDict};

/// Mean and deviation of the channels, of pictures in -1..1.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Keeps features that are all zero from dividing by zero.
const NORM_FLOOR: f64 = 1e-10;
/// Side of AlexNet's first kernel, by which it is known.
const ALEX_KERNEL_PX: usize = 11;
/// What a whole LPIPS calls the trunk's stages.
const STAGE: &str = "net.slice";

/// A trunk with its heads, on one device, without gradients.
#[derive(Debug, Clone)]
pub struct Lpips {
    trunk: Trunk,
    /// Side of the max pooling, with stride 2.
    pool_px: usize,
    /// `[1, c, 1, 1]` for each tap.
    heads: Vec<Tensor<4>>,
}

impl Lpips {
    /// Takes trunk and heads from what was read of one or several files; other keys are ignored.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] names what is missing or has another shape.
    pub fn from_state(state: &StateDict, device: &Device) -> Result<Self, ModelError> {
        let first = find(state, 0, "weight", STAGE)?;
        let (layers, pool_px) = if first.shape.last() == Some(&ALEX_KERNEL_PX) {
            (ALEX, 3)
        } else {
            (VGG16, 2)
        };
        let trunk = Trunk::from_state(state, layers, STAGE, device)?;
        let heads = trunk.channels().into_iter().enumerate().map(|(tap, channels)| {
            let head = head(state, tap)?;
            if head.shape != [1, channels, 1, 1] {
                return Err(wrong_shape(format!("lin{tap}.model.1.weight {:?}", head.shape)));
            }
            Ok(tensor(head, device))
        });
        Ok(Self {
            heads: heads.collect::<Result<_, _>>()?,
            trunk,
            pool_px,
        })
    }

    /// How far all pictures but the last look from the last; 0 is alike.
    ///
    /// # Errors
    /// [`ModelError::Picture`] for pictures that are too small or not what their sizes say.
    pub fn distances_from_last(&self, batch: RgbBatch) -> Result<Vec<f64>, ModelError> {
        let x = pictures(batch, "LPIPS", &self.heads[0].device())?;
        let pool = |x| {
            let side = [self.pool_px, self.pool_px];
            max_pool2d(x, MaxPoolOptions::new(side).with_stride([2, 2]))
        };
        let taps = self.trunk.features(normalise(x * 2.0 - 1.0, SHIFT, SCALE), pool);
        let distances = taps.into_iter().zip(&self.heads).map(|(features, head)| {
            let (others, last) = others_and_last(unit(features));
            let weighted = ((others - last).square() * head.clone()).sum_dim(1);
            let [count, _, h, w] = weighted.dims();
            weighted.reshape([count, h * w]).mean_dim(1).reshape([count])
        });
        let sum = distances.reduce(|sum, one| sum + one);
        figures(sum.expect("a trunk has stages"))
    }
}

/// Every pixel's features with length 1.
fn unit(features: Tensor<4>) -> Tensor<4> {
    let length = features.clone().square().sum_dim(1).sqrt();
    features / (length + NORM_FLOOR)
}

fn head(state: &StateDict, tap: usize) -> Result<&HostTensor, ModelError> {
    let plain = format!("lin{tap}.model.1.weight");
    let found = state
        .get(&plain)
        .or_else(|| state.get(&format!("lins.{tap}.model.1.weight")));
    found.ok_or_else(|| missing(plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{DeviceKind, decode_safetensors, device};

    const ALEX_FILE: &[u8] = include_bytes!("../tests/fixtures/lpips-alex.safetensors");
    const VGG_FILE: &[u8] = include_bytes!("../tests/fixtures/lpips-vgg.safetensors");

    /// Pictures, weights, and the distance that PyTorch found.
    fn reference(file: &[u8]) -> (RgbBatch, StateDict, f64) {
        let mut state = decode_safetensors(file).unwrap();
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
    fn both_trunks_find_the_distance_that_pytorch_finds() {
        for file in [ALEX_FILE, VGG_FILE] {
            let (pictures, state, wanted) = reference(file);
            let lpips = Lpips::from_state(&state, &device(DeviceKind::default()).unwrap()).unwrap();
            let found = lpips.distances_from_last(pictures.clone()).unwrap();
            assert!(
                (found[0] - wanted).abs() < 1e-5 * wanted,
                "{found:?} instead of {wanted}"
            );
            let half = pictures.samples.len() / 2;
            let mut same = pictures;
            same.samples.copy_within(half.., 0);
            assert_eq!(lpips.distances_from_last(same).unwrap(), [0.0]);
        }
    }

    #[test]
    fn the_state_of_a_whole_lpips_is_known_and_a_missing_head_is_named() {
        let (_, state, _) = reference(ALEX_FILE);
        let whole = state.iter().map(|(key, tensor)| {
            let key = key.replace("features.", "net.slice1.").replace("lin", "lins.");
            (key, tensor.clone())
        });
        let device = device(DeviceKind::default()).unwrap();
        Lpips::from_state(&whole.collect(), &device).unwrap();
        let trunk = state.into_iter().filter(|(key, _)| key.starts_with("features"));
        let error = Lpips::from_state(&trunk.collect(), &device)
            .unwrap_err()
            .to_string();
        assert!(error.contains("missing lin0.model.1.weight"), "{error}");
    }

    #[test]
    fn pictures_that_are_too_small_are_refused() {
        let (_, state, _) = reference(ALEX_FILE);
        let lpips = Lpips::from_state(&state, &device(DeviceKind::default()).unwrap()).unwrap();
        let small = RgbBatch {
            count: 2,
            height_px: 16,
            width_px: 16,
            samples: vec![0.5; 2 * 3 * 256],
        };
        assert!(matches!(
            lpips.distances_from_last(small),
            Err(ModelError::Picture(_))
        ));
    }
}
