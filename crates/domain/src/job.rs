//! Jobs: what a user asked for, and the states that jobs and tasks go through.

use serde::{Deserialize, Serialize};

use crate::{JobId, Season};

/// How much of the flow line a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Everything: extract, train, publish, upscale.
    All,
    /// Index, align, extract, curate.
    Extract,
    /// Train and publish on the season's newest dataset.
    Train,
    /// Upscale with the model that the season names.
    Upscale,
}

impl Stage {
    /// The word used on the wire and the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Extract => "extract",
            Self::Train => "train",
            Self::Upscale => "upscale",
        }
    }

    /// The stage of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::All, Self::Extract, Self::Train, Self::Upscale]
            .into_iter()
            .find(|stage| stage.as_str() == word)
    }
}

/// What is submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The season with its sources.
    pub season: Season,
    /// How much of the flow line.
    pub stage: Stage,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Tasks are leased as workers ask.
    Running,
    /// No new leases until resumed.
    Paused,
    /// Cancelled: running attempts were told to stop, nothing is leased any more.
    Cancelled,
    /// Every task committed.
    Succeeded,
    /// Every task ended and at least one is dead.
    Failed,
}

impl JobState {
    /// The word used on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Paused,
            Self::Cancelled,
            Self::Succeeded,
            Self::Failed,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }

    /// Whether nothing will change any more by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Succeeded | Self::Failed)
    }
}

/// State of a task. What it waits for is kept by not existing: a task is made when its inputs are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// May be leased, from `not_before` on.
    Ready,
    /// Somebody holds the lease.
    Leased,
    /// Its result counts.
    Committed,
    /// Out of budget or bad input; `retry` makes it ready again.
    Dead,
    /// Its job was cancelled.
    Cancelled,
}

impl TaskState {
    /// The word used on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Committed => "committed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Ready,
            Self::Leased,
            Self::Committed,
            Self::Dead,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// Why an attempt failed, as far as it decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// May go well next time: charged to the error budget, tried again after a back-off.
    Retryable,
    /// The input itself is wrong: dead at once, with the reason.
    BadInput,
}

impl FailureClass {
    /// The word used on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::BadInput => "bad-input",
        }
    }

    /// The class of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Retryable, Self::BadInput]
            .into_iter()
            .find(|class| class.as_str() == word)
    }
}

/// What a user may do to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobAction {
    /// Stop leasing its tasks.
    Pause,
    /// Lease them again.
    Resume,
    /// Stop for good.
    Cancel,
    /// Put its dead tasks back with fresh budgets.
    Retry,
}

impl JobAction {
    /// The word used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    /// The action of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pause, Self::Resume, Self::Cancel, Self::Retry]
            .into_iter()
            .find(|action| action.as_str() == word)
    }
}

/// A job as the coordinator keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Id.
    pub id: JobId,
    /// What was asked.
    pub spec: JobSpec,
    /// State.
    pub state: JobState,
    /// Higher goes first.
    pub priority: i64,
    /// Submission time in ms since the epoch.
    pub created_ms: i64,
}
