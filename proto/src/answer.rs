//! How long a call is repeated: while the coordinator is away, and until there is nobody to tell.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::client::ClientError;

/// Pause after a failed call: the coordinator may be restarting.
pub(crate) const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a coordinator that comes back gets its workers within this.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// Repeats a call while the coordinator is away, or has not been told yet that this session lives on. `None` when `stop` was
/// cancelled first.
pub(crate) async fn until_answered<T, F, Fut>(
    stop: &CancellationToken,
    call: F,
) -> Option<Result<T, ClientError>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, ClientError>>,
{
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        let answer = tokio::select! {
            answer = call() => answer,
            () = stop.cancelled() => return None,
        };
        match answer {
            Err(error) if error.is_retryable() || matches!(error, ClientError::SessionUnknown(_)) => {
                warn!(%error, "trying again");
            }
            other => return Some(other),
        }
        sleep_or(stop, pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

/// Sleeps, but not on when `stop` is cancelled.
pub(crate) async fn sleep_or(stop: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
