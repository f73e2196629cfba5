//! One optimiser step: the networks with their optimisers, and what the two kinds of stage do with a batch.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use remaster_domain::{ModelArch, Precision};
use remaster_model::{Discriminator, Generator, ModelError, Seeded, Vgg19, read_state, write_state};

use crate::TrainError;
use crate::adam::{Adam, Pace};
use crate::data::Batch;
use crate::ema;
use crate::guard::LossScale;
use crate::loss::{
    charbonnier, discriminator_losses, fft, generator_loss, l1, ldl, low_frequency_colour, ms_ssim,
    perceptual,
};
use crate::recipe::{LossKind, Optim, PixelKind, Ramp, Recipe, Stage};

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
    /// Part of the recipe's learning rates that is left after rollbacks.
    pub rate_share: f64,
}

impl Objective<'_> {
    fn pace(&self, optim: Optim) -> Pace {
        let stage = self.stage;
        let rate = stage
            .scheduler
            .rate(optim.lr, self.stage_step, stage.total_iter, stage.warmup_iter);
        Pace {
            rate: rate * self.rate_share,
            weight_decay: optim.weight_decay,
            norm_max: stage.grad_clip,
        }
    }
}

/// What a step found.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Losses.
    pub losses: Losses,
    /// Standard deviation of the generator's pictures over that of the wanted ones: near 1 when sound, near 0 when they
    /// are flat.
    pub spread: f32,
    /// Whether gradients overflowed, so that a network stayed as it was.
    pub overflowed: bool,
}

impl StepReport {
    fn mean_of(reports: Vec<Self>) -> Self {
        let count = reports.len().max(1) as f32;
        let mut reports = reports.into_iter();
        let mut sum = reports.next().unwrap_or(Self {
            losses: vec![],
            spread: 0.0,
            overflowed: false,
        });
        for report in reports {
            sum.spread += report.spread;
            for (into, (_, value)) in sum.losses.iter_mut().zip(report.losses) {
                into.1 += value;
            }
        }
        sum.spread /= count;
        sum.losses.iter_mut().for_each(|(_, value)| *value /= count);
        sum
    }
}

/// Everything that a step changes.
#[derive(Debug, Clone)]
pub struct Networks {
    /// The live generator.
    pub generator: Generator,
    /// Its moving average, without gradients.
    pub ema: Generator,
    /// Only in a stage that has `gan_opt`.
    pub discriminator: Option<Discriminator>,
    /// The generator's optimiser.
    pub optim_g: Adam,
    /// The discriminator's optimiser.
    pub optim_d: Adam,
    /// What generator and discriminator count in.
    pub precision: Precision,
    /// What losses are multiplied by, in f16.
    pub loss_scale: Option<LossScale>,
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

    /// The same with another generator, whose average starts at it.
    ///
    /// # Errors
    /// Whatever making it gives.
    pub fn with_generator<E>(self, make: impl FnOnce(Generator) -> Result<Generator, E>) -> Result<Self, E> {
        let generator = make(self.generator)?;
        let ema = generator.valid();
        Ok(Self {
            generator,
            ema,
            ..self
        })
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
            optim_g: Adam::new(stage.optim_g.betas),
            optim_d: Adam::new(stage.optim_d.unwrap_or(stage.optim_g).betas),
            precision: recipe.precision,
            loss_scale: LossScale::first(recipe.precision),
        })
    }

    /// One step on the mean gradient of some batches.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] names the loss that is no number any more; the networks are to be thrown away then.
    pub fn step(
        &mut self,
        batches: &[Batch],
        objective: Objective<'_>,
        device: &Device,
    ) -> Result<StepReport, TrainError> {
        self.discriminator = self.discriminator.take().map(Discriminator::refresh);
        let (mut of_g, mut of_d) = (GradientsAccumulator::new(), GradientsAccumulator::new());
        let mut reports = Vec::with_capacity(batches.len());
        let share = self.loss_scale.map_or(1.0, LossScale::factor) / batches.len() as f64;
        for batch in batches {
            let pass = self.pass(batch, objective, share, device)?;
            if let Some(gradients) = pass.of_g {
                of_g.accumulate(&self.generator, gradients);
            }
            if let (Some(gradients), Some(discriminator)) = (pass.of_d, &self.discriminator) {
                of_d.accumulate(discriminator, gradients);
            }
            reports.push(pass.report);
        }
        let mut report = StepReport::mean_of(reports);
        report.overflowed = !self.apply(objective, of_g.grads(), of_d.grads());
        self.rescale(report.overflowed, batches)?;
        Ok(report)
    }

    /// Moves both networks; false where one had gradients that overflowed and stayed as it was.
    fn apply(&mut self, objective: Objective<'_>, of_g: GradientsParams, of_d: GradientsParams) -> bool {
        let (stage, scale) = (objective.stage, self.loss_scale);
        let mut all_moved = true;
        if objective.stage_step >= stage.net_d_init_iters {
            let pace = objective.pace(stage.optim_g);
            let generator = self.generator.clone();
            let (generator, moved) = self.optim_g.step(pace, scale, generator, of_g);
            self.generator = generator;
            all_moved &= moved;
            let decay = ema::decay_at(objective.stage_step, stage.ema_decay);
            self.ema = ema::follow(self.ema.clone(), &self.generator.valid(), decay);
        }
        if let Some(discriminator) = self.discriminator.take() {
            let pace = objective.pace(stage.optim_d.unwrap_or(stage.optim_g));
            let (discriminator, moved) = self.optim_d.step(pace, scale, discriminator, of_d);
            self.discriminator = Some(discriminator);
            all_moved &= moved;
        }
        all_moved
    }

    /// The scale of the next step.
    fn rescale(&mut self, overflowed: bool, batches: &[Batch]) -> Result<(), TrainError> {
        let Some(scale) = self.loss_scale else {
            return Ok(());
        };
        let next = if overflowed {
            scale.backed_off()
        } else {
            Some(scale.calm())
        };
        self.loss_scale = Some(next.ok_or(TrainError::Diverged {
            loss: "a gradient",
            value: f32::INFINITY,
            step: batches.last().map_or(0, |batch| batch.number),
        })?);
        Ok(())
    }

    /// Losses, and their gradients times `share`, of one batch; changes nothing.
    fn pass(
        &self,
        batch: &Batch,
        objective: Objective<'_>,
        share: f64,
        device: &Device,
    ) -> Result<Pass, TrainError> {
        let pictures = Pictures::of(batch, &device.clone().autodiff());
        let (lr, hr, stage) = (&pictures.lr, &pictures.hr, objective.stage);
        let real_logits = self
            .discriminator
            .as_ref()
            .map(|d| d.forward_in(self.precision, hr.clone()));
        let fake = pictures.learnt(self.generator.forward_in(self.precision, lr.clone()));
        let spread = spread(&fake) / spread(hr).max(f32::MIN_POSITIVE);

        let (mut losses, mut of_g) = (Losses::new(), None);
        if objective.stage_step >= stage.net_d_init_iters {
            let sums = self.generator_losses(&fake, &pictures, objective, real_logits.as_ref());
            let (total, found) = add_up(sums, batch.number)?;
            of_g = Some(GradientsParams::from_grads(
                (total * share).backward(),
                &self.generator,
            ));
            losses = found;
        }
        let mut of_d = None;
        if let (Some(discriminator), Some(real_logits), Some(gan)) =
            (&self.discriminator, real_logits, stage.gan_opt)
        {
            let fake_logits = discriminator.forward_in(self.precision, fake.detach());
            let [of_real, of_fake] = discriminator_losses(gan.kind, real_logits, fake_logits);
            let (total, found) = add_up(vec![("l_d_real", of_real), ("l_d_fake", of_fake)], batch.number)?;
            of_d = Some(GradientsParams::from_grads(
                (total * share).backward(),
                discriminator,
            ));
            losses.extend(found);
        }
        let report = StepReport {
            losses,
            spread,
            overflowed: false,
        };
        Ok(Pass { of_g, of_d, report })
    }

    fn generator_losses(
        &self,
        fake: &Tensor<4>,
        pictures: &Pictures,
        objective: Objective<'_>,
        real_logits: Option<&Tensor<4>>,
    ) -> Vec<(&'static str, Tensor<1>)> {
        let (stage, step) = (objective.stage, objective.stage_step);
        let Pictures { lr, hr, .. } = pictures;
        let both = || (fake.clone(), hr.clone());
        let mut losses = Vec::new();
        let mut add = |name, ramp: Ramp, loss: &dyn Fn() -> Tensor<1>| {
            let weight = ramp.at(step);
            if weight > 0.0 {
                losses.push((name, loss() * weight));
            }
        };
        if let Some(opt) = stage.pixel_opt {
            let ((fake, hr), of) = (both(), opt.kind);
            add("l_g_pix", opt.ramp(), &|| match of {
                PixelKind::L1 => l1(fake.clone(), hr.clone()),
                PixelKind::Charbonnier => charbonnier(fake.clone(), hr.clone()),
            });
        }
        if let (Some(opt), Some(vgg)) = (&stage.perceptual_opt, objective.vgg) {
            add("l_g_percep", opt.ramp(), &|| {
                perceptual(vgg, &opt.layer_weights, fake.clone(), hr.clone())
            });
        }
        for loss in &stage.losses {
            let (name, of) = further_loss(loss.kind);
            add(name, loss.ramp(), &|| {
                of(both(), &|| {
                    let made = self.ema.forward_in(self.precision, lr.clone().inner());
                    pictures.learnt(made.autodiff())
                })
            });
        }
        if let (Some(gan), Some(discriminator), Some(real)) =
            (stage.gan_opt, &self.discriminator, real_logits)
        {
            add("l_g_gan", gan.ramp(), &|| {
                let frozen = discriminator.clone().no_grad();
                generator_loss(
                    gan.kind,
                    real.clone(),
                    frozen.forward_in(self.precision, fake.clone()),
                )
            });
        }
        losses
    }
}

type FurtherLoss = fn((Tensor<4>, Tensor<4>), &dyn Fn() -> Tensor<4>) -> Tensor<1>;

/// Name and function of found, wanted, and whatever makes the average's picture.
fn further_loss(kind: LossKind) -> (&'static str, FurtherLoss) {
    match kind {
        LossKind::MsSsim => ("l_g_msssim", |(fake, hr), _| ms_ssim(fake, hr)),
        LossKind::Ldl => ("l_g_ldl", |(fake, hr), average| ldl(fake, hr, average())),
        LossKind::Fft => ("l_g_fft", |(fake, hr), _| fft(fake, hr)),
        LossKind::Colour => ("l_g_color", |(fake, hr), _| low_frequency_colour(fake, hr)),
    }
}

/// Standard deviation over everything.
fn spread(pictures: &Tensor<4>) -> f32 {
    let pictures = pictures.clone().inner();
    let mean = pictures.clone().mean();
    (pictures - mean.reshape([1, 1, 1, 1]))
        .square()
        .mean()
        .sqrt()
        .into_scalar()
}

struct Pass {
    of_g: Option<GradientsParams>,
    of_d: Option<GradientsParams>,
    report: StepReport,
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
) -> Result<Option<Discriminator>, ModelError> {
    let (Some(network), Some(_)) = (&recipe.network_d, stage.gan_opt) else {
        return Ok(None);
    };
    let mut seeded = Seeded::new(seed ^ DISCRIMINATOR_SEED, &device.clone().autodiff());
    network.config().init(&mut seeded).map(Some)
}

/// A batch on the device.
struct Pictures {
    lr: Tensor<4>,
    hr: Tensor<4>,
    /// 1 where HR is to be learnt; none where all of it is.
    counts: Option<Tensor<4>>,
}

impl Pictures {
    fn of(batch: &Batch, device: &Device) -> Self {
        let tensor = |values: &[f32], channels: usize, side: usize| -> Tensor<4> {
            let shape = [batch.count, channels, side, side];
            Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        Self {
            lr: tensor(&batch.lr, 3, batch.lq_size_px),
            hr: tensor(&batch.hr, 3, batch.gt_size_px),
            counts: (!batch.counts.is_empty()).then(|| tensor(&batch.counts, 1, batch.gt_size_px)),
        }
    }

    /// What was made, and what was wanted in place of it where it is not to be learnt: there no loss finds a difference.
    fn learnt(&self, made: Tensor<4>) -> Tensor<4> {
        match &self.counts {
            None => made,
            Some(counts) => made * counts.clone() + self.hr.clone() * (1.0 - counts.clone()),
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
