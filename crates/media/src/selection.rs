//! Whose pixels ffmpeg shall hand over: all other frames are decoded on the way to them and stay where they are.
//!
//! Copying a frame through a pipe costs a good part of decoding it, so what nobody wants is left out there, by timestamp.

use remaster_domain::{FrameRange, SourceIndex};

/// Timestamps of wanted frames, as stretches that ascend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// First and last timestamp of each.
    spans: Vec<(i64, i64)>,
}

impl Selection {
    /// Of stretches of frames of the index, none of them empty.
    pub(crate) fn of(index: &SourceIndex, stretches: impl IntoIterator<Item = FrameRange>) -> Self {
        let pts = |frame: u32| index.frames[frame as usize].pts;
        let span = |stretch: FrameRange| (pts(stretch.start), pts(stretch.end - 1));
        Self {
            spans: stretches.into_iter().map(span).collect(),
        }
    }

    /// The filters that let these frames through and no others. The last one ends the decoding: nobody would hold it back by not
    /// reading on.
    pub(crate) fn filter(&self) -> String {
        let spans = self.spans.iter();
        let terms: Vec<String> = spans
            .map(|(first, last)| format!("between(pts\\,{first}\\,{last})"))
            .collect();
        let end = self.spans.last().map_or(0, |(_, last)| last + 1);
        format!("trim=end_pts={end},select={}", terms.join("+"))
    }

    /// Whether the filter lets a frame through. It drops frames without a timestamp.
    pub(crate) fn takes(&self, pts: Option<i64>) -> bool {
        let Some(pts) = pts else {
            return false;
        };
        let after = self.spans.partition_point(|&(first, _)| first <= pts);
        after > 0 && pts <= self.spans[after - 1].1
    }
}

/// Ascending frame numbers as stretches without a gap.
pub(crate) fn stretches_of(frames: &[u32]) -> Vec<FrameRange> {
    let stretch = |frames: &[u32]| FrameRange {
        start: frames[0],
        end: frames[frames.len() - 1] + 1,
    };
    frames.chunk_by(|a, b| a + 1 == *b).map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_and_what_is_expected_of_it_agree() {
        let selection = Selection {
            spans: vec![(10, 12), (20, 20)],
        };
        assert_eq!(
            selection.filter(),
            r"trim=end_pts=21,select=between(pts\,10\,12)+between(pts\,20\,20)"
        );
        let taken: Vec<i64> = (0..30).filter(|&pts| selection.takes(Some(pts))).collect();
        assert_eq!(taken, [10, 11, 12, 20]);
        assert!(!selection.takes(None));
    }

    #[test]
    fn frames_in_a_row_are_one_stretch() {
        let stretches = stretches_of(&[3, 4, 5, 9, 11, 12]);
        let ends: Vec<(u32, u32)> = stretches.iter().map(|s| (s.start, s.end)).collect();
        assert_eq!(ends, [(3, 6), (9, 10), (11, 13)]);
    }
}
