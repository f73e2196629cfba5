//! When a dead child may start again: soon the first time, ever later while it keeps dying. Pure; the time is an argument.

use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A child that dies at once costs two starts a minute, and comes back by itself once its cause is mended.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A life this long is no series of deaths.
const LIVED_WELL: Duration = Duration::from_secs(60);

/// The state of one child's restarts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    started: Option<Instant>,
    pause: Duration,
    due: Option<Instant>,
    stays_down: bool,
}

impl Backoff {
    /// It has died.
    pub(super) fn died(&mut self, now: Instant) {
        let lived_well = self
            .started
            .is_some_and(|started| now.duration_since(started) >= LIVED_WELL);
        self.pause = if lived_well {
            PAUSE_MIN
        } else {
            (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX)
        };
        self.due = Some(now + self.pause);
    }

    /// It has ended as it was asked to.
    pub(super) fn ended_well(&mut self) {
        self.stays_down = true;
    }

    /// It has been started.
    pub(super) fn started(&mut self, now: Instant) {
        self.started = Some(now);
        self.due = None;
    }

    /// Whether it is down.
    pub(super) fn is_down(&self) -> bool {
        self.due.is_some() || self.stays_down
    }

    /// Whether it may be started.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_keeps_dying_starts_ever_later_up_to_a_limit() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            backoff.died(now);
            assert!(!backoff.is_due(now));
            pauses.push(backoff.pause.as_secs());
            now += backoff.pause;
            assert!(backoff.is_due(now));
            backoff.started(now);
            assert!(!backoff.is_down());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        backoff.died(now + LIVED_WELL);
        assert_eq!(backoff.pause, PAUSE_MIN);
    }

    #[test]
    fn a_child_that_ended_as_it_was_asked_to_stays_down() {
        let mut backoff = Backoff::default();
        backoff.ended_well();
        assert!(backoff.is_down() && !backoff.is_due(Instant::now() + PAUSE_MAX));
    }
}
