//! Reads a few frames each at several places of a file with one ffmpeg: starting it costs as much as decoding dozens of frames.
//!
//! Every place is an input of its own, sought to its key frame, and one follows the other. A place is believed as
//! [`crate::reader`] believes a frame: all frames from the key frame to the last wanted one must agree with the index. What is
//! not proven is left to that reader, which can start from further back.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::SourceIndex;

use crate::child::{Args, Finished, Program, run_taking};
use crate::frame::RawFormat;
use crate::landing::time_of_key;
use crate::reader::{Stray, agree};
use crate::selection::{Selection, stretches_of};
use crate::showinfo::FrameLine;
use crate::{MediaError, YuvFrame};

/// Ascending frames that are decoded from one key frame, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: u32,
    pub(crate) frames: Vec<u32>,
}

/// What came of places, in their order.
pub(crate) struct Together {
    format: RawFormat,
    /// Frames as ffmpeg writes them, one after the other.
    pixels: Vec<u8>,
    found: std::vec::IntoIter<Found>,
}

/// One wanted frame, or several of one place.
enum Found {
    /// The number of a proven frame, its timestamp, and its place among the pixels.
    Proven(u32, i64, usize),
    /// Frames that have to be read in another way.
    Unproven(Vec<u32>),
}

impl Together {
    /// Decodes all of it; `stop` ends that.
    ///
    /// # Errors
    /// [`MediaError::Stopped`], or ffmpeg cannot be started. Whatever else goes wrong leaves frames unproven.
    pub(crate) fn read(
        path: &Path,
        index: &SourceIndex,
        places: &[Place],
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, MediaError> {
        let format = RawFormat::of(&index.video);
        let seen = Arc::new(Mutex::new(vec![Vec::new(); places.len()]));
        let sink = Arc::clone(&seen);
        let take = move |line: &str| {
            let Some((place, frame)) = place_of(line).zip(FrameLine::parse(line)) else {
                return line.contains("showinfo@");
            };
            let mut seen = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lines) = seen.get_mut(place) {
                lines.push(frame);
            }
            true
        };
        let args = args(path, index, places, &format);
        let read = match run_taking(Program::Ffmpeg, &args, stop, take) {
            Err(MediaError::Failed { detail, .. }) => Finished {
                stdout: Vec::new(),
                success: false,
                messages: detail,
            },
            read => read?,
        };
        let Finished {
            stdout: pixels,
            success,
            messages,
        } = read;
        let lines = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        let frames_sent = pixels.len() / format.frame_bytes();
        let found = match success {
            true => sort(index, places, &lines, frames_sent),
            false => places
                .iter()
                .map(|place| Found::Unproven(place.frames.clone()))
                .collect(),
        };
        if found.iter().any(|found| matches!(found, Found::Unproven(_))) {
            tracing::debug!(path = %path.display(), success, messages, "some frames are read one place at a time");
        }
        Ok(Self {
            format,
            pixels,
            found: found.into_iter(),
        })
    }

    /// The next frame, or frames that have to be read in another way.
    pub(crate) fn next(&mut self) -> Option<Result<YuvFrame, Vec<u32>>> {
        let next = match self.found.next()? {
            Found::Unproven(frames) => Err(frames),
            Found::Proven(number, pts, at) => {
                let bytes = self.format.frame_bytes();
                Ok(self
                    .format
                    .frame(&self.pixels[at * bytes..][..bytes], pts, number))
            }
        };
        Some(next)
    }
}

/// Says of every place which of the frames sent are its own, if they are what they should be.
fn sort(index: &SourceIndex, places: &[Place], lines: &[Vec<FrameLine>], frames_sent: usize) -> Vec<Found> {
    let selection = |place: &Place| Selection::of(index, stretches_of(&place.frames));
    let counts: Vec<usize> = places
        .iter()
        .zip(lines)
        .map(|(place, lines)| {
            let selection = selection(place);
            lines.iter().filter(|line| selection.takes(line.pts)).count()
        })
        .collect();
    // With a frame more or less than was announced, nobody knows whose the others are.
    let is_whole = counts.iter().sum::<usize>() == frames_sent;
    let mut at = 0;
    let mut found = Vec::new();
    for ((place, lines), count) in places.iter().zip(lines).zip(counts) {
        if is_whole && count == place.frames.len() && check(index, place, lines).is_ok() {
            let proven = place.frames.iter().zip(at..);
            found.extend(
                proven.map(|(&frame, at)| Found::Proven(frame, index.frames[frame as usize].pts, at)),
            );
        } else {
            found.push(Found::Unproven(place.frames.clone()));
        }
        at += count;
    }
    found
}

/// Every frame from the key frame to the last wanted one is there and as the index has it.
fn check(index: &SourceIndex, place: &Place, lines: &[FrameLine]) -> Result<(), Stray> {
    let key_pts = index.frames[place.key as usize].pts;
    let is_leading = |line: &&FrameLine| line.pts.is_some_and(|pts| pts < key_pts);
    let mut from_key = lines.iter().skip_while(is_leading);
    let last = place.frames.last().copied().unwrap_or(place.key);
    for number in place.key..=last {
        let found = from_key.next().and_then(|line| Some((line.pts?, line.pict_type)));
        let found = found.ok_or_else(|| Stray(format!("frame {number} is missing")))?;
        agree(index, number, found)?;
    }
    Ok(())
}

fn args(path: &Path, index: &SourceIndex, places: &[Place], format: &RawFormat) -> Args {
    let mut args = Args::new(Program::Ffmpeg, "repeat+info");
    args.add(&["-copyts"]);
    let tick_s = index.video.time_base.as_f64();
    for place in places {
        let time_s = time_of_key(path, index, place.key)
            .unwrap_or_else(|| index.frames[place.key as usize].pts as f64 * tick_s);
        // Several threads decode a few frames more than are wanted, and one place no sooner than the next is wanted.
        args.add(&["-noautorotate", "-threads", "1", "-seek_timestamp", "1"]);
        args.add(&["-noaccurate_seek", "-ss", &format!("{time_s:.6}")])
            .input(path);
    }
    args.add(&["-filter_complex", &graph(index, places, format)]);
    args.add(&[
        "-map",
        "[all]",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "pipe:1",
    ]);
    args
}

/// Lines of each place name its number.
fn graph(index: &SourceIndex, places: &[Place], format: &RawFormat) -> String {
    let chain = |(number, place): (usize, &Place)| {
        let selection = Selection::of(index, stretches_of(&place.frames));
        format!(
            "[{number}:V:0]format={},showinfo@{number}=checksum=0,{}[{number}];",
            format.pix_fmt,
            selection.filter()
        )
    };
    let chains: String = places.iter().enumerate().map(chain).collect();
    let pads: String = (0..places.len()).map(|number| format!("[{number}]")).collect();
    format!("{chains}{pads}concat=n={}[all]", places.len())
}

/// The number of the place that a line is about.
fn place_of(line: &str) -> Option<usize> {
    let rest = line.split_once("showinfo@")?.1;
    rest.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ops::ControlFlow;
    use std::path::PathBuf;

    use remaster_domain::{ContentHash, FrameRange, PictType};

    use super::*;
    use crate::FrameReader;
    use crate::child::run;

    struct Clip {
        path: PathBuf,
        index: SourceIndex,
        places: [Place; 2],
        _folder: tempfile::TempDir,
    }

    /// Three seconds that move, with a key frame at every twelfth, and frames at two places.
    fn clip() -> Clip {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mkv");
        let mut args = Args::new(Program::Ffmpeg, "error");
        args.add(&["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=3"]);
        args.add(&[
            "-c:v",
            "mpeg2video",
            "-g",
            "12",
            "-bf",
            "2",
            path.to_str().unwrap(),
        ]);
        let made = run(Program::Ffmpeg, &args).unwrap();
        assert!(made.success, "{}", made.messages);
        let mut go_on = |_| ControlFlow::Continue(());
        let (index, _) = crate::index(&path, &ContentHash::of(b""), &mut go_on).unwrap();
        let keys = (0..index.frames.len() as u32).filter(|&number| index.frames[number as usize].key);
        let keys: Vec<u32> = keys.collect();
        let place = |key: u32, frames: [u32; 2]| Place {
            key,
            frames: frames.map(|frame| key + frame).to_vec(),
        };
        Clip {
            path,
            places: [place(keys[1], [2, 5]), place(keys[3], [0, 1])],
            index,
            _folder: folder,
        }
    }

    impl Clip {
        /// What comes of both places by an index: frames, and numbers of those left to another reader.
        fn read(&self, index: &SourceIndex) -> Vec<Result<YuvFrame, Vec<u32>>> {
            let mut together = Together::read(&self.path, index, &self.places, &|| false).unwrap();
            std::iter::from_fn(|| together.next()).collect()
        }

        /// The frames of a place from one linear decode.
        fn truth(&self, place: &Place) -> Vec<Result<YuvFrame, Vec<u32>>> {
            let end = self.index.frames.len() as u32;
            let all = FrameReader::open(&self.path, &self.index, FrameRange { start: 0, end }).unwrap();
            let own = all
                .map(Result::unwrap)
                .filter(|frame| place.frames.contains(&frame.index));
            own.map(Ok).collect()
        }
    }

    #[test]
    fn frames_of_several_places_are_those_of_one_linear_decode() {
        let clip = clip();
        let [first, second] = &clip.places;
        assert!(clip.read(&clip.index) == [clip.truth(first), clip.truth(second)].concat());
    }

    #[test]
    fn a_place_that_disagrees_with_the_index_is_left_unproven_and_its_neighbour_is_not() {
        let clip = clip();
        let [first, second] = &clip.places;
        // A frame that nobody wants, on the way from the first wanted one to the second.
        let mut other = clip.index.clone();
        other.frames[first.key as usize + 3].pict_type = PictType::Other;
        let left = vec![Err(first.frames.clone())];
        assert!(clip.read(&other) == [left.clone(), clip.truth(second)].concat());
        // A wanted frame has another time: ffmpeg is asked for it and has nothing to send.
        let mut other = clip.index.clone();
        other.frames[first.frames[1] as usize].pts += 1;
        assert!(clip.read(&other) == [left, clip.truth(second)].concat());
    }

    #[test]
    fn places_that_seeking_does_not_reach_are_left_unproven() {
        let clip = clip();
        let mut far = clip.index.clone();
        far.video.time_base.num *= 2;
        let left = clip.places.iter().map(|place| Err(place.frames.clone()));
        assert!(clip.read(&far) == left.collect::<Vec<_>>());
    }
}
