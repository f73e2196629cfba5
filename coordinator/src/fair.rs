//! Who is served next when several jobs want the same workers. The order is a pure function of a few numbers a job.
//!
//! The next slot goes to a job that runs no more than its share with it, rounded up; among those to the one that was served
//! least for its share so far, so that jobs take turns in the right measure even on one worker or two; then to the older, as
//! whose age each step of priority counts an hour. Where none is below its share, to the one that is least above it. A share
//! is two to the power of the priority, and three quarters more for a job's first tasks: it finds others' tasks on every
//! worker when it comes. No job starves, however low it stands: one that got nothing for an hour for each step that another
//! stands above it goes first, once. Read once a transaction and kept up to date within it, so that a lease costs no count of
//! what runs.
//!
//! Where very many jobs wait, each gets a few slots in a row: a turn that gave each of hundreds one would read and write pages
//! of every one. Left to others: reading and writing those numbers (`db::turns`), and whether a job has anything ready, which is
//! found when its turn comes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::JobId;

/// Priorities beyond this share as this one does; the share of 2^20 to 1 is all or nothing anyway.
const PRIORITY_MAX: i64 = 20;
/// What a lease at priority 0 adds to a job's pass; one at the highest still adds 1.
const PASS_UNIT: i64 = 1 << PRIORITY_MAX;
/// A job that had nothing to do for long gets this many leases in a row at most before turns are taken again.
const LAG_LEASES_MAX: i64 = 16;
/// A job's first leases, about what a season of 24 episodes begins with.
const FIRST_LEASES: i64 = 100;
/// How many shares a job has for them. With one, a small job that finds all workers at work for a large one would take twice
/// its time alone and the wait for the first worker. Less than a step of priority.
const FIRST_LEASES_SHARE: f64 = 1.75;

/// How much older a job stands for each step of its priority, among those that were served alike: what has waited for longer
/// than that comes before what is more urgent and new. And how long it waits at most for each step that another stands above it.
const STEP_OF_PRIORITY_MS: i64 = 60 * 60 * 1_000;

/// Up to so many jobs get one slot at a time; beyond, one more in a row for as many again.
const JOBS_BY_SINGLE_SLOTS: usize = 64;
/// The most slots in a row: what another job waits for, at worst.
const SLOTS_IN_A_ROW_MAX: usize = 8;

/// Jobs that run and may be led on here.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    jobs: BTreeMap<JobId, QueuedJob>,
    now_ms: i64,
    /// The first time from which on a task may be tried again.
    returned_ms: Option<i64>,
}

/// What decides over the place of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueuedJob {
    /// Each step doubles its share.
    pub(crate) priority: i64,
    /// When it was handed in.
    pub(crate) created_ms: i64,
    /// How far it was served, in leases over its share.
    pub(crate) pass: i64,
    /// When it was served last.
    pub(crate) served_ms: i64,
    /// Leases that there are now.
    pub(crate) running: i64,
    /// All that there were.
    pub(crate) leases: i64,
    /// Whether it was served in this transaction.
    pub(crate) is_moved: bool,
    /// Whether that is not in its row yet.
    pub(crate) is_unwritten: bool,
}

impl Queue {
    /// Of the jobs and the first time from which on something may be tried again.
    pub(crate) fn new(jobs: BTreeMap<JobId, QueuedJob>, returned_ms: Option<i64>, now_ms: i64) -> Self {
        let mut queue = Self {
            jobs,
            now_ms,
            returned_ms,
        };
        queue.limit_lag();
        queue
    }

    /// Whether anything that was tried before may be tried again now.
    pub(crate) fn has_returned(&self, now_ms: i64) -> bool {
        self.returned_ms.is_some_and(|from_ms| from_ms <= now_ms)
    }

    /// Whether something of a job was just leased, so that it goes on.
    pub(crate) fn goes_on(&self, id: &JobId) -> bool {
        self.jobs.get(id).is_some_and(|job| job.is_moved)
    }

    /// All jobs but some.
    pub(crate) fn others(&self, without: &BTreeSet<JobId>) -> Vec<JobId> {
        let others = self.jobs.keys().filter(|id| !without.contains(id));
        others.cloned().collect()
    }

    /// The jobs that the next `slots` slots would go to, in their order, the `without` ones left out.
    pub(crate) fn preview(&self, slots: usize, without: &BTreeSet<JobId>) -> Vec<JobId> {
        let candidates = self.jobs.iter().filter(|(id, _)| !without.contains(id));
        let mut waiting: Vec<Waiting<'_>> = candidates.map(|(id, job)| Waiting::new(id, *job)).collect();
        let highest = waiting.iter().map(|waiting| waiting.job.share_log2()).max();
        let (now_ms, highest) = (self.now_ms, highest.unwrap_or_default());
        let mut whole = Whole::of(&waiting);
        let in_a_row = waiting
            .len()
            .div_ceil(JOBS_BY_SINGLE_SLOTS)
            .min(SLOTS_IN_A_ROW_MAX);
        let mut turns = vec![];
        while turns.len() < slots {
            let above = waiting.iter_mut().map(|job| (job.above_share(whole), job));
            // Of those that are alike the first, which has the lowest id.
            let before = |one: &(f64, &mut Waiting<'_>), other: &(f64, &mut Waiting<'_>)| {
                let is_patient = |waiting: &Waiting<'_>| !waiting.job.is_overdue(highest, now_ms);
                let in_order = || one.1.job.before(&other.1.job);
                let by_share = || one.0.total_cmp(&other.0);
                let by_wait = is_patient(one.1).cmp(&is_patient(other.1));
                by_wait.then_with(by_share).then_with(in_order)
            };
            let Some((_, first)) = above.min_by(before) else {
                break;
            };
            for _ in 0..in_a_row.min(slots - turns.len()) {
                whole.shares -= first.share;
                first.serve(now_ms);
                whole.shares += first.share;
                whole.slots += 1;
                turns.push(first.id.clone());
            }
        }
        turns
    }

    /// Notes that a job was served.
    pub(crate) fn served(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.serve(self.now_ms);
        }
    }

    /// The jobs that were served since this was asked last.
    pub(crate) fn take_unwritten(&mut self) -> Vec<(&JobId, QueuedJob)> {
        let mut unwritten = vec![];
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| job.is_unwritten) {
            job.is_unwritten = false;
            unwritten.push((id, *job));
        }
        unwritten
    }

    fn limit_lag(&mut self) {
        // A single lease of a job that stands low may put it further ahead than that, and there it has to stay.
        let reach = |job: &QueuedJob| {
            job.pass
                .saturating_sub(job.step().max(LAG_LEASES_MAX * PASS_UNIT))
        };
        let least = self.jobs.values().map(reach).max().unwrap_or(0);
        for job in self.jobs.values_mut() {
            job.pass = job.pass.max(least);
        }
    }
}

/// What jobs share.
#[derive(Debug, Clone, Copy)]
struct Whole {
    /// Those that are at work for any of them, and the next one.
    slots: i64,
    shares: f64,
}

impl Whole {
    fn of(jobs: &[Waiting<'_>]) -> Self {
        Self {
            slots: jobs.iter().map(|waiting| waiting.job.running).sum::<i64>() + 1,
            shares: jobs.iter().map(|waiting| waiting.share).sum(),
        }
    }
}

/// A job with its share, which is asked for at every slot.
struct Waiting<'a> {
    id: &'a JobId,
    job: QueuedJob,
    share: f64,
}

impl<'a> Waiting<'a> {
    fn new(id: &'a JobId, job: QueuedJob) -> Self {
        let share = job.share();
        Self { id, job, share }
    }

    fn serve(&mut self, now_ms: i64) {
        self.job.serve(now_ms);
        self.share = self.job.share();
    }

    /// How far one more slot would bring it above its share of all; 0 where it would not.
    fn above_share(&self, whole: Whole) -> f64 {
        let due = (whole.slots as f64 * self.share / whole.shares).ceil();
        if self.job.running < due as i64 {
            0.0
        } else {
            self.job.running as f64 / self.share
        }
    }
}

impl QueuedJob {
    fn serve(&mut self, now_ms: i64) {
        self.served_ms = now_ms;
        self.running += 1;
        self.leases += 1;
        self.pass = self.pass.saturating_add(self.step());
        self.is_moved = true;
        self.is_unwritten = true;
    }

    /// What a lease adds to its pass.
    fn step(&self) -> i64 {
        PASS_UNIT >> self.share_log2().max(0) << (-self.share_log2()).max(0)
    }

    fn share_log2(&self) -> i64 {
        self.priority.clamp(-PRIORITY_MAX, PRIORITY_MAX)
    }

    /// Whether it got nothing for so long that it goes before what stands higher.
    fn is_overdue(&self, highest: i64, now_ms: i64) -> bool {
        let steps = highest - self.share_log2();
        let waits_since_ms = self.served_ms.max(self.created_ms);
        steps > 0 && now_ms.saturating_sub(waits_since_ms) >= steps.saturating_mul(STEP_OF_PRIORITY_MS)
    }

    fn stands_since_ms(&self) -> i64 {
        let ahead_ms = self.priority.saturating_mul(STEP_OF_PRIORITY_MS);
        self.created_ms.saturating_sub(ahead_ms)
    }

    fn share(&self) -> f64 {
        let of_first_leases = if self.leases < FIRST_LEASES {
            FIRST_LEASES_SHARE
        } else {
            1.0
        };
        (self.share_log2() as f64).exp2() * of_first_leases
    }

    /// Between jobs that are alike above their share, or below.
    fn before(&self, other: &Self) -> Ordering {
        self.pass
            .cmp(&other.pass)
            .then(self.stands_since_ms().cmp(&other.stands_since_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs by their place, which is also their age.
    fn id(place: usize) -> JobId {
        let text = format!("0198c0de-0000-7000-8000-{place:012}");
        text.parse().expect("a UUID")
    }

    fn queue(priorities: &[i64]) -> Queue {
        let jobs = priorities.iter().enumerate().map(|(place, priority)| {
            let job = QueuedJob {
                priority: *priority,
                created_ms: i64::try_from(place).expect("a few"),
                leases: FIRST_LEASES,
                ..QueuedJob::default()
            };
            (id(place), job)
        });
        Queue::new(jobs.collect(), None, 0)
    }

    fn first(queue: &Queue) -> Option<JobId> {
        queue.preview(1, &BTreeSet::new()).pop()
    }

    /// Serves `leases` slots, each given back at once as one worker does it, or never; answers how many each job got.
    fn serve(queue: &mut Queue, leases: usize, workers_are_many: bool) -> Vec<usize> {
        let mut got = vec![0; queue.jobs.len()];
        for _ in 0..leases {
            let first = first(queue).expect("there are jobs");
            queue.served(&first);
            let place = (0..got.len()).find(|place| id(*place) == first);
            got[place.expect("one of them")] += 1;
            if !workers_are_many && let Some(job) = queue.jobs.get_mut(&first) {
                job.running -= 1;
            }
        }
        got
    }

    #[test]
    fn equal_jobs_share_one_worker_and_many() {
        assert_eq!(serve(&mut queue(&[0, 0]), 100, false), [50, 50]);
        assert_eq!(serve(&mut queue(&[0, 0]), 100, true), [50, 50]);
    }

    #[test]
    fn a_step_of_priority_doubles_the_share_and_nobody_starves() {
        for many in [false, true] {
            let got = serve(&mut queue(&[0, 2]), 100, many);
            assert_eq!(got, [20, 80], "many workers: {many}");
            let got = serve(&mut queue(&[-30, 30]), 100, many);
            assert!(got[1] > 95, "many workers: {many}: {got:?}");
        }
    }

    /// Serves two workers `leases` slots; each task of the second job takes so many times as long as one of the first.
    fn serve_two_workers(queue: &mut Queue, leases: usize, times_as_long: usize) -> Vec<usize> {
        let (mut got, mut ends) = (vec![0; 2], vec![(0, None); 2]);
        for _ in 0..leases {
            let worker = if ends[0].0 <= ends[1].0 { 0 } else { 1 };
            let (now, done) = &mut ends[worker];
            if let Some(job) = done.take().and_then(|job| queue.jobs.get_mut(&job)) {
                job.running -= 1;
            }
            let first = first(queue).expect("there are jobs");
            queue.served(&first);
            let place = usize::from(first == id(1));
            got[place] += 1;
            *now += if place == 1 { times_as_long } else { 1 };
            *done = Some(first);
        }
        got
    }

    #[test]
    fn two_workers_are_shared_by_priority_and_not_a_worker_each() {
        assert_eq!(serve_two_workers(&mut queue(&[0, 0]), 100, 1), [50, 50]);
        let got = serve_two_workers(&mut queue(&[0, 2]), 100, 1);
        assert!(got[1].abs_diff(80) <= 1, "{got:?}");
        let got = serve_two_workers(&mut queue(&[10, 0]), 1_000, 1);
        assert!((1..=2).contains(&got[1]), "{got:?}");
        let got = serve_two_workers(&mut queue(&[0, 0]), 110, 10);
        assert!(got[1].abs_diff(10) <= 1, "a worker each: {got:?}");
    }

    #[test]
    fn between_equals_the_higher_priority_and_then_the_older_job_begins() {
        assert_eq!(first(&queue(&[0, 1])), Some(id(1)));
        assert_eq!(first(&queue(&[0, 0])), Some(id(0)));
    }

    #[test]
    fn what_has_waited_for_long_comes_before_what_is_more_urgent_and_new() {
        let mut queue = queue(&[0, 1]);
        for (age_ms, expected) in [(STEP_OF_PRIORITY_MS - 1, 1), (STEP_OF_PRIORITY_MS + 1, 0)] {
            queue.jobs.get_mut(&id(1)).expect("the younger").created_ms = age_ms;
            assert_eq!(first(&queue), Some(id(expected)), "after {age_ms} ms");
        }
    }

    #[test]
    fn a_job_that_stands_low_gets_its_share_and_no_more_however_often_the_queue_is_read() {
        let mut queue = queue(&[0, -10]);
        let mut got = vec![0; 2];
        for _ in 0..1_025 * 2 {
            let one = serve(&mut queue, 1, false);
            got.iter_mut().zip(one).for_each(|(all, one)| *all += one);
            queue.limit_lag();
        }
        assert_eq!(got, [2_048, 2]);
    }

    #[test]
    fn what_got_nothing_for_an_hour_a_step_goes_first_once() {
        let mut queue = queue(&[20, 0]);
        queue.jobs.get_mut(&id(1)).expect("the younger").pass = PASS_UNIT;
        assert_eq!(serve(&mut queue, 1_000, false), [1_000, 0]);
        queue.now_ms = 20 * STEP_OF_PRIORITY_MS;
        assert_eq!(serve(&mut queue, 1, false), [1, 0], "not yet");
        queue.now_ms += 1;
        assert_eq!(serve(&mut queue, 1_000, false), [999, 1]);
    }

    #[test]
    fn each_of_very_many_jobs_gets_some_slots_in_a_row_and_all_get_as_many() {
        let mut queue = queue(&[0; 500]);
        let turns = queue.preview(16, &BTreeSet::new());
        assert_eq!(turns, [vec![id(0); 8], vec![id(1); 8]].concat());
        let all = queue.preview(4_000, &BTreeSet::new());
        all.iter().for_each(|job| queue.served(job));
        assert!(queue.jobs.values().all(|job| job.running == 8));
    }

    #[test]
    fn a_job_that_comes_late_does_not_catch_up_with_all_that_was_done_before() {
        let mut queue = queue(&[0, 0]);
        queue.jobs.get_mut(&id(0)).expect("the elder").pass = 10_000 * PASS_UNIT;
        queue.limit_lag();
        let got = serve(&mut queue, 116, false);
        assert_eq!(got, [50, 66]);
    }

    #[test]
    fn the_first_tasks_of_a_job_get_more_than_its_share_and_all_after_them_its_share() {
        let mut queue = queue(&[0, 0]);
        queue.jobs.get_mut(&id(1)).expect("the younger").leases = 0;
        assert_eq!(serve(&mut queue, 150, true), [55, 95]);
        assert_eq!(serve(&mut queue, 100, true), [70, 30]);
    }

    /// How long a job of 100 tasks takes on 20 workers, a tenth of a task as the unit, from some time on after which it finds
    /// them at work for a large job, or idle.
    fn ticks_of_a_small_job(comes_at: usize, is_alone: bool) -> usize {
        let mut queue = queue(&[0, 0]);
        let (large, small) = (id(0), id(1));
        queue.jobs.get_mut(&small).expect("one of them").leases = 0;
        let mut left = BTreeMap::from([(large, if is_alone { 0 } else { 2_000 }), (small.clone(), 100)]);
        let mut workers: Vec<Option<(JobId, usize)>> = vec![None; 20];
        for tick in 0.. {
            for (number, worker) in workers.iter_mut().enumerate() {
                // They begin one after the other.
                if tick < number / 2 || worker.as_ref().is_some_and(|(_, until)| tick < *until) {
                    continue;
                }
                if let Some((job, _)) = worker.take() {
                    queue.jobs.get_mut(&job).expect("one of them").running -= 1;
                }
                let without = left
                    .iter()
                    .filter(|&(job, &left)| left == 0 || (*job == small && tick < comes_at));
                let without = without.map(|(job, _)| job.clone()).collect();
                queue.limit_lag();
                if let Some(job) = queue.preview(1, &without).pop() {
                    queue.served(&job);
                    *left.get_mut(&job).expect("one of them") -= 1;
                    *worker = Some((job, tick + 10));
                }
            }
            let is_at_work = workers.iter().flatten().any(|(job, _)| *job == small);
            if left[&small] == 0 && !is_at_work {
                return tick - comes_at;
            }
        }
        unreachable!("it ends");
    }

    #[test]
    fn a_small_job_that_comes_to_a_large_one_takes_at_most_twice_its_time_alone() {
        for comes_at in 100..110 {
            let (alone, beside) = (
                ticks_of_a_small_job(comes_at, true),
                ticks_of_a_small_job(comes_at, false),
            );
            assert!(beside <= 2 * alone, "{beside} beside, {alone} alone");
        }
    }
}
