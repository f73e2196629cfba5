//! Shards of any content come back as they were written, and what was done to them since is told, never fatal.
#![allow(clippy::unwrap_used)]

use std::io::Read;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

fn pairs() -> impl Strategy<Value = Vec<PairFiles>> {
    let file = || prop::collection::vec(any::<u8>(), 0..1_500).prop_map(Bytes::from);
    let files = prop::collection::vec((file(), file(), file()), 1..6);
    files.prop_map(|files| {
        let pair = |(number, (lr_png, hr_png, json))| PairFiles {
            key: format!("e1-{number:06}"),
            lr_png,
            hr_png,
            json,
        };
        files.into_iter().enumerate().map(pair).collect()
    })
}

fn written(pairs: &[PairFiles], folder: &Path) -> FinishedShard {
    let mut writer = ShardWriter::create(folder).unwrap();
    for pair in pairs {
        writer.push(pair).unwrap();
    }
    writer.finish().unwrap()
}

/// A store that has the shard, with other bytes for its sidecar where there are any.
async fn stored(shard: &FinishedShard, sidecar: Option<Vec<u8>>, folder: &Path) -> Store {
    let store = Store::open(&format!("file://{}", folder.join("store").display())).unwrap();
    store.put_shard(shard).await.unwrap();
    if let Some(bytes) = sidecar {
        let key = Key::shard_index(&shard.index.shard);
        store.delete(&key).await.unwrap();
        store.put_bytes(&key, bytes.into()).await.unwrap();
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pairs_come_back_from_the_store_and_any_tar_program_reads_them(pairs in pairs()) {
        let folder = tempfile::tempdir().unwrap();
        let shard = written(&pairs, folder.path());
        prop_assert_eq!(&written(&pairs, folder.path()).index, &shard.index);
        Runtime::new().unwrap().block_on(async {
            let store = stored(&shard, None, folder.path()).await;
            let index = store.shard_index(&shard.index.shard).await.unwrap();
            for (pair, entry) in pairs.iter().zip(&index.entries) {
                assert_eq!(&store.read_pair(&index.shard, entry).await.unwrap(), pair);
            }
        });
        let mut files = vec![];
        for member in tar::Archive::new(shard.tar.reopen().unwrap()).entries().unwrap() {
            let mut content = vec![];
            member.unwrap().read_to_end(&mut content).unwrap();
            files.push(Bytes::from(content));
        }
        let expected: Vec<_> = pairs
            .iter()
            .flat_map(|pair| [&pair.lr_png, &pair.hr_png, &pair.json])
            .cloned()
            .collect();
        prop_assert_eq!(files, expected);
    }

    #[test]
    fn a_sidecar_with_other_numbers_gives_the_pair_or_an_error(
        pairs in pairs(),
        numbers in prop::collection::vec(prop_oneof![0..4_000_u64, any::<u64>()], 6),
        member in 0..3_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let shard = written(&pairs, folder.path());
        let mut entry = shard.index.entries[0].clone();
        let members = [&mut entry.lr, &mut entry.hr, &mut entry.json];
        for (number, (doctored, place)) in members.into_iter().zip(numbers.chunks(2)).enumerate() {
            if number <= member {
                (doctored.offset, doctored.length) = (place[0], place[1]);
            }
        }
        Runtime::new().unwrap().block_on(async {
            let store = stored(&shard, None, folder.path()).await;
            if let Ok(read) = store.read_pair(&shard.index.shard, &entry).await {
                assert_eq!(read, pairs[0], "hashes are checked");
            }
        });
    }

    #[test]
    fn a_damaged_sidecar_is_named_or_describes_the_same_shard(
        pairs in pairs(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kept in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let shard = written(&pairs, folder.path());
        let mut bytes = serde_json::to_vec(&shard.index).unwrap();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if is_cut {
            bytes.truncate(kept.index(bytes.len()));
        }
        Runtime::new().unwrap().block_on(async {
            let store = stored(&shard, Some(bytes), folder.path()).await;
            match store.shard_index(&shard.index.shard).await {
                Ok(index) => assert_eq!(index.shard, shard.index.shard),
                Err(error) => assert!(error.to_string().contains(".idx"), "{error}"),
            }
        });
    }
}
