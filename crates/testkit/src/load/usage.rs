//! What processes cost: processor time and memory, as the kernel counts them.
//!
//! Promises: a process counts with its children, so that a database server counts with those that serve its connections,
//! ended ones too. Left to others: whose processes these are.

use anyhow::Context;

/// Of every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// The numbers of `/proc/PID/stat` that are asked for.
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    ended_ticks: u64,
}

/// Processor seconds that processes and their children have taken so far.
pub(crate) fn cpu_seconds(processes: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // One that ended since the folder was read costs nothing more.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let stat = stat(&text).with_context(|| format!("unknown form of /proc/{process}/stat"))?;
        if processes.contains(&process) {
            ticks += stat.own_ticks + stat.ended_ticks;
        } else if processes.contains(&stat.parent) {
            ticks += stat.own_ticks;
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Processor seconds of this process, without those that it started.
pub(crate) fn own_cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let stat = stat(&text).context("unknown form of /proc/self/stat")?;
    Ok(stat.own_ticks as f64 / TICKS_PER_SECOND)
}

/// MB that a process has in memory now.
pub(crate) fn memory_mb(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    resident_kb(&text)
        .map(|kb| kb / 1024)
        .with_context(|| format!("{path} has no VmRSS"))
}

fn stat(text: &str) -> Option<Stat> {
    // The name before the last bracket may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: ticks(11)? + ticks(12)?,
        ended_ticks: ticks(13)? + ticks(14)?,
    })
}

fn resident_kb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_holds() {
        let text = "12 (a) b) S 7 1 1 0 -1 0 0 0 0 0 30 12 400 5 20 0 1 0";
        let stat = stat(text).expect("a stat");
        assert_eq!((stat.parent, stat.own_ticks, stat.ended_ticks), (7, 42, 405));
        assert_eq!(resident_kb("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2048));
    }
}
