//! Whatever happens in whatever order, the database says what the pure function says that was given the same events.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use remaster_coordinator::blame::TRIES_OF_A_WORKER;
use remaster_coordinator::state::{Decision, Refusal, TaskEvent, TaskRow, decide, decide_for};
use remaster_domain::{
    Checkpoint, ContentHash, FailureClass, JobId, Lease, LeaseProgress, Progress, Stage, TaskId, TaskKind,
    Verdict,
};
use remaster_proto::{ClientError, LeaseClient};
use remaster_store::Key;
use uuid::Uuid;

use super::DATABASE;
use crate::cluster::{Cluster, LEASE_MS, Worker};
use crate::fake::season;

const CASES: u32 = 24;
const STEPS_MAX: usize = 40;
/// Longer than any back-off of a task that is not dead yet.
const BACKOFF_MS: i64 = 4_000;

/// One thing that happens; the numbers choose among the workers or among all leases that there ever were.
#[derive(Debug, Clone, Copy)]
enum Step {
    Lease(usize),
    Heartbeat(usize),
    /// By the number of steps of its checkpoint.
    Record(usize, u64),
    Commit(usize),
    Fail(usize, FailureClass),
    Release(usize),
    /// By any of the workers, most often not the one whose lease it is.
    ReleaseBy(usize),
    LeasesRunOut,
    Retry,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0_usize..1_000;
    prop_oneof![
        6 => which.clone().prop_map(Step::Lease),
        2 => which.clone().prop_map(Step::Heartbeat),
        2 => which.clone().prop_map(Step::Commit),
        4 => which.clone().prop_map(|which| Step::Fail(which, FailureClass::Retryable)),
        3 => which.clone().prop_map(|which| Step::Fail(which, FailureClass::BadInput)),
        2 => (which.clone(), 0..4_u64).prop_map(|(which, step)| Step::Record(which, step)),
        2 => which.clone().prop_map(Step::Release),
        1 => which.prop_map(Step::ReleaseBy),
        3 => Just(Step::LeasesRunOut),
        1 => Just(Step::Retry),
    ]
}

/// A job of four tasks in the database, the same tasks as the pure function sees them, and who was ever given one.
struct History<'c> {
    cluster: &'c Cluster,
    job: JobId,
    rows: BTreeMap<TaskId, TaskRow>,
    workers: Vec<Worker>,
    leases: Vec<(LeaseClient, Lease)>,
    /// In which states the tasks were at any time.
    reached: BTreeSet<&'static str>,
}

impl<'c> History<'c> {
    async fn begin(cluster: &'c Cluster) -> Self {
        // Other discs than any job had before: what was done once is not done again.
        let [one, two] = [Uuid::now_v7(), Uuid::now_v7()].map(|id| id.to_string());
        let spec = season(Stage::Extract, &[(&one, true, true), (&two, true, true)]);
        let job = cluster.submit(&spec).await.unwrap();
        let tasks = cluster.job(&job).await.tasks;
        let indexes = tasks.iter().filter(|task| task.kind == "index");
        let rows = indexes.map(|task| {
            let row = TaskRow::new(cluster.now_ms.load(Ordering::SeqCst));
            (task.task_id.parse().unwrap(), row)
        });
        let mut workers = vec![];
        for _ in 0..3 {
            workers.push(cluster.worker(&[TaskKind::Index]).await);
        }
        Self {
            cluster,
            job,
            rows: rows.collect(),
            workers,
            leases: vec![],
            reached: BTreeSet::new(),
        }
    }

    fn now_ms(&self) -> i64 {
        self.cluster.now_ms.load(Ordering::SeqCst)
    }

    /// Has the pure function decide, and keeps what it said.
    fn decide(&mut self, task: &TaskId, event: TaskEvent) -> Result<Decision, Refusal> {
        let now_ms = self.now_ms();
        let row = self.rows.get_mut(task).unwrap();
        let decision = decide(row, event, now_ms)?;
        *row = decision.row.clone();
        Ok(decision)
    }

    async fn happens(&mut self, step: Step) {
        let lease = |which: usize| (!self.leases.is_empty()).then(|| which % self.leases.len());
        match step {
            Step::Lease(who) => self.lease(who % self.workers.len()).await,
            Step::LeasesRunOut => self.leases_run_out().await,
            Step::Retry => self.retry().await,
            Step::Heartbeat(which) => {
                if let Some(place) = lease(which) {
                    self.heartbeat(place).await;
                }
            }
            Step::Record(which, step) => {
                if let Some(place) = lease(which) {
                    self.record(place, step).await;
                }
            }
            Step::Commit(which) => {
                if let Some(place) = lease(which) {
                    self.commit(place).await;
                }
            }
            Step::Fail(which, class) => {
                if let Some(place) = lease(which) {
                    self.fail(place, class).await;
                }
            }
            Step::Release(which) => {
                if let Some(place) = lease(which) {
                    let (client, lease) = self.leases[place].clone();
                    let event = TaskEvent::Release { token: lease.token };
                    let expected = self.decide(&lease.task, event);
                    let said = client.release(&lease.task, lease.token).await;
                    agree(&said, &expected);
                }
            }
            Step::ReleaseBy(which) => {
                if let Some(place) = lease(which) {
                    self.release_by(which % self.workers.len(), place).await;
                }
            }
        }
        self.compare().await;
    }

    async fn lease(&mut self, who: usize) {
        let (session, lease_ms) = (self.workers[who].session.clone(), i64::from(LEASE_MS));
        let Some(lease) = self.workers[who].lease(1).await.pop() else {
            let now_ms = self.now_ms();
            // What has been tried before, this worker may have failed at too often.
            let fresh = |row: &&TaskRow| row.errors + row.losses < TRIES_OF_A_WORKER;
            let could = self.rows.values().filter(fresh).any(|row| {
                let session = session.clone();
                decide(row, TaskEvent::Lease { session, lease_ms }, now_ms).is_ok()
            });
            assert!(!could, "something could have been leased: {:?}", self.rows);
            return;
        };
        let event = TaskEvent::Lease { session, lease_ms };
        let decision = self.decide(&lease.task, event).unwrap();
        let row = decision.row;
        assert_eq!(
            (lease.token, lease.attempt, &lease.checkpoint),
            (row.token, row.attempt, &row.checkpoint)
        );
        self.leases.push((self.workers[who].client.clone(), lease));
    }

    async fn heartbeat(&mut self, place: usize) {
        let (client, lease) = self.leases[place].clone();
        let (token, lease_ms) = (lease.token, i64::from(LEASE_MS));
        let expected = self.decide(&lease.task, TaskEvent::Heartbeat { token, lease_ms });
        let progress = LeaseProgress {
            task: lease.task,
            token,
            progress: Progress::default(),
        };
        let (verdicts, _) = client.heartbeat(vec![progress]).await.unwrap();
        let (_, _, said) = verdicts[0];
        assert_eq!(
            said == Verdict::Renewed,
            expected.is_ok(),
            "{said:?} {expected:?}"
        );
    }

    async fn record(&mut self, place: usize, step: u64) {
        let (client, lease) = self.leases[place].clone();
        let sha256 = ContentHash::of(format!("{place} at {step}").as_bytes());
        let mut objects = vec![];
        for key in [Key::checkpoint_state(&sha256), Key::checkpoint_tensors(&sha256)] {
            objects.push(self.cluster.store.put_bytes(&key, "fake".into()).await.unwrap());
        }
        let checkpoint = Checkpoint { sha256, step };
        let event = TaskEvent::Record {
            token: lease.token,
            checkpoint: checkpoint.clone(),
        };
        let expected = self.decide(&lease.task, event);
        let said = client.record(&lease.task, lease.token, checkpoint, objects).await;
        agree(&said, &expected);
    }

    async fn release_by(&mut self, who: usize, place: usize) {
        let (worker, lease) = (&self.workers[who], self.leases[place].1.clone());
        let (client, session) = (worker.client.clone(), worker.session.clone());
        let (event, now_ms) = (TaskEvent::Release { token: lease.token }, self.now_ms());
        let row = self.rows.get_mut(&lease.task).unwrap();
        let expected = decide_for(row, &session, event, now_ms);
        if let Ok(decision) = &expected {
            *row = decision.row.clone();
        }
        agree(&client.release(&lease.task, lease.token).await, &expected);
    }

    async fn commit(&mut self, place: usize) {
        let (client, lease) = self.leases[place].clone();
        let expected = self.decide(&lease.task, TaskEvent::Commit { token: lease.token });
        let (result, objects) = crate::fake::result(&self.cluster.store, &lease.spec).await;
        let said = client.commit(&lease.task, lease.token, &result, &objects).await;
        agree(&said, &expected);
    }

    /// Whoever fails is replaced: a worker that fails again and again would be given nothing for a while.
    async fn fail(&mut self, place: usize, class: FailureClass) {
        let (client, lease) = self.leases[place].clone();
        let event = TaskEvent::Fail {
            token: lease.token,
            class,
            message: format!("failure {place}"),
            jitter: 1.0,
        };
        let expected = self.decide(&lease.task, event);
        let words = format!("failure {place}");
        agree(
            &client.fail(&lease.task, lease.token, class, &words).await,
            &expected,
        );
        self.cluster.advance_ms(BACKOFF_MS);
        for who in 0..self.workers.len() {
            self.workers[who] = self.cluster.worker(&[TaskKind::Index]).await;
        }
    }

    async fn leases_run_out(&mut self) {
        self.cluster.advance_ms(i64::from(LEASE_MS));
        let mut lost = 0;
        for task in self.rows.keys().cloned().collect::<Vec<_>>() {
            lost += usize::from(self.decide(&task, TaskEvent::Expire).is_ok());
        }
        assert_eq!(self.cluster.core().reap().await.unwrap(), lost);
    }

    async fn retry(&mut self) {
        let mut again = 0;
        for task in self.rows.keys().cloned().collect::<Vec<_>>() {
            again += u32::from(self.decide(&task, TaskEvent::Retry).is_ok());
        }
        let said = self.cluster.control(&self.job, "retry").await;
        assert_eq!(said.map_or(0, |said| said.tasks_changed), again);
    }

    async fn compare(&mut self) {
        let states = self.rows.values().map(|row| row.phase.state().as_str());
        self.reached.extend(states);
        let tasks = self.cluster.job(&self.job).await.tasks;
        let seen = tasks.into_iter().filter(|task| task.kind == "index").map(|task| {
            let id: TaskId = task.task_id.parse().unwrap();
            (id, (task.state, task.attempt, task.message))
        });
        let expected = self.rows.iter().map(|(id, row)| {
            let state = row.phase.state().as_str().to_owned();
            (id.clone(), (state, row.attempt, row.message.clone()))
        });
        assert_eq!(
            seen.collect::<BTreeMap<_, _>>(),
            expected.collect::<BTreeMap<_, _>>()
        );
    }

    /// Cancels what is left; answers in which states the tasks were.
    async fn end(mut self) -> BTreeSet<&'static str> {
        for task in self.rows.keys().cloned().collect::<Vec<_>>() {
            let _ = self.decide(&task, TaskEvent::Cancel);
        }
        let _ = self.cluster.control(&self.job, "cancel").await;
        self.compare().await;
        self.reached
    }
}

fn agree(said: &Result<(), ClientError>, expected: &Result<Decision, Refusal>) {
    match (said, expected) {
        (Ok(()), Ok(_)) | (Err(ClientError::LeaseLost(_)), Err(_)) => {}
        _ => panic!("the coordinator said {said:?}, the pure function {expected:?}"),
    }
}

#[test]
fn the_database_says_what_the_pure_function_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start(DATABASE));
    let reached = RefCell::new(BTreeSet::new());
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..STEPS_MAX))| {
        runtime.block_on(async {
            let mut history = History::begin(&cluster).await;
            for step in steps {
                history.happens(step).await;
            }
            let ended = history.end().await;
            reached.borrow_mut().extend(ended);
        });
    });
    let reached = reached.into_inner();
    assert_eq!(
        reached,
        BTreeSet::from(["cancelled", "committed", "dead", "leased", "ready"])
    );
}
