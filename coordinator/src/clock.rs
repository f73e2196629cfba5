//! Time and chance, so that tests can hold both: what decides takes them as arguments, this is where they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

/// Where the time that counts comes from. All deadlines are on it, none on a worker's clock.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The database's: of the machine that has the file, or of the server that several coordinators share.
    Database,
    /// Milliseconds since the epoch that stand still until somebody moves them; for tests.
    Hand(Arc<AtomicI64>),
}

impl Clock {
    /// Where this clock is held by hand, what it shows.
    pub(crate) fn by_hand(&self) -> Option<i64> {
        match self {
            Self::Database => None,
            Self::Hand(now_ms) => Some(now_ms.load(Ordering::SeqCst)),
        }
    }
}

/// A number from 0 to 1. The last bytes of a fresh UUIDv7 are random; nothing here needs better.
pub(crate) fn jitter() -> f64 {
    let bytes = Uuid::now_v7().into_bytes();
    let last = [bytes[12], bytes[13], bytes[14], bytes[15]];
    f64::from(u32::from_le_bytes(last)) / f64::from(u32::MAX)
}
