//! Specs of the jobs that move, parsed once and kept: a season of a thousand episodes is half a megabyte of JSON, and each of
//! its commits asks for it.
//!
//! Promises: what is kept is never wrong, since a job's spec never changes and nothing is kept of what was undone; no more
//! than [`EPISODES_KEPT`] are; none is given out of a job that needs a newer coordinator, which this one might misread. What a
//! commit will ask for is read before its turn, in which nobody else gets anywhere. Left to others: what is made of a spec.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::JobId;

use super::jobs::load_job;
use super::open::Pool;
use super::sql::Connection;
use crate::CoordinatorError;
use crate::flow::Job;

/// Episodes of the specs that are kept: more than run at once anywhere, at half a KB each.
const EPISODES_KEPT: usize = 512_000;

/// The specs that were asked for last.
#[derive(Debug)]
pub(crate) struct Specs {
    /// The protocol version up to which jobs are led on.
    version: u32,
    episodes_max: usize,
    kept: Mutex<HashMap<JobId, Arc<Job>>>,
    /// Held by whoever reads one: the others wait for the same one, mostly.
    reads: tokio::sync::Mutex<()>,
}

impl Specs {
    /// Of jobs of no later protocol version.
    pub(crate) fn of_version(version: u32) -> Self {
        Self::with_room_for(EPISODES_KEPT, version)
    }

    fn with_room_for(episodes_max: usize, version: u32) -> Self {
        Self {
            version,
            episodes_max,
            kept: Mutex::default(),
            reads: tokio::sync::Mutex::default(),
        }
    }

    /// The protocol version up to which jobs are led on.
    pub(crate) fn version(&self) -> i64 {
        i64::from(self.version)
    }

    /// The spec of a job, read unless it is at hand; `None` where there is no such job.
    pub(crate) async fn of(
        &self,
        id: &JobId,
        connection: &mut Connection,
    ) -> Result<Option<Arc<Job>>, CoordinatorError> {
        if let Some(spec) = self.kept(id) {
            return Ok(Some(spec));
        }
        let Some(row) = load_job(connection, id).await? else {
            return Ok(None);
        };
        if row.version > self.version {
            return Err(CoordinatorError::Unavailable(format!(
                "job {id} needs a coordinator of protocol version {}, this one speaks {}: upgrade it, or ask another",
                row.version, self.version
            )));
        }
        let spec = Arc::new(Job::new(row.spec()?));
        self.keep(id, Arc::clone(&spec));
        Ok(Some(spec))
    }

    fn kept(&self, id: &JobId) -> Option<Arc<Job>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(id).cloned()
    }

    fn keep(&self, id: &JobId, spec: Arc<Job>) {
        let episodes = |job: &Job| job.season.episodes.len();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far: usize = kept.values().map(|job| episodes(job)).sum();
        if so_far + episodes(&spec) > self.episodes_max {
            kept.clear();
        }
        kept.insert(id.clone(), spec);
    }

    /// Keeps nothing: a job may have been undone.
    pub(crate) fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Has the spec of a job at hand, if there is such a job.
    pub(crate) async fn read_ahead(&self, id: &JobId, readers: &Pool) -> Result<(), CoordinatorError> {
        if self.kept(id).is_some() {
            return Ok(());
        }
        let _reading = self.reads.lock().await;
        if self.kept(id).is_none() {
            self.of(id, &mut readers.acquire().await?).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{JobSpec, Stage};
    use remaster_proto::PROTOCOL_VERSION;

    use super::super::jobs::insert_job;
    use super::super::open::Db;
    use super::*;
    use crate::clock::Clock;
    use crate::config::Database;
    use crate::flow::tests::job;
    use crate::signals::Signals;

    #[test]
    fn what_finds_no_room_takes_the_place_of_all_before() {
        let specs = Specs::with_room_for(3, PROTOCOL_VERSION);
        let ids = ["1", "2", "3"].map(|n| {
            format!("0198c0de-0000-7000-8000-00000000000{n}")
                .parse()
                .expect("a UUID")
        });
        let [one, two, three]: &[JobId; 3] = &ids;
        let pair = || Arc::new(job(Stage::All, &[("E1", None, None), ("E2", None, None)]));
        specs.keep(one, Arc::new(job(Stage::All, &[("E1", None, None)])));
        specs.keep(two, pair());
        assert!(specs.kept(one).is_some() && specs.kept(two).is_some());
        specs.keep(three, pair());
        assert!(specs.kept(one).is_none() && specs.kept(two).is_none());
        assert!(specs.kept(three).is_some());
    }

    /// Hands in a job of a season of so many episodes; answers how many its spec has.
    async fn hand_in(db: &Db, episodes: usize, is_undone: bool) -> Result<usize, CoordinatorError> {
        let one = [("E1", None, None), ("E2", None, None)];
        let spec: JobSpec = (*job(Stage::All, &one[..episodes])).clone();
        let work = db.writer.run(move |tx| {
            Box::pin(async move {
                let id: JobId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
                insert_job(tx, &id, &spec, 0, None, vec![]).await?;
                let specs = Arc::clone(&tx.specs);
                let kept = specs.of(&id, &mut tx.connection).await?.unwrap();
                if is_undone {
                    return Err(CoordinatorError::Unavailable("undone".to_owned()));
                }
                Ok(kept.season.episodes.len())
            })
        });
        work.await
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_job_that_was_undone() {
        let folder = tempfile::tempdir().unwrap();
        let file = Database::Sqlite(folder.path().join("coordinator.db"));
        let db = Db::open(&file, PROTOCOL_VERSION, Clock::Database, Signals::new())
            .await
            .unwrap();
        hand_in(&db, 1, true).await.unwrap_err();
        assert_eq!(hand_in(&db, 2, false).await.unwrap(), 2);
    }
}
