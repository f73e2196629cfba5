//! A worker process that costs nothing to kill: the real lease loop and real writes to the store around made-up work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use remaster_domain::{
    Capabilities, FailureClass, LeaseToken, SessionId, TaskId, TaskKind, TaskSpec, WorkerId,
};
use remaster_proto::{
    Attempt, AttemptError, Completion, LeaseClient, PROTOCOL_VERSION, SessionConfig, Settled, TaskRunner,
    connect, run_session,
};
use remaster_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::history::{HistoryFile, Saw};
use super::payload::{Object, work_on};
use super::season::Poison;
use super::version::{as_read_by, kinds};

/// A second attempt is offered after four leases, and is done long before this is over.
const STRAGGLE: Duration = Duration::from_secs(25);
/// What a process may take on top of what it has, before an input makes it take all it can.
const MEMORY_ROOM_BYTES: u64 = 64 * 1024 * 1024;
/// Piece in which it takes that.
const MEMORY_PIECE_BYTES: usize = 1024 * 1024;

/// Who the worker is and how it behaves.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// URL of the coordinator
    #[arg(long)]
    coordinator: String,
    /// URL of the store
    #[arg(long)]
    store: String,
    /// Name for people and in the history
    #[arg(long)]
    name: String,
    /// File to which facts are appended
    #[arg(long)]
    history: PathBuf,
    /// Longest time that a task takes; which it is follows from the task
    #[arg(long, default_value_t = 0)]
    work_ms: u64,
    /// How long what runs may go on after SIGTERM
    #[arg(long, default_value_t = 200)]
    grace_ms: u64,
    /// Go on when told to stop, as a process does that was frozen
    #[arg(long)]
    deaf: bool,
    /// Report poisoned inputs as bad instead of suffering from them
    #[arg(long)]
    calm: bool,
    /// Version that is spoken: another release
    #[arg(long, default_value_t = PROTOCOL_VERSION)]
    protocol_version: u32,
    /// Of a thousand tasks, how many end the process between the upload and the commit
    #[arg(long, default_value_t = 0)]
    dying_permille: u64,
    /// Of a thousand segments, how many take [`STRAGGLE`] longer than they need
    #[arg(long, default_value_t = 0)]
    straggling_permille: u64,
}

/// Works until SIGTERM.
///
/// # Errors
/// When the coordinator refuses the worker, or the store's URL is none.
pub fn run_worker(args: WorkerArgs) -> anyhow::Result<()> {
    // One thread, so that work which blocks also blocks the heartbeats: the whole process hangs.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: WorkerArgs) -> anyhow::Result<()> {
    let client = LeaseClient::of_version(
        connect(&args.coordinator)?,
        SessionId::from_uuid(Uuid::now_v7()),
        args.protocol_version,
    );
    let shutdown = CancellationToken::new();
    let mut asked = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        asked.recv().await;
        on_signal.cancel();
    });
    let config = SessionConfig {
        worker: WorkerId::from_uuid(Uuid::now_v7()),
        name: args.name.clone(),
        capabilities: Capabilities {
            kinds: kinds(args.protocol_version),
            ..Capabilities::default()
        },
        slots: 1,
        drain_grace: Duration::from_millis(args.grace_ms),
    };
    let runner = Arc::new(LightRunner {
        store: Store::open(&args.store)?,
        history: HistoryFile::open(&args.history, &args.name, args.protocol_version)?,
        args,
    });
    Ok(run_session(client, config, shutdown, runner).await?)
}

struct LightRunner {
    store: Store,
    history: HistoryFile,
    args: WorkerArgs,
}

impl TaskRunner for LightRunner {
    async fn run(&self, mut attempt: Attempt) -> Result<Completion, AttemptError> {
        attempt.lease.spec = self.read(&attempt)?;
        self.suffer(&attempt)?;
        if self.args.deaf {
            return self.work(&attempt).await;
        }
        tokio::select! {
            done = self.work(&attempt) => done,
            () = attempt.stop.cancelled() => Err(AttemptError::Stopped),
        }
    }

    fn settled(&self, task: &TaskId, token: LeaseToken, settled: Settled) {
        match settled {
            Settled::Committed => self.history.note(Saw::Acknowledged, task.as_str(), token.0),
            Settled::Lost => self.history.note(Saw::Fenced, task.as_str(), token.0),
            Settled::Refused => self.history.note(Saw::Refused, task.as_str(), token.0),
            Settled::Noted | Settled::Unanswered => {}
        }
    }
}

impl LightRunner {
    async fn work(&self, attempt: &Attempt) -> Result<Completion, AttemptError> {
        let work = work_on(&attempt.lease.spec);
        for (key, hash) in &work.reads {
            self.store.get_verified(key, hash).await.map_err(failed)?;
        }
        let dice = dice(attempt);
        tokio::time::sleep(Duration::from_millis(self.args.work_ms * (50 + dice % 51) / 100)).await;
        // Of other kinds a season has too few to tell what is long.
        let may_straggle = attempt.lease.spec.kind() == TaskKind::Upscale;
        if may_straggle && dice / 101 % 1000 < self.args.straggling_permille {
            self.history.note(
                Saw::Straggling,
                attempt.lease.task.as_str(),
                attempt.lease.token.0,
            );
            tokio::time::sleep(STRAGGLE).await;
        }
        let done = attempt.lease.checkpoint.as_ref().map_or(0, |last| last.step);
        for (checkpoint, objects) in work.checkpoints {
            if checkpoint.step > done {
                let named = self.put(objects).await?;
                attempt.record(checkpoint, named).await?;
            }
        }
        let objects = self.put(work.objects).await?;
        if dice / 101 % 1000 < self.args.dying_permille {
            self.history
                .note(Saw::Dying, attempt.lease.task.as_str(), attempt.lease.token.0);
            let _ = raise(Signal::SIGKILL);
        }
        Ok(Completion {
            result: work.result,
            objects,
        })
    }

    /// The spec as this worker's version reads it.
    fn read(&self, attempt: &Attempt) -> Result<TaskSpec, AttemptError> {
        let lease = &attempt.lease;
        as_read_by(self.args.protocol_version, &lease.spec).map_err(|what| {
            self.history
                .note(Saw::Foreign, lease.task.as_str(), lease.token.0);
            AttemptError::Failed {
                class: FailureClass::Retryable,
                message: format!("version {} does not know {what}", self.args.protocol_version),
            }
        })
    }

    async fn put(&self, objects: Vec<Object>) -> Result<Vec<remaster_domain::OutputObject>, AttemptError> {
        let mut named = vec![];
        for (key, bytes) in objects {
            named.push(self.store.put_bytes(&key, bytes.into()).await.map_err(failed)?);
        }
        Ok(named)
    }

    fn suffer(&self, attempt: &Attempt) -> Result<(), AttemptError> {
        let TaskSpec::Index(spec) = &attempt.lease.spec else {
            return Ok(());
        };
        let Some(poison) = Poison::of(&spec.source.name) else {
            return Ok(());
        };
        self.history
            .note(Saw::Poisoned, attempt.lease.task.as_str(), attempt.lease.token.0);
        if self.args.calm || poison == Poison::Corrupt {
            return Err(AttemptError::Failed {
                class: FailureClass::BadInput,
                message: format!("{} is no video", spec.source.name),
            });
        }
        match poison {
            Poison::Crash => std::process::abort(),
            Poison::Memory => take_all_memory(),
            Poison::Hang | Poison::Corrupt => std::thread::sleep(Duration::MAX),
        }
        Ok(())
    }
}

/// Takes memory and writes to it until the process has reached its limit, which is the end of it. The limit is a little
/// above what it has, so that nobody else is short of any.
fn take_all_memory() -> ! {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux describes every process");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    let limit = kib.expect("the size is a number") * 1024 + MEMORY_ROOM_BYTES;
    setrlimit(Resource::RLIMIT_AS, limit, limit).expect("a limit may be lowered");
    let mut taken = vec![];
    loop {
        taken.push(std::hint::black_box(vec![1_u8; MEMORY_PIECE_BYTES]));
    }
}

fn failed(error: StoreError) -> AttemptError {
    AttemptError::Failed {
        class: FailureClass::Retryable,
        message: error.to_string(),
    }
}

/// The same for the same attempt at the same task, so that a run can be told from another by its faults alone.
fn dice(attempt: &Attempt) -> u64 {
    let text = format!("{}/{}", attempt.lease.spec.work_key(), attempt.lease.attempt);
    let hash = remaster_domain::ContentHash::of(text.as_bytes());
    u64::from_str_radix(&hash.as_str()[..15], 16).expect("fifteen hex digits")
}
