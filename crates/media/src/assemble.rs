//! Assembles an episode: segments in, one verified file with the source's sound out.
//!
//! Within a segment only the order of pictures is believed. The n-th picture in presentation order gets the n-th
//! timestamp of the output list, so rounding, B-frames and variable frame rates come out as they were. The result is written
//! beside its name, verified, made durable and renamed; the source is only read.

use std::fs::File;
use std::path::{Path, PathBuf};

use remaster_domain::{Container, FrameRange, OutputList, Rational, SourceIndex};

use crate::matroska::{Packet, PacketFile, Track, TrackWriter};
use crate::mux::{ClockShift, Mux, plan_streams};
use crate::verify::{verify, verify_whole};
use crate::{FrameThumbs, MediaError, probe};

/// Longest difference, in milliseconds, of a timestamp from an even grid that still counts as constant frame rate:
/// what Matroska's rounding makes of it.
const CONSTANT_RATE_MS: f64 = 1.0;

/// What came of an assembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Video frames in the file: as many as in the output list.
    pub frame_count: u32,
    /// What of the source was left out, for the user.
    pub warnings: Vec<String>,
}

/// What is assembled.
#[derive(Debug, Clone, Copy)]
pub struct Assembly<'a> {
    /// Segments in order, each with the frames of the source that it is made of.
    pub segments: &'a [(PathBuf, FrameRange)],
    /// The source, for all its other streams.
    pub source: &'a Path,
    /// Its index.
    pub index: &'a SourceIndex,
    /// The thumbnails of all its frames.
    pub thumbs: &'a FrameThumbs,
    /// The frames that the segments show, and when.
    pub outputs: &'a OutputList,
    /// Sample aspect ratio of the segments.
    pub sar: Rational,
    /// Kind of output file.
    pub container: Container,
}

/// Joins segments that show all frames of the output list, in order, and adds the source's other streams, chapters and
/// tags. `stop` is asked several times a second.
///
/// # Errors
/// Gaps between segments, segments of different settings, a stream that the container cannot hold, an output that fails
/// its verification, or [`MediaError::Stopped`]. `out` is then as it was before.
pub fn assemble(
    assembly: &Assembly<'_>,
    out: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<Assembled, MediaError> {
    check_cover(assembly)?;
    let probed = probe(assembly.source)?;
    let plan = plan_streams(assembly.source, &probed, assembly.container)?;
    let pts_ms = output_ms(assembly);
    let shift = ClockShift {
        video_ms: pts_ms[0].min(0),
    };
    remove_stale(out);
    let video = Partial::beside(out, "video")?;
    join(assembly, &pts_ms, shift, &video.0, stop)?;
    let whole = Partial::beside(out, "whole")?;
    let mux = Mux {
        video: &video.0,
        shift,
        source: assembly.source,
        probed: &probed,
        plan: &plan,
        container: assembly.container,
    };
    mux.write(&whole.0, stop)?;
    verify(&whole.0, assembly.source, &plan, &pts_ms, stop)?;
    verify_whole(&whole.0, assembly.outputs, assembly.thumbs, stop)?;
    publish(&whole.0, out)?;
    for warning in &plan.warnings {
        tracing::warn!(source = %assembly.source.display(), warning, "part of the source was left out");
    }
    Ok(Assembled {
        frame_count: pts_ms.len() as u32,
        warnings: plan.warnings,
    })
}

/// Whether all sound and subtitles of a source can go into the container; to be asked before any frame is made. Gives
/// what will be left out, in words.
///
/// # Errors
/// All of [`probe`]'s, and [`MediaError::UnsupportedStream`].
pub fn check_streams(source: &Path, container: Container) -> Result<Vec<String>, MediaError> {
    let probed = probe(source)?;
    Ok(plan_streams(source, &probed, container)?.warnings)
}

/// The segments must show every frame of the index once, in order.
fn check_cover(assembly: &Assembly<'_>) -> Result<(), MediaError> {
    let gap = |detail: String| MediaError::Usage {
        what: "segments",
        detail,
    };
    let mut next = 0;
    for (path, range) in assembly.segments {
        if range.start != next || range.is_empty() {
            return Err(gap(format!(
                "{} starts at {} and not at {next}",
                path.display(),
                range.start
            )));
        }
        next = range.end;
    }
    let count = assembly.index.frames.len();
    if next as usize != count || assembly.outputs.frames.is_empty() {
        return Err(gap(format!("they end at {next} and the index at {count}")));
    }
    Ok(())
}

/// The output list's timestamps on Matroska's clock.
fn output_ms(assembly: &Assembly<'_>) -> Vec<i64> {
    let Rational { num, den } = assembly.index.video.time_base;
    let to_ms = |pts: i64| {
        let scaled = i128::from(pts) * i128::from(num) * 1000;
        let den = i128::from(den);
        (2 * scaled + den).div_euclid(2 * den) as i64
    };
    let frames = assembly.outputs.frames.iter();
    frames.map(|frame| to_ms(frame.pts)).collect()
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

/// Writes the packets of all segments with the timestamps of the output list.
fn join(
    assembly: &Assembly<'_>,
    pts_ms: &[i64],
    shift: ClockShift,
    video: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    let mut writer: Option<(TrackWriter, Track)> = None;
    let mut shown = 0;
    for (path, range) in assembly.segments {
        if stop() {
            return Err(MediaError::Stopped);
        }
        let verify = |detail: String| MediaError::Verify {
            path: path.clone(),
            detail,
        };
        let mut segment = PacketFile::open(path).map_err(MediaError::io(path))?;
        let ranks = presentation_ranks(&segment.packets);
        let expected = assembly.outputs.within(*range).len();
        if ranks.len() != expected || !segment.packets.first().is_some_and(|packet| packet.key) {
            return Err(verify(format!("{} packets for {expected} frames", ranks.len())));
        }
        if writer.is_none() {
            let frame_ns = constant_frame_ns(pts_ms, assembly.outputs.frame_rate);
            let display = display_size(&segment.track, assembly.sar);
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
            let pts_ms = pts_ms[shown + rank] - shift.video_ms;
            writer
                .packet(pts_ms, segment.packets[number].key, &data)
                .map_err(MediaError::io(video))?;
        }
        shown += expected;
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
        let name = name.to_string_lossy();
        let partial = format!(".{name}.{part}.{}.partial", std::process::id());
        Ok(Self(folder_of(out).join(partial)))
    }
}

/// Removes what an assembly of the same output left that was killed. One that still runs keeps its files: they carry
/// the id of a process that is there.
fn remove_stale(out: &Path) {
    let Some(name) = out.file_name() else { return };
    let prefix = format!(".{}.", name.to_string_lossy());
    let is_stale = |file: &str| -> bool {
        let id = file
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".partial"))
            .and_then(|rest| rest.strip_prefix("video.").or(rest.strip_prefix("whole.")));
        id.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists())
    };
    // What cannot be listed or removed is only in the way of nobody.
    let entries = std::fs::read_dir(folder_of(out)).into_iter().flatten().flatten();
    for entry in entries {
        if is_stale(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
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
