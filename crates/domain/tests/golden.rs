//! Files and rows that earlier versions wrote stay readable, and nothing of them is lost when they are written again.
//! The files under `golden/` were written by the demo and are frozen: a format grows by optional fields only.
#![allow(clippy::unwrap_used, missing_docs)]

use remaster_domain::{DatasetManifest, JobSpec, ModelCard, PairRecord, SourceIndex, TaskResult, TaskSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a frozen file; what is written again has every value of it.
fn reads<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let frozen: Value = serde_json::from_str(text).unwrap();
    let read: T = serde_json::from_value(frozen.clone()).unwrap();
    assert_kept(&frozen, &serde_json::to_value(&read).unwrap(), "");
    read
}

fn assert_kept(old: &Value, new: &Value, path: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}/{name}");
                assert_kept(value, new.get(name).unwrap_or(&Value::Null), &path);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{path}");
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                assert_kept(old, new, &format!("{path}/{at}"));
            }
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn version_1_objects_are_read() {
    let index: SourceIndex = reads(include_str!("golden/index-v1.json"));
    assert_eq!((index.version, index.frames[1].pts), (1, 45));
    let pair: PairRecord = reads(include_str!("golden/pair-v1.json"));
    assert_eq!((pair.version, pair.active.height), (1, 383));
    assert_eq!(
        pair.shown(),
        pair.active,
        "the first ones show what carries picture"
    );
    let pair: PairRecord = reads(include_str!("golden/pair-v1-whole.json"));
    assert_eq!((pair.active.y, pair.shown().y, pair.shown().height), (1, 0, 384));
    assert_eq!(pair.mask.len(), 1);
    let manifest: DatasetManifest = reads(include_str!("golden/manifest-v1.json"));
    assert_eq!((manifest.version, manifest.pair_count()), (1, 4));
    let card: ModelCard = reads(include_str!("golden/card-v1.json"));
    assert_eq!((card.version, card.scale), (1, 2));
}

#[test]
fn rows_of_a_version_1_database_are_read() {
    let job: JobSpec = reads(include_str!("golden/job-spec-v1.json"));
    assert_eq!(job.season.episodes.len(), 3);
    let specs: Vec<TaskSpec> = reads(include_str!("golden/task-specs-v1.json"));
    let results: Vec<TaskResult> = reads(include_str!("golden/task-results-v1.json"));
    assert_eq!((specs.len(), results.len()), (9, 9));
}
