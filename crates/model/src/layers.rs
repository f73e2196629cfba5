//! The one place that all convolutions and leaky ReLUs go through, so that a backend can bring its own: training spends
//! nearly all of its time in them. What a backend does not bring is made of burn's operations.
//!
//! They count in what their input counts in: weights are rounded to it on the way in, and their gradients come back in
//! the weights' own kind. So a network with weights in f32 that is given a picture in bf16 or f16 works in half precision.
#![expect(
    deprecated,
    reason = "burn marks libtorch deprecated; it is still the fastest backend on both CPU and CUDA"
)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

/// A convolution padded by one pixel: 3x3 keeps the size, 4x4 with stride 2 halves it.
pub(crate) fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride_px: usize,
) -> Tensor<4> {
    let (weight, bias) = (like(weight, &x), bias.map(|bias| like(bias, &x)));
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => <Dispatch as Layers>::convolve_biased(x, weight, bias.into_dispatch(), stride_px),
        None => <Dispatch as Layers>::convolve(x, weight, stride_px),
    })
}

/// A ReLU with one slope, above 0, for all that lies below 0.
pub(crate) fn leaky_relu(x: Tensor<4>, slope: f64) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Layers>::leaky_relu(x.into_dispatch(), slope))
}

/// A ReLU with a slope for each channel.
pub(crate) fn prelu(x: Tensor<4>, slopes: Tensor<1>) -> Tensor<4> {
    let slopes = like(slopes, &x);
    Tensor::from_dispatch(<Dispatch as Layers>::prelu_each(
        x.into_dispatch(),
        slopes.into_dispatch(),
    ))
}

fn like<const D: usize>(weights: Tensor<D>, x: &Tensor<4>) -> Tensor<D> {
    weights.cast(x.dtype())
}

/// The layers of one backend.
#[backend_extension(
    LibTorch: cfg(feature = "tch"),
    Flex: cfg(feature = "flex"),
    Autodiff
)]
pub(crate) trait Layers: Backend {
    /// See [`convolve`].
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride_px: usize) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, padded(stride_px))
    }

    /// See [`convolve`].
    fn convolve_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride_px: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, Some(bias), padded(stride_px))
    }

    /// See [`leaky_relu`]. As `r + slope * (x - r)` with `r = relu(x)`: its gradient needs no mask.
    fn leaky_relu(x: FloatTensor<Self>, slope: f64) -> FloatTensor<Self> {
        let positive = Self::relu(x.clone());
        let negative = Self::float_sub(x, positive.clone());
        Self::float_add(Self::float_mul_scalar(negative, slope.into()), positive)
    }

    /// See [`prelu`].
    fn prelu_each(x: FloatTensor<Self>, slopes: FloatTensor<Self>) -> FloatTensor<Self> {
        let channels = slopes.shape()[0];
        let slopes = Self::float_reshape(slopes, [1, channels, 1, 1].into());
        let positive = Self::relu(x.clone());
        let negative = Self::float_sub(x, positive.clone());
        Self::float_add(Self::float_mul(negative, slopes), positive)
    }
}

fn padded(stride_px: usize) -> ConvOptions<2> {
    ConvOptions::new([stride_px, stride_px], [1, 1], [1, 1], 1)
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::{Autodiff, Flex};

    impl super::Layers for Flex {}
    impl<C: CheckpointStrategy> super::Layers for Autodiff<Flex, C> {}
}
