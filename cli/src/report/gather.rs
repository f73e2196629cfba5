//! Everything a report says but the comparison: from the job's rows, the model cards and the last checkpoint.

use std::collections::BTreeMap;

use remaster_domain::{
    Container, ContentHash, DatasetManifest, Episode, JobSpec, ModelCard, SeasonId, TaskResult,
};
use remaster_proto::from_json;
use remaster_service::CliError;
use remaster_store::{Key, Store};
use serde::Deserialize;

use super::compare::Comparison;
use crate::client::{Coordinator, store_failed};
use crate::dataset::sheet_url;
use crate::jobs::{JobView, KindView};
use crate::output::duration;

/// What a report shows.
#[derive(Debug)]
pub(crate) struct ReportData {
    pub(crate) job_id: String,
    pub(crate) season: String,
    pub(crate) stage: String,
    pub(crate) state: String,
    pub(crate) took: String,
    pub(crate) kinds: Vec<KindRow>,
    pub(crate) yields: Vec<YieldRow>,
    pub(crate) training: Option<Training>,
    pub(crate) models: Vec<ModelRow>,
    /// Kind of the output files.
    pub(crate) container: Container,
    pub(crate) outputs: Vec<OutputRow>,
    pub(crate) dead: Vec<String>,
    pub(crate) episodes: Vec<Episode>,
    pub(crate) comparisons: Vec<Comparison>,
}

/// A stage and its time.
#[derive(Debug)]
pub(crate) struct KindRow {
    pub(crate) kind: String,
    pub(crate) tasks: u32,
    pub(crate) dead: u32,
    pub(crate) took: String,
}

/// Pairs of an episode: kept, and turned away by gate.
#[derive(Debug, Default)]
pub(crate) struct YieldRow {
    pub(crate) episode: String,
    pub(crate) kept: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Pairs that another episode shows in a better copy; `kept` counts them too.
    pub(crate) repeats: u64,
    /// URL of the page that shows its pairs.
    pub(crate) sheet: Option<String>,
}

/// The run as its last checkpoint tells it.
#[derive(Debug, Default)]
pub(crate) struct Training {
    pub(crate) steps: u64,
    pub(crate) points: Vec<LossPoint>,
    pub(crate) notes: Vec<String>,
}

/// One point of the loss curve.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LossPoint {
    pub(crate) step: u64,
    pub(crate) stage: String,
    pub(crate) losses: BTreeMap<String, f64>,
}

/// A published model.
#[derive(Debug)]
pub(crate) struct ModelRow {
    pub(crate) stage: String,
    pub(crate) id: ContentHash,
    pub(crate) card: ModelCard,
}

/// A finished episode.
#[derive(Debug)]
pub(crate) struct OutputRow {
    pub(crate) episode: String,
    pub(crate) key: String,
    pub(crate) frames: u32,
    pub(crate) bytes: u64,
}

/// As much of the trainer's state.json as a report shows; what else is in it may change.
#[derive(Debug, Deserialize)]
struct CheckpointState {
    #[serde(default)]
    history: Vec<LossPoint>,
    #[serde(default)]
    notes: Vec<String>,
}

/// Asks the coordinator and the store.
pub(crate) async fn gather(
    coordinator: &Coordinator,
    store: &Store,
    job_id: &str,
    now_ms: i64,
) -> anyhow::Result<ReportData> {
    let reply = coordinator.get_job(job_id).await?;
    let spec: JobSpec = from_json("spec_json", &reply.spec_json)?;
    let job = JobView::from(reply.summary.unwrap_or_default());
    let mut data = head(&job, spec, now_ms);
    for task in &reply.tasks {
        if !task.result_json.is_empty() {
            let result: TaskResult = from_json("result_json", &task.result_json)?;
            take(&mut data, store, &task.name, result).await?;
        }
    }
    Ok(data)
}

fn head(job: &JobView, spec: JobSpec, now_ms: i64) -> ReportData {
    let row = |kind: &KindView| KindRow {
        kind: kind.kind.clone(),
        tasks: kind.count(),
        dead: kind.dead,
        took: kind.elapsed_ms(now_ms).map_or("not started".to_owned(), duration),
    };
    ReportData {
        job_id: job.job_id.clone(),
        season: job.season.clone(),
        stage: job.stage.clone(),
        state: job.state.clone(),
        took: duration(job.ended_ms.unwrap_or(now_ms) - job.created_ms),
        kinds: job.kinds.iter().map(row).collect(),
        yields: Vec::new(),
        training: None,
        models: Vec::new(),
        container: spec.season.settings.container,
        outputs: Vec::new(),
        dead: crate::jobs::dead_lines(job),
        episodes: spec.season.episodes,
        comparisons: Vec::new(),
    }
}

async fn take(data: &mut ReportData, store: &Store, name: &str, result: TaskResult) -> anyhow::Result<()> {
    // `extract/<episode>/<n>`, `assemble/<episode>`
    let episode = name.split('/').nth(1).unwrap_or(name).to_owned();
    match result {
        TaskResult::Extract(extract) => {
            let row = yield_row(&mut data.yields, episode);
            row.kept += extract.shard.map_or(0, |shard| shard.keys.len() as u64);
            for (gate, count) in extract.rejected {
                *row.rejected.entry(gate).or_default() += u64::from(count);
            }
        }
        TaskResult::Curate(curate) => {
            let season: SeasonId = data.season.parse()?;
            let key = Key::dataset_object(&season, &curate.manifest);
            let manifest: DatasetManifest = store.get_json(&key).await.map_err(store_failed)?;
            for given in manifest.episodes {
                let row = yield_row(&mut data.yields, given.episode.to_string());
                row.repeats = u64::from(given.repeats);
                row.sheet = Some(sheet_url(store.url(), &season, &given.sheet));
            }
        }
        TaskResult::Train(train) => {
            let key = Key::checkpoint_state(&train.checkpoint);
            let state: CheckpointState = store.get_json(&key).await.map_err(store_failed)?;
            let CheckpointState { history, notes } = state;
            data.training = Some(Training {
                steps: train.steps,
                points: history,
                notes,
            });
        }
        TaskResult::Publish(publish) => {
            for model in publish.models {
                let card = store
                    .get_json(&Key::model_card(&model.id))
                    .await
                    .map_err(store_failed)?;
                data.models.push(ModelRow {
                    stage: model.stage,
                    id: model.id,
                    card,
                });
            }
        }
        TaskResult::Assemble(done) => {
            let key = format!("outputs/{}/{episode}.{}", data.season, data.container.extension());
            data.outputs.push(OutputRow {
                episode,
                key,
                frames: done.frame_count,
                bytes: done.bytes,
            });
        }
        _ => {}
    }
    Ok(())
}

fn yield_row(rows: &mut Vec<YieldRow>, episode: String) -> &mut YieldRow {
    let at = rows
        .iter()
        .position(|row| row.episode == episode)
        .unwrap_or_else(|| {
            rows.push(YieldRow {
                episode,
                ..YieldRow::default()
            });
            rows.len() - 1
        });
    &mut rows[at]
}

impl ReportData {
    /// An episode of the job.
    pub(crate) fn episode(&self, id: &str) -> Result<&Episode, CliError> {
        let found = self.episodes.iter().find(|episode| episode.id.as_str() == id);
        found.ok_or_else(|| {
            let known: Vec<_> = self.episodes.iter().map(|episode| episode.id.as_str()).collect();
            CliError::usage(format!("job {} has no episode `{id}`", self.job_id))
                .with_hint(format!("it has {}", known.join(", ")))
        })
    }
}
