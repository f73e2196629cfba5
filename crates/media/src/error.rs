//! The errors of this crate: one variant per thing that a caller does differently.
//!
//! Bad input is told apart from a broken environment, because the first is final and the second is tried again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::Children;

/// Words of ffmpeg's that tell of the machine and not of the file.
const MACHINE_LACKS: [&str; 5] = [
    "Cannot allocate memory",
    "Out of memory",
    "Resource temporarily unavailable",
    "Too many open files",
    "No space left on device",
];
/// What is read at once of a file that is only read to see whether it can be.
const READ_BYTES: usize = 1 << 20;

/// What can go wrong between a file and its frames.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// No such file.
    #[error("no such file: {}", .path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a video or audio file.
    #[error("{} is not a video file: {reason}; name the ripped title itself (MKV, MP4, VOB, MPG, TS, M2TS, AVI)", .path.display())]
    NotMedia {
        /// The file.
        path: PathBuf,
        /// Why it is not.
        reason: String,
    },
    /// Media without a picture.
    #[error("{} has no video stream, only {found}; name the file that has the picture", .path.display())]
    NoVideo {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// A disc instead of a title on it.
    #[error("{} is a disc image or disc folder: rip the title to an MKV file first (for example with MakeMKV)", .path.display())]
    DiscImage {
        /// The image or folder.
        path: PathBuf,
    },
    /// A file that ends before its own header says it does.
    #[error("{} is cut off: {detail}; copy or rip it again", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How much was readable.
        detail: String,
    },
    /// Video that no frame, or not all frames, can be decoded from.
    #[error("{} cannot be decoded: {detail}; copy or rip it again", .path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        detail: String,
    },
    /// Timestamps that jump back by more than a repair can mend.
    #[error("timestamps of {} jump back at frame {frame}: remux it to MKV first (for example with MakeMKV)", .path.display())]
    TimeJump {
        /// The file.
        path: PathBuf,
        /// First frame after the jump.
        frame: usize,
    },
    /// Pictures that are larger or smaller from some frame on.
    #[error("the pictures of {} are {to} from frame {frame} on, and {from} before: cut it there, or convert it to one size", .path.display())]
    SizeChange {
        /// The file.
        path: PathBuf,
        /// First frame of another size.
        frame: usize,
        /// Size before, as `720x576`.
        from: String,
        /// Size from there on.
        to: String,
    },
    /// A stream that the output container cannot hold.
    #[error("stream {stream} of {} ({codec}) cannot be put into {container}: {}remove or convert it first", .path.display(), if *container == "MP4" { "choose MKV, or " } else { "" })]
    UnsupportedStream {
        /// The file.
        path: PathBuf,
        /// Stream number as ffprobe counts.
        stream: u32,
        /// Its codec.
        codec: String,
        /// The container.
        container: &'static str,
    },
    /// The decoder gave other frames than the index names: another file, or another decoder.
    #[error("frame {frame} of {} is not the one in its index: {detail}", .path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Frame of the index.
        frame: u32,
        /// What was found.
        detail: String,
    },
    /// A call with frames or sizes that do not belong together.
    #[error("cannot use {what}: {detail}")]
    Usage {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// An output that is not what it should be; it was not put under its name.
    #[error("verification of {} failed: {detail}", .path.display())]
    Verify {
        /// The output.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// An encoder that this ffmpeg lacks, that has no hardware here, or that does not take the settings.
    #[error(
        "encoder {encoder} cannot be used here: {detail}; choose another encoder or preset, or an ffmpeg that has it"
    )]
    Encoder {
        /// Its name.
        encoder: &'static str,
        /// What ffmpeg said.
        detail: String,
    },
    /// The disc that a file is written to is full.
    #[error("no room for {}: free some space on its disc", .path.display())]
    DiscFull {
        /// The file.
        path: PathBuf,
    },
    /// The caller ended it.
    #[error("stopped")]
    Stopped,
    /// ffmpeg or ffprobe could not be started.
    #[error("could not start {program}: install ffmpeg 5.1 or newer and put it on the PATH")]
    Tool {
        /// The program.
        program: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// ffmpeg or ffprobe ended with an error that says nothing of the input.
    #[error("{what} failed: {detail}")]
    Failed {
        /// The step.
        what: String,
        /// Exit status and the end of its messages.
        detail: String,
    },
    /// Reading or writing a file failed.
    #[error("could not access {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl MediaError {
    /// Whether the user's file is at fault: no retry anywhere will help.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::NotMedia { .. }
                | Self::NoVideo { .. }
                | Self::DiscImage { .. }
                | Self::Truncated { .. }
                | Self::Undecodable { .. }
                | Self::TimeJump { .. }
                | Self::SizeChange { .. }
                | Self::UnsupportedStream { .. }
        )
    }

    /// Whether the same call may succeed later or on another machine.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Tool { .. }
                | Self::Failed { .. }
                | Self::Io { .. }
                | Self::DiscFull { .. }
                | Self::Encoder { .. }
        )
    }

    /// What it means that ffmpeg gave up over a source: its last words may tell of the machine, or else the file is at fault,
    /// as `content` says, if the disc gives all of it.
    pub(crate) fn over(path: &Path, messages: String, content: Self) -> Self {
        if lacks_something(&messages) {
            return Self::Failed {
                what: format!("reading {}", path.display()),
                detail: messages,
            };
        }
        Self::of_content(path, content)
    }

    /// `content`, which is final, unless the file cannot be read to its end: a disc that fails or was taken away looks to a
    /// decoder like a file that is cut off.
    pub(crate) fn of_content(path: &Path, content: Self) -> Self {
        match read_through(path) {
            Ok(()) => content,
            Err(source) => Self::io(path)(source),
        }
    }

    /// Wraps an IO error with the file it befell.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => Self::DiscFull {
                path: path.to_owned(),
            },
            _ => Self::Io {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// What ffmpeg's last words mean when it failed to write a file.
    pub(crate) fn writing(what: &str, path: &Path, detail: String) -> Self {
        if detail.contains("No space left on device") {
            Self::DiscFull {
                path: path.to_owned(),
            }
        } else {
            Self::Failed {
                what: format!("{what} {}", path.display()),
                detail,
            }
        }
    }
}

/// Whether ffmpeg's last words tell of the machine.
pub(crate) fn lacks_something(messages: &str) -> bool {
    MACHINE_LACKS.iter().any(|lack| messages.contains(lack))
}

/// Reads all of a file, unless the work is given up meanwhile.
fn read_through(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; READ_BYTES];
    let children = Children::of_this_thread();
    while file.read(&mut piece)? > 0 && !children.are_stopped() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn cut_off(path: &Path) -> MediaError {
        MediaError::Truncated {
            path: path.to_owned(),
            detail: "half of it".to_owned(),
        }
    }

    #[test]
    fn a_file_is_at_fault_only_where_machine_and_disc_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("film.mkv");
        std::fs::write(&there, b"film").unwrap();
        let over = |path: &Path, messages: &str| MediaError::over(path, messages.to_owned(), cut_off(path));
        assert!(over(&there, "Invalid data found when processing input").is_bad_input());
        let no_memory = over(&there, "[vist#0:0] Error: Cannot allocate memory");
        assert!(no_memory.is_retryable(), "{no_memory}");
        let taken_away = over(&folder.path().join("gone.mkv"), "Invalid data found");
        assert!(taken_away.is_retryable(), "{taken_away}");
        // A folder can be opened and not be read, as a disc that fails.
        assert!(MediaError::of_content(folder.path(), cut_off(&there)).is_retryable());
    }
}
