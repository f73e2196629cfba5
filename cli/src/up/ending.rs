//! Which child is asked to end, waited for or killed. Pure; for how long it has been asked is an argument.

use std::time::Duration;

/// A worker's work is stopped and given back: a network's frame on a slow CPU takes some seconds more.
const WORKER_GRACE: Duration = Duration::from_secs(30);
/// A trainer saves where it is within 120 s, and gives its run back after that.
const TRAINER_GRACE: Duration = Duration::from_secs(150);
/// Calls under way have 3 s; the rest is for a slow disk.
const COORDINATOR_GRACE: Duration = Duration::from_secs(10);

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Coordinator,
    Worker,
    Trainer,
}

impl Role {
    const fn grace(self) -> Duration {
        match self {
            Self::Coordinator => COORDINATOR_GRACE,
            Self::Worker => WORKER_GRACE,
            Self::Trainer => TRAINER_GRACE,
        }
    }
}

/// What to do about a child that still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ask,
    Wait,
    Kill,
}

/// The next step towards the end of a child. The coordinator is asked once nobody else runs: leases are given back to it.
pub(super) fn step(role: Role, asked_for: Option<Duration>, others_run: bool) -> Step {
    match asked_for {
        None if role == Role::Coordinator && others_run => Step::Wait,
        None => Step::Ask,
        Some(waited) if waited < role.grace() => Step::Wait,
        Some(_) => Step::Kill,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinator_is_asked_when_nobody_is_left_to_give_a_lease_back() {
        assert_eq!(step(Role::Worker, None, true), Step::Ask);
        assert_eq!(step(Role::Trainer, None, true), Step::Ask);
        assert_eq!(step(Role::Coordinator, None, true), Step::Wait);
        assert_eq!(step(Role::Coordinator, None, false), Step::Ask);
    }

    #[test]
    fn a_child_is_killed_when_its_own_time_is_over_and_not_before() {
        for (role, seconds) in [(Role::Worker, 30), (Role::Trainer, 150), (Role::Coordinator, 10)] {
            let after = |seconds| step(role, Some(Duration::from_secs(seconds)), false);
            assert_eq!(after(seconds - 1), Step::Wait, "{role:?}");
            assert_eq!(after(seconds), Step::Kill, "{role:?}");
        }
    }
}
