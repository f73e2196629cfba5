//! The output: which frames of a source go out, and when each is shown. Pure functions of index and settings, so that plan,
//! segments and assembly agree on any machine.
//!
//! Every frame of the index goes out at its own time (variable rates, late starts and soft telecine as they are), but
//! for the repeats that hard telecine made: the four film frames of a cycle of five share the cycle's time evenly.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{FieldFilter, FrameRange, Rational, SourceIndex, VideoInfo};

/// Video frames in which hard telecine shows four film frames. Cycles are counted from frame 0.
pub const TELECINE_CYCLE_FRAMES: u32 = 5;

/// What a user wants done with fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldChoice {
    /// What the index found.
    #[default]
    Auto,
    /// Take every frame as it is.
    Progressive,
    /// Deinterlace every frame.
    Deinterlace,
}

impl FieldChoice {
    /// Whether it is left to the index.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl FromStr for FieldChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "progressive" => Ok(Self::Progressive),
            "deinterlace" => Ok(Self::Deinterlace),
            _ => Err("expected auto, progressive or deinterlace".to_owned()),
        }
    }
}

/// Size of nnedi3's weights (`nnedi3_weights.bin`), which ffmpeg demands to the byte.
pub const NNEDI_WEIGHTS_BYTES: u64 = 13_574_928;

/// Whether a file of so many bytes can be nnedi3's weights; ffmpeg would refuse it for every segment.
///
/// # Errors
/// What is wrong with it.
pub fn check_nnedi_weights(bytes: u64) -> Result<(), String> {
    if bytes == NNEDI_WEIGHTS_BYTES {
        Ok(())
    } else {
        Err(format!(
            "it has {bytes} bytes, nnedi3_weights.bin has {NNEDI_WEIGHTS_BYTES}"
        ))
    }
}

/// Shape of the output's pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelShape {
    /// Square: right in every player.
    #[default]
    Square,
    /// As the source has them: nothing is resampled after the model.
    Source,
}

impl FromStr for PixelShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "square" => Ok(Self::Square),
            "source" => Ok(Self::Source),
            _ => Err("expected square or source".to_owned()),
        }
    }
}

impl PixelShape {
    /// Pixel aspect of an output made of such a source.
    #[must_use]
    pub fn sar(self, source: &VideoInfo) -> Rational {
        match self {
            Self::Square => Rational { num: 1, den: 1 },
            Self::Source => source.sar,
        }
    }
}

/// Kind of output file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// Matroska: holds everything that discs have.
    #[default]
    Mkv,
    /// MP4: no attached fonts, no bitmap subtitles of Blu-rays.
    Mp4,
}

impl Container {
    /// The ending of its files' names, and ffmpeg's name for it where it has two.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Mkv => "mkv",
            Self::Mp4 => "mp4",
        }
    }
}

/// A frame that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputFrame {
    /// Frame of the index it is made of.
    pub source: u32,
    /// When it is shown, in ticks of the source.
    pub pts: i64,
}

/// All frames that go out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputList {
    /// What is done to the frames of the source first.
    pub filter: FieldFilter,
    /// The frames.
    pub frames: Vec<OutputFrame>,
    /// Nominal frames per second.
    pub frame_rate: Rational,
}

impl OutputList {
    /// The list of an index.
    #[must_use]
    pub fn of(index: &SourceIndex, choice: FieldChoice) -> Self {
        let (filter, dropped): (_, &[u32]) = match choice {
            FieldChoice::Auto => (index.fields.filter, &index.fields.dropped),
            FieldChoice::Progressive => (FieldFilter::None, &[]),
            FieldChoice::Deinterlace => (FieldFilter::Deinterlace, &[]),
        };
        let mut frames = Vec::with_capacity(index.frames.len());
        let mut rest = dropped;
        for (cycle, shown) in index.frames.chunks(TELECINE_CYCLE_FRAMES as usize).enumerate() {
            let first = cycle as u32 * TELECINE_CYCLE_FRAMES;
            let (here, later) =
                rest.split_at(rest.partition_point(|&frame| frame < first + TELECINE_CYCLE_FRAMES));
            rest = later;
            let kept = (first..).take(shown.len()).filter(|frame| !here.contains(frame));
            let kept: Vec<u32> = kept.collect();
            let start = shown[0].pts;
            let end = index.frames.get(first as usize + shown.len()).map_or_else(
                || start + ticks(index, i64::from(TELECINE_CYCLE_FRAMES)),
                |next| next.pts,
            );
            for (&source, place) in kept.iter().zip(0..) {
                let pts = if here.is_empty() {
                    index.frames[source as usize].pts
                } else {
                    start + rounded((end - start) * place, kept.len() as i64)
                };
                frames.push(OutputFrame { source, pts });
            }
        }
        let frame_rate = film_rate(index, dropped.len());
        Self {
            filter,
            frames,
            frame_rate,
        }
    }

    /// The frames that are made of a range of the source.
    #[must_use]
    pub fn within(&self, range: FrameRange) -> &[OutputFrame] {
        let place = |frame: u32| self.frames.partition_point(|output| output.source < frame);
        &self.frames[place(range.start)..place(range.end)]
    }
}

/// Ticks of so many frames at the nominal rate.
fn ticks(index: &SourceIndex, frames: i64) -> i64 {
    let (rate, tick) = (index.video.frame_rate, index.video.time_base);
    rounded(frames * rate.den * tick.den, rate.num * tick.num)
}

fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// Four fifths of the nominal rate where nearly all cycles are film, and the nominal rate otherwise.
fn film_rate(index: &SourceIndex, dropped: usize) -> Rational {
    let rate = index.video.frame_rate;
    let cycles = index.frames.len() / TELECINE_CYCLE_FRAMES as usize;
    if dropped == 0 || dropped * 10 < cycles * 9 {
        return rate;
    }
    if rate.num % 5 == 0 {
        return Rational {
            num: rate.num / 5 * 4,
            den: rate.den,
        };
    }
    Rational {
        num: rate.num * 4,
        den: rate.den * 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContentHash, FieldPlan, FrameInfo, PictType, VideoInfo};

    fn index(pts: impl IntoIterator<Item = i64>, dropped: &[u32]) -> SourceIndex {
        let frame = |pts| FrameInfo {
            pts,
            pict_type: PictType::I,
            key: true,
            interlaced: true,
        };
        SourceIndex {
            version: 1,
            source: ContentHash::of(b""),
            video: VideoInfo {
                codec: String::new(),
                width: 720,
                height: 480,
                pix_fmt: "yuv420p".to_owned(),
                sar: Rational { num: 8, den: 9 },
                frame_rate: Rational {
                    num: 30_000,
                    den: 1001,
                },
                time_base: Rational { num: 1, den: 90_000 },
                matrix: None,
                range: None,
            },
            frames: pts.into_iter().map(frame).collect(),
            cuts: Vec::new(),
            repeats: Vec::new(),
            fields: FieldPlan {
                filter: FieldFilter::Match,
                dropped: dropped.to_vec(),
            },
        }
    }

    fn shown(list: &OutputList) -> Vec<(u32, i64)> {
        list.frames
            .iter()
            .map(|frame| (frame.source, frame.pts))
            .collect()
    }

    #[test]
    fn four_film_frames_share_the_time_of_five_and_what_is_left_keeps_its_own() {
        let index = index((0..12).map(|n| 90 + n * 3003), &[2, 9]);
        let list = OutputList::of(&index, FieldChoice::Auto);
        let film = [0, 1, 3, 4, 5, 6, 7, 8]
            .into_iter()
            .zip((0..8).map(|n| 90 + (n * 15_015 + 2) / 4));
        let rest = [(10, 90 + 10 * 3003), (11, 90 + 11 * 3003)];
        assert_eq!(shown(&list), film.chain(rest).collect::<Vec<_>>());
        assert_eq!(
            list.frame_rate,
            Rational {
                num: 24_000,
                den: 1001
            }
        );
        assert_eq!(list.within(FrameRange { start: 2, end: 10 }).len(), 6);
    }

    #[test]
    fn a_last_cycle_of_film_ends_at_the_nominal_rate() {
        let list = OutputList::of(&index((0..5).map(|n| n * 3003), &[0]), FieldChoice::Auto);
        assert_eq!(shown(&list), [(1, 0), (2, 3754), (3, 7508), (4, 11_261)]);
    }

    #[test]
    fn a_user_may_keep_every_frame() {
        let index = index([5, 9, 13, 40, 41], &[2]);
        let list = OutputList::of(&index, FieldChoice::Progressive);
        assert_eq!(list.filter, FieldFilter::None);
        assert_eq!(shown(&list), [(0, 5), (1, 9), (2, 13), (3, 40), (4, 41)]);
        let list = OutputList::of(&index, FieldChoice::Deinterlace);
        assert_eq!((list.filter, list.frames.len()), (FieldFilter::Deinterlace, 5));
    }
}
