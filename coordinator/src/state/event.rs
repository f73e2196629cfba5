//! What may happen to a task, what is to be done about it, and why it is refused.

use remaster_domain::{Checkpoint, FailureClass, LeaseToken, SessionId, TaskState};

use super::TaskRow;

/// What happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// A session takes it.
    Lease {
        /// Who.
        session: SessionId,
        /// For how long.
        lease_ms: i64,
    },
    /// Its holder is alive.
    Heartbeat {
        /// Under which lease.
        token: LeaseToken,
        /// For how long again.
        lease_ms: i64,
    },
    /// Its holder wrote a checkpoint.
    Record {
        /// Under which lease.
        token: LeaseToken,
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// Its holder hands in a result.
    Commit {
        /// Under which lease.
        token: LeaseToken,
    },
    /// Its holder failed.
    Fail {
        /// Under which lease.
        token: LeaseToken,
        /// What happens next.
        class: FailureClass,
        /// Words for people.
        message: String,
        /// Random, 0 to 1: spreads the tries of tasks that failed together.
        jitter: f64,
    },
    /// Its holder gives it back.
    Release {
        /// Under which lease.
        token: LeaseToken,
    },
    /// Somebody looked whether the lease ran out.
    Expire,
    /// Somebody looked whether the attempt gets further.
    Stall {
        /// When it last did.
        moved_ms: i64,
        /// How far it was, for people.
        at: String,
        /// For how long it may stand.
        limit_ms: i64,
        /// Random, 0 to 1.
        jitter: f64,
    },
    /// Its attempt takes far longer than others did.
    Straggle,
    /// Its job was cancelled.
    Cancel,
    /// A user wants it tried again.
    Retry,
}

impl TaskEvent {
    /// Of the lease that it speaks of, where it does.
    pub(super) const fn token(&self) -> Option<LeaseToken> {
        match self {
            Self::Heartbeat { token, .. }
            | Self::Record { token, .. }
            | Self::Commit { token }
            | Self::Fail { token, .. }
            | Self::Release { token } => Some(*token),
            Self::Lease { .. }
            | Self::Expire
            | Self::Stall { .. }
            | Self::Straggle
            | Self::Cancel
            | Self::Retry => None,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Its result counts.
    Committed,
    /// It reported a failure.
    Failed,
    /// It was given back.
    Released,
    /// Its lease ran out.
    Lost,
    /// Its job was cancelled.
    Cancelled,
    /// Another attempt settled the task first.
    Outrun,
}

impl AttemptEnd {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Outrun => "outrun",
        }
    }
}

/// What must be done in the same transaction as the change of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Note a new attempt.
    OpenAttempt,
    /// Note how the newest attempt ended.
    CloseAttempt(AttemptEnd),
    /// Note how the elder attempt ended.
    CloseElder(AttemptEnd),
    /// Keep the result and make the tasks that follow.
    StoreResult,
    /// Somebody may lease it from then on.
    Offer {
        /// From when.
        at_ms: i64,
    },
    /// It is dead: what waited for it need wait no more.
    Bury,
}

/// The row as it shall be, and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The new row.
    pub row: TaskRow,
    /// What else to do.
    pub actions: Vec<Action>,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease is somebody else's or nobody's.
    #[error("the lease is stale: the task's token is {held} and it is {}", .state.as_str())]
    Stale {
        /// Token of the task.
        held: LeaseToken,
        /// State of the task.
        state: TaskState,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// The event does not fit the state.
    #[error("the task is {}", .0.as_str())]
    Unfit(TaskState),
}
