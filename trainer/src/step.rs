//! One optimiser step: the networks with their optimisers, and what the two kinds of stage do with a batch.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use remaster_domain::ModelArch;
use remaster_model::{
    Generator, ModelError, Seeded, UnetDiscriminator, UnetDiscriminatorConfig, Vgg19, read_state, write_state,
};

use crate::TrainError;
use crate::adam::Adam;
use crate::data::Batch;
use crate::ema;
use crate::loss::{l1, perceptual, relative, says_fake, says_real};
use crate::recipe::{GanKind, NetworkD, Optim, PixelOpt, Recipe, Stage};

/// Keeps the discriminator's first weights apart from the generator's.
const DISCRIMINATOR_SEED: u64 = 0x5eed_d15c;

/// Losses of a step by BasicSR's names, after their weights where they have one.
pub type Losses = Vec<(&'static str, f32)>;

/// What a step minimises and how fast it may move.
#[derive(Debug, Clone, Copy)]
pub struct Objective<'a> {
    /// The stage with its weights.
    pub stage: &'a Stage,
    /// Steps of the stage done before.
    pub stage_step: u64,
    /// VGG19, where its weights are there.
    pub vgg: Option<&'a Vgg19>,
}

/// Everything that a step changes.
#[derive(Debug, Clone)]
pub struct Networks {
    /// The live generator.
    pub generator: Generator,
    /// Its moving average, without gradients.
    pub ema: Generator,
    /// Only in a stage that has `gan_opt`.
    pub discriminator: Option<UnetDiscriminator>,
    /// The generator's optimiser.
    pub optim_g: Adam,
    /// The discriminator's optimiser.
    pub optim_d: Adam,
}

impl Networks {
    /// Networks of the first stage, drawn from the seed.
    ///
    /// # Errors
    /// [`ModelError::Arch`] for sizes that do not exist.
    pub fn new(
        arch: &ModelArch,
        scale: u32,
        recipe: &Recipe,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let generator = Generator::new(arch, scale, seed, &device.clone().autodiff())?;
        Self::of_stage(generator, recipe, 0, seed, device)
    }

    /// Networks of the next stage: the generator starts from the average of this one, the optimisers afresh.
    ///
    /// # Errors
    /// As [`Networks::new`].
    pub fn into_stage(
        self,
        recipe: &Recipe,
        stage: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let generator = write_state(self.generator, &read_state(&self.ema))?;
        Self::of_stage(generator, recipe, stage, seed, device)
    }

    fn of_stage(
        generator: Generator,
        recipe: &Recipe,
        stage: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let stage = &recipe.stages[stage];
        Ok(Self {
            ema: generator.valid(),
            generator,
            discriminator: new_discriminator(recipe, stage, seed, device)?,
            optim_g: Adam::new(betas(stage.optim_g)),
            optim_d: Adam::new(betas(stage.optim_d.unwrap_or(stage.optim_g))),
        })
    }

    /// One step on a batch.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] names the loss that is no number any more; nothing was changed by it.
    pub fn step(
        &mut self,
        batch: &Batch,
        objective: Objective<'_>,
        device: &Device,
    ) -> Result<Losses, TrainError> {
        let (lr, hr) = tensors(batch, &device.clone().autodiff());
        let stage = objective.stage;
        let rate = |optim: Optim| {
            let Optim::Adam { lr, .. } = optim;
            stage
                .scheduler
                .rate(lr, objective.stage_step, stage.total_iter, stage.warmup_iter)
        };
        let discriminator = self.discriminator.take().map(UnetDiscriminator::refresh);
        let real_logits = discriminator.as_ref().map(|d| d.forward(hr.clone()));
        let fake = self.generator.forward(lr);

        let frozen = discriminator.clone().map(UnetDiscriminator::no_grad);
        let sums = generator_losses(&fake, &hr, objective, frozen.as_ref(), real_logits.as_ref());
        let (total, mut losses) = add_up(sums, batch.number)?;
        let gradients = GradientsParams::from_grads(total.backward(), &self.generator);
        self.generator = self
            .optim_g
            .step(rate(stage.optim_g), self.generator.clone(), gradients);

        if let (Some(discriminator), Some(real_logits), Some(gan)) =
            (discriminator, real_logits, stage.gan_opt)
        {
            let fake_logits = discriminator.forward(fake.detach());
            let sums = discriminator_losses(real_logits, fake_logits, gan.kind);
            let (total, of_d) = add_up(sums, batch.number)?;
            let gradients = GradientsParams::from_grads(total.backward(), &discriminator);
            let rate = rate(stage.optim_d.unwrap_or(stage.optim_g));
            self.discriminator = Some(self.optim_d.step(rate, discriminator, gradients));
            losses.extend(of_d);
        }
        let decay = ema::decay_at(objective.stage_step, stage.ema_decay);
        self.ema = ema::follow(self.ema.clone(), &self.generator.valid(), decay);
        Ok(losses)
    }
}

/// The moments' decay of an optimiser.
#[must_use]
pub fn betas(optim: Optim) -> [f32; 2] {
    let Optim::Adam { betas, .. } = optim;
    betas
}

/// A discriminator where the stage has one.
///
/// # Errors
/// [`ModelError::Arch`] for sizes that do not exist.
pub fn new_discriminator(
    recipe: &Recipe,
    stage: &Stage,
    seed: u64,
    device: &Device,
) -> Result<Option<UnetDiscriminator>, ModelError> {
    match (&recipe.network_d, stage.gan_opt) {
        (Some(NetworkD::UnetSn { num_feat }), Some(_)) => {
            let mut seeded = Seeded::new(seed ^ DISCRIMINATOR_SEED, &device.clone().autodiff());
            UnetDiscriminatorConfig {
                num_feat: *num_feat as usize,
            }
            .init(&mut seeded)
            .map(Some)
        }
        _ => Ok(None),
    }
}

fn tensors(batch: &Batch, device: &Device) -> (Tensor<4>, Tensor<4>) {
    let tensor = |values: &[f32], side: usize| {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [batch.count, 3, side, side]),
            device,
        )
    };
    (
        tensor(&batch.lr, batch.lq_size_px),
        tensor(&batch.hr, batch.gt_size_px),
    )
}

fn generator_losses(
    fake: &Tensor<4>,
    hr: &Tensor<4>,
    objective: Objective<'_>,
    frozen: Option<&UnetDiscriminator>,
    real_logits: Option<&Tensor<4>>,
) -> Vec<(&'static str, Tensor<1>)> {
    let stage = objective.stage;
    let mut losses = Vec::new();
    if let Some(PixelOpt::L1 { loss_weight }) = stage.pixel_opt {
        losses.push(("l_g_pix", l1(fake.clone(), hr.clone()) * loss_weight));
    }
    if let (Some(opt), Some(vgg)) = (stage.perceptual_opt, objective.vgg) {
        losses.push((
            "l_g_percep",
            perceptual(vgg, fake.clone(), hr.clone()) * opt.loss_weight,
        ));
    }
    if let (Some(gan), Some(frozen), Some(real_logits)) = (stage.gan_opt, frozen, real_logits) {
        let (real, fake) = (real_logits.clone().detach(), frozen.forward(fake.clone()));
        let loss = match gan.kind {
            GanKind::Vanilla => says_real(fake),
            GanKind::Ragan => {
                (says_fake(relative(real.clone(), fake.clone())) + says_real(relative(fake, real))) / 2.0
            }
        };
        losses.push(("l_g_gan", loss * gan.loss_weight));
    }
    losses
}

/// Each side is compared with the other one held fixed, as BasicSR's two backward passes do.
fn discriminator_losses(real: Tensor<4>, fake: Tensor<4>, kind: GanKind) -> Vec<(&'static str, Tensor<1>)> {
    match kind {
        GanKind::Vanilla => vec![("l_d_real", says_real(real)), ("l_d_fake", says_fake(fake))],
        GanKind::Ragan => {
            let of_real = says_real(relative(real.clone(), fake.clone().detach()));
            let of_fake = says_fake(relative(fake, real.detach()));
            vec![("l_d_real", of_real / 2.0), ("l_d_fake", of_fake / 2.0)]
        }
    }
}

/// The sum to minimise, and each part on the host. Checked before anything moves.
fn add_up(parts: Vec<(&'static str, Tensor<1>)>, step: u64) -> Result<(Tensor<1>, Losses), TrainError> {
    let mut losses = Losses::new();
    let mut total: Option<Tensor<1>> = None;
    for (loss, part) in parts {
        let value: f32 = part.clone().inner().into_scalar();
        if !value.is_finite() {
            return Err(TrainError::Diverged { loss, value, step });
        }
        losses.push((loss, value));
        total = Some(total.map_or(part.clone(), |total| total + part));
    }
    Ok((total.expect("a checked stage has pixel_opt or gan_opt"), losses))
}
