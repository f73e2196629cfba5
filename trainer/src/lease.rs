//! Leased tasks: `train` and `publish` under the lease protocol. Heartbeats are the session's own task, so a step
//! that takes minutes loses no lease.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use remaster_domain::{
    Capabilities, Checkpoint, FailureClass, OutputObject, PublishSpec, TaskKind, TaskResult, TaskSpec,
    TrainSpec,
};
use remaster_proto::{Attempt, AttemptError, Completion, TaskRunner};
use remaster_store::Store;
use tokio::runtime::Handle;
use tracing::Span;

use crate::TrainError;
use crate::checkpoint::RunIdentity;
use crate::data::{CacheWish, Dataset};
use crate::pretrained::Pretrained;
use crate::publish::{Publication, publish, seen_in_pairs};
use crate::recipe::Recipe;
use crate::run::{FinishedRun, Observer, RunPlan, Wish, train};

/// What a trainer says when it registers: its kinds of task and what its machine has, of which it may hold only as much memory
/// as it is told.
#[must_use]
pub fn capabilities(machine: BTreeMap<String, String>, memory_mib: Option<u64>) -> Capabilities {
    let mut labels = machine;
    if let Some(mib) = memory_mib {
        labels.insert("mem_mib".to_owned(), mib.to_string());
    }
    Capabilities {
        kinds: vec![TaskKind::Train, TaskKind::Publish],
        labels,
    }
}

/// What a runner works with.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// The store.
    pub store: Store,
    /// What computes, without gradients.
    pub device: Device,
    /// Memory that may be held; unchecked where it is not known.
    pub memory_mib: Option<u64>,
    /// Folder with one folder a run, for what people look at.
    pub logs: PathBuf,
    /// What is kept on this machine of fetched pairs.
    pub cache: CacheWish,
    /// VGG19 weights on this machine.
    pub perceptual_weights: Option<PathBuf>,
}

/// Runs leased tasks.
#[derive(Debug)]
pub struct Runner {
    config: RunnerConfig,
}

impl Runner {
    /// A runner for one process.
    #[must_use]
    pub fn new(config: RunnerConfig) -> Self {
        Self { config }
    }

    async fn train(&self, spec: TrainSpec, attempt: Attempt) -> Result<Completion, TrainError> {
        let plan = self.plan(spec, attempt.lease.checkpoint.clone()).await?;
        let runtime = Handle::current();
        let observer = Leased {
            attempt,
            runtime: runtime.clone(),
        };
        // Training blocks for hours, so it must not sit on a thread that drives heartbeats.
        let span = Span::current();
        let running = tokio::task::spawn_blocking(move || span.in_scope(|| train(plan, &runtime, &observer)));
        let FinishedRun { result, objects, .. } = running
            .await
            .map_err(|_| TrainError::Broken("the training thread"))??;
        Ok(Completion {
            result: TaskResult::Train(result),
            objects,
        })
    }

    async fn plan(&self, spec: TrainSpec, resume: Option<Checkpoint>) -> Result<RunPlan, TrainError> {
        let recipe = Recipe::resolve(&spec.recipe)?;
        recipe.lq_size_px(spec.scale)?;
        let store = &self.config.store;
        let dataset = Dataset::open(store, &spec.dataset_key, &spec.dataset, spec.scale).await?;
        let run = spec.run.clone();
        let identity = RunIdentity {
            run: spec.run,
            dataset: spec.dataset,
            recipe: Recipe::text_of(&spec.recipe).to_owned(),
            arch: recipe.network_g.arch(),
            scale: spec.scale,
            seed: spec.seed,
        };
        Ok(RunPlan {
            identity,
            recipe,
            dataset: Arc::new(dataset),
            pairs: store.clone(),
            pair_cache: self.config.cache.for_store(store),
            checkpoints: store.clone(),
            device: self.config.device.clone(),
            perceptual_weights: self.config.perceptual_weights.clone(),
            pretrained: spec.pretrained.map(Pretrained::Model),
            memory_mib: self.config.memory_mib,
            look: Some(self.config.logs.join(run.as_str())),
            resume,
        })
    }

    async fn publish(&self, spec: PublishSpec) -> Result<Completion, TrainError> {
        let store = &self.config.store;
        let (state, _) = crate::checkpoint::read(store, &spec.checkpoint).await?;
        let dataset = Dataset::open(store, &spec.dataset_key, &spec.dataset, state.identity.scale).await?;
        let publication = Publication {
            run: spec.run,
            checkpoint: spec.checkpoint,
            dataset: spec.dataset,
            recipe: Recipe::text_of(&spec.recipe).to_owned(),
            lattice: dataset.manifest.lattice,
            seen: seen_in_pairs(store, &dataset).await?,
        };
        let (result, objects) = publish(store, store, publication).await?;
        Ok(Completion {
            result: TaskResult::Publish(result),
            objects,
        })
    }
}

impl TaskRunner for Runner {
    async fn run(&self, attempt: Attempt) -> Result<Completion, AttemptError> {
        let outcome = match attempt.lease.spec.clone() {
            TaskSpec::Train(spec) => self.train(spec, attempt).await,
            TaskSpec::Publish(spec) => self.publish(spec).await,
            other => {
                let message = format!("a trainer does not do `{}` tasks", other.kind().as_str());
                return Err(AttemptError::Failed {
                    class: FailureClass::Retryable,
                    message,
                });
            }
        };
        outcome.map_err(|error| match error {
            TrainError::Stopped => AttemptError::Stopped,
            error => AttemptError::Failed {
                class: error.failure_class(),
                message: error.to_string(),
            },
        })
    }
}

/// A coordinator asked for the run.
struct Leased {
    attempt: Attempt,
    runtime: Handle,
}

impl Observer for Leased {
    fn wish(&self) -> Wish {
        if self.attempt.stop.is_cancelled() {
            Wish::Stop
        } else if self.attempt.leaving.is_cancelled() {
            // A run may have days to go: it saves a checkpoint, and whoever leases it next goes on from there.
            Wish::Drain
        } else {
            Wish::Continue
        }
    }

    fn report(&self, done: u64, total: u64, note: &str) {
        self.attempt.report(done, total, note);
    }

    fn record(&self, checkpoint: &Checkpoint, objects: &[OutputObject]) -> Result<(), TrainError> {
        let recording = self.attempt.record(checkpoint.clone(), objects.to_vec());
        self.runtime.block_on(recording).map_err(|error| match error {
            AttemptError::Failed { message, .. } => TrainError::Unrecorded(message),
            AttemptError::Stopped => TrainError::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use remaster_domain::needs_are_met;
    use remaster_service::machine_labels;

    use super::*;

    #[test]
    fn training_may_ask_for_memory_and_for_cards() {
        let here = capabilities(machine_labels(false), None).labels;
        assert!(needs_are_met("mem_mib>=64", &here), "{here:?}");
        assert!(!needs_are_met("gpu.vram_mib>=1", &here), "{here:?}");

        let told = capabilities(machine_labels(false), Some(2_000)).labels;
        assert!(needs_are_met("mem_mib>=2000", &told) && !needs_are_met("mem_mib>=2001", &told));

        let card = BTreeMap::from([("gpu.vram_mib".to_owned(), "12282".to_owned())]);
        let card = capabilities(card, None);
        assert!(needs_are_met("gpu.vram_mib>=12000", &card.labels));
        assert_eq!(card.kinds, [TaskKind::Train, TaskKind::Publish]);
    }
}
