//! A recipe: one TOML file that says everything of a run but its data. Words are BasicSR's, which people know. An
//! unknown key is refused with the nearest known one, since a misspelt weight would otherwise cost a night of
//! training.

mod degradation;
mod difference;
mod limits;
#[cfg(test)]
mod mutation_tests;
mod network;
mod resolve;
mod stage;

use std::path::PathBuf;

use remaster_domain::Precision;
use serde::Deserialize;

use crate::data::Synthetic;

pub use degradation::{Degradation, Pass};
pub use difference::differences;
pub use network::{NetworkD, NetworkG};
pub use stage::{
    GanKind, GanOpt, LayerWeights, Loss, LossKind, Optim, OptimKind, PerceptualOpt, PixelKind, PixelOpt,
    Ramp, Stage,
};

/// One run but for its data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name for people.
    pub name: String,
    /// Output pixels per input pixel; where given it must be the dataset's.
    pub scale: Option<u32>,
    /// Seed for a local run; a season's own seed goes before it.
    pub manual_seed: Option<u64>,
    /// What both networks count in while they learn: `f32`, or `bf16` and `f16`, meant for GPUs. Weights, losses, averages
    /// and optimisers stay f32; in f16 the losses are scaled so that small gradients are not lost.
    #[serde(default)]
    pub precision: Precision,
    /// Generator.
    pub network_g: NetworkG,
    /// Discriminator, needed by a stage with `gan_opt`.
    pub network_d: Option<NetworkD>,
    /// What is read.
    pub datasets: Datasets,
    /// Files on the trainer's machine.
    #[serde(default)]
    pub path: Paths,
    /// Stages in order; each starts from the EMA weights of the one before.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// Mixtures of two stages' weights, made and judged when the last stage has ended.
    #[serde(default)]
    pub interpolation: Vec<Interpolation>,
    /// How it is judged on the way.
    #[serde(default)]
    pub val: Val,
    /// What is written.
    #[serde(default)]
    pub logger: Logger,
    /// Data of a local run.
    pub dataset: Option<LocalDataset>,
}

/// `[datasets]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datasets {
    /// `[datasets.train]`.
    pub train: TrainData,
}

/// `[datasets.train]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainData {
    /// Side of an HR crop; or give `lq_size`.
    pub gt_size: Option<u32>,
    /// Side of an LR crop; or give `gt_size`.
    pub lq_size: Option<u32>,
    /// Crops in a batch.
    pub batch_size: usize,
    /// Mirror half of the crops.
    #[serde(default = "default_true")]
    pub use_hflip: bool,
    /// Turn crops by quarters and upside down.
    #[serde(default = "default_true")]
    pub use_rot: bool,
    /// Crops taken from a decoded pair before the next is read.
    #[serde(default = "default_crops_per_pair")]
    pub crops_per_pair: usize,
    /// Batches whose gradients make one step.
    #[serde(default = "default_accum_iter")]
    pub accum_iter: usize,
    /// Batches made ahead.
    #[serde(default = "default_prefetch")]
    pub prefetch: usize,
    /// Learn from the pairs of episodes that have a Blu-ray alone, too, whose LR was made from HR at extraction. No validation
    /// uses them.
    #[serde(default)]
    pub use_synthetic_pairs: bool,
    /// Share of the crops whose LR is made from HR instead of taken from the disc.
    #[serde(default)]
    pub synthetic_prob: f64,
    /// How it is made; as Real-ESRGAN does where it is left out.
    pub degradation: Option<Degradation>,
}

impl TrainData {
    /// What is made rather than read, if anything.
    #[must_use]
    pub fn synthetic(&self) -> Option<Synthetic> {
        (self.synthetic_prob > 0.0).then(|| Synthetic {
            prob: self.synthetic_prob,
            degradation: self.degradation.unwrap_or_default(),
        })
    }

    fn check_synthetic(&self) -> Result<(), String> {
        degradation::check_share("synthetic_prob", self.synthetic_prob)?;
        match &self.degradation {
            Some(_) if self.synthetic_prob == 0.0 => {
                Err("degradation needs synthetic_prob above 0".to_owned())
            }
            Some(degradation) => degradation.check(),
            None => Ok(()),
        }
    }
}

/// `[path]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Weights to start the first stage from: .safetensors, .pth or ncnn, of the very network of `[network_g]`.
    pub pretrain_network_g: Option<PathBuf>,
    /// VGG19 as .safetensors or .pth with torchvision's keys.
    pub perceptual_weights: Option<PathBuf>,
    /// Files, .pth or .safetensors, that hold a trunk (torchvision's AlexNet or VGG16) and LPIPS' heads for it: validations
    /// then say how far pictures look from HD, and the nearest weights are kept.
    #[serde(default)]
    pub lpips_weights: Vec<PathBuf>,
    /// The same for DISTS: torchvision's VGG16 and the published `alpha` and `beta`.
    #[serde(default)]
    pub dists_weights: Vec<PathBuf>,
}

/// `[dataset]`, for `train RECIPE.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalDataset {
    /// The manifest, relative to the recipe.
    pub manifest: PathBuf,
    /// The store with its shards; the manifest's own folder where it is left out.
    pub store: Option<String>,
}

/// `[[interpolation]]`: `(1 - alpha) * from + alpha * to`, parameter by parameter. ESRGAN's way to trade what a GAN
/// invents for what is there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpolation {
    /// Name; becomes a channel of the season as a stage's does.
    pub name: String,
    /// Stage at 0.
    pub from: String,
    /// Stage at 1.
    pub to: String,
    /// Where between them.
    pub alpha: f64,
}

/// `[val]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Val {
    /// Steps between validations; 0 validates at the end of each stage alone.
    pub val_freq: u64,
    /// Validations without a better Y-PSNR after which a stage ends early; 0 never does. For stages without `gan_opt`,
    /// whose Y-PSNR falls while they get better to look at.
    pub early_stop: u64,
}

/// `[logger]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logger {
    /// Steps between log lines.
    pub print_freq: u64,
    /// Steps between checkpoints.
    pub save_checkpoint_freq: u64,
    /// Seconds after which a checkpoint is due in any case: what a lost trainer costs at most.
    pub save_checkpoint_seconds: u64,
    /// Checkpoints that a local run keeps.
    pub keep_checkpoints: usize,
}

impl Default for Logger {
    fn default() -> Self {
        Self {
            print_freq: 100,
            save_checkpoint_freq: 5_000,
            save_checkpoint_seconds: 600,
            keep_checkpoints: 3,
        }
    }
}

fn default_true() -> bool {
    true
}
fn default_crops_per_pair() -> usize {
    8
}
fn default_prefetch() -> usize {
    4
}
fn default_accum_iter() -> usize {
    1
}
