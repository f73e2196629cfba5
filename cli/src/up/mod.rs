//! `remaster up`: coordinator, workers and trainer as processes of their own on this machine, kept alive until a signal.
//!
//! A child that cannot start ends `up` with the child's own words; one that dies later is started again, ever slower.
//! The first signal ends them in order, the second kills them.
//! Children hold our pipe as stdin and end when it closes, so nothing outlives `up`, SIGKILL included.

mod backoff;
mod child;
mod ending;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remaster_service::CliError;
use remaster_store::folder_url;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::backoff::Backoff;
use self::child::{Child, ChildSpec};
use self::ending::{Role, Step};
use crate::args::{ConnectArgs, UpArgs};
use crate::client::Coordinator;
use crate::fleet;
use crate::output::now_ms;

/// Opening the database and probing a store over a slow line.
const COORDINATOR_START_MAX: Duration = Duration::from_secs(60);
/// Loading libtorch from a cold disk.
const WORKERS_START_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a shell shows for a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// `remaster up`.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let refused = |error| CliError::failed(format!("could not listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let shutdown = CancellationToken::new();
    let mut next_signal = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let asked_twice = async {
        next_signal().await;
        info!("asked to end; a second signal kills at once");
        shutdown.cancel();
        next_signal().await;
    };
    tokio::select! {
        ended = run_until(&args, &shutdown) => ended,
        () = asked_twice => {
            // The children died with the future that held them.
            warn!("second signal, everything was killed");
            std::process::exit(EXIT_INTERRUPTED);
        }
    }
}

/// Dropped on its way, it kills its children.
async fn run_until(args: &UpArgs, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let place = Place::prepare(args)?;
    let mut children = Vec::new();
    let started = start(args, &place, shutdown, &mut children).await;
    if started.is_ok() {
        keep_alive(&mut children, shutdown).await;
    }
    stop(children).await;
    started
}

/// Folders and binaries, checked before anything is started.
struct Place {
    dir: PathBuf,
    store: String,
    coordinator: PathBuf,
    worker: PathBuf,
    trainer: PathBuf,
}

impl Place {
    fn prepare(args: &UpArgs) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::failed(format!("{}: {error}", args.dir.display()));
        std::fs::create_dir_all(args.dir.join("logs")).map_err(failed)?;
        let dir = args.dir.canonicalize().map_err(failed)?;
        let store = match &args.store {
            Some(url) => url.clone(),
            None => folder_url(&dir.join("store")).map_err(failed)?,
        };
        Ok(Self {
            coordinator: sibling("remaster-coordinator")?,
            worker: sibling("remaster-worker")?,
            trainer: sibling("remaster-trainer")?,
            dir,
            store,
        })
    }

    fn coordinator(&self, listen: &str) -> ChildSpec {
        let mut spec = ChildSpec::new(Role::Coordinator, "coordinator", &self.coordinator, &self.dir);
        spec.arguments(&["serve", "--store", &self.store, "--listen", listen]);
        spec.path_argument("--data-dir", &self.dir);
        spec.path_argument("--address-file", &self.address_file());
        spec
    }

    fn worker(&self, number: u16, args: &UpArgs, url: &str, threads: usize) -> ChildSpec {
        let mut spec = ChildSpec::new(Role::Worker, &format!("worker-{number}"), &self.worker, &self.dir);
        let threads = threads.to_string();
        spec.arguments(&[
            "run",
            "--coordinator",
            url,
            "--store",
            &self.store,
            "--threads",
            &threads,
        ]);
        spec.path_argument("--scratch", &self.dir.join(format!("scratch-{number}")));
        for folder in &args.sources {
            spec.path_argument("--sources", folder);
        }
        spec
    }

    fn trainer(&self, url: &str) -> ChildSpec {
        let mut spec = ChildSpec::new(Role::Trainer, "trainer", &self.trainer, &self.dir);
        spec.arguments(&["run", "--coordinator", url, "--store", &self.store]);
        spec.path_argument("--logs", &self.dir.join("runs"));
        spec
    }

    fn address_file(&self) -> PathBuf {
        self.dir.join("coordinator.address")
    }
}

/// A binary of ours: beside this one, else on the PATH.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, CliError> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|us| Some(us.parent()?.join(name)));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = beside
        .into_iter()
        .chain(std::env::split_paths(&on_path).map(|folder| folder.join(name)));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        CliError::failed(format!("{name} is neither beside this command nor on the PATH"))
            .with_hint("build all binaries with `cargo build --workspace --bins` and keep them in one folder")
    })
}

async fn start(
    args: &UpArgs,
    place: &Place,
    shutdown: &CancellationToken,
    children: &mut Vec<Child>,
) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(place.address_file());
    children.push(Child::start(place.coordinator(&args.listen))?);
    let Some(bound) = coordinator_address(place, shutdown, children).await? else {
        return Ok(());
    };
    // Should it have to start again, it must be found where it was.
    children[0].replace_spec(place.coordinator(&bound.to_string()));
    let url = format!("http://{}", reachable(bound));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / usize::from(args.workers.max(1))).max(1);
    for number in 1..=args.workers {
        children.push(Child::start(place.worker(number, args, &url, threads))?);
    }
    if !args.no_trainer {
        children.push(Child::start(place.trainer(&url))?);
    }
    wait_for_workers(&url, children, shutdown).await?;
    if !shutdown.is_cancelled() {
        println_ready(&url, place);
    }
    Ok(())
}

/// The URL is the data of this command; all else goes to stderr.
fn println_ready(url: &str, place: &Place) {
    let _ = crate::output::print(&format!("{url}\n"));
    eprintln!(
        "ready; store {}, logs in {}",
        place.store,
        place.dir.join("logs").display()
    );
}

/// Where the coordinator listens, as it was bound.
async fn coordinator_address(
    place: &Place,
    shutdown: &CancellationToken,
    children: &mut [Child],
) -> anyhow::Result<Option<SocketAddr>> {
    let file = place.address_file();
    let look = async || {
        Ok(std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse::<SocketAddr>().ok()))
    };
    until(COORDINATOR_START_MAX, "the coordinator", shutdown, children, look).await
}

/// An address that listens everywhere is reached on this machine.
fn reachable(mut bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        bound.set_ip(match bound.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    bound
}

async fn wait_for_workers(
    url: &str,
    children: &mut [Child],
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&ConnectArgs {
        coordinator: url.to_owned(),
    })?;
    let wanted = children.len() - 1;
    // Workers of an earlier life may still be listed as live.
    let since_ms = now_ms();
    let look = async || {
        let workers = fleet::list(&coordinator).await.unwrap_or_default();
        Ok((workers
            .iter()
            .filter(|worker| worker.state == "live" && worker.seen_ms >= since_ms)
            .count()
            >= wanted)
            .then_some(()))
    };
    until(WORKERS_START_MAX, "the workers", shutdown, children, look)
        .await
        .map(|_| ())
}

/// Looks until there is something to see; a child that ends meanwhile is the reason why there never will be.
async fn until<T>(
    patience: Duration,
    what: &str,
    shutdown: &CancellationToken,
    children: &mut [Child],
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let deadline = tokio::time::Instant::now() + patience;
    while tokio::time::Instant::now() < deadline && !shutdown.is_cancelled() {
        for child in children.iter_mut() {
            if child.has_ended()? {
                return Err(child.last_words().into());
            }
        }
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if shutdown.is_cancelled() {
        return Ok(None);
    }
    Err(
        CliError::failed(format!("{what} did not come up within {} s", patience.as_secs()))
            .with_hint(format!(
                "look into {}",
                children[children.len() - 1].log().display()
            ))
            .into(),
    )
}

async fn keep_alive(children: &mut [Child], shutdown: &CancellationToken) {
    let mut backoffs: Vec<_> = children.iter().map(|_| Backoff::default()).collect();
    while !shutdown.is_cancelled() {
        for (child, backoff) in children.iter_mut().zip(&mut backoffs) {
            tend(child, backoff);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

fn tend(child: &mut Child, backoff: &mut Backoff) {
    let now = Instant::now();
    if backoff.is_down() {
        if backoff.is_due(now) {
            info!(name = child.name(), "starting again");
            match child.restart() {
                Ok(()) => backoff.started(now),
                Err(error) => {
                    warn!(name = child.name(), %error, "could not start");
                    backoff.died(now);
                }
            }
        }
    } else if child.has_ended_well() {
        backoff.ended_well();
        info!(name = child.name(), "ended as it was asked to, and stays down");
    } else if child.has_ended().unwrap_or(true) {
        backoff.died(now);
        let reason = child.end_reason();
        warn!(name = child.name(), %reason, "ended; it will be started again");
    }
}

/// Ends what still runs, and says whom it waits for.
async fn stop(mut children: Vec<Child>) {
    let mut said = String::new();
    loop {
        children.retain_mut(|child| !child.has_ended().unwrap_or(true));
        if children.is_empty() {
            return;
        }
        let others_run = children.iter().any(|child| child.role() != Role::Coordinator);
        let mut awaited = Vec::new();
        for child in &mut children {
            let now = Instant::now();
            match ending::step(child.role(), child.asked_for(now), others_run) {
                Step::Ask => child.ask_to_end(now),
                Step::Wait => {}
                Step::Kill => child.kill().await,
            }
            if child.asked_for(now).is_some() {
                awaited.push(child.name());
            }
        }
        let awaited = awaited.join(", ");
        if awaited != said {
            eprintln!("waiting for {awaited} to end");
            said = awaited;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where logs lie below the data folder.
pub(crate) fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(format!("{name}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_reached_here() {
        for (bound, reached) in [
            ("0.0.0.0:7700", "127.0.0.1:7700"),
            ("[::]:7700", "[::1]:7700"),
            ("10.0.0.0:7700", "10.0.0.0:7700"),
        ] {
            let bound = bound.parse().expect("written above");
            assert_eq!(reachable(bound).to_string(), reached);
        }
    }
}
