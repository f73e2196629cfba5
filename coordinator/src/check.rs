//! What is refused at the door: seasons that cannot lead anywhere and results that do not answer what was asked. Pure.
//!
//! A season is checked again although the command line has done so: whoever speaks the protocol may submit.

use std::collections::BTreeSet;

use remaster_domain::{ContentHash, JobSpec, Stage, TaskResult, TaskSpec, check_needs};
use remaster_store::Key;

/// Ten times the longest-running series' season; a job's tasks are made in one transaction.
const EPISODES_MAX: usize = 1_000;
/// Objects of one commit. The most come from `curate`: a page and a colour table of each episode, a table and the manifest of all.
pub(crate) const OBJECTS_MAX: usize = 2 * EPISODES_MAX + 2;
/// An `align` result must fit its 64 KiB.
const PAIRS_MAX: u32 = 1_200;
/// What an index of the database holds.
const NEEDS_BYTES_MAX: usize = 1_024;
/// Worst quality that the encoders know.
const CRF_MAX: u32 = 51;

/// Why a job of this spec would do nothing, or not what was meant; in words.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_job(job: &JobSpec) -> Result<(), String> {
    let season = &job.season;
    if !matches!(season.scale, 2 | 4) {
        return Err(format!("scale {} is not supported: use 2 or 4", season.scale));
    }
    if !(1..=PAIRS_MAX).contains(&season.pairs_max) {
        return Err(format!(
            "`pairs_max` is {}, expected 1 to {PAIRS_MAX}",
            season.pairs_max
        ));
    }
    if season.settings.crf > CRF_MAX || season.settings.segment_frames_max == 0 {
        return Err(
            "the upscale settings are out of range: crf 0 to 51, segments of 1 frame or more".to_owned(),
        );
    }
    if season.episodes.len() > EPISODES_MAX {
        return Err(format!(
            "{} episodes, at most {EPISODES_MAX} fit one job",
            season.episodes.len()
        ));
    }
    for needs in season.needs.values() {
        check_needs(needs)?;
        if needs.len() > NEEDS_BYTES_MAX {
            return Err(format!(
                "`needs` of {} bytes, at most {NEEDS_BYTES_MAX} are compared",
                needs.len()
            ));
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = season.episodes.iter().find(|episode| !seen.insert(&episode.id)) {
        return Err(format!("episode id `{}` is used twice", twice.id));
    }
    let has_pair = season.episodes.iter().any(|e| e.sd.is_some() && e.hd.is_some());
    let has_sd = season.episodes.iter().any(|e| e.sd.is_some());
    match job.stage {
        Stage::All | Stage::Extract if !has_pair => {
            Err("no episode has both `sd` and `hd`: there is nothing to learn from".to_owned())
        }
        Stage::Upscale if !has_sd => Err("no episode has `sd`: there is nothing to upscale".to_owned()),
        _ => Ok(()),
    }
}

/// Why a result does not answer its spec, in words.
///
/// # Errors
/// The first thing that does not fit.
pub fn check_result(spec: &TaskSpec, result: &TaskResult) -> Result<(), String> {
    if spec.kind() != result.kind() {
        let (asked, given) = (spec.kind().as_str(), result.kind().as_str());
        return Err(format!("the task is `{asked}`, its result is one of `{given}`"));
    }
    match (spec, result) {
        (TaskSpec::Index(_), TaskResult::Index(index)) if index.frame_count == 0 => {
            Err("the index has no frame".to_owned())
        }
        (TaskSpec::Plan(plan), TaskResult::Plan(result)) => {
            let mut next = 0;
            for range in &result.segments {
                if range.start != next || range.is_empty() {
                    return Err(format!("the segments do not cover frame {next} once"));
                }
                next = range.end;
            }
            if next == plan.sd.frame_count {
                Ok(())
            } else {
                let count = plan.sd.frame_count;
                Err(format!(
                    "the segments end at frame {next}, the source has {count}"
                ))
            }
        }
        (TaskSpec::Upscale(spec), TaskResult::Upscale(result)) if spec.range != result.segment.range => {
            Err("the segment shows other frames than were asked for".to_owned())
        }
        (TaskSpec::Assemble(spec), TaskResult::Assemble(result))
            if result.frame_count == 0 || result.frame_count > spec.sd.frame_count =>
        {
            // Telecined film has fewer frames than its source; the worker has counted them against its output list.
            let (made, asked) = (result.frame_count, spec.sd.frame_count);
            Err(format!("the episode has {made} frames, its source {asked}"))
        }
        (TaskSpec::Publish(_), TaskResult::Publish(result)) if result.models.is_empty() => {
            Err("no model was published".to_owned())
        }
        _ => Ok(()),
    }
}

/// Objects that a result speaks of: they must be in the store before it counts, named in the commit or not.
#[must_use]
pub fn objects_of(spec: &TaskSpec, result: &TaskResult) -> Vec<Key> {
    match (spec, result) {
        (TaskSpec::Index(spec), TaskResult::Index(result)) => {
            let source = &spec.source.sha256;
            vec![
                Key::index(source, &result.index),
                Key::thumbs(source, &result.index),
            ]
        }
        (_, TaskResult::Extract(result)) => {
            let shards = result.shard.iter();
            shards
                .flat_map(|shard| [Key::shard(&shard.sha256), Key::shard_index(&shard.sha256)])
                .collect()
        }
        (TaskSpec::Curate(spec), TaskResult::Curate(result)) => {
            vec![Key::dataset_object(&spec.season, &result.manifest)]
        }
        (_, TaskResult::Train(result)) => checkpoint_objects(&result.checkpoint),
        (_, TaskResult::Publish(result)) => {
            let models = result.models.iter();
            models
                .flat_map(|model| [Key::model_weights(&model.id), Key::model_card(&model.id)])
                .collect()
        }
        (_, TaskResult::Upscale(result)) => vec![Key::segment(&result.segment.sha256)],
        (_, TaskResult::Assemble(result)) => vec![Key::segment(&result.sha256)],
        _ => vec![],
    }
}

/// Objects of a checkpoint.
#[must_use]
pub fn checkpoint_objects(checkpoint: &ContentHash) -> Vec<Key> {
    vec![
        Key::checkpoint_state(checkpoint),
        Key::checkpoint_tensors(checkpoint),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{FrameRange, IndexedSource, PlanResult, PlanSpec, SourceRef, UpscaleSettings};

    use super::*;

    fn plan(ranges: &[(u32, u32)]) -> Result<(), String> {
        let hash = ContentHash::of(b"x");
        let spec = TaskSpec::Plan(PlanSpec {
            episode: "e1".parse().unwrap(),
            sd: IndexedSource {
                source: SourceRef {
                    sha256: hash.clone(),
                    bytes: 1,
                    name: "a".to_owned(),
                    path_hint: None,
                },
                index: hash.clone(),
                frame_count: 10,
            },
            model: hash,
            settings: UpscaleSettings::default(),
        });
        let segments = ranges
            .iter()
            .map(|&(start, end)| FrameRange { start, end })
            .collect();
        check_result(&spec, &TaskResult::Plan(PlanResult { segments }))
    }

    #[test]
    fn a_plan_covers_every_frame_once() {
        assert_eq!(plan(&[(0, 4), (4, 10)]), Ok(()));
        for wrong in [
            &[(0, 4), (5, 10)][..],
            &[(0, 4), (3, 10)],
            &[(0, 9)],
            &[(0, 4), (4, 4), (4, 10)],
            &[],
        ] {
            assert!(plan(wrong).is_err(), "{wrong:?}");
        }
    }
}
