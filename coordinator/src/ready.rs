//! Whether this coordinator can do its work: its database answers, and a transaction begins and ends in time.
//!
//! Promises: an answer within [`READY_MAX`], whatever the database does. Nothing is written, so that an idle disk may sleep;
//! a full one shows by the requests that it fails. The store is not asked: where it is away, the leases must go on all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::warn;

use crate::CoordinatorError;
use crate::coordinator::Coordinator;

/// Names under which health is reported, beside that of the whole process.
pub(crate) const SERVICES: [&str; 3] = ["remaster.v1.Workers", "remaster.v1.Jobs", "remaster.v1.Catalog"];
/// A probe waits no longer: most give up after five seconds or ten.
const READY_MAX: Duration = Duration::from_secs(3);
/// How soon those who watch the health service learn of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Coordinator {
    /// Whether work can be done.
    pub(crate) async fn ready(&self) -> Result<(), CoordinatorError> {
        let late = || {
            let waited_s = READY_MAX.as_secs();
            CoordinatorError::Unavailable(format!("the database did not answer within {waited_s} s"))
        };
        let asked = async {
            self.reader().await?.look().await?;
            self.db.writer.run(|_| Box::pin(async { Ok(()) })).await
        };
        tokio::time::timeout(READY_MAX, asked).await.map_err(|_| late())?
    }
}

/// Reports to the health service until shutdown, and then that nothing is served any more.
pub(crate) async fn report_for_ever(
    coordinator: Arc<Coordinator>,
    reporter: HealthReporter,
    shutdown: CancellationToken,
) {
    let mut was_ready = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let ready = coordinator.ready().await;
        if let Err(failure) = &ready {
            warn!(error = %failure, "not ready");
        }
        if ready.is_ok() != was_ready {
            was_ready = ready.is_ok();
            let status = if was_ready {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            report(&reporter, status).await;
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES.iter().chain(&[""]) {
        reporter.set_service_status(*service, status).await;
    }
}
