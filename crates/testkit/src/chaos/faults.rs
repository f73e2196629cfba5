//! The faults, each so often as asked, on a fleet that works meanwhile. Each proves that it fired.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;
use remaster_proto::PROTOCOL_VERSION;

use super::fleet::{Fleet, LEASE, now_ms, worker_name};
use super::history::{self, Fact, Saw};
use super::link::Cable;
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
/// How long a fault that strikes by itself is waited for.
const FIRE_WAIT: Duration = Duration::from_secs(300);
/// How often it is looked whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Of so many requests one meets the store's fault: seldom enough that a retry goes well.
const STORE_FAULT_EVERY: u32 = 6;
/// A worker that has read a poisoned input and said nothing for so long hangs, and its lease has run out.
const HUNG_AFTER: Duration = LEASE.saturating_add(Duration::from_millis(1_400));
/// How far clocks are set forward and back, in seconds.
const CLOCK_SHIFT: i64 = 3_600;

/// The version before ours.
pub(super) const VERSION_BEFORE: u32 = PROTOCOL_VERSION - 1;
/// By which a worker is told what to speak.
pub(super) const VERSION_FLAG: &str = "--protocol-version";
/// What a process gets to end by itself when it is replaced.
const REPLACE_WAIT: Duration = Duration::from_secs(15);
/// Between two processes of an upgrade, so that both versions work side by side for a while.
const REPLACE_PAUSE: Duration = Duration::from_millis(200);

/// When each worker was struck.
pub(super) type Struck = Vec<(String, i64)>;

/// Kills workers and starts them again at once.
pub(super) async fn kill_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Struck> {
    let mut struck = vec![];
    for number in (0..fleet.workers.len()).cycle().take(count) {
        tokio::time::sleep(KILL_PAUSE).await;
        let at_ms = now_ms();
        fleet.workers[number].kill_9()?;
        fleet.workers[number].start()?;
        struck.push((worker_name(number), at_ms));
    }
    Ok(struck)
}

/// Asks workers to end and starts them again once they have.
pub(super) async fn terminate_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<Struck> {
    let mut struck = vec![];
    for number in (0..fleet.workers.len()).cycle().take(count) {
        tokio::time::sleep(KILL_PAUSE).await;
        fleet.revive()?;
        let at_ms = now_ms();
        fleet.workers[number].signal(Signal::SIGTERM)?;
        struck.push((worker_name(number), at_ms));
    }
    Ok(struck)
}

/// Kills coordinators in turn and starts them again; answers how long after each kill the first task was leased.
pub(super) async fn kill_coordinators(fleet: &mut Fleet, count: usize) -> anyhow::Result<Vec<i64>> {
    let mut times_ms = vec![];
    for number in (0..fleet.coordinators.len()).cycle().take(count) {
        let at_ms = now_ms();
        fleet.coordinators[number].kill_9()?;
        fleet.coordinators[number].start()?;
        times_ms.push(fleet.first_lease_ms(at_ms).await?);
        tokio::time::sleep(CALM_PAUSE).await;
    }
    Ok(times_ms)
}

/// Upgrades the whole fleet so many times, a process at a time and the coordinators first; in between the workers go back.
/// A worker that a coordinator refused has ended with an error, and that is found here.
pub(super) async fn roll_upgrades(fleet: &mut Fleet, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        for number in 0..fleet.coordinators.len() {
            let at_ms = now_ms();
            replace(&mut fleet.coordinators[number])?;
            fleet.first_lease_ms(at_ms).await?;
        }
        for version in [PROTOCOL_VERSION, VERSION_BEFORE] {
            for worker in &mut fleet.workers {
                worker.change_argument(VERSION_FLAG, &version.to_string())?;
                replace(worker)?;
                tokio::time::sleep(REPLACE_PAUSE).await;
            }
        }
    }
    Ok(())
}

fn replace(process: &mut Process) -> anyhow::Result<()> {
    let code = process.terminate(REPLACE_WAIT)?;
    let name = &process.name;
    ensure!(code == 0, "{name} ended with {code}:\n{}", process.log_tail());
    process.start()
}

/// Freezes workers past their lease and wakes them.
pub(super) async fn freeze_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<()> {
    let mut away = VecDeque::new();
    let mut numbers = (0..fleet.workers.len()).cycle().take(count);
    loop {
        while away
            .front()
            .is_some_and(|(since, _): &(Instant, usize)| since.elapsed() >= AWAY)
        {
            let (_, number) = away.pop_front().expect("it was looked at");
            ensure!(
                fleet.workers[number].is_stopped(),
                "{} was not frozen",
                fleet.workers[number].name
            );
            fleet.workers[number].signal(Signal::SIGCONT)?;
        }
        match numbers.next() {
            Some(number) => {
                fleet.workers[number].signal(Signal::SIGSTOP)?;
                away.push_back((Instant::now(), number));
            }
            None if away.is_empty() => return Ok(()),
            None => {}
        }
        tokio::time::sleep(AWAY_PAUSE).await;
    }
}

/// Cuts the cables of workers, or leaves them half open, in turn.
pub(super) async fn part_workers(fleet: &mut Fleet, count: usize) -> anyhow::Result<()> {
    let mut away = VecDeque::new();
    let mut windows = (0..fleet.links.len()).cycle().take(count).enumerate();
    loop {
        while away
            .front()
            .is_some_and(|(since, ..): &(Instant, usize, u64)| since.elapsed() >= AWAY)
        {
            let (_, number, hits) = away.pop_front().expect("it was looked at");
            ensure!(
                fleet.links[number].hits() > hits,
                "nothing went over the link of worker {number}"
            );
            fleet.links[number].set(Cable::Whole);
        }
        match windows.next() {
            Some((window, number)) => {
                let link = &fleet.links[number];
                away.push_back((Instant::now(), number, link.hits()));
                link.set(if window % 2 == 0 {
                    Cable::Cut
                } else {
                    Cable::HalfOpen
                });
            }
            None if away.is_empty() => return Ok(()),
            None => {}
        }
        tokio::time::sleep(AWAY_PAUSE).await;
    }
}

/// Lets the store misbehave.
pub(super) async fn fail_store(fleet: &mut Fleet, fault: StoreFault, count: u32) -> anyhow::Result<()> {
    let server = fleet.s3.as_ref().expect("this group has an S3 server");
    let faults = std::sync::Arc::clone(&server.faults);
    faults.arm(fault, STORE_FAULT_EVERY, count);
    let start = Instant::now();
    while faults.fired() < count {
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "only {} of {count} faults befell a request",
            faults.fired()
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

/// Restarts the database server, by turns as an administrator and as a power cut do; answers how long after each the first
/// task was leased.
pub(super) async fn restart_database(fleet: &mut Fleet, count: usize) -> anyhow::Result<Vec<i64>> {
    let mut times_ms = vec![];
    for number in 0..count {
        let server = fleet.postgres.as_ref().expect("this group has a PostgreSQL");
        let how = if number % 2 == 0 {
            Restart::Fast
        } else {
            Restart::Immediate
        };
        tokio::task::block_in_place(|| server.restart(how))?;
        times_ms.push(fleet.first_lease_ms(now_ms()).await?);
        tokio::time::sleep(CALM_PAUSE).await;
    }
    Ok(times_ms)
}

/// Sets the wall clocks of coordinators and workers an hour forward and back again.
pub(super) async fn shift_clocks(fleet: &mut Fleet, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let shift = [CLOCK_SHIFT, 0, -CLOCK_SHIFT, 0][number % 4];
        fleet.shift_clocks(shift)?;
        tokio::time::sleep(CALM_PAUSE * 2).await;
        ensure!(fleet.revive()? == 0, "a process died of the clock");
    }
    fleet.shift_clocks(0)
}

/// Waits until workers have ended themselves so often between upload and commit, starting each again.
pub(super) async fn await_deaths(fleet: &mut Fleet, count: usize) -> anyhow::Result<usize> {
    let start = Instant::now();
    loop {
        fleet.revive()?;
        let facts = history::read(&fleet.history())?;
        let deaths = facts.iter().filter(|fact| fact.saw == Saw::Dying).count();
        if deaths >= count {
            return Ok(deaths);
        }
        ensure!(
            start.elapsed() < FIRE_WAIT,
            "only {deaths} of {count} workers died"
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Waits until so many stragglers have been overtaken: somebody else's result for their task counts.
pub(super) async fn await_overtaken(fleet: &mut Fleet, count: usize) -> anyhow::Result<usize> {
    let start = Instant::now();
    loop {
        let facts = history::read(&fleet.history())?;
        let of = |saw| facts.iter().filter(move |fact| fact.saw == saw);
        let is_overtaken = |slow: &&Fact| {
            of(Saw::Acknowledged).any(|counted| counted.task == slow.task && counted.token != slow.token)
        };
        let overtaken = of(Saw::Straggling).filter(is_overtaken).count();
        if overtaken >= count {
            return Ok(overtaken);
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
pub(super) async fn endure_poison(fleet: &mut Fleet) -> anyhow::Result<usize> {
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
    Ok(struck.map(|fact| &fact.task).collect::<BTreeSet<_>>().len())
}
