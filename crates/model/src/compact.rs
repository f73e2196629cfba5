//! SRVGGNetCompact, the small generator of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), written from its
//! description: a plain chain of convolutions and PReLUs whose output is added to the nearest-neighbour upsampling
//! of the input, so it starts as a copy and learns the difference. Keys are BasicSR's `body.N`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::layers::prelu;
use crate::resample::{nearest, pixel_shuffle};
use crate::{Conv, ConvConfig, ModelError, Seeded};

/// PyTorch's first slope of a PReLU.
const FIRST_SLOPE: f32 = 0.25;

/// Shuffled, its base, their sum, and the copy that leaves libtorch.
const PICTURES_AT_END: usize = 4;

/// Size of a [`Compact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactConfig {
    /// Features.
    pub num_feat: usize,
    /// Convolutions between the first and the last.
    pub num_conv: usize,
    /// Output pixels per input pixel.
    pub scale: usize,
}

impl CompactConfig {
    /// What two cores train in minutes.
    #[must_use]
    pub fn small(scale: usize) -> Self {
        Self {
            num_feat: 24,
            num_conv: 6,
            scale,
        }
    }

    /// Draws the first weights.
    ///
    /// # Errors
    /// [`ModelError::Arch`] for sizes that no such network has.
    pub fn init(&self, seeded: &mut Seeded) -> Result<Compact, ModelError> {
        if self.num_feat == 0 || !(1..=8).contains(&self.scale) {
            let text = format!(
                "Compact cannot have {} features at scale {}",
                self.num_feat, self.scale
            );
            return Err(ModelError::Arch(text));
        }
        let nf = self.num_feat;
        let mut body = Vec::with_capacity(2 * self.num_conv + 3);
        for position in 0..=self.num_conv {
            let channels_in = if position == 0 { 3 } else { nf };
            body.push(Layer::Conv(ConvConfig::new(channels_in, nf).init(seeded)));
            body.push(Layer::Prelu(Prelu {
                weight: seeded.constant([nf], FIRST_SLOPE),
            }));
        }
        let last = ConvConfig::new(nf, 3 * self.scale * self.scale);
        body.push(Layer::Conv(last.init(seeded)));
        Ok(Compact {
            body,
            scale: self.scale,
        })
    }
}

/// The small generator of Real-ESRGAN.
#[derive(Module, Debug)]
pub struct Compact {
    body: Vec<Layer>,
    scale: usize,
}

impl Compact {
    /// # Shapes
    /// `[n, 3, h, w]` -> `[n, 3, h * scale, w * scale]`; RGB in 0..1, not clamped.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let base = nearest(x.clone(), self.scale);
        let features = self
            .body
            .iter()
            .fold(x, |features, layer| layer.forward(features));
        pixel_shuffle(features, self.scale) + base
    }

    /// One pixel for each 3x3 convolution.
    pub(crate) fn reach_px(&self) -> usize {
        self.convolutions().count()
    }

    /// Two layers of features are alive at a time, and at the end a few pictures of the output's size.
    pub(crate) fn bytes_per_pixel(&self) -> usize {
        let features = self.convolutions().map(Conv::channels_out).max().unwrap_or(0);
        size_of::<f32>() * (3 * features + PICTURES_AT_END * 3 * self.scale * self.scale)
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv> {
        self.body.iter().filter_map(|layer| match layer {
            Layer::Conv(conv) => Some(conv),
            Layer::Prelu(_) => None,
        })
    }
}

#[derive(Module, Debug)]
enum Layer {
    Conv(Conv),
    Prelu(Prelu),
}

impl Layer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Prelu(slope) => prelu(x, slope.weight.val()),
        }
    }
}

/// One slope per channel for values below 0.
#[derive(Module, Debug)]
struct Prelu {
    weight: Param<Tensor<1>>,
}
