//! Says what a run with faults has done to the work: holds the rows, the store and what the workers were told against a run
//! of the same seasons without faults. Pure.
//!
//! Reads the rows of jobs, tasks, attempts, objects and names, the bytes of every object, and the workers' own record of what
//! they were answered. The table of events could not serve instead: it is for people, and a commit has no event unless it came
//! after its lease. The rows are what events would be told from, and they are believed in nothing alone: each is held against
//! the bytes in the store, the workers' record and the run without faults. Promises: nobody who could be wrong is asked; the
//! coordinators' answers count only as what the workers wrote down of them.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::ContentHash;
use serde::{Deserialize, Serialize};

use super::history::{Fact, Saw};
use super::led::LedBefore;
use super::rows::{AttemptRow, TaskRow};
use crate::store_faults::Resent;

/// Lines of a list that are shown.
const SHOWN_MAX: usize = 5;
/// What coordinators write at their start to see whether the store takes it.
const PROBE_FOLDER: &str = "probe/";

/// What a season comes to when nothing goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Calm {
    /// State in which the job must end.
    pub(super) state: String,
    /// Results of the committed tasks, by name.
    pub(super) results: BTreeMap<String, String>,
    /// Names of the tasks that must end as dead.
    pub(super) dead: BTreeSet<String>,
    /// Objects with names for people, by key, each with the hash of its bytes.
    pub(super) named: BTreeMap<String, ContentHash>,
}

/// What a run left behind.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// Seasons that were handed in, each as it should have come out.
    pub(super) calm: BTreeMap<String, Calm>,
    /// Every job's season and state.
    pub(super) jobs: Vec<(String, String)>,
    /// Every task.
    pub(super) tasks: Vec<TaskRow>,
    /// Every attempt.
    pub(super) attempts: Vec<AttemptRow>,
    /// Keys of the objects that count.
    pub(super) objects: Vec<String>,
    /// Season and key of every name for people.
    pub(super) names: Vec<(String, String)>,
    /// Every object of the store with the hash of its bytes.
    pub(super) stored: BTreeMap<String, ContentHash>,
    /// What the workers saw.
    pub(super) facts: Vec<Fact>,
    /// Requests that came to the store again after their answer had been lost or cut short.
    pub(super) resent: Resent,
    /// What coordinators of the protocol version before took in.
    pub(super) led_before: LedBefore,
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Commits that workers were told of.
    pub acknowledged: usize,
    /// Tasks whose result counts.
    pub committed: usize,
    /// Acknowledged or expected, and not there.
    pub lost: Vec<String>,
    /// Counted more than once.
    pub duplicated: Vec<String>,
    /// There, and not what the run without faults has.
    pub unexpected: Vec<String>,
    /// Committed tasks that more than one attempt worked on.
    pub recovered: usize,
    /// Hand-ins that were refused because the lease was another's by then.
    pub fenced: usize,
    /// Objects that no row names.
    pub orphans: usize,
}

impl Findings {
    /// Whether nothing was lost, duplicated or unexpected.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unexpected.is_empty()
    }

    /// The first lines of each list that should be empty.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let lists = [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("unexpected", &self.unexpected),
        ];
        let shown = lists.into_iter().flat_map(|(word, list)| {
            list.iter()
                .take(SHOWN_MAX)
                .map(move |line| format!("{word}: {line}"))
        });
        shown.collect()
    }
}

/// Checks a run.
pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    check_acknowledged(evidence, &mut findings);
    check_tasks(evidence, &mut findings);
    check_attempts(evidence, &mut findings);
    check_store(evidence, &mut findings);
    check_names(evidence, &mut findings);
    findings
}

fn check_acknowledged(evidence: &Evidence, findings: &mut Findings) {
    let tasks: BTreeMap<&str, &TaskRow> = evidence
        .tasks
        .iter()
        .map(|task| (task.id.as_str(), task))
        .collect();
    let mut tokens: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for fact in &evidence.facts {
        match fact.saw {
            Saw::Acknowledged => drop(tokens.entry(&fact.task).or_default().insert(fact.token)),
            Saw::Fenced => findings.fenced += 1,
            Saw::Refused => {
                let Fact {
                    worker, task, token, ..
                } = fact;
                findings.unexpected.push(format!(
                    "task {task} was refused to {worker} under {token} and not for its lease"
                ));
            }
            Saw::Foreign => {
                let Fact { worker, task, .. } = fact;
                findings.unexpected.push(format!(
                    "task {task} was given to {worker}, whose version cannot read it"
                ));
            }
            Saw::Dying | Saw::Straggling | Saw::Poisoned => {}
        }
    }
    for (task, tokens) in tokens {
        findings.acknowledged += 1;
        let row = tasks.get(task);
        if row.is_none_or(|row| row.state != "committed") {
            findings
                .lost
                .push(format!("task {task} was acknowledged and does not count"));
        }
        if tokens.len() > 1 {
            findings
                .duplicated
                .push(format!("task {task} was acknowledged under {tokens:?}"));
        } else if let Some(row) = row.filter(|row| !tokens.contains(&row.token)) {
            let counted = row.token;
            findings.duplicated.push(format!(
                "task {task} was acknowledged under {tokens:?} and counts under {counted}"
            ));
        }
    }
}

fn check_tasks(evidence: &Evidence, findings: &mut Findings) {
    let mut found: BTreeMap<&str, BTreeMap<&str, &TaskRow>> = BTreeMap::new();
    for task in &evidence.tasks {
        findings.committed += usize::from(task.state == "committed");
        if found
            .entry(&task.season)
            .or_default()
            .insert(&task.name, task)
            .is_some()
        {
            findings
                .duplicated
                .push(format!("{}/{} is there twice", task.season, task.name));
        }
        let Some(calm) = evidence.calm.get(&task.season) else {
            findings
                .unexpected
                .push(format!("{} was never handed in", task.season));
            continue;
        };
        let is_right = match task.state.as_str() {
            "committed" => calm.results.get(&task.name) == Some(&task.result),
            "dead" => calm.dead.contains(&task.name),
            _ => false,
        };
        if !is_right {
            let TaskRow {
                season,
                name,
                state,
                message,
                ..
            } = task;
            findings.unexpected.push(format!(
                "{season}/{name} is {state} otherwise than without faults: {message}"
            ));
        }
    }
    for (season, calm) in &evidence.calm {
        let tasks = found.get(season.as_str());
        for name in calm.results.keys().chain(&calm.dead) {
            if tasks.is_none_or(|tasks| !tasks.contains_key(name.as_str())) {
                findings.lost.push(format!("{season}/{name} was never made"));
            }
        }
        check_jobs(evidence, season, calm, findings);
    }
}

fn check_jobs(evidence: &Evidence, season: &str, calm: &Calm, findings: &mut Findings) {
    let states = || evidence.jobs.iter().filter(|(of, _)| of == season);
    let jobs = states().count();
    if jobs != 1 {
        findings
            .lost
            .push(format!("{season} was handed in once and is there {jobs} times"));
    }
    for (_, state) in states().filter(|(_, state)| *state != calm.state) {
        let meant = &calm.state;
        findings
            .unexpected
            .push(format!("the job of {season} is {state} and not {meant}"));
    }
}

fn check_attempts(evidence: &Evidence, findings: &mut Findings) {
    let mut of_task: BTreeMap<&str, Vec<&AttemptRow>> = BTreeMap::new();
    for attempt in &evidence.attempts {
        of_task.entry(&attempt.task).or_default().push(attempt);
    }
    for task in &evidence.tasks {
        let attempts = of_task.get(task.id.as_str()).map_or(&[][..], Vec::as_slice);
        let committed = attempts
            .iter()
            .filter(|attempt| attempt.outcome == "committed")
            .count();
        if committed > 1 {
            findings
                .duplicated
                .push(format!("task {} was committed by {committed} attempts", task.id));
        }
        findings.recovered += usize::from(task.state == "committed" && attempts.len() > 1);
    }
}

fn check_store(evidence: &Evidence, findings: &mut Findings) {
    let counted: BTreeSet<&str> = evidence.objects.iter().map(String::as_str).collect();
    for key in &counted {
        if !evidence.stored.contains_key(*key) {
            findings
                .lost
                .push(format!("object {key} counts and is not in the store"));
        }
    }
    let names: BTreeSet<&str> = evidence.names.iter().map(|(_, key)| key.as_str()).collect();
    for (key, hash) in &evidence.stored {
        if !is_named_by(key, hash) {
            findings
                .unexpected
                .push(format!("object {key} holds other bytes than its name says"));
        }
        let is_named = counted.contains(key.as_str()) || names.contains(key.as_str());
        if !is_named && !key.starts_with(PROBE_FOLDER) {
            findings.orphans += 1;
            // Whoever takes a task up after another makes the same objects, and every task is done to its end.
            findings
                .unexpected
                .push(format!("object {key} is there and no row names it"));
        }
    }
}

/// What has the hash of its bytes in its key must have these bytes; sidecars lie beside what they belong to.
fn is_named_by(key: &str, hash: &ContentHash) -> bool {
    let carries_hash = (key.starts_with("shards/") && key.ends_with(".tar"))
        || key.starts_with("segments/")
        || (key.starts_with("indexes/") && key.ends_with(".json"))
        || (key.starts_with("checkpoints/") && key.ends_with("state.json"))
        || (key.starts_with("models/") && key.ends_with(".safetensors"));
    !carries_hash || key.contains(hash.as_str())
}

fn check_names(evidence: &Evidence, findings: &mut Findings) {
    let mut of_season: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (season, key) in &evidence.names {
        of_season.entry(season).or_default().insert(key);
    }
    for (season, calm) in &evidence.calm {
        for (key, hash) in &calm.named {
            match evidence.stored.get(key) {
                None => findings
                    .lost
                    .push(format!("{key} of {season} is not in the store")),
                Some(stored) if stored != hash => {
                    findings.unexpected.push(format!("{key} holds other bytes"))
                }
                Some(_) => {}
            }
        }
        for key in of_season.get(season.as_str()).into_iter().flatten() {
            if !calm.named.contains_key(*key) {
                findings
                    .unexpected
                    .push(format!("{key} of {season} has no counterpart"));
            }
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
