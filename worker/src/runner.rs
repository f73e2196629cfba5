//! Does the work of a lease: one arm per kind, nothing else. The loop around it is proto's.

use remaster_domain::{TaskKind, TaskSpec};
use remaster_proto::{Attempt, AttemptError, Completion, TaskRunner};

use crate::context::Context;
use crate::error::WorkError;
use crate::monitor::Monitor;
use crate::{extract, upscale};

/// Kinds that this build can do, in flow order.
pub(crate) const KINDS: &[TaskKind] = &[
    TaskKind::Index,
    TaskKind::Press,
    TaskKind::Align,
    TaskKind::Extract,
    TaskKind::Curate,
    TaskKind::Plan,
    #[cfg(feature = "upscale")]
    TaskKind::Upscale,
    TaskKind::Assemble,
];

/// Runs attempts.
#[derive(Debug)]
pub(crate) struct Runner {
    context: Context,
}

impl Runner {
    /// A runner that works with these.
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    async fn work(&self, spec: TaskSpec, monitor: &Monitor) -> Result<Completion, WorkError> {
        let context = &self.context;
        match spec {
            TaskSpec::Index(spec) => extract::run_index(context, spec, monitor).await,
            TaskSpec::Press(spec) => extract::run_press(context, spec, monitor).await,
            TaskSpec::Align(spec) => extract::run_align(context, spec, monitor).await,
            TaskSpec::Extract(spec) => extract::run_extract(context, spec, monitor).await,
            TaskSpec::Curate(spec) => extract::run_curate(context, spec, monitor).await,
            TaskSpec::Plan(spec) => upscale::run_plan(context, spec, monitor).await,
            #[cfg(feature = "upscale")]
            TaskSpec::Upscale(spec) => upscale::run_upscale(context, spec, monitor).await,
            TaskSpec::Assemble(spec) => upscale::run_assemble(context, spec, monitor).await,
            other => Err(WorkError::Retryable(format!(
                "this worker does not do {}: start one that does",
                other.kind().as_str()
            ))),
        }
    }
}

impl TaskRunner for Runner {
    async fn run(&self, attempt: Attempt) -> Result<Completion, AttemptError> {
        let monitor = Monitor::of_attempt(&attempt);
        let stop = attempt.stop.clone();
        let outcome = tokio::select! {
            outcome = self.work(attempt.lease.spec.clone(), &monitor) => outcome,
            // Blocking work has a grace of its own, and its slot until it has ended; this ends a download or an upload.
            () = async { stop.cancelled().await; tokio::time::sleep(crate::monitor::STOP_GRACE * 2).await } => {
                Err(WorkError::Stopped)
            }
        };
        outcome.map_err(AttemptError::from)
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
