//! The groups of faults by name, each with its fleet, its count and what is demanded of it.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::checker::{Findings, check};
use super::evidence::{CalmSeasons, SeasonNumber, gather};
use super::faults::{self, Struck};
use super::fleet::{Fleet, LEASE, Layout};
use super::recovery::{Recovery, leased_again};
use super::report::Outcome;
use super::season::{POISON_EPISODES, Poison};
use crate::StoreFault;

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
    /// Three coordinators on PostgreSQL, then the workers, replaced one by one by those of the next protocol version.
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

    /// How many of its faults the full table asks for.
    #[must_use]
    pub fn full_count(self) -> usize {
        self.entry().2
    }

    fn entry(self) -> (Self, &'static str, usize) {
        let found = GROUPS.iter().find(|(group, ..)| *group == self);
        *found.expect("the table has every group")
    }

    /// Poisons come by the season, whatever is asked for.
    fn count(self, asked: usize) -> usize {
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
            Self::RollingUpgrade => format!("{} {}", faults::VERSION_FLAG, faults::VERSION_BEFORE),
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

/// What a group's faults left to be measured.
#[derive(Default)]
struct Fired {
    count: usize,
    killed: Struck,
    terminated: Struck,
    coordinator_ms: Vec<i64>,
    database_ms: Vec<i64>,
}

/// Runs a group with so many faults; what the seasons come to without faults is remembered in a folder.
///
/// # Errors
/// When a fault did not fire, a process cannot be started, or work that is left does not end.
pub async fn run_group(group: Group, count: usize, calm: &Path) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let count = group.count(count);
    let mut fleet = Fleet::start(&group.layout()).await?;
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
    let fired = fire(group, &mut fleet, count)
        .await
        .with_context(|| format!("group {}", group.name()))?;
    let fed = fleet.finish().await?;
    seasons.extend((0..fed).map(|number| (number, None)));
    let calm = CalmSeasons {
        folder: calm.to_owned(),
    }
    .of(&seasons)
    .await?;
    let evidence = gather(&fleet, calm).await?;
    let mut findings = check(&evidence);
    if group == Group::Unfenced {
        findings = judge_unfenced(findings)?;
    }
    let kept = (!findings.is_clean()).then(|| fleet.keep());
    let attempts = &evidence.attempts;
    let lease_ms = i64::try_from(LEASE.as_millis())?;
    let killed = leased_again(attempts, &fired.killed, "lost");
    let terminated = leased_again(attempts, &fired.terminated, "released");
    let recoveries = [
        Recovery::new(
            "worker killed -> task leased again",
            killed,
            lease_ms + AGAIN_SLACK_MS,
        ),
        Recovery::new("SIGTERM -> task leased again", terminated, TERMINATED_MS),
        Recovery::new(
            "coordinator killed -> first lease",
            fired.coordinator_ms,
            COORDINATOR_MS,
        ),
        Recovery::new("database is back -> first lease", fired.database_ms, DATABASE_MS),
    ];
    Ok(Outcome {
        group: group.name().to_owned(),
        wanted: count,
        fired: fired.count,
        seasons: seasons.len(),
        findings,
        recoveries: recoveries
            .into_iter()
            .filter(|times| !times.times_ms.is_empty())
            .collect(),
        seconds: start.elapsed().as_secs(),
        kept,
    })
}

async fn fire(group: Group, fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired {
        count,
        ..Fired::default()
    };
    match group {
        Group::WorkerKill => fired.killed = faults::kill_workers(fleet, count).await?,
        Group::WorkerTerm => fired.terminated = faults::terminate_workers(fleet, count).await?,
        Group::CoordinatorKill | Group::CoordinatorKillPostgres => {
            fired.coordinator_ms = faults::kill_coordinators(fleet, count).await?;
        }
        Group::RollingUpgrade => faults::roll_upgrades(fleet, count).await?,
        Group::Zombie | Group::Unfenced => faults::freeze_workers(fleet, count).await?,
        Group::Partition => faults::part_workers(fleet, count).await?,
        Group::Store(fault) => faults::fail_store(fleet, fault, u32::try_from(count)?).await?,
        Group::DatabaseRestart => fired.database_ms = faults::restart_database(fleet, count).await?,
        Group::ClockJump | Group::ClockJumpPostgres => faults::shift_clocks(fleet, count).await?,
        Group::CrashPoint => fired.count = faults::await_deaths(fleet, count).await?,
        Group::Straggler => fired.count = faults::await_overtaken(fleet, count).await?,
        Group::Poison => fired.count = faults::endure_poison(fleet).await?,
    }
    Ok(fired)
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
