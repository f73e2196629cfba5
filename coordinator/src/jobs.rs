//! The user's half of the service: submit, steer, look, and move channels.

use remaster_domain::{
    ContentHash, JobAction, JobId, JobSpec, JobState, ModelRef, SeasonId, Stage, WorkerId,
};
use remaster_proto::{from_json, to_json};
use remaster_store::Key;
use tracing::info;

use crate::CoordinatorError;
use crate::check::check_job;
use crate::coordinator::{Coordinator, require_job};
use crate::db::{self, Connection, JobRow, JobView, Tx};
use crate::flow::{self, NewTask};
use crate::leases::check_version;
use crate::needs::version_of;

/// Jobs of one listing.
const LISTED_MAX: u32 = 200;
/// Jobs of a listing that names no limit.
const LISTED_DEFAULT: u32 = 20;

/// A job with its numbers.
#[derive(Debug, Clone)]
pub(crate) struct JobReport {
    pub(crate) job: JobRow,
    pub(crate) spec: JobSpec,
    pub(crate) view: JobView,
}

impl Coordinator {
    /// Takes a job in. The same id with the same spec is the same job.
    pub(crate) async fn submit(
        &self,
        protocol_version: u32,
        id: JobId,
        spec_json: &str,
        priority: i64,
    ) -> Result<(), CoordinatorError> {
        let own = self.config.protocol_version;
        check_version(own, protocol_version)?;
        let spec: JobSpec = from_json("spec_json", spec_json)?;
        check_version(own, version_of(&spec))?;
        check_job(&spec).map_err(CoordinatorError::Invalid)?;
        info!(job = %id, season = %spec.season.name, stage = spec.stage.as_str(), "submitted");
        self.db
            .writer
            .run(move |tx| Box::pin(async move { submit(tx, &id, &spec, priority).await }))
            .await
    }

    /// Pauses, resumes, cancels or retries; answers the state afterwards and how many tasks were put back.
    pub(crate) async fn control(
        &self,
        id: JobId,
        action: JobAction,
    ) -> Result<(JobState, u32), CoordinatorError> {
        info!(job = %id, action = action.as_str(), "asked");
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    let job = require_job(&mut tx.connection, &id).await?;
                    let changed = control(tx, &job, action).await?;
                    Ok((require_job(&mut tx.connection, &id).await?.state, changed))
                })
            })
            .await
    }

    /// Moves a job in the queue.
    pub(crate) async fn set_priority(&self, id: JobId, priority: i64) -> Result<(), CoordinatorError> {
        self.db
            .writer
            .run(move |tx| Box::pin(async move { db::set_priority(tx, &id, priority).await }))
            .await
    }

    /// One job as it stands.
    pub(crate) async fn report(&self, id: &JobId) -> Result<JobReport, CoordinatorError> {
        let job = self.job(id).await?;
        self.report_of(job).await
    }

    /// The newest jobs as they stand.
    pub(crate) async fn reports(&self, limit: u32) -> Result<Vec<JobReport>, CoordinatorError> {
        let limit = if limit == 0 {
            LISTED_DEFAULT
        } else {
            limit.min(LISTED_MAX)
        };
        let jobs = db::newest_jobs(&mut self.reader().await?, limit).await?;
        let mut reports = Vec::with_capacity(jobs.len());
        for job in jobs {
            reports.push(self.report_of(job).await?);
        }
        Ok(reports)
    }

    /// Asks a worker to finish what it runs and take nothing more.
    pub(crate) async fn drain_worker(&self, worker: WorkerId) -> Result<(), CoordinatorError> {
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move {
                    db::drain(tx, &worker).await?;
                    // Wakes its long poll, which then says so.
                    let now_ms = tx.now_ms;
                    let kinds = remaster_domain::TaskKind::ALL.into_iter();
                    tx.effects.offers.extend(kinds.map(|kind| (kind, now_ms)));
                    Ok(())
                })
            })
            .await
    }

    /// Notes a model that somebody put into the store.
    pub(crate) async fn register_model(
        &self,
        model: ContentHash,
        season: Option<SeasonId>,
        stage: String,
    ) -> Result<(), CoordinatorError> {
        check_name("stage", &stage)?;
        for key in [Key::model_weights(&model), Key::model_card(&model)] {
            self.size_of(&key).await?;
        }
        info!(%model, stage, "model noted");
        self.db
            .writer
            .run(move |tx| {
                Box::pin(async move { db::register_model(tx, &model, season.as_ref(), &stage).await })
            })
            .await
    }

    /// Moves a season's channel; answers where it pointed before.
    pub(crate) async fn move_channel(
        &self,
        season: SeasonId,
        channel: String,
        model: ContentHash,
    ) -> Result<Option<String>, CoordinatorError> {
        check_name("channel", &channel)?;
        self.db
            .writer
            .run(move |tx| Box::pin(async move { db::move_channel(tx, &season, &channel, &model).await }))
            .await
    }

    /// Why this coordinator does not lead a job on, where it does not.
    pub(crate) fn cannot_lead(&self, job: &JobRow) -> Option<String> {
        let is_newer = job.version > self.config.protocol_version && !job.state.is_final();
        is_newer.then(|| format!("needs a coordinator of protocol version {}", job.version))
    }

    async fn report_of(&self, job: JobRow) -> Result<JobReport, CoordinatorError> {
        let now_ms = self.db.now_ms().await?;
        let live_since_ms = self.live_since_ms(now_ms);
        let mut view = db::summary(&mut self.reader().await?, &job, now_ms, live_since_ms).await?;
        if let Some(reason) = self.cannot_lead(&job) {
            view.waiting_reason = reason;
        }
        let spec = job.spec()?;
        Ok(JobReport { job, spec, view })
    }
}

/// Channels and stages follow the rule of names.
fn check_name(what: &str, name: &str) -> Result<(), CoordinatorError> {
    name.parse::<SeasonId>()
        .map(drop)
        .map_err(|error| CoordinatorError::Invalid(format!("{what} `{name}`: expected {}", error.rule)))
}

async fn submit(tx: &mut Tx, id: &JobId, spec: &JobSpec, priority: i64) -> Result<(), CoordinatorError> {
    if let Some(before) = db::load_job(&mut tx.connection, id).await? {
        return if before.spec_json == to_json(spec) {
            Ok(())
        } else {
            Err(CoordinatorError::Taken(format!(
                "job id {id} belongs to another job"
            )))
        };
    }
    let model = match spec.stage {
        Stage::Upscale => {
            let season = &spec.season;
            Some(db::resolve_model(&mut tx.connection, &season.name, &season.model).await?)
        }
        Stage::All | Stage::Extract | Stage::Train => None,
    };
    if let Some(model) = &spec.season.pretrained {
        let wanted = ModelRef::Id(model.clone());
        db::resolve_model(&mut tx.connection, &spec.season.name, &wanted).await?;
    }
    let first = first_tasks(&mut tx.connection, spec).await?;
    db::insert_job(tx, id, spec, priority, model.as_ref(), first).await
}

async fn first_tasks(connection: &mut Connection, spec: &JobSpec) -> Result<Vec<NewTask>, CoordinatorError> {
    if spec.stage != Stage::Train {
        return Ok(flow::indexes(&flow::Job::new(spec.clone())));
    }
    let season = &spec.season.name;
    let dataset = db::newest_dataset(connection, season).await?.ok_or_else(|| {
        CoordinatorError::NotNow(format!(
            "season `{season}` has no dataset: submit it with --stage extract first"
        ))
    })?;
    Ok(vec![flow::train(spec, &dataset)])
}

async fn control(tx: &mut Tx, job: &JobRow, action: JobAction) -> Result<u32, CoordinatorError> {
    let state = job.state;
    match action {
        JobAction::Pause if state == JobState::Running => {
            db::set_state(tx, &job.id, JobState::Paused).await?
        }
        JobAction::Resume if state == JobState::Paused => {
            db::set_state(tx, &job.id, JobState::Running).await?
        }
        JobAction::Cancel if !state.is_final() => db::cancel(tx, &job.id).await?,
        JobAction::Retry if state != JobState::Cancelled => {
            tx.specs.of(&job.id, &mut tx.connection).await?;
            return db::retry(tx, &job.id).await;
        }
        // What is so already need not be done again.
        JobAction::Pause if state == JobState::Paused => {}
        JobAction::Resume if state == JobState::Running => {}
        JobAction::Cancel if state == JobState::Cancelled => {}
        JobAction::Pause | JobAction::Resume | JobAction::Cancel | JobAction::Retry => {
            let (asked, is) = (action.as_str(), state.as_str());
            return Err(CoordinatorError::NotNow(format!(
                "cannot {asked} a job that is {is}: submit it again"
            )));
        }
    }
    Ok(0)
}
