//! One look at an episode: a few seconds of it, one frame of them before and after, and what the frames took.
//!
//! The frame is made as a real segment is, encoder included, so what is shown is what the season will have there.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use remaster_domain::{ContentHash, FrameRange, OutputList, SourceRef, UpscaleSettings, VideoInfo};
use remaster_media::{ColourSpec, FrameReader, FrameThumbs, MediaError, Probe, THUMB_BYTES, copy_stretch};
use remaster_pairs::{Rgb, resize_lanczos};

use super::estimate::{Spent, Timed, frames_within};
use crate::cache::HeldFile;
use crate::context::Disc;
use crate::error::WorkError;
use crate::extract::index_file;
use crate::monitor::Monitor;
use crate::picture::rgb_of;
use crate::upscale::{BoundedModel, SegmentJob, make_segment};

/// Read of each place: some 70 frames to choose from.
const STRETCH_S: f64 = 3.0;
/// Frames timed at a place: a second, and as many as noise is measured on.
const FRAMES_TIMED_MAX: u32 = 24;
/// Time for them, were all as slow as the first: a network of a minute a frame must not make a preview of a day.
const TIMING_BUDGET_S: f64 = 30.0;
/// A frame whose luma varies by less shows nothing: black, a fade, a bare wall.
const LIVELY_LEVELS: f64 = 10.0;
/// Where a place is looked for within its share of the episode, the next one where it is dull there.
const TRIES: [f64; 3] = [0.5, 0.25, 0.75];

/// An episode's file and how it will be upscaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Episode<'a> {
    pub(super) path: &'a Path,
    pub(super) probed: &'a Probe,
    pub(super) duration_s: f64,
    pub(super) network: BoundedModel<'a>,
    pub(super) settings: &'a UpscaleSettings,
    /// nnedi3's weights, where its frames are deinterlaced with them.
    pub(super) nnedi_weights: Option<&'a Path>,
    /// For what is written on the way.
    pub(super) scratch: &'a Path,
}

/// What was seen and measured at one place.
#[derive(Debug)]
pub(super) struct Look {
    /// Seconds from the start of the episode.
    pub(super) at_s: f64,
    /// The source, made larger by Lanczos.
    pub(super) lanczos: Rgb,
    /// The same frame by the model, out of the encoder.
    pub(super) made: Rgb,
    pub(super) timed: Timed,
    /// Frames that went into the stretch, those that go out of it, and those a second.
    pub(super) frames: (u32, u32),
    pub(super) output_fps: f64,
}

/// Looks at share `place` of `places` of the episode.
pub(super) fn look(
    episode: &Episode<'_>,
    (place, places): (u32, u32),
    monitor: &Monitor,
) -> Result<Look, WorkError> {
    let mut best: Option<Stretch> = None;
    for share in TRIES {
        let at_s = (f64::from(place) + share) / f64::from(places) * episode.duration_s;
        let start_s = (at_s - STRETCH_S / 2.0)
            .min(episode.duration_s - STRETCH_S)
            .max(0.0);
        let stretch = Stretch::open(episode, start_s, monitor)?;
        let is_lively = stretch.liveliness >= LIVELY_LEVELS;
        if best
            .as_ref()
            .is_none_or(|best| stretch.liveliness > best.liveliness)
        {
            best = Some(stretch);
        }
        if is_lively {
            break;
        }
    }
    let stretch = best.expect("at least one place was tried");
    stretch.look(episode, monitor)
}

/// A few seconds as a source of their own, and the frame of them to show.
#[derive(Debug)]
struct Stretch {
    disc: Disc,
    thumbs: FrameThumbs,
    outputs: OutputList,
    start_s: f64,
    /// The frame to show, by place in the list of those that go out.
    chosen: usize,
    /// How many are timed from there at most.
    room: u32,
    /// Standard deviation of its luma in levels.
    liveliness: f64,
    _folder: tempfile::TempDir,
}

impl Stretch {
    fn open(episode: &Episode<'_>, start_s: f64, monitor: &Monitor) -> Result<Self, WorkError> {
        let at_scratch = |error: std::io::Error| WorkError::of_file(episode.scratch, &error);
        let folder = tempfile::tempdir_in(episode.scratch).map_err(at_scratch)?;
        let file = folder.path().join("stretch.nut");
        let name = episode.path.file_name().unwrap_or(episode.path.as_os_str());
        let source = SourceRef {
            // Names it in logs; nobody looks for a file by it.
            sha256: ContentHash::of(file.as_os_str().as_encoded_bytes()),
            bytes: 0,
            name: name.to_string_lossy().into_owned(),
            path_hint: None,
        };
        let named = |error: MediaError| WorkError::of_source(&error, &source);
        copy_stretch(episode.path, (start_s, STRETCH_S), &file, &|| {
            monitor.check().is_err()
        })
        .map_err(named)?;
        let file = HeldFile::own(file);
        let (mut index, thumbs) = index_file(&file, &source, &monitor.quiet())?;
        // Raw frames say less of themselves than the file they are from.
        let VideoInfo {
            sar,
            frame_rate,
            matrix,
            range,
            ..
        } = episode.probed.video.clone();
        index.video = VideoInfo {
            sar,
            frame_rate,
            matrix,
            range,
            ..index.video
        };
        let outputs = OutputList::of(&index, episode.settings.fields);
        let room = FRAMES_TIMED_MAX.min(outputs.frames.len() as u32).max(1);
        let Some((chosen, liveliness)) = liveliest(&outputs, &index.cuts, &thumbs, room as usize) else {
            return Err(WorkError::BadInput(format!(
                "{}: no frame could be read {start_s:.0} s after its start",
                source.name
            )));
        };
        let mut disc = Disc::new(file, source, Arc::new(index));
        disc.nnedi_weights = episode.nnedi_weights.map(|file| HeldFile::own(file.to_owned()));
        Ok(Self {
            disc,
            thumbs: FrameThumbs::new(0, thumbs)?,
            outputs,
            start_s,
            chosen,
            room,
            liveliness,
            _folder: folder,
        })
    }

    fn look(&self, episode: &Episode<'_>, monitor: &Monitor) -> Result<Look, WorkError> {
        let file = |name: &str| self.disc.file.path().with_file_name(name);
        let (alone, together) = (file("first.mkv"), file("all.mkv"));
        let job = self.job(episode, 1);
        let first = spent(&job, &alone, monitor)?;
        let frames = frames_within(TIMING_BUDGET_S, first.seconds, self.room);
        let all = if frames > 1 {
            spent(&self.job(episode, frames), &together, monitor)?
        } else {
            first
        };
        tracing::debug!(?first, ?all, frames, "a place was timed");
        let (width, height) = job.geometry().output;
        let before = self.source_picture()?;
        let index = &self.disc.index;
        Ok(Look {
            at_s: self.start_s + self.seconds_of(self.chosen),
            lanczos: resize_lanczos(&before, width as usize, height as usize),
            made: encoded_picture(&self.disc.source, alone, monitor)?,
            timed: Timed { first, all, frames },
            frames: (index.frames.len() as u32, self.outputs.frames.len() as u32),
            output_fps: self.output_fps(),
        })
    }

    /// The segment of so many frames from the chosen one.
    fn job<'a>(&'a self, episode: &Episode<'a>, frames: u32) -> SegmentJob<'a> {
        let sources = &self.outputs.frames[self.chosen..][..frames as usize];
        let (first, last) = (sources[0].source, sources[sources.len() - 1].source);
        SegmentJob {
            disc: &self.disc,
            thumbs: &self.thumbs,
            range: FrameRange {
                start: first,
                end: last + 1,
            },
            network: episode.network,
            settings: episode.settings,
            outputs: &self.outputs,
        }
    }

    fn source_picture(&self) -> Result<Rgb, WorkError> {
        let start = self.outputs.frames[self.chosen].source;
        let range = FrameRange {
            start,
            end: start + 1,
        };
        let (path, index) = (self.disc.file.path(), &self.disc.index);
        let named = |error: MediaError| self.disc.error(&error);
        let frame = FrameReader::filtered(path, index, range, self.disc.restore(self.outputs.filter))
            .map_err(named)?
            .next();
        let frame = frame.ok_or_else(nothing_decoded)?.map_err(named)?;
        Ok(rgb_of(&frame, self.disc.colour))
    }

    /// Seconds from the first frame to another.
    fn seconds_of(&self, place: usize) -> f64 {
        let frames = &self.outputs.frames;
        (frames[place].pts - frames[0].pts) as f64 * self.disc.index.video.time_base.as_f64()
    }

    /// As the frames are spaced, whatever the header says.
    fn output_fps(&self) -> f64 {
        let last = self.outputs.frames.len() - 1;
        let seconds = self.seconds_of(last);
        if seconds > 0.0 {
            last as f64 / seconds
        } else {
            self.outputs.frame_rate.as_f64()
        }
    }
}

/// What making a segment takes.
fn spent(job: &SegmentJob<'_>, out: &Path, monitor: &Monitor) -> Result<Spent, WorkError> {
    let started = Instant::now();
    make_segment(job, out, &monitor.quiet())?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(out)
        .map_err(|error| WorkError::of_file(out, &error))?
        .len();
    Ok(Spent {
        seconds,
        bytes: bytes as f64,
    })
}

/// The picture of a segment of one frame.
fn encoded_picture(
    source: &SourceRef,
    segment: std::path::PathBuf,
    monitor: &Monitor,
) -> Result<Rgb, WorkError> {
    let file = HeldFile::own(segment);
    let (index, _) = index_file(&file, source, &monitor.quiet())?;
    let range = FrameRange { start: 0, end: 1 };
    let frame = FrameReader::open(file.path(), &index, range)?.next();
    Ok(rgb_of(&frame.ok_or_else(nothing_decoded)??, ColourSpec::HD))
}

fn nothing_decoded() -> WorkError {
    WorkError::Retryable("no frame was decoded".to_owned())
}

/// The frame that varies most among those that `room` frames can be timed from, one of a shot that lasts so long where there
/// is one; and by how much it varies.
fn liveliest(outputs: &OutputList, cuts: &[u32], thumbs: &[u8], room: usize) -> Option<(usize, f64)> {
    let frames = &outputs.frames;
    let starts = 0..(frames.len() + 1).checked_sub(room)?;
    let candidates = starts.filter_map(|start| {
        let (first, last) = (frames[start].source, frames.get(start + room - 1)?.source);
        let thumb = thumbs.get(first as usize * THUMB_BYTES..)?.get(..THUMB_BYTES)?;
        let is_one_shot = !cuts.iter().any(|cut| (first + 1..=last).contains(cut));
        Some((is_one_shot, deviation(thumb), start))
    });
    let best = candidates.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    best.map(|(_, deviation, start)| (start, deviation))
}

/// Standard deviation of luma in levels.
fn deviation(thumb: &[u8]) -> f64 {
    let count = thumb.len() as f64;
    let mean = thumb.iter().map(|&level| f64::from(level)).sum::<f64>() / count;
    let squares = thumb.iter().map(|&level| (f64::from(level) - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use remaster_domain::{FieldFilter, OutputFrame, Rational};

    use super::*;

    fn outputs(count: u32) -> OutputList {
        OutputList {
            filter: FieldFilter::None,
            frames: (0..count)
                .map(|source| OutputFrame {
                    source,
                    pts: source.into(),
                })
                .collect(),
            frame_rate: Rational { num: 25, den: 1 },
        }
    }

    /// Thumbnails whose luma varies by so many levels.
    fn thumbs(levels: &[u8]) -> Vec<u8> {
        let thumb =
            |&levels: &u8| (0..THUMB_BYTES).map(move |i| if i % 2 == 0 { 50 } else { 50 + 2 * levels });
        levels.iter().flat_map(thumb).collect()
    }

    #[test]
    fn the_liveliest_frame_is_shown_and_black_is_not() {
        let found = liveliest(&outputs(5), &[], &thumbs(&[0, 3, 20, 5, 90]), 2);
        assert_eq!(found, Some((2, 20.0)), "the last one has no room behind it");
    }

    #[test]
    fn a_cut_is_kept_out_of_the_timing_where_that_is_possible() {
        let thumbs = thumbs(&[1, 2, 20, 5, 4]);
        assert_eq!(liveliest(&outputs(5), &[3], &thumbs, 2), Some((3, 5.0)));
        assert_eq!(liveliest(&outputs(2), &[1], &thumbs, 2), Some((0, 1.0)));
        assert_eq!(liveliest(&outputs(0), &[], &[], 1), None);
    }
}
