//! A recipe: one TOML file that says everything of a run but its data. Words are BasicSR's, which people know. An unknown key
//! is refused with the nearest known one, since a misspelt weight would otherwise cost a night of training.

use std::path::PathBuf;

use remaster_domain::ModelArch;
use serde::Deserialize;

use crate::TrainError;
use crate::schedule::Scheduler;

/// Ready recipes by name.
const READY: [(&str, &str); 5] = [
    ("esrgan", include_str!("../recipes/esrgan.toml")),
    ("esrgan-lite", include_str!("../recipes/esrgan-lite.toml")),
    ("compact", include_str!("../recipes/compact.toml")),
    ("demo", include_str!("../recipes/demo.toml")),
    (
        "demo-esrgan-lite",
        include_str!("../recipes/demo-esrgan-lite.toml"),
    ),
];
/// The U-Net halves its input three times.
const GAN_CROP_MULTIPLE_PX: u32 = 8;

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
    /// What is written.
    #[serde(default)]
    pub logger: Logger,
    /// Data of a local run.
    pub dataset: Option<LocalDataset>,
}

/// `[network_g]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum NetworkG {
    /// ESRGAN's generator.
    #[serde(rename = "RRDBNet")]
    RrdbNet {
        /// Features.
        num_feat: u32,
        /// RRDB blocks.
        num_block: u32,
        /// Growth channels.
        #[serde(default = "default_num_grow_ch")]
        num_grow_ch: u32,
        /// Pixel-unshuffle factor.
        #[serde(default = "default_unshuffle")]
        unshuffle: u32,
    },
    /// Real-ESRGAN's small generator.
    #[serde(rename = "SRVGGNetCompact")]
    Compact {
        /// Features.
        num_feat: u32,
        /// Convolutions between the first and the last.
        num_conv: u32,
    },
}

impl NetworkG {
    /// As the model card names it.
    #[must_use]
    pub fn arch(&self) -> ModelArch {
        match *self {
            Self::RrdbNet {
                num_feat,
                num_block,
                num_grow_ch,
                unshuffle,
            } => ModelArch::RrdbNet {
                num_feat,
                num_block,
                num_grow_ch,
                unshuffle,
            },
            Self::Compact { num_feat, num_conv } => ModelArch::Compact { num_feat, num_conv },
        }
    }

    fn unshuffle(&self) -> u32 {
        match self {
            Self::RrdbNet { unshuffle, .. } => *unshuffle,
            Self::Compact { .. } => 1,
        }
    }
}

/// `[network_d]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum NetworkD {
    /// Real-ESRGAN's discriminator.
    #[serde(rename = "UNetDiscriminatorSN")]
    UnetSn {
        /// Features of its first layer.
        num_feat: u32,
    },
}

/// `[datasets]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datasets {
    /// `[datasets.train]`.
    pub train: TrainData,
}

/// `[datasets.train]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// Batches made ahead.
    #[serde(default = "default_prefetch")]
    pub prefetch: usize,
}

/// `[path]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// VGG19 as safetensors with torchvision's keys.
    pub perceptual_weights: Option<PathBuf>,
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

/// `[[stage]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Name (`l1`, `gan`); becomes a channel of the season.
    pub name: String,
    /// Steps.
    pub total_iter: u64,
    /// The generator's optimiser.
    pub optim_g: Optim,
    /// The discriminator's optimiser; as `optim_g` where left out.
    pub optim_d: Option<Optim>,
    /// Learning rate over the stage; constant where left out.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Steps in which the learning rate rises from 0.
    #[serde(default)]
    pub warmup_iter: u64,
    /// Share of the old weights that the moving average keeps at each step.
    #[serde(default = "default_ema_decay")]
    pub ema_decay: f64,
    /// L1 on pixels.
    pub pixel_opt: Option<PixelOpt>,
    /// L1 on VGG19 features; off where there are no weights.
    pub perceptual_opt: Option<PerceptualOpt>,
    /// Adversarial loss.
    pub gan_opt: Option<GanOpt>,
}

/// `optim_g`, `optim_d`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Optim {
    /// Adam (arXiv 1412.6980).
    Adam {
        /// Learning rate before the scheduler.
        lr: f64,
        /// Decay of the first and second moment.
        #[serde(default = "default_betas")]
        betas: [f32; 2],
    },
}

/// `pixel_opt`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PixelOpt {
    /// Mean absolute difference.
    L1 {
        /// Weight.
        loss_weight: f64,
    },
}

/// `perceptual_opt`: VGG19's conv5_4 before its ReLU, as in the paper.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualOpt {
    /// Weight.
    pub loss_weight: f64,
}

/// `gan_opt`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanOpt {
    /// Which adversarial loss.
    #[serde(rename = "type")]
    pub kind: GanKind,
    /// Weight in the generator's loss; the discriminator's own is 1.
    pub loss_weight: f64,
}

/// Which adversarial loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GanKind {
    /// Relativistic average, ESRGAN's.
    Ragan,
    /// Plain cross-entropy, Real-ESRGAN's.
    Vanilla,
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
}

impl Default for Logger {
    fn default() -> Self {
        Self {
            print_freq: 100,
            save_checkpoint_freq: 5_000,
            save_checkpoint_seconds: 600,
        }
    }
}

fn default_num_grow_ch() -> u32 {
    32
}
fn default_unshuffle() -> u32 {
    1
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
fn default_ema_decay() -> f64 {
    0.999
}
fn default_betas() -> [f32; 2] {
    [0.9, 0.99]
}

impl Recipe {
    /// A ready recipe by name, or TOML text.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with what is wrong and, for a misspelt key, what was probably meant.
    pub fn resolve(name_or_text: &str) -> Result<Self, TrainError> {
        let ready = READY.iter().find(|(name, _)| *name == name_or_text.trim());
        match ready {
            Some((_, text)) => Self::parse(text),
            None if is_name(name_or_text) => Err(unknown_name(name_or_text)),
            None => Self::parse(name_or_text),
        }
    }

    /// The TOML of a ready recipe, the text itself otherwise: what a model card keeps.
    #[must_use]
    pub fn text_of(name_or_text: &str) -> &str {
        let ready = READY.iter().find(|(name, _)| *name == name_or_text.trim());
        ready.map_or(name_or_text, |(_, text)| text)
    }

    fn parse(text: &str) -> Result<Self, TrainError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            TrainError::Recipe(format!("{place}{}", with_nearest_key(error.message())))
        })?;
        recipe.check().map_err(TrainError::Recipe)?;
        Ok(recipe)
    }

    /// Side of an LR crop at a scale.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] when crop and scale do not fit together or the recipe is for another scale.
    pub fn lq_size_px(&self, scale: u32) -> Result<u32, TrainError> {
        let wrong = |text: String| Err(TrainError::Recipe(text));
        if let Some(own) = self.scale.filter(|own| *own != scale) {
            return wrong(format!("scale is {own}, but the dataset's is {scale}"));
        }
        let train = &self.datasets.train;
        let lq_size = match (train.gt_size, train.lq_size) {
            (Some(gt), _) if gt % scale != 0 => {
                return wrong(format!("gt_size {gt} does not divide by scale {scale}"));
            }
            (Some(gt), _) => gt / scale,
            (None, Some(lq)) => lq,
            (None, None) => return wrong("datasets.train needs gt_size or lq_size".to_owned()),
        };
        let has_gan = self.stages.iter().any(|stage| stage.gan_opt.is_some());
        if has_gan && (lq_size * scale) % GAN_CROP_MULTIPLE_PX != 0 {
            return wrong(format!(
                "HR crops of {} px do not divide by 8, which the discriminator needs",
                lq_size * scale
            ));
        }
        if lq_size == 0 || lq_size % self.network_g.unshuffle() != 0 {
            return wrong(format!(
                "LR crops of {lq_size} px do not divide by unshuffle {}",
                self.network_g.unshuffle()
            ));
        }
        Ok(lq_size)
    }

    /// Steps over all stages.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.total_iter).sum()
    }

    fn check(&self) -> Result<(), String> {
        let train = &self.datasets.train;
        if train.batch_size == 0 || train.crops_per_pair == 0 || train.prefetch == 0 {
            return Err("batch_size, crops_per_pair and prefetch must be at least 1".to_owned());
        }
        if train.gt_size.is_some() && train.lq_size.is_some() {
            return Err("datasets.train takes gt_size or lq_size, not both".to_owned());
        }
        if self.stages.is_empty() {
            return Err("there is no [[stage]]".to_owned());
        }
        for (position, stage) in self.stages.iter().enumerate() {
            self.check_stage(position, stage)
                .map_err(|text| format!("stage `{}`: {text}", stage.name))?;
        }
        let frequencies = [self.logger.print_freq, self.logger.save_checkpoint_freq];
        if frequencies.contains(&0) {
            Err("print_freq and save_checkpoint_freq must be at least 1".to_owned())
        } else {
            Ok(())
        }
    }

    fn check_stage(&self, position: usize, stage: &Stage) -> Result<(), String> {
        let plain = stage.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if stage.name.is_empty() || !plain {
            return Err("the name may have letters, digits and - only".to_owned());
        }
        if self.stages[..position]
            .iter()
            .any(|other| other.name == stage.name)
        {
            return Err("the name is used twice".to_owned());
        }
        if stage.total_iter == 0 {
            return Err("total_iter must be at least 1".to_owned());
        }
        if stage.gan_opt.is_some() && self.network_d.is_none() {
            return Err("gan_opt needs [network_d]".to_owned());
        }
        if stage.pixel_opt.is_none() && stage.gan_opt.is_none() {
            return Err(
                "needs pixel_opt or gan_opt: perceptual_opt alone is off without its weights".to_owned(),
            );
        }
        if !(0.0..1.0).contains(&stage.ema_decay) {
            return Err(format!("ema_decay is {}, expected 0 to below 1", stage.ema_decay));
        }
        stage.scheduler.check()
    }
}

fn is_name(text: &str) -> bool {
    !text.contains('=')
}

fn unknown_name(name: &str) -> TrainError {
    let names: Vec<_> = READY.iter().map(|(name, _)| *name).collect();
    TrainError::Recipe(format!(
        "`{}` is not a ready recipe: use {} or a TOML file",
        name.trim(),
        names.join(", ")
    ))
}

/// The parser names the unknown key and the known ones in backticks; the nearest of these is put first.
fn with_nearest_key(message: &str) -> String {
    let message = message.trim();
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(unknown), true) = (quoted.next(), is_unknown) else {
        return message.to_owned();
    };
    let nearest =
        quoted.max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    match nearest {
        Some(nearest) => format!("unknown key or value `{unknown}`, did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn error_of(text: &str) -> String {
        Recipe::resolve(text).unwrap_err().to_string()
    }

    fn demo_with(from: &str, to: &str) -> String {
        let text = Recipe::text_of("demo");
        assert!(text.contains(from), "`{from}` is not in the recipe");
        text.replacen(from, to, 1)
    }

    #[test]
    fn every_ready_recipe_is_usable_at_2x() {
        for (name, _) in READY {
            let recipe = Recipe::resolve(name).unwrap();
            assert_eq!(recipe.name, name);
            recipe.lq_size_px(2).unwrap();
            assert_eq!(
                recipe.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
                ["l1", "gan"]
            );
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_with_the_one_meant() {
        for (right, wrong) in [
            ("batch_size", "batch_sise"),
            ("num_conv", "num_convs"),
            ("total_iter", "total_iters"),
        ] {
            let error = error_of(&demo_with(right, wrong));
            assert!(
                error.contains(&format!("`{wrong}`, did you mean `{right}`?")),
                "{error}"
            );
        }
        let error = error_of(&demo_with("SRVGGNetCompact", "SRVGGNetCompct"));
        assert!(error.contains("did you mean `SRVGGNetCompact`?"), "{error}");
    }

    #[test]
    fn an_unknown_ready_name_lists_the_known_ones() {
        assert!(error_of("esrgun").contains("esrgan-lite"));
    }

    #[test]
    fn a_gan_stage_without_discriminator_is_refused() {
        let text = demo_with("[network_d]\ntype = \"UNetDiscriminatorSN\"\nnum_feat = 16\n", "");
        assert!(error_of(&text).contains("stage `gan`: gan_opt needs [network_d]"));
    }

    #[test]
    fn two_stages_of_one_name_and_stages_without_loss_are_refused() {
        assert!(error_of(&demo_with("name = \"gan\"", "name = \"l1\"")).contains("used twice"));
        let without = demo_with("pixel_opt = { type = \"L1\", loss_weight = 1.0 }", "");
        assert!(error_of(&without).contains("needs pixel_opt or gan_opt"));
    }

    #[test]
    fn crops_must_fit_scale_and_discriminator() {
        let recipe = |from: &str, to: &str| Recipe::resolve(&demo_with(from, to)).unwrap();
        assert!(recipe("lq_size = 48", "gt_size = 97").lq_size_px(2).is_err());
        assert!(recipe("lq_size = 48", "lq_size = 50").lq_size_px(2).is_err());
        assert!(
            recipe("name = \"demo\"", "name = \"demo\"\nscale = 4")
                .lq_size_px(2)
                .is_err()
        );
        assert_eq!(recipe("lq_size = 48", "gt_size = 96").lq_size_px(2).unwrap(), 48);
    }
}
