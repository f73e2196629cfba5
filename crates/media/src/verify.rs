//! Reads an assembled file back and compares it with what was asked for, before it gets its name.
//!
//! ffprobe reads every packet of both files here: a lost audio track must not be found by the person who watches.

use std::path::Path;

use serde::Deserialize;

use crate::child::{Args, Program, run_until};
use crate::mux::StreamPlan;
use crate::{MediaError, StreamKind};

/// Matroska's clock ticks in milliseconds, and MP4's tracks are written from it.
const PTS_TOLERANCE_MS: i64 = 1;
/// Sound packets that a muxer may drop at the ends (one that is cut in half, one before time zero).
const AUDIO_PACKETS_SLACK: u64 = 2;

/// Checks the file against the output list's timestamps and the streams that were to go along.
pub(crate) fn verify(
    out: &Path,
    source: &Path,
    plan: &StreamPlan,
    expected_pts_ms: &[i64],
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    let fail = |detail: String| MediaError::Verify {
        path: out.to_owned(),
        detail,
    };
    let made = count_packets(out, stop)?;
    if made.len() != plan.kept.len() + 1 {
        return Err(fail(format!(
            "{} streams instead of {}",
            made.len(),
            plan.kept.len() + 1
        )));
    }
    let has_audio = plan.kept.iter().any(|kept| kept.kind == StreamKind::Audio);
    let original = if has_audio {
        count_packets(source, stop)?
    } else {
        Vec::new()
    };
    for (kept, made) in plan.kept.iter().zip(&made[1..]) {
        let name = format!("stream {} ({:?})", kept.index, kept.kind);
        if made.kind != kind_name(kept.kind) {
            return Err(fail(format!("{name} became {}", made.kind)));
        }
        if kept.kind != StreamKind::Audio || kept.codec != "copy" {
            continue;
        }
        let expected = original
            .iter()
            .find(|s| s.index == kept.index)
            .map_or(0, RawCount::packets);
        if made.packets() + AUDIO_PACKETS_SLACK < expected {
            return Err(fail(format!(
                "{name} has {} of {expected} packets",
                made.packets()
            )));
        }
    }
    check_timestamps(&video_pts_ms(out, stop)?, expected_pts_ms).map_err(fail)
}

/// Every frame once, each at its time. When the source has sound from before time zero, Matroska, which knows no
/// negative time, shifts all streams alike; so one common shift is allowed then.
fn check_timestamps(found: &[i64], expected: &[i64]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} frames instead of {}", found.len(), expected.len()));
    }
    let mut sorted = found.to_vec();
    sorted.sort_unstable();
    let shift = sorted
        .iter()
        .zip(expected)
        .next()
        .map_or(0, |(found, expected)| (found - expected).max(0));
    let off = |(found, expected): (&i64, &i64)| (found - expected - shift).abs() > PTS_TOLERANCE_MS;
    match sorted.iter().zip(expected).position(off) {
        None => Ok(()),
        Some(at) => Err(format!(
            "frame {at} is shown at {} ms instead of {} ms",
            sorted[at],
            expected[at] + shift
        )),
    }
}

const fn kind_name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Video | StreamKind::Picture => "video",
        StreamKind::Audio => "audio",
        StreamKind::Subtitle => "subtitle",
        StreamKind::Attachment => "attachment",
        StreamKind::Data => "data",
    }
}

#[derive(Deserialize)]
struct Counts {
    streams: Vec<RawCount>,
}

#[derive(Deserialize)]
struct RawCount {
    index: u32,
    #[serde(rename = "codec_type", default)]
    kind: String,
    nb_read_packets: Option<String>,
}

impl RawCount {
    fn packets(&self) -> u64 {
        self.nb_read_packets
            .as_deref()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    }
}

fn count_packets(path: &Path, stop: &dyn Fn() -> bool) -> Result<Vec<RawCount>, MediaError> {
    let mut args = Args::new(Program::Ffprobe, "error");
    args.add(&[
        "-count_packets",
        "-show_entries",
        "stream=index,codec_type,nb_read_packets",
        "-of",
        "json",
    ]);
    let answer = ask(args.input(path), path, stop)?;
    let counts: Counts = serde_json::from_slice(&answer).map_err(|error| MediaError::Failed {
        what: format!("reading ffprobe's answer on {}", path.display()),
        detail: error.to_string(),
    })?;
    Ok(counts.streams)
}

fn video_pts_ms(path: &Path, stop: &dyn Fn() -> bool) -> Result<Vec<i64>, MediaError> {
    let mut args = Args::new(Program::Ffprobe, "error");
    args.add(&[
        "-select_streams",
        "0",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
    ]);
    let answer = ask(args.input(path), path, stop)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text
        .lines()
        .filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok())
        .map(|seconds| (seconds * 1000.0).round() as i64)
        .collect())
}

fn ask(args: &Args, path: &Path, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, MediaError> {
    let finished = run_until(Program::Ffprobe, args, stop)?;
    if finished.success {
        return Ok(finished.stdout);
    }
    let what = format!("reading {} back", path.display());
    Err(MediaError::Failed {
        what,
        detail: finished.messages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_moved_frame_is_seen_and_rounding_is_not() {
        assert_eq!(check_timestamps(&[41, 0, 83], &[0, 42, 83]), Ok(()));
        assert!(check_timestamps(&[0, 42], &[0, 42, 83]).is_err());
        assert!(check_timestamps(&[0, 60, 83], &[0, 42, 83]).is_err());
    }

    #[test]
    fn a_common_shift_later_is_allowed_and_an_earlier_one_is_not() {
        assert_eq!(check_timestamps(&[21, 63, 104], &[0, 42, 83]), Ok(()));
        assert!(check_timestamps(&[0, 42, 83], &[540, 582, 623]).is_err());
    }
}
