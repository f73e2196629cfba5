//! Time and chance, so that tests can hold both: what decides takes them as arguments, this is where they come from.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Says what time it is. The database's machine's clock in production; all deadlines are on it, none on a worker's.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> i64;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A number from 0 to 1. The last bytes of a fresh UUIDv7 are random; nothing here needs better.
pub(crate) fn jitter() -> f64 {
    let bytes = Uuid::now_v7().into_bytes();
    let last = [bytes[12], bytes[13], bytes[14], bytes[15]];
    f64::from(u32::from_le_bytes(last)) / f64::from(u32::MAX)
}
