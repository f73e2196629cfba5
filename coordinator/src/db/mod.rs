//! Remembers, in one SQLite file or on one PostgreSQL server. Durable before anything is answered.
//!
//! Plain SQL in the subset common to SQLite and PostgreSQL; the files here hold all of it, one per area. Rows that the
//! flow line changes are changed by what [`crate::state::decide`] said, by compare-and-set. Left to others: deciding.

mod advance;
mod backfill;
mod blame;
mod catalog;
mod changes;
mod copies;
mod fleet;
mod history;
mod inserts;
mod jobs;
mod named;
mod numbers;
mod open;
mod picks;
mod runs;
mod specs;
mod sql;
mod stragglers;
mod summary;
mod tasks;
mod turns;
mod waiting;
mod writer;

pub(crate) use advance::{Commit, bury, commit, record_objects};
pub(crate) use blame::{Barred, at_suspects, barred, forgive, note_failed, note_hung, note_lost};
pub(crate) use catalog::{
    DatasetRow, ModelRow, datasets, models, move_channel, newest_dataset, register_model, resolve_model,
};
pub(crate) use changes::{Change, apply, apply_all, apply_leases};
pub(crate) use copies::{CopySource, PendingCopy, note_failure, pending, record_copied};
pub(crate) use fleet::{
    SessionRow, WorkerRow, drain, load_session, load_sessions, load_takers, register, seen, unknown, workers,
};
pub(crate) use history::{HistoryRow, history};
pub(crate) use jobs::{
    JobRow, cancel, insert_job, load_job, newest_jobs, note, paused, retry, set_priority, set_state,
};
pub(crate) use named::{asked_for, first_ms, forget_objects, named_of, object_keys, outdated_checkpoints};
pub(crate) use numbers::{Numbers, numbers};
pub(crate) use open::Db;
pub(crate) use picks::{LOOK_AHEAD, Taken, Tried, idle, next_ready, returned};
pub(crate) use runs::note_checkpoint;
pub(crate) use sql::Connection;
pub(crate) use stragglers::{last_attempts, times_ms};
pub(crate) use summary::{JobView, KindView, TaskPage, TaskView, summary, task_list};
pub(crate) use tasks::{Standing, StoredTask, expired, leased_since, load_named, load_task, load_tasks};
pub(crate) use writer::{OFFERS_CHANNEL, Outcomes, Together, Tx};
