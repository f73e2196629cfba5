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
/// Words that tell of this ffmpeg, as 4 to 7 say them: a library that it needs is missing or another one, it is too old for an
/// option, or it was built without a part. "Unsupported codec" is none of them: a whole file may hold data that nothing decodes.
const TOOL_LACKS: [&str; 11] = [
    "error while loading shared libraries",
    "symbol lookup error",
    "not found (required by",
    "Unrecognized option",
    "Option not found",
    "No such filter",
    "Unknown encoder",
    "Requested output format",
    "no decoder found for",
    "Decoder (codec",
    "no decoders for it are available",
];
/// What ffmpeg says over everything that it cannot read.
const SAYS_NOTHING: &str = "Invalid data found when processing input";
/// Most characters of ffmpeg's that an error about a file ends with: a line or two.
const LAST_WORDS_CHARS_MAX: usize = 240;
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
    /// ffmpeg or ffprobe could not be started, or is not one that can be worked with.
    #[error("cannot use {program}: {source}; install ffmpeg 5.1 or newer and put it on the PATH")]
    Tool {
        /// The program.
        program: &'static str,
        /// Why not.
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

    /// What it means that ffmpeg gave up over a source: its last words may tell of the machine or of ffmpeg itself, or else the
    /// video is at fault, as was `found`, if the disc gives all of it.
    pub(crate) fn over(path: &Path, messages: &str, found: &str) -> Self {
        if lacks_something(&without_name(path, messages)) {
            return Self::lacking(path, messages);
        }
        let content = Self::Undecodable {
            path: path.to_owned(),
            detail: with_last_words(found, path, messages),
        };
        Self::of_content(path, content)
    }

    /// A file could not be read here, for a reason that does not lie in it.
    pub(crate) fn lacking(path: &Path, messages: &str) -> Self {
        Self::Failed {
            what: format!("reading {}", path.display()),
            detail: messages.to_owned(),
        }
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

/// Whether ffmpeg's last words, [`without_name`], tell of the machine or of ffmpeg itself.
pub(crate) fn lacks_something(words: &str) -> bool {
    let mut lacks = MACHINE_LACKS.iter().chain(&TOOL_LACKS);
    lacks.any(|lack| words.contains(lack))
}

/// What ffmpeg said over a file without the file's name, which may be made of any words.
pub(crate) fn without_name(path: &Path, messages: &str) -> String {
    messages.replace(&format!("file:{}", path.display()), "")
}

/// What was found of a file and, where ffmpeg said more of it than that it cannot read it, the end of that.
pub(crate) fn with_last_words(found: &str, path: &Path, messages: &str) -> String {
    let words = without_name(path, messages);
    let lines = words.split("; ").map(without_part);
    let telling: Vec<&str> = lines
        .filter(|line| !line.is_empty() && *line != SAYS_NOTHING)
        .collect();
    let told = telling.join("; ");
    let excess = told.chars().count().saturating_sub(LAST_WORDS_CHARS_MAX);
    match (telling.is_empty(), excess) {
        (true, _) => found.to_owned(),
        (false, 0) => format!("{found}: {told}"),
        (false, _) => format!("{found}: ...{}", told.chars().skip(excess).collect::<String>()),
    }
}

/// A line of ffmpeg's without the part of it that speaks (`[matroska,webm @ 0x5587e0dc0a00]`): the number is another one each time.
fn without_part(line: &str) -> &str {
    let mut rest = line;
    while let Some((_, said)) = rest
        .strip_prefix('[')
        .and_then(|bracketed| bracketed.split_once("] "))
    {
        rest = said;
    }
    rest.trim_matches([':', ' '])
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

    #[test]
    fn a_file_is_at_fault_only_where_machine_and_disc_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("film.mkv");
        std::fs::write(&there, b"film").unwrap();
        let over = |path: &Path, messages: &str| MediaError::over(path, messages, "no frame was readable");
        assert!(over(&there, "Invalid data found when processing input").is_bad_input());
        let no_memory = over(&there, "[vist#0:0] Error: Cannot allocate memory");
        assert!(no_memory.is_retryable(), "{no_memory}");
        let taken_away = over(&folder.path().join("gone.mkv"), "Invalid data found");
        assert!(taken_away.is_retryable(), "{taken_away}");
        // A folder can be opened and not be read, as a disc that fails.
        assert!(over(folder.path(), "Invalid data found").is_retryable());
    }

    #[test]
    fn an_ffmpeg_that_lacks_a_part_is_no_fault_of_the_file() {
        for words in [
            "ffmpeg: error while loading shared libraries: libx265.so.199: cannot open shared object file",
            "ffmpeg: symbol lookup error: ffmpeg: undefined symbol: av_frame_side_data_add, version LIBAVUTIL_58",
            "ffmpeg: /lib/libm.so.6: version `GLIBC_2.38' not found (required by ffmpeg)",
            "Unrecognized option 'fps_mode'.; Error splitting the argument list: Option not found",
            "Failed to set value 'json' for option 'output_format': Option not found",
            "[AVFilterGraph @ 0x1024d480] No such filter: 'idet'; Error reinitializing filters!",
            "[vost#0:0 @ 0xc210f80] Unknown encoder 'mpeg2video'",
            "[NULL @ 0x2ee46bc0] Requested output format 'nut' is not a suitable output format",
            "[AVFormatContext @ 0x44e6a4c0] Requested output format 'nut' is not known.",
            "[vist#0:0/hevc @ 0x2] Decoding requested, but no decoder found for: hevc",
            "Decoder (codec hevc) not found for input stream #0:0",
            "Codec 'hevc' is known to FFmpeg, but no decoders for it are available. FFmpeg might need to be recompiled",
        ] {
            assert!(lacks_something(words), "{words}");
        }
    }

    #[test]
    fn a_damaged_file_is_at_fault_whatever_it_is_called_and_whatever_else_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("No such filter, Option not found.mkv");
        std::fs::write(&film, b"film").unwrap();
        let named = format!("file:{}", film.display());
        for words in [
            format!("{named}: Invalid data found when processing input"),
            format!("[in#0 @ 0xb203b40] Error opening input: End of file; Error opening input file {named}."),
            "Unsupported codec with id 100359 for input stream 0".to_owned(),
            "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] Decode error rate 1 exceeds maximum 0.666667".to_owned(),
            "Cannot determine format of input stream 0:0 after EOF; Conversion failed!".to_owned(),
        ] {
            let error = MediaError::over(&film, &words, "no frame was readable");
            assert!(error.is_bad_input(), "{error}");
        }
    }

    #[test]
    fn the_end_of_ffmpegs_words_is_kept_where_it_tells_more() {
        let film = Path::new("/discs/film.mkv");
        let told = |messages: &str| with_last_words("no container", film, messages);
        let nothing = "file:/discs/film.mkv: Invalid data found when processing input";
        assert_eq!(told(nothing), "no container");
        assert_eq!(told(""), "no container");
        let something = format!("[matroska,webm @ 0x55dd65f4b280] EBML header parsing failed; {nothing}");
        assert_eq!(told(&something), "no container: EBML header parsing failed");
        let much = told(&"[dec @ 0x1] [h264 @ 0x2] Größe; ".repeat(200));
        assert!(much.starts_with("no container: ...") && much.ends_with("Größe; Größe"));
        assert!(much.chars().count() < LAST_WORDS_CHARS_MAX + 20, "{much}");
    }
}
