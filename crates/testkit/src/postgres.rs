//! A real PostgreSQL server for tests: Debian's package, a cluster of its own in a temporary folder, an unprivileged user.
//!
//! One server a test process, one database a test. The server ends with the process however that ends: its guard waits on
//! a pipe that the system closes. Durability is as a user has it; nothing here makes the server faster than it is.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::free_port;

/// Where Debian keeps the newest and the older versions.
const FOLDERS: [&str; 3] = [
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
];
/// A start takes a second, on a loaded machine some more.
const START_WAIT: Duration = Duration::from_secs(60);
/// Starts the server, waits until the pipe closes, stops it, or what was started again in its place, and clears up.
const GUARD: &str = r#"dir=$1; shift; "$@" >"$dir/log" 2>&1 & cat >/dev/null
server=$(head -n 1 "$dir/data/postmaster.pid"); kill -INT $server; wait
tries=0; while kill -0 $server 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
rm -rf "$dir""#;

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    binaries: PathBuf,
    folder: PathBuf,
    guard: Child,
}

/// How a server is made to restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// As an administrator does it: transactions are rolled back, connections closed.
    Fast,
    /// As a power cut does it: it recovers from its log.
    Immediate,
}

impl PostgresServer {
    /// The server of this process, started by the first who asks.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; in words.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SERVER: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
        let server = SERVER.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        server.as_ref().map_err(|words| anyhow::anyhow!(words.clone()))
    }

    /// Starts a server of its own.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// The same with settings in its environment.
    pub(crate) fn start_with(settings: &[(String, String)]) -> anyhow::Result<Self> {
        let binaries = FOLDERS
            .iter()
            .map(PathBuf::from)
            .find(|folder| folder.join("initdb").exists());
        let binaries =
            binaries.context("PostgreSQL is not installed: make setup, or apt install postgresql")?;
        let folder = tempfile::Builder::new()
            .prefix("remaster-postgres-")
            .tempdir()?
            .keep();
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(&folder).status()?;
            anyhow::ensure!(owned.success(), "could not give {} to postgres", folder.display());
        }
        let data = folder.join("data");
        let made = unprivileged(&binaries.join("initdb"))
            .args([
                "--auth=trust",
                "--username=remaster",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .output()?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = free_port()?;
        let guard = unprivileged(Path::new("sh"))
            .args(["-c", GUARD, "guard"])
            .arg(&folder)
            .arg(binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ])
            .envs(settings.iter().cloned())
            .stdin(Stdio::piped())
            .spawn()?;
        let server = Self {
            port,
            binaries,
            folder,
            guard,
        };
        server.wait()?;
        Ok(server)
    }

    /// A fresh database; answers its URL.
    ///
    /// # Errors
    /// When the server does not make it.
    pub fn database(&self) -> anyhow::Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = self.client("createdb").arg(&name).output()?;
        if !made.status.success() {
            bail!("createdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(format!("postgres://remaster@127.0.0.1:{}/{name}", self.port))
    }

    /// The number of its first process; those that serve connections are its children.
    ///
    /// # Errors
    /// When the server has not written it down.
    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.folder.join("data/postmaster.pid"))?;
        let line = text.lines().next().context("postmaster.pid is empty")?;
        Ok(line.trim().parse()?)
    }

    /// Stops the server and starts it again on the same port.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart(&self, how: Restart) -> anyhow::Result<()> {
        let mode = match how {
            Restart::Fast => "fast",
            Restart::Immediate => "immediate",
        };
        let done = unprivileged(&self.binaries.join("pg_ctl"))
            .args(["restart", "--wait", "--silent", "--mode", mode, "--pgdata"])
            .arg(self.folder.join("data"))
            .arg("--log")
            .arg(self.folder.join("log"))
            .stdout(Stdio::null())
            .status()?;
        anyhow::ensure!(done.success(), "PostgreSQL did not restart: {}", self.log());
        self.wait()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.client("pg_isready").output()?.status.success() {
            if start.elapsed() > START_WAIT {
                bail!("PostgreSQL did not start: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Has all that was written so far in the tables, and not in the log alone.
    pub(crate) fn checkpoint(&self) -> anyhow::Result<()> {
        let done = self
            .client("psql")
            .args(["-d", "postgres", "-c", "CHECKPOINT"])
            .output()?;
        if !done.status.success() {
            bail!("no checkpoint: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.args(["-h", "127.0.0.1", "-U", "remaster", "-p", &self.port.to_string()]);
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Closing the pipe ends the server; waiting for it clears the folder up.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The server refuses to run as root; then Debian's user runs it.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
