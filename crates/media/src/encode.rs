//! Encodes one segment: raw 10-bit frames into ffmpeg, a Matroska file with one closed-GOP video stream out.
//!
//! Equal frames and settings give equal bytes: thread counts that change the result are fixed and nothing is dated. A
//! segment starts with an IDR picture and refers to nothing outside itself, so segments can be joined packet by packet.
//! Its timestamps only give the order of frames; the source's are put in when the episode is assembled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};

use remaster_domain::{Encoder, Rational, UpscaleSettings};

use crate::child::{Args, Program, Running};
use crate::matroska::PacketFile;
use crate::{Chroma, MediaError, YuvFrame};

/// libx264's output depends on its thread count, so all machines use this one.
const X264_THREADS: u32 = 4;
/// libx265's output depends on its pool as well, contrary to what one reads (measured: 2 threads and 4 give different
/// bytes), so all machines use this many. Larger machines encode several segments at a time.
const X265_THREADS: u32 = 4;
/// Highest constant rate factor that both encoders take at 10 bits.
const CRF_MAX: u32 = 51;

/// Shape of the frames of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFormat {
    /// Columns, even.
    pub width: u32,
    /// Lines, even.
    pub height: u32,
    /// Sample aspect ratio.
    pub sar: Rational,
    /// Nominal frames per second: steers the encoder, not the final timestamps.
    pub frame_rate: Rational,
}

/// A segment in the making; without [`SegmentEncoder::finish`] the file is removed.
pub struct SegmentEncoder {
    out: PathBuf,
    format: SegmentFormat,
    running: Running,
    pipe: Option<ChildStdin>,
    pushed: u32,
    finished: bool,
    bytes: Vec<u8>,
}

impl SegmentEncoder {
    /// Starts the encoder. The output is tagged BT.709, limited range, left-sited 4:2:0.
    ///
    /// # Errors
    /// Odd sizes, settings no encoder takes, or ffmpeg that cannot be started.
    pub fn open(out: &Path, format: SegmentFormat, settings: &UpscaleSettings) -> Result<Self, MediaError> {
        let usage = |detail: String| MediaError::Usage {
            what: "encoder settings",
            detail,
        };
        let is_even = |side: u32| side > 0 && side.is_multiple_of(2);
        if !is_even(format.width) || !is_even(format.height) {
            return Err(usage(format!(
                "{}x{} has an odd or empty side",
                format.width, format.height
            )));
        }
        if settings.crf > CRF_MAX {
            return Err(usage(format!("crf {} is above {CRF_MAX}", settings.crf)));
        }
        let plain_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if settings.preset.is_empty() || !settings.preset.chars().all(plain_word) {
            return Err(usage(format!(
                "preset `{}` is not a preset's name",
                settings.preset
            )));
        }
        let args = encoder_args(out, format, settings);
        let mut running = Running::start(Program::Ffmpeg, &args, Stdio::piped(), Stdio::null(), |_| false)?;
        let pipe = running.child.stdin.take();
        let out = out.to_owned();
        Ok(Self {
            out,
            format,
            running,
            pipe,
            pushed: 0,
            finished: false,
            bytes: Vec::new(),
        })
    }

    /// Hands over the next frame.
    ///
    /// # Errors
    /// A frame of another shape, or an encoder that has ended.
    pub fn push(&mut self, frame: &YuvFrame) -> Result<(), MediaError> {
        let shape = (frame.width, frame.height, frame.depth, frame.chroma);
        if shape != (self.format.width, self.format.height, 10, Chroma::C420) {
            return Err(MediaError::Usage {
                what: "frame",
                detail: format!("{shape:?} in this segment"),
            });
        }
        self.bytes.clear();
        frame.write_raw(&mut self.bytes);
        let written = self.pipe.as_mut().map(|pipe| pipe.write_all(&self.bytes));
        if matches!(written, Some(Ok(()))) {
            self.pushed += 1;
            return Ok(());
        }
        self.pipe = None;
        let messages = self.running.stop();
        Err(self.failed(messages))
    }

    /// Ends the segment, checks it, and makes it durable. Gives the number of frames in it.
    ///
    /// # Errors
    /// An encoder that failed, or a file that does not hold the frames pushed.
    pub fn finish(mut self) -> Result<u32, MediaError> {
        self.pipe = None;
        let (status, messages) = self.running.wait().map_err(MediaError::io(&self.out))?;
        if !status.success() {
            return Err(self.failed(format!("{status}; {messages}")));
        }
        let verify = |detail: String| MediaError::Verify {
            path: self.out.clone(),
            detail,
        };
        let packets = PacketFile::open(&self.out)
            .map_err(|error| verify(error.to_string()))?
            .packets;
        if packets.len() != self.pushed as usize {
            return Err(verify(format!(
                "{} packets for {} frames",
                packets.len(),
                self.pushed
            )));
        }
        if !packets.first().is_some_and(|packet| packet.key) {
            return Err(verify("it does not start with a key frame".to_owned()));
        }
        File::open(&self.out)
            .and_then(|file| file.sync_all())
            .map_err(MediaError::io(&self.out))?;
        self.finished = true;
        Ok(self.pushed)
    }

    fn failed(&self, detail: String) -> MediaError {
        MediaError::Failed {
            what: format!("encoding {}", self.out.display()),
            detail,
        }
    }
}

impl Drop for SegmentEncoder {
    fn drop(&mut self) {
        if !self.finished {
            self.running.stop();
            // It may not exist yet; either way nothing half-written stays.
            let _ = std::fs::remove_file(&self.out);
        }
    }
}

fn encoder_args(out: &Path, format: SegmentFormat, settings: &UpscaleSettings) -> Args {
    let SegmentFormat {
        width,
        height,
        sar,
        frame_rate,
    } = format;
    let rate = format!("{}/{}", frame_rate.num, frame_rate.den);
    let mut args = Args::new(Program::Ffmpeg, "error");
    args.add(&[
        "-f",
        "rawvideo",
        "-pixel_format",
        "yuv420p10le",
        "-video_size",
        &format!("{width}x{height}"),
    ]);
    args.add(&["-framerate", &rate, "-i", "pipe:0"]);
    let tags = format!(
        "setsar=sar={}/{}:max=65535,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
        sar.num, sar.den
    );
    args.add(&["-vf", &tags, "-fps_mode", "passthrough"]);
    args.add(&[
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
        "-colorspace",
        "bt709",
    ]);
    args.add(&["-color_range", "tv", "-chroma_sample_location", "left"]);
    args.add(&["-preset", &settings.preset, "-crf", &settings.crf.to_string()]);
    match settings.encoder {
        // One frame thread: frame-parallel encoding lets timing into the motion search. Rows still run in parallel.
        Encoder::X265 => args.add(&[
            "-c:v",
            "libx265",
            "-profile:v",
            "main10",
            "-x265-params",
            &format!(
                "log-level=error:pools={X265_THREADS}:frame-threads=1:wpp=1:lookahead-slices=0:open-gop=0:info=0:\
                 repeat-headers=0:colorprim=bt709:transfer=bt709:colormatrix=bt709:range=limited:chromaloc=0"
            ),
        ]),
        Encoder::X264 => args.add(&["-c:v", "libx264", "-profile:v", "high10"]).add(&[
            "-threads",
            &X264_THREADS.to_string(),
            "-x264-params",
            "open-gop=0:sliced-threads=0:stitchable=1",
        ]),
    };
    args.add(&[
        "-fflags",
        "+bitexact",
        "-flags:v",
        "+bitexact",
        "-f",
        "matroska",
        "-y",
    ])
    .file(out);
    args
}
