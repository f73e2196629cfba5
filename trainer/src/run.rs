//! One training run from its first or next step to its end. Blocking: it belongs on a thread of its own. Who asked
//! for the run, a coordinator or a person, is behind [`Observer`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use remaster_domain::{Checkpoint, OutputObject, StageMetrics, TrainResult};
use remaster_model::{Vgg19, decode_safetensors, read_state};
use remaster_store::Store;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::TrainError;
use crate::checkpoint::{self, LossPoint, RunIdentity, RunRecord, Snapshot};
use crate::data::{BatchStream, CropConfig, Dataset, StreamConfig};
use crate::meter::{Meter, peak_rss_mib};
use crate::recipe::{Recipe, Stage};
use crate::step::{Networks, Objective};
use crate::validate::psnr_y;

/// Points of the loss curve over a run: a picture shows no more, and a checkpoint stays small.
const HISTORY_POINTS: u64 = 500;

/// What the one who asked for the run wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Save what there is, then stop.
    Drain,
    /// Stop at once: somebody else may hold the run by now.
    Stop,
}

/// Who asked for the run.
pub trait Observer: Send {
    /// Asked before every step.
    fn wish(&self) -> Wish;
    /// Told after every step; must not block.
    fn report(&self, done: u64, total: u64, note: &str);
    /// Told of every checkpoint once it lies in the store.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] when the run is not ours any more.
    fn record(&self, checkpoint: &Checkpoint, objects: &[OutputObject]) -> Result<(), TrainError>;
}

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
    /// Where checkpoints go.
    pub checkpoints: Store,
    /// What computes, without gradients.
    pub device: Device,
    /// VGG19 weights, which go before the recipe's.
    pub perceptual_weights: Option<PathBuf>,
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
    let mut run = Run::start(plan, runtime)?;
    while let Some(stage) = run.stage().cloned() {
        match observer.wish() {
            Wish::Continue => {}
            Wish::Drain => {
                run.save(observer)?;
                return Err(TrainError::Stopped);
            }
            Wish::Stop => return Err(TrainError::Stopped),
        }
        run.step(&stage)?;
        run.tell(&stage, observer);
        if run.snapshot.record.stage_step == stage.total_iter {
            run.end_stage(&stage)?;
            run.save(observer)?;
        } else if run.is_checkpoint_due() {
            run.save(observer)?;
        }
    }
    run.finish(observer)
}

struct Run<'a> {
    plan: RunPlan,
    runtime: &'a Handle,
    snapshot: Snapshot,
    batches: BatchStream,
    vgg: Option<Vgg19>,
    meter: Meter,
    curve: Meter,
    line: String,
    saved: Option<(Instant, Checkpoint, Vec<OutputObject>)>,
    started: Instant,
}

impl<'a> Run<'a> {
    fn start(plan: RunPlan, runtime: &'a Handle) -> Result<Self, TrainError> {
        let lq_size_px = plan.recipe.lq_size_px(plan.identity.scale)?;
        runtime.block_on(plan.dataset.check_first(&plan.pairs, lq_size_px))?;
        let mut snapshot = runtime.block_on(first_snapshot(&plan))?;
        let (vgg, note) = load_vgg(&plan)?;
        if let Some(note) = note {
            warn!("{note}");
            if !snapshot.record.notes.contains(&note) {
                snapshot.record.notes.push(note);
            }
        }
        let config = stream_config(&plan, lq_size_px);
        let _inside = runtime.enter();
        let batches = BatchStream::start(
            plan.pairs.clone(),
            Arc::clone(&plan.dataset),
            config,
            snapshot.record.step,
        );
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
            snapshot,
            batches,
            vgg,
            meter: Meter::start(now),
            curve: Meter::start(now),
            line: String::new(),
            saved: None,
            started: now,
        })
    }

    fn stage(&self) -> Option<&Stage> {
        self.plan.recipe.stages.get(self.snapshot.record.stage)
    }

    fn step(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let asked = Instant::now();
        let batch = self.batches.next_blocking()?;
        let waited = asked.elapsed();
        let record = &mut self.snapshot.record;
        let objective = Objective {
            stage,
            stage_step: record.stage_step,
            vgg: self.vgg.as_ref(),
        };
        let losses = self
            .snapshot
            .networks
            .step(&batch, objective, &self.plan.device)?;
        record.step += 1;
        record.stage_step += 1;
        self.meter.add(waited, &losses);
        self.curve.add(waited, &losses);
        Ok(())
    }

    fn tell(&mut self, stage: &Stage, observer: &dyn Observer) {
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
        }
        observer.report(record.step, total, &self.line);
    }

    /// Keeps the stage's average, judges it, and makes the networks of the next stage.
    fn end_stage(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let (plan, snapshot) = (&self.plan, &mut self.snapshot);
        let psnr_y = self
            .runtime
            .block_on(psnr_y(&snapshot.networks.ema, &plan.pairs, &plan.dataset))?;
        info!(stage = stage.name, psnr_y, "stage ended");
        let steps = snapshot.record.stage_step;
        snapshot.record.stages.push(StageMetrics {
            stage: stage.name.clone(),
            steps,
            psnr_y,
        });
        snapshot
            .ended
            .insert(stage.name.clone(), read_state(&snapshot.networks.ema));
        snapshot.record.stage += 1;
        snapshot.record.stage_step = 0;
        if snapshot.record.stage < plan.recipe.stages.len() {
            let next = snapshot.record.stage;
            let networks = snapshot.networks.clone();
            snapshot.networks = networks.into_stage(&plan.recipe, next, plan.identity.seed, &plan.device)?;
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let logger = &self.plan.recipe.logger;
        let last = self.saved.as_ref().map_or(self.started, |(at, ..)| *at);
        let step = self.snapshot.record.step;
        step.is_multiple_of(logger.save_checkpoint_freq)
            || last.elapsed().as_secs() >= logger.save_checkpoint_seconds
    }

    fn save(&mut self, observer: &dyn Observer) -> Result<(), TrainError> {
        let saving = checkpoint::save(&self.plan.checkpoints, &self.plan.identity, &self.snapshot);
        let (checkpoint, objects) = self.runtime.block_on(saving)?;
        observer.record(&checkpoint, &objects)?;
        info!(
            step = checkpoint.step,
            checkpoint = checkpoint.sha256.short(),
            "checkpoint recorded"
        );
        self.saved = Some((Instant::now(), checkpoint, objects));
        Ok(())
    }

    fn finish(mut self, observer: &dyn Observer) -> Result<FinishedRun, TrainError> {
        // A run resumed at its very end has saved nothing yet in this attempt.
        if self.saved.is_none() {
            self.save(observer)?;
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

async fn first_snapshot(plan: &RunPlan) -> Result<Snapshot, TrainError> {
    let (identity, recipe, device) = (&plan.identity, &plan.recipe, &plan.device);
    if let Some(from) = &plan.resume {
        info!(step = from.step, checkpoint = from.sha256.short(), "resuming");
        return checkpoint::resume(&plan.checkpoints, &from.sha256, identity, recipe, device).await;
    }
    let networks = Networks::new(&identity.arch, identity.scale, recipe, identity.seed, device)?;
    Ok(Snapshot {
        networks,
        ended: BTreeMap::new(),
        record: RunRecord::default(),
    })
}

fn stream_config(plan: &RunPlan, lq_size_px: u32) -> StreamConfig {
    let train = &plan.recipe.datasets.train;
    let crop = CropConfig {
        lq_size_px,
        scale: plan.identity.scale,
        hflip: train.use_hflip,
        rotate: train.use_rot,
    };
    StreamConfig {
        seed: plan.identity.seed,
        crop,
        batch_size: train.batch_size,
        crops_per_pair: train.crops_per_pair,
        prefetch: train.prefetch,
    }
}

/// VGG19 where some stage wants it and its weights are there; otherwise a note that says the loss is off.
fn load_vgg(plan: &RunPlan) -> Result<(Option<Vgg19>, Option<String>), TrainError> {
    if !plan
        .recipe
        .stages
        .iter()
        .any(|stage| stage.perceptual_opt.is_some())
    {
        return Ok((None, None));
    }
    let Some(path) = plan
        .perceptual_weights
        .as_ref()
        .or(plan.recipe.path.perceptual_weights.as_ref())
    else {
        let note = "perceptual loss off: no VGG19 weights; give --perceptual-weights FILE.safetensors";
        return Ok((None, Some(note.to_owned())));
    };
    let bytes = std::fs::read(path).map_err(|source| TrainError::File {
        path: path.clone(),
        source,
    })?;
    let vgg = Vgg19::from_state(&decode_safetensors(&bytes)?, &plan.device.clone().autodiff())?;
    Ok((Some(vgg), None))
}
