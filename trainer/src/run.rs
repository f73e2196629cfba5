//! One training run from its first or next step to its end. Blocking: it belongs on a thread of its own. Who asked
//! for the run, a coordinator or a person, is behind [`Observer`].

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use remaster_domain::{Checkpoint, OutputObject, StageMetrics, TrainResult};
use remaster_model::{StateDict, Vgg19, read_state, write_state};
use remaster_store::Store;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::TrainError;
use crate::checkpoint::{self, LossPoint, RunIdentity, RunRecord, Snapshot, ValidationPoint};
use crate::data::{Batch, BatchStream, Dataset, DiskCacheConfig, PairSource};
use crate::ema::interpolate;
use crate::guard::{ROLLBACKS_MAX, rate_share};
use crate::look::Look;
use crate::memory::{self, Wanted};
use crate::meter::{Meter, peak_rss_mib};
use crate::pretrained::Pretrained;
use crate::recipe::{Recipe, Stage};
use crate::start::{batches_from, first_snapshot, load_vgg, log_differences, pair_source};
use crate::step::Objective;
use crate::validate::{Judge, Likeness, Scores, has_stalled};

pub use crate::observer::{Observer, Wish};

/// Points of the loss curve over a run: a picture shows no more, and a checkpoint stays small.
const HISTORY_POINTS: u64 = 500;

/// Between two looks at what is wished while something is waited for.
const WISH_INTERVAL: Duration = Duration::from_millis(250);

/// Said once where flicker cannot be seen.
const NO_FLICKER: &str = "no flicker figure: no two frames that follow each other are held out";

/// A metric's name and what it is of all scores.
type Metric = (&'static str, fn(&Scores) -> Option<f64>);
/// Metrics whose best weights are kept; more is better.
const METRICS: [Metric; 4] = [
    ("psnr_y", |scores| Some(scores.psnr_y)),
    ("ssim_y", |scores| Some(scores.ssim_y)),
    ("lpips", |scores| scores.lpips.map(|distance| -distance)),
    ("dists", |scores| scores.dists.map(|distance| -distance)),
];

/// Everything a run is made from.
#[derive(Debug)]
pub struct RunPlan {
    /// What makes it this run.
    pub identity: RunIdentity,
    /// The recipe, parsed from the identity's text.
    pub recipe: Recipe,
    /// Where its pairs lie.
    pub dataset: Arc<Dataset>,
    /// The store with the pairs.
    pub pairs: Store,
    /// What is kept on disk of the pairs that were fetched.
    pub pair_cache: Option<DiskCacheConfig>,
    /// Where checkpoints go.
    pub checkpoints: Store,
    /// What computes, without gradients.
    pub device: Device,
    /// VGG19 weights, which go before the recipe's.
    pub perceptual_weights: Option<PathBuf>,
    /// Weights to start from, which go before the recipe's.
    pub pretrained: Option<Pretrained>,
    /// Memory that may be held; unchecked where it is not known.
    pub memory_mib: Option<u64>,
    /// Folder for what people look at.
    pub look: Option<PathBuf>,
    /// Checkpoint to go on from.
    pub resume: Option<Checkpoint>,
}

/// A finished run.
#[derive(Debug)]
pub struct FinishedRun {
    /// The answer.
    pub result: TrainResult,
    /// The last checkpoint's objects.
    pub objects: Vec<OutputObject>,
    /// The loss curve and what else there is to tell.
    pub record: RunRecord,
}

/// Trains to the end, unless told to stop.
///
/// # Errors
/// [`TrainError::Stopped`] when told so; anything else ends the attempt.
pub fn train(plan: RunPlan, runtime: &Handle, observer: &dyn Observer) -> Result<FinishedRun, TrainError> {
    let mut run = Run::start(plan, runtime, observer)?;
    while let Some(stage) = run.stage().cloned() {
        if let Err(error) = run.step(&stage) {
            run.roll_back(error)?;
            continue;
        }
        run.tell(&stage);
        let has_stalled = run.is_validation_due() && run.validate_now(&stage)?;
        if has_stalled || run.snapshot.record.stage_step == stage.total_iter {
            run.end_stage(&stage)?;
            run.save()?;
        } else if run.is_checkpoint_due() {
            run.save()?;
        }
    }
    run.finish()
}

/// What is waited for, unless one of `wishes` comes first: a store that is away keeps it back for minutes.
fn unless_wished<T>(
    wishes: &[Wish],
    observer: &dyn Observer,
    runtime: &Handle,
    awaited: impl Future<Output = T>,
) -> Result<T, Wish> {
    let mut awaited = pin!(awaited);
    loop {
        let wish = observer.wish();
        if wishes.contains(&wish) {
            return Err(wish);
        }
        let for_a_moment = async { tokio::time::timeout(WISH_INTERVAL, awaited.as_mut()).await };
        if let Ok(done) = runtime.block_on(for_a_moment) {
            return Ok(done);
        }
    }
}

struct Run<'a> {
    plan: RunPlan,
    runtime: &'a Handle,
    observer: &'a dyn Observer,
    lq_size_px: u32,
    snapshot: Snapshot,
    batches: BatchStream,
    vgg: Option<Vgg19>,
    judge: Judge,
    source: PairSource,
    meter: Meter,
    curve: Meter,
    line: String,
    look: Look,
    saved: Option<(Instant, Checkpoint, Vec<OutputObject>)>,
    started: Instant,
}

impl<'a> Run<'a> {
    fn start(mut plan: RunPlan, runtime: &'a Handle, observer: &'a dyn Observer) -> Result<Self, TrainError> {
        let lq_size_px = plan.recipe.lq_size_px(plan.identity.scale)?;
        plan.dataset = plan.dataset.chosen_by(&plan.recipe.datasets.train)?;
        runtime.block_on(plan.dataset.check_first(&plan.pairs, lq_size_px))?;
        log_differences(&plan.identity.recipe);
        let (vgg, note) = load_vgg(&plan)?;
        let likeness = Likeness::load(&plan.recipe.path, &plan.device)?;
        if let Some(budget_mib) = plan.memory_mib {
            let batch_size = plan.recipe.datasets.train.batch_size;
            let wanted = Wanted {
                batch_size,
                lq_size_px,
                budget_mib,
            };
            memory::check(&plan.identity, &plan.recipe, vgg.as_ref(), wanted, &plan.device)?;
        }
        let mut snapshot = runtime.block_on(first_snapshot(&plan, plan.resume.as_ref()))?;
        if let Some(note) = note {
            warn!("{note}");
            if !snapshot.record.notes.contains(&note) {
                snapshot.record.notes.push(note);
            }
        }
        let _inside = runtime.enter();
        let source = pair_source(&plan);
        let judge = Judge::new(
            source.clone(),
            Arc::clone(&plan.dataset),
            likeness,
            plan.memory_mib,
        );
        let batches = batches_from(&plan, source.clone(), lq_size_px, snapshot.record.step);
        let look = Look::into_folder(plan.look.clone());
        let now = Instant::now();
        info!(
            step = snapshot.record.step,
            of = plan.recipe.total_steps(),
            train = plan.dataset.train.len(),
            held_out = plan.dataset.held_out.len(),
            "training"
        );
        Ok(Self {
            plan,
            runtime,
            observer,
            lq_size_px,
            snapshot,
            batches,
            vgg,
            judge,
            source,
            meter: Meter::start(now),
            curve: Meter::start(now),
            line: String::new(),
            look,
            saved: None,
            started: now,
        })
    }

    fn stage(&self) -> Option<&Stage> {
        self.plan.recipe.stages.get(self.snapshot.record.stage)
    }

    fn step(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let asked = Instant::now();
        let count = self.plan.recipe.datasets.train.accum_iter;
        let batches = (0..count).map(|_| self.next_batch());
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        let waited = asked.elapsed();
        let record = &mut self.snapshot.record;
        let objective = Objective {
            stage,
            stage_step: record.stage_step,
            vgg: self.vgg.as_ref(),
            rate_share: rate_share(record.rollbacks),
        };
        let report = self
            .snapshot
            .networks
            .step(&batches, objective, &self.plan.device)?;
        if let (true, Some(scale)) = (report.overflowed, self.snapshot.networks.loss_scale) {
            info!(
                step = record.step,
                loss_scale = scale.factor(),
                "gradients overflowed in f16: the step was left out, the next has half the scale"
            );
        }
        record.health = record.health.after(report.spread);
        if record.health.has_collapsed() {
            let largest = report.losses.iter().filter(|(name, _)| name.starts_with("l_g_"));
            let (loss, value) = largest
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .copied()
                .unwrap_or(("l_g", 0.0));
            return Err(TrainError::Collapsed {
                step: record.step,
                loss,
                value,
            });
        }
        record.step += 1;
        record.stage_step += 1;
        self.meter.add(waited, &report.losses);
        self.curve.add(waited, &report.losses);
        Ok(())
    }

    /// The next batch, unless the run is to end: then it is as it was after its last step.
    fn next_batch(&mut self) -> Result<Batch, TrainError> {
        let next = self.batches.next();
        match unless_wished(&[Wish::Drain, Wish::Stop], self.observer, self.runtime, next) {
            Ok(batch) => batch,
            Err(Wish::Drain) => self.save().and(Err(TrainError::Stopped)),
            Err(_) => Err(TrainError::Stopped),
        }
    }

    /// Goes on from the last checkpoint at half the learning rates, if that may help; otherwise gives the error back.
    fn roll_back(&mut self, error: TrainError) -> Result<(), TrainError> {
        let rollbacks = self.snapshot.record.rollbacks + 1;
        let may_help = matches!(error, TrainError::Diverged { .. } | TrainError::Collapsed { .. });
        if !may_help || rollbacks > ROLLBACKS_MAX {
            return Err(error);
        }
        let last = self
            .saved
            .as_ref()
            .map(|(_, checkpoint, _)| checkpoint)
            .or(self.plan.resume.as_ref());
        let mut snapshot = self.runtime.block_on(first_snapshot(&self.plan, last))?;
        let step = snapshot.record.step;
        let note = format!(
            "{error}; went back to step {step} at {} of the learning rates",
            rate_share(rollbacks)
        );
        warn!("{note}");
        let notes = std::mem::take(&mut self.snapshot.record.notes);
        snapshot.record.notes = notes;
        snapshot.record.notes.push(note);
        snapshot.record.rollbacks = rollbacks;
        self.snapshot = snapshot;
        let _inside = self.runtime.enter();
        self.batches = batches_from(&self.plan, self.source.clone(), self.lq_size_px, step);
        self.meter = Meter::start(Instant::now());
        self.curve = Meter::start(Instant::now());
        Ok(())
    }

    fn tell(&mut self, stage: &Stage) {
        let total = self.plan.recipe.total_steps();
        let record = &mut self.snapshot.record;
        let stage_ends = record.stage_step == stage.total_iter;
        if record.step.is_multiple_of(total.div_ceil(HISTORY_POINTS)) || stage_ends {
            let losses = self.curve.take(Instant::now()).losses;
            record.history.push(LossPoint {
                step: record.step,
                stage: stage.name.clone(),
                losses,
            });
        }
        if record.step.is_multiple_of(self.plan.recipe.logger.print_freq) || stage_ends {
            let reading = self.meter.take(Instant::now());
            self.line = reading.line(&stage.name);
            let damaged = self.batches.damaged_count();
            info!(
                step = record.step,
                left = reading.eta(total - record.step),
                peak_rss_mib = peak_rss_mib(),
                damaged,
                "{}",
                self.line
            );
            self.look.scalars(record.step, &reading.scalars());
        }
        self.observer.report(record.step, total, &self.line);
    }

    /// Keeps the stage's average, judges it, and makes the networks of the next stage; after the last stage, makes
    /// the mixtures.
    fn end_stage(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let steps = self.snapshot.record.stage_step;
        let weights = read_state(&self.snapshot.networks.ema);
        self.keep_judged(&stage.name, steps, weights)?;
        let (plan, snapshot) = (&self.plan, &mut self.snapshot);
        snapshot.record.stage += 1;
        snapshot.record.stage_step = 0;
        if snapshot.record.stage < plan.recipe.stages.len() {
            let next = snapshot.record.stage;
            let networks = snapshot.networks.clone();
            snapshot.networks = networks.into_stage(&plan.recipe, next, plan.identity.seed, &plan.device)?;
            return Ok(());
        }
        for mix in plan.recipe.interpolation.clone() {
            let ended = &self.snapshot.ended;
            let weights = interpolate(&ended[&mix.from], &ended[&mix.to], mix.alpha);
            self.keep_judged(&mix.name, 0, weights)?;
        }
        Ok(())
    }

    fn keep_judged(&mut self, name: &str, steps: u64, weights: StateDict) -> Result<(), TrainError> {
        let psnr_y = self.judge(name, &weights)?;
        let stage = name.to_owned();
        let record = &mut self.snapshot.record;
        record.stages.push(StageMetrics {
            stage: stage.clone(),
            steps,
            psnr_y,
        });
        self.snapshot.ended.insert(stage, weights);
        Ok(())
    }

    /// Judges weights, keeps what was found, and gives the Y-PSNR back.
    fn judge(&mut self, name: &str, weights: &StateDict) -> Result<Option<f64>, TrainError> {
        let snapshot = &mut self.snapshot;
        let judged = write_state(snapshot.networks.ema.clone(), weights)?;
        let judging = self.judge.judge(&judged);
        let judging = unless_wished(&[Wish::Stop], self.observer, self.runtime, judging);
        let Some(validation) = judging.unwrap_or(Err(TrainError::Stopped))? else {
            info!(stage = name, "nothing is held out to judge by");
            return Ok(None);
        };
        let (scores, bicubic) = (validation.scores, validation.bicubic);
        let (step, record) = (snapshot.record.step, &mut snapshot.record);
        info!(
            step,
            stage = name,
            psnr = scores.psnr,
            ssim = scores.ssim,
            psnr_y = scores.psnr_y,
            ssim_y = scores.ssim_y,
            bicubic_psnr_y = bicubic.psnr_y,
            colour_drift = scores.colour_drift,
            halo = scores.halo,
            bicubic_halo = bicubic.halo,
            flicker = scores.flicker,
            bicubic_flicker = bicubic.flicker,
            lpips = scores.lpips,
            bicubic_lpips = bicubic.lpips,
            dists = scores.dists,
            bicubic_dists = bicubic.dists,
            "judged"
        );
        if scores.flicker.is_none() && !record.notes.iter().any(|note| note == NO_FLICKER) {
            info!("{NO_FLICKER}");
            record.notes.push(NO_FLICKER.to_owned());
        }
        for (metric, of) in METRICS {
            let best = record
                .validations
                .iter()
                .filter_map(|point| of(&point.scores))
                .max_by(f64::total_cmp);
            if of(&scores).is_some_and(|own| best.is_none_or(|best| own > best)) {
                self.look.best(metric, weights);
            }
        }
        self.look.validation(step, name, &validation);
        record.validations.push(ValidationPoint {
            step,
            stage: name.to_owned(),
            scores,
            bicubic_psnr_y: bicubic.psnr_y,
        });
        Ok(Some(scores.psnr_y))
    }

    fn is_validation_due(&self) -> bool {
        let (frequency, record) = (self.plan.recipe.val.val_freq, &self.snapshot.record);
        frequency > 0 && record.step.is_multiple_of(frequency)
    }

    /// Judges the average; true when the stage should end early.
    fn validate_now(&mut self, stage: &Stage) -> Result<bool, TrainError> {
        // The end of a stage judges by itself.
        if self.snapshot.record.stage_step == stage.total_iter {
            return Ok(false);
        }
        let weights = read_state(&self.snapshot.networks.ema);
        self.judge(&stage.name, &weights)?;
        let record = &self.snapshot.record;
        let of_stage = record
            .validations
            .iter()
            .filter(|point| point.stage == stage.name);
        let scores: Vec<f64> = of_stage.map(|point| point.scores.psnr_y).collect();
        let stalled = stage.gan_opt.is_none() && has_stalled(&scores, self.plan.recipe.val.early_stop);
        if stalled {
            info!(
                stage = stage.name,
                step = record.step,
                "no better for a while: the stage ends early"
            );
        }
        Ok(stalled)
    }

    fn is_checkpoint_due(&self) -> bool {
        let logger = &self.plan.recipe.logger;
        let last = self.saved.as_ref().map_or(self.started, |(at, ..)| *at);
        let step = self.snapshot.record.step;
        step.is_multiple_of(logger.save_checkpoint_freq)
            || last.elapsed().as_secs() >= logger.save_checkpoint_seconds
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let saving = checkpoint::save(&self.plan.checkpoints, &self.plan.identity, &self.snapshot);
        let (checkpoint, objects) = self.runtime.block_on(saving)?;
        self.observer.record(&checkpoint, &objects)?;
        info!(
            step = checkpoint.step,
            checkpoint = checkpoint.sha256.short(),
            "checkpoint recorded"
        );
        self.look.report(&self.plan.identity, &self.snapshot.record);
        self.saved = Some((Instant::now(), checkpoint, objects));
        Ok(())
    }

    fn finish(mut self) -> Result<FinishedRun, TrainError> {
        // A run resumed at its very end has saved nothing yet in this attempt.
        if self.saved.is_none() {
            self.save()?;
        }
        let (_, checkpoint, objects) = self.saved.ok_or(TrainError::Broken("the last checkpoint"))?;
        let record = self.snapshot.record;
        let result = TrainResult {
            checkpoint: checkpoint.sha256,
            steps: record.step,
            stages: record.stages.clone(),
        };
        Ok(FinishedRun {
            result,
            objects,
            record,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::runtime::Runtime;

    use super::*;

    /// Wishes something once it has been asked so often.
    struct Later {
        asks_left: Cell<u32>,
        wish: Wish,
    }

    impl Observer for Later {
        fn wish(&self) -> Wish {
            let left = self.asks_left.get();
            self.asks_left.set(left.saturating_sub(1));
            if left == 0 { self.wish } else { Wish::Continue }
        }

        fn report(&self, _done: u64, _total: u64, _note: &str) {}

        fn record(&self, _checkpoint: &Checkpoint, _objects: &[OutputObject]) -> Result<(), TrainError> {
            Ok(())
        }
    }

    fn later(asks: u32, wish: Wish) -> Later {
        Later {
            asks_left: Cell::new(asks),
            wish,
        }
    }

    #[test]
    fn what_never_comes_is_waited_for_until_the_run_is_to_end() {
        let runtime = Runtime::new().expect("a runtime");
        for wish in [Wish::Drain, Wish::Stop] {
            let never = std::future::pending::<()>();
            let ended = unless_wished(
                &[Wish::Drain, Wish::Stop],
                &later(1, wish),
                runtime.handle(),
                never,
            );
            assert_eq!(ended, Err(wish));
        }
    }

    #[test]
    fn what_is_to_be_finished_before_a_drain_is() {
        let runtime = Runtime::new().expect("a runtime");
        let judged = async { "judged" };
        let ended = unless_wished(&[Wish::Stop], &later(0, Wish::Drain), runtime.handle(), judged);
        assert_eq!(ended, Ok("judged"));
    }
}
