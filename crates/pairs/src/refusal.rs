//! Why two files make no pairs. Each reason is a different thing to tell a user; none goes away by trying again.

/// Two sources, or some of their frames, that this crate will not pair.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The pictures are not those of the same episode.
    #[error(
        "the hd copy shows another episode: no long stretch of it matches (mean correlation {zncc:.2}, 0.80 is \
         needed); check which file belongs to which episode"
    )]
    AnotherEpisode {
        /// Mean correlation along the best path, 0 where that path avoids the HD copy altogether.
        zncc: f64,
    },
    /// Some stretches match, most do not.
    #[error(
        "the hd copy is another cut: only {:.0} % of the sd frames have a match; give the copy of the same cut",
        covered * 100.0
    )]
    OtherCut {
        /// Share of the SD frames that lie in a proven stretch.
        covered: f64,
    },
    /// The pictures fit, but nothing moves enough to prove which frame is which.
    #[error("no stretch of the episode moves enough to prove which frame is which; leave out the hd copy")]
    NoEvidence,
    /// The disc was converted between 50 and 60 fields a second, so its frames are mixtures.
    #[error(
        "the sd copy was converted between tv standards: {:.0} % of its moving frames show two frames over each other, \
         which no pair can be made of; leave out the hd copy",
        blended * 100.0
    )]
    StandardsConverted {
        /// Share of the moving SD frames that are mixtures of two HD frames.
        blended: f64,
    },
    /// Too little to align.
    #[error("too short to align: {sd} sd and {hd} hd frames, at least {min} of each are needed")]
    TooShort {
        /// SD frames.
        sd: usize,
        /// HD frames.
        hd: usize,
        /// Fewest frames.
        min: usize,
    },
    /// Thumbnail bytes that are no whole number of thumbnails.
    #[error("{bytes} bytes are no whole number of thumbnails; index the source again")]
    BrokenThumbs {
        /// Bytes given.
        bytes: usize,
    },
    /// The frames could not be laid over each other.
    #[error(
        "could not lay the sd picture over the hd picture: {reason}; check that both show the whole picture"
    )]
    Geometry {
        /// What went wrong.
        reason: String,
    },
}

impl Refusal {
    /// Never: the same pictures would be refused again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}
