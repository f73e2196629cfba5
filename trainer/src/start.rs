//! What a run begins with: the networks, the VGG features, the batches. All that can be wrong with them shows here,
//! before the first step.

use std::collections::BTreeMap;
use std::sync::Arc;

use remaster_domain::Checkpoint;
use remaster_model::{Vgg19, read_tensors, write_state};
use tracing::{info, warn};

use crate::TrainError;
use crate::checkpoint::{self, RunRecord, Snapshot};
use crate::data::{BatchStream, CropConfig, DiskCache, PairSource, StreamConfig};
use crate::pretrained::{Pretrained, model_id};
use crate::recipe::differences;
use crate::run::RunPlan;
use crate::step::Networks;

/// The networks at a checkpoint or, without one, at the start: pretrained where weights are given, else drawn.
pub(crate) async fn first_snapshot(
    plan: &RunPlan,
    from: Option<&Checkpoint>,
) -> Result<Snapshot, TrainError> {
    let (identity, recipe, device) = (&plan.identity, &plan.recipe, &plan.device);
    if let Some(from) = from {
        info!(step = from.step, checkpoint = from.sha256.short(), "resuming");
        return checkpoint::resume(&plan.checkpoints, &from.sha256, identity, recipe, device).await;
    }
    let mut record = RunRecord::default();
    let mut networks = Networks::new(&identity.arch, identity.scale, recipe, identity.seed, device)?;
    let of_recipe = recipe.path.pretrain_network_g.clone().map(Pretrained::File);
    if let Some(start) = plan.pretrained.clone().or(of_recipe) {
        let weights = start.read(&plan.pairs, identity).await?;
        let lattice = plan.dataset.manifest.lattice;
        if let Some(known) = start.lattice(&plan.pairs).await.filter(|known| *known != lattice) {
            let note = format!(
                "{start} was trained on {} pairs and goes on with {} ones: it must learn other pixels",
                known.name(),
                lattice.name()
            );
            warn!("{note}");
            record.notes.push(note);
        }
        networks = networks.with_generator(|generator| write_state(generator, &weights.state))?;
        record.parent = Some(model_id(&weights));
        record.notes.push(format!("started from {start}"));
        info!(from = %start, "pretrained weights taken");
    }
    Ok(Snapshot {
        networks,
        ended: BTreeMap::new(),
        record,
    })
}

/// Says what the recipe changes.
pub(crate) fn log_differences(recipe: &str) {
    let (name, lines) = differences(recipe);
    for line in &lines {
        info!("recipe: {line}");
    }
    info!("recipe: {} differences to the ready recipe `{name}`", lines.len());
}

/// Where the run's pairs come from, those to train on and those to judge by.
pub(crate) fn pair_source(plan: &RunPlan) -> PairSource {
    let disk = plan.pair_cache.clone();
    let disk = disk.map(|config| Arc::new(DiskCache::open(config, &plan.dataset)));
    PairSource::from(plan.pairs.clone()).kept_on(disk)
}

/// Batches from a step on; call it inside the runtime.
pub(crate) fn batches_from(plan: &RunPlan, source: PairSource, lq_size_px: u32, step: u64) -> BatchStream {
    let train = &plan.recipe.datasets.train;
    let crop = CropConfig {
        lq_size_px,
        scale: plan.identity.scale,
        hflip: train.use_hflip,
        rotate: train.use_rot,
    };
    let config = StreamConfig {
        seed: plan.identity.seed,
        crop,
        batch_size: train.batch_size,
        crops_per_pair: train.crops_per_pair,
        prefetch: train.prefetch,
        synthetic: train.synthetic(),
    };
    let first = step * train.accum_iter as u64;
    BatchStream::start(source, Arc::clone(&plan.dataset), config, first)
}

/// VGG19 where some stage wants it and its weights are there; otherwise a note that says the loss is off.
pub(crate) fn load_vgg(plan: &RunPlan) -> Result<(Option<Vgg19>, Option<String>), TrainError> {
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
        let note = "perceptual loss off: no VGG19 weights; give --perceptual-weights FILE, torchvision's vgg19-dcbb9e9d.pth";
        return Ok((None, Some(note.to_owned())));
    };
    let vgg = Vgg19::from_state(&read_tensors(path)?, &plan.device.clone().autodiff())?;
    Ok((Some(vgg), None))
}
