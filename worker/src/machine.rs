//! What a worker says of its machine when it registers: memory, the card, the encoders that work, the sources it has.
//!
//! Tasks ask for it (`codec.x265`, `mem_mib>=4000`, `gpu.vram_mib>=8000`) or would rather find it (`source.<sha256>`). What
//! cannot be found out is left unsaid. Left to the coordinator: comparing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use remaster_domain::{ContentHash, Encoder, TaskKind, UpscaleSettings};
use remaster_media::try_encoder;

/// Sources that are named at most: a registration is a small message.
const SOURCES_MAX: usize = 256;

/// All labels of this machine for a worker of some kinds that keeps its downloads in a folder.
pub(crate) fn labels(kinds: &[TaskKind], cache_folder: &Path, uses_card: bool) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    labels.extend(memory_mib().map(|mib| ("mem_mib".to_owned(), mib.to_string())));
    if uses_card {
        labels.extend(card_memory_mib().map(|mib| ("gpu.vram_mib".to_owned(), mib.to_string())));
    }
    let encodes = |kind: &TaskKind| matches!(kind, TaskKind::Plan | TaskKind::Upscale);
    if kinds.iter().any(encodes) {
        labels.extend(codecs());
    }
    let sources = cached(cache_folder).into_iter();
    labels.extend(sources.map(|sha256| (format!("source.{sha256}"), "cached".to_owned())));
    labels
}

/// The encoders that this ffmpeg and this machine have, as `codec.x265`: each is tried, all at once.
fn codecs() -> Vec<(String, String)> {
    std::thread::scope(|scope| {
        let tries = Encoder::ALL.map(|encoder| {
            let settings = UpscaleSettings {
                encoder,
                ..UpscaleSettings::default()
            };
            (encoder, scope.spawn(move || try_encoder(&settings).is_ok()))
        });
        let works = tries.into_iter().filter_map(|(encoder, tried)| {
            let works = tried.join().unwrap_or(false);
            works.then(|| (format!("codec.{}", encoder.name()), "works".to_owned()))
        });
        works.collect()
    })
}

/// Memory of this machine, where the system says so.
fn memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
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

/// Sources in the folder of downloads, whose files are named by their hash and appear whole.
fn cached(folder: &Path) -> Vec<ContentHash> {
    let Ok(entries) = std::fs::read_dir(folder.join("sources")) else {
        return vec![];
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let hashes = names.filter_map(|name| name.to_str()?.parse().ok());
    hashes.take(SOURCES_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_worker_names_the_encoders_that_work_here_its_memory_and_its_downloads() {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("sources");
        std::fs::create_dir(&sources).unwrap();
        let disc = ContentHash::of(b"disc");
        for name in [disc.as_str(), "half-made.tmp"] {
            std::fs::write(sources.join(name), b"x").unwrap();
        }
        let labels = labels(&TaskKind::ALL, folder.path(), false);
        assert_eq!(labels["codec.x264"], "works");
        assert!(labels["mem_mib"].parse::<u64>().unwrap() > 64);
        let named: Vec<_> = labels
            .keys()
            .filter(|label| label.starts_with("source."))
            .collect();
        assert_eq!(named, [&format!("source.{disc}")]);
    }

    #[test]
    fn of_several_cards_the_smallest_counts() {
        assert_eq!(smallest_card("24564\n 12288\n"), Some(12_288));
        assert_eq!(smallest_card("No devices were found\n"), None);
    }
}
