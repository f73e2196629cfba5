//! Why what is ready waits: nobody takes it, nobody has what it needs, those who do rest or failed at it, or all are at work.
//!
//! Reads only. Left to others: who is given what, whose rules this puts into words.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{Capabilities, JobState, TaskId, TaskKind, TaskState, needs_are_met};
use remaster_proto::from_json;

use super::JobRow;
use super::blame::barred;
use super::sql::{Connection, Row, query};
use super::tasks::{as_u32, damaged, known};
use crate::CoordinatorError;
use crate::blame::{is_suspect, may_be_barred};

/// A kind, and what is needed beyond taking it.
pub(super) type Wanted = (TaskKind, String);

/// The live sessions.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// Those that take something now.
    takers: Vec<Capabilities>,
    /// Those that would if they had not failed again and again.
    resting: Vec<Capabilities>,
    /// Those that end once they are done with what they have.
    draining: Vec<Capabilities>,
}

impl Fleet {
    pub(super) async fn load(
        readers: &mut Connection,
        now_ms: i64,
        live_since_ms: i64,
    ) -> Result<Self, CoordinatorError> {
        let rows = query("SELECT capabilities, rests_until_ms, draining FROM session WHERE seen_ms >= $1")
            .bind(live_since_ms)
            .rows(readers)
            .await?;
        let mut fleet = Self::default();
        for row in &rows {
            let text: String = row.get("capabilities")?;
            let rests = row.get::<i64>("rests_until_ms")? > now_ms;
            let side = if row.get::<i64>("draining")? != 0 {
                &mut fleet.draining
            } else if rests {
                &mut fleet.resting
            } else {
                &mut fleet.takers
            };
            side.push(from_json("session.capabilities", &text)?);
        }
        Ok(fleet)
    }

    /// Whether somebody could take it now.
    fn takes(&self, wanted: &Wanted) -> bool {
        able(&self.takers, wanted) > 0
    }

    /// Why a ready task waits.
    pub(super) fn reason(&self, state: JobState, wanted: &Wanted, next_in_ms: i64) -> String {
        let (kind, needs) = wanted;
        let word = kind.as_str();
        let of_kind = |side: &[Capabilities]| side.iter().filter(|one| one.kinds.contains(kind)).count();
        match (state, able(&self.takers, wanted), able(&self.resting, wanted)) {
            (JobState::Paused, ..) => "the job is paused".to_owned(),
            (JobState::Running, 0, 0) => match of_kind(&self.takers) + of_kind(&self.resting) {
                0 => match of_kind(&self.draining) {
                    0 => format!("no live worker takes kind {word}"),
                    draining => format!("{draining} workers take kind {word}, and are draining"),
                },
                others => {
                    format!("needs {needs}: none of the {others} live workers that take kind {word} has it")
                }
            },
            (JobState::Running, 0, resting) => {
                format!("{resting} workers take kind {word}, and rest after failing again and again")
            }
            (JobState::Running, ..) if next_in_ms > 0 => next_try(next_in_ms),
            (JobState::Running, takers, _) => {
                format!("{takers} workers take kind {word}: waiting for a free one")
            }
            _ => String::new(),
        }
    }
}

fn able(side: &[Capabilities], (kind, needs): &Wanted) -> usize {
    let can = |one: &&Capabilities| one.kinds.contains(kind) && needs_are_met(needs, &one.labels);
    side.iter().filter(can).count()
}

fn next_try(next_in_ms: i64) -> String {
    format!(
        "after an error, the next try is in {} s",
        (next_in_ms + 999) / 1_000
    )
}

/// What the ready tasks of a job ask for, each once.
pub(super) async fn wanted(readers: &mut Connection, job: &JobRow) -> Result<Vec<Wanted>, CoordinatorError> {
    let rows =
        query("SELECT DISTINCT kind, needs FROM task WHERE job_id = $1 AND state = 'ready' ORDER BY kind")
            .bind(job.id.as_str())
            .rows(readers)
            .await?;
    let wanted = rows.iter().map(|row| {
        let kind: String = row.at(0)?;
        Ok((
            TaskKind::parse(&kind).ok_or_else(|| damaged("kind", &kind))?,
            row.at(1)?,
        ))
    });
    wanted.collect()
}

pub(super) async fn next_ready_ms(readers: &mut Connection, job: &JobRow) -> Result<i64, CoordinatorError> {
    let next: Option<i64> =
        query("SELECT MIN(not_before_ms) FROM task WHERE job_id = $1 AND state = 'ready'")
            .bind(job.id.as_str())
            .one(readers)
            .await?;
    Ok(next.unwrap_or(0))
}

pub(super) async fn copy_reason(readers: &mut Connection, job: &JobRow) -> Result<String, CoordinatorError> {
    let row = query(
        "SELECT target_key, error FROM object_copy WHERE job_id = $1 AND done_ms IS NULL AND error <> '' LIMIT 1",
    )
    .bind(job.id.as_str())
    .row(readers)
    .await?;
    let Some(row) = row else {
        return Ok(String::new());
    };
    let (target, error): (String, String) = (row.at(0)?, row.at(1)?);
    Ok(format!("could not write {target} yet: {error}"))
}

/// What a job waits for: what nobody can do, whatever else goes on, or why nothing goes on.
pub(super) fn reason_of_job(
    state: JobState,
    wanted: &[Wanted],
    fleet: &Fleet,
    next_in_ms: i64,
    is_at_work: bool,
) -> String {
    match state {
        JobState::Paused => return "the job is paused".to_owned(),
        JobState::Running => {}
        _ => return String::new(),
    }
    let unserved = wanted.iter().filter(|wanted| !fleet.takes(wanted));
    let reasons: BTreeSet<String> = unserved
        .map(|wanted| fleet.reason(state, wanted, next_in_ms))
        .collect();
    match reasons.len() {
        0 if is_at_work => String::new(),
        0 if next_in_ms > 0 => next_try(next_in_ms),
        0 => "waiting for a free worker".to_owned(),
        _ => reasons.into_iter().collect::<Vec<_>>().join("; "),
    }
}

/// What keeps ready tasks from workers that would take them but for what happened before, in words by the task's id.
pub(super) async fn troubles(
    readers: &mut Connection,
    rows: &[Row],
    now_ms: i64,
    live_since_ms: i64,
) -> Result<BTreeMap<String, String>, CoordinatorError> {
    let (mut tried, mut troubles) = (vec![], BTreeMap::new());
    for row in rows {
        let (errors, losses) = (as_u32(row.get("errors")?), as_u32(row.get("losses")?));
        if row.get::<String>("state")? != TaskState::Ready.as_str() {
            continue;
        }
        let id: String = row.get("id")?;
        if may_be_barred(errors, losses, now_ms - row.get::<i64>("not_before_ms")?) {
            tried.push(known::<TaskId>("id", &id)?);
        }
        if is_suspect(losses) {
            let words = format!("lost {losses} times, so not beside another task that was");
            troubles.insert(id, words);
        }
    }
    let barred = barred(readers, &tried.iter().collect::<Vec<_>>(), now_ms, live_since_ms).await?;
    for (task, workers) in barred {
        let words = format!("not again at {} of them, where it failed", workers.len());
        troubles
            .entry(task.to_string())
            .and_modify(|known| *known = format!("{words}; {known}"))
            .or_insert(words);
    }
    Ok(troubles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(kinds: &[TaskKind], labels: &[(&str, &str)]) -> Vec<Capabilities> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        vec![Capabilities {
            kinds: kinds.to_vec(),
            labels: labels.collect(),
        }]
    }

    fn reason(state: JobState, fleet: &Fleet, kind: TaskKind, needs: &str, wait_ms: i64) -> String {
        reason_of_job(state, &[(kind, needs.to_owned())], fleet, wait_ms, false)
    }

    #[test]
    fn a_kind_that_nobody_takes_is_named() {
        let fleet = Fleet {
            takers: workers(&[TaskKind::Index, TaskKind::Train], &[]),
            resting: workers(&[TaskKind::Plan], &[]),
            draining: workers(&[TaskKind::Curate], &[]),
        };
        let of = |kind, wait_ms| reason(JobState::Running, &fleet, kind, "", wait_ms);
        assert_eq!(of(TaskKind::Align, 0), "no live worker takes kind align");
        assert_eq!(of(TaskKind::Train, 0), "waiting for a free worker");
        assert_eq!(
            of(TaskKind::Train, 1_500),
            "after an error, the next try is in 2 s"
        );
        assert_eq!(
            of(TaskKind::Plan, 0),
            "1 workers take kind plan, and rest after failing again and again"
        );
        assert_eq!(
            of(TaskKind::Curate, 0),
            "1 workers take kind curate, and are draining"
        );
        let both = [TaskKind::Train, TaskKind::Align].map(|kind| (kind, String::new()));
        assert_eq!(
            reason_of_job(JobState::Running, &both, &fleet, 0, true),
            "no live worker takes kind align",
            "although something else goes on"
        );
        assert_eq!(reason_of_job(JobState::Running, &both[..1], &fleet, 0, true), "");
        let paused = reason(JobState::Paused, &fleet, TaskKind::Train, "", 0);
        assert_eq!(paused, "the job is paused");
    }

    #[test]
    fn a_need_that_nobody_meets_is_named() {
        let fleet = Fleet {
            takers: workers(&[TaskKind::Upscale], &[("codec.x264", "yes")]),
            ..Fleet::default()
        };
        let of = |needs| reason(JobState::Running, &fleet, TaskKind::Upscale, needs, 0);
        assert_eq!(of("codec.x264"), "waiting for a free worker");
        assert_eq!(
            of("codec.x265"),
            "needs codec.x265: none of the 1 live workers that take kind upscale has it"
        );
    }
}
