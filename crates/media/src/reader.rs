//! Reads exactly the frames of a range, each proven to be the one in the index: by its timestamp and kind of picture, and by its
//! thumbnail where thumbnails are given.
//!
//! Seeking is an attempt, never trusted: containers land late, decoders drop or break the leading pictures of an open
//! GOP, some demuxers count otherwise after a seek. So every frame from the key frame sought on must agree with the index,
//! and when one does not, the reader tries from a whole GOP earlier, from further back and at last from the very start.
//! Leading pictures lie before their key frame in time and are never taken from a decode that starts at it.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use remaster_domain::{FieldFilter, FrameRange, PictType, SourceIndex};

use crate::child::{Args, Program, Running};
use crate::fields::HANDLE_FRAMES;
use crate::frame::RawFormat;
use crate::landing::time_of_key;
use crate::proof::FrameThumbs;
use crate::restore::Restored;
use crate::selection::{Selection, stretches_of};
use crate::showinfo::{FrameLine, PtsRepair};
use crate::{MediaError, Restore, YuvFrame};

/// Decoded frames that wait for the consumer: enough to overlap decoding with it, little beside the frames in work.
const FRAMES_WAITING_MAX: usize = 4;
/// Frame lines that wait for their frame. ffmpeg is never that far ahead of its own stdout, a small pipe.
const LINES_WAITING_MAX: usize = 4096;
/// How far before the wanted key frame each attempt seeks: demuxers subtract a little by themselves, MPEG program and
/// transport streams are searched by bytes and land late.
const SEEK_MARGINS_S: [f64; 2] = [0.0, 3.0];

/// An iterator over the frames of a range, or over some of them.
pub struct FrameReader {
    path: PathBuf,
    index: SourceIndex,
    restore: Restore,
    thumbs: Option<FrameThumbs>,
    /// Frames still to be handed out, as stretches none of which is empty.
    wanted: VecDeque<FrameRange>,
    /// Attempts that are still to be made when this one fails, the last first.
    attempts: Vec<Attempt>,
    current: Option<Decoder>,
}

/// Where to start decoding.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attempt {
    /// At the start of the file.
    Linear,
    /// At a key frame, by seeking to a time.
    Seek { key: u32, time_s: f64 },
}

impl FrameReader {
    /// Starts decoding frames as they are coded. The file must be the one that was indexed.
    ///
    /// # Errors
    /// A range outside the index, or ffmpeg that cannot be started. Errors of decoding come from the iterator.
    pub fn open(path: &Path, index: &SourceIndex, range: FrameRange) -> Result<Self, MediaError> {
        Self::filtered(path, index, range, FieldFilter::None)
    }

    /// Starts decoding frames made whole from their fields: one for each frame of the range, and the same picture
    /// whatever the range.
    ///
    /// # Errors
    /// As [`FrameReader::open`].
    pub fn filtered(
        path: &Path,
        index: &SourceIndex,
        range: FrameRange,
        restore: impl Into<Restore>,
    ) -> Result<Self, MediaError> {
        if range.is_empty() || range.end as usize > index.frames.len() {
            let detail = format!("{}..{} of {} frames", range.start, range.end, index.frames.len());
            return Err(MediaError::Usage {
                what: "frame range",
                detail,
            });
        }
        Self::start(path, index, VecDeque::from([range]), restore.into())
    }

    /// Starts decoding for ascending frames of the index, at least one; those in between are never handed over.
    pub(crate) fn chosen(
        path: &Path,
        index: &SourceIndex,
        frames: &[u32],
        restore: Restore,
    ) -> Result<Self, MediaError> {
        Self::start(path, index, stretches_of(frames).into(), restore)
    }

    fn start(
        path: &Path,
        index: &SourceIndex,
        wanted: VecDeque<FrameRange>,
        restore: Restore,
    ) -> Result<Self, MediaError> {
        let mut reader = Self {
            path: path.to_owned(),
            index: index.clone(),
            attempts: attempts(path, index, wanted[0].start, restore.filter),
            restore,
            thumbs: None,
            wanted,
            current: None,
        };
        reader.begin()?;
        Ok(reader)
    }

    /// Hands out no frame that does not look like its thumbnail.
    ///
    /// # Errors
    /// Thumbnails that lack a frame of the range.
    pub fn proven_by(self, thumbs: FrameThumbs) -> Result<Self, MediaError> {
        if let Some(bare) = self.wanted.iter().find(|&&stretch| !thumbs.covers(stretch)) {
            let detail = format!("none for some of the frames {}..{}", bare.start, bare.end);
            return Err(MediaError::Usage {
                what: "thumbnails",
                detail,
            });
        }
        let thumbs = Some(thumbs);
        Ok(Self { thumbs, ..self })
    }

    /// Starts the next attempt; false when none is left.
    fn begin(&mut self) -> Result<bool, MediaError> {
        self.current = None;
        let Some(attempt) = self.attempts.pop() else {
            return Ok(false);
        };
        let selection = match attempt {
            // From the start timestamps may want repair, and ffmpeg knows them only as they are.
            Attempt::Linear => None,
            Attempt::Seek { .. } => Some(Selection::of(&self.index, self.wanted.iter().copied())),
        };
        self.current = Some(Decoder::start(
            &self.path,
            &self.index,
            (attempt, selection),
            &self.restore,
        )?);
        Ok(true)
    }

    fn frame(&mut self, wanted: u32) -> Result<YuvFrame, MediaError> {
        loop {
            let Some(decoder) = self.current.as_mut() else {
                let detail = "decoding ended with an error before".to_owned();
                return Err(self.mismatch(wanted, detail));
            };
            let decoded = decoder.frame(&self.index, wanted);
            let proven = decoded.and_then(|Restored { frame, coded }| {
                let thumbs = self.thumbs.as_ref();
                let objection = thumbs.and_then(|thumbs| thumbs.objection(&frame, coded.as_deref()));
                objection.map_or(Ok(frame), |detail| Err(Stray(detail)))
            });
            match proven {
                Ok(frame) => return Ok(frame),
                Err(Stray(detail)) => {
                    let messages = decoder.running.stop();
                    tracing::debug!(path = %self.path.display(), frame = wanted, detail, "decoding again");
                    if !self.begin()? {
                        let ending = if messages.is_empty() {
                            String::new()
                        } else {
                            format!("; {messages}")
                        };
                        return Err(self.mismatch(wanted, format!("{detail}{ending}")));
                    }
                }
            }
        }
    }

    fn mismatch(&self, frame: u32, detail: String) -> MediaError {
        MediaError::Mismatch {
            path: self.path.clone(),
            frame,
            detail,
        }
    }
}

impl Iterator for FrameReader {
    type Item = Result<YuvFrame, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        let stretch = *self.wanted.front()?;
        let result = self.frame(stretch.start);
        if result.is_err() {
            self.wanted.clear();
        } else if stretch.len() == 1 {
            self.wanted.pop_front();
        } else {
            self.wanted[0].start += 1;
        }
        if self.wanted.is_empty() {
            self.current = None;
        }
        Some(result)
    }
}

/// The first frame that the filters must see.
fn first_needed(start: u32, filter: FieldFilter) -> u32 {
    match filter {
        FieldFilter::None => start,
        FieldFilter::Match | FieldFilter::Deinterlace => start.saturating_sub(HANDLE_FRAMES),
    }
}

/// Attempts for a first frame, the last to be tried first in the list.
fn attempts(path: &Path, index: &SourceIndex, start: u32, filter: FieldFilter) -> Vec<Attempt> {
    let start = first_needed(start, filter);
    let tick_s = index.video.time_base.as_f64();
    let seek = |key: u32, margin_s: f64| Attempt::Seek {
        key,
        time_s: index.frames[key as usize].pts as f64 * tick_s - margin_s,
    };
    let mut attempts = vec![Attempt::Linear];
    if let Some(key) = keys_before(index, start).nth(1).filter(|&key| key > 0) {
        attempts.extend(SEEK_MARGINS_S.iter().rev().map(|&margin_s| seek(key, margin_s)));
    }
    // Filters that look at several frames start at rest: a whole GOP early, whatever is wanted.
    if filter == FieldFilter::None
        && let Some(key) = seek_key(index, start)
    {
        attempts.push(seek(key, 0.0));
        if let Some(time_s) = time_of_key(path, index, key) {
            attempts.push(Attempt::Seek { key, time_s });
        }
    }
    attempts
}

/// The key frame that `start` needs, if decoding from the start of the file is not as good.
///
/// A picture refreshed bit by bit calls its first frame key as well; only one that is coded by itself may be decoded from.
pub(crate) fn seek_key(index: &SourceIndex, start: u32) -> Option<u32> {
    let key = keys_before(index, start).next().filter(|&key| key > 0)?;
    (index.frames[key as usize].pict_type == PictType::I).then_some(key)
}

/// Key frames from `start` backwards.
fn keys_before(index: &SourceIndex, start: u32) -> impl Iterator<Item = u32> {
    let before = index.frames[..=start as usize].iter().enumerate().rev();
    before
        .filter(|(_, frame)| frame.key)
        .map(|(number, _)| number as u32)
}

/// Why a decoder's frames cannot be used.
pub(crate) struct Stray(pub(crate) String);

/// What is known of a decoded frame, and its bytes unless it only leads to the first wanted one.
type Seen = (FrameLine, Option<Vec<u8>>);

/// One running decode, with what must hold of its frames.
struct Decoder {
    running: Running,
    frames: Receiver<Seen>,
    /// Of what ffmpeg sends.
    format: RawFormat,
    attempt: Attempt,
    /// The frame that must come next; `None` until the key frame sought has been seen.
    expected: Option<u32>,
    repair: PtsRepair,
}

impl Decoder {
    /// Frames outside the selection are decoded and checked, but their pixels stay in ffmpeg: most of what a seek decodes is
    /// only on the way to what is wanted.
    fn start(
        path: &Path,
        index: &SourceIndex,
        (attempt, selection): (Attempt, Option<Selection>),
        restore: &Restore,
    ) -> Result<Self, MediaError> {
        let whole = RawFormat::of(&index.video);
        let format = Restored::format(&whole, restore.filter);
        let (line_sender, lines) = sync_channel(LINES_WAITING_MAX);
        let take = move |line: &str| match FrameLine::parse(line) {
            Some(frame) => {
                // A closed channel means that nobody wants frames any more; stderr is still drained.
                let _ = line_sender.send(frame);
                true
            }
            None => line.contains("Parsed_showinfo"),
        };
        // What is made of fields is put together by its timestamps, which may want repair.
        let count = match (attempt, restore.filter) {
            (Attempt::Seek { .. }, _) | (Attempt::Linear, FieldFilter::None) => "",
            (Attempt::Linear, FieldFilter::Match | FieldFilter::Deinterlace) => ",setpts=N",
        };
        let filters = format!(
            "format={},showinfo=checksum=0{count}{}{}",
            whole.pix_fmt,
            restore.graph(whole.width, index.video.time_base),
            selection
                .as_ref()
                .map_or_else(String::new, |selection| format!(",{}", selection.filter()))
        );
        let args = reader_args(path, attempt, &filters);
        let running = Running::start(Program::Ffmpeg, &args, Stdio::null(), Stdio::piped(), take)?;
        let pipe = running.stdout().expect("stdout was piped above");
        let (frame_sender, frames) = sync_channel(FRAMES_WAITING_MAX);
        let frame_bytes = format.frame_bytes();
        std::thread::spawn(move || forward(pipe, frame_bytes, selection.as_ref(), &lines, &frame_sender));
        let expected = (attempt == Attempt::Linear).then_some(0);
        let repair = PtsRepair::new(index.video.time_base.as_f64());
        Ok(Self {
            running,
            frames,
            format,
            attempt,
            expected,
            repair,
        })
    }

    /// The wanted frame, after checking all that come before it.
    fn frame(&mut self, index: &SourceIndex, wanted: u32) -> Result<Restored, Stray> {
        loop {
            let (line, bytes) = self
                .frames
                .recv()
                .map_err(|_| Stray(format!("decoding ended at frame {}", self.expected.unwrap_or(0))))?;
            let Some(number) = self.place(index, &line)? else {
                continue;
            };
            if number == wanted {
                let bytes = bytes.ok_or_else(|| Stray(format!("frame {number} came too early")))?;
                let pts = index.frames[number as usize].pts;
                let sent = self.format.frame(&bytes, pts, number);
                return Ok(Restored::of(sent, index.video.height));
            }
        }
    }

    /// The number of a decoded frame; `None` for leading pictures before the key frame sought.
    fn place(&mut self, index: &SourceIndex, line: &FrameLine) -> Result<Option<u32>, Stray> {
        let (pts, number) = match (self.attempt, self.expected) {
            (Attempt::Linear, expected) => {
                let pts = self
                    .repair
                    .next(line.pts)
                    .map_err(|_| Stray("its timestamps jump back".to_owned()))?;
                (pts, expected.unwrap_or(0))
            }
            (Attempt::Seek { key, .. }, expected) => {
                let pts = line
                    .pts
                    .ok_or_else(|| Stray("a frame has no timestamp".to_owned()))?;
                match expected {
                    Some(number) => (pts, number),
                    None if pts < index.frames[key as usize].pts => return Ok(None),
                    None => (pts, key),
                }
            }
        };
        agree(index, number, (pts, line.pict_type))?;
        self.expected = Some(number + 1);
        Ok(Some(number))
    }
}

/// A decoded frame must be the one that the index has there.
pub(crate) fn agree(index: &SourceIndex, number: u32, found: (i64, PictType)) -> Result<(), Stray> {
    let Some(frame) = index.frames.get(number as usize) else {
        return Err(Stray("it has more frames than its index".to_owned()));
    };
    let expected = (frame.pts, frame.pict_type);
    if found != expected {
        return Err(Stray(format!(
            "frame {number} should be {expected:?} and is {found:?}"
        )));
    }
    Ok(())
}

fn reader_args(path: &Path, attempt: Attempt, filters: &str) -> Args {
    let mut args = Args::new(Program::Ffmpeg, "repeat+info");
    args.add(&["-copyts", "-noautorotate"]);
    if let Attempt::Seek { time_s, .. } = attempt {
        args.add(&[
            "-seek_timestamp",
            "1",
            "-noaccurate_seek",
            "-ss",
            &format!("{time_s:.6}"),
        ]);
    }
    args.input(path);
    args.add(&["-map", "0:V:0", "-fps_mode", "passthrough", "-vf", filters]);
    args.add(&["-f", "rawvideo", "pipe:1"]);
    args
}

/// Pairs lines with their raw frames, which come where the selection takes them, until either side ends.
fn forward(
    mut pipe: ChildStdout,
    frame_bytes: usize,
    selection: Option<&Selection>,
    lines: &Receiver<FrameLine>,
    frames: &SyncSender<Seen>,
) {
    for line in lines {
        let is_sent = selection.is_none_or(|selection| selection.takes(line.pts));
        let mut bytes = is_sent.then(|| vec![0; frame_bytes]);
        if let Some(bytes) = &mut bytes
            && pipe.read_exact(bytes).is_err()
        {
            return;
        }
        if frames.send((line, bytes)).is_err() {
            return;
        }
    }
}
