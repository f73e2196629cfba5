//! Curates a season: a manifest that names the pairs that count. It rewrites no shard.
//!
//! A pair counts once: the same key, or the same HR picture to the byte, is dropped after its first appearance. Finding
//! repeats that only look alike (intros, credits) is not done here yet.

use std::collections::BTreeSet;

use remaster_domain::{
    ContentHash, CurateResult, CurateSpec, DatasetManifest, MANIFEST_VERSION, ShardRef, TaskResult,
};
use remaster_proto::Completion;
use remaster_store::{Key, ShardIndex};

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
    for shard in &spec.shards {
        monitor.check()?;
        sidecars.push(context.store.shard_index(&shard.sha256).await?);
        monitor.report(sidecars.len() as u64, spec.shards.len() as u64, "shards");
    }
    let manifest = manifest_of(&spec, &sidecars);
    let pair_count = manifest.pair_count() as u64;
    if pair_count == 0 {
        return Err(WorkError::BadInput(format!(
            "season {} has no pair to learn from: every frame was turned away; compare an sd and an hd file by eye",
            spec.season
        )));
    }
    let key_of = |hash: &ContentHash| Key::dataset_object(&spec.season, hash);
    let (hash, object) = context.store.put_json(&manifest, key_of).await?;
    let result = CurateResult {
        manifest: hash,
        pair_count,
    };
    Ok(Completion {
        result: TaskResult::Curate(result),
        objects: vec![object],
    })
}

/// The manifest of the shards, `sidecars` in the same order.
pub(super) fn manifest_of(spec: &CurateSpec, sidecars: &[ShardIndex]) -> DatasetManifest {
    let mut keys_seen = BTreeSet::new();
    let mut pictures_seen = BTreeSet::new();
    let mut shards = Vec::with_capacity(spec.shards.len());
    for (shard, sidecar) in spec.shards.iter().zip(sidecars) {
        let wanted: BTreeSet<&String> = shard.keys.iter().collect();
        let offered = sidecar.entries.iter().filter(|entry| wanted.contains(&entry.key));
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
        };
        let manifest = manifest_of(&spec, &[first_index, second_index, third_index]);
        let keys: Vec<_> = manifest.shards.iter().map(|shard| shard.keys.clone()).collect();
        assert_eq!(
            keys,
            [
                vec!["E1-000001".to_owned(), "E1-000002".to_owned()],
                vec!["E2-000009".to_owned()]
            ]
        );
        assert_eq!(manifest.pair_count(), 3);
    }
}
