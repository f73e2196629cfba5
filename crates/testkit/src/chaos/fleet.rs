//! Real coordinators and cheap workers, each behind a cable of its own, with seasons handed in for as long as faults come.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use remaster_domain::JobId;
use remaster_proto::{PROTOCOL_VERSION, connect, pb, to_json};
use remaster_store::Store;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::link::Link;
use super::rows::Rows;
use super::season::{Poison, is_whole, season};
use super::unfenced;
use super::version::VERSION_BEFORE;
use crate::cluster::serve;
use crate::process::{Process, free_port, words};
use crate::{PostgresServer, S3Server};

/// Lease of a fleet.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Heartbeat of a fleet.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Seasons under way at once: enough that no worker waits for one that has only one task ready.
const OPEN_JOBS: i64 = 4;
/// How often it is looked whether another season is due.
const FEED_PAUSE: Duration = Duration::from_millis(300);
/// Between tries of a submit.
const SUBMIT_AGAIN: Duration = Duration::from_millis(200);
/// What is left after the last fault is done within this, back-offs included.
const END_WAIT: Duration = Duration::from_secs(240);
/// How long a worker has to end once it is asked.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// One on SQLite; several share a PostgreSQL.
    pub(super) coordinators: usize,
    /// Worker processes.
    pub(super) workers: usize,
    /// Longest time that a task takes.
    pub(super) work_ms: u64,
    /// Further arguments of the workers.
    pub(super) flags: String,
    /// The store is an S3 server of this process, not a folder.
    pub(super) on_s3: bool,
    /// Wall clocks of coordinators and workers can be moved.
    pub(super) shifting_clocks: bool,
    /// Workers speak through a middleman who forges tokens: nothing is fenced.
    pub(super) unfenced: bool,
    /// All are of the protocol version before, to begin with.
    pub(super) before: bool,
}

/// A running fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The coordinators.
    pub(super) coordinators: Vec<Process>,
    /// The workers.
    pub(super) workers: Vec<Process>,
    /// The cable of each worker.
    pub(super) links: Vec<Link>,
    /// Where each coordinator listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// The database, read only.
    pub(super) rows: Rows,
    /// The server that it is on, if it is on one.
    pub(super) postgres: Option<PostgresServer>,
    /// The S3 server, if there is one.
    pub(super) s3: Option<S3Server>,
    /// The store.
    pub(super) store: Store,
    dir: TempDir,
    feeder: Option<(CancellationToken, JoinHandle<()>)>,
    fed: Arc<Fed>,
}

/// What was handed in.
#[derive(Debug, Default)]
struct Fed {
    numbers: Mutex<Vec<u32>>,
    /// Only what the protocol version before knows.
    is_plain: AtomicBool,
}

impl Fleet {
    /// Starts everything.
    pub(super) async fn start(layout: &Layout) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("remaster-chaos-").tempdir()?;
        let clock = if layout.shifting_clocks {
            preload_clock(dir.path())?
        } else {
            vec![]
        };
        let postgres = (layout.coordinators > 1)
            .then(|| PostgresServer::start_with(&clock))
            .transpose()?;
        let database = match &postgres {
            Some(server) => server.database()?,
            None => dir.path().join("coordinator.db").display().to_string(),
        };
        let s3 = layout
            .on_s3
            .then(|| S3Server::start(&dir.path().join("s3")))
            .transpose()?;
        let (store_url, mut settings) = match &s3 {
            Some(server) => (server.url("chaos"), server.settings()),
            None => (format!("file://{}/store", dir.path().display()), vec![]),
        };
        let store = Store::open_with(&store_url, &settings)?;
        settings.extend(clock);
        let mut fleet = Self {
            coordinators: vec![],
            workers: vec![],
            links: vec![],
            addresses: vec![],
            rows: Rows::open(&database)?,
            postgres,
            s3,
            store,
            dir,
            feeder: None,
            fed: Arc::default(),
        };
        fleet.feed_plain(layout.before);
        for number in 0..layout.coordinators {
            fleet.add_coordinator(number, &store_url, &database, layout.before, &settings)?;
        }
        let targets = if layout.unfenced {
            vec![unfenced::start(fleet.addresses[0]).await?]
        } else {
            fleet.addresses.clone()
        };
        for number in 0..layout.workers {
            let link = Link::start(targets.clone()).await?;
            fleet.add_worker(number, link, &store_url, layout, &settings)?;
        }
        Ok(fleet)
    }

    fn add_coordinator(
        &mut self,
        number: usize,
        store_url: &str,
        database: &str,
        before: bool,
        settings: &[(String, String)],
    ) -> anyhow::Result<()> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let (lease_ms, beat_ms) = (LEASE.as_millis() as u32, HEARTBEAT.as_millis() as u32);
        let mut arguments = serve(store_url, database, &address, lease_ms, beat_ms);
        arguments.extend(words(&version_arguments(before)));
        let name = format!("coordinator-{number}");
        let program = "remaster-coordinator";
        let process = Process::launch(self.dir.path(), &name, program, arguments, settings.to_vec())?;
        self.addresses.push(address.parse()?);
        self.coordinators.push(process);
        Ok(())
    }

    fn add_worker(
        &mut self,
        number: usize,
        link: Link,
        store_url: &str,
        layout: &Layout,
        settings: &[(String, String)],
    ) -> anyhow::Result<()> {
        let (name, history) = (worker_name(number), self.history());
        let arguments = format!(
            "worker --coordinator http://{} --store {store_url} --name {name} --history {} --work-ms {} {} {}",
            link.address,
            history.display(),
            layout.work_ms,
            layout.flags,
            version_arguments(layout.before),
        );
        let arguments = words(&arguments);
        let process = Process::launch(
            self.dir.path(),
            &name,
            "remaster-chaos",
            arguments,
            settings.to_vec(),
        )?;
        self.workers.push(process);
        self.links.push(link);
        Ok(())
    }

    /// Hands in one season after the other, so that a few are always under way, until [`Fleet::finish`].
    pub(super) fn feed(&mut self) {
        let stop = CancellationToken::new();
        let feeding = feed(
            self.rows.clone(),
            self.addresses.clone(),
            Arc::clone(&self.fed),
            stop.clone(),
        );
        self.feeder = Some((stop, tokio::spawn(feeding)));
    }

    /// Has nothing handed in from now on that the protocol version before does not know, or everything again.
    pub(super) fn feed_plain(&self, is_plain: bool) {
        self.fed.is_plain.store(is_plain, Ordering::Relaxed);
    }

    /// Hands in one season, for as long as it takes.
    pub(super) async fn submit(&self, number: u32, poison: Option<Poison>) {
        submit(&self.addresses, number, poison).await;
    }

    /// Proves that a coordinator is of the protocol version before: it refuses what that does not know, and says so.
    pub(super) async fn ensure_before(&self, number: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while let Err(error) = submit_at(self.addresses[number], submission(0, None)).await {
            if error.to_string().contains("upgrade the coordinator first") {
                return Ok(());
            }
            // It may be starting.
            ensure!(start.elapsed() < STOP_WAIT, "coordinator {number}: {error:#}");
            tokio::time::sleep(SUBMIT_AGAIN).await;
        }
        bail!("coordinator {number} takes what version {VERSION_BEFORE} does not know")
    }

    /// Waits until all that was handed in has ended, restarting what has died; then ends the workers, so that all they saw
    /// is written down. Answers which seasons were fed.
    pub(super) async fn finish(&mut self) -> anyhow::Result<Vec<u32>> {
        if let Some((stop, feeding)) = self.feeder.take() {
            stop.cancel();
            feeding.await?;
        }
        let start = Instant::now();
        while self.rows.open_jobs().await.ok() != Some(0) {
            self.revive()?;
            ensure!(start.elapsed() < END_WAIT, "jobs are left:\n{}", self.logs());
            tokio::time::sleep(FEED_PAUSE).await;
        }
        for worker in &mut self.workers {
            worker.revive()?;
            worker.signal(Signal::SIGTERM)?;
        }
        for worker in &mut self.workers {
            worker.wait(STOP_WAIT)?;
        }
        Ok(self.fed.numbers().clone())
    }

    /// Starts again what has ended by itself; answers how many had.
    pub(super) fn revive(&mut self) -> anyhow::Result<usize> {
        let mut revived = 0;
        for process in self.coordinators.iter_mut().chain(&mut self.workers) {
            revived += usize::from(process.revive()?);
        }
        Ok(revived)
    }

    /// How long after a time the first task was leased.
    pub(super) async fn first_lease_ms(&self, after_ms: i64) -> anyhow::Result<i64> {
        let start = Instant::now();
        loop {
            let leased_ms = self.rows.first_lease_after(after_ms).await.unwrap_or(0);
            if leased_ms > 0 {
                return Ok(leased_ms - after_ms);
            }
            ensure!(
                start.elapsed() < STOP_WAIT,
                "nothing was leased any more:\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Moves the wall clocks of all coordinators and workers, and of the server that they are on.
    pub(super) fn shift_clocks(&self, shift: i64) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt;
        let nanoseconds = shift * 1_000_000_000;
        // In place: whoever has it mapped would die of a file that is empty for a moment.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.dir.path().join(CLOCK_FILE))?;
        Ok(file.write_all_at(&nanoseconds.to_le_bytes(), 0)?)
    }

    /// Proves that every process has taken in what moves its clock, and the file that says how far.
    pub(super) fn ensure_clocks_are_preloaded(&self) -> anyhow::Result<()> {
        let processes = self.coordinators.iter().chain(&self.workers);
        let mut processes: Vec<_> = processes
            .map(|process| Ok((process.name.as_str(), process.id()?)))
            .collect::<anyhow::Result<_>>()?;
        if let Some(server) = &self.postgres {
            processes.push(("PostgreSQL", server.process()?));
        }
        for (name, id) in processes {
            let maps = std::fs::read_to_string(format!("/proc/{id}/maps"))?;
            for file in [CLOCK_LIBRARY, CLOCK_FILE] {
                ensure!(
                    has_mapped(&maps, file),
                    "{name} has not taken {file} in: its clock stands where it stood"
                );
            }
        }
        Ok(())
    }

    /// File of the workers' history.
    pub(super) fn history(&self) -> PathBuf {
        self.dir.path().join("history.jsonl")
    }

    /// Keeps the folder of a run that somebody will want to look at.
    pub(super) fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// The ends of the coordinators' logs.
    pub(super) fn logs(&self) -> String {
        let coordinators = self.coordinators.iter();
        coordinators
            .map(|process| format!("--- {}\n{}\n", process.name, process.log_tail()))
            .collect()
    }
}

/// Name of a worker by its number.
pub(super) fn worker_name(number: usize) -> String {
    format!("light-{number}")
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Moves the clock of a process that has it preloaded.
const CLOCK_LIBRARY: &str = "clock.so";
/// File with the shift of the clocks.
const CLOCK_FILE: &str = "clock-shift";

/// Whether a file of this name is among what a process has mapped.
fn has_mapped(maps: &str, file: &str) -> bool {
    let path = format!("/{file}");
    maps.lines().any(|line| line.ends_with(&path))
}

/// Builds what moves the clocks; answers the settings by which a process takes it in.
fn preload_clock(dir: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let (source, library, shift) = (dir.join("clock.c"), dir.join(CLOCK_LIBRARY), dir.join(CLOCK_FILE));
    std::fs::write(&source, include_str!("clock.c"))?;
    std::fs::write(&shift, 0_i64.to_le_bytes())?;
    // A server of another user takes them in as well.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status()
        .context("cannot run cc")?;
    ensure!(built.success(), "cc could not build the shifting clock");
    let setting = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
    Ok(vec![
        setting("LD_PRELOAD", &library),
        setting("CHAOS_CLOCK_SHIFT", &shift),
    ])
}

/// By which a coordinator or a worker is told what to speak.
pub(super) const VERSION_FLAG: &str = "--protocol-version";

fn version_arguments(before: bool) -> String {
    if before {
        format!("{VERSION_FLAG} {VERSION_BEFORE}")
    } else {
        String::new()
    }
}

impl Fed {
    fn numbers(&self) -> MutexGuard<'_, Vec<u32>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> u32 {
        let next = self.numbers().last().map_or(0, |last| last + 1);
        next + u32::from(self.is_plain.load(Ordering::Relaxed) && is_whole(next))
    }

    /// Besides what may have to wait for an upgrade.
    fn open_jobs(&self) -> i64 {
        if self.is_plain.load(Ordering::Relaxed) {
            2 * OPEN_JOBS
        } else {
            OPEN_JOBS
        }
    }
}

async fn feed(rows: Rows, addresses: Vec<SocketAddr>, fed: Arc<Fed>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let most = fed.open_jobs();
        // A database that is away has its reasons; the next look will do.
        let open = rows
            .open_jobs()
            .await
            .unwrap_or(if fed.numbers().is_empty() { 0 } else { most });
        for _ in open..most {
            let number = fed.next();
            submit(&addresses, number, None).await;
            fed.numbers().push(number);
        }
        tokio::time::sleep(FEED_PAUSE).await;
    }
}

async fn submit(addresses: &[SocketAddr], number: u32, poison: Option<Poison>) {
    // The same at every try, so that the repeat of a submit whose answer was lost is the same job.
    let request = submission(number, poison);
    for address in addresses.iter().cycle() {
        if submit_at(*address, request.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(SUBMIT_AGAIN).await;
    }
}

/// A season as a client hands it in that is of the protocol version before wherever that does.
fn submission(number: u32, poison: Option<Poison>) -> pb::SubmitJobRequest {
    pb::SubmitJobRequest {
        protocol_version: if is_whole(number) {
            PROTOCOL_VERSION
        } else {
            VERSION_BEFORE
        },
        spec_json: to_json(&season(number, poison)),
        priority: 0,
        job_id: JobId::from_uuid(Uuid::now_v7()).into(),
    }
}

async fn submit_at(address: SocketAddr, request: pb::SubmitJobRequest) -> anyhow::Result<()> {
    let channel = connect(&format!("http://{address}"))?;
    let mut jobs = pb::jobs_client::JobsClient::new(channel);
    jobs.submit_job(request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_moves_only_where_library_and_shift_are_mapped() {
        let maps = "7f00-7f01 r-xp 00000000 fe:01 1 /tmp/x/clock.so\n7f02-7f03 r--s 00000000 fe:01 2 /tmp/x/clock-shift\n";
        assert!(has_mapped(maps, CLOCK_LIBRARY) && has_mapped(maps, CLOCK_FILE));
        let ignored = "7f00-7f01 r-xp 00000000 fe:01 1 /usr/lib/libc.so.6\n";
        assert!(!has_mapped(ignored, CLOCK_LIBRARY));
    }
}
