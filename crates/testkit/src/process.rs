//! One process of a test: started, signalled, killed with proof, started again; what it says goes to a log of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// One process that can be started again with the same arguments.
#[derive(Debug)]
pub struct Process {
    /// Name in messages and of its log.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    dir: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts a program for the first time, in a folder of its own below `root`.
    pub(crate) fn launch(
        root: &Path,
        name: &str,
        program: &str,
        arguments: Vec<String>,
        settings: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir)?;
        let program = binary(program)?;
        let mut process = Self {
            name: name.to_owned(),
            program,
            arguments,
            settings,
            dir,
            child: None,
        };
        process.start()?;
        Ok(process)
    }

    /// Starts the process; what it says is appended to its log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} is already running", self.name);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.settings.iter().cloned())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Gives an argument another value, from the next start on.
    pub(crate) fn change_argument(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        let place = self.arguments.iter().position(|argument| argument == name);
        let argument = place.and_then(|place| self.arguments.get_mut(place + 1));
        *argument.with_context(|| format!("{} has no argument {name}", self.name))? = value.to_owned();
        Ok(())
    }

    /// Kills the process with SIGKILL and proves that this is what ended it.
    ///
    /// # Errors
    /// When it was not running: then the fault did not fire.
    pub fn kill_9(&mut self) -> anyhow::Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let mut child = self
            .child
            .take()
            .with_context(|| format!("{} is not running", self.name))?;
        child.kill()?;
        let status = child.wait()?;
        ensure!(
            status.signal() == Some(9),
            "{} ended before it was killed: {status}\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Its number, while it runs.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        let child = self.child.as_ref();
        Ok(child
            .with_context(|| format!("{} is not running", self.name))?
            .id())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self
            .child
            .as_ref()
            .with_context(|| format!("{} is not running", self.name))?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Whether the system has stopped it, as SIGSTOP does.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = self
            .child
            .as_ref()
            .map(|child| std::fs::read_to_string(format!("/proc/{}/stat", child.id())));
        // The state follows the name, which is in brackets.
        matches!(stat, Some(Ok(text)) if text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    /// Starts it again if it has ended by itself; answers whether it had.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn revive(&mut self) -> anyhow::Result<bool> {
        if let Some(child) = &mut self.child {
            if child.try_wait()?.is_none() {
                return Ok(false);
            }
            self.child = None;
        }
        self.start()?;
        Ok(true)
    }

    /// Sends SIGTERM and waits for the end; answers the exit code.
    ///
    /// # Errors
    /// When it does not end within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> anyhow::Result<i32> {
        self.signal(Signal::SIGTERM)?;
        self.wait(patience)
    }

    /// Waits for a process that ends by itself; answers the exit code.
    ///
    /// # Errors
    /// When it does not end within `patience`; it is killed then.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<i32> {
        let mut child = self
            .child
            .take()
            .with_context(|| format!("{} is not running", self.name))?;
        let ended = wait_until("the process ends", patience, || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
        }
        Ok(ended?.code().unwrap_or(-1))
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Its whole log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What its own clock showed when it last logged, in milliseconds since the epoch.
    pub(crate) fn logged_ms(&self) -> Option<i64> {
        let time = |line: &str| chrono::DateTime::parse_from_rfc3339(line.split(' ').next()?).ok();
        let newest = self.log_tail().lines().rev().find_map(time);
        newest.map(|time| time.timestamp_millis())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A binary of the workspace, built before the tests run: beside the bench, or above the folder that tests lie in.
///
/// # Errors
/// When it is not there.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built beside {}; run make test", own.display()))
}

/// Looks at a condition until it holds.
///
/// # Errors
/// When it does not hold within `patience`, or looking fails.
pub fn wait_until<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(
            start.elapsed() < patience,
            "waited {} s until {what}",
            patience.as_secs()
        );
        std::thread::sleep(POLL);
    }
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Free a moment ago; whoever takes it meanwhile makes the start fail in words.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
