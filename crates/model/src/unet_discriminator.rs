//! The U-Net discriminator with spectral normalisation of Real-ESRGAN (arXiv 2107.10833; spectral normalisation:
//! Miyato et al. 2018, arXiv 1802.05957), written from the descriptions: one logit per pixel, any size that divides
//! by 8.
//!
//! The power iteration is a step of its own ([`UnetDiscriminator::refresh`]), not a side effect of `forward`: a
//! forward pass is then a pure function of the weights, and a resumed run repeats it bit by bit. Keys are those of
//! `torch.nn.utils.spectral_norm`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::layers::{convolve, leaky_relu};
use crate::resample::bilinear_double;
use crate::{Conv, ConvConfig, ModelError, Seeded};

const LEAK: f64 = 0.2;
/// Keeps the length of an all-zero vector from dividing by zero.
const NORM_FLOOR: f64 = 1e-12;

/// Size of a [`UnetDiscriminator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnetDiscriminatorConfig {
    /// Features of the first layer; 64 in Real-ESRGAN.
    pub num_feat: usize,
}

impl UnetDiscriminatorConfig {
    /// Draws the first weights.
    ///
    /// # Errors
    /// [`ModelError::Arch`] without features.
    pub fn init(&self, seeded: &mut Seeded) -> Result<UnetDiscriminator, ModelError> {
        let nf = self.num_feat;
        if nf == 0 {
            return Err(ModelError::Arch(
                "the discriminator needs at least one feature".into(),
            ));
        }
        let mut normed = |config: ConvConfig| NormedConv::init(config.without_bias(), seeded);
        let conv1 = normed(ConvConfig::new(nf, nf * 2).halving());
        let conv2 = normed(ConvConfig::new(nf * 2, nf * 4).halving());
        let conv3 = normed(ConvConfig::new(nf * 4, nf * 8).halving());
        let conv4 = normed(ConvConfig::new(nf * 8, nf * 4));
        let conv5 = normed(ConvConfig::new(nf * 4, nf * 2));
        let conv6 = normed(ConvConfig::new(nf * 2, nf));
        let conv7 = normed(ConvConfig::new(nf, nf));
        let conv8 = normed(ConvConfig::new(nf, nf));
        let conv0 = ConvConfig::new(3, nf).init(seeded);
        let conv9 = ConvConfig::new(nf, 1).init(seeded);
        Ok(UnetDiscriminator {
            conv0,
            conv1,
            conv2,
            conv3,
            conv4,
            conv5,
            conv6,
            conv7,
            conv8,
            conv9,
        })
    }
}

/// Says of every pixel whether it looks real.
#[derive(Module, Debug)]
pub struct UnetDiscriminator {
    conv0: Conv,
    conv1: NormedConv,
    conv2: NormedConv,
    conv3: NormedConv,
    conv4: NormedConv,
    conv5: NormedConv,
    conv6: NormedConv,
    conv7: NormedConv,
    conv8: NormedConv,
    conv9: Conv,
}

impl UnetDiscriminator {
    /// # Shapes
    /// `[n, 3, h, w]` -> `[n, 1, h, w]` logits; `h` and `w` divide by 8.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let leaky = |x: Tensor<4>| leaky_relu(x, LEAK);
        let x0 = leaky(self.conv0.forward(x));
        let x1 = leaky(self.conv1.forward(x0.clone()));
        let x2 = leaky(self.conv2.forward(x1.clone()));
        let x3 = leaky(self.conv3.forward(x2.clone()));
        let x4 = leaky(self.conv4.forward(bilinear_double(x3))) + x2;
        let x5 = leaky(self.conv5.forward(bilinear_double(x4))) + x1;
        let x6 = leaky(self.conv6.forward(bilinear_double(x5))) + x0;
        let out = leaky(self.conv8.forward(leaky(self.conv7.forward(x6))));
        self.conv9.forward(out)
    }

    /// One power iteration on every normalised convolution; once per training step.
    #[must_use]
    pub fn refresh(self) -> Self {
        Self {
            conv0: self.conv0,
            conv1: self.conv1.refresh(),
            conv2: self.conv2.refresh(),
            conv3: self.conv3.refresh(),
            conv4: self.conv4.refresh(),
            conv5: self.conv5.refresh(),
            conv6: self.conv6.refresh(),
            conv7: self.conv7.refresh(),
            conv8: self.conv8.refresh(),
            conv9: self.conv9,
        }
    }
}

/// A convolution whose weights are divided by their largest singular value, which `u` and `v` estimate.
#[derive(Module, Debug)]
struct NormedConv {
    weight_orig: Param<Tensor<4>>,
    weight_u: Param<Tensor<1>>,
    weight_v: Param<Tensor<1>>,
    stride_px: usize,
}

impl NormedConv {
    fn init(config: ConvConfig, seeded: &mut Seeded) -> Self {
        let weight_orig = config.init_weight(seeded);
        let [rows, c, h, w] = weight_orig.dims();
        let weight_u = seeded.direction(rows);
        let weight_v = seeded.direction(c * h * w);
        Self {
            weight_orig,
            weight_u,
            weight_v,
            stride_px: config.stride_px(),
        }
        .refresh()
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight_orig.val();
        let product = multiply(matrix(weight.clone()), self.weight_v.val());
        let largest = (self.weight_u.val() * product).sum();
        convolve(x, weight / largest.reshape([1, 1, 1, 1]), None, self.stride_px)
    }

    fn refresh(self) -> Self {
        let weights = matrix(self.weight_orig.val().inner());
        let v = unit(multiply(weights.clone().transpose(), self.weight_u.val().inner()));
        let u = unit(multiply(weights, v.clone()));
        Self {
            weight_orig: self.weight_orig,
            weight_u: self.weight_u.map(|old| like(&old, u)),
            weight_v: self.weight_v.map(|old| like(&old, v)),
            stride_px: self.stride_px,
        }
    }
}

fn matrix(weight: Tensor<4>) -> Tensor<2> {
    let [rows, c, h, w] = weight.dims();
    weight.reshape([rows, c * h * w])
}

fn multiply(matrix: Tensor<2>, vector: Tensor<1>) -> Tensor<1> {
    let [rows, columns] = matrix.dims();
    matrix.matmul(vector.reshape([columns, 1])).reshape([rows])
}

fn unit(vector: Tensor<1>) -> Tensor<1> {
    let length = vector.clone().square().sum().sqrt().clamp_min(NORM_FLOOR);
    vector / length
}

/// The new value in the old one's context: with autodiff where the old one had it, and never with a gradient.
fn like(old: &Tensor<1>, new: Tensor<1>) -> Tensor<1> {
    if old.is_autodiff() { new.autodiff() } else { new }
}
