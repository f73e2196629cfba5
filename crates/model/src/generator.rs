//! One type for every generator: built from what a model card says, so that training and inference cannot differ.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use remaster_domain::{ModelArch, Precision};

use crate::precision::forward_in;
use crate::{Compact, CompactConfig, ModelError, RrdbNet, RrdbNetConfig, Seeded};

/// A network that makes pictures larger.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process holds one or two generators, and burn has no boxed modules"
)]
pub enum Generator {
    /// ESRGAN's.
    RrdbNet(RrdbNet),
    /// Real-ESRGAN's small one.
    Compact(Compact),
}

impl Generator {
    /// Builds the network with first weights drawn from `seed`.
    ///
    /// # Errors
    /// [`ModelError::Arch`] for sizes that do not exist.
    pub fn new(arch: &ModelArch, scale: u32, seed: u64, device: &Device) -> Result<Self, ModelError> {
        Self::build(arch, scale, &mut Seeded::new(seed, device))
    }

    /// Builds the network with zeros for weights, to be filled.
    pub(crate) fn blank(arch: &ModelArch, scale: u32, device: &Device) -> Result<Self, ModelError> {
        Self::build(arch, scale, &mut Seeded::blank(device))
    }

    fn build(arch: &ModelArch, scale: u32, seeded: &mut Seeded) -> Result<Self, ModelError> {
        match *arch {
            ModelArch::RrdbNet {
                num_feat,
                num_block,
                num_grow_ch,
                unshuffle,
            } => RrdbNetConfig {
                num_feat: num_feat as usize,
                num_block: num_block as usize,
                num_grow_ch: num_grow_ch as usize,
                unshuffle: unshuffle as usize,
                scale: scale as usize,
            }
            .init(seeded)
            .map(Self::RrdbNet),
            ModelArch::Compact { num_feat, num_conv } => CompactConfig {
                num_feat: num_feat as usize,
                num_conv: num_conv as usize,
                scale: scale as usize,
            }
            .init(seeded)
            .map(Self::Compact),
        }
    }

    /// # Shapes
    /// `[n, 3, h, w]` -> `[n, 3, h * scale, w * scale]`; RGB in 0..1, not clamped. `h` and `w` divide by the
    /// network's unshuffle factor.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::RrdbNet(net) => net.forward(x),
            Self::Compact(net) => net.forward(x),
        }
    }

    /// The same with the work done in a precision, for training: weights, input and output stay f32.
    #[must_use]
    pub fn forward_in(&self, precision: Precision, x: Tensor<4>) -> Tensor<4> {
        forward_in(precision, x, |x| self.forward(x))
    }

    /// Both sides of an input must divide by this.
    #[must_use]
    pub fn size_multiple_px(&self) -> usize {
        match self {
            Self::RrdbNet(net) => net.unshuffle(),
            Self::Compact(_) => 1,
        }
    }

    /// How far a pixel of the input is felt, in input pixels: an output pixel depends on nothing further away.
    #[must_use]
    pub fn reach_px(&self) -> usize {
        match self {
            Self::RrdbNet(net) => net.reach_px(),
            Self::Compact(net) => net.reach_px(),
        }
    }

    /// About how much memory a pass takes for each input pixel, in bytes, beyond the weights.
    #[must_use]
    pub fn bytes_per_pixel(&self) -> usize {
        match self {
            Self::RrdbNet(net) => net.bytes_per_pixel(),
            Self::Compact(net) => net.bytes_per_pixel(),
        }
    }
}
