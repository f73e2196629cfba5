//! Half precision: pictures go in and come out as f32, so what is lost is lost inside the network. For inference a copy of
//! a generator has rounded weights; for training the weights stay f32 and are rounded at every use.
//! Whether the result is a picture at all (f16 ends at 65,504) is for the caller to look at.
//!
//! Meant for CUDA, where it is several times as fast. A CPU computes it too, to the same end and more slowly.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};
use remaster_domain::Precision;

use crate::infer::upscale_as;
use crate::{Generator, ModelError, RgbBatch};

/// A generator with rounded weights.
#[derive(Debug, Clone)]
pub struct Rounded {
    generator: Generator,
    dtype: FloatDType,
}

impl Rounded {
    /// Rounds the weights; the generator itself stays as it is.
    #[must_use]
    pub fn new(generator: &Generator, precision: Precision) -> Self {
        let dtype = dtype_of(precision);
        Self {
            generator: generator.clone().map(&mut Cast(dtype)),
            dtype,
        }
    }

    /// As [`crate::upscale_rgb`].
    ///
    /// # Errors
    /// Those of [`crate::upscale_rgb`].
    pub fn upscale_rgb(&self, batch: RgbBatch) -> Result<RgbBatch, ModelError> {
        upscale_as(&self.generator, batch, self.dtype)
    }
}

/// Runs a network with f32 weights so that it works in a precision; gradients of its weights are f32 again.
pub(crate) fn forward_in(
    precision: Precision,
    x: Tensor<4>,
    forward: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    match dtype_of(precision) {
        FloatDType::F32 => forward(x),
        half => forward(x.cast(half)).cast(FloatDType::F32),
    }
}

fn dtype_of(precision: Precision) -> FloatDType {
    match precision {
        Precision::F32 => FloatDType::F32,
        Precision::F16 => FloatDType::F16,
        Precision::Bf16 => FloatDType::BF16,
    }
}

struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}
