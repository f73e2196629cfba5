//! Reads frames that lie apart, seeking only where that saves decoding, and a little ahead of whoever wants them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use remaster_domain::{FieldFilter, SourceIndex};

use crate::frame::RawFormat;
use crate::reader::seek_key;
use crate::together::{Place, Together};
use crate::{Children, FrameReader, MediaError, Restore, YuvFrame};

/// Luma pixels that a seek must save: opening a file once more costs about as much as decoding these. Seven frames of H.264
/// at 720p, a GOP of MPEG-2 at 576 lines.
const SEEK_SAVES_PIXELS_MIN: u64 = 6 << 20;
/// Frames that one ffmpeg reads from one place on, most of them apart: each is a term of its filter, which must stay short
/// enough for an argument.
const FRAMES_ALONE_MAX: usize = 1024;
/// Places that one ffmpeg reads: each holds a decoder with its frames until all are done.
const PLACES_TOGETHER_MAX: usize = 8;
/// Raw frames that one ffmpeg reads in several places, in bytes: they wait in memory, and twice as many while the next read is
/// ahead. A dozen at 720p.
const BYTES_TOGETHER_MAX: usize = 16 << 20;

/// An iterator over chosen frames in ascending order, each once.
pub struct ScatteredFrames {
    source: Arc<Source>,
    /// Reads that have not begun, the next first.
    reads: VecDeque<Read>,
    /// The read after the one at hand: it decodes while that is consumed.
    ahead: Option<Begun>,
    together: Option<Together>,
    alone: Option<Box<FrameReader>>,
}

/// The file; its flag ends what is read ahead.
struct Source {
    path: PathBuf,
    index: SourceIndex,
    restore: Restore,
    is_given_up: AtomicBool,
}

/// Ascending frames that one ffmpeg decodes.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// From one place on.
    Alone(Vec<u32>),
    /// A few at each of several places.
    Together(Vec<Place>),
}

/// A read under way.
enum Begun {
    Alone(Box<FrameReader>),
    Together(JoinHandle<Result<Together, MediaError>>),
}

/// Reads the given frames, in whatever order they are given, made whole from their fields by `restore`.
///
/// # Errors
/// A frame outside the index, or ffmpeg that cannot be started. Errors of decoding come from the iterator.
pub fn read_frames(
    path: &Path,
    index: &SourceIndex,
    wanted: &[u32],
    restore: impl Into<Restore>,
) -> Result<ScatteredFrames, MediaError> {
    let restore = restore.into();
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if let Some(&last) = sorted.last().filter(|&&last| last as usize >= index.frames.len()) {
        let detail = format!("{last} of {} frames", index.frames.len());
        return Err(MediaError::Usage {
            what: "frame number",
            detail,
        });
    }
    let frames_max = BYTES_TOGETHER_MAX / RawFormat::of(&index.video).frame_bytes();
    let reads = plan(index, &sorted, (restore.filter, frames_max)).into();
    let mut frames = ScatteredFrames {
        source: Arc::new(Source {
            path: path.to_owned(),
            index: index.clone(),
            restore,
            is_given_up: AtomicBool::new(false),
        }),
        reads,
        ahead: None,
        together: None,
        alone: None,
    };
    frames.ahead = frames.begin()?;
    Ok(frames)
}

/// Which frames are read by one ffmpeg; at most `frames_max` where several places are read together. Filters of fields start
/// each place from further back, which is the single reader's to do.
fn plan(index: &SourceIndex, sorted: &[u32], (filter, frames_max): (FieldFilter, usize)) -> Vec<Read> {
    let is_shared = |frames: &[u32]| filter.is_none() && frames.len() <= frames_max;
    let mut reads = Vec::new();
    for frames in group(index, sorted) {
        let key = seek_key(index, frames[0]).filter(|_| is_shared(&frames));
        match (key, reads.last_mut()) {
            (None, _) => reads.push(Read::Alone(frames)),
            (Some(key), Some(Read::Together(places)))
                if places.len() < PLACES_TOGETHER_MAX
                    && places.iter().map(|p| p.frames.len()).sum::<usize>() + frames.len() <= frames_max =>
            {
                places.push(Place { key, frames });
            }
            (Some(key), _) => reads.push(Read::Together(vec![Place { key, frames }])),
        }
    }
    reads
}

/// Splits ascending frames where seeking is cheaper than decoding on.
fn group(index: &SourceIndex, sorted: &[u32]) -> Vec<Vec<u32>> {
    let pixels = u64::from(index.video.width) * u64::from(index.video.height);
    let saves_min = (SEEK_SAVES_PIXELS_MIN / pixels.max(1)) as u32;
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for &frame in sorted {
        let last = groups.last().and_then(|group| group.last().copied());
        let decode_from = seek_key(index, frame).unwrap_or(0);
        match (last, groups.last_mut()) {
            (Some(last), Some(group))
                if decode_from < last.saturating_add(saves_min) && group.len() < FRAMES_ALONE_MAX =>
            {
                group.push(frame);
            }
            _ => groups.push(vec![frame]),
        }
    }
    groups
}

impl ScatteredFrames {
    fn next_frame(&mut self) -> Result<Option<YuvFrame>, MediaError> {
        loop {
            if let Some(reader) = &mut self.alone
                && let Some(frame) = reader.next()
            {
                return frame.map(Some);
            }
            self.alone = None;
            match self.together.as_mut().and_then(Together::next) {
                Some(Ok(frame)) => return Ok(Some(frame)),
                Some(Err(unproven)) => {
                    self.alone = Some(self.source.alone(&unproven)?);
                    continue;
                }
                None => self.together = None,
            }
            match self.ahead.take() {
                Some(Begun::Alone(reader)) => self.alone = Some(reader),
                Some(Begun::Together(running)) => {
                    let read = running.join().map_err(|_| MediaError::Failed {
                        what: "reading frames".to_owned(),
                        detail: "its thread ended abruptly".to_owned(),
                    })?;
                    self.together = Some(read?);
                }
                None => return Ok(None),
            }
            self.ahead = self.begin()?;
        }
    }

    /// Begins the next read; none when there are no more.
    fn begin(&mut self) -> Result<Option<Begun>, MediaError> {
        let Some(read) = self.reads.pop_front() else {
            return Ok(None);
        };
        let begun = match read {
            Read::Alone(frames) => Begun::Alone(self.source.alone(&frames)?),
            Read::Together(places) => {
                let (source, children) = (Arc::clone(&self.source), Children::of_this_thread());
                let read = move || children.around(|| source.together(&places));
                Begun::Together(std::thread::spawn(read))
            }
        };
        Ok(Some(begun))
    }
}

impl Source {
    fn alone(&self, frames: &[u32]) -> Result<Box<FrameReader>, MediaError> {
        FrameReader::chosen(&self.path, &self.index, frames, self.restore.clone()).map(Box::new)
    }

    fn together(&self, places: &[Place]) -> Result<Together, MediaError> {
        let stop = || self.is_given_up.load(Ordering::Relaxed);
        Together::read(&self.path, &self.index, places, &stop)
    }
}

impl Iterator for ScatteredFrames {
    type Item = Result<YuvFrame, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.next_frame();
        if result.is_err() {
            (self.alone, self.together, self.ahead) = (None, None, None);
            self.reads.clear();
        }
        result.transpose()
    }
}

impl Drop for ScatteredFrames {
    fn drop(&mut self) {
        self.source.is_given_up.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remaster_domain::{ContentHash, FrameInfo, PictType, Rational, VideoInfo};

    fn index_with_keys_every(keys: usize, frames: usize) -> SourceIndex {
        let one = Rational { num: 1, den: 1 };
        let frame = |number: usize| FrameInfo {
            pts: number as i64,
            pict_type: PictType::I,
            key: number.is_multiple_of(keys),
            interlaced: false,
        };
        SourceIndex {
            version: 1,
            source: ContentHash::of(b""),
            video: VideoInfo {
                codec: String::new(),
                width: 480,
                height: 360,
                pix_fmt: "yuv420p".to_owned(),
                sar: one,
                frame_rate: one,
                time_base: one,
                matrix: None,
                range: None,
            },
            frames: (0..frames).map(frame).collect(),
            cuts: Vec::new(),
            repeats: Vec::new(),
            fields: remaster_domain::FieldPlan::default(),
        }
    }

    fn place(key: u32, frames: &[u32]) -> Place {
        Place {
            key,
            frames: frames.to_vec(),
        }
    }

    #[test]
    fn near_frames_share_a_place_and_far_ones_do_not() {
        let index = index_with_keys_every(12, 1000);
        assert_eq!(
            plan(&index, &[3, 40, 60, 500, 501, 800], (FieldFilter::None, 24)),
            [
                Read::Alone(vec![3, 40, 60]),
                Read::Together(vec![place(492, &[500, 501]), place(792, &[800])])
            ]
        );
    }

    #[test]
    fn what_one_ffmpeg_reads_in_several_places_is_bounded() {
        let index = index_with_keys_every(12, 3000);
        let wanted: Vec<u32> = (100..2900).step_by(100).collect();
        let places = |read: &Read| match read {
            Read::Alone(frames) => panic!("{frames:?} could share a read"),
            Read::Together(places) => places.len(),
        };
        let counts: Vec<usize> = plan(&index, &wanted, (FieldFilter::None, 24))
            .iter()
            .map(places)
            .collect();
        assert_eq!(counts, [8, 8, 8, 4]);
        let counts: Vec<usize> = plan(&index, &wanted, (FieldFilter::None, 3))
            .iter()
            .map(places)
            .collect();
        assert_eq!(counts, [[3; 9].as_slice(), &[1]].concat());
        let row: Vec<u32> = (100..130).collect();
        assert_eq!(
            plan(&index, &row, (FieldFilter::None, 24)),
            [Read::Alone(row.clone())]
        );
    }

    #[test]
    fn without_key_frames_everything_is_one_linear_decode() {
        let index = index_with_keys_every(1000, 1000);
        assert_eq!(
            plan(&index, &[3, 500, 999], (FieldFilter::None, 24)),
            [Read::Alone(vec![3, 500, 999])]
        );
    }
}
