//! LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1: how different two pictures look, as the weighted distance of
//! their AlexNet or VGG16 features. Which of the two is inferred from the tensors.
//!
//! Weights are the user's: torchvision's trunk (`features.N.weight`) with the published heads (`lin0.model.1.weight`), or
//! the state of a whole `lpips.LPIPS` (`net.sliceK.N.weight`). AlexNet with the published heads is what people quote.

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{HostTensor, ModelError, RgbBatch, StateDict};

/// Mean and deviation of the channels, of pictures in -1..1.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Keeps features that are all zero from dividing by zero.
const NORM_FLOOR: f64 = 1e-10;
/// Layers whose features are compared.
const TAPS: usize = 5;

/// One convolution of a trunk, by torchvision's number.
#[derive(Debug, Clone, Copy)]
struct Layer {
    number: usize,
    stride_px: usize,
    padding_px: usize,
    /// Side of the pooling before it, with stride 2; 0 for none.
    pool_px: usize,
    is_tap: bool,
}

const fn layer(number: usize, pool_px: usize, is_tap: bool) -> Layer {
    Layer {
        number,
        stride_px: 1,
        padding_px: 1,
        pool_px,
        is_tap,
    }
}

const ALEX: [Layer; 5] = [
    Layer {
        stride_px: 4,
        padding_px: 2,
        ..layer(0, 0, true)
    },
    Layer {
        padding_px: 2,
        ..layer(3, 3, true)
    },
    layer(6, 3, true),
    layer(8, 0, true),
    layer(10, 0, true),
];
const VGG16: [Layer; 13] = [
    layer(0, 0, false),
    layer(2, 0, true),
    layer(5, 2, false),
    layer(7, 0, true),
    layer(10, 2, false),
    layer(12, 0, false),
    layer(14, 0, true),
    layer(17, 2, false),
    layer(19, 0, false),
    layer(21, 0, true),
    layer(24, 2, false),
    layer(26, 0, false),
    layer(28, 0, true),
];
/// Side of AlexNet's first kernel, by which it is known.
const ALEX_KERNEL_PX: usize = 11;

/// A trunk with its heads, on one device, without gradients.
#[derive(Debug, Clone)]
pub struct Lpips {
    layers: Vec<(Layer, Tensor<4>, Tensor<1>)>,
    /// `[1, c, 1, 1]` for each tap.
    heads: Vec<Tensor<4>>,
}

impl Lpips {
    /// Of smaller pictures the last features are empty.
    pub const SIDE_MIN_PX: usize = 32;

    /// Takes trunk and heads from what was read of one or several files; other keys are ignored.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] names what is missing or has another shape.
    pub fn from_state(state: &StateDict, device: &Device) -> Result<Self, ModelError> {
        let first = trunk(state, 0, "weight")?;
        let layers: &[Layer] = if first.shape.last() == Some(&ALEX_KERNEL_PX) {
            &ALEX
        } else {
            &VGG16
        };
        let mut found = Vec::with_capacity(layers.len());
        let (mut channels, mut taps) = (3, Vec::new());
        for layer in layers {
            let (weight, bias) = (
                trunk(state, layer.number, "weight")?,
                trunk(state, layer.number, "bias")?,
            );
            let fits =
                weight.shape.len() == 4 && weight.shape[1] == channels && bias.shape == weight.shape[..1];
            if !fits {
                let text = format!("features.{}.weight {:?}", layer.number, weight.shape);
                return Err(wrong_shape(text));
            }
            channels = weight.shape[0];
            if layer.is_tap {
                taps.push(channels);
            }
            found.push((*layer, tensor(weight, device), tensor(bias, device)));
        }
        let heads = taps.into_iter().enumerate().map(|(tap, channels)| {
            let head = head(state, tap)?;
            if head.shape != [1, channels, 1, 1] {
                return Err(wrong_shape(format!("lin{tap}.model.1.weight {:?}", head.shape)));
            }
            Ok(tensor(head, device))
        });
        Ok(Self {
            heads: heads.collect::<Result<_, _>>()?,
            layers: found,
        })
    }

    /// How far all pictures but the last look from the last; 0 is alike.
    ///
    /// # Errors
    /// [`ModelError::Picture`] for pictures that are too small or not what their sizes say.
    pub fn distances_from_last(&self, pictures: RgbBatch) -> Result<Vec<f64>, ModelError> {
        let (count, height, width) = (pictures.count, pictures.height_px, pictures.width_px);
        if height.min(width) < Self::SIDE_MIN_PX
            || count < 2
            || pictures.samples.len() != count * 3 * height * width
        {
            let text = format!(
                "{count} of {width}x{height} px; LPIPS compares two or more of {} px and more",
                Self::SIDE_MIN_PX
            );
            return Err(ModelError::Picture(text));
        }
        let data = TensorData::new(pictures.samples, [count, 3, height, width]);
        let taps = self.features(normalise(Tensor::from_data(data, &self.heads[0].device())));
        let mut sums = vec![0.0; count - 1];
        for (features, head) in taps.into_iter().zip(&self.heads) {
            let [_, c, h, w] = features.dims();
            let features = unit(features);
            let last = features.clone().slice([count - 1..count, 0..c, 0..h, 0..w]);
            let others = features.slice([0..count - 1, 0..c, 0..h, 0..w]);
            let weighted = (others - last).square() * head.clone();
            let means = weighted.sum_dim(1).reshape([count - 1, h * w]).mean_dim(1);
            let means = means
                .try_into_vec_as::<f32>()
                .map_err(|error| ModelError::Picture(format!("unreadable distance: {error}")))?;
            sums.iter_mut()
                .zip(means)
                .for_each(|(sum, mean)| *sum += f64::from(mean));
        }
        Ok(sums)
    }

    fn features(&self, mut x: Tensor<4>) -> Vec<Tensor<4>> {
        let mut taps = Vec::with_capacity(TAPS);
        for (layer, weight, bias) in &self.layers {
            if layer.pool_px > 0 {
                let side = [layer.pool_px, layer.pool_px];
                x = max_pool2d(x, MaxPoolOptions::new(side).with_stride([2, 2]));
            }
            let (stride, padding) = ([layer.stride_px; 2], [layer.padding_px; 2]);
            let options = ConvOptions::new(stride, padding, [1, 1], 1);
            x = relu(conv2d(x, weight.clone(), Some(bias.clone()), options));
            if layer.is_tap {
                taps.push(x.clone());
            }
        }
        taps
    }
}

/// From 0..1 to what the trunks saw.
fn normalise(x: Tensor<4>) -> Tensor<4> {
    let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values, &x.device()).reshape([1, 3, 1, 1]);
    let (shift, scale) = (channel(SHIFT), channel(SCALE));
    (x * 2.0 - 1.0 - shift) / scale
}

/// Every pixel's features with length 1.
fn unit(features: Tensor<4>) -> Tensor<4> {
    let length = features.clone().square().sum_dim(1).sqrt();
    features / (length + NORM_FLOOR)
}

/// By torchvision's key, or by that of a whole LPIPS, which cuts the trunk into slices.
fn trunk<'a>(state: &'a StateDict, number: usize, part: &str) -> Result<&'a HostTensor, ModelError> {
    let plain = format!("features.{number}.{part}");
    let sliced = (1..=TAPS).map(|slice| format!("net.slice{slice}.{number}.{part}"));
    let mut keys = std::iter::once(plain.clone()).chain(sliced);
    keys.find_map(|key| state.get(&key)).ok_or_else(|| missing(plain))
}

fn head(state: &StateDict, tap: usize) -> Result<&HostTensor, ModelError> {
    let plain = format!("lin{tap}.model.1.weight");
    let found = state
        .get(&plain)
        .or_else(|| state.get(&format!("lins.{tap}.model.1.weight")));
    found.ok_or_else(|| missing(plain))
}

fn missing(key: String) -> ModelError {
    ModelError::Mismatch {
        missing: vec![key],
        unexpected: vec![],
        wrong_shape: vec![],
    }
}

fn wrong_shape(text: String) -> ModelError {
    ModelError::Mismatch {
        missing: vec![],
        unexpected: vec![],
        wrong_shape: vec![text],
    }
}

fn tensor<const D: usize>(host: &HostTensor, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(host.values.clone(), host.shape.clone()), device)
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
