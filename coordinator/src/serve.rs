//! Serves a coordinator over whatever brings connections: a TCP listener in production, an in-memory pipe in tests.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use remaster_proto::pb::catalog_server::CatalogServer;
use remaster_proto::pb::jobs_server::JobsServer;
use remaster_proto::pb::workers_server::WorkersServer;
use remaster_proto::{DESCRIPTOR_SET, MESSAGE_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{info, warn};

use crate::CoordinatorError;
use crate::background::{copy_for_ever, listen_for_ever, reap_for_ever};
use crate::coordinator::Coordinator;
use crate::ready::{SERVICES, report_for_ever};
use crate::service::{CatalogService, JobsService, WorkersService};

/// Finds out that a peer is gone although it says nothing; half a lease's usual length.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long such a peer has to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls under way at shutdown have this long; streams and long polls end at once by themselves.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Serves until `shutdown` is cancelled, then ends within a few seconds whatever its clients do.
///
/// # Errors
/// When connections cannot be served at all.
pub async fn serve<I, IO, E>(
    coordinator: Arc<Coordinator>,
    incoming: I,
    shutdown: CancellationToken,
) -> Result<(), CoordinatorError>
where
    I: Stream<Item = Result<IO, E>> + Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut background = JoinSet::new();
    background.spawn(reap_for_ever(Arc::clone(&coordinator), shutdown.clone()));
    background.spawn(listen_for_ever(Arc::clone(&coordinator), shutdown.clone()));
    background.spawn(copy_for_ever(Arc::clone(&coordinator), shutdown.clone()));

    let (reporter, health) = remaster_service::health(&SERVICES).await;
    background.spawn(report_for_ever(
        Arc::clone(&coordinator),
        reporter,
        shutdown.clone(),
    ));
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(health)
        .add_service(reflection()?)
        .add_service(workers(&coordinator, &shutdown))
        .add_service(jobs(&coordinator, &shutdown))
        .add_service(catalog(&coordinator));
    let served = router.serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    let grace = async {
        shutdown.cancelled().await;
        info!("shutting down");
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    let outcome = tokio::select! {
        outcome = served => outcome.map_err(|error| CoordinatorError::Unavailable(format!("could not serve: {error}"))),
        () = grace => {
            warn!("clients did not let go in time");
            Ok(())
        }
    };
    shutdown.cancel();
    let ended = async { while background.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
        // A database or a store that is away is not waited for: all of this goes by rows and is taken up at the next start.
        background.abort_all();
    }
    outcome
}

fn workers(core: &Arc<Coordinator>, shutdown: &CancellationToken) -> WorkersServer<WorkersService> {
    WorkersServer::new(WorkersService {
        core: Arc::clone(core),
        shutdown: shutdown.clone(),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn jobs(core: &Arc<Coordinator>, shutdown: &CancellationToken) -> JobsServer<JobsService> {
    JobsServer::new(JobsService {
        core: Arc::clone(core),
        shutdown: shutdown.clone(),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn catalog(core: &Arc<Coordinator>) -> CatalogServer<CatalogService> {
    CatalogServer::new(CatalogService {
        core: Arc::clone(core),
    })
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    CoordinatorError,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| CoordinatorError::Invalid(format!("descriptor set: {error}")))
}
