//! The model card: everything that inference must do again in the same way as training did.

use serde::{Deserialize, Serialize};

use crate::{ColourTransform, ContentHash, Lattice, ModelPixels, Rational, RunId};

/// The network's shape, enough to build it before its weights are loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ModelArch {
    /// RRDBNet (ESRGAN, arXiv 1809.00219). `unshuffle` 1 is the plain form; 2 or 4 first folds pixels into channels.
    RrdbNet {
        /// Features.
        num_feat: u32,
        /// RRDB blocks.
        num_block: u32,
        /// Growth channels.
        num_grow_ch: u32,
        /// Pixel-unshuffle factor before the first convolution.
        unshuffle: u32,
    },
    /// SRVGGNetCompact (Real-ESRGAN).
    Compact {
        /// Features.
        num_feat: u32,
        /// Convolutions between the first and the last.
        num_conv: u32,
    },
}

/// How a decoded frame became the RGB that the network was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputColour {
    /// Matrix: `bt601` or `bt709`.
    pub matrix: String,
    /// Range: `tv` or `pc`.
    pub range: String,
}

/// One named training stage and what validation said of its EMA weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageMetrics {
    /// Stage name (`l1`, `gan`).
    pub stage: String,
    /// Steps of this stage.
    pub steps: u64,
    /// Y-PSNR on held-out pairs in dB, where there were any.
    pub psnr_y: Option<f64>,
}

/// `models/<id>/card.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Format version, 1.
    pub version: u32,
    /// The network.
    pub arch: ModelArch,
    /// Output pixels per input pixel.
    pub scale: u32,
    /// Lattice of the pairs it was trained on.
    pub lattice: Lattice,
    /// Pixel aspect of the LR pictures it was trained on.
    pub sar: Option<Rational>,
    /// Lines that a whole SD frame is resampled to before the network sees it; none where it sees SD's own lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_lines: Option<u32>,
    /// How YUV became RGB.
    pub input_colour: InputColour,
    /// Chroma upsampling: `bilinear-left` (MPEG-2 siting).
    pub chroma_filter: String,
    /// Whose colours the targets have: `sd` or `hd`.
    pub colour_target: String,
    /// Median over the season of the transform from SD colours back to HD colours.
    pub colour_cube: Option<ColourTransform>,
    /// Run it came from.
    pub run: Option<RunId>,
    /// sha256 of the dataset manifest.
    pub dataset: Option<ContentHash>,
    /// The recipe as TOML text.
    pub recipe: Option<String>,
    /// Validation of each stage so far.
    pub metrics: Vec<StageMetrics>,
    /// Model that training started from, or the stage before.
    pub parent: Option<ContentHash>,
    /// What may be done with it.
    pub licence_note: String,
}

impl ModelCard {
    /// The pixels that the network must be shown.
    #[must_use]
    pub fn pixels(&self) -> ModelPixels {
        match (self.input_lines, self.sar) {
            (Some(lines), sar) => ModelPixels::OnLines {
                lines,
                sar: sar.unwrap_or(Rational { num: 1, den: 1 }),
            },
            (None, Some(sar)) => ModelPixels::OfAspect(sar),
            (None, None) => ModelPixels::Any,
        }
    }

    /// What weights without a card are taken for: trained on frames as they lie on a DVD, BT.601 made RGB, and keeping
    /// their input's colours.
    #[must_use]
    pub fn assumed(arch: ModelArch, scale: u32) -> Self {
        Self {
            version: 1,
            arch,
            scale,
            lattice: Lattice::SdNative,
            sar: None,
            input_lines: None,
            input_colour: InputColour {
                matrix: "bt601".to_owned(),
                range: "tv".to_owned(),
            },
            chroma_filter: "bilinear-left".to_owned(),
            colour_target: "sd".to_owned(),
            colour_cube: None,
            run: None,
            dataset: None,
            recipe: None,
            metrics: Vec::new(),
            parent: None,
            licence_note: "unknown: the model came without a card".to_owned(),
        }
    }
}
