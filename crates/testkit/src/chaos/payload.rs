//! What a task of a simulated season comes to: small objects and a result that are a function of the task alone. Pure.
//!
//! Promises: the same spec gives the same bytes wherever and however often it is worked on, as the real worker's does.

use std::collections::BTreeMap;

use remaster_domain::{
    AlignResult, Alignment, AssembleResult, AssembleSpec, Checkpoint, ColourTransform, ContentHash,
    CurateResult, CurateSpec, ExtractResult, ExtractSpec, FrameRange, IndexResult, IndexSpec, IndexedSource,
    PairChoice, PlanResult, PressResult, PressSpec, PublishResult, PublishSpec, PublishedModel, SegmentRef,
    ShardFrames, ShardRef, SourceRef, StageMetrics, TaskResult, TaskSpec, TrainResult, UpscaleResult,
    UpscaleSpec,
};
use remaster_store::Key;

use super::season::{FRAMES, SEGMENT_FRAMES};

/// Shards of an episode.
const SHARDS: u32 = 2;
/// Checkpoints that training records before it ends.
const CHECKPOINTS: u64 = 2;

/// An object to be written.
pub(super) type Object = (Key, Vec<u8>);

/// What a task comes to.
#[derive(Debug)]
pub(super) struct Work {
    /// Objects that must be read, with their hashes, before anything is written.
    pub(super) reads: Vec<(Key, ContentHash)>,
    /// Checkpoints to record on the way, with their objects.
    pub(super) checkpoints: Vec<(Checkpoint, Vec<Object>)>,
    /// Objects to write before the commit.
    pub(super) objects: Vec<Object>,
    /// The answer.
    pub(super) result: TaskResult,
}

/// Works on a task.
pub(super) fn work_on(spec: &TaskSpec) -> Work {
    let mut desk = Desk {
        seed: spec.work_key(),
        reads: vec![],
        checkpoints: vec![],
        objects: vec![],
    };
    let result = match spec {
        TaskSpec::Index(spec) => desk.index(spec),
        TaskSpec::Press(spec) => desk.press(spec),
        TaskSpec::Align(_) => align(),
        TaskSpec::Extract(spec) => desk.extract(spec),
        TaskSpec::Curate(spec) => desk.curate(spec),
        TaskSpec::Train(_) => desk.train(),
        TaskSpec::Publish(spec) => desk.publish(spec),
        TaskSpec::Plan(_) => plan(),
        TaskSpec::Upscale(spec) => desk.upscale(spec),
        TaskSpec::Assemble(spec) => desk.assemble(spec),
    };
    Work {
        reads: desk.reads,
        checkpoints: desk.checkpoints,
        objects: desk.objects,
        result,
    }
}

/// Work under way.
struct Desk {
    seed: ContentHash,
    reads: Vec<(Key, ContentHash)>,
    checkpoints: Vec<(Checkpoint, Vec<Object>)>,
    objects: Vec<Object>,
}

impl Desk {
    fn bytes(&self, what: &str) -> Vec<u8> {
        format!("{what} of {}", self.seed).into_bytes()
    }

    /// Adds an object under the name that its bytes give it; answers its hash and size.
    fn write(&mut self, what: &str, key: impl FnOnce(&ContentHash) -> Key) -> (ContentHash, u64) {
        let bytes = self.bytes(what);
        let (hash, size) = (ContentHash::of(&bytes), bytes.len() as u64);
        self.objects.push((key(&hash), bytes));
        (hash, size)
    }

    fn index(&mut self, spec: &IndexSpec) -> TaskResult {
        let source = &spec.source.sha256;
        let (index, _) = self.write("index", |hash| Key::index(source, hash));
        self.objects
            .push((Key::thumbs(source, &index), self.bytes("thumbs")));
        let frame_count = FRAMES;
        TaskResult::Index(IndexResult { index, frame_count })
    }

    fn press(&mut self, spec: &PressSpec) -> TaskResult {
        let (sha256, bytes) = self.write("disc", Key::source);
        let (index, _) = self.write("index", |hash| Key::index(&sha256, hash));
        let source = SourceRef {
            sha256,
            bytes,
            name: format!("{}-made.mkv", spec.episode),
            path_hint: None,
        };
        let sd = IndexedSource {
            source,
            index,
            frame_count: spec.hd.frame_count,
        };
        TaskResult::Press(PressResult { sd })
    }

    fn extract(&mut self, spec: &ExtractSpec) -> TaskResult {
        let (sha256, bytes) = self.write("shard", Key::shard);
        self.objects
            .push((Key::shard_index(&sha256), self.bytes("sidecar")));
        let pairs = spec.shard.frames.iter();
        let shard = ShardRef {
            episode: spec.episode.clone(),
            sha256,
            bytes,
            keys: pairs
                .map(|pair| format!("{}-{}", spec.episode, pair.sd))
                .collect(),
        };
        TaskResult::Extract(ExtractResult {
            shard: Some(shard),
            rejected: BTreeMap::new(),
        })
    }

    fn curate(&mut self, spec: &CurateSpec) -> TaskResult {
        let shards = spec.shards.iter();
        self.reads
            .extend(shards.map(|shard| (Key::shard(&shard.sha256), shard.sha256.clone())));
        let (manifest, _) = self.write("manifest", |hash| Key::dataset_object(&spec.season, hash));
        let pair_count = spec.shards.len() as u64;
        TaskResult::Curate(CurateResult { manifest, pair_count })
    }

    fn train(&mut self) -> TaskResult {
        for step in 1..=CHECKPOINTS {
            let recorded = self.checkpoint(step);
            self.checkpoints.push(recorded);
        }
        let (last, objects) = self.checkpoint(CHECKPOINTS + 1);
        self.objects.extend(objects);
        let stage = StageMetrics {
            stage: "l1".to_owned(),
            steps: last.step,
            psnr_y: None,
        };
        TaskResult::Train(TrainResult {
            checkpoint: last.sha256,
            steps: last.step,
            stages: vec![stage],
        })
    }

    fn checkpoint(&self, step: u64) -> (Checkpoint, Vec<Object>) {
        let state = self.bytes(&format!("state {step}"));
        let sha256 = ContentHash::of(&state);
        let tensors = self.bytes(&format!("tensors {step}"));
        let objects = vec![
            (Key::checkpoint_state(&sha256), state),
            (Key::checkpoint_tensors(&sha256), tensors),
        ];
        (Checkpoint { sha256, step }, objects)
    }

    fn publish(&mut self, spec: &PublishSpec) -> TaskResult {
        let checkpoint = &spec.checkpoint;
        self.reads
            .push((Key::checkpoint_state(checkpoint), checkpoint.clone()));
        let (id, _) = self.write("model", Key::model_weights);
        self.objects.push((Key::model_card(&id), self.bytes("card")));
        let stage = "l1".to_owned();
        TaskResult::Publish(PublishResult {
            models: vec![PublishedModel { stage, id }],
        })
    }

    fn upscale(&mut self, spec: &UpscaleSpec) -> TaskResult {
        self.reads
            .push((Key::model_weights(&spec.model), spec.model.clone()));
        let (sha256, bytes) = self.write("segment", Key::segment);
        let range = spec.range;
        TaskResult::Upscale(UpscaleResult {
            segment: SegmentRef { range, sha256, bytes },
        })
    }

    fn assemble(&mut self, spec: &AssembleSpec) -> TaskResult {
        let segments = spec.segments.iter();
        self.reads
            .extend(segments.map(|segment| (Key::segment(&segment.sha256), segment.sha256.clone())));
        let (sha256, bytes) = self.write("episode", Key::segment);
        let frame_count = spec.sd.frame_count;
        TaskResult::Assemble(AssembleResult {
            sha256,
            bytes,
            frame_count,
        })
    }
}

/// An alignment of two sources.
pub(crate) fn alignment() -> Alignment {
    // As it stands in a file, so that what later versions add is taken as its reader takes it where it is not said.
    let alignment = serde_json::json!({
        "version": 1,
        "lattice": "sd-native",
        "scale": 2,
        "segments": [{"sd": {"start": 0, "end": FRAMES}, "offset": 0, "zncc": 1.0, "discriminating": 1}],
        "transform": {"sx": 2.0, "sy": 2.0, "tx": 0.0, "ty": 0.0},
        "colour": ColourTransform::IDENTITY,
        "active": {"x": 0, "y": 0, "width": 8, "height": 8},
    });
    serde_json::from_value(alignment).expect("version 1 stays readable")
}

fn align() -> TaskResult {
    let shards = (0..SHARDS).map(|number| ShardFrames {
        number,
        frames: vec![PairChoice {
            sd: number,
            hd: number,
            shot: number,
            segment: 0,
        }],
    });
    TaskResult::Align(AlignResult {
        alignment: alignment(),
        shards: shards.collect(),
    })
}

fn plan() -> TaskResult {
    let starts = (0..FRAMES).step_by(SEGMENT_FRAMES as usize);
    let segments = starts.map(|start| FrameRange {
        start,
        end: start + SEGMENT_FRAMES,
    });
    TaskResult::Plan(PlanResult {
        segments: segments.collect(),
    })
}
