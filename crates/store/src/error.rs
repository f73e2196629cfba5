//! What can go wrong with a store, as far as a caller acts on it.

use std::path::PathBuf;

/// A store operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store.
    #[error("`{url}` is not a store URL: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that could not have been made here.
    #[error("`{0}` is not a store key: expected ids and hashes joined by `/`")]
    Key(String),
    /// There is no such object.
    #[error("object `{key}` is not in the store")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The object is there but its bytes are not what they must be.
    #[error("object `{key}` is damaged: {reason}")]
    Damaged {
        /// Its key.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The store did not answer, or refused.
    #[error("store {url}: {reason}")]
    Unavailable {
        /// Where the store is, without credentials.
        url: String,
        /// What it said.
        reason: String,
    },
    /// A local file beside the store.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::File { .. })
    }
}
