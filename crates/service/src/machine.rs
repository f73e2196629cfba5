//! What a machine has that tasks may ask for (`mem_mib>=4000`, `gpu.vram_mib>=8000`), as the labels that a process registers
//! with. What cannot be found out is left unsaid. Left to the coordinator: comparing.

use std::collections::BTreeMap;
use std::process::Command;

/// Memory, and the card's where the process computes on one.
#[must_use]
pub fn machine_labels(uses_card: bool) -> BTreeMap<String, String> {
    let memory = memory_mib().map(|mib| ("mem_mib", mib));
    let card = uses_card.then(card_memory_mib).flatten();
    let card = card.map(|mib| ("gpu.vram_mib", mib));
    let known = memory.into_iter().chain(card);
    known
        .map(|(label, mib)| (label.to_owned(), mib.to_string()))
        .collect()
}

/// Memory of this machine, or of the control group that this process may not leave.
fn memory_mib() -> Option<u64> {
    let machine = total_mib(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| Some(text.trim().parse::<u64>().ok()? >> 20));
    Some(machine.min(group.unwrap_or(u64::MAX)))
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// Memory of the smallest card: a need that it meets is met whichever of them is used.
fn card_memory_mib() -> Option<u64> {
    let told = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.total", "--format=csv,noheader,nounits"])
        .output()
        .ok()?;
    smallest_card(&String::from_utf8_lossy(&told.stdout))
}

fn smallest_card(text: &str) -> Option<u64> {
    text.lines().filter_map(|line| line.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib_and_said_in_mib() {
        assert_eq!(
            total_mib("MemTotal:       24689764 kB\nMemFree: 1 kB\n"),
            Some(24_111)
        );
        assert_eq!(total_mib("MemFree: 1 kB\n"), None);
        assert!(memory_mib().is_some_and(|mib| mib > 64));
    }

    #[test]
    fn of_several_cards_the_smallest_counts() {
        assert_eq!(smallest_card("24564\n 12288\n"), Some(12_288));
        assert_eq!(smallest_card("No devices were found\n"), None);
    }
}
