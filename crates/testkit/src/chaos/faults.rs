//! The faults, each so often as asked, on a fleet that works meanwhile. Each proves that it fired.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;
use remaster_proto::PROTOCOL_VERSION;

use super::fleet::{Fleet, LEASE, VERSION_FLAG, now_ms, worker_name};
use super::history::{self, Fact, Saw};
use super::link::Cable;
use super::version::VERSION_BEFORE;
use crate::process::Process;
use crate::{Restart, StoreFault};

/// Between two kills of workers: each of ten has time for a few tasks in between.
const KILL_PAUSE: Duration = Duration::from_millis(400);
/// After the first lease that follows a fault of the coordinator or its database.
const CALM_PAUSE: Duration = Duration::from_millis(700);
/// How long a worker is frozen or cut off: its lease has run out and was given to another by then.
pub(super) const AWAY: Duration = LEASE.saturating_mul(2);
/// Between the beginnings of such times: six are away at once.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// What was sent to a worker, or by it before it was frozen, has been taken in after this.
const ARRIVAL: Duration = Duration::from_millis(100);
/// How long a fault that strikes by itself is waited for.
const FIRE_WAIT: Duration = Duration::from_secs(300);
/// How often it is looked whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Of so many requests one meets the store's fault: seldom enough that a retry goes well.
const STORE_FAULT_EVERY: u32 = 6;
/// A worker that has read a poisoned input and said nothing for so long hangs, and its lease has run out.
const HUNG_AFTER: Duration = LEASE.saturating_add(Duration::from_millis(1_400));
/// How a process begins its last words that is given no more memory.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// How far clocks are set forward and back, in seconds.
const CLOCK_SHIFT: i64 = 3_600;
/// How far from the moved time a process may be: what it wrote last, it may have written a while ago.
const CLOCK_SLACK_MS: i64 = 60_000;
/// After the clocks were moved, until what is written bears the new time.
const CLOCK_PAUSE: Duration = Duration::from_millis(200);

/// What a process gets to end by itself when it is replaced.
const REPLACE_WAIT: Duration = Duration::from_secs(15);
/// Between two processes of an upgrade, so that both versions work side by side for a while.
const REPLACE_PAUSE: Duration = Duration::from_millis(200);

/// When each worker was struck.
pub(super) type Struck = Vec<(String, i64)>;

/// What faults left to be judged and measured.
#[derive(Debug, Default)]
pub(super) struct Fired {
    /// How many have proved that they fired.
    pub(super) count: usize,
    /// Which worker was struck by each, where they strike workers.
    pub(super) struck: Struck,
    /// How long after each the first task was leased, where they strike those who lease.
    pub(super) first_leases_ms: Vec<i64>,
    /// How many processes died of having no more memory, where inputs make them.
    pub(super) out_of_memory: usize,
}

impl Fired {
    /// So many that leave nothing to be measured.
    pub(super) fn of(count: usize) -> Self {
        Self {
            count,
            ..Self::default()
        }
    }
}

/// Kills workers and starts them again at once.
pub(super) async fn kill_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for number in (0..fleet.workers.len()).cycle().take(count) {
        tokio::time::sleep(KILL_PAUSE).await;
        let at_ms = now_ms();
        fleet.workers[number].kill_9()?;
        fleet.workers[number].start()?;
        fired.struck.push((worker_name(number), at_ms));
        fired.count += 1;
    }
    Ok(fired)
}

/// Asks workers to end and starts them again once they have, without complaint.
pub(super) async fn terminate_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for number in (0..fleet.workers.len()).cycle().take(count) {
        tokio::time::sleep(KILL_PAUSE).await;
        let at_ms = now_ms();
        replace(&mut fleet.workers[number])?;
        fired.struck.push((worker_name(number), at_ms));
        fired.count += 1;
    }
    Ok(fired)
}

/// Kills coordinators in turn and starts them again.
pub(super) async fn kill_coordinators(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for number in (0..fleet.coordinators.len()).cycle().take(count) {
        let at_ms = now_ms();
        fleet.coordinators[number].kill_9()?;
        fleet.coordinators[number].start()?;
        fired.count += 1;
        fired.first_leases_ms.push(fleet.first_lease_ms(at_ms).await?);
        tokio::time::sleep(CALM_PAUSE).await;
    }
    Ok(fired)
}

/// Upgrades the whole fleet so many times, a process at a time and the coordinators first; in between it goes back, the workers
/// first. A worker that a coordinator refused has ended with an error, and that is found here.
pub(super) async fn roll_upgrades(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for round in 0..count {
        if round > 0 {
            replace_workers(fleet, VERSION_BEFORE).await?;
            fleet.feed_plain(true);
            replace_coordinators(fleet, VERSION_BEFORE).await?;
        }
        for number in 0..fleet.coordinators.len() {
            fleet.ensure_before(number).await?;
        }
        replace_coordinators(fleet, PROTOCOL_VERSION).await?;
        replace_workers(fleet, PROTOCOL_VERSION).await?;
        fired.count += 1;
    }
    Ok(fired)
}

/// From the first that is new on, there is one that takes whatever is handed in.
async fn replace_coordinators(fleet: &mut Fleet, version: u32) -> anyhow::Result<()> {
    for number in 0..fleet.coordinators.len() {
        let at_ms = now_ms();
        fleet.coordinators[number].change_argument(VERSION_FLAG, &version.to_string())?;
        replace(&mut fleet.coordinators[number])?;
        fleet.first_lease_ms(at_ms).await?;
        fleet.feed_plain(version == VERSION_BEFORE);
    }
    Ok(())
}

async fn replace_workers(fleet: &mut Fleet, version: u32) -> anyhow::Result<()> {
    for worker in &mut fleet.workers {
        worker.change_argument(VERSION_FLAG, &version.to_string())?;
        replace(worker)?;
        tokio::time::sleep(REPLACE_PAUSE).await;
    }
    Ok(())
}

fn replace(process: &mut Process) -> anyhow::Result<()> {
    let code = process.terminate(REPLACE_WAIT)?;
    let name = &process.name;
    ensure!(code == 0, "{name} ended with {code}:\n{}", process.log_tail());
    process.start()
}

/// Freezes workers in the middle of their work, past their lease, and wakes them.
pub(super) async fn freeze_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    let mut awake: VecDeque<_> = (0..fleet.workers.len()).collect();
    let mut away = VecDeque::new();
    while fired.count < count {
        while let Some((_, number)) =
            away.pop_front_if(|(since, _): &mut (Instant, usize)| since.elapsed() >= AWAY)
        {
            let worker = &fleet.workers[number];
            ensure!(worker.is_stopped(), "{} was not frozen", worker.name);
            worker.signal(Signal::SIGCONT)?;
            awake.push_back(number);
            fired.count += 1;
        }
        if fired.struck.len() < count {
            let (number, at_ms) = freeze_at_work(fleet, &mut awake).await?;
            fired.struck.push((worker_name(number), at_ms));
            away.push_back((Instant::now(), number));
        }
        tokio::time::sleep(AWAY_PAUSE).await;
    }
    Ok(fired)
}

/// Freezes one of the workers that are awake, the one that has been for longest of those that hold a lease. Answers which it is
/// and since when.
async fn freeze_at_work(fleet: &Fleet, awake: &mut VecDeque<usize>) -> anyhow::Result<(usize, i64)> {
    let start = Instant::now();
    loop {
        let running = running(fleet).await?;
        let holds = |number: &usize| running.iter().any(|(worker, ..)| *worker == worker_name(*number));
        if let Some(place) = awake.iter().position(holds) {
            let number = awake[place];
            let worker = &fleet.workers[number];
            worker.signal(Signal::SIGSTOP)?;
            let at_ms = now_ms();
            tokio::time::sleep(ARRIVAL).await;
            let still_runs = |lease: &Lease| lease.0 == worker.name && running.contains(lease);
            if self::running(fleet).await?.iter().any(still_runs) {
                awake.remove(place);
                return Ok((number, at_ms));
            }
            worker.signal(Signal::SIGCONT)?;
        }
        ensure!(start.elapsed() < FIRE_WAIT, "no worker is at work that is awake");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Who holds what: worker, task and token.
type Lease = (String, String, i64);

/// The leases that have arrived: one that finds its worker frozen is given back, and nothing is handed in for it.
async fn running(fleet: &Fleet) -> anyhow::Result<Vec<Lease>> {
    let arrived_ms = now_ms() - i64::try_from(ARRIVAL.as_millis())?;
    let attempts = fleet.rows.attempts().await?.into_iter();
    let running = attempts.filter(|attempt| attempt.ended_ms == 0 && attempt.leased_ms <= arrived_ms);
    Ok(running
        .map(|attempt| (attempt.worker, attempt.task, attempt.token))
        .collect())
}

/// Cuts the cables of workers, or leaves them half open: each worker's by turns.
pub(super) async fn part_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    let mut away = VecDeque::new();
    let workers = fleet.links.len();
    let mut windows = 0..count;
    loop {
        while let Some((_, number, hits)) =
            away.pop_front_if(|(since, ..): &mut (Instant, usize, u64)| since.elapsed() >= AWAY)
        {
            let link = &fleet.links[number];
            ensure!(
                link.hits() > hits,
                "nothing of worker {number} was cut or held up"
            );
            link.set(Cable::Whole);
            fired.count += 1;
        }
        match windows.next() {
            Some(window) => {
                let number = window % workers;
                let link = &fleet.links[number];
                away.push_back((Instant::now(), number, link.hits()));
                link.set(parted(window, workers));
                fired.struck.push((worker_name(number), now_ms()));
            }
            None if away.is_empty() => return Ok(fired),
            None => {}
        }
        tokio::time::sleep(AWAY_PAUSE).await;
    }
}

/// How the cable is parted in a window: otherwise than the neighbour's, and than the same worker's one round before.
fn parted(window: usize, workers: usize) -> Cable {
    let (round, number) = (window / workers, window % workers);
    if (round + number).is_multiple_of(2) {
        Cable::Cut
    } else {
        Cable::HalfOpen
    }
}

/// Lets the store misbehave.
pub(super) async fn fail_store(fleet: &mut Fleet, fault: StoreFault, count: u32) -> anyhow::Result<Fired> {
    let server = fleet.s3.as_ref().expect("this group has an S3 server");
    let faults = std::sync::Arc::clone(&server.faults);
    faults.arm(fault, STORE_FAULT_EVERY, count);
    let start = Instant::now();
    while !faults.are_over() {
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "only {} of {count} faults befell a request",
            faults.fired()
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(Fired::of(usize::try_from(faults.fired())?))
}

/// Restarts the database server, by turns as an administrator and as a power cut do.
pub(super) async fn restart_database(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for number in 0..count {
        let server = fleet.postgres.as_ref().expect("this group has a PostgreSQL");
        let how = if number % 2 == 0 {
            Restart::Fast
        } else {
            Restart::Immediate
        };
        let before = server.process()?;
        tokio::task::block_in_place(|| server.restart(how))?;
        ensure!(server.process()? != before, "PostgreSQL was not restarted");
        fired.count += 1;
        fired.first_leases_ms.push(fleet.first_lease_ms(now_ms()).await?);
        tokio::time::sleep(CALM_PAUSE).await;
    }
    Ok(fired)
}

/// Sets the wall clocks of coordinators, workers and the database's server an hour forward and back again. Each time every process must have taken
/// the moved clock in, and what workers and coordinators write down must be of the moved time.
pub(super) async fn shift_clocks(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for number in 0..count {
        let shift = [CLOCK_SHIFT, 0, -CLOCK_SHIFT, 0][number % 4];
        fleet.shift_clocks(shift)?;
        // What was being written when the clock moved may still bear the time before.
        tokio::time::sleep(CLOCK_PAUSE).await;
        let before = history::read(&fleet.history())?.len();
        tokio::time::sleep(CALM_PAUSE * 2).await;
        ensure!(fleet.revive()? == 0, "a process died of the clock");
        fleet.ensure_clocks_are_preloaded()?;
        let is_moved = |at_ms: i64| (at_ms - now_ms() - shift * 1_000).abs() < CLOCK_SLACK_MS;
        if let Some(at_ms) = fleet.rows.server_ms().await? {
            ensure!(
                is_moved(at_ms),
                "the clock of PostgreSQL was moved and shows {at_ms}"
            );
        }
        await_clocks(fleet, before, is_moved).await?;
        fired.count += 1;
    }
    fleet.shift_clocks(0)?;
    Ok(fired)
}

/// Waits for a worker's and a coordinator's word since the clocks were moved: all of it must be of the moved time.
async fn await_clocks(fleet: &Fleet, before: usize, is_moved: impl Fn(i64) -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let facts = history::read(&fleet.history())?;
        let since = &facts[before..];
        for fact in since {
            let (worker, at_ms) = (&fact.worker, fact.at_ms);
            ensure!(
                is_moved(at_ms),
                "the clock of {worker} was moved and shows {at_ms}"
            );
        }
        let mut coordinators = fleet
            .coordinators
            .iter()
            .filter_map(|process| process.logged_ms());
        if !since.is_empty() && coordinators.any(&is_moved) {
            return Ok(());
        }
        ensure!(start.elapsed() < AWAY, "nobody shows that its clock was moved");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Waits until workers have ended themselves so often between upload and commit, starting each again.
pub(super) async fn await_deaths(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let start = Instant::now();
    loop {
        fleet.revive()?;
        let facts = history::read(&fleet.history())?;
        let deaths = facts.iter().filter(|fact| fact.saw == Saw::Dying).count();
        if deaths >= count {
            return Ok(Fired::of(deaths));
        }
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "only {deaths} of {count} workers died"
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Waits until so many stragglers have been overtaken: somebody else's result for their task counts.
pub(super) async fn await_overtaken(fleet: &mut Fleet, count: usize) -> anyhow::Result<Fired> {
    let start = Instant::now();
    loop {
        let facts = history::read(&fleet.history())?;
        let of = |saw| facts.iter().filter(move |fact| fact.saw == saw);
        let is_overtaken = |slow: &&Fact| {
            of(Saw::Acknowledged).any(|counted| counted.task == slow.task && counted.token != slow.token)
        };
        let overtaken = of(Saw::Straggling).filter(is_overtaken).count();
        if overtaken >= count {
            return Ok(Fired::of(overtaken));
        }
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "only {overtaken} of {count} stragglers were overtaken"
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Lets poisoned inputs do their worst until all jobs have ended: what died is started again, what hangs is killed once its
/// lease must have run out. Answers how many of the inputs have struck.
pub(super) async fn endure_poison(fleet: &mut Fleet) -> anyhow::Result<Fired> {
    let start = Instant::now();
    let mut silent = vec![(0, Instant::now()); fleet.workers.len()];
    while fleet.rows.open_jobs().await.ok() != Some(0) {
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "poisoned jobs are left:\n{}",
            fleet.logs()
        );
        fleet.revive()?;
        let facts = history::read(&fleet.history())?;
        for (number, (seen, since)) in silent.iter_mut().enumerate() {
            let name = worker_name(number);
            let of_worker: Vec<_> = facts.iter().filter(|fact| fact.worker == name).collect();
            if of_worker.len() != *seen {
                (*seen, *since) = (of_worker.len(), Instant::now());
            }
            let was_poisoned = of_worker.last().is_some_and(|fact| fact.saw == Saw::Poisoned);
            if was_poisoned && since.elapsed() > HUNG_AFTER {
                // One that died of it and has had nothing to do since is killed as well: that harms nobody.
                let _ = fleet.workers[number].kill_9();
                fleet.workers[number].revive()?;
                *since = Instant::now();
            }
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    // Nobody has work any more, and who hangs would not hear that it may end.
    for worker in &mut fleet.workers {
        let _ = worker.kill_9();
        worker.revive()?;
    }
    let facts = history::read(&fleet.history())?;
    let struck = facts.iter().filter(|fact| fact.saw == Saw::Poisoned);
    let logs = fleet.workers.iter().map(Process::log);
    Ok(Fired {
        out_of_memory: logs.map(|log| log.matches(OUT_OF_MEMORY).count()).sum(),
        ..Fired::of(struck.map(|fact| &fact.task).collect::<BTreeSet<_>>().len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_is_cut_off_in_both_ways() {
        for workers in [9, 10] {
            for number in 0..workers {
                let (first, second) = (parted(number, workers), parted(number + workers, workers));
                assert_ne!(first, second, "worker {number} of {workers}");
            }
        }
    }
}
