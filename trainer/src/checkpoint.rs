//! A resumable snapshot: everything that the next step depends on, as two objects in one folder named by content.
//!
//! `state.json` says where the run stands and carries the hash of `state.safetensors`; the folder's name is the
//! sha256 of `state.json`, so one hash vouches for both. Batches and rates are functions of the step, so no random
//! state is kept.

use std::collections::BTreeMap;

use burn::tensor::Device;
use remaster_domain::{Checkpoint, ContentHash, ModelArch, OutputObject, RunId, StageMetrics};
use remaster_model::{Generator, StateDict, decode_safetensors, encode_safetensors, read_state, write_state};
use remaster_store::{Key, Store};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::adam::Adam;
use crate::guard::{Health, LossScale};
use crate::recipe::Recipe;
use crate::step::{Networks, new_discriminator};
use crate::validate::Scores;

/// Version written into every checkpoint.
const CHECKPOINT_VERSION: u32 = 1;

/// What a run is trained from. A checkpoint fits only the very same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// Run.
    pub run: RunId,
    /// sha256 of the dataset manifest.
    pub dataset: ContentHash,
    /// Recipe as TOML text.
    pub recipe: String,
    /// Network.
    pub arch: ModelArch,
    /// Output pixels per input pixel.
    pub scale: u32,
    /// Seed of everything random.
    pub seed: u64,
}

/// One point of the loss curve: means since the point before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Steps done over all stages.
    pub step: u64,
    /// Stage.
    pub stage: String,
    /// Losses by BasicSR's names.
    pub losses: BTreeMap<String, f32>,
}

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationPoint {
    /// Steps done over all stages.
    pub step: u64,
    /// Stage or mixture.
    pub stage: String,
    /// The average's scores.
    pub scores: Scores,
    /// Bicubic's Y-PSNR on the same pairs.
    pub bicubic_psnr_y: f64,
}

/// How far a run is and what it has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Steps done over all stages.
    pub step: u64,
    /// Stage that the next step belongs to; one past the last when the run has ended.
    pub stage: usize,
    /// Steps of that stage done.
    pub stage_step: u64,
    /// The loss curve.
    pub history: Vec<LossPoint>,
    /// Stages that have ended.
    pub stages: Vec<StageMetrics>,
    /// What people should know, such as a loss that was off.
    pub notes: Vec<String>,
    /// Validations, in order.
    #[serde(default)]
    pub validations: Vec<ValidationPoint>,
    /// How often the run went back to a checkpoint because a loss was no number or the pictures were flat.
    #[serde(default)]
    pub rollbacks: u32,
    /// Model that the first step started from; none where it started from noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ContentHash>,
    /// What has been seen of the generator's pictures.
    #[serde(default)]
    pub health: Health,
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Format version, 1.
    pub version: u32,
    /// What is trained.
    #[serde(flatten)]
    pub identity: RunIdentity,
    /// How far it is.
    #[serde(flatten)]
    pub record: RunRecord,
    /// Steps of the generator's and the discriminator's optimiser.
    pub optim_steps: [usize; 2],
    /// What losses are multiplied by, in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// sha256 of `state.safetensors`.
    pub tensors: ContentHash,
}

/// A run's networks and how far it is.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Live networks.
    pub networks: Networks,
    /// EMA weights of the stages that have ended, by name.
    pub ended: BTreeMap<String, StateDict>,
    /// How far it is.
    pub record: RunRecord,
}

/// Writes a snapshot; the tensors go first, so a folder with a `state.json` is whole.
///
/// # Errors
/// [`TrainError::Store`].
pub async fn save(
    store: &Store,
    identity: &RunIdentity,
    snapshot: &Snapshot,
) -> Result<(Checkpoint, Vec<OutputObject>), TrainError> {
    let bytes = encode_safetensors(&collect(snapshot));
    let networks = &snapshot.networks;
    let state = CheckpointState {
        version: CHECKPOINT_VERSION,
        identity: identity.clone(),
        record: snapshot.record.clone(),
        optim_steps: [networks.optim_g.steps(), networks.optim_d.steps()],
        loss_scale: networks.loss_scale,
        tensors: ContentHash::of(&bytes),
    };
    let json = serde_json::to_vec(&state).expect("a checkpoint's state is plain data with string keys");
    let sha256 = ContentHash::of(&json);
    let tensors = store
        .put_bytes(&Key::checkpoint_tensors(&sha256), bytes.into())
        .await?;
    let state = store
        .put_bytes(&Key::checkpoint_state(&sha256), json.into())
        .await?;
    Ok((
        Checkpoint {
            sha256,
            step: snapshot.record.step,
        },
        vec![tensors, state],
    ))
}

/// Reads a checkpoint's state and tensors, both checked by hash.
///
/// # Errors
/// [`TrainError::Store`], or [`TrainError::Checkpoint`] for another format version.
pub async fn read(
    store: &Store,
    checkpoint: &ContentHash,
) -> Result<(CheckpointState, StateDict), TrainError> {
    let state: CheckpointState = store
        .get_json_verified(&Key::checkpoint_state(checkpoint), checkpoint)
        .await?;
    if state.version != CHECKPOINT_VERSION {
        return Err(TrainError::Checkpoint(format!(
            "version {} is not known",
            state.version
        )));
    }
    let bytes = store
        .get_verified(&Key::checkpoint_tensors(checkpoint), &state.tensors)
        .await?;
    Ok((state, decode_safetensors(&bytes)?))
}

/// Continues a run from a checkpoint of the very same run.
///
/// # Errors
/// As [`read`], and [`TrainError::Checkpoint`] when it is of another run.
pub async fn resume(
    store: &Store,
    checkpoint: &ContentHash,
    identity: &RunIdentity,
    recipe: &Recipe,
    device: &Device,
) -> Result<Snapshot, TrainError> {
    let (state, tensors) = read(store, checkpoint).await?;
    if state.identity != *identity {
        return Err(TrainError::Checkpoint(format!(
            "{} is of another run, recipe or dataset",
            checkpoint.short()
        )));
    }
    // A run that has ended keeps the networks of its last stage.
    let stage = &recipe.stages[state.record.stage.min(recipe.stages.len() - 1)];
    let empty = Generator::new(&identity.arch, identity.scale, 0, &device.clone().autodiff())?;
    let discriminator = new_discriminator(recipe, stage, 0, device)?;
    let of_d = stage.optim_d.unwrap_or(stage.optim_g);
    let networks = Networks {
        ema: write_state(burn::module::Module::valid(&empty), &part(&tensors, "ema/"))?,
        generator: write_state(empty, &part(&tensors, "generator/"))?,
        discriminator: discriminator
            .map(|d| write_state(d, &part(&tensors, "discriminator/")))
            .transpose()?,
        optim_g: Adam::restore(
            stage.optim_g.betas,
            state.optim_steps[0],
            "optim_g/",
            &tensors,
            device,
        ),
        optim_d: Adam::restore(of_d.betas, state.optim_steps[1], "optim_d/", &tensors, device),
        precision: recipe.precision,
        loss_scale: state.loss_scale,
    };
    let ended = state.record.stages.iter().map(|ended| {
        let prefix = ended_prefix(&ended.stage);
        (ended.stage.clone(), part(&tensors, &prefix))
    });
    Ok(Snapshot {
        networks,
        ended: ended.collect(),
        record: state.record,
    })
}

/// The EMA weights of an ended stage within a checkpoint's tensors.
#[must_use]
pub fn ended_weights(tensors: &StateDict, stage: &str) -> StateDict {
    part(tensors, &ended_prefix(stage))
}

fn collect(snapshot: &Snapshot) -> StateDict {
    let networks = &snapshot.networks;
    let mut all = StateDict::new();
    let mut add = |prefix: &str, state: StateDict| {
        all.extend(
            state
                .into_iter()
                .map(|(key, tensor)| (format!("{prefix}{key}"), tensor)),
        );
    };
    add("generator/", read_state(&networks.generator));
    add("ema/", read_state(&networks.ema));
    if let Some(discriminator) = &networks.discriminator {
        add("discriminator/", read_state(discriminator));
    }
    for (stage, weights) in &snapshot.ended {
        add(&ended_prefix(stage), weights.clone());
    }
    networks.optim_g.save("optim_g/", &mut all);
    networks.optim_d.save("optim_d/", &mut all);
    all
}

fn ended_prefix(stage: &str) -> String {
    format!("ended/{stage}/")
}

fn part(tensors: &StateDict, prefix: &str) -> StateDict {
    let found = tensors
        .iter()
        .filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?.to_owned(), tensor.clone())));
    found.collect()
}
