//! AlexNet and VGG16 as others' measures of likeness use them: the convolutions up to the last features, frozen, with
//! torchvision's numbers. How they pool between stages is the measure's own.

use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{HostTensor, ModelError, RgbBatch, StateDict};

/// Of smaller pictures the last features are empty or nearly so, and neither LPIPS nor DISTS takes them.
pub const LIKENESS_SIDE_MIN_PX: usize = 32;
/// Stages, each of which ends in features that are compared.
pub(crate) const STAGES: usize = 5;

/// One convolution, by torchvision's number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    number: usize,
    stride_px: usize,
    padding_px: usize,
    /// Pooling stands before it.
    is_pooled: bool,
    is_tap: bool,
}

const fn layer(number: usize, is_pooled: bool, is_tap: bool) -> Layer {
    Layer {
        number,
        stride_px: 1,
        padding_px: 1,
        is_pooled,
        is_tap,
    }
}

/// The last but for its classifier.
pub(crate) const ALEX: &[Layer] = &[
    Layer {
        stride_px: 4,
        padding_px: 2,
        ..layer(0, false, true)
    },
    Layer {
        padding_px: 2,
        ..layer(3, true, true)
    },
    layer(6, true, true),
    layer(8, false, true),
    layer(10, false, true),
];
/// The same of VGG16.
pub(crate) const VGG16: &[Layer] = &[
    layer(0, false, false),
    layer(2, false, true),
    layer(5, true, false),
    layer(7, false, true),
    layer(10, true, false),
    layer(12, false, false),
    layer(14, false, true),
    layer(17, true, false),
    layer(19, false, false),
    layer(21, false, true),
    layer(24, true, false),
    layer(26, false, false),
    layer(28, false, true),
];

/// The convolutions on one device, without gradients.
#[derive(Debug, Clone)]
pub(crate) struct Trunk {
    layers: Vec<(Layer, Tensor<4>, Tensor<1>)>,
}

impl Trunk {
    /// Takes the convolutions by torchvision's keys (`features.N.weight`), or by those of a measure's whole state, which cuts
    /// them into numbered stages (`net.slice1.N.weight`); other keys are ignored.
    pub(crate) fn from_state(
        state: &StateDict,
        layers: &[Layer],
        stage: &str,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut channels = 3;
        let layers = layers.iter().map(|layer| {
            let (weight, bias) = (
                find(state, layer.number, "weight", stage)?,
                find(state, layer.number, "bias", stage)?,
            );
            let fits =
                weight.shape.len() == 4 && weight.shape[1] == channels && bias.shape == weight.shape[..1];
            if !fits {
                let text = format!("features.{}.weight {:?}", layer.number, weight.shape);
                return Err(wrong_shape(text));
            }
            channels = weight.shape[0];
            Ok((*layer, tensor(weight, device), tensor(bias, device)))
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Channels of the features of every stage.
    pub(crate) fn channels(&self) -> Vec<usize> {
        let taps = self.layers.iter().filter(|(layer, ..)| layer.is_tap);
        taps.map(|(_, weight, _)| weight.dims()[0]).collect()
    }

    /// Features after the last ReLU of every stage. `[n, 3, h, w]`, normalised -> `[n, c, h', w']` each.
    pub(crate) fn features(&self, mut x: Tensor<4>, pool: impl Fn(Tensor<4>) -> Tensor<4>) -> Vec<Tensor<4>> {
        let mut taps = Vec::with_capacity(STAGES);
        for (layer, weight, bias) in &self.layers {
            if layer.is_pooled {
                x = pool(x);
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

/// Finds a convolution's weight or bias under either name.
pub(crate) fn find<'a>(
    state: &'a StateDict,
    number: usize,
    part: &str,
    stage: &str,
) -> Result<&'a HostTensor, ModelError> {
    let plain = format!("features.{number}.{part}");
    let staged = (1..=STAGES).map(|at| format!("{stage}{at}.{number}.{part}"));
    let mut keys = std::iter::once(plain.clone()).chain(staged);
    keys.find_map(|key| state.get(&key)).ok_or_else(|| missing(plain))
}

/// Pictures 0..1 as a tensor, where there are at least two and they are large enough for `measure`.
pub(crate) fn pictures(pictures: RgbBatch, measure: &str, device: &Device) -> Result<Tensor<4>, ModelError> {
    let (count, height, width) = (pictures.count, pictures.height_px, pictures.width_px);
    let is_whole = pictures.samples.len() == count * 3 * height * width;
    if height.min(width) < LIKENESS_SIDE_MIN_PX || count < 2 || !is_whole {
        let text = format!(
            "{count} of {width}x{height} px; {measure} compares two or more of {LIKENESS_SIDE_MIN_PX} px and more"
        );
        return Err(ModelError::Picture(text));
    }
    let data = TensorData::new(pictures.samples, [count, 3, height, width]);
    Ok(Tensor::from_data(data, device))
}

/// `(x - mean) / deviation`, channel by channel.
pub(crate) fn normalise(x: Tensor<4>, mean: [f32; 3], deviation: [f32; 3]) -> Tensor<4> {
    let channel = |values: [f32; 3]| Tensor::<1>::from_floats(values, &x.device()).reshape([1, 3, 1, 1]);
    let (mean, deviation) = (channel(mean), channel(deviation));
    (x - mean) / deviation
}

/// All but the last of a batch, and the last.
pub(crate) fn others_and_last(features: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let [n, c, h, w] = features.dims();
    let last = features.clone().slice([n - 1..n, 0..c, 0..h, 0..w]);
    (features.slice([0..n - 1, 0..c, 0..h, 0..w]), last)
}

/// One figure a picture, on the host.
pub(crate) fn figures(of: Tensor<1>) -> Result<Vec<f64>, ModelError> {
    let read = of.try_into_vec_as::<f32>();
    let read = read.map_err(|error| ModelError::Picture(format!("unreadable distance: {error}")))?;
    Ok(read.into_iter().map(f64::from).collect())
}

/// A key that is not there.
pub(crate) fn missing(key: String) -> ModelError {
    ModelError::Mismatch {
        missing: vec![key],
        unexpected: vec![],
        wrong_shape: vec![],
    }
}

/// A tensor of another shape.
pub(crate) fn wrong_shape(text: String) -> ModelError {
    ModelError::Mismatch {
        missing: vec![],
        unexpected: vec![],
        wrong_shape: vec![text],
    }
}

/// On a device.
pub(crate) fn tensor<const D: usize>(host: &HostTensor, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(host.values.clone(), host.shape.clone()), device)
}
