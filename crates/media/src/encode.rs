//! Encodes one segment: raw 10-bit frames into ffmpeg, a Matroska file with one closed-GOP video stream out.
//!
//! Equal frames and settings give equal bytes: thread counts that change the result are fixed and nothing is dated. A
//! segment starts with an IDR picture and refers to nothing outside itself, so segments can be joined packet by packet.
//! Its timestamps only give the order of frames; the source's are put in when the episode is assembled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};

use remaster_domain::{Encoder, FieldFilter, Rational, UpscaleSettings};

use crate::child::{Args, Program, Running, run};
use crate::matroska::PacketFile;
use crate::thumbnail::{THUMB_BYTES, thumbnail};
use crate::verify::verify_pictures;
use crate::{Chroma, FrameThumbs, MediaError, YuvFrame};

/// libx264's output depends on its thread count, so all machines use this one.
const X264_THREADS: u32 = 4;
/// libx265's output depends on its pool as well, contrary to what one reads (measured: 2 threads and 4 give different
/// bytes), so all machines use this many. Larger machines encode several segments at a time.
const X265_THREADS: u32 = 4;
/// SVT-AV1's as well.
const SVT_AV1_THREADS: u32 = 4;
/// Highest constant quality that all encoders take at 10 bits.
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
    /// Thumbnails of the frames pushed, one after the other.
    thumbs: Vec<u8>,
    /// What the frames are made of.
    source: Option<(FrameThumbs, FieldFilter)>,
    finished: bool,
    bytes: Vec<u8>,
}

impl SegmentEncoder {
    /// Starts the encoder. The output is tagged BT.709, limited range, left-sited 4:2:0.
    ///
    /// # Errors
    /// Odd sizes, settings no encoder takes, or ffmpeg that cannot be started.
    pub fn open(out: &Path, format: SegmentFormat, settings: &UpscaleSettings) -> Result<Self, MediaError> {
        let is_even = |side: u32| side > 0 && side.is_multiple_of(2);
        if !is_even(format.width) || !is_even(format.height) {
            let detail = format!("{}x{} has an odd or empty side", format.width, format.height);
            return Err(usage(detail));
        }
        check_settings(settings)?;
        let args = encoder_args(out, format, settings);
        let running = Running::start(Program::Ffmpeg, &args, Stdio::piped(), Stdio::null(), |_| false)?;
        let pipe = running.stdin();
        let out = out.to_owned();
        Ok(Self {
            out,
            format,
            running,
            pipe,
            thumbs: Vec::new(),
            source: None,
            finished: false,
            bytes: Vec::new(),
        })
    }

    /// Takes no frame that does not look like the frame of the source that it is made of, through that filter.
    #[must_use]
    pub fn made_of(mut self, source: FrameThumbs, filter: FieldFilter) -> Self {
        self.source = Some((source, filter));
        self
    }

    /// Hands over the next frame.
    ///
    /// # Errors
    /// A frame of another shape, one that shows something else than its source, or an encoder that has ended.
    pub fn push(&mut self, frame: &YuvFrame) -> Result<(), MediaError> {
        let shape = (frame.width, frame.height, frame.depth, frame.chroma);
        if shape != (self.format.width, self.format.height, 10, Chroma::C420) {
            return Err(MediaError::Usage {
                what: "frame",
                detail: format!("{shape:?} in this segment"),
            });
        }
        let thumb = thumbnail(frame);
        if let Some((source, filter)) = &self.source
            && let Some(detail) = source.unlike(frame.index, *filter, &thumb)
        {
            let path = self.out.clone();
            return Err(MediaError::Verify { path, detail });
        }
        self.bytes.clear();
        frame.write_raw(&mut self.bytes);
        let written = self.pipe.as_mut().map(|pipe| pipe.write_all(&self.bytes));
        if matches!(written, Some(Ok(()))) {
            self.thumbs.extend(thumb);
            return Ok(());
        }
        self.pipe = None;
        let messages = self.running.stop();
        Err(self.failed(messages))
    }

    /// Ends the segment, decodes it and compares every picture with the one pushed, and makes it durable. Gives the number
    /// of frames in it.
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
        let pushed = self.thumbs.len() / THUMB_BYTES;
        if packets.len() != pushed {
            return Err(verify(format!("{} packets for {pushed} frames", packets.len())));
        }
        if !packets.first().is_some_and(|packet| packet.key) {
            return Err(verify("it does not start with a key frame".to_owned()));
        }
        verify_pictures(&self.out, &self.thumbs)?;
        File::open(&self.out)
            .and_then(|file| file.sync_all())
            .map_err(MediaError::io(&self.out))?;
        self.finished = true;
        Ok(pushed as u32)
    }

    fn failed(&self, detail: String) -> MediaError {
        MediaError::writing("encoding", &self.out, detail)
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

/// Encodes two grey frames and throws them away: whether this ffmpeg, this hardware and these settings go together is
/// known before anything else is done.
///
/// # Errors
/// [`MediaError::Encoder`] with what ffmpeg said.
pub fn try_encoder(settings: &UpscaleSettings) -> Result<(), MediaError> {
    check_settings(settings)?;
    let mut args = Args::new(Program::Ffmpeg, "error");
    args.add(&[
        "-f",
        "lavfi",
        "-i",
        "color=gray:s=256x256:r=25,format=yuv420p10le",
    ]);
    args.add(&["-frames:v", "2"]);
    add_encoder(&mut args, settings);
    args.add(&["-f", "null", "-"]);
    let finished = run(Program::Ffmpeg, &args)?;
    if finished.success {
        return Ok(());
    }
    Err(MediaError::Encoder {
        encoder: settings.encoder.name(),
        detail: finished.messages,
    })
}

fn usage(detail: String) -> MediaError {
    MediaError::Usage {
        what: "encoder settings",
        detail,
    }
}

/// What is no setting of any encoder, or would be taken for an option.
fn check_settings(settings: &UpscaleSettings) -> Result<(), MediaError> {
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
    Ok(())
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
    add_encoder(&mut args, settings);
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

/// The encoder with its own options. Closed groups of pictures everywhere; software is bound to a number of threads, hardware
/// gives equal bytes on equal hardware at most.
fn add_encoder(args: &mut Args, settings: &UpscaleSettings) {
    let crf = settings.crf.to_string();
    let preset = settings.preset.as_str();
    match settings.encoder {
        // One frame thread: frame-parallel encoding lets timing into the motion search. Rows still run in parallel.
        Encoder::X265 => args.add(&["-c:v", "libx265", "-profile:v", "main10"]).add(&[
            "-preset",
            preset,
            "-crf",
            &crf,
            "-x265-params",
            &format!(
                "log-level=error:pools={X265_THREADS}:frame-threads=1:wpp=1:lookahead-slices=0:open-gop=0:info=0:\
                 repeat-headers=0:colorprim=bt709:transfer=bt709:colormatrix=bt709:range=limited:chromaloc=0"
            ),
        ]),
        Encoder::X264 => args.add(&["-c:v", "libx264", "-profile:v", "high10"]).add(&[
            "-preset",
            preset,
            "-crf",
            &crf,
            "-threads",
            &X264_THREADS.to_string(),
            "-x264-params",
            "open-gop=0:sliced-threads=0:stitchable=1",
        ]),
        Encoder::SvtAv1 => args.add(&["-c:v", "libsvtav1", "-crf", &crf]).add(&[
            "-preset",
            if preset == "medium" { "6" } else { preset },
            "-svtav1-params",
            &format!("lp={SVT_AV1_THREADS}:irefresh-type=2"),
        ]),
        // Intra only, with a checksum in every slice.
        Encoder::Ffv1 => args.add(&["-c:v", "ffv1", "-level", "3", "-g", "1", "-slices", "4"]).add(&[
            "-slicecrc",
            "1",
            "-threads",
            "1",
        ]),
        Encoder::Prores => args.add(&["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"]).add(&[
            "-profile:v",
            if preset == "medium" { "hq" } else { preset },
            "-vendor",
            "apl0",
        ]),
        Encoder::HevcNvenc => args.add(&["-c:v", "hevc_nvenc", "-pix_fmt", "p010le"]).add(&[
            "-profile:v",
            "main10",
            "-preset",
            preset,
            "-rc",
            "vbr",
            "-cq",
            &crf,
            "-b:v",
            "0",
            "-strict_gop",
            "1",
        ]),
        Encoder::HevcQsv => args.add(&["-c:v", "hevc_qsv", "-pix_fmt", "p010le"]).add(&[
            "-profile:v",
            "main10",
            "-preset",
            preset,
            "-global_quality",
            &crf,
        ]),
    };
}
