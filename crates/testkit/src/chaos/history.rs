//! What the simulated workers saw, one line a fact, in a file that survives them: the other half of the checker's evidence.
//!
//! A line is one write to a file opened for appending, so a worker that is killed leaves whole lines only.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fleet::now_ms;

/// What a worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Saw {
    /// The coordinator said that its result counts.
    Acknowledged,
    /// The coordinator would not have what it handed in, since the lease was another's by then.
    Fenced,
    /// The coordinator would not have what it handed in, and it was not for the lease.
    Refused,
    /// It was given a task that its version of the protocol cannot read.
    Foreign,
    /// It ends itself between the upload and the commit.
    Dying,
    /// It takes far longer for this than others take.
    Straggling,
    /// It read an input that crashes, fills or hangs it, or is no video.
    Poisoned,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fact {
    /// Name of the worker.
    pub(super) worker: String,
    /// Version of the protocol that it speaks.
    pub(super) version: u32,
    /// What it saw.
    pub(super) saw: Saw,
    /// Task it is about.
    pub(super) task: String,
    /// Token that it held.
    pub(super) token: i64,
    /// When, by its own clock, in milliseconds since the epoch.
    pub(super) at_ms: i64,
}

/// A history that is written.
#[derive(Debug)]
pub(super) struct HistoryFile {
    worker: String,
    version: u32,
    file: File,
}

impl HistoryFile {
    /// Opens a history for one more worker.
    pub(super) fn open(path: &Path, worker: &str, version: u32) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let worker = worker.to_owned();
        Ok(Self {
            worker,
            version,
            file,
        })
    }

    /// Writes a fact down.
    pub(super) fn note(&self, saw: Saw, task: &str, token: i64) {
        let fact = Fact {
            worker: self.worker.clone(),
            version: self.version,
            saw,
            task: task.to_owned(),
            token,
            at_ms: now_ms(),
        };
        let line = serde_json::to_string(&fact).expect("plain data") + "\n";
        // A history that cannot be written must not look like a quiet one.
        (&self.file)
            .write_all(line.as_bytes())
            .expect("the history can be written");
    }
}

/// Reads a history; one that nobody wrote is empty.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Fact>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
