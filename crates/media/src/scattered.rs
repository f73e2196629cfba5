//! Reads frames that lie apart, seeking only where that saves decoding.

use std::path::{Path, PathBuf};

use remaster_domain::{FrameRange, SourceIndex};

use crate::reader::seek_key;
use crate::{FrameReader, MediaError, YuvFrame};

/// Frames that a seek must save: starting ffmpeg and reading headers costs about as much as decoding these.
const SEEK_SAVES_FRAMES_MIN: u32 = 48;

/// An iterator over chosen frames in ascending order, each once.
pub struct ScatteredFrames {
    path: PathBuf,
    index: SourceIndex,
    /// Groups still to be read, the last first; each is read by one decode.
    groups: Vec<Vec<u32>>,
    current: Option<(FrameReader, std::vec::IntoIter<u32>)>,
}

/// Reads the given frames, in whatever order they are given.
///
/// # Errors
/// A frame outside the index. Errors of decoding come from the iterator.
pub fn read_frames(path: &Path, index: &SourceIndex, wanted: &[u32]) -> Result<ScatteredFrames, MediaError> {
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
    let mut groups = group(index, &sorted);
    groups.reverse();
    Ok(ScatteredFrames {
        path: path.to_owned(),
        index: index.clone(),
        groups,
        current: None,
    })
}

/// Splits ascending frames where seeking is cheaper than decoding on.
fn group(index: &SourceIndex, sorted: &[u32]) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for &frame in sorted {
        let last = groups.last().and_then(|group| group.last().copied());
        let decode_from = seek_key(index, frame).unwrap_or(0);
        match (last, groups.last_mut()) {
            (Some(last), Some(group)) if decode_from < last.saturating_add(SEEK_SAVES_FRAMES_MIN) => {
                group.push(frame);
            }
            _ => groups.push(vec![frame]),
        }
    }
    groups
}

impl ScatteredFrames {
    fn next_frame(&mut self) -> Option<Result<YuvFrame, MediaError>> {
        loop {
            if let Some((reader, wanted)) = &mut self.current
                && let Some(frame) = wanted.next()
            {
                return reader.find(|result| !matches!(result, Ok(found) if found.index != frame));
            }
            let group = self.groups.pop()?;
            let (first, last) = (*group.first()?, *group.last()?);
            let range = FrameRange {
                start: first,
                end: last + 1,
            };
            match FrameReader::open(&self.path, &self.index, range) {
                Ok(reader) => self.current = Some((reader, group.into_iter())),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for ScatteredFrames {
    type Item = Result<YuvFrame, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.next_frame();
        if matches!(result, Some(Err(_))) {
            self.groups.clear();
            self.current = None;
        }
        result
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
                width: 2,
                height: 2,
                pix_fmt: "yuv420p".to_owned(),
                sar: one,
                frame_rate: one,
                time_base: one,
                matrix: None,
                range: None,
            },
            frames: (0..frames).map(frame).collect(),
            cuts: Vec::new(),
            fields: remaster_domain::FieldPlan::default(),
        }
    }

    #[test]
    fn near_frames_share_a_decode_and_far_ones_do_not() {
        let index = index_with_keys_every(12, 1000);
        assert_eq!(
            group(&index, &[3, 40, 60, 500, 501]),
            [vec![3, 40, 60], vec![500, 501]]
        );
    }

    #[test]
    fn without_key_frames_everything_is_one_linear_decode() {
        let index = index_with_keys_every(1000, 1000);
        assert_eq!(group(&index, &[3, 500, 999]), [vec![3, 500, 999]]);
    }
}
