//! One conformance suite over every backend: what holds on a folder holds on S3.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::multipart::MultipartStore;
use remaster_domain::ContentHash;
use remaster_store::{Key, ListedObject, PairFiles, ShardWriter, Store, StoreError};
use remaster_testkit::{S3Server, StoreFault};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&Store::open(&format!("file://{}/store", dir.path().display())).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path()).unwrap();
    conforms(&Store::open_with(&server.url("some/prefix"), &server.settings()).unwrap()).await;
}

#[tokio::test]
async fn an_upload_to_a_bucket_that_was_never_finished_is_found_and_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path()).unwrap();
    let store = Store::open_with(&server.url("mine"), &server.settings()).unwrap();
    let beside = Store::open_with(&server.url("others"), &server.settings()).unwrap();
    assert_eq!(store.list_unfinished().await.unwrap(), []);
    let key = Key::shard(&ContentHash::of(b"pairs"));
    let settings = server.settings();
    let s3 = settings.iter().fold(
        AmazonS3Builder::new()
            .with_url(server.url("mine"))
            .with_allow_http(true),
        |builder, (name, value)| builder.with_config(name.to_ascii_lowercase().parse().unwrap(), value),
    );
    let (s3, path) = (s3.build().unwrap(), format!("mine/{key}").into());
    let id = s3.create_multipart(&path).await.unwrap();
    s3.create_multipart(&"mine/backups/home-video.mkv".into())
        .await
        .unwrap();
    let listed = store.list_unfinished().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key, format!("{key}#{id}"));
    assert!(listed[0].modified_ms > 0);
    assert_eq!(
        beside.list_unfinished().await.unwrap(),
        [],
        "another prefix's are not ours, nor is what has no name of ours"
    );
    store.remove_unfinished(&listed[0]).await.unwrap();
    assert_eq!(store.list_unfinished().await.unwrap(), []);
    assert_eq!(store.size(&key).await.unwrap(), None);
}

async fn conforms(store: &Store) {
    store.probe().await.unwrap();
    objects_come_back_as_written(store).await;
    an_object_has_an_age_until_it_is_removed(store).await;
    a_large_file_goes_up_in_parts_and_comes_back(store).await;
    what_is_not_there_is_said_so(store).await;
    a_copy_is_the_same_object(store).await;
    damage_is_noticed(store).await;
    one_pair_is_read_by_its_range(store).await;
}

async fn objects_come_back_as_written(store: &Store) {
    let key = Key::segment(&ContentHash::of(b"segment"));
    let object = store
        .put_bytes(&key, Bytes::from_static(b"segment"))
        .await
        .unwrap();
    assert_eq!((object.key.as_str(), object.bytes), (key.as_str(), 7));
    assert_eq!(store.get_bytes(&key).await.unwrap(), "segment");
    assert_eq!(store.get_range(&key, 3..5).await.unwrap(), "me");
    assert_eq!(store.size(&key).await.unwrap(), Some(7));
    store
        .put_bytes(&key, Bytes::from_static(b"segment"))
        .await
        .unwrap();
    assert_eq!(
        store.list("segments").await.unwrap(),
        vec![(key.as_str().to_owned(), 7)]
    );
}

async fn an_object_has_an_age_until_it_is_removed(store: &Store) {
    let key = Key::shard(&ContentHash::of(b"shard"));
    store.put_bytes(&key, Bytes::from_static(b"shard")).await.unwrap();
    let modified_ms = store.modified_ms(&key).await.unwrap().expect("it is there");
    assert!(modified_ms > 1_700_000_000_000, "{modified_ms}");
    let listed = ListedObject {
        key: key.to_string(),
        bytes: 5,
        modified_ms,
    };
    assert_eq!(store.list_aged("shards").await.unwrap(), [listed]);
    for _ in 0..2 {
        store.delete(&key).await.unwrap();
    }
    assert_eq!(store.modified_ms(&key).await.unwrap(), None);
    assert!(store.list_aged("shards").await.unwrap().is_empty());
}

async fn a_large_file_goes_up_in_parts_and_comes_back(store: &Store) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = large();
    let hash = ContentHash::of(&bytes);
    let there = dir.path().join("there");
    std::fs::write(&there, &bytes).unwrap();
    let key = Key::source(&hash);
    assert_eq!(
        store.put_file(&key, &there).await.unwrap().bytes,
        bytes.len() as u64
    );
    let back = dir.path().join("back");
    store.get_file(&key, &back, &hash).await.unwrap();
    assert!(std::fs::read(&back).unwrap() == bytes);
    let again = store.put_bytes(&key, bytes.clone().into()).await.unwrap();
    assert_eq!(again.bytes, bytes.len() as u64);
    assert!(store.get_bytes(&key).await.unwrap() == bytes);
}

async fn what_is_not_there_is_said_so(store: &Store) {
    let key = Key::segment(&ContentHash::of(b"never written"));
    assert_eq!(store.size(&key).await.unwrap(), None);
    assert!(matches!(
        store.get_bytes(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(
        store.copy(&key, &Key::source(&ContentHash::of(b"x"))).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn a_copy_is_the_same_object(store: &Store) {
    let from = Key::segment(&ContentHash::of(b"episode"));
    let to = Key::output(&"season-6".parse().unwrap(), &"S06E16".parse().unwrap());
    store
        .put_bytes(&from, Bytes::from_static(b"episode"))
        .await
        .unwrap();
    store.copy(&from, &to).await.unwrap();
    store.copy(&from, &to).await.unwrap();
    assert_eq!(store.get_bytes(&to).await.unwrap(), "episode");
}

async fn damage_is_noticed(store: &Store) {
    let hash = ContentHash::of(b"model");
    let key = Key::model_weights(&hash);
    store.put_bytes(&key, Bytes::from_static(b"m0del")).await.unwrap();
    assert!(matches!(
        store.get_verified(&key, &hash).await,
        Err(StoreError::Damaged { .. })
    ));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model");
    assert!(store.get_file(&key, &file, &hash).await.is_err());
    assert!(
        !file.exists(),
        "a damaged download must not appear under its name"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left beside it"
    );
}

async fn one_pair_is_read_by_its_range(store: &Store) {
    let shard = three_pairs();
    let hash = shard.index.shard.clone();
    store.put_shard(&shard).await.unwrap();
    let index = store.shard_index(&hash).await.unwrap();
    assert_eq!(index, shard.index);
    assert_eq!(store.size(&Key::shard(&hash)).await.unwrap(), Some(index.bytes));
    for (number, entry) in index.entries.iter().enumerate() {
        assert_eq!(store.read_pair(&hash, entry).await.unwrap(), pair(number));
    }
    let mut wrong = index.entries[1].clone();
    wrong.hr.sha256 = ContentHash::of(b"other");
    assert!(matches!(
        store.read_pair(&hash, &wrong).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn the_same_pairs_make_the_same_shard() {
    assert_eq!(three_pairs().index, three_pairs().index);
}

#[test]
fn a_shard_is_a_tar_that_others_read() {
    let shard = three_pairs();
    let mut tar = tar::Archive::new(std::fs::File::open(shard.tar.path()).unwrap());
    let names: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(
        names[..3],
        [
            "S01E01-000000.lr.png",
            "S01E01-000000.hr.png",
            "S01E01-000000.json"
        ]
    );
    assert_eq!(names.len(), 9);
}

#[test]
fn urls_that_name_no_store_are_refused_with_words() {
    for (url, word) in [
        ("ftp://x/y", "ftp"),
        ("not a url", "file:///path"),
        ("s3:///x", "bucket"),
    ] {
        let error = Store::open(url).expect_err(url).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_named() {
    let settings = [
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let error = Store::open_with("s3://season/x", &settings)
        .unwrap()
        .probe()
        .await
        .expect_err("nobody listens there");
    assert!(error.is_retryable());
    assert!(error.to_string().contains("s3://season/x"), "{error}");
}

/// Frozen: written by the first version, readable for ever.
#[tokio::test]
async fn a_version_1_sidecar_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}/store", dir.path().display())).unwrap();
    let frozen = include_bytes!("sidecar-v1.json");
    let shard = "ff074f70843718ae2428f6a36abcaa67b6534f729727703fb7ab7a2bcb930095"
        .parse()
        .unwrap();
    store
        .put_bytes(&Key::shard_index(&shard), Bytes::from_static(frozen))
        .await
        .unwrap();
    let index = store.shard_index(&shard).await.unwrap();
    assert_eq!(
        (index.version, index.bytes, index.entries.len()),
        (1, 28_415_488, 2)
    );
    assert_eq!(
        (index.entries[1].lr.offset, index.entries[1].lr.length),
        (1_209_344, 293_321)
    );
}

/// More than goes up in one part.
fn large() -> Vec<u8> {
    (0..40_000_000_u32).map(|i| (i / 7 + i / 1013) as u8).collect()
}

fn pair(number: usize) -> PairFiles {
    PairFiles {
        key: format!("S01E01-{number:06}"),
        lr_png: vec![number as u8; 700].into(),
        hr_png: vec![number as u8 + 100; 512 * (number + 1)].into(),
        json: format!("{{\"n\":{number}}}").into_bytes().into(),
    }
}

fn three_pairs() -> remaster_store::FinishedShard {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path()).unwrap();
    for number in 0..3 {
        writer.push(&pair(number)).unwrap();
    }
    let shard = writer.finish().unwrap();
    // The folder goes, the open file stays readable through a copy in a folder of its own.
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(shard.tar.path(), kept.path()).unwrap();
    remaster_store::FinishedShard {
        tar: kept,
        index: shard.index,
    }
}

#[tokio::test]
async fn who_is_patient_outlasts_an_outage_and_others_are_told_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path()).unwrap();
    let (url, settings) = (server.url("mine"), server.settings());
    let key = Key::shard(&ContentHash::of(b"pairs"));
    let impatient = Store::open_with(&url, &settings).unwrap();
    // The fifth of these is an outage of some seconds.
    server.faults.arm(StoreFault::Unavailable, 1, 5);
    let told = impatient.put_bytes(&key, "pairs".into()).await;
    assert!(matches!(told, Err(StoreError::Unavailable { .. })), "{told:?}");
    server.faults.arm(StoreFault::Unavailable, 1, 5);
    let patient = Store::open_patient(&url, &settings).unwrap();
    patient.put_bytes(&key, "pairs".into()).await.unwrap();
    assert_eq!(server.faults.fired(), 5);
    assert_eq!(patient.get_bytes(&key).await.unwrap(), "pairs");
}

#[tokio::test]
async fn a_download_goes_on_when_its_connection_breaks_more_often_than_a_request_is_repeated() {
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = S3Server::start(root.path()).unwrap();
    let store = Store::open_with(&server.url("mine"), &server.settings()).unwrap();
    let (bytes, file) = (large(), dir.path().join("file"));
    let hash = ContentHash::of(&bytes);
    let key = Key::source(&hash);
    store.put_bytes(&key, bytes.clone().into()).await.unwrap();
    server.faults.arm(StoreFault::Truncated, 1, 6);
    let mut seen = 0;
    let downloading = store.get_file_seen(&key, &file, &hash, |bytes| seen += bytes);
    downloading.await.unwrap();
    assert_eq!(server.faults.fired(), 6);
    assert_eq!(seen, bytes.len() as u64, "no byte came twice");
    assert!(std::fs::read(&file).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_while_it_is_downloaded_is_not_mixed_with_what_it_was() {
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = S3Server::start(root.path()).unwrap();
    let store = Store::open_with(&server.url("mine"), &server.settings()).unwrap();
    let (bytes, file) = (vec![1; 8_000_000], dir.path().join("file"));
    let hash = ContentHash::of(&bytes);
    let key = Key::source(&hash);
    store.put_bytes(&key, bytes.into()).await.unwrap();
    server.faults.arm(StoreFault::Truncated, 1, 1);
    let mut other = Some(Bytes::from(vec![2; 8_000_000]));
    let replace_once = |_: u64| {
        let Some(other) = other.take() else { return };
        let replacing = store.put_bytes(&key, other);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(replacing)).unwrap();
    };
    let told = store.get_file_seen(&key, &file, &hash, replace_once).await;
    assert!(
        matches!(&told, Err(error @ StoreError::Unavailable { .. }) if error.to_string().contains("changed")),
        "{told:?}"
    );
    assert_eq!(server.faults.fired(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_and_a_fault_costs_one_of_them() {
    let root = tempfile::tempdir().unwrap();
    let server = S3Server::start(root.path()).unwrap();
    let store = Store::open_with(&server.url("mine"), &server.settings()).unwrap();
    let bytes = large();
    let key = Key::checkpoint_tensors(&ContentHash::of(b"state"));
    server.faults.arm(StoreFault::LostReply, 3, 1);
    store.put_bytes(&key, bytes.clone().into()).await.unwrap();
    assert_eq!(server.faults.fired(), 1, "three writes at least");
    assert!(store.get_bytes(&key).await.unwrap() == bytes);
}
