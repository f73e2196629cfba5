//! RRDBNet, the generator of ESRGAN (Wang et al. 2018, arXiv 1809.00219), written from the paper. Field names are
//! BasicSR's keys, so exported weights open in every common tool.
//!
//! Two forms share the code. Plain: `log2(scale)` upsamplers. Pixel-unshuffle 2 or 4: pixels are first folded into
//! channels, then the network upsamples by `scale * unshuffle`, which makes 2x and 1x cheaper.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::layers::leaky_relu;
use crate::resample::{nearest, pixel_unshuffle};
use crate::{Conv, ConvConfig, ModelError, Seeded};

/// Slope of every leaky ReLU in the network.
const LEAK: f64 = 0.2;
/// How much of each residual is added: the paper's beta.
const RESIDUAL_SCALE: f64 = 0.2;
/// ESRGAN's smaller initialisation of the dense blocks.
const DENSE_INIT_SCALE: f32 = 0.1;

/// Three dense blocks of five.
const CONVOLUTIONS_PER_BLOCK: usize = 15;
/// 1/2 + 1/4 + 1/8 and twice the last of them, rounded up.
const REACH_OF_UPSAMPLING: usize = 2;
/// Input and output of a convolution and of the activation after it.
const LAYERS_AT_END: usize = 4;

/// Size of an [`RrdbNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RrdbNetConfig {
    /// Features.
    pub num_feat: usize,
    /// RRDB blocks.
    pub num_block: usize,
    /// Growth channels of the dense blocks.
    pub num_grow_ch: usize,
    /// 1 is the plain form; 2 or 4 folds pixels first.
    pub unshuffle: usize,
    /// Output pixels per input pixel.
    pub scale: usize,
}

impl RrdbNetConfig {
    /// The paper's network: 64 features, 23 blocks.
    #[must_use]
    pub fn paper(scale: usize) -> Self {
        Self {
            num_feat: 64,
            num_block: 23,
            num_grow_ch: 32,
            unshuffle: 1,
            scale,
        }
    }

    /// Draws the first weights.
    ///
    /// # Errors
    /// [`ModelError::Arch`] for sizes that no RRDBNet has.
    pub fn init(&self, seeded: &mut Seeded) -> Result<RrdbNet, ModelError> {
        let doublings = self.doublings()?;
        let (nf, folded) = (self.num_feat, 3 * self.unshuffle * self.unshuffle);
        let plain = ConvConfig::new(nf, nf);
        Ok(RrdbNet {
            conv_first: ConvConfig::new(folded, nf).init(seeded),
            body: (0..self.num_block).map(|_| self.rrdb(seeded)).collect(),
            conv_body: plain.init(seeded),
            conv_up1: (doublings > 0).then(|| plain.init(seeded)),
            conv_up2: (doublings > 1).then(|| plain.init(seeded)),
            conv_up3: (doublings > 2).then(|| plain.init(seeded)),
            conv_hr: plain.init(seeded),
            conv_last: ConvConfig::new(nf, 3).init(seeded),
            unshuffle: self.unshuffle,
        })
    }

    fn doublings(&self) -> Result<u32, ModelError> {
        let sizes = [self.num_feat, self.num_block, self.num_grow_ch];
        let upsampling = self.scale * self.unshuffle;
        if sizes.contains(&0) {
            return Err(ModelError::Arch(
                "RRDBNet needs at least one feature, block and growth channel".into(),
            ));
        }
        if ![1, 2, 4].contains(&self.unshuffle) {
            return Err(ModelError::Arch(format!(
                "unshuffle is {}, expected 1, 2 or 4",
                self.unshuffle
            )));
        }
        if ![1, 2, 4, 8].contains(&upsampling) {
            let (scale, unshuffle) = (self.scale, self.unshuffle);
            let text = format!(
                "RRDBNet cannot do scale {scale} with unshuffle {unshuffle}: their product must be 1, 2, 4 or 8"
            );
            return Err(ModelError::Arch(text));
        }
        Ok(upsampling.ilog2())
    }

    fn rrdb(&self, seeded: &mut Seeded) -> Rrdb {
        let mut block = || DenseBlock::init(self.num_feat, self.num_grow_ch, seeded);
        Rrdb {
            rdb1: block(),
            rdb2: block(),
            rdb3: block(),
        }
    }
}

/// The generator of ESRGAN.
#[derive(Module, Debug)]
pub struct RrdbNet {
    conv_first: Conv,
    body: Vec<Rrdb>,
    conv_body: Conv,
    conv_up1: Option<Conv>,
    conv_up2: Option<Conv>,
    conv_up3: Option<Conv>,
    conv_hr: Conv,
    conv_last: Conv,
    unshuffle: usize,
}

impl RrdbNet {
    /// # Shapes
    /// `[n, 3, h, w]` -> `[n, 3, h * scale, w * scale]`; `h` and `w` divide by `unshuffle`. RGB in 0..1, not clamped.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = if self.unshuffle == 1 {
            x
        } else {
            pixel_unshuffle(x, self.unshuffle)
        };
        let first = self.conv_first.forward(x);
        let body = self
            .body
            .iter()
            .fold(first.clone(), |features, block| block.forward(features));
        let features = first + self.conv_body.forward(body);
        let upsamplers = [&self.conv_up1, &self.conv_up2, &self.conv_up3]
            .into_iter()
            .flatten();
        let features = upsamplers.fold(features, |features, conv| {
            leaky_relu(conv.forward(nearest(features, 2)), LEAK)
        });
        self.conv_last
            .forward(leaky_relu(self.conv_hr.forward(features), LEAK))
    }

    /// One folded pixel for each 3x3 convolution before the upsampling; those after it reach less than two more.
    pub(crate) fn reach_px(&self) -> usize {
        let convolutions = 1 + CONVOLUTIONS_PER_BLOCK * self.body.len() + 1;
        (convolutions + REACH_OF_UPSAMPLING) * self.unshuffle
    }

    /// Most are needed at the end, where a few layers of features have the output's size.
    pub(crate) fn bytes_per_pixel(&self) -> usize {
        let doublings = [&self.conv_up1, &self.conv_up2, &self.conv_up3]
            .into_iter()
            .flatten()
            .count();
        let upsampled = (1 << (2 * doublings)) / (self.unshuffle * self.unshuffle).max(1);
        size_of::<f32>() * LAYERS_AT_END * self.conv_hr.channels_out() * upsampled.max(1)
    }

    /// Factor by which pixels are folded into channels first.
    #[must_use]
    pub fn unshuffle(&self) -> usize {
        self.unshuffle
    }
}

/// Residual in residual dense block.
#[derive(Module, Debug)]
struct Rrdb {
    rdb1: DenseBlock,
    rdb2: DenseBlock,
    rdb3: DenseBlock,
}

impl Rrdb {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = self.rdb3.forward(self.rdb2.forward(self.rdb1.forward(x.clone())));
        inner * RESIDUAL_SCALE + x
    }
}

/// Five convolutions, each of which sees all before it.
#[derive(Module, Debug)]
struct DenseBlock {
    conv1: Conv,
    conv2: Conv,
    conv3: Conv,
    conv4: Conv,
    conv5: Conv,
}

impl DenseBlock {
    fn init(nf: usize, gc: usize, seeded: &mut Seeded) -> Self {
        let mut conv =
            |known: usize, out: usize| ConvConfig::new(known, out).kaiming(DENSE_INIT_SCALE).init(seeded);
        Self {
            conv1: conv(nf, gc),
            conv2: conv(nf + gc, gc),
            conv3: conv(nf + 2 * gc, gc),
            conv4: conv(nf + 3 * gc, gc),
            conv5: conv(nf + 4 * gc, nf),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut known = vec![x.clone()];
        for conv in [&self.conv1, &self.conv2, &self.conv3, &self.conv4] {
            known.push(leaky_relu(conv.forward(Tensor::cat(known.clone(), 1)), LEAK));
        }
        self.conv5.forward(Tensor::cat(known, 1)) * RESIDUAL_SCALE + x
    }
}
