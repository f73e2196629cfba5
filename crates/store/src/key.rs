//! The key layout, the same on every backend. A key is made from ids and hashes only, so no user string reaches a path.

use std::fmt;
use std::str::FromStr;

use remaster_domain::{Container, ContentHash, EpisodeId, RunId, SeasonId};

use crate::StoreError;

/// The folders in which every object lies.
const FOLDERS: [&str; 9] = [
    "sources",
    "indexes",
    "shards",
    "datasets",
    "runs",
    "checkpoints",
    "models",
    "segments",
    "outputs",
];

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// `sources/<sha256>`: an uploaded source.
    #[must_use]
    pub fn source(source: &ContentHash) -> Self {
        Self(format!("sources/{source}"))
    }

    /// `indexes/<source>/v1/<index>.json`.
    #[must_use]
    pub fn index(source: &ContentHash, index: &ContentHash) -> Self {
        Self(format!("indexes/{source}/v1/{index}.json"))
    }

    /// `indexes/<source>/v1/<index>.thumbs`: thumbnails of the frames of that index.
    #[must_use]
    pub fn thumbs(source: &ContentHash, index: &ContentHash) -> Self {
        Self(format!("indexes/{source}/v1/{index}.thumbs"))
    }

    /// `shards/<sha256>.tar`.
    #[must_use]
    pub fn shard(shard: &ContentHash) -> Self {
        Self(format!("shards/{shard}.tar"))
    }

    /// `shards/<sha256>.idx`: the sidecar of a shard.
    #[must_use]
    pub fn shard_index(shard: &ContentHash) -> Self {
        Self(format!("shards/{shard}.idx"))
    }

    /// `datasets/<season>/<sha256>.json`: a manifest before it has a number.
    #[must_use]
    pub fn dataset_object(season: &SeasonId, manifest: &ContentHash) -> Self {
        Self(format!("datasets/{season}/{manifest}.json"))
    }

    /// `datasets/<season>/<sha256>.html`: the page that shows an episode's pairs.
    #[must_use]
    pub fn dataset_sheet(season: &SeasonId, sheet: &ContentHash) -> Self {
        Self(format!("datasets/{season}/{sheet}.html"))
    }

    /// `datasets/<season>/<sha256>.cube`: the way back to the Blu-ray's colours.
    #[must_use]
    pub fn dataset_cube(season: &SeasonId, cube: &ContentHash) -> Self {
        Self(format!("datasets/{season}/{cube}.cube"))
    }

    /// `datasets/<season>/manifest-<n>.json`.
    #[must_use]
    pub fn dataset_manifest(season: &SeasonId, number: u32) -> Self {
        Self(format!("datasets/{season}/manifest-{number}.json"))
    }

    /// `runs/<run>/manifest-<n>.json`.
    #[must_use]
    pub fn run_manifest(run: &RunId, number: u32) -> Self {
        Self(format!("runs/{run}/manifest-{number}.json"))
    }

    /// `checkpoints/<sha256>/state.safetensors`.
    #[must_use]
    pub fn checkpoint_tensors(checkpoint: &ContentHash) -> Self {
        Self(format!("checkpoints/{checkpoint}/state.safetensors"))
    }

    /// `checkpoints/<sha256>/state.json`; its sha256 is the checkpoint's name.
    #[must_use]
    pub fn checkpoint_state(checkpoint: &ContentHash) -> Self {
        Self(format!("checkpoints/{checkpoint}/state.json"))
    }

    /// `models/<id>/model.safetensors`.
    #[must_use]
    pub fn model_weights(model: &ContentHash) -> Self {
        Self(format!("models/{model}/model.safetensors"))
    }

    /// `models/<id>/card.json`.
    #[must_use]
    pub fn model_card(model: &ContentHash) -> Self {
        Self(format!("models/{model}/card.json"))
    }

    /// `segments/<sha256>.mkv`: a segment, or an assembled episode before it has a name.
    #[must_use]
    pub fn segment(segment: &ContentHash) -> Self {
        Self(format!("segments/{segment}.mkv"))
    }

    /// `outputs/<season>/<episode>.mkv`.
    #[must_use]
    pub fn output(season: &SeasonId, episode: &EpisodeId) -> Self {
        Self::output_in(season, episode, Container::Mkv)
    }

    /// `outputs/<season>/<episode>.<ending of the container>`.
    #[must_use]
    pub fn output_in(season: &SeasonId, episode: &EpisodeId, container: Container) -> Self {
        Self(format!("outputs/{season}/{episode}.{}", container.extension()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    /// Whether it lies where objects of a store do: a bucket may hold other people's beside them.
    pub(crate) fn has_our_folder(&self) -> bool {
        self.0
            .split_once('/')
            .is_some_and(|(folder, _)| FOLDERS.contains(&folder))
    }
}

impl FromStr for Key {
    type Err = StoreError;

    /// Takes a key that came over the wire: no empty, dotted-only or foreign parts.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let part_is_plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                && !part.starts_with('.')
        };
        if text.split('/').count() >= 2 && text.len() <= 512 && text.split('/').all(part_is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreError::Key(text.to_owned()))
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_made_here_are_accepted_back() {
        let hash = ContentHash::of(b"x");
        for key in [
            Key::source(&hash),
            Key::index(&hash, &hash),
            Key::segment(&hash),
            Key::model_card(&hash),
        ] {
            assert_eq!(key.as_str().parse::<Key>().expect("its own key"), key);
        }
    }

    #[test]
    fn keys_that_climb_are_refused() {
        for text in ["../x", "a/../b", "/a/b", "a//b", "a", "a/b c", "a/.b", "a/b\\c"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
