//! Seasons that exist on paper only, and workers' answers made from the specs alone: same spec, same answer.

use remaster_domain::{
    ActiveArea, AlignResult, Alignment, AssembleResult, ColourTransform, ContentHash, CurateEpisode,
    CurateResult, Episode, ExtractResult, FrameRange, IndexResult, IndexedSource, JobSpec, Lattice, ModelRef,
    OutputObject, PairChoice, PlanResult, PressResult, PublishResult, PublishedModel, Season, SegmentRef,
    ShardFrames, ShardRef, SourceRef, Stage, TaskKind, TaskResult, TaskSpec, TrainResult, Transform,
    UpscaleResult, UpscaleSettings,
};
use remaster_store::{Key, Store};

pub const FRAMES: u32 = 10;
/// Kinds of a worker that does everything.
pub const ALL: [TaskKind; 10] = TaskKind::ALL;

pub fn source(name: &str) -> SourceRef {
    SourceRef {
        sha256: ContentHash::of(name.as_bytes()),
        bytes: 4,
        name: format!("{name}.mkv"),
        path_hint: None,
    }
}

/// Episodes as `(id, has sd, has hd)`.
pub fn season(stage: Stage, episodes: &[(&str, bool, bool)]) -> JobSpec {
    let episodes = episodes.iter().map(|&(id, sd, hd)| Episode {
        id: id.parse().unwrap(),
        sd: sd.then(|| source(&format!("{id}.sd"))),
        hd: hd.then(|| source(&format!("{id}.hd"))),
    });
    JobSpec {
        season: Season {
            name: "season-6".parse().unwrap(),
            scale: 2,
            lattice: Lattice::SdNative,
            pairs_max: 100,
            recipe: "esrgan".to_owned(),
            seed: 0,
            pretrained: None,
            model: ModelRef::Channel("latest".to_owned()),
            settings: UpscaleSettings::default(),
            needs: std::collections::BTreeMap::new(),
            episodes: episodes.collect(),
        },
        stage,
    }
}

/// Two episodes with both discs and one with the DVD only.
pub fn small_season(stage: Stage) -> JobSpec {
    season(
        stage,
        &[("e1", true, true), ("e2", true, true), ("e3", true, false)],
    )
}

/// A worker's answer; what it names is in the store.
pub async fn result(store: &Store, spec: &TaskSpec) -> (TaskResult, Vec<OutputObject>) {
    let (result, keys) = answer(spec);
    let mut objects = vec![];
    for key in keys {
        objects.push(store.put_bytes(&key, "fake".into()).await.unwrap());
    }
    (result, objects)
}

fn answer(spec: &TaskSpec) -> (TaskResult, Vec<Key>) {
    let hash = spec.work_key();
    match spec {
        TaskSpec::Index(spec) => {
            let keys = vec![
                Key::index(&spec.source.sha256, &hash),
                Key::thumbs(&spec.source.sha256, &hash),
            ];
            let result = IndexResult {
                index: hash,
                frame_count: FRAMES,
            };
            (TaskResult::Index(result), keys)
        }
        TaskSpec::Press(spec) => {
            let source = SourceRef {
                sha256: hash.clone(),
                bytes: 4,
                name: "made".to_owned(),
                path_hint: None,
            };
            let sd = IndexedSource {
                source,
                index: hash.clone(),
                frame_count: spec.hd.frame_count,
            };
            let keys = vec![Key::source(&hash), Key::index(&hash, &hash)];
            (TaskResult::Press(PressResult { sd }), keys)
        }
        TaskSpec::Align(_) => (TaskResult::Align(align()), vec![]),
        TaskSpec::Extract(spec) => {
            let keys = vec![Key::shard(&hash), Key::shard_index(&hash)];
            let shard = ShardRef {
                episode: spec.episode.clone(),
                sha256: hash,
                bytes: 4,
                keys: vec!["a".to_owned()],
            };
            let result = ExtractResult {
                shard: Some(shard),
                rejected: Default::default(),
            };
            (TaskResult::Extract(result), keys)
        }
        TaskSpec::Curate(spec) => {
            // A page and a colour table of each episode, a table of all.
            let of_episode = |episode: &CurateEpisode| {
                let name = ContentHash::of(episode.episode.as_str().as_bytes());
                [
                    Key::dataset_sheet(&spec.season, &name),
                    Key::dataset_cube(&spec.season, &name),
                ]
            };
            let mut keys: Vec<_> = spec.episodes.iter().flat_map(of_episode).collect();
            keys.push(Key::dataset_cube(&spec.season, &hash));
            keys.push(Key::dataset_object(&spec.season, &hash));
            let result = CurateResult {
                manifest: hash,
                pair_count: spec.shards.len() as u64,
            };
            (TaskResult::Curate(result), keys)
        }
        TaskSpec::Train(_) => {
            let keys = vec![Key::checkpoint_state(&hash), Key::checkpoint_tensors(&hash)];
            let result = TrainResult {
                checkpoint: hash,
                steps: 9,
                stages: vec![],
            };
            (TaskResult::Train(result), keys)
        }
        TaskSpec::Publish(spec) => publish(&spec.run.to_string()),
        TaskSpec::Plan(_) => {
            let segments = [(0, 6), (6, FRAMES)].map(|(start, end)| FrameRange { start, end });
            let segments = segments.to_vec();
            (TaskResult::Plan(PlanResult { segments }), vec![])
        }
        TaskSpec::Upscale(spec) => {
            let keys = vec![Key::segment(&hash)];
            let segment = SegmentRef {
                range: spec.range,
                sha256: hash,
                bytes: 4,
            };
            (TaskResult::Upscale(UpscaleResult { segment }), keys)
        }
        TaskSpec::Assemble(_) => {
            let keys = vec![Key::segment(&hash)];
            let result = AssembleResult {
                sha256: hash,
                bytes: 4,
                frame_count: FRAMES,
            };
            (TaskResult::Assemble(result), keys)
        }
    }
}

fn publish(run: &str) -> (TaskResult, Vec<Key>) {
    let models = ["l1", "gan"].map(|stage| PublishedModel {
        stage: stage.to_owned(),
        id: model(run, stage),
    });
    let keys = models
        .iter()
        .flat_map(|model| [Key::model_weights(&model.id), Key::model_card(&model.id)]);
    let keys = keys.collect();
    let models = models.to_vec();
    (TaskResult::Publish(PublishResult { models }), keys)
}

/// Id of the model that a run publishes after a stage.
pub fn model(run: &str, stage: &str) -> ContentHash {
    ContentHash::of(format!("{run}/{stage}").as_bytes())
}

fn align() -> AlignResult {
    let shard = |number| ShardFrames {
        number,
        frames: vec![PairChoice {
            sd: number,
            hd: number,
            shot: 0,
            segment: 0,
        }],
    };
    AlignResult {
        alignment: Alignment {
            version: 1,
            lattice: Lattice::SdNative,
            scale: 2,
            segments: vec![],
            transform: Transform {
                sx: 2.0,
                sy: 2.0,
                tx: 0.0,
                ty: 0.0,
            },
            colour: ColourTransform::IDENTITY,
            curves: None,
            active: ActiveArea {
                x: 0,
                y: 0,
                width: 480,
                height: 384,
            },
            moved: Vec::new(),
            coding: None,
            fields: remaster_domain::FieldFilter::None,
        },
        shards: vec![shard(0), shard(1)],
    }
}
