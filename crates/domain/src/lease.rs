//! The lease: the right to try a task until a deadline, and what a heartbeat may say of it.

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, JobId, LeaseToken, Progress, TaskId, TaskSpec};

/// A task that was handed out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// Its job.
    pub job: JobId,
    /// Fencing token of this lease.
    pub token: LeaseToken,
    /// Attempts made so far, this one included.
    pub attempt: u32,
    /// What to do.
    pub spec: TaskSpec,
    /// Where an earlier attempt got to.
    pub checkpoint: Option<Checkpoint>,
}

/// What a worker says of a lease in a heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseProgress {
    /// The task.
    pub task: TaskId,
    /// The token it is held under.
    pub token: LeaseToken,
    /// How far it is.
    pub progress: Progress,
}

/// What the coordinator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Renewed.
    Renewed,
    /// Somebody else's now: stop at once.
    Lost,
    /// The job was cancelled: stop at once.
    Cancel,
    /// The job was paused: what runs may finish.
    Pause,
}
