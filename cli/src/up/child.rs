//! One child process: started with a pipe as stdin and a log file, asked to end, ended.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remaster_service::CliError;
use tokio::process::{Child as Process, Command};

use super::ending::Role;
use super::log_file;

/// As much of a log as holds an error and its hint.
const LAST_WORDS_BYTES_MAX: u64 = 4096;
/// Lines shown of a child that died without saying `error:`.
const LAST_LINES: usize = 5;

/// How to start a child.
#[derive(Debug)]
pub(super) struct ChildSpec {
    role: Role,
    name: String,
    binary: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    log: PathBuf,
}

impl ChildSpec {
    pub(super) fn new(role: Role, name: &str, binary: &Path, dir: &Path) -> Self {
        Self {
            role,
            name: name.to_owned(),
            binary: binary.to_owned(),
            arguments: Vec::new(),
            log: log_file(dir, name),
        }
    }

    pub(super) fn arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(Into::into));
    }

    pub(super) fn path_argument(&mut self, option: &str, path: &Path) {
        self.arguments.extend([option.into(), path.into()]);
    }
}

/// A started child.
#[derive(Debug)]
pub(super) struct Child {
    spec: ChildSpec,
    process: Process,
    /// Where this life's log begins.
    log_start: u64,
    asked_to_end: Option<Instant>,
}

impl Child {
    pub(super) fn start(spec: ChildSpec) -> Result<Self, CliError> {
        let (process, log_start) = spawn(&spec)?;
        Ok(Self {
            spec,
            process,
            log_start,
            asked_to_end: None,
        })
    }

    /// Starts it again after it has ended.
    pub(super) fn restart(&mut self) -> Result<(), CliError> {
        (self.process, self.log_start) = spawn(&self.spec)?;
        Ok(())
    }

    /// How to start it next time.
    pub(super) fn replace_spec(&mut self, spec: ChildSpec) {
        self.spec = spec;
    }

    pub(super) fn role(&self) -> Role {
        self.spec.role
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn log(&self) -> &Path {
        &self.spec.log
    }

    pub(super) fn has_ended(&mut self) -> std::io::Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// Whether it has ended and says that it did what it was asked to: a worker that was told to drain.
    pub(super) fn has_ended_well(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(status)) if status.success())
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&mut self, now: Instant) {
        self.asked_to_end = Some(now);
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }

    /// For how long it has been asked to end, if it was.
    pub(super) fn asked_for(&self, now: Instant) -> Option<Duration> {
        self.asked_to_end.map(|asked| now.duration_since(asked))
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        tracing::warn!(name = self.name(), "did not end when asked, ending it");
        let _ = self.process.kill().await;
    }

    /// How it ended, with its error where it had one to say.
    pub(super) fn end_reason(&mut self) -> String {
        let status = self
            .process
            .try_wait()
            .ok()
            .flatten()
            .map_or("unknown".to_owned(), |status| status.to_string());
        let text = read_from(&self.spec.log, self.log_start).unwrap_or_default();
        match error_start(&text) {
            Some(_) => format!("{status}: {}", last_error(&text).0),
            None => status,
        }
    }

    /// What it said before it ended, as an error of ours.
    pub(super) fn last_words(&self) -> CliError {
        let text = read_from(&self.spec.log, self.log_start).unwrap_or_default();
        let (message, hint) = last_error(&text);
        let failed = CliError::failed(format!("{}: {message}", self.spec.name));
        failed.with_hint(hint.unwrap_or_else(|| format!("look into {}", self.spec.log.display())))
    }
}

fn spawn(spec: &ChildSpec) -> Result<(Process, u64), CliError> {
    let failed =
        |path: &Path, error: std::io::Error| CliError::failed(format!("{}: {error}", path.display()));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .map_err(|e| failed(&spec.log, e))?;
    let log_start = log.metadata().map_or(0, |meta| meta.len());
    let process = Command::new(&spec.binary)
        .args(&spec.arguments)
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(|e| failed(&spec.log, e))?)
        .stderr(log)
        // Ctrl-C reaches only us; we end the children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&spec.binary, error))?;
    Ok((process, log_start))
}

fn read_from(log: &Path, start: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        start.max(length.saturating_sub(LAST_WORDS_BYTES_MAX)),
    ))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn error_start(text: &str) -> Option<usize> {
    let after_line = text.rfind("\nerror: ").map(|at| at + 1);
    after_line.or_else(|| text.starts_with("error: ").then_some(0))
}

/// The last `error: ...` with its hint, else the last lines.
fn last_error(text: &str) -> (String, Option<String>) {
    let Some(start) = error_start(text) else {
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        return (
            if last.is_empty() {
                "it ended and said nothing".to_owned()
            } else {
                last
            },
            None,
        );
    };
    let words = &text[start + "error: ".len()..];
    match words.split_once("\n\nhint: ") {
        Some((message, hint)) => (message.trim().to_owned(), Some(hint.trim().to_owned())),
        None => (words.trim().to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_and_its_hint_are_found_in_a_log() {
        let log = "INFO started\nerror: could not listen on 127.0.0.1:7700: the port is in use\n\nhint: choose another\n";
        let (message, hint) = last_error(log);
        assert_eq!(message, "could not listen on 127.0.0.1:7700: the port is in use");
        assert_eq!(hint.as_deref(), Some("choose another"));
    }

    #[test]
    fn a_child_that_said_nothing_of_an_error_is_quoted() {
        assert_eq!(last_error("a\n\nb\n").0, "a\n  b");
        assert_eq!(last_error("").0, "it ended and said nothing");
    }
}
