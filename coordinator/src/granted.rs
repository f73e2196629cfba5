//! What was granted here and not handed in yet, so that a commit need not ask the database what its task is.
//!
//! Nothing here is truth: what is missing is read from the rows, and whether a lease still counts is decided in the
//! transaction of its commit, whatever is kept here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use remaster_domain::{JobId, Lease, LeaseToken, TaskId, TaskSpec};

use crate::coordinator::LeaseName;

/// Specs of one generation, at a few KB each: twice what a thousand workers hold. There are two.
const KEPT: usize = 2_048;

type Specs = HashMap<(TaskId, LeaseToken), (JobId, TaskSpec)>;

/// The specs of leases, those granted last.
#[derive(Debug, Default)]
pub(crate) struct Granted(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Specs,
    old: Specs,
}

impl Granted {
    /// Keeps what leases ask for.
    pub(crate) fn keep(&self, leases: &[Lease]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in leases {
            if kept.young.len() >= KEPT {
                kept.old = std::mem::take(&mut kept.young);
            }
            kept.young.insert(
                (lease.task.clone(), lease.token),
                (lease.job.clone(), lease.spec.clone()),
            );
        }
    }

    /// What a lease asks for, and of which job it is; once.
    pub(crate) fn take(&self, lease: &LeaseName) -> Option<(JobId, TaskSpec)> {
        let name = (lease.task.clone(), lease.token);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.young.remove(&name).or_else(|| kept.old.remove(&name))
    }
}
