//! `[[stage]]`: how long, how fast and against what. Every loss has a weight and may begin late or rise slowly.

use std::collections::BTreeMap;

use remaster_model::VggTap;
use serde::Deserialize;

use crate::schedule::Scheduler;

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
    /// Longest step: gradients whose norm over all parameters is larger are scaled down to it. Each network by itself.
    pub grad_clip: Option<f64>,
    /// Steps at the start in which only the discriminator learns.
    #[serde(default)]
    pub net_d_init_iters: u64,
    /// Share of the old weights that the moving average keeps at each step.
    #[serde(default = "default_ema_decay")]
    pub ema_decay: f64,
    /// Pixel by pixel.
    pub pixel_opt: Option<PixelOpt>,
    /// L1 on VGG19 features; off where there are no weights.
    pub perceptual_opt: Option<PerceptualOpt>,
    /// Adversarial loss.
    pub gan_opt: Option<GanOpt>,
    /// Others.
    #[serde(default)]
    pub losses: Vec<Loss>,
}

/// `optim_g`, `optim_d`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optim {
    /// Which rule.
    #[serde(rename = "type")]
    pub kind: OptimKind,
    /// Learning rate before the scheduler.
    pub lr: f64,
    /// Decay of the first and second moment.
    #[serde(default = "default_betas")]
    pub betas: [f32; 2],
    /// Share of a weight taken off at each step, times the learning rate. AdamW alone takes it.
    #[serde(default)]
    pub weight_decay: f64,
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OptimKind {
    /// Adam (arXiv 1412.6980).
    Adam,
    /// Adam with decay beside the moments (arXiv 1711.05101).
    AdamW,
}

/// `pixel_opt`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelOpt {
    /// Which difference.
    #[serde(rename = "type")]
    pub kind: PixelKind,
    /// Weight.
    pub loss_weight: f64,
    /// Step of the stage at which it begins.
    #[serde(default)]
    pub start_iter: u64,
    /// Steps in which its weight rises from 0.
    #[serde(default)]
    pub ramp_iter: u64,
}

/// Which pixel loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PixelKind {
    /// Mean absolute difference.
    #[serde(alias = "L1Loss")]
    L1,
    /// Its smooth form.
    #[serde(alias = "CharbonnierLoss")]
    Charbonnier,
}

/// Which features of VGG19 count how much: `{ conv5_4 = 1.0 }`, before its ReLU, where nothing is said, as in the paper.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>")]
pub struct LayerWeights(BTreeMap<VggTap, f64>);

impl LayerWeights {
    /// In the network's order; never empty.
    #[must_use]
    pub const fn of_taps(&self) -> &BTreeMap<VggTap, f64> {
        &self.0
    }
}

impl Default for LayerWeights {
    fn default() -> Self {
        Self(BTreeMap::from([(VggTap::CONV5_4, 1.0)]))
    }
}

impl TryFrom<BTreeMap<String, f64>> for LayerWeights {
    type Error = String;

    fn try_from(named: BTreeMap<String, f64>) -> Result<Self, String> {
        if named.is_empty() {
            return Err("layer_weights names no layer: leave it out for conv5_4".to_owned());
        }
        let each = named.into_iter().map(|(name, weight)| {
            if weight.is_finite() && weight > 0.0 {
                Ok((name.parse()?, weight))
            } else {
                Err(format!(
                    "layer_weights: `{name}` is {weight}, expected a number above 0"
                ))
            }
        });
        Ok(Self(each.collect::<Result<_, _>>()?))
    }
}

/// `perceptual_opt`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualOpt {
    /// Layers.
    #[serde(default)]
    pub layer_weights: LayerWeights,
    /// Weight.
    pub loss_weight: f64,
    /// Step of the stage at which it begins.
    #[serde(default)]
    pub start_iter: u64,
    /// Steps in which its weight rises from 0.
    #[serde(default)]
    pub ramp_iter: u64,
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
    /// Step of the stage at which the generator begins to hear of it.
    #[serde(default)]
    pub start_iter: u64,
    /// Steps in which its weight rises from 0.
    #[serde(default)]
    pub ramp_iter: u64,
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

/// One of `losses`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Which.
    #[serde(rename = "type")]
    pub kind: LossKind,
    /// Weight.
    pub loss_weight: f64,
    /// Step of the stage at which it begins.
    #[serde(default)]
    pub start_iter: u64,
    /// Steps in which its weight rises from 0.
    #[serde(default)]
    pub ramp_iter: u64,
}

/// Which further loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LossKind {
    /// Structure at several sizes.
    #[serde(rename = "MSSSIMLoss", alias = "MSSIMLoss")]
    MsSsim,
    /// Artefacts that the moving average does not have.
    #[serde(rename = "LDLLoss")]
    Ldl,
    /// Fourier transforms.
    #[serde(rename = "FFTLoss")]
    Fft,
    /// Averaged chroma.
    #[serde(rename = "ColorLoss")]
    Colour,
}

/// A weight over a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// Weight in the end.
    pub weight: f64,
    /// Step of the stage at which it begins.
    pub start_iter: u64,
    /// Steps in which it rises.
    pub ramp_iter: u64,
}

impl Ramp {
    /// The weight at a step of the stage, counted from 0.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        match step.checked_sub(self.start_iter) {
            None => 0.0,
            Some(since) if since < self.ramp_iter => self.weight * (since + 1) as f64 / self.ramp_iter as f64,
            Some(_) => self.weight,
        }
    }
}

impl Stage {
    /// Weights of all its losses with what people call them.
    #[must_use]
    pub fn ramps(&self) -> Vec<(&'static str, Ramp)> {
        let mut ramps = Vec::new();
        ramps.extend(self.pixel_opt.map(|opt| ("pixel_opt", opt.ramp())));
        ramps.extend(
            self.perceptual_opt
                .as_ref()
                .map(|opt| ("perceptual_opt", opt.ramp())),
        );
        ramps.extend(self.gan_opt.map(|opt| ("gan_opt", opt.ramp())));
        ramps.extend(self.losses.iter().map(|loss| ("losses", loss.ramp())));
        ramps
    }
}

macro_rules! ramp {
    ($($of:ty),*) => {$(
        impl $of {
            /// Its weight over the stage.
            #[must_use]
            pub const fn ramp(&self) -> Ramp {
                Ramp { weight: self.loss_weight, start_iter: self.start_iter, ramp_iter: self.ramp_iter }
            }
        }
    )*};
}
ramp!(PixelOpt, PerceptualOpt, GanOpt, Loss);

fn default_ema_decay() -> f64 {
    0.999
}

fn default_betas() -> [f32; 2] {
    [0.9, 0.99]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_begins_late_and_rises_slowly() {
        let ramp = Ramp {
            weight: 2.0,
            start_iter: 3,
            ramp_iter: 4,
        };
        assert_eq!(
            [0, 2, 3, 4, 6, 7, 100].map(|step| ramp.at(step)),
            [0.0, 0.0, 0.5, 1.0, 2.0, 2.0, 2.0]
        );
        let plain = Ramp {
            weight: 2.0,
            start_iter: 0,
            ramp_iter: 0,
        };
        assert_eq!(plain.at(0), 2.0);
    }
}
