//! The coordinator as a value: database, store, clock and settings. What it does lies in the files beside, one per area.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use remaster_domain::{JobId, SessionId, TaskId, WorkerId};
use remaster_store::{Key, Store};

use crate::CoordinatorError;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{self, Connection, Db, JobRow};
use crate::granted::Granted;
use crate::signals::Signals;

/// A worker unheard of for this many leases is shown as gone; its leases ran out before that.
const GONE_AFTER_LEASES: i64 = 2;

/// Decides and remembers; moves no frames.
pub struct Coordinator {
    pub(crate) db: Db,
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) signals: Signals,
    pub(crate) granted: Granted,
    /// Calls that were refused since their lease was another's or nobody's.
    pub(crate) stale_calls: AtomicI64,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Opens the database; whatever was committed before is there again. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`CoordinatorError::NewerDatabase`], [`CoordinatorError::DatabaseInUse`], or a file that cannot be used.
    pub async fn open(config: Config, store: Store, clock: Clock) -> Result<Arc<Self>, CoordinatorError> {
        let signals = Signals::new();
        let db = Db::open(&config.database, config.protocol_version, clock, signals.clone()).await?;
        Ok(Arc::new(Self {
            db,
            store,
            config,
            signals,
            granted: Granted::default(),
            stale_calls: AtomicI64::new(0),
        }))
    }

    pub(crate) fn lease_ms(&self) -> i64 {
        i64::from(self.config.lease_ms)
    }

    /// Sessions heard of since then count as live.
    pub(crate) fn live_since_ms(&self, now_ms: i64) -> i64 {
        live_since_ms(now_ms, self.lease_ms())
    }

    pub(crate) async fn reader(&self) -> Result<Connection, CoordinatorError> {
        self.db.reader().await
    }

    pub(crate) async fn job(&self, id: &JobId) -> Result<JobRow, CoordinatorError> {
        require_job(&mut self.reader().await?, id).await
    }

    /// Size of an object that must be there.
    pub(crate) async fn size_of(&self, key: &Key) -> Result<u64, CoordinatorError> {
        let size = self.store.size(key).await?;
        size.ok_or_else(|| CoordinatorError::Invalid(format!("object `{key}` is not in the store")))
    }
}

/// Sessions heard of since then count as live where leases last so long.
pub(crate) fn live_since_ms(now_ms: i64, lease_ms: i64) -> i64 {
    now_ms - GONE_AFTER_LEASES * lease_ms
}

pub(crate) async fn require_job(connection: &mut Connection, id: &JobId) -> Result<JobRow, CoordinatorError> {
    db::load_job(connection, id)
        .await?
        .ok_or_else(|| CoordinatorError::NotFound(format!("there is no job {id}")))
}

/// Parses an id of a request.
pub(crate) fn parse_id<T>(field: &str, text: &str) -> Result<T, CoordinatorError>
where
    T: std::str::FromStr<Err = remaster_domain::IdError>,
{
    text.parse().map_err(|error: remaster_domain::IdError| {
        CoordinatorError::Invalid(format!("field `{field}`: {error}"))
    })
}

/// What every call about a lease names.
#[derive(Debug, Clone)]
pub(crate) struct LeaseName {
    pub(crate) session: SessionId,
    pub(crate) task: TaskId,
    pub(crate) token: remaster_domain::LeaseToken,
}

/// What a process says of itself at registration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) protocol_version: u32,
    pub(crate) worker: WorkerId,
    pub(crate) session: SessionId,
    pub(crate) name: String,
    pub(crate) capabilities: remaster_domain::Capabilities,
}
