//! How frames are made whole from their fields: as the index says, by ffmpeg's bwdif, or by its nnedi where its weights are given.
//!
//! nnedi's network needs a file of weights that ffmpeg does not bring along (`nnedi3_weights.bin`).

use std::path::{Path, PathBuf};

use remaster_domain::{FieldFilter, Rational, THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

use crate::frame::RawFormat;
use crate::{Chroma, YuvFrame};

/// Marks what stays combed as interlaced, and everything else as not.
pub(crate) const MATCH: &str = "fieldmatch=order=auto:combmatch=full";

/// Lines of the strip that has the thumbnail of a frame as it is coded; even, so that chroma below it stays where it was.
pub(crate) const PROOF_LINES: u32 = THUMB_HEIGHT_PX as u32;

/// What is done with fields, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// What the frames need.
    pub filter: FieldFilter,
    /// nnedi3's weights, where it deinterlaces instead of bwdif.
    pub nnedi_weights: Option<PathBuf>,
}

impl From<FieldFilter> for Restore {
    fn from(filter: FieldFilter) -> Self {
        Self {
            filter,
            nnedi_weights: None,
        }
    }
}

impl Restore {
    /// The filters, one frame out for each in, timestamps in the given time base. Starts with a comma.
    ///
    /// What is made of fields shows another instant than the frame that they are taken from, so a [`PROOF_LINES`] high strip
    /// above it brings along the frame's own thumbnail, from before the filters, at its left.
    pub(crate) fn graph(&self, width: u32, time_base: Rational) -> String {
        // Deinterlacers halve the time base.
        let clock = format!("settb={}/{}", time_base.num, time_base.den);
        let made = match (self.filter, &self.nnedi_weights) {
            (FieldFilter::None, _) => return String::new(),
            (FieldFilter::Match, _) => format!("{MATCH},bwdif=mode=send_frame:deint=interlaced"),
            (FieldFilter::Deinterlace, None) => "bwdif=mode=send_frame:deint=all".to_owned(),
            (FieldFilter::Deinterlace, Some(weights)) => {
                format!("nnedi=weights={}:deint=all:field=a", escaped(weights))
            }
        };
        let full = "in_range=full:out_range=full";
        format!(
            ",split[coded][fields];[fields]{made},{clock}[made];\
             [coded]scale={THUMB_WIDTH_PX}:{PROOF_LINES}:flags=area:{full},pad={width}:{PROOF_LINES}[proof];\
             [proof][made]vstack"
        )
    }
}

/// One frame as it comes out of the filters.
pub(crate) struct Restored {
    pub(crate) frame: YuvFrame,
    /// The thumbnail of the coded frame whose number it has, where the frame is made of fields.
    pub(crate) coded: Option<Vec<u8>>,
}

impl Restored {
    /// How ffmpeg sends frames of this format.
    pub(crate) fn format(whole: &RawFormat, filter: FieldFilter) -> RawFormat {
        let strip = match filter {
            FieldFilter::None => 0,
            FieldFilter::Match | FieldFilter::Deinterlace => PROOF_LINES,
        };
        RawFormat {
            height: whole.height + strip,
            ..whole.clone()
        }
    }

    /// Takes apart what was sent for a frame of `height` lines.
    pub(crate) fn of(mut sent: YuvFrame, height: u32) -> Self {
        let strip = (sent.height - height) as usize;
        if strip == 0 {
            return Self {
                frame: sent,
                coded: None,
            };
        }
        let lines = sent.planes[0].chunks(sent.width as usize).take(strip);
        let coded = lines.flat_map(|line| line.iter().take(THUMB_WIDTH_PX));
        let to_8_bit = sent.depth - 8;
        let coded = coded.map(|luma| (luma >> to_8_bit) as u8).collect();

        let (chroma_width, _) = sent.chroma_size();
        let chroma_strip = match sent.chroma {
            Chroma::C420 => strip / 2,
            Chroma::C422 | Chroma::C444 => strip,
        };
        sent.planes[0].drain(..strip * sent.width as usize);
        for plane in &mut sent.planes[1..] {
            plane.drain(..chroma_strip * chroma_width);
        }
        sent.height = height;
        Self {
            frame: sent,
            coded: Some(coded),
        }
    }
}

/// A path as an option of a filter: ffmpeg takes a filter's options apart after it has taken the chain apart.
pub(crate) fn escaped(path: &Path) -> String {
    let behind = |text: &str, special: &str| -> String {
        let escape = |c: char| special.contains(c).then_some('\\').into_iter().chain([c]);
        text.chars().flat_map(escape).collect()
    };
    behind(&behind(&path.to_string_lossy(), "\\':"), "\\'[],;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_for_the_option_and_for_the_chain() {
        assert_eq!(escaped(Path::new("/a b/c.bin")), "/a b/c.bin");
        assert_eq!(escaped(Path::new("a:b,c'")), "a\\\\:b\\,c\\\\\\'");
    }
}
