//! Keeps leases: one call every heartbeat for all that run, in a task of its own that never waits for work or a free slot,
//! and a deadline for each attempt that no call in flight can put off.
//!
//! An attempt whose lease was not renewed in time stops by itself, before the coordinator gives the task to somebody else.

use remaster_domain::{Lease, LeaseProgress, LeaseToken, Progress, TaskId, Verdict};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::client::ClientError;
use crate::session::{Session, register};

impl Session {
    /// Renews leases until it is dropped.
    pub(crate) async fn beat(self) {
        let heartbeat = self.intervals.heartbeat;
        let mut ticks = tokio::time::interval(heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let leases = self.progress_of_all();
            let sent = Instant::now();
            match timeout(heartbeat, self.client.heartbeat(leases)).await {
                Ok(Ok((verdicts, drain))) => {
                    self.apply(sent, verdicts);
                    if drain {
                        self.drain();
                    }
                }
                Ok(Err(ClientError::SessionUnknown(_))) => {
                    // Bounded, so that heartbeats go on when the coordinator goes away meanwhile.
                    let again = register(&self.client, &self.config, &self.shutdown);
                    if !matches!(timeout(heartbeat, again).await, Ok(Ok(_))) {
                        warn!("not registered again yet");
                    }
                }
                Ok(Err(error)) => warn!(%error, "no answer to a heartbeat"),
                Err(_) => warn!("no answer to a heartbeat in time"),
            }
        }
    }

    /// The coordinator wants nothing more begun here; what runs may end.
    pub(crate) fn drain(&self) {
        if !self.leaving.is_cancelled() {
            info!("asked to drain: what runs is finished or given back, nothing more is leased");
            self.leaving.cancel();
        }
    }

    /// Since when a new lease is surely ours. A grant that was asked for long ago may have been long on its way, or is one that
    /// had to be waited for: such a lease is renewed before anything is begun. `None` when it is not ours any more.
    pub(crate) async fn renewed_first(&self, lease: &Lease, asked: Instant) -> Option<Instant> {
        if asked.elapsed() < self.intervals.heartbeat {
            return Some(asked);
        }
        let own = LeaseProgress {
            task: lease.task.clone(),
            token: lease.token,
            progress: Progress::default(),
        };
        let sent = Instant::now();
        let answer = timeout(self.intervals.heartbeat, self.client.heartbeat(vec![own])).await;
        let is_ours = |(task, token, verdict): &(TaskId, LeaseToken, Verdict)| {
            let is_kept = matches!(verdict, Verdict::Renewed | Verdict::Pause);
            *task == lease.task && *token == lease.token && is_kept
        };
        matches!(answer, Ok(Ok((verdicts, _))) if verdicts.iter().any(is_ours)).then_some(sent)
    }

    /// Stops an attempt whose lease was not renewed in time, whatever calls are in flight. Ends once the attempt is stopped.
    pub(crate) async fn fence(&self, task: &TaskId, token: LeaseToken, stop: &CancellationToken) {
        // This long before the lease ends, so that nobody runs on a lease that is already another's.
        let own_deadline = self.intervals.lease.saturating_sub(self.intervals.heartbeat / 2);
        while let Some(renewed) = self.renewed(task, token) {
            let deadline = renewed + own_deadline;
            if deadline <= Instant::now() {
                warn!("lease not renewed in time, stopping");
                stop.cancel();
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn renewed(&self, task: &TaskId, token: LeaseToken) -> Option<Instant> {
        let active = self.lock();
        let entry = active.get(task).filter(|entry| entry.token == token);
        entry.map(|entry| entry.renewed)
    }

    fn progress_of_all(&self) -> Vec<LeaseProgress> {
        let active = self.lock();
        let leases = active.iter().map(|(task, entry)| LeaseProgress {
            task: task.clone(),
            token: entry.token,
            progress: entry.progress(),
        });
        leases.collect()
    }

    fn apply(&self, sent: Instant, verdicts: Vec<(TaskId, LeaseToken, Verdict)>) {
        let mut active = self.lock();
        for (task, token, verdict) in verdicts {
            let Some(entry) = active.get_mut(&task).filter(|entry| entry.token == token) else {
                continue;
            };
            match verdict {
                Verdict::Renewed | Verdict::Pause => entry.renewed = sent,
                Verdict::Lost | Verdict::Cancel => {
                    entry.span.in_scope(|| warn!(?verdict, "stopping"));
                    entry.stop.cancel();
                }
            }
        }
    }
}
