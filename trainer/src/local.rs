//! `remaster-trainer train RECIPE.toml`: one run without a cluster. Checkpoints and models go to a folder laid out
//! like a store; the same command goes on where it was stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use remaster_domain::{Checkpoint, ContentHash, DatasetManifest, OutputObject, PublishResult, RunId};
use remaster_store::Store;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::TrainError;
use crate::checkpoint::RunIdentity;
use crate::data::{CacheWish, Dataset};
use crate::kept::Kept;
use crate::pretrained::Pretrained;
use crate::publish::{Publication, publish, seen_in_pairs};
use crate::recipe::Recipe;
use crate::run::{Observer, RunPlan, Wish, train};

/// What a person gave on the command line.
#[derive(Debug, Clone)]
pub struct LocalRun {
    /// Recipe file, or the name of a ready one.
    pub recipe: String,
    /// Folder that everything goes to.
    pub out: PathBuf,
    /// Dataset manifest; goes before the recipe's.
    pub manifest: Option<PathBuf>,
    /// Store with the shards; goes before the recipe's.
    pub store: Option<String>,
    /// What is kept on this machine of fetched pairs.
    pub cache: CacheWish,
    /// VGG19 weights; go before the recipe's.
    pub perceptual_weights: Option<PathBuf>,
    /// Weights to start from; go before the recipe's.
    pub pretrained: Option<PathBuf>,
    /// Memory that may be held; unchecked where it is not known.
    pub memory_mib: Option<u64>,
    /// What computes, without gradients.
    pub device: Device,
    /// Cancelled when the process is asked to end.
    pub shutdown: CancellationToken,
}

/// Trains, publishes into the folder, and copies each stage's model beside it as `<stage>.safetensors` and
/// `<stage>.json`.
///
/// # Errors
/// [`TrainError`]; after [`TrainError::Stopped`] the same call goes on from the last checkpoint.
pub async fn train_locally(local: LocalRun) -> Result<PublishResult, TrainError> {
    std::fs::create_dir_all(&local.out).map_err(at(&local.out))?;
    let plan = plan(&local).await?;
    let (identity, pairs, dataset) = (
        plan.identity.clone(),
        plan.pairs.clone(),
        Arc::clone(&plan.dataset),
    );
    let outputs = plan.checkpoints.clone();
    let observer = Local {
        kept: kept(&local, &plan.recipe),
        shutdown: local.shutdown.clone(),
    };
    let runtime = Handle::current();
    let running = tokio::task::spawn_blocking(move || train(plan, &runtime, &observer));
    let finished = running
        .await
        .map_err(|_| TrainError::Broken("the training thread"))??;

    let publication = Publication {
        run: identity.run,
        checkpoint: finished.result.checkpoint,
        dataset: identity.dataset,
        recipe: identity.recipe,
        lattice: dataset.manifest.lattice,
        seen: seen_in_pairs(&pairs, &dataset).await?,
    };
    let (published, _) = publish(&outputs, &outputs, publication).await?;
    for model in &published.models {
        let folder = local.out.join("models").join(model.id.as_str());
        for (file, name) in [("model.safetensors", "safetensors"), ("card.json", "json")] {
            let to = local.out.join(format!("{}.{name}", model.stage));
            std::fs::copy(folder.join(file), &to).map_err(at(&to))?;
        }
        info!(stage = model.stage, model = %model.id, "published");
    }
    Ok(published)
}

async fn plan(local: &LocalRun) -> Result<RunPlan, TrainError> {
    let (text, folder) = read_recipe(&local.recipe)?;
    let recipe = Recipe::resolve(&text)?;
    let given = recipe.dataset.clone();
    let manifest_path = local
        .manifest
        .clone()
        .or_else(|| given.as_ref().map(|dataset| folder.join(&dataset.manifest)))
        .ok_or_else(|| TrainError::Recipe("there is no [dataset]: give --manifest FILE".to_owned()))?;
    let bytes = std::fs::read(&manifest_path).map_err(at(&manifest_path))?;
    let manifest: DatasetManifest = serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::Dataset(format!("{}: {error}", manifest_path.display())))?;
    let url = match local.store.clone().or(given.and_then(|dataset| dataset.store)) {
        Some(url) => url,
        None => folder_url(manifest_path.parent().unwrap_or(Path::new(".")))?,
    };
    let (pairs, hash, scale) = (Store::open(&url)?, ContentHash::of(&bytes), manifest.scale);
    let dataset = Dataset::of_manifest(&pairs, manifest, hash.clone(), scale).await?;
    let identity = RunIdentity {
        run: run_id(&recipe.name),
        dataset: hash,
        recipe: Recipe::text_of(&text).to_owned(),
        arch: recipe.network_g.arch(),
        scale,
        seed: recipe.manual_seed.unwrap_or(0),
    };
    let checkpoints = Store::open(&folder_url(&local.out)?)?;
    let resume = kept(local, &recipe).newest_whole(&checkpoints).await?;
    Ok(RunPlan {
        identity,
        recipe,
        dataset: Arc::new(dataset),
        pair_cache: local.cache.for_store(&pairs),
        pairs,
        checkpoints,
        device: local.device.clone(),
        perceptual_weights: local.perceptual_weights.clone(),
        pretrained: local.pretrained.clone().map(Pretrained::File),
        memory_mib: local.memory_mib,
        look: Some(local.out.clone()),
        resume,
    })
}

fn kept(local: &LocalRun, recipe: &Recipe) -> Kept {
    Kept::of(&local.out, recipe.logger.keep_checkpoints)
}

/// The recipe's text and the folder that its paths are relative to.
fn read_recipe(recipe: &str) -> Result<(String, PathBuf), TrainError> {
    let path = Path::new(recipe);
    if !path.is_file() && path.extension().is_none() {
        return Ok((recipe.to_owned(), PathBuf::from(".")));
    }
    let text = std::fs::read_to_string(path).map_err(at(path))?;
    Ok((text, path.parent().unwrap_or(Path::new(".")).to_owned()))
}

fn folder_url(folder: &Path) -> Result<String, TrainError> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let absolute = folder.canonicalize().map_err(at(folder))?;
    remaster_store::folder_url(&absolute).map_err(at(folder))
}

fn run_id(name: &str) -> RunId {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    plain
        .parse()
        .unwrap_or_else(|_| "run".parse().expect("letters only"))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::File { path, source }
}

/// A person asked for the run.
struct Local {
    kept: Kept,
    shutdown: CancellationToken,
}

impl Observer for Local {
    fn wish(&self) -> Wish {
        if self.shutdown.is_cancelled() {
            Wish::Drain
        } else {
            Wish::Continue
        }
    }

    fn report(&self, _done: u64, _total: u64, _note: &str) {}

    fn record(&self, checkpoint: &Checkpoint, _objects: &[OutputObject]) -> Result<(), TrainError> {
        self.kept.add(checkpoint)
    }
}
