//! Seasons in a loop with a fault every two seconds, and what the processes take meanwhile: what leaks, grows.
//!
//! The coordinator and half of the workers live from the first to the last second, frozen and cut off as they may be; the
//! others are killed. Memory and descriptors of those that live are held against their own earlier ones. The check of the
//! work is that of the groups. A link that is parted while nobody has anything to say over it is no fault, and most must be.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::checker::{Findings, check};
use super::evidence::{CalmSeasons, gather};
use super::faults::AWAY;
use super::fleet::{Fleet, Layout};
use super::link::Cable;
use crate::process::Process;

/// Between two faults.
const FAULT_INTERVAL: Duration = Duration::from_secs(2);
/// Faults between two looks at memory and descriptors.
const FAULTS_PER_LOOK: usize = 5;
/// Looks that say anything: with fewer, quarters are single looks.
const LOOKS_MIN: usize = 16;
/// Of a hundred links that are parted, so many must have had something to cut or to hold up. Nearly all have: who is without
/// work for a moment has not been for all the time that it is away.
const NOTICED_PERCENT: usize = 75;
/// The first so many workers are killed, the others live.
const MORTALS: usize = 5;
/// Workers in all.
const WORKERS: usize = 10;
/// By how much memory may be larger in the last quarter than in the second: allocators keep what they once had, here and there.
const GROWTH_MAX: f64 = 0.10;
/// What is always allowed on top, in KiB: a tenth of little is nothing.
const GROWTH_KIB: u64 = 4 * 1024;
/// Descriptors that the last quarter may have on top of the second: connections that are being replaced.
const DESCRIPTORS_MORE_MAX: u64 = 6;

/// What came of a soak.
#[derive(Debug)]
pub struct Soaked {
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Faults that fired.
    pub faults: usize,
    /// Links that were parted.
    pub parted: usize,
    /// Those of them in which something was cut or held up: the others are no faults.
    pub noticed: usize,
    /// Seasons that went through.
    pub seasons: usize,
    /// What the checker found.
    pub findings: Findings,
    /// What each process that lived took.
    pub courses: Vec<Course>,
}

impl Soaked {
    /// Whether the links were missed, nothing was lost, doubled or unexpected, and nothing grew.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.is_noticed() && self.findings.is_clean() && self.courses.iter().all(Course::is_flat)
    }

    /// Whether enough of the links that were parted had something to cut or to hold up.
    #[must_use]
    pub fn is_noticed(&self) -> bool {
        self.noticed * 100 >= self.parted * NOTICED_PERCENT
    }
}

/// What a process took over time.
#[derive(Debug, Default)]
pub struct Course {
    /// Name of the process.
    pub name: String,
    memory_kib: Vec<u64>,
    descriptors: Vec<u64>,
}

impl Course {
    /// Whether it takes no more in its last quarter than in its second: the first is for warming up.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        let (before, after) = self.memory_kib();
        let (open_before, open_after) = self.descriptors();
        let room_kib = GROWTH_KIB.max((before as f64 * GROWTH_MAX) as u64);
        after <= before + room_kib && open_after <= open_before + DESCRIPTORS_MORE_MAX
    }

    /// Median memory in KiB in the second and the last quarter.
    #[must_use]
    pub fn memory_kib(&self) -> (u64, u64) {
        quarters(&self.memory_kib)
    }

    /// Median number of open descriptors in the second and the last quarter.
    #[must_use]
    pub fn descriptors(&self) -> (u64, u64) {
        quarters(&self.descriptors)
    }

    fn look(&mut self, process: &Process) -> anyhow::Result<()> {
        let folder = format!("/proc/{}", process.id()?);
        let status = std::fs::read_to_string(format!("{folder}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = memory.and_then(|line| line.split_whitespace().next());
        self.memory_kib.push(
            kib.with_context(|| format!("{folder}/status names no VmRSS"))?
                .parse()?,
        );
        let open = std::fs::read_dir(format!("{folder}/fd"))?.count();
        self.descriptors.push(open as u64);
        Ok(())
    }
}

fn quarters(values: &[u64]) -> (u64, u64) {
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    };
    let quarter = values.len() / 4;
    (
        median(&values[quarter..2 * quarter]),
        median(&values[values.len() - quarter..]),
    )
}

/// Runs for so long; what the seasons come to without faults is remembered in a folder.
///
/// # Errors
/// When a fault did not fire, a process cannot be started or ended by itself, or work that is left does not end.
pub async fn soak(time: Duration, calm: &Path) -> anyhow::Result<Soaked> {
    let start = Instant::now();
    let mut fleet = Fleet::start(&Layout {
        coordinators: 1,
        workers: WORKERS,
        work_ms: 600,
        flags: "--deaf".to_owned(),
        ..Layout::default()
    })
    .await?;
    fleet.feed();
    fleet.first_lease_ms(0).await?;
    let mut courses = vec![];
    for process in living(&fleet) {
        let name = process.name.clone();
        courses.push(Course {
            name,
            ..Course::default()
        });
    }
    let mut away = Away::default();
    let mut strikes = 0;
    while start.elapsed() < time {
        strike(&mut fleet, strikes, &mut away)?;
        strikes += 1;
        if strikes.is_multiple_of(FAULTS_PER_LOOK) {
            for (course, process) in courses.iter_mut().zip(living(&fleet)) {
                course.look(process)?;
            }
        }
        tokio::time::sleep(FAULT_INTERVAL).await;
        bring_back(&mut fleet, &mut away, AWAY)?;
    }
    let looks = courses[0].memory_kib.len();
    ensure!(looks >= LOOKS_MIN, "{looks} looks say nothing: soak for longer");
    bring_back(&mut fleet, &mut away, Duration::ZERO)?;
    let fed = fleet.finish().await?;
    let numbers: Vec<_> = fed.into_iter().map(|number| (number, None)).collect();
    let calm = CalmSeasons {
        folder: calm.to_owned(),
    }
    .of(&numbers)
    .await?;
    Ok(Soaked {
        seconds: start.elapsed().as_secs(),
        faults: strikes - (away.parted - away.noticed),
        parted: away.parted,
        noticed: away.noticed,
        seasons: numbers.len(),
        findings: check(&gather(&fleet, calm).await?),
        courses,
    })
}

/// The processes that are never killed.
fn living(fleet: &Fleet) -> impl Iterator<Item = &Process> {
    fleet.coordinators.iter().chain(&fleet.workers[MORTALS..])
}

/// Who is frozen or cut off.
#[derive(Debug, Default)]
struct Away {
    /// Since when, the longest first.
    since: VecDeque<(Instant, Absence)>,
    /// Links that were parted so far.
    parted: usize,
    /// Those that are whole again and in which something was cut or held up.
    noticed: usize,
}

#[derive(Debug, Clone, Copy)]
enum Absence {
    /// Stopped.
    Frozen(usize),
    /// Without a whole cable, on which so much had been cut or held up before.
    Apart { number: usize, hits: u64 },
}

/// One fault, each kind in turn, each time on another worker.
fn strike(fleet: &mut Fleet, number: usize, away: &mut Away) -> anyhow::Result<()> {
    let (kind, round) = (number % 4, number / 4);
    let living = MORTALS + round % (WORKERS - MORTALS);
    match kind {
        0 => {
            let worker = &mut fleet.workers[round % MORTALS];
            worker.kill_9()?;
            worker.start()?;
        }
        1 => {
            fleet.workers[living].signal(Signal::SIGSTOP)?;
            away.since.push_back((Instant::now(), Absence::Frozen(living)));
        }
        _ => {
            let cable = if kind == 2 { Cable::Cut } else { Cable::HalfOpen };
            // Not the one that is frozen.
            let number = MORTALS + (round + kind) % (WORKERS - MORTALS);
            let link = &fleet.links[number];
            let hits = link.hits();
            away.since
                .push_back((Instant::now(), Absence::Apart { number, hits }));
            link.set(cable);
            away.parted += 1;
        }
    }
    Ok(())
}

/// Ends what has lasted for so long.
fn bring_back(fleet: &mut Fleet, away: &mut Away, after: Duration) -> anyhow::Result<()> {
    while let Some((_, absence)) = away.since.pop_front_if(|(since, _)| since.elapsed() >= after) {
        match absence {
            Absence::Frozen(number) => {
                let worker = &fleet.workers[number];
                ensure!(worker.is_stopped(), "{} was not frozen", worker.name);
                worker.signal(Signal::SIGCONT)?;
            }
            Absence::Apart { number, hits } => {
                let link = &fleet.links[number];
                away.noticed += usize::from(link.hits() > hits);
                link.set(Cable::Whole);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(memory_kib: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Course {
        Course {
            name: "light-7".to_owned(),
            memory_kib: (0..100).map(memory_kib).collect(),
            descriptors: (0..100).map(descriptors).collect(),
        }
    }

    #[test]
    fn what_grows_steadily_is_not_flat_and_what_warms_up_is() {
        let flat = |_| 20_000;
        assert!(course(|look| 20_000 + 9_000 * look.min(20) / 20, |_| 12).is_flat());
        assert!(!course(|look| 20_000 + 200 * look, |_| 12).is_flat());
        assert!(!course(flat, |look| 12 + look / 5).is_flat());
        assert!(course(flat, |look| 12 + look % 5).is_flat());
    }

    #[test]
    fn a_soak_whose_links_nobody_missed_is_no_pass() {
        let soaked = |noticed| Soaked {
            seconds: 160,
            faults: 40 + noticed,
            parted: 40,
            noticed,
            seasons: 1,
            findings: Findings::default(),
            courses: vec![course(|_| 20_000, |_| 12)],
        };
        assert!(soaked(30).is_passed() && !soaked(29).is_passed());
    }
}
