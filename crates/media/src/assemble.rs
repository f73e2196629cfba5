//! Assembles an episode: segments in, one verified file with the source's sound out.
//!
//! Within a segment only the order of pictures is believed. The n-th picture in presentation order gets the n-th
//! timestamp of the index, so rounding, B-frames and variable frame rates come out as they were. The result is written
//! beside its name, verified, made durable and renamed; the source is only read.

use std::fs::File;
use std::path::{Path, PathBuf};

use remaster_domain::{FrameRange, Rational, SourceIndex};

use crate::matroska::{Packet, PacketFile, Track, TrackWriter};
use crate::mux::{ClockShift, mux, plan_streams};
use crate::verify::verify;
use crate::{MediaError, probe};

/// Longest difference, in milliseconds, of a timestamp from an even grid that still counts as constant frame rate:
/// what Matroska's rounding makes of it.
const CONSTANT_RATE_MS: f64 = 1.0;

/// What came of an assembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Video frames in the file: as many as in the index.
    pub frame_count: u32,
    /// What of the source was left out, for the user.
    pub warnings: Vec<String>,
}

/// Joins segments that cover all frames of the index, in order, and adds the source's other streams, chapters and tags.
/// `sar` is the sample aspect ratio of the segments.
///
/// # Errors
/// Gaps between segments, segments of different settings, a stream that Matroska cannot hold, or an output that fails
/// its verification. `out` is then as it was before.
pub fn assemble(
    segments: &[(PathBuf, FrameRange)],
    source: &Path,
    index: &SourceIndex,
    out: &Path,
    sar: Rational,
) -> Result<Assembled, MediaError> {
    check_cover(segments, index)?;
    let probed = probe(source)?;
    let plan = plan_streams(source, &probed)?;
    let pts_ms = index_ms(index);
    let shift = ClockShift {
        video_ms: pts_ms[0].min(0),
    };
    let video = Partial::beside(out, "video")?;
    join(segments, index, &pts_ms, shift, &video.0, sar)?;
    let whole = Partial::beside(out, "whole")?;
    mux(&video.0, shift, source, &probed, &plan, &whole.0)?;
    verify(&whole.0, source, &plan, &pts_ms)?;
    publish(&whole.0, out)?;
    for warning in &plan.warnings {
        tracing::warn!(source = %source.display(), warning, "part of the source was left out");
    }
    Ok(Assembled {
        frame_count: pts_ms.len() as u32,
        warnings: plan.warnings,
    })
}

/// The segments must show every frame of the index once, in order.
fn check_cover(segments: &[(PathBuf, FrameRange)], index: &SourceIndex) -> Result<(), MediaError> {
    let gap = |detail: String| MediaError::Usage {
        what: "segments",
        detail,
    };
    let mut next = 0;
    for (path, range) in segments {
        if range.start != next || range.is_empty() {
            return Err(gap(format!(
                "{} starts at {} and not at {next}",
                path.display(),
                range.start
            )));
        }
        next = range.end;
    }
    if next as usize != index.frames.len() || next == 0 {
        return Err(gap(format!(
            "they end at {next} and the index at {}",
            index.frames.len()
        )));
    }
    Ok(())
}

/// The index's timestamps on Matroska's clock.
fn index_ms(index: &SourceIndex) -> Vec<i64> {
    let Rational { num, den } = index.video.time_base;
    let to_ms = |pts: i64| {
        let scaled = i128::from(pts) * i128::from(num) * 1000;
        let den = i128::from(den);
        (2 * scaled + den).div_euclid(2 * den) as i64
    };
    index.frames.iter().map(|frame| to_ms(frame.pts)).collect()
}

/// Nanoseconds per frame when all frames are evenly spaced.
fn constant_frame_ns(pts_ms: &[i64], frame_rate: Rational) -> Option<u64> {
    let frame_ms = 1000.0 / frame_rate.as_f64();
    let is_even = |(number, &pts): (usize, &i64)| {
        ((pts - pts_ms[0]) as f64 - number as f64 * frame_ms).abs() <= CONSTANT_RATE_MS
    };
    pts_ms
        .iter()
        .enumerate()
        .all(is_even)
        .then(|| (frame_ms * 1e6).round() as u64)
}

/// Writes the packets of all segments with the timestamps of the index.
fn join(
    segments: &[(PathBuf, FrameRange)],
    index: &SourceIndex,
    pts_ms: &[i64],
    shift: ClockShift,
    video: &Path,
    sar: Rational,
) -> Result<(), MediaError> {
    let mut writer: Option<(TrackWriter, Track)> = None;
    for (path, range) in segments {
        let verify = |detail: String| MediaError::Verify {
            path: path.clone(),
            detail,
        };
        let mut segment = PacketFile::open(path).map_err(MediaError::io(path))?;
        let ranks = presentation_ranks(&segment.packets);
        if ranks.len() != range.len() as usize || !segment.packets.first().is_some_and(|packet| packet.key) {
            return Err(verify(format!(
                "{} packets for {} frames",
                ranks.len(),
                range.len()
            )));
        }
        if writer.is_none() {
            let frame_ns = constant_frame_ns(pts_ms, index.video.frame_rate);
            let display = display_size(&segment.track, sar);
            let created = TrackWriter::create(video, &segment.track, display, frame_ns);
            writer = Some((created.map_err(MediaError::io(video))?, segment.track.clone()));
        }
        let (writer, track) = writer.as_mut().expect("created just above");
        if *track != segment.track {
            return Err(verify(
                "it was encoded with other settings than the first segment".to_owned(),
            ));
        }
        for (number, rank) in ranks.into_iter().enumerate() {
            let data = segment.data(number).map_err(MediaError::io(path))?;
            let frame = range.start as usize + rank;
            let pts_ms = pts_ms[frame] - shift.video_ms;
            writer
                .packet(pts_ms, segment.packets[number].key, &data)
                .map_err(MediaError::io(video))?;
        }
    }
    let (writer, _) = writer.expect("at least one segment, checked before");
    writer.finish().map_err(MediaError::io(video))
}

/// For each packet in decoding order its place in presentation order.
fn presentation_ranks(packets: &[Packet]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..packets.len()).collect();
    order.sort_by_key(|&number| packets[number].pts_ms);
    let mut ranks = vec![0; packets.len()];
    for (rank, number) in order.into_iter().enumerate() {
        ranks[number] = rank;
    }
    ranks
}

/// Matroska keeps the shown size and no pixel aspect.
fn display_size(track: &Track, sar: Rational) -> (u64, u64) {
    let width = track.width as f64 * sar.as_f64();
    (width.round().max(1.0) as u64, track.height)
}

/// Makes a finished file durable under its final name.
fn publish(whole: &Path, out: &Path) -> Result<(), MediaError> {
    File::open(whole)
        .and_then(|file| file.sync_all())
        .map_err(MediaError::io(whole))?;
    std::fs::rename(whole, out).map_err(MediaError::io(out))?;
    let folder = folder_of(out);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(MediaError::io(folder))
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A file beside the output that is gone when it was not renamed.
struct Partial(PathBuf);

impl Partial {
    fn beside(out: &Path, part: &str) -> Result<Self, MediaError> {
        let name = out.file_name().ok_or_else(|| MediaError::Usage {
            what: "output path",
            detail: format!("{} names no file", out.display()),
        })?;
        let partial = format!(
            ".{}.{part}.{}.partial",
            name.to_string_lossy(),
            std::process::id()
        );
        Ok(Self(folder_of(out).join(partial)))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed or never written: both mean that there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_timestamps_are_told_from_uneven_ones() {
        let film = Rational {
            num: 24_000,
            den: 1001,
        };
        let rounded: Vec<i64> = (0..1000)
            .map(|n| (f64::from(n) * 1001.0 / 24.0).round() as i64 + 7)
            .collect();
        assert_eq!(constant_frame_ns(&rounded, film), Some(41_708_333));
        let mut uneven = rounded;
        uneven[500] += 8;
        assert_eq!(constant_frame_ns(&uneven, film), None);
    }
}
