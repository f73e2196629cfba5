//! Cuts an episode into segments: at scene cuts where there are any, since the encoder wants a key frame there anyway.

use remaster_domain::{
    Container, FrameRange, OutputList, PlanResult, PlanSpec, SourceIndex, TaskResult, UpscaleSettings,
};
use remaster_media::{check_streams, try_encoder};
use remaster_proto::Completion;

use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Shorter segments cost more in key frames and start-up than they save when a worker is lost.
const SEGMENT_FRAMES_MIN: u32 = 24;

/// Runs a `plan` task. What would only fail once all frames are made fails here: a stream that the output cannot hold, an
/// encoder that is not there.
pub(crate) async fn run(
    context: &Context,
    spec: PlanSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let disc = context.disc(&spec.sd, monitor).await?;
    let settings = spec.settings;
    let segments = monitor
        .blocking(move || {
            check_output(&disc, &settings)?;
            let outputs = OutputList::of(&disc.index, settings.fields);
            Ok(plan_segments(&disc.index, &outputs, settings.segment_frames_max))
        })
        .await?;
    if segments.is_empty() {
        return Err(WorkError::BadInput(format!(
            "{}: {} has no frames",
            spec.episode, spec.sd.source.name
        )));
    }
    Ok(Completion {
        result: TaskResult::Plan(PlanResult { segments }),
        objects: Vec::new(),
    })
}

/// Whether the output can be made at all; what will be left out is logged.
pub(crate) fn check_output(disc: &Disc, settings: &UpscaleSettings) -> Result<(), WorkError> {
    let (encoder, container) = (settings.encoder, settings.container);
    if container == Container::Mp4 && !encoder.fits_mp4() {
        let name = encoder.name();
        return Err(WorkError::BadInput(format!(
            "MP4 does not hold {name}: write MKV"
        )));
    }
    try_encoder(settings)?;
    let left_out = check_streams(disc.file.path(), settings.container).map_err(|error| disc.error(&error))?;
    for warning in left_out {
        tracing::warn!(source = %disc.source.name, warning, "part of the source will be left out");
    }
    Ok(())
}

/// Ranges of source frames that cover every frame once, cut so that none shows more than `frames_max` frames and each shows
/// at least one.
pub(crate) fn plan_segments(index: &SourceIndex, outputs: &OutputList, frames_max: u32) -> Vec<FrameRange> {
    let shown = &outputs.frames;
    let place = |frame: u32| shown.partition_point(|output| output.source < frame) as u32;
    let mut cuts: Vec<u32> = index.cuts.iter().map(|&cut| place(cut)).collect();
    cuts.dedup();
    let ranges = cover(shown.len() as u32, &cuts, frames_max);
    let mut start = 0;
    let source_range = |range: FrameRange| {
        let next = shown.get(range.end as usize).map(|output| output.source);
        let end = next.unwrap_or(index.frames.len() as u32);
        let range = FrameRange { start, end };
        start = end;
        range
    };
    ranges.into_iter().map(source_range).collect()
}

/// Ranges that cover every frame that goes out once, none longer than `frames_max`. Each ends at the last cut that it may end at, or
/// as late as it may where there is none.
fn cover(frames: u32, cuts: &[u32], frames_max: u32) -> Vec<FrameRange> {
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
            let segments = cover(frames, &cuts, frames_max);
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
        let ends: Vec<u32> = cover(600, &[30, 200, 235, 590], 240)
            .iter()
            .map(|s| s.end)
            .collect();
        assert_eq!(ends, [235, 475, 600]);
    }
}
