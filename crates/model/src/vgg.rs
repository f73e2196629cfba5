//! VGG19 features for the perceptual loss (Simonyan & Zisserman 2015, arXiv 1409.1556). The weights are the user's:
//! no registry has them, so they come from a safetensors file with torchvision's keys (`features.N.weight`). Layer
//! widths are read from the file, which lets tests use a small one.

use std::str::FromStr;

use burn::module::{Module, Param, ParamId};
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{Conv, HostTensor, ModelError, StateDict};

/// The convolutions by torchvision's number, each with whether a pooling comes before it.
const LAYERS: [(usize, bool); 16] = [
    (0, false),
    (2, false),
    (5, true),
    (7, false),
    (10, true),
    (12, false),
    (14, false),
    (16, false),
    (19, true),
    (21, false),
    (23, false),
    (25, false),
    (28, true),
    (30, false),
    (32, false),
    (34, false),
];
/// Mean of ImageNet's channels.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The sixteen convolutions, frozen.
#[derive(Module, Debug)]
pub struct Vgg19 {
    convs: Vec<Conv>,
}

impl Vgg19 {
    /// Takes `features.N.{weight,bias}` from a decoded file; other keys (the classifier) are ignored.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] names the missing keys.
    pub fn from_state(state: &StateDict, device: &Device) -> Result<Self, ModelError> {
        let keys = |(number, _): &(usize, bool)| {
            [
                format!("features.{number}.weight"),
                format!("features.{number}.bias"),
            ]
        };
        let missing: Vec<_> = LAYERS
            .iter()
            .flat_map(keys)
            .filter(|key| !state.contains_key(key))
            .collect();
        if !missing.is_empty() {
            return Err(ModelError::Mismatch {
                missing,
                unexpected: vec![],
                wrong_shape: vec![],
            });
        }
        let convs = LAYERS.iter().map(|layer| {
            let [weight, bias] = keys(layer);
            conv(&weight, &state[&weight], &state[&bias], device)
        });
        Ok(Self {
            convs: convs.collect::<Result<_, _>>()?,
        })
    }

    /// conv5_4 before its ReLU: ESRGAN's perceptual features.
    ///
    /// # Shapes
    /// `[n, 3, h, w]` RGB in 0..1 -> `[n, c, h / 16, w / 16]`; both sides at least 16.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut features = self.features(x, &[VggTap::CONV5_4]);
        features.remove(0)
    }

    /// The features of some taps, in the network's order; nothing after the last of them is computed.
    ///
    /// # Shapes
    /// `[n, 3, h, w]` RGB in 0..1 -> `[n, c, h / d, w / d]` each, where `d` is 1, 2, 4, 8 or 16 by the tap's stage.
    #[must_use]
    pub fn features(&self, x: Tensor<4>, taps: &[VggTap]) -> Vec<Tensor<4>> {
        let last = taps.iter().map(|tap| tap.conv).max().unwrap_or(0);
        let has = |conv: usize, is_rectified: bool| taps.contains(&VggTap { conv, is_rectified });
        let mut found = Vec::with_capacity(taps.len());
        let mut features = normalise(x);
        for (position, (conv, (_, pooled))) in self.convs.iter().zip(LAYERS).enumerate().take(last + 1) {
            if pooled {
                features = max_pool2d(features, MaxPoolOptions::new([2, 2]));
            }
            features = conv.forward(features);
            if has(position, false) {
                found.push(features.clone());
            }
            if position < last || has(position, true) {
                features = relu(features);
            }
            if has(position, true) {
                found.push(features.clone());
            }
        }
        found
    }
}

/// A convolution whose features are looked at, before or after its ReLU. Its name is BasicSR's: `conv5_4` is the fourth
/// convolution of the fifth stage, `relu5_4` what its ReLU makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VggTap {
    conv: usize,
    is_rectified: bool,
}

impl VggTap {
    /// The last convolution before its ReLU.
    pub const CONV5_4: Self = Self {
        conv: LAYERS.len() - 1,
        is_rectified: false,
    };
}

impl FromStr for VggTap {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (mut stage, mut number) = (1, 0);
        for (conv, (_, pooled)) in LAYERS.into_iter().enumerate() {
            (stage, number) = if pooled {
                (stage + 1, 1)
            } else {
                (stage, number + 1)
            };
            for (kind, is_rectified) in [("conv", false), ("relu", true)] {
                if name == format!("{kind}{stage}_{number}") {
                    return Ok(Self { conv, is_rectified });
                }
            }
        }
        Err(format!(
            "VGG19 has no layer `{name}`: conv1_1 to conv5_4 are before their ReLUs, relu1_1 to relu5_4 after"
        ))
    }
}

fn normalise(x: Tensor<4>) -> Tensor<4> {
    let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values, &x.device()).reshape([1, 3, 1, 1]);
    let (mean, deviation) = (channel(MEAN), channel(DEVIATION));
    (x - mean) / deviation
}

fn conv(key: &str, weight: &HostTensor, bias: &HostTensor, device: &Device) -> Result<Conv, ModelError> {
    let fits = weight.shape.len() == 4 && bias.shape == weight.shape[..1];
    if !fits {
        let wrong_shape = vec![format!("{key} {:?}", weight.shape)];
        return Err(ModelError::Mismatch {
            missing: vec![],
            unexpected: vec![],
            wrong_shape,
        });
    }
    Ok(Conv::from_params(
        frozen::<4>(weight, device),
        Some(frozen::<1>(bias, device)),
    ))
}

fn frozen<const D: usize>(host: &HostTensor, device: &Device) -> Param<Tensor<D>> {
    let data = TensorData::new(host.values.clone(), host.shape.clone());
    Param::initialized(ParamId::new(), Tensor::from_data(data, device))
}
