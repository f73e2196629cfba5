//! The groups of faults by name, each with its fleet, its count and what is demanded of it.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use anyhow::ensure;

use super::checker::{Evidence, Findings, check};
use super::demands::shortfalls;
use super::evidence::{CalmSeasons, SeasonNumber, gather};
use super::faults::{self, Fired};
use super::fleet::{Fleet, LEASE, Layout};
use super::recovery::{Recovery, leased_again};
use super::report::Outcome;
use super::season::{POISON_EPISODES, Poison};
use crate::StoreFault;

/// Of a hundred workers that are ended, so many must have held a task that was leased again.
const RECOVERED_PERCENT: usize = 25;
/// Slack over the lease within which a killed worker's task must be leased again.
const AGAIN_SLACK_MS: i64 = 2_000;
/// Within this a task of a worker that was asked to end must be leased again.
const TERMINATED_MS: i64 = 1_000;
/// Within this after the death of a coordinator the first task must be leased.
const COORDINATOR_MS: i64 = 3_000;
/// Within this after the restart of a database: the pools' tries come on top.
const DATABASE_MS: i64 = 5_000;

/// A group of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// SIGKILL to workers.
    WorkerKill,
    /// SIGTERM to workers.
    WorkerTerm,
    /// SIGKILL to the coordinator on SQLite.
    CoordinatorKill,
    /// SIGKILL to one of three coordinators on PostgreSQL.
    CoordinatorKillPostgres,
    /// Three coordinators on PostgreSQL, then the workers, all replaced one by one by those of the next protocol version.
    RollingUpgrade,
    /// Workers frozen past their lease, then woken.
    Zombie,
    /// Cut and half-open links.
    Partition,
    /// The store misbehaves in one way.
    Store(StoreFault),
    /// PostgreSQL restarts under three coordinators.
    DatabaseRestart,
    /// Wall clocks of coordinator and workers jump.
    ClockJump,
    /// Those of three coordinators and the workers jump, that of the database server does not.
    ClockJumpPostgres,
    /// Workers die between the upload and the commit.
    CrashPoint,
    /// Workers that live and take far too long, and hand in after somebody else has.
    Straggler,
    /// Inputs that kill, fill or hang what reads them, and such that are no video.
    Poison,
    /// Zombies with fencing switched off: must be found out.
    Unfenced,
}

/// Names and full counts, in the order in which they are run.
const GROUPS: [(Group, &str, usize); 19] = [
    (Group::WorkerKill, "worker-kill", 200),
    (Group::WorkerTerm, "worker-term", 50),
    (Group::CoordinatorKill, "coordinator-kill", 50),
    (Group::CoordinatorKillPostgres, "coordinator-kill-postgres", 50),
    (Group::RollingUpgrade, "rolling-upgrade", 10),
    (Group::Zombie, "zombie", 100),
    (Group::Partition, "partition", 60),
    (Group::Store(StoreFault::Unavailable), "store-503", 100),
    (Group::Store(StoreFault::Slow), "store-slow", 100),
    (Group::Store(StoreFault::LostReply), "store-lost-reply", 100),
    (Group::Store(StoreFault::Full), "store-full", 100),
    (Group::Store(StoreFault::Truncated), "store-truncated", 100),
    (Group::DatabaseRestart, "database-restart", 20),
    (Group::ClockJump, "clock-jump", 20),
    (Group::ClockJumpPostgres, "clock-jump-postgres", 20),
    (Group::CrashPoint, "crash-point", 100),
    (Group::Straggler, "straggler", 20),
    (Group::Poison, "poison", 4 * POISON_EPISODES as usize),
    (Group::Unfenced, "unfenced", 12),
];

impl Group {
    /// All groups.
    #[must_use]
    pub fn all() -> Vec<Self> {
        GROUPS.iter().map(|(group, ..)| *group).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// How many of its faults so many percent of the full table ask for.
    #[must_use]
    pub fn count(self, percent: usize) -> usize {
        self.count_of((self.full_count() * percent).div_ceil(100))
    }

    fn full_count(self) -> usize {
        self.entry().2
    }

    fn entry(self) -> (Self, &'static str, usize) {
        let found = GROUPS.iter().find(|(group, ..)| *group == self);
        *found.expect("the table has every group")
    }

    /// Poisons come by the season, whatever is asked for.
    fn count_of(self, asked: usize) -> usize {
        if self == Self::Poison {
            self.full_count()
        } else {
            asked
        }
    }

    fn layout(self) -> Layout {
        let on_postgres = matches!(
            self,
            Self::CoordinatorKillPostgres
                | Self::RollingUpgrade
                | Self::DatabaseRestart
                | Self::ClockJumpPostgres
        );
        let flags = match self {
            Self::Zombie | Self::Unfenced => "--deaf".to_owned(),
            Self::CrashPoint => "--dying-permille 200".to_owned(),
            Self::Straggler => "--deaf --straggling-permille 100".to_owned(),
            _ => String::new(),
        };
        Layout {
            coordinators: if on_postgres { 3 } else { 1 },
            workers: if self == Self::Zombie { 12 } else { 10 },
            work_ms: match self {
                Self::WorkerTerm => 1_200,
                Self::Unfenced => 2_000,
                Self::Poison => 100,
                _ => 600,
            },
            flags,
            on_s3: matches!(self, Self::Store(_)),
            shifting_clocks: matches!(self, Self::ClockJump | Self::ClockJumpPostgres),
            unfenced: self == Self::Unfenced,
            before: self == Self::RollingUpgrade,
        }
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = GROUPS.iter().find(|(_, known, _)| *known == name);
        let names = || GROUPS.map(|(_, name, _)| name).join(", ");
        found
            .map(|(group, ..)| *group)
            .ok_or_else(|| format!("there is no group `{name}`: use {}", names()))
    }
}

/// Runs a group with so many faults; what the seasons come to without faults is remembered in a folder.
///
/// # Errors
/// When a fault did not fire, a process cannot be started, or work that is left does not end.
pub async fn run_group(group: Group, count: usize, calm: &Path) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let wanted = group.count_of(count);
    let mut fleet = Fleet::start(&group.layout()).await?;
    let ran = run_on(&mut fleet, group, wanted, calm).await;
    let (fired, seasons, evidence) = match ran {
        Ok(ran) => ran,
        Err(error) => return Err(error.context(format!("kept in {}", fleet.keep().display()))),
    };
    let mut findings = check(&evidence);
    if group == Group::Unfenced {
        findings = judge_unfenced(findings)?;
    }
    let mut outcome = Outcome {
        group: group.name().to_owned(),
        wanted,
        fired: fired.count,
        seasons,
        failures: shortfalls(group, &fired, &evidence, &findings),
        findings,
        recovery: recovery(group, &fired, &evidence),
        seconds: start.elapsed().as_secs(),
        kept: None,
    };
    if !outcome.is_passed() {
        outcome.kept = Some(fleet.keep());
    }
    Ok(outcome)
}

/// Fires, and answers what is left when all work has ended, with how many seasons there were.
async fn run_on(
    fleet: &mut Fleet,
    group: Group,
    wanted: usize,
    calm: &Path,
) -> anyhow::Result<(Fired, usize, Evidence)> {
    let mut seasons: Vec<SeasonNumber> = vec![];
    if group == Group::Poison {
        for poison in Poison::ALL {
            fleet.submit(0, Some(poison)).await;
            seasons.push((0, Some(poison)));
        }
    } else {
        fleet.feed();
        fleet.first_lease_ms(0).await?;
    }
    let fired = fire(group, fleet, wanted).await?;
    let fed = fleet.finish().await?;
    seasons.extend(fed.into_iter().map(|number| (number, None)));
    let folder = calm.to_owned();
    let calm = CalmSeasons { folder }.of(&seasons).await?;
    Ok((fired, seasons.len(), gather(fleet, calm).await?))
}

async fn fire(group: Group, fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    match group {
        Group::WorkerKill => faults::kill_workers(fleet, count).await,
        Group::WorkerTerm => faults::terminate_workers(fleet, count).await,
        Group::CoordinatorKill | Group::CoordinatorKillPostgres => {
            faults::kill_coordinators(fleet, count).await
        }
        Group::RollingUpgrade => faults::roll_upgrades(fleet, count).await,
        Group::Zombie | Group::Unfenced => faults::freeze_workers(fleet, count).await,
        Group::Partition => faults::part_workers(fleet, count).await,
        Group::Store(fault) => faults::fail_store(fleet, fault, u32::try_from(count)?).await,
        Group::DatabaseRestart => faults::restart_database(fleet, count).await,
        Group::ClockJump | Group::ClockJumpPostgres => faults::shift_clocks(fleet, count).await,
        Group::CrashPoint => faults::await_deaths(fleet, count).await,
        Group::Straggler => faults::await_overtaken(fleet, count).await,
        Group::Poison => faults::endure_poison(fleet).await,
    }
}

/// How long work lay idle after each fault, where a group demands something of that.
fn recovery(group: Group, fired: &Fired, evidence: &Evidence) -> Option<Recovery> {
    let attempts = &evidence.attempts;
    let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    let some = (fired.count * RECOVERED_PERCENT).div_ceil(100);
    let first_leases = |what, limit_ms| {
        let times_ms = fired.first_leases_ms.clone();
        Some(Recovery::new(what, times_ms, limit_ms, fired.count))
    };
    match group {
        Group::WorkerKill => Some(Recovery::new(
            "worker killed -> task leased again",
            leased_again(attempts, &fired.struck, "lost"),
            lease_ms + AGAIN_SLACK_MS,
            some,
        )),
        Group::WorkerTerm => Some(Recovery::new(
            "SIGTERM -> task leased again",
            leased_again(attempts, &fired.struck, "released"),
            TERMINATED_MS,
            some,
        )),
        Group::CoordinatorKill | Group::CoordinatorKillPostgres => {
            first_leases("coordinator killed -> first lease", COORDINATOR_MS)
        }
        Group::DatabaseRestart => first_leases("database is back -> first lease", DATABASE_MS),
        _ => None,
    }
}

/// Without fencing the run must look wrong; that it does is the one thing asked here.
fn judge_unfenced(findings: Findings) -> anyhow::Result<Findings> {
    ensure!(
        !findings.duplicated.is_empty(),
        "fencing was off and the checker saw nothing: it proves nothing"
    );
    let (duplicated, fenced) = (findings.duplicated.len(), findings.fenced);
    ensure!(fenced == 0, "fencing was off and {fenced} hand-ins were refused");
    eprintln!("without fencing the checker counts {duplicated} duplicates, as it must");
    Ok(Findings {
        duplicated: vec![],
        ..findings
    })
}
