//! Moves a job on: gathers the facts that [`crate::flow`] asks for and inserts what it answers, all within one transaction.
//!
//! Promises: a task that becomes committed and the tasks that follow become visible together; every insert is ignored
//! when the name is there already, so doing all of this twice changes nothing; every fact is read through an index, so a
//! commit costs the same in a small job and a large one. Work that was done before is not done again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remaster_domain::{
    ContentHash, CurateEpisode, EpisodeId, JobId, JobSpec, OutputObject, ShardRef, Stage, TaskId, TaskResult,
    TaskSpec,
};
use remaster_proto::{from_json, to_json};
use remaster_store::Key;
use serde_json::json;

use super::changes::{Change, apply_all_beside};
use super::inserts::{New, insert_as};
use super::sql::{Statement, query, query_over};
use super::tasks::{StoredTask, as_i64, known};
use super::{Tx, catalog, copies, jobs, runs};
use crate::CoordinatorError;
use crate::flow::{self, Indexes, NewTask, PAIRS_GATE};
use crate::needs::needs_of;
use crate::state::Decision;

/// Why a job without any pair goes no further.
const NO_PAIRS: &str =
    "no pair came out of any episode: nothing can be trained (see the dead tasks and the rejected frames)";

/// A result that was accepted.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The task as it was.
    pub(crate) task: StoredTask,
    /// What was decided.
    pub(crate) decision: Decision,
    /// What it brings.
    pub(crate) result: TaskResult,
    /// Objects that it makes count.
    pub(crate) objects: Vec<OutputObject>,
}

/// A committed task whose followers are still to be made.
#[derive(Debug)]
struct Done {
    job: JobId,
    spec: TaskSpec,
    result: TaskResult,
    gate: String,
}

/// Commits tasks with their results and makes what follows.
pub(crate) async fn commit(tx: &mut Tx, commits: Vec<Commit>) -> Result<(), CoordinatorError> {
    let results: Vec<String> = commits.iter().map(|commit| to_json(&commit.result)).collect();
    let changes = commits.iter().zip(&results).map(|(commit, result)| Change {
        task: &commit.task,
        decision: &commit.decision,
        result_json: Some(result),
        progress: None,
    });
    let objects = commits
        .iter()
        .flat_map(|commit| commit.objects.iter().map(move |object| (&commit.task.id, object)));
    let recorded = recorded_objects(tx.now_ms, objects.collect());
    let changes: Vec<_> = changes.collect();
    apply_all_beside(tx, &changes, recorded.into_iter().collect()).await?;
    let mut done = vec![];
    for commit in commits {
        done.push(Done {
            spec: commit.task.spec()?,
            job: commit.task.job,
            result: commit.result,
            gate: commit.task.gate,
        });
    }
    follow(tx, done).await
}

/// What a task's death lets go on.
pub(crate) async fn bury(tx: &mut Tx, task: &StoredTask, message: &str) -> Result<(), CoordinatorError> {
    jobs::note(tx, Some(&task.job), Some(&task.id), "dead", message).await?;
    if task.gate == PAIRS_GATE {
        check_pairs(tx, &task.job).await?;
    }
    tx.moved.insert(task.job.clone());
    Ok(())
}

/// Makes tasks and whatever follows from those that were done before.
pub(crate) async fn add(tx: &mut Tx, job: &JobId, tasks: Vec<NewTask>) -> Result<(), CoordinatorError> {
    tx.moved.insert(job.clone());
    let done = insert(tx, tasks.into_iter().map(|task| (job.clone(), task)).collect()).await?;
    follow(tx, done).await
}

/// Makes `curate` if nothing that feeds it is left; for when a task has died or was put back.
pub(crate) async fn check_pairs(tx: &mut Tx, job: &JobId) -> Result<(), CoordinatorError> {
    let done = curate_what_is_ready(tx, BTreeSet::from([job.clone()])).await?;
    follow(tx, done).await
}

/// Keeps which objects tasks made count.
pub(crate) async fn record_objects(
    tx: &mut Tx,
    objects: Vec<(&TaskId, &OutputObject)>,
) -> Result<(), CoordinatorError> {
    if let Some(recorded) = recorded_objects(tx.now_ms, objects) {
        recorded.execute(&mut tx.connection).await?;
    }
    Ok(())
}

fn recorded_objects(now_ms: i64, objects: Vec<(&TaskId, &OutputObject)>) -> Option<Statement> {
    let rows: Vec<_> = objects
        .into_iter()
        .map(
            |(task, object)| json!({"key": object.key, "task": task.as_str(), "bytes": as_i64(object.bytes)}),
        )
        .collect();
    (!rows.is_empty()).then(|| {
        query_over!(
            rows,
            (key TEXT, task TEXT, bytes BIGINT),
            ["INSERT INTO object (key, task_id, bytes, recorded_ms) SELECT r.key, r.task, r.bytes, $2 FROM "],
            [" WHERE true ON CONFLICT (key, task_id) DO NOTHING"]
        )
        .bind(now_ms)
    })
}

/// Goes on in waves: what follows from everything that was done, then from what of that had been done before, and so on.
/// The facts of a wave are read at once and its tasks are made at once, so a wave of hundreds costs what one of two does.
async fn follow(tx: &mut Tx, mut wave: Vec<Done>) -> Result<(), CoordinatorError> {
    let mut paired = BTreeSet::new();
    while !wave.is_empty() {
        let facts = Facts::gather(tx, &wave).await?;
        let (mut next, mut gates) = (vec![], BTreeSet::new());
        for done in wave {
            tx.moved.insert(done.job.clone());
            if done.gate == PAIRS_GATE {
                paired.insert(done.job.clone());
            }
            // What waits for a whole gate looks at it once.
            let is_new = gates.insert((done.job.clone(), done.gate.clone()));
            if is_new || !matches!(done.spec, TaskSpec::Upscale(_)) {
                let tasks = next_of(tx, &facts, &done).await?;
                next.extend(tasks.into_iter().map(|task| (done.job.clone(), task)));
            }
        }
        wave = insert(tx, next).await?;
        // Last of all: what was done before and still waits here for its followers holds the gate as well.
        if wave.is_empty() {
            wave = curate_what_is_ready(tx, std::mem::take(&mut paired)).await?;
        }
    }
    Ok(())
}

/// What the followers of a wave depend on.
#[derive(Debug, Default)]
struct Facts {
    indexes: BTreeMap<JobId, Indexes>,
    models: BTreeMap<JobId, ContentHash>,
}

impl Facts {
    async fn gather(tx: &mut Tx, wave: &[Done]) -> Result<Self, CoordinatorError> {
        let mut sources: BTreeMap<JobId, BTreeSet<ContentHash>> = BTreeMap::new();
        for done in wave {
            if let TaskSpec::Index(spec) = &done.spec {
                let job = spec_of(tx, &done.job).await?;
                let beside = flow::sources_beside(&job, &spec.source.sha256);
                sources.entry(done.job.clone()).or_default().extend(beside);
            }
        }
        Self::read(tx, &sources).await
    }

    /// Which of these sources are indexed, by job, and the models that are pinned for those jobs.
    async fn read(
        tx: &mut Tx,
        sources: &BTreeMap<JobId, BTreeSet<ContentHash>>,
    ) -> Result<Self, CoordinatorError> {
        let wanted = sources.iter().flat_map(|(job, sources)| {
            sources.iter().map(move |source| {
                json!({"job": job.as_str(), "source": source.as_str(), "name": flow::index_name(source)})
            })
        });
        let wanted: Vec<_> = wanted.collect();
        let mut facts = Self::default();
        if wanted.is_empty() {
            return Ok(facts);
        }
        // Only a committed task has a result. In the order of names, so that PostgreSQL takes the index of names while it
        // knows nothing of the table yet, and not one that leads to all tasks of the job.
        let rows = query_over!(
            wanted,
            (job TEXT, source TEXT, name TEXT),
            [
                "SELECT r.job, r.source, (SELECT t.result FROM task t WHERE t.job_id = r.job
                     AND t.name BETWEEN r.name AND r.name ORDER BY t.name LIMIT 1),
                     (SELECT j.model FROM job j WHERE j.id = r.job) FROM "
            ],
            [""]
        )
        .rows(&mut tx.connection)
        .await?;
        for row in &rows {
            let job: JobId = known("job_id", &row.at::<String>(0)?)?;
            if let Some(model) = row.at::<Option<String>>(3)? {
                facts.models.insert(job.clone(), known("model", &model)?);
            }
            let Some(result) = row.at::<Option<String>>(2)? else {
                continue;
            };
            let source = known("sha256", &row.at::<String>(1)?)?;
            if let TaskResult::Index(result) = from_json("task.result", &result)? {
                facts.indexes.entry(job).or_default().insert(source, result);
            }
        }
        Ok(facts)
    }
}

async fn next_of(tx: &mut Tx, facts: &Facts, done: &Done) -> Result<Vec<NewTask>, CoordinatorError> {
    let id = &done.job;
    match (&done.spec, &done.result) {
        (TaskSpec::Index(spec), TaskResult::Index(_)) => {
            let job = spec_of(tx, id).await?;
            let none = Indexes::new();
            let indexes = facts.indexes.get(id).unwrap_or(&none);
            let source = &spec.source.sha256;
            Ok(flow::after_index(&job, source, indexes, facts.models.get(id)))
        }
        (TaskSpec::Press(spec), TaskResult::Press(result)) => {
            Ok(vec![flow::after_press(&*spec_of(tx, id).await?, spec, result)])
        }
        (TaskSpec::Align(spec), TaskResult::Align(result)) => Ok(flow::after_align(spec, result)),
        (TaskSpec::Curate(spec), TaskResult::Curate(result)) => {
            let (season, manifest) = (&spec.season, &result.manifest);
            let number = catalog::number_dataset(tx, season, manifest, result.pair_count).await?;
            let source = Key::dataset_object(season, manifest);
            copies::request(tx, id, &source, &Key::dataset_manifest(season, number)).await?;
            let job = spec_of(tx, id).await?;
            let trains = job.stage == Stage::All;
            Ok(trains.then(|| flow::train(&job, manifest)).into_iter().collect())
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
    let mut facts = Facts::read(tx, &BTreeMap::from([(id.clone(), sources)])).await?;
    Ok(flow::plans(
        job,
        &facts.indexes.remove(id).unwrap_or_default(),
        model,
    ))
}

async fn assemble_if_ready(
    tx: &mut Tx,
    job: &JobId,
    spec: &remaster_domain::UpscaleSpec,
    gate: &str,
) -> Result<Vec<NewTask>, CoordinatorError> {
    let name = format!("assemble/{}", spec.episode);
    if gate_is_open(tx, job, gate).await? || task_exists(tx, job, &name).await? {
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

/// Asked for all jobs of a wave at once: nearly always there is none. A job whose gate is open has something left to do, so
/// that the end of the transaction need not look for it.
async fn curate_what_is_ready(tx: &mut Tx, jobs: BTreeSet<JobId>) -> Result<Vec<Done>, CoordinatorError> {
    let rows: Vec<_> = jobs.iter().map(|id| json!({"id": id.as_str()})).collect();
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let gates = query_over!(
        rows,
        (id TEXT),
        [
            "SELECT r.id, COALESCE(
                 (SELECT 1 FROM task t WHERE t.job_id = r.id AND t.gate = $2
                     AND t.state = 'leased' ORDER BY t.kind LIMIT 1),
                 (SELECT 1 FROM task t WHERE t.job_id = r.id AND t.gate = $2
                     AND t.state = 'ready' ORDER BY t.kind LIMIT 1),
                 0) AS is_open,
             (SELECT t.id FROM task t WHERE t.job_id = r.id AND t.name BETWEEN $3 AND $3
                 ORDER BY t.name LIMIT 1) AS curate FROM "
        ],
        [""]
    )
    .bind(PAIRS_GATE)
    .bind(flow::CURATE_NAME)
    .rows(&mut tx.connection)
    .await?;
    let mut done = vec![];
    for gate in &gates {
        let id = known("id", &gate.at::<String>(0)?)?;
        if gate.at::<i64>(1)? != 0 {
            tx.moved.remove(&id);
        } else if gate.at::<Option<String>>(2)?.is_none() {
            done.extend(curate(tx, &id).await?);
        }
    }
    Ok(done)
}

async fn curate(tx: &mut Tx, id: &JobId) -> Result<Vec<Done>, CoordinatorError> {
    let job = spec_of(tx, id).await?;
    if !flow::makes_dataset(job.stage) {
        return Ok(vec![]);
    }
    let (shards, episodes) = committed_pairs(tx, id).await?;
    let presses = presses(tx, id, &job, &episodes).await?;
    if !presses.is_empty() {
        return insert(tx, presses).await;
    }
    let empty = shards.is_empty();
    let task = flow::curate(&job, shards, episodes);
    if empty {
        insert_as(tx, &[New::dead(id, &task, NO_PAIRS)]).await?;
        Ok(vec![])
    } else {
        insert(tx, vec![(id.clone(), task)]).await
    }
}

/// The DVDs that are missing, unless they were asked for before. They hold the gate open until their pairs are there too.
async fn presses(
    tx: &mut Tx,
    id: &JobId,
    job: &JobSpec,
    episodes: &[CurateEpisode],
) -> Result<Vec<(JobId, NewTask)>, CoordinatorError> {
    let mut sources = BTreeSet::new();
    for episode in flow::pressed(job) {
        if !task_exists(tx, id, &flow::press_name(&episode.id)).await? {
            sources.extend(episode.hd.iter().map(|source| source.sha256.clone()));
        }
    }
    let mut facts = Facts::read(tx, &BTreeMap::from([(id.clone(), sources)])).await?;
    let indexes = facts.indexes.remove(id).unwrap_or_default();
    let presses = flow::presses(job, &indexes, &flow::like(job, episodes));
    Ok(presses.into_iter().map(|task| (id.clone(), task)).collect())
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

/// Makes tasks unless their names are there. Answers those as done whose work was done before, by whatever job.
async fn insert(tx: &mut Tx, tasks: Vec<(JobId, NewTask)>) -> Result<Vec<Done>, CoordinatorError> {
    let mut new = vec![];
    for (job, task) in &tasks {
        new.push(New::ready(job, task).needing(needs_of(&task.spec, &spec_of(tx, job).await?.season)));
    }
    let mut inserted = insert_as(tx, &new).await?;
    drop(new);
    let mut done = vec![];
    for (job, task) in tasks {
        match inserted.remove(&(job.to_string(), task.name)) {
            Some(Some(result_json)) => done.push(Done {
                job,
                spec: task.spec,
                result: from_json("task.result", &result_json)?,
                gate: task.gate,
            }),
            Some(None) => {
                let now_ms = tx.now_ms;
                tx.effects.offers.push((task.spec.kind(), now_ms));
            }
            None => {}
        }
    }
    Ok(done)
}

/// The job's spec, most often at hand.
async fn spec_of(tx: &mut Tx, job: &JobId) -> Result<Arc<flow::Job>, CoordinatorError> {
    let spec = tx.specs.of(job, &mut tx.connection).await?;
    spec.ok_or_else(|| CoordinatorError::NotFound(format!("there is no job {job}")))
}

/// Whether any task of a gate is not committed yet.
async fn gate_is_open(tx: &mut Tx, job: &JobId, gate: &str) -> Result<bool, CoordinatorError> {
    let open: i64 = query(
        "SELECT EXISTS (SELECT 1 FROM task WHERE job_id = $1 AND gate = $2
             AND state IN ('ready', 'leased', 'dead', 'cancelled'))",
    )
    .bind(job.as_str())
    .bind(gate)
    .one(&mut tx.connection)
    .await?;
    Ok(open != 0)
}

async fn task_exists(tx: &mut Tx, job: &JobId, name: &str) -> Result<bool, CoordinatorError> {
    let found: i64 = query("SELECT EXISTS (SELECT 1 FROM task WHERE job_id = $1 AND name = $2)")
        .bind(job.as_str())
        .bind(name)
        .one(&mut tx.connection)
        .await?;
    Ok(found != 0)
}
