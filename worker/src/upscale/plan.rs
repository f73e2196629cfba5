//! Cuts an episode into segments: at scene cuts where there are any, since the encoder wants a key frame there anyway.

use remaster_domain::{FrameRange, PlanResult, PlanSpec, TaskResult};
use remaster_proto::Completion;

use crate::context::Context;
use crate::error::WorkError;

/// Shorter segments cost more in key frames and start-up than they save when a worker is lost.
const SEGMENT_FRAMES_MIN: u32 = 24;

/// Runs a `plan` task.
pub(crate) async fn run(context: &Context, spec: PlanSpec) -> Result<Completion, WorkError> {
    let index = context.index(&spec.sd).await?;
    let frames = index.frames.len() as u32;
    if frames == 0 {
        return Err(WorkError::BadInput(format!(
            "{}: {} has no frames",
            spec.episode, spec.sd.source.name
        )));
    }
    let segments = plan_segments(frames, &index.cuts, spec.settings.segment_frames_max);
    Ok(Completion {
        result: TaskResult::Plan(PlanResult { segments }),
        objects: Vec::new(),
    })
}

/// Ranges that cover every frame once, none longer than `frames_max`. Each ends at the last cut that it may end at, or
/// as late as it may where there is none.
pub(crate) fn plan_segments(frames: u32, cuts: &[u32], frames_max: u32) -> Vec<FrameRange> {
    let longest = frames_max.max(1);
    let shortest = SEGMENT_FRAMES_MIN.min(longest);
    let mut segments = Vec::new();
    let mut start = 0;
    while start < frames {
        let end = segment_end(start, frames, cuts, shortest, longest);
        segments.push(FrameRange { start, end });
        start = end;
    }
    segments
}

fn segment_end(start: u32, frames: u32, cuts: &[u32], shortest: u32, longest: u32) -> u32 {
    if frames - start <= longest {
        return frames;
    }
    // What is left over must be long enough too, where that is possible.
    let latest = (start + longest).min(frames.saturating_sub(shortest).max(start + shortest));
    let may_end_at = |cut: &&u32| (start + shortest..=latest).contains(*cut);
    cuts.iter().rev().find(may_end_at).copied().unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_frame_is_in_exactly_one_segment_and_none_is_too_long(
            frames in 1..3000_u32,
            mut cuts in prop::collection::vec(1..3000_u32, 0..40),
            frames_max in 1..400_u32,
        ) {
            cuts.sort_unstable();
            cuts.dedup();
            let segments = plan_segments(frames, &cuts, frames_max);
            let mut next = 0;
            for segment in &segments {
                prop_assert_eq!(segment.start, next);
                prop_assert!(!segment.is_empty() && segment.len() <= frames_max);
                next = segment.end;
            }
            prop_assert_eq!(next, frames);
            if frames_max >= 2 * SEGMENT_FRAMES_MIN && frames >= SEGMENT_FRAMES_MIN {
                prop_assert!(segments.iter().all(|segment| segment.len() >= SEGMENT_FRAMES_MIN));
            }
        }
    }

    #[test]
    fn segments_end_at_the_last_cut_in_reach() {
        let ends: Vec<u32> = plan_segments(600, &[30, 200, 235, 590], 240)
            .iter()
            .map(|s| s.end)
            .collect();
        assert_eq!(ends, [235, 475, 600]);
    }
}
