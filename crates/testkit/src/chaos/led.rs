//! Which coordinator led which job on, read from what the coordinators wrote down. Pure.
//!
//! A coordinator of the protocol version before must leave alone what a newer one took in and it would misread. The database
//! does not say who committed; the logs do.

use std::collections::{BTreeMap, BTreeSet};

use super::season::is_whole;
use super::version::VERSION_BEFORE;

/// Commits that coordinators of the protocol version before took in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LedBefore {
    /// Of jobs that they know everything of.
    pub(super) rightly: usize,
    /// Of others.
    pub(super) wrongly: usize,
}

/// Counts them in the logs of all coordinators.
pub(super) fn led_before(logs: &[String]) -> LedBefore {
    let lines = || logs.iter().flat_map(|log| log.lines());
    let submitted = lines().filter(|line| line.contains(": submitted "));
    let whole: BTreeSet<&str> = submitted
        .filter(|line| season(line).is_some_and(is_whole))
        .filter_map(|line| field(line, "job"))
        .collect();
    let mut led = LedBefore::default();
    for log in logs {
        let mut version = None;
        for line in log.lines() {
            if line.contains(": listening ") {
                version = field(line, "protocol").and_then(|text| text.parse().ok());
            }
            if version == Some(VERSION_BEFORE) && line.ends_with(": committed") {
                match field(line, "job").is_some_and(|job| whole.contains(job)) {
                    false => led.rightly += 1,
                    true => led.wrongly += 1,
                }
            }
        }
    }
    led
}

fn season(line: &str) -> Option<u32> {
    field(line, "season")?.strip_prefix("season-")?.parse().ok()
}

/// A field of a line of a log, or of the span that it belongs to.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let words = line.split(|letter: char| letter.is_whitespace() || "{}".contains(letter));
    let fields: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
    fields.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_coordinator_committed_of_a_new_job_is_found_whoever_took_it_in() {
        let log = |protocol: u32, job: &str| {
            format!(
                "t INFO remaster_coordinator: listening addr=a protocol={protocol}\n\
                 t INFO lease{{job={job} task=t name=\"n\" attempt=1 worker=w}}: remaster_coordinator::groups: committed\n"
            )
        };
        let submitted = |job: &str, season: u32| {
            format!(
                "t INFO remaster_coordinator::jobs: submitted job={job} season=season-{season} stage=\"all\"\n"
            )
        };
        let new = submitted("a", 6) + &submitted("b", 7) + &log(VERSION_BEFORE + 1, "a");
        let led = |old| led_before(&[new.clone(), old]);
        let counted = |rightly, wrongly| LedBefore { rightly, wrongly };
        assert_eq!(led(log(VERSION_BEFORE, "b")), counted(1, 0));
        assert_eq!(led(log(VERSION_BEFORE, "a")), counted(0, 1));
        assert_eq!(
            led(log(VERSION_BEFORE, "b") + &log(VERSION_BEFORE + 1, "a")),
            counted(1, 0)
        );
    }
}
