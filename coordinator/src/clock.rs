//! Time and chance, so that tests can hold both: what decides takes them as arguments, this is where they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Where the time that counts comes from. All deadlines are on it, none on a worker's clock.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The database's: of the server that several coordinators share, or, for a file, [`Clock::Steady`] from its opening.
    Database,
    /// Goes on evenly from a time that was read once, wherever the machine's clock is set meanwhile: what was offered for
    /// an hour that is then taken back would wait for it to come again.
    Steady {
        /// Milliseconds since the epoch at `since`.
        from_ms: i64,
        /// When `from_ms` was read.
        since: Instant,
    },
    /// Milliseconds since the epoch that stand still until somebody moves them; for tests.
    Hand(Arc<AtomicI64>),
}

impl Clock {
    /// From what the machine's clock shows now, but never before the newest time that is written down.
    pub(crate) fn steady(machine_ms: i64, newest_ms: i64) -> Self {
        Self::Steady {
            from_ms: machine_ms.max(newest_ms),
            since: Instant::now(),
        }
    }

    /// What this clock shows, where the database is not to be asked.
    pub(crate) fn here(&self) -> Option<i64> {
        match self {
            Self::Database => None,
            Self::Steady { from_ms, since } => {
                let gone_ms = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
                Some(from_ms.saturating_add(gone_ms))
            }
            Self::Hand(now_ms) => Some(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// What the times of stored objects are compared with, where the database is not to be asked: those are of machines'
    /// clocks, and time that runs ahead of this one's must not make objects look older than they are.
    pub(crate) fn beside_objects(&self) -> Option<i64> {
        let here_ms = self.here()?;
        Some(match self {
            Self::Steady { .. } => here_ms.min(machine_ms()),
            Self::Database | Self::Hand(_) => here_ms,
        })
    }
}

/// What the machine's clock shows, in milliseconds since the epoch.
pub(crate) fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A number from 0 to 1. The last bytes of a fresh UUIDv7 are random; nothing here needs better.
pub(crate) fn jitter() -> f64 {
    let bytes = Uuid::now_v7().into_bytes();
    let last = [bytes[12], bytes[13], bytes[14], bytes[15]];
    f64::from(u32::from_le_bytes(last)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_runs_ahead_makes_no_object_older() {
        let ahead_ms = machine_ms() + 3_600_000;
        let clock = Clock::steady(machine_ms(), ahead_ms);
        assert!(clock.here() >= Some(ahead_ms));
        assert!(clock.beside_objects() < Some(ahead_ms));
    }
}
