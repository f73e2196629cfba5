//! The VGG-style discriminator of ESRGAN (arXiv 1809.00219), written from the description: one logit a picture of a
//! fixed size. Keys are BasicSR's (`conv0_0`, `bn0_1`, `linear1`).
//!
//! It is only ever run on the batch at hand, so the running averages of its batch norms, which nothing would read, are
//! not kept; a forward pass stays a pure function of the weights.

use burn::module::{Module, Param};
use burn::tensor::module::{batch_norm_train, linear};
use burn::tensor::{FloatDType, Tensor};

use crate::layers::leaky_relu;
use crate::{Conv, ConvConfig, ModelError, Seeded};

const LEAK: f64 = 0.2;
/// Keeps the deviation of a flat channel from dividing by zero; PyTorch's.
const NORM_EPSILON: f64 = 1e-5;
/// Features of the widest layers for each of the first one's.
const WIDEST: usize = 8;
/// Side of the features that the linear layers see.
const LAST_SIDE_PX: usize = 4;
const LINEAR_FEATURES: usize = 100;

/// Size of a [`VggDiscriminator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VggDiscriminatorConfig {
    /// Features of the first layer; 64 in ESRGAN.
    pub num_feat: usize,
    /// Side of the square pictures that it takes: 128, or 256 with one pair of layers more.
    pub input_size_px: usize,
}

impl VggDiscriminatorConfig {
    /// Sides of pictures that there are networks for.
    pub const SIZES_PX: [usize; 2] = [128, 256];

    /// Draws the first weights.
    ///
    /// # Errors
    /// [`ModelError::Arch`] without features or for pictures of another size.
    pub fn init(&self, seeded: &mut Seeded) -> Result<VggDiscriminator, ModelError> {
        let (nf, side) = (self.num_feat, self.input_size_px);
        if nf == 0 || !Self::SIZES_PX.contains(&side) {
            return Err(ModelError::Arch(format!(
                "a VGG-style discriminator has at least one feature and takes pictures of 128 or 256 px, not {nf} and {side} px"
            )));
        }
        let wide = nf * WIDEST;
        let flat = wide * LAST_SIDE_PX * LAST_SIDE_PX;
        let has_fifth = side == Self::SIZES_PX[1];
        Ok(VggDiscriminator {
            conv0_0: ConvConfig::new(3, nf).init(seeded),
            conv0_1: halving(nf, seeded),
            bn0_1: BatchNorm::init(nf, seeded),
            conv1_0: same(nf, nf * 2, seeded),
            bn1_0: BatchNorm::init(nf * 2, seeded),
            conv1_1: halving(nf * 2, seeded),
            bn1_1: BatchNorm::init(nf * 2, seeded),
            conv2_0: same(nf * 2, nf * 4, seeded),
            bn2_0: BatchNorm::init(nf * 4, seeded),
            conv2_1: halving(nf * 4, seeded),
            bn2_1: BatchNorm::init(nf * 4, seeded),
            conv3_0: same(nf * 4, wide, seeded),
            bn3_0: BatchNorm::init(wide, seeded),
            conv3_1: halving(wide, seeded),
            bn3_1: BatchNorm::init(wide, seeded),
            conv4_0: same(wide, wide, seeded),
            bn4_0: BatchNorm::init(wide, seeded),
            conv4_1: halving(wide, seeded),
            bn4_1: BatchNorm::init(wide, seeded),
            conv5_0: has_fifth.then(|| same(wide, wide, seeded)),
            bn5_0: has_fifth.then(|| BatchNorm::init(wide, seeded)),
            conv5_1: has_fifth.then(|| halving(wide, seeded)),
            bn5_1: has_fifth.then(|| BatchNorm::init(wide, seeded)),
            linear1: Linear::init(flat, LINEAR_FEATURES, seeded),
            linear2: Linear::init(LINEAR_FEATURES, 1, seeded),
        })
    }
}

/// Says of a whole picture whether it looks real.
#[derive(Module, Debug)]
pub struct VggDiscriminator {
    conv0_0: Conv,
    conv0_1: Conv,
    bn0_1: BatchNorm,
    conv1_0: Conv,
    bn1_0: BatchNorm,
    conv1_1: Conv,
    bn1_1: BatchNorm,
    conv2_0: Conv,
    bn2_0: BatchNorm,
    conv2_1: Conv,
    bn2_1: BatchNorm,
    conv3_0: Conv,
    bn3_0: BatchNorm,
    conv3_1: Conv,
    bn3_1: BatchNorm,
    conv4_0: Conv,
    bn4_0: BatchNorm,
    conv4_1: Conv,
    bn4_1: BatchNorm,
    conv5_0: Option<Conv>,
    bn5_0: Option<BatchNorm>,
    conv5_1: Option<Conv>,
    bn5_1: Option<BatchNorm>,
    linear1: Linear,
    linear2: Linear,
}

impl VggDiscriminator {
    /// # Shapes
    /// `[n, 3, side, side]` of the side that it was made for -> `[n, 1, 1, 1]` logits.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let leaky = |x: Tensor<4>| leaky_relu(x, LEAK);
        let normed = |conv: &Conv, norm: &BatchNorm, x: Tensor<4>| leaky(norm.forward(conv.forward(x)));
        let mut x = leaky(self.conv0_0.forward(x));
        for (conv, norm) in [
            (&self.conv0_1, &self.bn0_1),
            (&self.conv1_0, &self.bn1_0),
            (&self.conv1_1, &self.bn1_1),
            (&self.conv2_0, &self.bn2_0),
            (&self.conv2_1, &self.bn2_1),
            (&self.conv3_0, &self.bn3_0),
            (&self.conv3_1, &self.bn3_1),
            (&self.conv4_0, &self.bn4_0),
            (&self.conv4_1, &self.bn4_1),
        ] {
            x = normed(conv, norm, x);
        }
        for pair in [(&self.conv5_0, &self.bn5_0), (&self.conv5_1, &self.bn5_1)] {
            if let (Some(conv), Some(norm)) = pair {
                x = normed(conv, norm, x);
            }
        }
        let count = x.dims()[0];
        let features = self
            .linear1
            .forward(x.cast(FloatDType::F32).flatten::<2>(1, 3))
            .reshape([count, LINEAR_FEATURES, 1, 1]);
        let logits = self
            .linear2
            .forward(leaky(features).reshape([count, LINEAR_FEATURES]));
        logits.reshape([count, 1, 1, 1])
    }
}

fn same(channels_in: usize, channels_out: usize, seeded: &mut Seeded) -> Conv {
    ConvConfig::new(channels_in, channels_out)
        .without_bias()
        .init(seeded)
}

fn halving(channels: usize, seeded: &mut Seeded) -> Conv {
    ConvConfig::new(channels, channels)
        .halving()
        .without_bias()
        .init(seeded)
}

/// Normalises every channel by the batch at hand (arXiv 1502.03167), in f32 whatever the features are in.
#[derive(Module, Debug)]
struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl BatchNorm {
    fn init(channels: usize, seeded: &mut Seeded) -> Self {
        Self {
            weight: seeded.constant([channels], 1.0),
            bias: seeded.constant([channels], 0.0),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let x = x.cast(FloatDType::F32);
        batch_norm_train(x, self.weight.val(), self.bias.val(), NORM_EPSILON)
            .output
            .cast(dtype)
    }
}

/// A fully connected layer; `weight` is `[out, in]`, as PyTorch has it.
#[derive(Module, Debug)]
struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    fn init(features_in: usize, features_out: usize, seeded: &mut Seeded) -> Self {
        let bound = 1.0 / (features_in as f32).sqrt();
        Self {
            weight: seeded.uniform([features_out, features_in], bound),
            bias: seeded.uniform([features_out], bound),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.weight.val().transpose(), Some(self.bias.val()))
    }
}
