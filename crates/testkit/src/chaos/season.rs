//! Seasons by number: the same number is the same season, so that a run with faults can be held against one without.
//!
//! Small, but with every kind of task in it: two episodes on both discs, one on DVD and, in every other season, one on Blu-ray
//! alone, trained and upscaled.

use remaster_domain::{
    ContentHash, Encoder, Episode, JobSpec, Lattice, ModelRef, Season, SourceRef, Stage, UpscaleSettings,
};

/// Frames of every source of these seasons.
pub(super) const FRAMES: u32 = 60;
/// Frames of a segment: six segments an episode.
pub(super) const SEGMENT_FRAMES: u32 = 10;
/// Episodes of one poison in a season that has it.
pub(super) const POISON_EPISODES: u32 = 25;

/// What is wrong with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    /// Crashes the process that reads it.
    Crash,
    /// Makes the process that reads it take all memory it may have.
    Memory,
    /// Blocks the whole process that reads it for ever, heartbeats included.
    Hang,
    /// Is no video; whoever reads it says so.
    Corrupt,
}

impl Poison {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Crash, Self::Memory, Self::Hang, Self::Corrupt];

    const fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Memory => "memory",
            Self::Hang => "hang",
            Self::Corrupt => "corrupt",
        }
    }

    /// The poison of a source by its name.
    pub(super) fn of(name: &str) -> Option<Self> {
        let word = name.strip_prefix("poison-")?.split('-').next()?;
        Self::ALL.into_iter().find(|poison| poison.word() == word)
    }
}

/// Name of a season.
pub(super) fn season_name(number: u32, poison: Option<Poison>) -> String {
    match poison {
        None => format!("season-{number}"),
        Some(poison) => format!("{}{number}", season_word(poison)),
    }
}

/// What the names of the seasons with a poison begin with.
pub(super) fn season_word(poison: Poison) -> String {
    format!("poison-{}-", poison.word())
}

/// Whether a season has an episode on Blu-ray alone, which the protocol version before did not know.
pub(super) const fn is_whole(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// A season by its number.
pub(super) fn season(number: u32, poison: Option<Poison>) -> JobSpec {
    let name = season_name(number, poison);
    let disc = |episode: &str, copy: &str| SourceRef {
        sha256: ContentHash::of(format!("{name}/{episode}/{copy}").as_bytes()),
        bytes: 1,
        name: format!("{episode}.{copy}.mkv"),
        path_hint: None,
    };
    let mut discs = vec![("e1", true, true), ("e2", true, true), ("e3", true, false)];
    if is_whole(number) {
        discs.push(("e4", false, true));
    }
    let mut episodes = vec![];
    for (id, has_sd, has_hd) in discs {
        episodes.push(Episode {
            id: id.parse().expect("a letter and a digit make an id"),
            sd: has_sd.then(|| disc(id, "sd")),
            hd: has_hd.then(|| disc(id, "hd")),
        });
    }
    if let Some(poison) = poison {
        for number in 0..POISON_EPISODES {
            let id = format!("{}{number}", season_word(poison));
            episodes.push(Episode {
                sd: Some(disc(&id, "sd")),
                id: id.parse().expect("letters, digits and hyphens make an id"),
                hd: None,
            });
        }
    }
    JobSpec {
        season: Season {
            name: name.parse().expect("letters, digits and hyphens make an id"),
            scale: 2,
            lattice: Lattice::SdNative,
            pairs_max: 10,
            recipe: "demo".to_owned(),
            seed: u64::from(number),
            pretrained: None,
            model: ModelRef::Channel("latest".to_owned()),
            settings: UpscaleSettings {
                encoder: Encoder::X264,
                segment_frames_max: SEGMENT_FRAMES,
                ..UpscaleSettings::default()
            },
            needs: std::collections::BTreeMap::new(),
            episodes,
        },
        stage: Stage::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poisoned_source_is_known_by_its_name() {
        for poison in Poison::ALL {
            let job = season(3, Some(poison));
            let last = job.season.episodes.last().and_then(|episode| episode.sd.clone());
            assert_eq!(Poison::of(&last.expect("it has a disc").name), Some(poison));
            let first = job.season.episodes[0].sd.clone().expect("it has a disc");
            assert_eq!(Poison::of(&first.name), None);
        }
    }
}
