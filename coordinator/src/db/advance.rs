//! Moves a job on: gathers the facts that [`crate::flow`] asks for and inserts what it answers, all within one transaction.
//!
//! Promises: a task that becomes committed and the tasks that follow become visible together; every insert is ignored
//! when the name is there already, so doing all of this twice changes nothing; every fact is read through an index, so a
//! commit costs the same in a small job and a large one. Work that was done before is not done again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use remaster_domain::{
    ContentHash, CurateEpisode, EpisodeId, IndexResult, JobId, JobSpec, OutputObject, ShardRef, Stage,
    TaskResult, TaskSpec, TaskState,
};
use remaster_proto::{from_json, to_json};
use remaster_store::Key;

use super::sql::query;
use super::tasks::{StoredTask, apply, as_i64, known};
use super::{Tx, catalog, copies, jobs, runs};
use crate::CoordinatorError;
use crate::flow::{self, Indexes, NewTask, PAIRS_GATE};
use crate::state::Decision;

/// Why a job without any pair goes no further.
const NO_PAIRS: &str =
    "no pair came out of any episode: nothing can be trained (see the dead tasks and the rejected frames)";
/// Message of a task whose work had been done before.
const SERVED_AGAIN: &str = "done before: the earlier result serves again";

/// A committed task whose followers are still to be made.
#[derive(Debug)]
struct Done {
    spec: TaskSpec,
    result: TaskResult,
    gate: String,
}

/// Commits a task with its result and makes what follows.
pub(crate) async fn commit(
    tx: &mut Tx,
    task: &StoredTask,
    decision: &Decision,
    result: TaskResult,
    objects: &[OutputObject],
) -> Result<(), CoordinatorError> {
    apply(tx, task, decision, Some(&to_json(&result))).await?;
    record_objects(tx, task, objects).await?;
    let done = Done {
        spec: task.spec()?,
        result,
        gate: task.gate.clone(),
    };
    follow(tx, &task.job, VecDeque::from([done])).await
}

/// What a task's death lets go on.
pub(crate) async fn bury(tx: &mut Tx, task: &StoredTask, message: &str) -> Result<(), CoordinatorError> {
    jobs::note(tx, Some(&task.job), Some(&task.id), "dead", message).await?;
    if task.gate == PAIRS_GATE {
        check_pairs(tx, &task.job).await?;
    }
    jobs::end_if_done(tx, &task.job).await
}

/// Makes tasks and whatever follows from those that were done before.
pub(crate) async fn add(tx: &mut Tx, job: &JobId, tasks: Vec<NewTask>) -> Result<(), CoordinatorError> {
    let mut done = VecDeque::new();
    for task in tasks {
        done.extend(insert(tx, job, task).await?);
    }
    follow(tx, job, done).await
}

/// Makes `curate` if nothing that feeds it is left; for when a task has died or was put back.
pub(crate) async fn check_pairs(tx: &mut Tx, job: &JobId) -> Result<(), CoordinatorError> {
    match curate_if_ready(tx, job).await? {
        Some(done) => follow(tx, job, VecDeque::from([done])).await,
        None => Ok(()),
    }
}

/// Keeps which objects a task made count.
pub(crate) async fn record_objects(
    tx: &mut Tx,
    task: &StoredTask,
    objects: &[OutputObject],
) -> Result<(), CoordinatorError> {
    for object in objects {
        query(
            "INSERT INTO object (key, task_id, bytes, recorded_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (key, task_id) DO NOTHING",
        )
        .bind(&object.key)
        .bind(task.id.as_str())
        .bind(as_i64(object.bytes))
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
    }
    Ok(())
}

async fn follow(tx: &mut Tx, job: &JobId, mut queue: VecDeque<Done>) -> Result<(), CoordinatorError> {
    let mut pairs_moved = false;
    while let Some(done) = queue.pop_front() {
        pairs_moved |= done.gate == PAIRS_GATE;
        for task in next_of(tx, job, &done).await? {
            queue.extend(insert(tx, job, task).await?);
        }
        // Last of all: what was done before and still waits here for its followers holds the gate as well.
        if pairs_moved && queue.is_empty() {
            pairs_moved = false;
            queue.extend(curate_if_ready(tx, job).await?);
        }
    }
    tx.moved.insert(job.clone());
    Ok(())
}

async fn next_of(tx: &mut Tx, id: &JobId, done: &Done) -> Result<Vec<NewTask>, CoordinatorError> {
    match (&done.spec, &done.result) {
        (TaskSpec::Index(spec), TaskResult::Index(_)) => {
            let job = spec_of(tx, id).await?;
            let source = &spec.source.sha256;
            let indexes = indexes(tx, id, flow::sources_beside(&job, source)).await?;
            let model = pinned_model(tx, id).await?;
            Ok(flow::after_index(&job, source, &indexes, model.as_ref()))
        }
        (TaskSpec::Align(spec), TaskResult::Align(result)) => Ok(flow::after_align(spec, result)),
        (TaskSpec::Curate(spec), TaskResult::Curate(result)) => {
            let (season, manifest) = (&spec.season, &result.manifest);
            let number = catalog::number_dataset(tx, season, manifest, result.pair_count).await?;
            let source = Key::dataset_object(season, manifest);
            copies::request(tx, id, &source, &Key::dataset_manifest(season, number)).await?;
            let job = spec_of(tx, id).await?;
            Ok(if job.stage == Stage::All {
                vec![flow::train(&job, manifest)]
            } else {
                vec![]
            })
        }
        (TaskSpec::Train(spec), TaskResult::Train(result)) => {
            runs::note_end(tx, id, spec, result).await?;
            Ok(vec![flow::publish(spec, result)])
        }
        (TaskSpec::Publish(spec), TaskResult::Publish(result)) => {
            let job = spec_of(tx, id).await?;
            catalog::publish(tx, &job.season.name, &spec.run, &result.models).await?;
            match result.models.last() {
                Some(last) if job.stage == Stage::All => upscale_with(tx, id, &job, &last.id).await,
                _ => Ok(vec![]),
            }
        }
        (TaskSpec::Plan(spec), TaskResult::Plan(result)) => Ok(flow::after_plan(spec, result)),
        (TaskSpec::Upscale(spec), TaskResult::Upscale(_)) => {
            assemble_if_ready(tx, id, spec, &done.gate).await
        }
        (TaskSpec::Assemble(spec), TaskResult::Assemble(result)) => {
            let season = spec_of(tx, id).await?.season.name.clone();
            let target = Key::output_in(&season, &spec.episode, spec.settings.container);
            copies::request(tx, id, &Key::segment(&result.sha256), &target).await?;
            Ok(vec![])
        }
        // An extracted shard is waited for by its gate; results of another kind were refused at the door.
        _ => Ok(vec![]),
    }
}

async fn upscale_with(
    tx: &mut Tx,
    id: &JobId,
    job: &JobSpec,
    model: &ContentHash,
) -> Result<Vec<NewTask>, CoordinatorError> {
    query("UPDATE job SET model = $1 WHERE id = $2")
        .bind(model.as_str())
        .bind(id.as_str())
        .execute(&mut tx.connection)
        .await?;
    let sources = job.season.episodes.iter().flat_map(|episode| &episode.sd);
    let sources = sources.map(|source| source.sha256.clone()).collect();
    let indexes = indexes(tx, id, sources).await?;
    Ok(flow::plans(job, &indexes, model))
}

async fn assemble_if_ready(
    tx: &mut Tx,
    job: &JobId,
    spec: &remaster_domain::UpscaleSpec,
    gate: &str,
) -> Result<Vec<NewTask>, CoordinatorError> {
    let name = format!("assemble/{}", spec.episode);
    if gate_has(tx, job, gate, &["ready", "leased", "dead", "cancelled"]).await?
        || task_exists(tx, job, &name).await?
    {
        return Ok(vec![]);
    }
    let results: Vec<String> = query("SELECT result FROM task WHERE job_id = $1 AND gate = $2")
        .bind(job.as_str())
        .bind(gate)
        .column(&mut tx.connection)
        .await?;
    let mut segments = vec![];
    for result in &results {
        if let TaskResult::Upscale(result) = from_json("task.result", result)? {
            segments.push(result.segment);
        }
    }
    Ok(vec![flow::assemble(spec, segments)])
}

async fn curate_if_ready(tx: &mut Tx, id: &JobId) -> Result<Option<Done>, CoordinatorError> {
    if gate_has(tx, id, PAIRS_GATE, &["ready", "leased"]).await?
        || task_exists(tx, id, flow::CURATE_NAME).await?
    {
        return Ok(None);
    }
    let job = spec_of(tx, id).await?;
    if !flow::makes_dataset(job.stage) {
        return Ok(None);
    }
    let (shards, episodes) = committed_pairs(tx, id).await?;
    let empty = shards.is_empty();
    let task = flow::curate(&job, shards, episodes);
    if empty {
        insert_as(tx, id, task, TaskState::Dead, None, NO_PAIRS).await?;
        Ok(None)
    } else {
        insert(tx, id, task).await
    }
}

/// The shards of all committed extractions, and what these say of their episodes.
async fn committed_pairs(
    tx: &mut Tx,
    job: &JobId,
) -> Result<(Vec<(u32, ShardRef)>, Vec<CurateEpisode>), CoordinatorError> {
    let rows = query(
        "SELECT spec, result FROM task WHERE job_id = $1 AND gate = $2 AND state = 'committed' AND kind = 'extract'",
    )
    .bind(job.as_str())
    .bind(PAIRS_GATE)
    .rows(&mut tx.connection)
    .await?;
    let mut shards = vec![];
    let mut episodes: BTreeMap<EpisodeId, CurateEpisode> = BTreeMap::new();
    for row in &rows {
        let spec = from_json("task.spec", &row.at::<String>(0)?)?;
        let result = from_json("task.result", &row.at::<String>(1)?)?;
        if let (TaskSpec::Extract(spec), TaskResult::Extract(result)) = (spec, result) {
            shards.extend(result.shard.map(|shard| (spec.shard.number, shard)));
            let known = episodes.entry(spec.episode.clone());
            let episode = known.or_insert_with(|| CurateEpisode {
                episode: spec.episode,
                span: spec.span,
                alignment: spec.alignment,
                rejected: BTreeMap::new(),
            });
            for (gate, count) in result.rejected {
                *episode.rejected.entry(gate).or_default() += count;
            }
        }
    }
    Ok((shards, episodes.into_values().collect()))
}

/// Makes a task unless its name is there. Answers it as done when the same work was done before, by whatever job.
async fn insert(tx: &mut Tx, job: &JobId, task: NewTask) -> Result<Option<Done>, CoordinatorError> {
    let before: Option<String> = query(
        "SELECT result FROM task WHERE work_key = $1 AND state = 'committed' AND result IS NOT NULL LIMIT 1",
    )
    .bind(task.spec.work_key().as_str())
    .first(&mut tx.connection)
    .await?;
    let Some(result_json) = before else {
        let kind = task.spec.kind();
        if insert_as(tx, job, task, TaskState::Ready, None, "").await? {
            let now_ms = tx.now_ms;
            tx.effects.offers.push((kind, now_ms));
        }
        return Ok(None);
    };
    let result = from_json("task.result", &result_json)?;
    let (spec, gate) = (task.spec.clone(), task.gate.clone());
    let inserted = insert_as(
        tx,
        job,
        task,
        TaskState::Committed,
        Some(&result_json),
        SERVED_AGAIN,
    )
    .await?;
    Ok(inserted.then_some(Done { spec, result, gate }))
}

async fn insert_as(
    tx: &mut Tx,
    job: &JobId,
    task: NewTask,
    state: TaskState,
    result_json: Option<&str>,
    message: &str,
) -> Result<bool, CoordinatorError> {
    let inserted = query(
        "INSERT INTO task (id, job_id, name, kind, gate, work_key, state, token, attempt, errors, losses,
             not_before_ms, expires_ms, done, total, ended_ms, note, message, spec, result)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0, $8, 0, 0, 0, $9, '', $10, $11, $12)
         ON CONFLICT (job_id, name) DO NOTHING",
    )
    .bind(Tx::new_id().to_string())
    .bind(job.as_str())
    .bind(&task.name)
    .bind(task.spec.kind().as_str())
    .bind(&task.gate)
    .bind(task.spec.work_key().as_str())
    .bind(state.as_str())
    .bind(tx.now_ms)
    .bind((state != TaskState::Ready).then_some(tx.now_ms))
    .bind(message)
    .bind(to_json(&task.spec))
    .bind(result_json)
    .execute(&mut tx.connection)
    .await?;
    Ok(inserted == 1)
}

/// The job's spec, parsed once and kept.
async fn spec_of(tx: &mut Tx, job: &JobId) -> Result<Arc<JobSpec>, CoordinatorError> {
    if let Some(spec) = tx.kept_spec(job) {
        return Ok(spec);
    }
    let row = jobs::load_job(&mut tx.connection, job).await?;
    let row = row.ok_or_else(|| CoordinatorError::NotFound(format!("there is no job {job}")))?;
    let spec = Arc::new(row.spec()?);
    tx.keep_spec(job, Arc::clone(&spec));
    Ok(spec)
}

async fn indexes(
    tx: &mut Tx,
    job: &JobId,
    sources: BTreeSet<ContentHash>,
) -> Result<Indexes, CoordinatorError> {
    let mut indexes = Indexes::new();
    for source in sources {
        let result: Option<String> =
            query("SELECT result FROM task WHERE job_id = $1 AND name = $2 AND state = 'committed'")
                .bind(job.as_str())
                .bind(flow::index_name(&source))
                .first(&mut tx.connection)
                .await?;
        if let Some(result) = result
            && let TaskResult::Index(IndexResult { index, frame_count }) = from_json("task.result", &result)?
        {
            indexes.insert(source, IndexResult { index, frame_count });
        }
    }
    Ok(indexes)
}

async fn pinned_model(tx: &mut Tx, job: &JobId) -> Result<Option<ContentHash>, CoordinatorError> {
    let model: Option<String> = query("SELECT model FROM job WHERE id = $1")
        .bind(job.as_str())
        .one(&mut tx.connection)
        .await?;
    model.map(|text| known("model", &text)).transpose()
}

/// Whether any task of a gate is in one of up to four states.
async fn gate_has(
    tx: &mut Tx,
    job: &JobId,
    gate: &str,
    states: &[&'static str],
) -> Result<bool, CoordinatorError> {
    let mut statement = query(
        "SELECT EXISTS (SELECT 1 FROM task WHERE job_id = $1 AND gate = $2 AND state IN ($3, $4, $5, $6))",
    )
    .bind(job.as_str())
    .bind(gate);
    for place in 0..4 {
        statement = statement.bind(states.get(place).copied().unwrap_or(""));
    }
    Ok(statement.one::<i64>(&mut tx.connection).await? != 0)
}

async fn task_exists(tx: &mut Tx, job: &JobId, name: &str) -> Result<bool, CoordinatorError> {
    let found: i64 = query("SELECT EXISTS (SELECT 1 FROM task WHERE job_id = $1 AND name = $2)")
        .bind(job.as_str())
        .bind(name)
        .one(&mut tx.connection)
        .await?;
    Ok(found != 0)
}
