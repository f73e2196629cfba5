//! What can go wrong in the coordinator, one variant per thing a caller does differently, and its gRPC status.

use remaster_proto::WireError;
use remaster_store::StoreError;
use tonic::{Code, Status};

/// A request or a start that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CoordinatorError {
    /// The lease is not the caller's any more: drop the work.
    #[error("{0}")]
    Stale(String),
    /// The session is not known: register again.
    #[error("session {0} is not known here: register again")]
    SessionUnknown(String),
    /// The request makes no sense, whenever it is made.
    #[error("{0}")]
    Invalid(String),
    /// What the request names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request makes sense, but not now.
    #[error("{0}")]
    NotNow(String),
    /// The id is taken by something else.
    #[error("{0}")]
    Taken(String),
    /// The database was made by a newer version.
    #[error("database {0} was made by a newer version of remaster")]
    NewerDatabase(String),
    /// Somebody else uses the database.
    #[error("database {0} is in use by another coordinator")]
    DatabaseInUse(String),
    /// The database or the store did not answer: try again.
    #[error("{0}")]
    Unavailable(String),
}

impl CoordinatorError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for CoordinatorError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(format!("database: {error}"))
    }
}

impl From<StoreError> for CoordinatorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Key(_) => Self::Invalid(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<WireError> for CoordinatorError {
    fn from(error: WireError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<CoordinatorError> for Status {
    fn from(error: CoordinatorError) -> Self {
        let code = match &error {
            CoordinatorError::Stale(_) | CoordinatorError::NotNow(_) => Code::FailedPrecondition,
            CoordinatorError::SessionUnknown(_) => Code::Unauthenticated,
            CoordinatorError::Invalid(_) => Code::InvalidArgument,
            CoordinatorError::NotFound(_) => Code::NotFound,
            CoordinatorError::Taken(_) => Code::AlreadyExists,
            CoordinatorError::NewerDatabase(_)
            | CoordinatorError::DatabaseInUse(_)
            | CoordinatorError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
