//! Curates a season: a manifest that names the pairs that count, and a page for each episode to look at. It rewrites no shard.
//!
//! A pair counts once: the same key, or the same HR picture to the byte, is dropped after its first appearance, and of scenes
//! that several episodes show (openings, credits, recaps) the best copy stays.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{
    ContentHash, CurateEpisode, CurateResult, CurateSpec, DatasetManifest, EpisodeYield, MANIFEST_VERSION,
    OutputObject, PairRecord, ShardRef, TaskResult,
};
use remaster_media::find_cuts;
use remaster_pairs::{Prints, Thumbs};
use remaster_proto::Completion;
use remaster_store::{Key, ShardIndex};

use super::cubes::{episode_cube, season_cube};
use super::one_size::check_one_size;
use super::records::read_records;
use super::repeats::{EpisodeCopy, repeated_pairs};
use super::sheet::{SheetInput, sheet_of};
use crate::context::Context;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Runs a `curate` task.
pub(crate) async fn run(
    context: &Context,
    spec: CurateSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let mut sidecars = Vec::with_capacity(spec.shards.len());
    let mut records = BTreeMap::new();
    for shard in &spec.shards {
        monitor.check()?;
        let sidecar = context.store.shard_index(&shard.sha256).await?;
        if !spec.episodes.is_empty() {
            let read = read_records(&context.store, shard, &sidecar).await?;
            records.extend(shard.keys.iter().cloned().zip(read));
        }
        sidecars.push(sidecar);
        monitor.report(sidecars.len() as u64, spec.shards.len() as u64, "shards");
    }
    check_one_size(records.values())?;
    let repeats = find_repeats(context, &spec, &records, monitor).await?;
    let mut manifest = manifest_of(&spec, &sidecars, &repeats);
    let pair_count = manifest.pair_count() as u64;
    if pair_count == 0 {
        return Err(WorkError::BadInput(format!(
            "season {} has no pair to learn from: every frame was turned away; compare an sd and an hd file by eye",
            spec.season
        )));
    }
    let mut objects = Vec::new();
    for episode in &spec.episodes {
        monitor.check()?;
        let (summary, written) = describe(context, &spec, episode, &manifest, &sidecars, &records).await?;
        manifest.episodes.push(summary);
        objects.extend(written);
        monitor.report(
            manifest.episodes.len() as u64,
            spec.episodes.len() as u64,
            "pages to look at",
        );
    }
    if let Some((hash, object)) = season_cube(&context.store, &spec.season, &spec.episodes).await? {
        manifest.colour_cube = Some(hash);
        objects.push(object);
    }
    let key_of = |hash: &ContentHash| Key::dataset_object(&spec.season, hash);
    let (hash, object) = context.store.put_json(&manifest, key_of).await?;
    objects.push(object);
    let result = CurateResult {
        manifest: hash,
        pair_count,
    };
    Ok(Completion {
        result: TaskResult::Curate(result),
        objects,
    })
}

/// Pairs that show what another episode shows better.
async fn find_repeats(
    context: &Context,
    spec: &CurateSpec,
    records: &BTreeMap<String, PairRecord>,
    monitor: &Monitor,
) -> Result<BTreeSet<String>, WorkError> {
    if spec.episodes.len() < 2 {
        return Ok(BTreeSet::new());
    }
    let mut looks = Vec::with_capacity(spec.episodes.len());
    for episode in &spec.episodes {
        monitor.check()?;
        let name = episode.span.hd.source.name.clone();
        let thumbs = context.thumbs(&episode.span.hd).await?;
        let look = move || {
            let broken = |refusal| WorkError::Retryable(format!("{name}: {refusal}"));
            let prints = Prints::of(&Thumbs::prepare(&thumbs).map_err(broken)?);
            Ok((prints, find_cuts(&thumbs)))
        };
        looks.push(monitor.blocking(look).await?);
        monitor.report(
            looks.len() as u64,
            spec.episodes.len() as u64,
            "episodes compared",
        );
    }
    let (episodes, records) = (spec.episodes.clone(), records.clone());
    let compare = move || {
        let copy = |(episode, (prints, cuts)): (&CurateEpisode, (Prints, Vec<u32>))| EpisodeCopy {
            prints,
            cuts,
            pairs: records
                .iter()
                .filter(|(_, record)| record.episode == episode.episode)
                .map(|(key, record)| (key.as_str(), record))
                .collect(),
        };
        let copies: Vec<EpisodeCopy<'_>> = episodes.iter().zip(looks).map(copy).collect();
        Ok(repeated_pairs(&copies))
    };
    monitor.blocking(compare).await
}

/// What an episode gave, and its page and colours in the store.
async fn describe(
    context: &Context,
    spec: &CurateSpec,
    episode: &CurateEpisode,
    manifest: &DatasetManifest,
    sidecars: &[ShardIndex],
    records: &BTreeMap<String, PairRecord>,
) -> Result<(EpisodeYield, Vec<OutputObject>), WorkError> {
    let of_episode = |shards: &[ShardRef]| -> usize {
        let own = shards.iter().filter(|shard| shard.episode == episode.episode);
        own.map(|shard| shard.keys.len()).sum()
    };
    let (made, kept) = (of_episode(&spec.shards), of_episode(&manifest.shards));
    let repeats = (made - kept) as u32;
    let input = SheetInput {
        episode: &episode.episode,
        alignment: &episode.alignment,
        rejected: &episode.rejected,
        repeats,
        sd_frames: episode.span.sd.frame_count,
        shards: &manifest.shards,
        sidecars,
        records,
    };
    let page = sheet_of(&context.store, input).await?;
    let sheet = ContentHash::of(page.as_bytes());
    let key = Key::dataset_sheet(&spec.season, &sheet);
    let page = context.store.put_bytes(&key, page.into()).await?;
    let cube = episode_cube(&context.store, &spec.season, episode).await?;
    let (colour_cube, cube) = cube.unzip();
    let summary = EpisodeYield {
        episode: episode.episode.clone(),
        kept: kept as u32,
        repeats,
        synthetic: episode.span.synthetic,
        rejected: episode.rejected.clone(),
        sheet,
        colour_cube,
    };
    Ok((summary, [page].into_iter().chain(cube).collect()))
}

/// The manifest of the shards without the pairs in `left_out`, `sidecars` in the order of the shards.
pub(super) fn manifest_of(
    spec: &CurateSpec,
    sidecars: &[ShardIndex],
    left_out: &BTreeSet<String>,
) -> DatasetManifest {
    let mut keys_seen = BTreeSet::new();
    let mut pictures_seen = BTreeSet::new();
    let mut shards = Vec::with_capacity(spec.shards.len());
    for (shard, sidecar) in spec.shards.iter().zip(sidecars) {
        let wanted: BTreeSet<&String> = shard.keys.iter().collect();
        let offered = sidecar.entries.iter();
        let offered = offered.filter(|entry| wanted.contains(&entry.key) && !left_out.contains(&entry.key));
        let kept: Vec<String> = offered
            .filter(|entry| {
                keys_seen.insert(entry.key.clone()) && pictures_seen.insert(entry.hr.sha256.clone())
            })
            .map(|entry| entry.key.clone())
            .collect();
        if !kept.is_empty() {
            shards.push(ShardRef {
                keys: kept,
                ..shard.clone()
            });
        }
    }
    DatasetManifest {
        version: MANIFEST_VERSION,
        season: spec.season.clone(),
        lattice: spec.lattice,
        scale: spec.scale,
        shards,
        episodes: Vec::new(),
        colour_cube: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::Lattice;
    use remaster_store::{ShardEntry, ShardMember};

    use super::*;

    fn sidecar(name: &str, pairs: &[(&str, &str)]) -> (ShardRef, ShardIndex) {
        let member = |content: &str| ShardMember {
            offset: 0,
            length: 1,
            sha256: ContentHash::of(content.as_bytes()),
        };
        let entry = |&(key, hr): &(&str, &str)| ShardEntry {
            key: key.to_owned(),
            lr: member("lr"),
            hr: member(hr),
            json: member("json"),
        };
        let shard = ContentHash::of(name.as_bytes());
        let entries: Vec<_> = pairs.iter().map(entry).collect();
        let keys = entries.iter().map(|entry| entry.key.clone()).collect();
        let reference = ShardRef {
            episode: name.parse().unwrap(),
            sha256: shard.clone(),
            bytes: 1,
            keys,
        };
        (
            reference,
            ShardIndex {
                version: 1,
                shard,
                bytes: 1,
                entries,
            },
        )
    }

    #[test]
    fn a_picture_counts_once_over_the_season() {
        let (first, first_index) = sidecar("E1", &[("E1-000001", "intro"), ("E1-000002", "scene")]);
        let (second, second_index) = sidecar("E2", &[("E2-000001", "intro"), ("E2-000009", "other")]);
        let (third, third_index) = sidecar("E3", &[("E3-000001", "intro")]);
        let spec = CurateSpec {
            season: "s".parse().unwrap(),
            lattice: Lattice::SdNative,
            scale: 2,
            shards: vec![first, second, third],
            episodes: Vec::new(),
        };
        let indexes = [first_index, second_index, third_index];
        let manifest = manifest_of(&spec, &indexes, &BTreeSet::new());
        let keys: Vec<_> = manifest.shards.iter().map(|shard| shard.keys.clone()).collect();
        assert_eq!(
            keys,
            [
                vec!["E1-000001".to_owned(), "E1-000002".to_owned()],
                vec!["E2-000009".to_owned()]
            ]
        );
        assert_eq!(manifest.pair_count(), 3);

        let repeated = BTreeSet::from(["E2-000009".to_owned(), "E1-000002".to_owned()]);
        let manifest = manifest_of(&spec, &indexes, &repeated);
        assert_eq!(manifest.shards.len(), 1);
        assert_eq!(manifest.shards[0].keys, ["E1-000001"]);
    }
}
