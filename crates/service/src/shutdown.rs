//! Signals and parents. The first SIGTERM or SIGINT asks the process to end by itself; the second ends it at once.

use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::CliError;

/// What a shell shows for a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
/// A child whose parent died has this long to release what it holds; then it ends anyway, or it would run for ever.
const ORPHAN_GRACE: Duration = Duration::from_secs(15);

/// A token that the first SIGTERM or SIGINT cancels. Call it inside a tokio runtime.
///
/// # Errors
/// When the system refuses signal handlers.
pub fn on_signals() -> Result<CancellationToken, CliError> {
    let refused = |error| CliError::failed(format!("could not listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        for already_asked in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if already_asked {
                warn!("second signal, ending at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
            info!("asked to end; a second signal ends at once");
            asked.cancel();
        }
    });
    Ok(token)
}

/// Ends this process with its parent: the parent holds the other end of stdin, and the system closes it however the
/// parent dies, SIGKILL included. Cancels the token first and exits after a grace.
pub fn exit_with_stdin(shutdown: CancellationToken) {
    // A thread: a blocking read of stdin inside the runtime would keep it from ending.
    std::thread::spawn(move || {
        let mut piece = [0; 256];
        while matches!(std::io::stdin().read(&mut piece), Ok(read) if read > 0) {}
        warn!("the process that started this one is gone");
        shutdown.cancel();
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    });
}
