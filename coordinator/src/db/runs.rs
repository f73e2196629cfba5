//! Training runs as the store shows them: which checkpoints count, and the numbered manifests that name them.
//!
//! A manifest is made in the transaction that records the checkpoint or commits the run, and written to the store by
//! whichever coordinator gets to it, with the bytes that the database keeps. Doing so twice writes the same object.

use remaster_domain::{
    Checkpoint, JobId, RUN_MANIFEST_VERSION, RunId, RunManifest, TaskSpec, TrainResult, TrainSpec,
};
use remaster_proto::to_json;
use remaster_store::Key;

use super::sql::query;
use super::tasks::{as_i64, as_u32, as_u64, known};
use super::{StoredTask, Tx, copies};
use crate::CoordinatorError;

/// Keeps a checkpoint of a training task and asks for a manifest that names it. Other kinds have no run.
pub(crate) async fn note_checkpoint(
    tx: &mut Tx,
    task: &StoredTask,
    checkpoint: &Checkpoint,
) -> Result<(), CoordinatorError> {
    let TaskSpec::Train(spec) = task.spec()? else {
        return Ok(());
    };
    if insert(tx, &spec.run, checkpoint).await? {
        publish(tx, &task.job, &spec, None).await?;
    }
    Ok(())
}

/// Asks for the manifest of a finished run.
pub(crate) async fn note_end(
    tx: &mut Tx,
    job: &JobId,
    spec: &TrainSpec,
    result: &TrainResult,
) -> Result<(), CoordinatorError> {
    let last = Checkpoint {
        sha256: result.checkpoint.clone(),
        step: result.steps,
    };
    insert(tx, &spec.run, &last).await?;
    publish(tx, job, spec, Some(result)).await
}

/// Keeps a checkpoint unless it is there; answers whether it is new.
async fn insert(tx: &mut Tx, run: &RunId, checkpoint: &Checkpoint) -> Result<bool, CoordinatorError> {
    let inserted = query(
        "INSERT INTO checkpoint (run, number, sha256, step, recorded_ms)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4 FROM checkpoint WHERE run = $1
         ON CONFLICT (run, sha256) DO NOTHING",
    )
    .bind(run.as_str())
    .bind(checkpoint.sha256.as_str())
    .bind(as_i64(checkpoint.step))
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    Ok(inserted == 1)
}

async fn publish(
    tx: &mut Tx,
    job: &JobId,
    spec: &TrainSpec,
    end: Option<&TrainResult>,
) -> Result<(), CoordinatorError> {
    let rows = query("SELECT sha256, step FROM checkpoint WHERE run = $1 ORDER BY number")
        .bind(spec.run.as_str())
        .rows(&mut tx.connection)
        .await?;
    let mut checkpoints = vec![];
    for row in &rows {
        checkpoints.push(Checkpoint {
            sha256: known("sha256", &row.get::<String>("sha256")?)?,
            step: as_u64(row.get("step")?),
        });
    }
    let manifest = RunManifest {
        version: RUN_MANIFEST_VERSION,
        run: spec.run.clone(),
        season: spec.season.clone(),
        dataset: spec.dataset.clone(),
        dataset_key: spec.dataset_key.clone(),
        scale: spec.scale,
        recipe: spec.recipe.clone(),
        seed: spec.seed,
        pretrained: spec.pretrained.clone(),
        checkpoints,
        steps: end.map(|end| end.steps),
        metrics: end.map(|end| end.stages.clone()).unwrap_or_default(),
    };
    let number = next_number(tx, &spec.run).await?;
    copies::request_writing(
        tx,
        job,
        &Key::run_manifest(&spec.run, number),
        &to_json(&manifest),
    )
    .await
}

async fn next_number(tx: &mut Tx, run: &RunId) -> Result<u32, CoordinatorError> {
    let number: i64 = query("SELECT COALESCE(MAX(number), 0) + 1 FROM run_manifest WHERE run = $1")
        .bind(run.as_str())
        .one(&mut tx.connection)
        .await?;
    query("INSERT INTO run_manifest (run, number, created_ms) VALUES ($1, $2, $3)")
        .bind(run.as_str())
        .bind(number)
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
    Ok(as_u32(number))
}
