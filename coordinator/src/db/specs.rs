//! Specs of the jobs that move, parsed once and kept: a season of a thousand episodes is half a megabyte of JSON, and each of
//! its commits asks for it.
//!
//! Promises: what is kept is never wrong, since a job's spec never changes; no more than [`EPISODES_KEPT`] are. What a commit
//! will ask for is read before its turn, in which nobody else gets anywhere. Left to others: what is made of a spec.

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
    episodes_max: usize,
    kept: Mutex<HashMap<JobId, Arc<Job>>>,
    /// Held by whoever reads one: the others wait for the same one, mostly.
    reads: tokio::sync::Mutex<()>,
}

impl Default for Specs {
    fn default() -> Self {
        Self::with_room_for(EPISODES_KEPT)
    }
}

impl Specs {
    fn with_room_for(episodes_max: usize) -> Self {
        Self {
            episodes_max,
            kept: Mutex::default(),
            reads: tokio::sync::Mutex::default(),
        }
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
    use remaster_domain::Stage;

    use super::*;
    use crate::flow::tests::job;

    #[test]
    fn what_finds_no_room_takes_the_place_of_all_before() {
        let specs = Specs::with_room_for(3);
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
}
