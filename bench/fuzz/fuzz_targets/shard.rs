//! Sidecars of a shard that another hand wrote: a pair is what its sidecar says, or there is an error.
//!
//! The tar itself is never taken apart when it is read: the sidecar says where each file lies, and its hash whether it does.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use remaster_domain::ContentHash;
use remaster_store::{Key, PairFiles, ShardWriter, Store};
use tokio::runtime::Runtime;

const SEED: &str = include_str!("../seeds/shard/sidecar.json");

/// A store with one shard, whose sidecar is replaced again and again.
struct Place {
    runtime: Runtime,
    store: Store,
    shard: ContentHash,
    _folder: tempfile::TempDir,
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = ShardWriter::create(folder.path()).expect("a shard");
    for number in 0..3_u8 {
        let pair = PairFiles {
            key: format!("e1-{number:06}"),
            lr_png: vec![number; 5].into(),
            hr_png: vec![number; 700].into(),
            json: b"{}".to_vec().into(),
        };
        writer.push(&pair).expect("room");
    }
    let finished = writer.finish().expect("a shard");
    // Without a seed that describes this shard, nothing after the first comparison would be reached.
    let sidecar = serde_json::to_string(&finished.index).expect("a sidecar");
    assert_eq!(sidecar, SEED.trim(), "seeds/shard/sidecar.json is out of date");
    let store = Store::open(&format!("file://{}/store", folder.path().display())).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(store.put_shard(&finished)).expect("stored");
    Place {
        runtime,
        store,
        shard: finished.index.shard,
        _folder: folder,
    }
}

async fn read(place: &Place, sidecar: &[u8]) {
    let Place { store, shard, .. } = place;
    let key = Key::shard_index(shard);
    store.delete(&key).await.expect("deleted");
    store
        .put_bytes(&key, sidecar.to_vec().into())
        .await
        .expect("stored");
    let Ok(index) = store.shard_index(shard).await else {
        return;
    };
    for entry in index.entries.iter().take(4) {
        if let Ok(pair) = store.read_pair(shard, entry).await {
            for (member, bytes) in [
                (&entry.lr, &pair.lr_png),
                (&entry.hr, &pair.hr_png),
                (&entry.json, &pair.json),
            ] {
                assert_eq!(ContentHash::of(bytes), member.sha256);
                assert_eq!(bytes.len() as u64, member.length);
            }
        }
    }
}

fuzz_target!(|sidecar: &[u8]| {
    PLACE.with(|once| {
        let place = once.get_or_init(place);
        place.runtime.block_on(read(place, sidecar));
    });
});
