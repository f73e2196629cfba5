//! The tasks of a season one after the other, as a coordinator would hand them out, on simulated discs and a local store.
//! What a cluster makes must be to the byte what the commands without one make.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use remaster_domain::{
    AlignResult, AlignSpec, Alignment, Cube, CurateEpisode, CurateSpec, DatasetManifest, EpisodeSpan,
    ExtractSpec, FailureClass, IndexSpec, IndexedSource, Lattice, PairChoice, PairRecord, PressResult,
    PressSpec, PressedLike, ShardFrames, ShardRef, SourceIndex, SourceRef, TaskResult,
};
use remaster_store::{Key, ShardIndex, Store, hash_file};
use remaster_testkit::Discs;
use tempfile::TempDir;

use super::*;
use crate::sources::Sources;

const DISC_SECONDS: u32 = 4;
const PAIRS_OF_A_TEST_SHARD: usize = 8;

#[test]
fn a_bad_input_is_told_apart_from_bad_luck() {
    let class = |error: WorkError| match AttemptError::from(error) {
        AttemptError::Failed { class, .. } => Some(class),
        AttemptError::Stopped => None,
    };
    assert_eq!(
        class(WorkError::BadInput(String::new())),
        Some(FailureClass::BadInput)
    );
    assert_eq!(
        class(WorkError::Retryable(String::new())),
        Some(FailureClass::Retryable)
    );
    assert_eq!(class(WorkError::Stopped), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_make_the_same_shards_in_any_order_on_any_worker() {
    let discs = Discs::make(DISC_SECONDS).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (runner(&root, "first", &discs), runner(&root, "second", &discs));
    let span = EpisodeSpan {
        sd: indexed(&first, &discs.file("ep1.sd.mkv")).await,
        hd: indexed(&second, &discs.file("ep1.hd.mkv")).await,
        synthetic: false,
    };
    let align = align_spec("ep1", &span);
    let TaskResult::Align(aligned) = result(&first, TaskSpec::Align(align.clone())).await else {
        panic!()
    };
    let again = result(&second, TaskSpec::Align(align)).await;
    assert_eq!(
        again,
        TaskResult::Align(aligned.clone()),
        "alignment depends on nothing but the discs"
    );
    // More and smaller shards than so short an episode would get.
    let frames: Vec<PairChoice> = aligned
        .shards
        .iter()
        .flat_map(|shard| shard.frames.clone())
        .collect();
    let shards: Vec<ShardFrames> = (0..)
        .zip(frames.chunks(PAIRS_OF_A_TEST_SHARD))
        .map(|(number, frames)| ShardFrames {
            number,
            frames: frames.to_vec(),
        })
        .collect();
    assert!(shards.len() >= 3, "{} shards", shards.len());
    let extract_as = |episode: &str, number: usize| {
        TaskSpec::Extract(ExtractSpec {
            episode: episode.parse().unwrap(),
            span: span.clone(),
            alignment: aligned.alignment.clone(),
            shard: shards[number].clone(),
            nnedi_weights: None,
        })
    };
    let extract = |number: usize| extract_as("ep1", number);
    let mut forwards = Vec::new();
    for number in 0..shards.len() {
        forwards.push(shard_of(result(&first, extract(number)).await));
    }
    let mut backwards = Vec::new();
    for number in (0..shards.len()).rev() {
        backwards.insert(0, shard_of(result(&second, extract(number)).await));
    }
    assert_eq!(forwards, backwards);
    // The same scene as a part of another episode.
    let again = shard_of(result(&first, extract_as("again", 0)).await);
    a_scene_given_twice_is_kept_once(&first, &span, &aligned.alignment, &forwards, &again).await;
}

/// The same shard as a part of two episodes: `curate` keeps one and writes a page for it.
async fn a_scene_given_twice_is_kept_once(
    runner: &Runner,
    span: &EpisodeSpan,
    alignment: &Alignment,
    forwards: &[ShardRef],
    again: &ShardRef,
) {
    let known = |episode: &str| CurateEpisode {
        episode: episode.parse().unwrap(),
        span: span.clone(),
        alignment: alignment.clone(),
        rejected: [("same-frame".to_owned(), 3)].into(),
    };
    let curate = CurateSpec {
        season: "season".parse().unwrap(),
        lattice: Lattice::SdNative,
        scale: 2,
        shards: [forwards, std::slice::from_ref(again)].concat(),
        episodes: vec![known("ep1"), known("again")],
    };
    let TaskResult::Curate(curated) = result(runner, TaskSpec::Curate(curate)).await else {
        panic!()
    };
    let key = Key::dataset_object(&"season".parse().unwrap(), &curated.manifest);
    let manifest: DatasetManifest = runner
        .context
        .store
        .get_json_verified(&key, &curated.manifest)
        .await
        .unwrap();
    assert_eq!(manifest.pair_count() as u64, curated.pair_count);
    let [given, repeated] = manifest.episodes.as_slice() else {
        panic!("{:?}", manifest.episodes)
    };
    // Whichever fits better stays.
    let (given, repeated) = if given.kept > 0 {
        (given, repeated)
    } else {
        (repeated, given)
    };
    assert_eq!((u64::from(given.kept), given.repeats), (curated.pair_count, 0));
    assert!(repeated.kept == 0 && repeated.repeats > 0, "{repeated:?}");
    let of_season = manifest.colour_cube.as_ref().unwrap();
    for hash in [of_season, given.colour_cube.as_ref().unwrap()] {
        let key = Key::dataset_cube(&"season".parse().unwrap(), hash);
        let text = runner.context.store.get_verified(&key, hash).await.unwrap();
        Cube::parse(std::str::from_utf8(&text).unwrap()).unwrap();
    }
    let page = Key::dataset_sheet(&"season".parse().unwrap(), &given.sheet);
    let page = runner
        .context
        .store
        .get_verified(&page, &given.sheet)
        .await
        .unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(page.contains("turned away by gate same-frame") && page.contains("<line"));
    assert_eq!(
        page.matches("data:image/png;base64,").count(),
        3 * given.kept.min(12) as usize
    );
    assert!(
        manifest
            .shards
            .iter()
            .all(|kept| kept.sha256 == again.sha256 || forwards.iter().any(|made| kept.sha256 == made.sha256))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blu_ray_without_a_dvd_gives_pairs_of_one_made_like_the_seasons() {
    let discs = Discs::make(DISC_SECONDS).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (runner, other) = (runner(&root, "one", &discs), runner(&root, "other", &discs));
    let span = EpisodeSpan {
        sd: indexed(&runner, &discs.file("ep1.sd.mkv")).await,
        hd: indexed(&runner, &discs.file("ep1.hd.mkv")).await,
        synthetic: false,
    };
    let bought = aligned(&runner, "ep1", &span).await.alignment;
    let hd = indexed(&runner, &discs.file("ep2.hd.mkv")).await;
    let spec = TaskSpec::Press(PressSpec {
        episode: "ep2".parse().unwrap(),
        hd: hd.clone(),
        like: vec![PressedLike {
            span: span.clone(),
            transform: bought.transform,
            active: bought.active,
            colour: bought.colour,
        }],
    });
    let TaskResult::Press(PressResult { sd }) = result(&runner, spec.clone()).await else {
        panic!()
    };
    assert_eq!(
        result(&other, spec).await,
        TaskResult::Press(PressResult { sd: sd.clone() }),
        "the same disc wherever it is made"
    );
    let (made, like) = (
        runner.context.index(&sd).await.unwrap(),
        runner.context.index(&span.sd).await.unwrap(),
    );
    let shape = |index: &SourceIndex| {
        let video = &index.video;
        (video.codec.clone(), video.width, video.height, video.sar)
    };
    assert_eq!(shape(&made), shape(&like));
    assert_eq!(made.frames.len(), hd.frame_count as usize);

    let span = EpisodeSpan {
        sd,
        hd,
        synthetic: true,
    };
    let aligned = aligned(&other, "ep2", &span).await;
    let alignment = aligned.alignment;
    assert!(
        alignment.segments.iter().all(|segment| segment.offset == 0),
        "frame for frame"
    );
    let [own, of_season] = [alignment.transform, bought.transform];
    let corner_px =
        (own.tx - of_season.tx).abs() + (own.sx - of_season.sx).abs() * f64::from(alignment.active.width);
    assert!(corner_px < 2.0, "{own:?} is far from {of_season:?}");
    let extract = TaskSpec::Extract(ExtractSpec {
        episode: "ep2".parse().unwrap(),
        span,
        alignment,
        shard: aligned.shards[0].clone(),
        nnedi_weights: None,
    });
    let shard = shard_of(result(&runner, extract).await);
    let records = records_of(&runner, &shard).await;
    assert!(records.len() > 5, "{} pairs", records.len());
    for record in records {
        assert!(record.synthetic && record.sd_index == record.hd_index);
        assert!(record.scores.colour_residual < 3.0, "{:?}", record.scores);
    }
}

async fn records_of(runner: &Runner, shard: &ShardRef) -> Vec<PairRecord> {
    let store = &runner.context.store;
    let sidecar: ShardIndex = store.get_json(&Key::shard_index(&shard.sha256)).await.unwrap();
    let mut records = Vec::new();
    for entry in &sidecar.entries {
        let at = entry.json.offset..entry.json.offset + entry.json.length;
        let record = store.get_range(&Key::shard(&shard.sha256), at).await.unwrap();
        records.push(serde_json::from_slice(&record).unwrap());
    }
    records
}

fn align_spec(episode: &str, span: &EpisodeSpan) -> AlignSpec {
    AlignSpec {
        episode: episode.parse().unwrap(),
        span: span.clone(),
        lattice: Lattice::SdNative,
        scale: 2,
        pairs_max: 60,
        fields: remaster_domain::FieldChoice::Auto,
        nnedi_weights: None,
    }
}

async fn aligned(runner: &Runner, episode: &str, span: &EpisodeSpan) -> AlignResult {
    let spec = TaskSpec::Align(align_spec(episode, span));
    let TaskResult::Align(aligned) = result(runner, spec).await else {
        panic!()
    };
    aligned
}

#[tokio::test(flavor = "multi_thread")]
async fn another_episodes_disc_is_bad_input_with_a_reason() {
    let discs = Discs::make(DISC_SECONDS).unwrap();
    let root = tempfile::tempdir().unwrap();
    let runner = runner(&root, "only", &discs);
    let span = EpisodeSpan {
        sd: indexed(&runner, &discs.file("ep1.sd.mkv")).await,
        hd: indexed(&runner, &discs.file("ep2.hd.mkv")).await,
        synthetic: false,
    };
    let error = runner
        .work(TaskSpec::Align(align_spec("ep1", &span)), &Monitor::silent())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, WorkError::BadInput(text) if text.starts_with("ep1: ") && text.contains("another episode")),
        "{error}"
    );
}

/// The upscale half: any worker makes the same segment, and the assembled episode has every frame.
#[cfg(feature = "upscale")]
#[tokio::test(flavor = "multi_thread")]
async fn segments_are_the_same_bytes_on_any_worker_and_make_a_whole_episode() {
    use remaster_domain::{AssembleSpec, PlanSpec, SegmentRef, UpscaleSettings, UpscaleSpec};
    let discs = Discs::make(DISC_SECONDS).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (runner(&root, "first", &discs), runner(&root, "second", &discs));
    let sd = indexed(&first, &discs.file("ep3.sd.mkv")).await;
    let model = store_model(&first.context.store).await;
    let settings = UpscaleSettings {
        encoder: remaster_domain::Encoder::X264,
        preset: "ultrafast".to_owned(),
        segment_frames_max: 50,
        ..UpscaleSettings::default()
    };
    let episode = || "ep3".parse().unwrap();
    let plan = PlanSpec {
        episode: episode(),
        sd: sd.clone(),
        model: model.clone(),
        settings: settings.clone(),
    };
    let TaskResult::Plan(planned) = result(&second, TaskSpec::Plan(plan)).await else {
        panic!()
    };
    assert!(planned.segments.len() >= 2);
    let mut segments: Vec<SegmentRef> = Vec::new();
    for range in planned.segments {
        let (model, settings) = (model.clone(), settings.clone());
        let spec = UpscaleSpec {
            episode: episode(),
            sd: sd.clone(),
            range,
            model,
            settings,
        };
        let made = result(&first, TaskSpec::Upscale(spec.clone())).await;
        assert_eq!(result(&second, TaskSpec::Upscale(spec)).await, made);
        let TaskResult::Upscale(made) = made else { panic!() };
        segments.push(made.segment);
    }
    let spec = AssembleSpec {
        episode: episode(),
        sd: sd.clone(),
        segments,
        settings,
    };
    let TaskResult::Assemble(made) = result(&second, TaskSpec::Assemble(spec)).await else {
        panic!()
    };
    assert_eq!(made.frame_count, sd.frame_count);
}

#[cfg(feature = "upscale")]
async fn store_model(store: &Store) -> remaster_domain::ContentHash {
    use remaster_model::{DeviceKind, Generator, device, encode_safetensors, read_state};
    let arch = remaster_domain::ModelArch::Compact {
        num_feat: 4,
        num_conv: 1,
    };
    let generator = Generator::new(&arch, 2, 7, &device(DeviceKind::default()).unwrap()).unwrap();
    let weights = encode_safetensors(&read_state(&generator));
    let id = remaster_domain::ContentHash::of(&weights);
    let card = remaster_domain::ModelCard::assumed(arch, 2);
    store
        .put_bytes(&Key::model_weights(&id), weights.into())
        .await
        .unwrap();
    store
        .put_bytes(&Key::model_card(&id), serde_json::to_vec(&card).unwrap().into())
        .await
        .unwrap();
    id
}

fn runner(root: &TempDir, name: &str, discs: &Discs) -> Runner {
    let store = Store::open(&format!("file://{}/store", root.path().display())).unwrap();
    let own = root.path().join(name);
    let sources = Sources::new(
        vec![discs.dir.clone()],
        &own.join("cache"),
        u64::MAX,
        store.clone(),
    );
    Runner::new(Context::new(store, sources, own.join("scratch")))
}

async fn result(runner: &Runner, spec: TaskSpec) -> TaskResult {
    let done = runner.work(spec, &Monitor::silent()).await.unwrap();
    for object in &done.objects {
        let key: Key = object.key.parse().unwrap();
        assert_eq!(
            runner.context.store.size(&key).await.unwrap(),
            Some(object.bytes),
            "{key}"
        );
    }
    done.result
}

async fn indexed(runner: &Runner, file: &Path) -> IndexedSource {
    let source = SourceRef {
        sha256: hash_file(file, |_| {}).unwrap(),
        bytes: std::fs::metadata(file).unwrap().len(),
        name: file.file_name().unwrap().to_string_lossy().into_owned(),
        path_hint: None,
    };
    let spec = TaskSpec::Index(IndexSpec {
        source: source.clone(),
    });
    let TaskResult::Index(made) = result(runner, spec).await else {
        panic!()
    };
    IndexedSource {
        source,
        index: made.index,
        frame_count: made.frame_count,
    }
}

fn shard_of(result: TaskResult) -> ShardRef {
    let TaskResult::Extract(made) = result else {
        panic!()
    };
    made.shard.unwrap()
}
