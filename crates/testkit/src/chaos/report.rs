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
    /// Faults that proved that they fired.
    pub fired: usize,
    /// Seasons that went through meanwhile.
    pub seasons: usize,
    /// What the checker found.
    pub findings: Findings,
    /// What the faults had to show and did not, or why the group ended before its end.
    pub failures: Vec<String>,
    /// How long work lay idle, where that is demanded.
    pub recovery: Option<Recovery>,
    /// How long the group took.
    pub seconds: u64,
    /// Folder with logs, database and store, where something is wrong.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    /// Of a group that has not come to its end, so that no earlier pass stands for it.
    #[must_use]
    pub fn unfinished(group: Group, wanted: usize, why: &str) -> Self {
        Self {
            group: group.name().to_owned(),
            wanted,
            fired: 0,
            seasons: 0,
            findings: Findings::default(),
            failures: vec![why.to_owned()],
            recovery: None,
            seconds: 0,
            kept: None,
        }
    }

    /// Whether all faults fired, showed that they mattered, and harmed nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.fired >= self.wanted && self.failures.is_empty() && self.findings.is_clean()
    }

    /// Whether, besides, work was taken up again in time.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.is_clean() && self.recovery.iter().all(Recovery::is_met)
    }

    /// Whether it passed with at least so many faults.
    #[must_use]
    pub fn is_passed_with(&self, wanted: usize) -> bool {
        self.is_passed() && self.wanted >= wanted
    }

    /// What is wrong, each in a line: what follows in an error, as the ends of logs, is in the file of the group.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let first_lines = self.failures.iter().filter_map(|failure| failure.lines().next());
        let mut lines: Vec<_> = first_lines.map(str::to_owned).collect();
        lines.extend(self.findings.complaints());
        lines
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
        for outcome in &outcomes {
            if let Some(times) = &outcome.recovery {
                text += &(times.row(&outcome.group) + "\n");
            }
        }
        for outcome in &outcomes {
            for complaint in outcome.complaints() {
                let _ = writeln!(text, "\n{}: {complaint}", outcome.group);
            }
        }
        text
    }

    fn file(&self, group: &str) -> PathBuf {
        self.folder.join(format!("{group}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(wanted: usize) -> Outcome {
        Outcome {
            fired: wanted,
            failures: vec![],
            ..Outcome::unfinished(Group::Zombie, wanted, "")
        }
    }

    #[test]
    fn a_pass_counts_for_no_more_faults_than_it_had() {
        assert!(passed(10).is_passed_with(10));
        assert!(!passed(1).is_passed_with(10));
    }

    #[test]
    fn a_group_that_ends_early_takes_the_place_of_its_last_pass() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report::open(folder.path()).unwrap();
        report.keep(&passed(10)).unwrap();
        assert!(report.table().contains("| passed |"));
        let broken = Outcome::unfinished(Group::Zombie, 10, "light-3 was not frozen\nits log");
        report.keep(&broken).unwrap();
        let table = report.table();
        assert!(
            table.contains("| FAILED |") && !table.contains("| passed |"),
            "{table}"
        );
        assert!(table.ends_with("zombie: light-3 was not frozen\n"), "{table}");
        let kept = report.outcome(Group::Zombie).unwrap();
        assert!(!kept.is_passed_with(1));
    }

    #[test]
    fn a_demanded_recovery_that_nobody_saw_is_no_pass() {
        let unseen = |least| Outcome {
            recovery: Some(Recovery::new("x", vec![], 1, least)),
            ..passed(10)
        };
        assert!(!unseen(1).is_passed());
    }
}
