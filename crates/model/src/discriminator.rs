//! One type for every discriminator, as [`crate::Generator`] is for generators: the loop does not ask which it has.

use burn::module::Module;
use burn::tensor::Tensor;
use remaster_domain::Precision;

use crate::precision::forward_in;
use crate::{
    ModelError, Seeded, UnetDiscriminator, UnetDiscriminatorConfig, VggDiscriminator, VggDiscriminatorConfig,
};

/// Which discriminator, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscriminatorConfig {
    /// Real-ESRGAN's.
    Unet(UnetDiscriminatorConfig),
    /// ESRGAN's.
    Vgg(VggDiscriminatorConfig),
}

impl DiscriminatorConfig {
    /// Draws the first weights.
    ///
    /// # Errors
    /// [`ModelError::Arch`] for sizes that do not exist.
    pub fn init(&self, seeded: &mut Seeded) -> Result<Discriminator, ModelError> {
        match self {
            Self::Unet(config) => config.init(seeded).map(Discriminator::Unet),
            Self::Vgg(config) => config.init(seeded).map(Discriminator::Vgg),
        }
    }
}

/// A network that tells real pictures from made ones.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process holds one discriminator, and burn has no boxed modules"
)]
pub enum Discriminator {
    /// A logit for every pixel.
    Unet(UnetDiscriminator),
    /// A logit for every picture.
    Vgg(VggDiscriminator),
}

impl Discriminator {
    /// # Shapes
    /// `[n, 3, h, w]` -> `[n, 1, h, w]` or `[n, 1, 1, 1]` logits; which `h` and `w` fit, the networks say.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Unet(net) => net.forward(x),
            Self::Vgg(net) => net.forward(x),
        }
    }

    /// The same with the work done in a precision, for training: weights, input and output stay f32.
    #[must_use]
    pub fn forward_in(&self, precision: Precision, x: Tensor<4>) -> Tensor<4> {
        forward_in(precision, x, |x| self.forward(x))
    }

    /// Once per training step: what a network estimates of its own weights is brought up to date.
    #[must_use]
    pub fn refresh(self) -> Self {
        match self {
            Self::Unet(net) => Self::Unet(net.refresh()),
            Self::Vgg(net) => Self::Vgg(net),
        }
    }
}
