//! Cuts an episode into segments: at scene cuts where there are any, since the encoder wants a key frame there anyway.
//!
//! Frames bound a segment's cost and seconds bound what a player must seek over, so both are limited: whatever the frame
//! rate, and where it varies, no segment is shown for longer than [`SEGMENT_SECONDS_MAX`], unless one frame alone is.

use remaster_domain::{
    Container, FrameRange, OutputList, PlanResult, PlanSpec, Rational, SourceIndex, TaskResult,
    UpscaleSettings,
};
use remaster_media::{check_streams, try_encoder};
use remaster_proto::Completion;

use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Shorter segments cost more in key frames and start-up than they save when a worker is lost.
const SEGMENT_FRAMES_MIN: u32 = 24;
/// Segments of an episode: as many as a task's result holds with some room, and five hours of ten seconds each.
const SEGMENTS_MAX: usize = 2_000;
/// Longest time that a segment of several frames is shown.
const SEGMENT_SECONDS_MAX: i64 = 10;

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
    check_count(segments.len()).map_err(|reason| {
        WorkError::BadInput(format!("{}: {} {reason}", spec.episode, spec.sd.source.name))
    })?;
    Ok(Completion {
        result: TaskResult::Plan(PlanResult { segments }),
        objects: Vec::new(),
    })
}

/// Why a source of so many segments cannot be planned, in words that follow its name.
fn check_count(segments: usize) -> Result<(), String> {
    match segments {
        0 => Err("has no frames".to_owned()),
        1..=SEGMENTS_MAX => Ok(()),
        _ => Err(format!(
            "has {segments} segments, at most {SEGMENTS_MAX} make an episode: raise `segment_frames_max`, or cut the file in two"
        )),
    }
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

/// Ranges of source frames that cover every frame once, cut so that none shows more than `frames_max` frames or lasts
/// longer than [`SEGMENT_SECONDS_MAX`], and each shows at least one.
pub(crate) fn plan_segments(index: &SourceIndex, outputs: &OutputList, frames_max: u32) -> Vec<FrameRange> {
    let shown = &outputs.frames;
    let place = |frame: u32| shown.partition_point(|output| output.source < frame) as u32;
    let mut cuts: Vec<u32> = index.cuts.iter().map(|&cut| place(cut)).collect();
    cuts.dedup();
    let limits = Limits {
        frames_max: frames_max.max(1),
        ticks_max: ticks(index.video.time_base, SEGMENT_SECONDS_MAX, 1),
    };
    let ranges = cover(&times(index.video.time_base, outputs), &cuts, limits);
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

/// When each frame that goes out is shown, and at last when the last one is over, in ticks.
fn times(time_base: Rational, outputs: &OutputList) -> Vec<i64> {
    let mut times: Vec<i64> = outputs.frames.iter().map(|output| output.pts).collect();
    if let Some(&last) = times.last() {
        let rate = outputs.frame_rate;
        times.push(last.saturating_add(ticks(time_base, rate.den, rate.num)));
    }
    times
}

/// Whole ticks in `num / den` seconds.
fn ticks(time_base: Rational, num: i64, den: i64) -> i64 {
    let scaled = i128::from(num) * i128::from(time_base.den);
    let ticks = scaled / (i128::from(den) * i128::from(time_base.num)).max(1);
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// How long a segment may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// In frames, at least 1.
    frames_max: u32,
    /// In ticks, from when its first frame is shown to when the next segment's is.
    ticks_max: i64,
}

impl Limits {
    /// Frames that a segment may have which starts at frame `start`: at least 1, however long that one is shown.
    fn longest_from(self, start: u32, times: &[i64]) -> u32 {
        let after = &times[start as usize + 1..];
        let in_time = |&time: &i64| time.saturating_sub(times[start as usize]) <= self.ticks_max;
        (after.partition_point(in_time) as u32).clamp(1, self.frames_max)
    }
}

/// Ranges that cover every frame that goes out once, none longer than it may be; `times` has one entry more than there are
/// frames. Each ends at the last cut that it may end at, or as late as it may where there is none.
fn cover(times: &[i64], cuts: &[u32], limits: Limits) -> Vec<FrameRange> {
    let frames = times.len().saturating_sub(1) as u32;
    let mut segments = Vec::new();
    let mut start = 0;
    while start < frames {
        let end = segment_end(start, frames, cuts, limits.longest_from(start, times));
        segments.push(FrameRange { start, end });
        start = end;
    }
    segments
}

fn segment_end(start: u32, frames: u32, cuts: &[u32], longest: u32) -> u32 {
    if frames - start <= longest {
        return frames;
    }
    let shortest = SEGMENT_FRAMES_MIN.min(longest);
    // What is left over must be long enough too, where that is possible.
    let latest = (start + longest).min(frames.saturating_sub(shortest).max(start + shortest));
    let may_end_at = |cut: &&u32| (start + shortest..=latest).contains(*cut);
    cuts.iter().rev().find(may_end_at).copied().unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// Times of frames that are shown for so many ticks each.
    fn times_of(shown: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut times = vec![-7];
        for ticks in shown {
            times.push(times[times.len() - 1] + ticks);
        }
        times
    }

    const fn limits(frames_max: u32, ticks_max: i64) -> Limits {
        Limits {
            frames_max,
            ticks_max,
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_in_exactly_one_segment_and_none_is_too_long(
            shown in prop::collection::vec(1..200_i64, 1..3000),
            mut cuts in prop::collection::vec(1..3000_u32, 0..40),
            frames_max in 1..400_u32,
            ticks_max in 100..100_000_i64,
        ) {
            cuts.sort_unstable();
            cuts.dedup();
            let (frames, times) = (shown.len() as u32, times_of(shown));
            let segments = cover(&times, &cuts, limits(frames_max, ticks_max));
            let mut next = 0;
            for segment in &segments {
                prop_assert_eq!(segment.start, next);
                prop_assert!(!segment.is_empty() && segment.len() <= frames_max);
                let ticks = times[segment.end as usize] - times[segment.start as usize];
                prop_assert!(ticks <= ticks_max || segment.len() == 1);
                next = segment.end;
            }
            prop_assert_eq!(next, frames);
            // So many frames are never shown for too long.
            let frames_max = frames_max.min((ticks_max / 200) as u32);
            if frames_max >= 2 * SEGMENT_FRAMES_MIN && frames >= SEGMENT_FRAMES_MIN {
                prop_assert!(segments.iter().all(|segment| segment.len() >= SEGMENT_FRAMES_MIN));
            }
        }
    }

    fn ends(times: &[i64], cuts: &[u32], limits: Limits) -> Vec<u32> {
        let segments = cover(times, cuts, limits);
        segments.iter().map(|segment| segment.end).collect()
    }

    #[test]
    fn the_most_segments_that_are_allowed_fit_a_result() {
        check_count(SEGMENTS_MAX).unwrap();
        let refused = check_count(SEGMENTS_MAX + 1).unwrap_err();
        assert!(refused.contains("raise `segment_frames_max`"), "{refused}");
        let last = FrameRange {
            start: 9_999_990,
            end: 9_999_999,
        };
        let segments = vec![last; SEGMENTS_MAX];
        let result = serde_json::to_string(&TaskResult::Plan(PlanResult { segments })).unwrap();
        assert!(
            result.len() <= remaster_domain::TASK_RESULT_BYTES_MAX,
            "{}",
            result.len()
        );
    }

    #[test]
    fn segments_end_at_the_last_cut_in_reach() {
        let times = times_of([1; 600]);
        assert_eq!(
            ends(&times, &[30, 200, 235, 590], limits(240, 10_000)),
            [235, 475, 600]
        );
    }

    #[test]
    fn slow_sources_are_cut_by_time_and_fast_ones_by_frames() {
        let milliseconds = |frame_ms: i64| times_of(vec![frame_ms; 400]);
        assert_eq!(
            ends(&milliseconds(80), &[], limits(240, 10_000)),
            [125, 250, 375, 400]
        );
        assert_eq!(ends(&milliseconds(20), &[], limits(240, 10_000)), [240, 400]);
    }

    #[test]
    fn a_frame_that_is_held_for_longer_than_a_segment_may_be_is_one_of_its_own() {
        let times = times_of([vec![40; 30], vec![12_000], vec![40; 30]].concat());
        assert_eq!(ends(&times, &[], limits(240, 10_000)), [30, 31, 61]);
    }

    #[test]
    fn ten_seconds_are_counted_in_the_ticks_of_the_source() {
        let mpeg = Rational { num: 1, den: 90_000 };
        assert_eq!(ticks(mpeg, SEGMENT_SECONDS_MAX, 1), 900_000);
        assert_eq!(ticks(mpeg, 1001, 24_000), 3753);
    }
}
