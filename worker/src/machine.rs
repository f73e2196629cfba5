//! What a worker says of its machine when it registers: memory, the card, the encoders that work, the sources it has.
//!
//! Tasks ask for it (`codec.x265`, `mem_mib>=4000`) or would rather find it (`source.<sha256>`). Left to others: what every
//! process says of its machine (service), comparing (coordinator).

use std::collections::BTreeMap;
use std::path::Path;

use remaster_domain::{ContentHash, Encoder, TaskKind, UpscaleSettings};
use remaster_media::try_encoder;
use remaster_service::machine_labels;

/// Sources that are named at most: a registration is a small message.
const SOURCES_MAX: usize = 256;

/// All labels of this machine for a worker of some kinds that keeps its downloads in a folder.
pub(crate) fn labels(kinds: &[TaskKind], cache_folder: &Path, uses_card: bool) -> BTreeMap<String, String> {
    let mut labels = machine_labels(uses_card);
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
}
