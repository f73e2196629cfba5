//! What follows from what: from a submitted season and from every committed task to the next tasks. Pure.
//!
//! index -> align -> extract -> curate -> train -> publish -> plan -> upscale -> assemble; where an episode has no DVD, between
//! extract and curate: press -> align -> extract.
//!
//! Promises: names are unique in a job and made from ids alone, so making the same task twice is making it once; nothing
//! here looks at the whole job, so a commit costs the same in a job of ten tasks and of a million. A dead task stops
//! only what needs its result. Left to others: reading the facts, inserting, and work that was done before.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::{
    AlignResult, AlignSpec, AssembleSpec, ContentHash, CurateEpisode, CurateSpec, Episode, EpisodeId,
    EpisodeSpan, ExtractSpec, FieldChoice, IndexResult, IndexSpec, IndexedSource, JobSpec, PlanResult,
    PlanSpec, PressResult, PressSpec, PressedLike, PublishSpec, RunId, SegmentRef, ShardRef, SourceRef,
    Stage, TaskSpec, TrainResult, TrainSpec, UpscaleSpec,
};
use remaster_store::Key;

/// Gate of every task that `curate` waits for.
pub const PAIRS_GATE: &str = "pairs";
/// Name of the one curate task of a job.
pub const CURATE_NAME: &str = "curate";
/// Episodes that a made DVD is like: their median is the season's, and more would not change it.
const PRESSED_LIKE_MAX: usize = 9;
/// Digits of the hash that name a run: enough that two runs never meet.
const RUN_DIGITS: usize = 16;

/// A task to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Unique in the job.
    pub name: String,
    /// Tasks of the same gate are waited for together; empty where nothing waits for a group.
    pub gate: String,
    /// What to do.
    pub spec: TaskSpec,
}

/// Indexes that are committed, by source.
pub type Indexes = BTreeMap<ContentHash, IndexResult>;

/// A job's spec with the places of the episodes that each source belongs to: every commit of an index asks for them, and a
/// season may have thousands.
#[derive(Debug)]
pub struct Job {
    spec: JobSpec,
    /// Sorted by what they hold, and then by episode.
    discs: Vec<Disc>,
}

/// A source of an episode.
#[derive(Debug, Clone, Copy)]
struct Disc {
    episode: usize,
    is_hd: bool,
}

impl Job {
    /// Looks at every episode once.
    #[must_use]
    pub fn new(spec: JobSpec) -> Self {
        let episodes = &spec.season.episodes;
        let mut discs: Vec<Disc> = (0..episodes.len())
            .flat_map(|episode| [false, true].map(|is_hd| Disc { episode, is_hd }))
            .filter(|disc| disc.source(episodes).is_some())
            .collect();
        discs.sort_by_key(|disc| disc.source(episodes));
        discs.dedup_by_key(|disc| (disc.source(episodes), disc.episode));
        Self { spec, discs }
    }

    fn episodes_with(&self, source: &ContentHash) -> impl Iterator<Item = &Episode> {
        let episodes = &self.spec.season.episodes;
        let first = self
            .discs
            .partition_point(|disc| disc.source(episodes) < Some(source));
        let discs = self.discs[first..].iter();
        discs
            .take_while(move |disc| disc.source(episodes) == Some(source))
            .map(|disc| &episodes[disc.episode])
    }
}

impl Disc {
    fn source(self, episodes: &[Episode]) -> Option<&ContentHash> {
        let episode = &episodes[self.episode];
        let source = if self.is_hd { &episode.hd } else { &episode.sd };
        source.as_ref().map(|source| &source.sha256)
    }
}

impl std::ops::Deref for Job {
    type Target = JobSpec;

    fn deref(&self) -> &JobSpec {
        &self.spec
    }
}

/// First tasks of a job that decodes sources: one index for each distinct source it needs.
#[must_use]
pub fn indexes(job: &Job) -> Vec<NewTask> {
    let mut seen = BTreeSet::new();
    let mut tasks = vec![];
    let pressed: BTreeSet<&EpisodeId> = pressed(job).map(|episode| &episode.id).collect();
    for episode in &job.season.episodes {
        for source in sources_needed(job.stage, episode, pressed.contains(&episode.id)) {
            if seen.insert(&source.sha256) {
                tasks.push(NewTask {
                    name: index_name(&source.sha256),
                    gate: index_gate(job, &source.sha256),
                    spec: TaskSpec::Index(IndexSpec {
                        source: source.clone(),
                    }),
                });
            }
        }
    }
    tasks
}

/// Name of the index task of a source.
#[must_use]
pub fn index_name(source: &ContentHash) -> String {
    format!("index/{source}")
}

/// Sources whose indexes decide what follows once this source's is committed.
#[must_use]
pub fn sources_beside(job: &Job, source: &ContentHash) -> BTreeSet<ContentHash> {
    job.episodes_with(source)
        .flat_map(|episode| [&episode.sd, &episode.hd])
        .flatten()
        .map(|source| source.sha256.clone())
        .collect()
}

/// Follows an index: episodes with both indexes are aligned, and upscaled ones planned when the model is known.
#[must_use]
pub fn after_index(
    job: &Job,
    source: &ContentHash,
    indexes: &Indexes,
    model: Option<&ContentHash>,
) -> Vec<NewTask> {
    let mut tasks = vec![];
    for episode in job.episodes_with(source) {
        tasks.extend(align(job, episode, indexes));
        tasks.extend(model.and_then(|model| plan(job, episode, indexes, model)));
    }
    tasks
}

/// Follows an alignment: its shards.
#[must_use]
pub fn after_align(align: &AlignSpec, result: &AlignResult) -> Vec<NewTask> {
    let shards = result.shards.iter().filter(|shard| !shard.frames.is_empty());
    shards
        .map(|shard| NewTask {
            name: format!("extract/{}/{:03}", align.episode, shard.number),
            gate: PAIRS_GATE.to_owned(),
            spec: TaskSpec::Extract(ExtractSpec {
                episode: align.episode.clone(),
                span: align.span.clone(),
                alignment: result.alignment.clone(),
                shard: shard.clone(),
                nnedi_weights: align.nnedi_weights.clone(),
            }),
        })
        .collect()
}

/// Episodes of which a DVD has to be made: those with a Blu-ray alone, in a season whose other DVDs say how.
pub fn pressed(job: &JobSpec) -> impl Iterator<Item = &Episode> {
    let episodes = &job.season.episodes;
    let has_like = makes_dataset(job.stage) && episodes.iter().any(has_both);
    let alone = episodes
        .iter()
        .filter(|episode| episode.sd.is_none() && episode.hd.is_some());
    alone.filter(move |_| has_like)
}

/// Name of the task that makes an episode's DVD.
#[must_use]
pub fn press_name(episode: &EpisodeId) -> String {
    format!("press/{episode}")
}

/// Follows the pairs of all discs that were bought: the DVDs that are missing, made like those of `like`, the episodes with both
/// in the season's order.
#[must_use]
pub fn presses(job: &JobSpec, indexes: &Indexes, like: &[PressedLike]) -> Vec<NewTask> {
    let like = &like[..like.len().min(PRESSED_LIKE_MAX)];
    let press = |episode: &Episode| {
        Some(NewTask {
            name: press_name(&episode.id),
            gate: PAIRS_GATE.to_owned(),
            spec: TaskSpec::Press(PressSpec {
                episode: episode.id.clone(),
                hd: indexed(episode.hd.as_ref()?, indexes)?,
                like: like.to_vec(),
            }),
        })
    };
    if like.is_empty() {
        return vec![];
    }
    pressed(job).filter_map(press).collect()
}

/// What the aligned episodes say of how their DVDs were made, in the season's order.
#[must_use]
pub fn like(job: &JobSpec, aligned: &[CurateEpisode]) -> Vec<PressedLike> {
    let of = |episode: &Episode| aligned.iter().find(|aligned| aligned.episode == episode.id);
    let bought = job
        .season
        .episodes
        .iter()
        .filter_map(of)
        .filter(|aligned| !aligned.span.synthetic);
    let like = bought.map(|aligned| PressedLike {
        span: aligned.span.clone(),
        transform: aligned.alignment.transform,
        active: aligned.alignment.active,
        colour: aligned.alignment.colour,
    });
    like.collect()
}

/// Follows a made DVD: it is aligned like one that was bought.
#[must_use]
pub fn after_press(job: &JobSpec, press: &PressSpec, result: &PressResult) -> NewTask {
    let span = EpisodeSpan {
        sd: result.sd.clone(),
        hd: press.hd.clone(),
        synthetic: true,
    };
    align_discs(job, &press.episode, span)
}

/// Whether a job of this stage makes a dataset.
#[must_use]
pub const fn makes_dataset(stage: Stage) -> bool {
    matches!(stage, Stage::All | Stage::Extract)
}

/// Whether a job of this stage upscales.
#[must_use]
pub const fn upscales(stage: Stage) -> bool {
    matches!(stage, Stage::All | Stage::Upscale)
}

/// Follows the last of the pairs: one dataset of all shards, `(number within the episode, shard)` in any order, with what is
/// known of each episode.
#[must_use]
pub fn curate(job: &JobSpec, mut shards: Vec<(u32, ShardRef)>, mut episodes: Vec<CurateEpisode>) -> NewTask {
    let place: BTreeMap<&EpisodeId, usize> = job
        .season
        .episodes
        .iter()
        .enumerate()
        .map(|(at, episode)| (&episode.id, at))
        .collect();
    shards.sort_by_key(|(number, shard)| (place.get(&shard.episode).copied(), *number));
    episodes.sort_by_key(|episode| place.get(&episode.episode).copied());
    NewTask {
        name: CURATE_NAME.to_owned(),
        gate: String::new(),
        spec: TaskSpec::Curate(CurateSpec {
            season: job.season.name.clone(),
            lattice: job.season.lattice,
            scale: job.season.scale,
            shards: shards.into_iter().map(|(_, shard)| shard).collect(),
            episodes,
        }),
    }
}

/// Follows a dataset: its training run. Named by content, so the same training is the same run wherever it is asked for.
#[must_use]
pub fn train(job: &JobSpec, dataset: &ContentHash) -> NewTask {
    let season = &job.season;
    let mut identity = serde_json::json!([season.name, dataset, season.recipe, season.scale, season.seed]);
    // Only where there is one: runs that began from noise keep the names they had.
    if let (Some(model), Some(parts)) = (&season.pretrained, identity.as_array_mut()) {
        parts.push(serde_json::json!(model));
    }
    let hash = ContentHash::of(identity.to_string().as_bytes());
    let run: RunId = format!("run-{}", &hash.as_str()[..RUN_DIGITS])
        .parse()
        .expect("hex digits and a hyphen make an id");
    NewTask {
        name: "train".to_owned(),
        gate: String::new(),
        spec: TaskSpec::Train(TrainSpec {
            run,
            season: season.name.clone(),
            dataset: dataset.clone(),
            // The object, not its number: it is there already, and the same dataset under another number is the same work.
            dataset_key: Key::dataset_object(&season.name, dataset).into(),
            scale: season.scale,
            recipe: season.recipe.clone(),
            seed: season.seed,
            pretrained: season.pretrained.clone(),
        }),
    }
}

/// Follows a training run: its models.
#[must_use]
pub fn publish(train: &TrainSpec, result: &TrainResult) -> NewTask {
    NewTask {
        name: "publish".to_owned(),
        gate: String::new(),
        spec: TaskSpec::Publish(PublishSpec {
            run: train.run.clone(),
            dataset: train.dataset.clone(),
            dataset_key: train.dataset_key.clone(),
            checkpoint: result.checkpoint.clone(),
            recipe: train.recipe.clone(),
        }),
    }
}

/// Follows a published model: a plan for every episode whose SD index is committed.
#[must_use]
pub fn plans(job: &JobSpec, indexes: &Indexes, model: &ContentHash) -> Vec<NewTask> {
    let episodes = job.season.episodes.iter();
    episodes
        .filter_map(|episode| plan(job, episode, indexes, model))
        .collect()
}

/// Follows a plan: its segments.
#[must_use]
pub fn after_plan(plan: &PlanSpec, result: &PlanResult) -> Vec<NewTask> {
    let segments = result.segments.iter().enumerate();
    segments
        .map(|(number, range)| NewTask {
            name: format!("upscale/{}/{number:04}", plan.episode),
            gate: segments_gate(&plan.episode),
            spec: TaskSpec::Upscale(UpscaleSpec {
                episode: plan.episode.clone(),
                sd: plan.sd.clone(),
                range: *range,
                model: plan.model.clone(),
                settings: plan.settings.clone(),
            }),
        })
        .collect()
}

/// Gate of an episode's segments.
#[must_use]
pub fn segments_gate(episode: &EpisodeId) -> String {
    format!("upscale/{episode}")
}

/// Follows the last segment of an episode: the whole of it, from its segments in any order.
#[must_use]
pub fn assemble(last: &UpscaleSpec, mut segments: Vec<SegmentRef>) -> NewTask {
    segments.sort_by_key(|segment| segment.range.start);
    NewTask {
        name: format!("assemble/{}", last.episode),
        gate: String::new(),
        spec: TaskSpec::Assemble(AssembleSpec {
            episode: last.episode.clone(),
            sd: last.sd.clone(),
            segments,
            settings: last.settings.clone(),
        }),
    }
}

fn align(job: &JobSpec, episode: &Episode, indexes: &Indexes) -> Option<NewTask> {
    if !makes_dataset(job.stage) {
        return None;
    }
    let span = EpisodeSpan {
        sd: indexed(episode.sd.as_ref()?, indexes)?,
        hd: indexed(episode.hd.as_ref()?, indexes)?,
        synthetic: false,
    };
    Some(align_discs(job, &episode.id, span))
}

fn align_discs(job: &JobSpec, episode: &EpisodeId, span: EpisodeSpan) -> NewTask {
    let settings = &job.season.settings;
    NewTask {
        name: format!("align/{episode}"),
        gate: PAIRS_GATE.to_owned(),
        spec: TaskSpec::Align(AlignSpec {
            episode: episode.clone(),
            span,
            lattice: job.season.lattice,
            scale: job.season.scale,
            pairs_max: job.season.pairs_max,
            fields: settings.fields,
            // Weights that nothing is made with do not make it other work.
            nnedi_weights: settings
                .nnedi_weights
                .clone()
                .filter(|_| settings.fields == FieldChoice::Deinterlace),
        }),
    }
}

fn plan(job: &JobSpec, episode: &Episode, indexes: &Indexes, model: &ContentHash) -> Option<NewTask> {
    if !upscales(job.stage) {
        return None;
    }
    Some(NewTask {
        name: format!("plan/{}", episode.id),
        gate: String::new(),
        spec: TaskSpec::Plan(PlanSpec {
            episode: episode.id.clone(),
            sd: indexed(episode.sd.as_ref()?, indexes)?,
            model: model.clone(),
            settings: job.season.settings.clone(),
        }),
    })
}

fn indexed(source: &SourceRef, indexes: &Indexes) -> Option<IndexedSource> {
    let index = indexes.get(&source.sha256)?;
    Some(IndexedSource {
        source: source.clone(),
        index: index.index.clone(),
        frame_count: index.frame_count,
    })
}

fn has_both(episode: &Episode) -> bool {
    episode.sd.is_some() && episode.hd.is_some()
}

/// A Blu-ray alone is of use where a DVD is made of it, and of none to upscaling.
fn sources_needed(stage: Stage, episode: &Episode, is_pressed: bool) -> Vec<&SourceRef> {
    let all = || episode.sd.iter().chain(&episode.hd).collect::<Vec<_>>();
    match stage {
        Stage::Train => vec![],
        Stage::All | Stage::Extract if has_both(episode) || is_pressed => all(),
        Stage::Extract => vec![],
        Stage::All | Stage::Upscale => episode.sd.iter().collect(),
    }
}

/// A source that no pair comes from is not waited for by `curate`.
fn index_gate(job: &Job, source: &ContentHash) -> String {
    let feeds_pairs = makes_dataset(job.stage)
        && job
            .episodes_with(source)
            .any(|episode| has_both(episode) || pressed(job).any(|other| other.id == episode.id));
    if feeds_pairs {
        PAIRS_GATE.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{Lattice, ModelRef, Season, UpscaleSettings};

    use super::*;

    fn source(name: &str) -> SourceRef {
        SourceRef {
            sha256: ContentHash::of(name.as_bytes()),
            bytes: 1,
            name: name.to_owned(),
            path_hint: None,
        }
    }

    pub(crate) fn job(stage: Stage, episodes: &[(&str, Option<&str>, Option<&str>)]) -> Job {
        let episodes = episodes.iter().map(|(id, sd, hd)| Episode {
            id: id.parse().unwrap(),
            sd: sd.map(source),
            hd: hd.map(source),
        });
        Job::new(JobSpec {
            season: Season {
                name: "s".parse().unwrap(),
                scale: 2,
                lattice: Lattice::SdNative,
                pairs_max: 10,
                recipe: "esrgan".to_owned(),
                seed: 0,
                pretrained: None,
                model: ModelRef::Channel("latest".to_owned()),
                settings: UpscaleSettings::default(),
                needs: std::collections::BTreeMap::new(),
                episodes: episodes.collect(),
            },
            stage,
        })
    }

    fn committed(names: &[&str]) -> Indexes {
        let index = IndexResult {
            index: ContentHash::of(b"index"),
            frame_count: 5,
        };
        let entries = names.iter().map(|name| (source(name).sha256, index.clone()));
        entries.collect()
    }

    fn names(tasks: &[NewTask]) -> Vec<&str> {
        tasks.iter().map(|task| task.name.as_str()).collect()
    }

    const SEASON: [(&str, Option<&str>, Option<&str>); 3] = [
        ("e1", Some("a"), Some("A")),
        ("e2", Some("b"), None),
        ("e3", None, Some("C")),
    ];

    const TWICE: remaster_domain::Transform = remaster_domain::Transform {
        sx: 2.0,
        sy: 2.0,
        tx: 0.0,
        ty: 0.0,
    };
    const AREA: remaster_domain::ActiveArea = remaster_domain::ActiveArea {
        x: 0,
        y: 0,
        width: 9,
        height: 9,
    };

    #[test]
    fn each_stage_decodes_only_what_it_needs() {
        let count = |stage| indexes(&job(stage, &SEASON)).len();
        assert_eq!(count(Stage::All), 4, "a, A, b and C");
        assert_eq!(count(Stage::Extract), 3, "a, A and C");
        assert_eq!(count(Stage::Upscale), 2, "a and b");
        assert_eq!(count(Stage::Train), 0);
    }

    #[test]
    fn a_source_of_two_episodes_is_decoded_once_and_followed_in_both() {
        let job = job(
            Stage::Upscale,
            &[("e1", Some("a"), None), ("e2", Some("a"), None)],
        );
        assert_eq!(indexes(&job).len(), 1);
        let model = ContentHash::of(b"model");
        let next = after_index(&job, &source("a").sha256, &committed(&["a"]), Some(&model));
        assert_eq!(names(&next), ["plan/e1", "plan/e2"]);
    }

    #[test]
    fn only_sources_that_feed_pairs_hold_curate_back() {
        let tasks = indexes(&job(Stage::All, &SEASON));
        let gates: Vec<_> = tasks.iter().map(|task| task.gate.as_str()).collect();
        assert_eq!(gates, [PAIRS_GATE, PAIRS_GATE, "", PAIRS_GATE]);
        let alone = job(Stage::All, &[("e1", None, Some("C")), ("e2", Some("b"), None)]);
        assert_eq!(names(&indexes(&alone)).len(), 1, "no DVD says how C's would be");
    }

    #[test]
    fn a_dvd_is_made_like_the_first_episodes_that_have_one_and_aligned_as_made() {
        let job = job(Stage::Extract, &SEASON);
        let like = |name: &str| {
            let disc = indexed(&source(name), &committed(&[name])).unwrap();
            PressedLike {
                span: EpisodeSpan {
                    sd: disc.clone(),
                    hd: disc,
                    synthetic: false,
                },
                transform: TWICE,
                active: AREA,
                colour: remaster_domain::ColourTransform::IDENTITY,
            }
        };
        let many: Vec<PressedLike> = (0..20).map(|n| like(&n.to_string())).collect();
        let known = committed(&["C"]);
        assert!(presses(&job, &known, &[]).is_empty());
        assert!(
            presses(&job, &Indexes::new(), &many).is_empty(),
            "its index failed"
        );
        let tasks = presses(&job, &known, &many);
        assert_eq!(names(&tasks), ["press/e3"]);
        assert_eq!(tasks[0].gate, PAIRS_GATE);
        let TaskSpec::Press(spec) = &tasks[0].spec else {
            panic!("not press")
        };
        assert_eq!(spec.like, many[..PRESSED_LIKE_MAX]);
        let sd = like("made").span.sd;
        let align = after_press(&job, spec, &PressResult { sd: sd.clone() });
        assert_eq!(
            (align.name.as_str(), align.gate.as_str()),
            ("align/e3", PAIRS_GATE)
        );
        let TaskSpec::Align(align) = align.spec else {
            panic!("not align")
        };
        assert!(align.span.synthetic && align.span.sd == sd && align.span.hd == spec.hd);
    }

    #[test]
    fn an_episode_is_aligned_once_both_indexes_are_there() {
        let job = job(Stage::All, &SEASON);
        let after = |known: &[&str]| after_index(&job, &source("a").sha256, &committed(known), None);
        assert!(after(&["a"]).is_empty());
        assert_eq!(names(&after(&["a", "A"])), ["align/e1"]);
    }

    #[test]
    fn weights_of_nnedi_go_with_episodes_whose_frames_are_deinterlaced_and_with_no_others() {
        let weights = ContentHash::of(b"weights");
        let aligned_with = |fields| {
            let mut job = job(Stage::Extract, &SEASON);
            job.spec.season.settings.fields = fields;
            job.spec.season.settings.nnedi_weights = Some(weights.clone());
            let task = align(&job, &job.season.episodes[0], &committed(&["a", "A"])).unwrap();
            let TaskSpec::Align(spec) = task.spec else {
                panic!("not align")
            };
            spec
        };
        assert_eq!(aligned_with(FieldChoice::Auto).nnedi_weights, None);
        let align = aligned_with(FieldChoice::Deinterlace);
        assert_eq!(align.nnedi_weights, Some(weights.clone()));
        let result = AlignResult {
            alignment: remaster_domain::Alignment {
                version: 1,
                lattice: Lattice::SdNative,
                scale: 2,
                segments: vec![],
                transform: TWICE,
                colour: remaster_domain::ColourTransform::IDENTITY,
                curves: None,
                active: AREA,
                moved: vec![],
                coding: None,
                fields: remaster_domain::FieldFilter::Deinterlace,
            },
            shards: vec![remaster_domain::ShardFrames {
                number: 0,
                frames: vec![remaster_domain::PairChoice {
                    sd: 1,
                    hd: 1,
                    shot: 0,
                    segment: 0,
                }],
            }],
        };
        let tasks = after_align(&align, &result);
        let TaskSpec::Extract(extract) = &tasks[0].spec else {
            panic!("not extract")
        };
        assert_eq!(extract.nnedi_weights, Some(weights));
    }

    #[test]
    fn shards_are_curated_in_episode_order_then_shard_order() {
        let shard = |episode: &str, number| {
            let shard = ShardRef {
                episode: episode.parse().unwrap(),
                sha256: ContentHash::of(format!("{episode}{number}").as_bytes()),
                bytes: 1,
                keys: vec![],
            };
            (number, shard)
        };
        let job = job(Stage::All, &[("z", None, None), ("a", None, None)]);
        let shards = vec![shard("a", 0), shard("z", 10), shard("z", 2)];
        let task = curate(&job, shards, vec![]);
        let TaskSpec::Curate(spec) = task.spec else {
            panic!("not curate")
        };
        let order: Vec<_> = spec.shards.into_iter().map(|shard| shard.sha256).collect();
        assert_eq!(
            order,
            [shard("z", 2), shard("z", 10), shard("a", 0)].map(|(_, s)| s.sha256)
        );
    }

    #[test]
    fn a_run_is_named_by_everything_that_is_trained() {
        let run = |edit: fn(&mut Season), dataset: &[u8]| {
            let mut job = job(Stage::All, &SEASON);
            edit(&mut job.spec.season);
            let TaskSpec::Train(spec) = train(&job, &ContentHash::of(dataset)).spec else {
                panic!("not train")
            };
            spec.run
        };
        let same = run(|_| {}, b"d");
        assert_eq!(
            same,
            run(|season| season.pairs_max = 1, b"d"),
            "the dataset says it already"
        );
        assert_ne!(same, run(|season| season.seed = 1, b"d"));
        let from = |season: &mut Season| season.pretrained = Some(ContentHash::of(b"weights"));
        assert_ne!(same, run(from, b"d"));
        assert_ne!(same, run(|season| season.recipe.push('x'), b"d"));
        assert_ne!(same, run(|_| {}, b"e"));
    }
}
