//! Reads segments and assembled files back and compares them with what was asked for, before they count.
//!
//! ffprobe reads every packet of both files here: a lost audio track must not be found by the person who watches.

use std::path::Path;

use remaster_domain::{OutputList, THUMB_HEIGHT_PX, THUMB_WIDTH_PX};
use serde::Deserialize;

use crate::child::{Args, Program, run_until};
use crate::mux::StreamPlan;
use crate::proof::FrameThumbs;
use crate::thumbnail::THUMB_BYTES;
use crate::{MediaError, StreamKind};

/// Matroska's clock ticks in milliseconds, and MP4's tracks are written from it.
const PTS_TOLERANCE_MS: i64 = 1;
/// A picture that differs by more from the one encoded, in mean levels of its thumbnail, is another one or broken: even
/// crf 51 stays below.
const PICTURE_LEVELS_MAX: f64 = 12.0;
/// Sound packets that a muxer may drop at the ends (one that is cut in half, one before time zero).
const AUDIO_PACKETS_SLACK: u64 = 2;

/// Decodes the picture of a file whole: thumbnails one after the other. What is damaged is an error.
fn decoded_thumbs(file: &Path, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, MediaError> {
    let filters = format!(
        "format=yuv420p,extractplanes=y,\
         scale={THUMB_WIDTH_PX}:{THUMB_HEIGHT_PX}:flags=area:in_range=full:out_range=full,format=gray"
    );
    let mut args = Args::new(Program::Ffmpeg, "error");
    // A damaged packet ends the decoding instead of being painted over, or at least is complained about.
    args.add(&["-xerror", "-err_detect", "explode"]).input(file);
    args.add(&[
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-vf",
        &filters,
        "-f",
        "rawvideo",
        "pipe:1",
    ]);
    let decoded = run_until(Program::Ffmpeg, &args, stop)?;
    if decoded.success && decoded.messages.is_empty() {
        return Ok(decoded.stdout);
    }
    Err(MediaError::Verify {
        path: file.to_owned(),
        detail: format!("it cannot be decoded: {}", decoded.messages),
    })
}

/// Compares a segment, scaled down, with what was given to the encoder: thumbnails one after the other.
pub(crate) fn verify_pictures(segment: &Path, thumbs: &[u8]) -> Result<(), MediaError> {
    let fail = |detail: String| MediaError::Verify {
        path: segment.to_owned(),
        detail,
    };
    let decoded = decoded_thumbs(segment, &|| false)?;
    let (found, pushed) = (decoded.len() / THUMB_BYTES, thumbs.len() / THUMB_BYTES);
    if decoded.len() != thumbs.len() {
        return Err(fail(format!("{found} of {pushed} frames can be decoded")));
    }
    let pairs = decoded.chunks(THUMB_BYTES).zip(thumbs.chunks(THUMB_BYTES));
    for (number, (found, pushed)) in pairs.enumerate() {
        let sum: u32 = found
            .iter()
            .zip(pushed)
            .map(|(&a, &b)| u32::from(a.abs_diff(b)))
            .sum();
        let off = f64::from(sum) / THUMB_BYTES as f64;
        if off > PICTURE_LEVELS_MAX {
            return Err(fail(format!(
                "picture {number} is {off:.1} levels off what was given to the encoder"
            )));
        }
    }
    Ok(())
}

/// Compares an assembled file, scaled down, with the source: each of its pictures with the frame that the output list has there.
pub(crate) fn verify_whole(
    out: &Path,
    outputs: &OutputList,
    thumbs: &FrameThumbs,
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    let fail = |detail: String| MediaError::Verify {
        path: out.to_owned(),
        detail,
    };
    let decoded = decoded_thumbs(out, stop)?;
    let (found, expected) = (decoded.len() / THUMB_BYTES, outputs.frames.len());
    if found != expected {
        return Err(fail(format!("{found} of {expected} frames can be decoded")));
    }
    let mut pairs = decoded.chunks(THUMB_BYTES).zip(&outputs.frames);
    let unlike = pairs.find_map(|(made, frame)| thumbs.unlike(frame.source, outputs.filter, made));
    unlike.map_or(Ok(()), |detail| Err(fail(detail)))
}

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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::child::run;

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

    #[test]
    fn a_segment_that_is_damaged_or_shows_something_else_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("segment.mkv");
        let mut args = Args::new(Program::Ffmpeg, "error");
        args.add(&["-f", "lavfi", "-i", "color=gray:s=128x72:r=25", "-frames:v", "3"]);
        args.add(&["-c:v", "ffv1", "-level", "3", "-g", "1", "-slicecrc", "1", "-y"]);
        args.file(&segment);
        assert!(run(Program::Ffmpeg, &args).unwrap().success);
        let grey = vec![126; 3 * THUMB_BYTES];
        verify_pictures(&segment, &grey).unwrap();
        let mut other = grey.clone();
        other[THUMB_BYTES..2 * THUMB_BYTES].fill(180);
        for (thumbs, reason) in [(&other[..], "picture 1"), (&grey[THUMB_BYTES..], "3 of 2")] {
            let error = verify_pictures(&segment, thumbs).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8].fill(0x55);
        std::fs::write(&segment, bytes).unwrap();
        assert!(verify_pictures(&segment, &grey).is_err());
    }
}
