//! How frames are made whole from their fields: as the index says, by ffmpeg's bwdif, or by its nnedi where its weights are given.
//!
//! nnedi's network needs a file of weights that ffmpeg does not bring along (`nnedi3_weights.bin`).

use std::path::{Path, PathBuf};

use remaster_domain::{FieldFilter, Rational};

/// Marks what stays combed as interlaced, and everything else as not.
pub(crate) const MATCH: &str = "fieldmatch=order=auto:combmatch=full";

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
    /// The filter chain, one frame out for each in, timestamps in the given time base. Starts with a comma.
    pub(crate) fn chain(&self, time_base: Rational) -> String {
        // Deinterlacers halve the time base.
        let clock = format!("settb={}/{}", time_base.num, time_base.den);
        match (self.filter, &self.nnedi_weights) {
            (FieldFilter::None, _) => String::new(),
            (FieldFilter::Match, _) => format!(",{MATCH},bwdif=mode=send_frame:deint=interlaced,{clock}"),
            (FieldFilter::Deinterlace, None) => format!(",bwdif=mode=send_frame:deint=all,{clock}"),
            (FieldFilter::Deinterlace, Some(weights)) => {
                format!(",nnedi=weights={}:deint=all:field=a,{clock}", escaped(weights))
            }
        }
    }
}

/// A path as an option of a filter: ffmpeg takes a filter's options apart after it has taken the chain apart.
fn escaped(path: &Path) -> String {
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
