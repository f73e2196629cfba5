//! A convolution with its weights, and how these are drawn.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::Seeded;
use crate::layers::convolve;

/// Shape and first weights of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvConfig {
    channels_in: usize,
    channels_out: usize,
    kernel_px: usize,
    stride_px: usize,
    bias: bool,
    kaiming_scale: Option<f32>,
}

impl ConvConfig {
    /// 3x3, stride 1, with bias, PyTorch's default first weights.
    #[must_use]
    pub fn new(channels_in: usize, channels_out: usize) -> Self {
        Self {
            channels_in,
            channels_out,
            kernel_px: 3,
            stride_px: 1,
            bias: true,
            kaiming_scale: None,
        }
    }

    /// 4x4, stride 2: halves the picture.
    #[must_use]
    pub fn halving(self) -> Self {
        Self {
            kernel_px: 4,
            stride_px: 2,
            ..self
        }
    }

    /// Without bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Kaiming-normal first weights times `scale` and a bias of 0: ESRGAN's "smaller initialisation".
    #[must_use]
    pub fn kaiming(self, scale: f32) -> Self {
        Self {
            kaiming_scale: Some(scale),
            ..self
        }
    }

    /// Draws the first weights.
    #[must_use]
    pub fn init(&self, seeded: &mut Seeded) -> Conv {
        let weight = self.init_weight(seeded);
        let bias = self.bias.then(|| match self.kaiming_scale {
            Some(_) => seeded.constant([self.channels_out], 0.0),
            None => seeded.uniform([self.channels_out], self.uniform_bound()),
        });
        Conv {
            weight,
            bias,
            stride_px: self.stride_px,
        }
    }

    pub(crate) fn init_weight(&self, seeded: &mut Seeded) -> Param<Tensor<4>> {
        let shape = [
            self.channels_out,
            self.channels_in,
            self.kernel_px,
            self.kernel_px,
        ];
        match self.kaiming_scale {
            Some(scale) => seeded.normal(shape, (2.0 / self.fan_in()).sqrt() * scale),
            None => seeded.uniform(shape, self.uniform_bound()),
        }
    }

    pub(crate) fn stride_px(&self) -> usize {
        self.stride_px
    }

    fn fan_in(&self) -> f32 {
        (self.channels_in * self.kernel_px * self.kernel_px) as f32
    }

    /// Kaiming-uniform with a = sqrt(5) comes to this bound.
    fn uniform_bound(&self) -> f32 {
        1.0 / self.fan_in().sqrt()
    }
}

/// A convolution padded by 1, so that 3x3 keeps the size and 4x4 with stride 2 halves it.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, k, k]`.
    pub(crate) weight: Param<Tensor<4>>,
    /// `[out]`.
    pub(crate) bias: Option<Param<Tensor<1>>>,
    stride_px: usize,
}

impl Conv {
    /// Takes weights that exist already.
    pub(crate) fn from_params(weight: Param<Tensor<4>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self {
            weight,
            bias,
            stride_px: 1,
        }
    }

    /// Channels that come out.
    pub(crate) fn channels_out(&self) -> usize {
        self.weight.dims()[0]
    }

    /// # Shapes
    /// `[n, in, h, w]` -> `[n, out, h / stride, w / stride]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(
            x,
            self.weight.val(),
            self.bias.as_ref().map(Param::val),
            self.stride_px,
        )
    }
}
