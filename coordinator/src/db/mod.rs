//! Remembers, in one SQLite file or on one PostgreSQL server. Durable before anything is answered.
//!
//! Plain SQL in the subset common to SQLite and PostgreSQL; the files here hold all of it, one per area. Rows that the
//! flow line changes are changed by what [`crate::state::decide`] said, by compare-and-set. Left to others: deciding.

mod advance;
mod catalog;
mod copies;
mod fair;
mod fleet;
mod history;
mod jobs;
mod numbers;
mod open;
mod runs;
mod sql;
mod summary;
mod tasks;
mod writer;

pub(crate) use advance::{bury, commit, record_objects};
pub(crate) use catalog::{
    DatasetRow, ModelRow, datasets, models, move_channel, newest_dataset, register_model, resolve_model,
};
pub(crate) use copies::{CopySource, PendingCopy, note_failure, pending, record_copied};
pub(crate) use fleet::{
    SessionRow, WorkerRow, drain, forgive, load_session, note_failed, register, seen, workers,
};
pub(crate) use history::{HistoryRow, history};
pub(crate) use jobs::{
    JobRow, cancel, insert_job, job_state, load_job, newest_jobs, note, retry, set_priority, set_state,
};
pub(crate) use numbers::{Numbers, forget_object, numbers, object_keys, outdated_checkpoints};
pub(crate) use open::Db;
pub(crate) use runs::note_checkpoint;
pub(crate) use sql::Connection;
pub(crate) use summary::{JobView, KindView, TaskView, summary, task_list};
pub(crate) use tasks::{StoredTask, apply, expired, leased_since, load_task, next_ready, note_progress};
pub(crate) use writer::{OFFERS_CHANNEL, Tx};
