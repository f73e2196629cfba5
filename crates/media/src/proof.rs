//! Proves by its thumbnail that a decoded picture is the one in the index.
//!
//! Timestamps and kinds of pictures say where a decoder believes to be; one that starts a picture off, or shows what it has
//! not got, says the same of other pictures. So every frame that is handed out must look like its thumbnail, and no more
//! like another one nearby. Pictures that stand still look alike: there a wrong one is a right one.
//!
//! What was made of a frame is compared with the same thumbnail, less strictly: colours may have changed, what is seen not.

use std::sync::Arc;

use remaster_domain::{FieldFilter, FrameRange};

use crate::thumbnail::{THUMB_BYTES, thumbnail};
use crate::{MediaError, YuvFrame};

/// Frames on either side that a frame must not resemble more than itself: what starts wrong is off by a few.
const NEIGHBOURS: u32 = 4;
/// Frames on either side whose fields a frame made of fields may show. A coded frame may hold fields of two pictures, at a cut
/// even of two scenes, and what is made of it shows either one: it then looks like its neighbour and is right. By itself it
/// would not be told from one that is off by a frame; of true 50i film up to 3 in 100 right frames look more like another.
const FIELD_NEIGHBOURS: u32 = 1;
/// Mean difference to its own thumbnail that a frame as it is coded may have, in levels: two scalers round
/// differently, by up to 0.3 in all that was measured.
const CODED_LEVELS_MAX: f32 = 1.5;
/// The same for a frame made of fields, of which one may be invented: up to 3.7 was measured.
const FIELDS_LEVELS_MAX: f32 = 8.0;
/// By so many levels of mean difference another frame must be nearer to count. In fades no right frame has a nearer one; of
/// held drawings with grain one was nearer by 0.1, which is rounding.
const NEARER_LEVELS_MIN: f32 = 0.3;

/// Correlation with its source's thumbnail below which a made picture shows something else, turned round or not: a colour table may
/// make a negative.
const LIKENESS_MIN: f64 = 0.5;
/// A thumbnail whose levels deviate less shows nothing to compare.
const DETAIL_LEVELS_MIN: f64 = 2.0;

/// The thumbnails of consecutive frames, as the index's decode made them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameThumbs {
    first: u32,
    bytes: Arc<Vec<u8>>,
}

impl FrameThumbs {
    /// Thumbnails of the frames from `first` on, one after the other.
    ///
    /// # Errors
    /// [`MediaError::Usage`] where the bytes are no whole number of thumbnails.
    pub fn new(first: u32, bytes: Vec<u8>) -> Result<Self, MediaError> {
        if !bytes.len().is_multiple_of(THUMB_BYTES) {
            let detail = format!("{} bytes, {THUMB_BYTES} each", bytes.len());
            return Err(MediaError::Usage {
                what: "thumbnails",
                detail,
            });
        }
        let bytes = Arc::new(bytes);
        Ok(Self { first, bytes })
    }

    /// The frames whose thumbnails prove a range of a source of `frame_count` frames.
    #[must_use]
    pub fn around(range: FrameRange, frame_count: u32) -> FrameRange {
        FrameRange {
            start: range.start.saturating_sub(NEIGHBOURS),
            end: range.end.saturating_add(NEIGHBOURS).min(frame_count),
        }
    }

    /// Whether each frame of a range has its thumbnail here.
    pub(crate) fn covers(&self, range: FrameRange) -> bool {
        let end = self.first as usize + self.bytes.len() / THUMB_BYTES;
        self.first <= range.start && range.end as usize <= end
    }

    fn of(&self, frame: u32) -> Option<&[u8]> {
        let number = frame.checked_sub(self.first)? as usize;
        self.bytes
            .get(number * THUMB_BYTES..)
            .and_then(|rest| rest.get(..THUMB_BYTES))
    }

    /// Why a frame that was decoded is not the one of its number. One that is made of fields comes with the thumbnail of the
    /// frame that was `coded` there, which proves it; of itself no more is asked than that it shows an instant nearby.
    pub(crate) fn objection(&self, frame: &YuvFrame, coded: Option<&[u8]>) -> Option<String> {
        let found = thumbnail(frame);
        match coded {
            None => self.is_another(frame.index, &found, 0, CODED_LEVELS_MAX),
            Some(coded) => self
                .is_another(frame.index, coded, 0, CODED_LEVELS_MAX)
                .or_else(|| self.is_another(frame.index, &found, FIELD_NEIGHBOURS, FIELDS_LEVELS_MAX)),
        }
    }

    /// Why a thumbnail is not that of a frame within `own_reach` of `number`.
    fn is_another(&self, number: u32, found: &[u8], own_reach: u32, levels_max: f32) -> Option<String> {
        let off = |other: u32| Some((mean_difference(found, self.of(other)?), other));
        let nearest = |reach: u32| {
            let around = number.saturating_sub(reach)..=number.saturating_add(reach);
            around.filter_map(off).min_by(|a, b| a.0.total_cmp(&b.0))
        };
        let (own, _) = nearest(own_reach)?;
        let (least, other) = nearest(NEIGHBOURS)?;
        if own > least + NEARER_LEVELS_MIN {
            Some(format!(
                "it looks like frame {other}, from which it differs by {least:.1} levels and not by {own:.1}"
            ))
        } else if own > levels_max {
            Some(format!("it differs from its thumbnail by {own:.1} levels"))
        } else {
            None
        }
    }

    /// Why what was made of a frame, after `filter` and whatever came then, does not show what the frame shows; `made` is
    /// its thumbnail.
    pub(crate) fn unlike(&self, frame: u32, filter: FieldFilter, made: &[u8]) -> Option<String> {
        let reach = match filter {
            FieldFilter::None => 0,
            FieldFilter::Match | FieldFilter::Deinterlace => FIELD_NEIGHBOURS,
        };
        let around = frame.saturating_sub(reach)..=frame.saturating_add(reach);
        let likeness: Option<Vec<f64>> = around
            .filter_map(|other| self.of(other))
            .map(|source| correlation(source, made).map(f64::abs))
            .collect();
        let best = likeness?.into_iter().reduce(f64::max)?;
        (best < LIKENESS_MIN).then(|| {
            format!("what was made of frame {frame} does not look like it: scaled down, they correlate by {best:.2}")
        })
    }
}

/// None where one of them is flat.
fn correlation(a: &[u8], b: &[u8]) -> Option<f64> {
    let count = a.len() as f64;
    let mean = |levels: &[u8]| levels.iter().map(|&level| f64::from(level)).sum::<f64>() / count;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let flat = count * DETAIL_LEVELS_MIN * DETAIL_LEVELS_MIN;
    (aa >= flat && bb >= flat).then(|| ab / (aa * bb).sqrt())
}

/// In levels of 255.
fn mean_difference(a: &[u8], b: &[u8]) -> f32 {
    let sum: u32 = a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
    sum as f32 / a.len() as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

    use super::*;
    use crate::Chroma;

    /// A bar that stands `at` columns from the left, as frame `index`, at twice a thumbnail's size.
    fn bar(at: usize, index: u32) -> YuvFrame {
        let (width, height) = (2 * THUMB_WIDTH_PX, 2 * THUMB_HEIGHT_PX);
        let level = |x: usize| if (at..at + 6).contains(&x) { 200 } else { 40 };
        let luma = (0..width * height).map(|i| level(i % width)).collect();
        let chroma = vec![128; width * height / 4];
        YuvFrame {
            width: width as u32,
            height: height as u32,
            depth: 8,
            chroma: Chroma::C420,
            planes: [luma, chroma.clone(), chroma],
            pts: 0,
            index,
        }
    }

    /// Frames 10..18 of a bar that moves a column each.
    fn thumbs() -> FrameThumbs {
        let bytes = (10..18).flat_map(|frame| thumbnail(&bar(frame, 0)));
        FrameThumbs::new(10, bytes.collect()).unwrap()
    }

    #[test]
    fn a_frame_that_is_another_one_is_named_as_that() {
        for frame in 10..18 {
            assert_eq!(thumbs().objection(&bar(frame, frame as u32), None), None);
        }
        let off = thumbs().objection(&bar(13, 12), None).unwrap();
        assert!(off.contains("looks like frame 13"), "{off}");
        let far = thumbs().objection(&bar(60, 12), None).unwrap();
        assert!(far.contains("differs from its thumbnail"), "{far}");
    }

    #[test]
    fn a_frame_made_of_fields_may_show_its_neighbour_and_must_come_of_its_own() {
        let own = thumbnail(&bar(12, 0));
        let objection = |made: usize, coded: &[u8]| thumbs().objection(&bar(made, 12), Some(coded));
        assert_eq!(objection(13, &own), None);
        assert!(objection(14, &own).is_some());
        let off = objection(12, &thumbnail(&bar(13, 0))).unwrap();
        assert!(off.contains("looks like frame 13"), "{off}");
    }

    #[test]
    fn what_was_made_of_a_frame_must_show_it_in_whatever_colours() {
        let unlike = |frame: u32, made: &[u8]| thumbs().unlike(frame, FieldFilter::None, made);
        let negative: Vec<u8> = thumbnail(&bar(12, 0)).iter().map(|level| 255 - level).collect();
        assert_eq!(unlike(12, &negative), None);
        let brighter: Vec<u8> = thumbnail(&bar(12, 0))
            .iter()
            .map(|level| level / 2 + 90)
            .collect();
        assert_eq!(unlike(12, &brighter), None);
        assert!(unlike(12, &thumbnail(&bar(60, 0))).unwrap().contains("frame 12"));
        assert_eq!(
            unlike(12, &[77; THUMB_BYTES]),
            None,
            "a flat picture says nothing"
        );
    }

    #[test]
    fn thumbnails_of_a_range_reach_beyond_it_and_not_beyond_the_source() {
        let range = |start, end| FrameRange { start, end };
        assert_eq!(FrameThumbs::around(range(2, 20), 100), range(0, 24));
        assert_eq!(FrameThumbs::around(range(90, 99), 100), range(86, 100));
        assert!(
            thumbs().covers(range(10, 18))
                && !thumbs().covers(range(9, 12))
                && !thumbs().covers(range(12, 19))
        );
        assert!(FrameThumbs::new(0, vec![0; THUMB_BYTES + 1]).is_err());
    }
}
