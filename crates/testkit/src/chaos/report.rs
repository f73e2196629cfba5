//! What came of the groups, kept in files: one a group, so that a run can go on where it stopped, and a table of them all.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::checker::Findings;
use super::groups::Group;
use super::recovery::Recovery;

/// What came of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Name of the group.
    pub group: String,
    /// Faults that were asked for.
    pub wanted: usize,
    /// Faults that fired.
    pub fired: usize,
    /// Seasons that went through meanwhile.
    pub seasons: usize,
    /// What the checker found.
    pub findings: Findings,
    /// How long work lay idle.
    pub recoveries: Vec<Recovery>,
    /// How long the group took.
    pub seconds: u64,
    /// Folder with logs, database and store, where something is wrong.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    /// Whether all faults fired and harmed nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.fired >= self.wanted && self.findings.is_clean()
    }

    /// Whether, besides, work was taken up again in time.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.is_clean() && self.recoveries.iter().all(Recovery::is_met)
    }

    fn row(&self) -> String {
        let Findings {
            acknowledged,
            committed,
            recovered,
            fenced,
            orphans,
            ..
        } = self.findings;
        let (lost, duplicated) = (self.findings.lost.len(), self.findings.duplicated.len());
        let unexpected = self.findings.unexpected.len();
        format!(
            "| {} | {} of {} | {} | {acknowledged} | {committed} | {lost} | {duplicated} | {unexpected} | {recovered} | \
             {fenced} | {orphans} | {} s | {} |",
            self.group,
            self.fired,
            self.wanted,
            self.seasons,
            self.seconds,
            if self.is_passed() { "passed" } else { "FAILED" },
        )
    }
}

/// The files of all groups.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
}

impl Report {
    /// A report in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// What is known of a group.
    #[must_use]
    pub fn outcome(&self, group: Group) -> Option<Outcome> {
        let text = std::fs::read(self.file(group.name())).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps what came of a group and writes the table anew; answers the table's file.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, outcome: &Outcome) -> anyhow::Result<PathBuf> {
        std::fs::write(self.file(&outcome.group), serde_json::to_vec_pretty(outcome)?)?;
        let table = self.folder.join("report.md");
        std::fs::write(&table, self.table())?;
        Ok(table)
    }

    /// The table of all groups that have run.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| group | faults | seasons | acknowledged | committed | lost | duplicated | unexpected | recovered | fenced | \
             orphans | took | |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        let outcomes: Vec<_> = Group::all()
            .into_iter()
            .filter_map(|group| self.outcome(group))
            .collect();
        for outcome in &outcomes {
            text += &(outcome.row() + "\n");
        }
        text += "\n| recovery | p50 | p99 | worst | of | demand |\n|---|---|---|---|---|---|\n";
        for (outcome, times) in outcomes
            .iter()
            .flat_map(|outcome| outcome.recoveries.iter().map(move |times| (outcome, times)))
        {
            let percentile = |percent| times.percentile_ms(percent);
            let (p50, p99, worst) = (percentile(50), percentile(99), percentile(100));
            let (what, group, count, limit) =
                (&times.what, &outcome.group, times.times_ms.len(), times.limit_ms);
            let _ = writeln!(
                text,
                "| {what} ({group}) | {p50} ms | {p99} ms | {worst} ms | {count} | p99 <= {limit} ms |"
            );
        }
        for outcome in &outcomes {
            for complaint in outcome.findings.complaints() {
                let _ = writeln!(text, "\n{}: {complaint}", outcome.group);
            }
        }
        text
    }

    fn file(&self, group: &str) -> PathBuf {
        self.folder.join(format!("{group}.json"))
    }
}
