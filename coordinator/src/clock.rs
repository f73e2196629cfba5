//! Time and chance, so that tests can hold both: what decides takes them as arguments, this is where they come from.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Where the time that counts comes from. All deadlines are on it, none on a worker's clock.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The database's: [`Clock::Server`] or, for a file, [`Clock::Steady`] from its opening.
    Database,
    /// That of the server that several coordinators share, without its jumps back: leases would last for as long as it jumped, and
    /// what was offered would wait for so long.
    Server(Arc<Mutex<Anchor>>),
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

/// A time on a server's clock, and when it showed that.
#[derive(Debug)]
pub struct Anchor {
    at_ms: i64,
    since: Instant,
}

/// A clock that goes back by less is being corrected, which happens every day, and is followed.
const CORRECTION_MAX_MS: i64 = 1_000;

impl Anchor {
    /// The time when the server's clock shows `there_ms`. Where that is far behind what it was before, time goes on from there
    /// evenly until the clock has caught up.
    fn now_ms(&mut self, there_ms: i64, at: Instant) -> i64 {
        let even_ms = self
            .at_ms
            .saturating_add(as_ms(at.saturating_duration_since(self.since)));
        if there_ms.saturating_add(CORRECTION_MAX_MS) < even_ms {
            return even_ms;
        }
        (self.at_ms, self.since) = (there_ms, at);
        there_ms
    }
}

impl Clock {
    /// A server's, which has shown at least `newest_ms` before.
    pub(crate) fn server(newest_ms: i64) -> Self {
        Self::Server(Arc::new(Mutex::new(Anchor {
            at_ms: newest_ms,
            since: Instant::now(),
        })))
    }

    /// The time that counts when the database's clock shows `there_ms`.
    pub(crate) fn now_ms(&self, there_ms: i64) -> i64 {
        match self {
            Self::Server(anchor) => {
                let mut anchor = anchor.lock().unwrap_or_else(PoisonError::into_inner);
                anchor.now_ms(there_ms, Instant::now())
            }
            _ => self.here().unwrap_or(there_ms),
        }
    }

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
            Self::Database | Self::Server(_) => None,
            Self::Steady { from_ms, since } => Some(from_ms.saturating_add(as_ms(since.elapsed()))),
            Self::Hand(now_ms) => Some(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// What the times of stored objects are compared with, where the database is not to be asked: those are of machines'
    /// clocks, and time that runs ahead of this one's must not make objects look older than they are.
    pub(crate) fn beside_objects(&self) -> Option<i64> {
        let here_ms = self.here()?;
        Some(match self {
            Self::Steady { .. } => here_ms.min(machine_ms()),
            Self::Database | Self::Server(_) | Self::Hand(_) => here_ms,
        })
    }
}

/// What the machine's clock shows, in milliseconds since the epoch.
pub(crate) fn machine_ms() -> i64 {
    as_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
    fn a_server_s_time_goes_on_evenly_when_its_clock_is_set_back_and_follows_it_otherwise() {
        let begin = Instant::now();
        let mut anchor = Anchor {
            at_ms: 10_000_000,
            since: begin,
        };
        let mut shows = |there_ms, after_ms| anchor.now_ms(there_ms, begin + Duration::from_millis(after_ms));
        assert_eq!(shows(10_000_500, 500), 10_000_500);
        assert_eq!(shows(10_000_400, 1_000), 10_000_400, "a correction");
        assert_eq!(shows(6_400_900, 1_500), 10_000_900, "an hour back");
        assert_eq!(shows(6_401_400, 2_000), 10_001_400);
        assert_eq!(shows(10_001_500, 2_500), 10_001_500, "set right again");
        assert_eq!(shows(99_000_000, 3_000), 99_000_000, "ahead");
    }

    #[test]
    fn time_that_runs_ahead_makes_no_object_older() {
        let ahead_ms = machine_ms() + 3_600_000;
        let clock = Clock::steady(machine_ms(), ahead_ms);
        assert!(clock.here() >= Some(ahead_ms));
        assert!(clock.beside_objects() < Some(ahead_ms));
    }
}
