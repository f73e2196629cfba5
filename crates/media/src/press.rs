//! Makes a DVD of a Blu-ray: its pictures scaled onto SD's, in SD's colours, through a real MPEG-2 encoder.
//!
//! One frame out for each in, so that the two are aligned like discs that were sold. Where the picture lies is right to the HD
//! pixel: whoever makes pairs of it registers it like any other disc. How DVDs of a season are made is the caller's knowledge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remaster_domain::{ActiveArea, Rational};

use crate::child::{Args, Finished, Program, run_taking};
use crate::{Matrix, MediaError};

/// Pictures from one that is coded by itself to the next: half a second, as on discs.
const GOP_FRAMES: &str = "12";
/// What a DVD's video may reach, in bits a second.
const RATE_MAX_BITS_PER_S: u64 = 9_800_000;
/// What its decoder buffers, in bits.
const BUFFER_BITS: &str = "1835008";
/// Least that an encoder is asked for, in bits a second.
const RATE_MIN_BITS_PER_S: u64 = 300_000;

/// How a DVD is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Pressing {
    /// The HD pixels that the picture shows.
    pub shown: ActiveArea,
    /// Coded SD columns.
    pub width: u32,
    /// Coded SD lines.
    pub height: u32,
    /// Where among them the picture lies.
    pub active: ActiveArea,
    /// Aspect of an SD pixel.
    pub sar: Rational,
    /// Luma weights of the DVD.
    pub matrix: Matrix,
    /// Those of the Blu-ray.
    pub hd_matrix: Matrix,
    /// A .cube file that takes HD's colours to SD's.
    pub cube: PathBuf,
    /// Frames a second that it says to have, one that MPEG-2 knows.
    pub frame_rate: Rational,
    /// Bits a second of the video.
    pub bits_per_s: u64,
}

/// Writes the DVD of `hd` to `out`, a Matroska file; `progress` is told frames, `stop` ends it.
///
/// # Errors
/// [`MediaError::Undecodable`] where ffmpeg cannot make it, [`MediaError::Stopped`].
pub fn press(
    hd: &Path,
    pressing: &Pressing,
    out: &Path,
    progress: &dyn Fn(u64),
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    let frames = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&frames);
    let take = move |line: &str| {
        if let Some(count) = line
            .strip_prefix("frame=")
            .and_then(|count| count.trim().parse().ok())
        {
            seen.store(count, Ordering::Relaxed);
        }
        line.split_once('=').is_some_and(|(word, _)| !word.contains(' '))
    };
    let looked = || {
        progress(frames.load(Ordering::Relaxed));
        stop()
    };
    let Finished {
        success, messages, ..
    } = run_taking(Program::Ffmpeg, &args(hd, pressing, out), &looked, take)?;
    if success {
        Ok(())
    } else {
        Err(MediaError::over(hd, &messages, "no DVD could be made of it"))
    }
}

fn args(hd: &Path, pressing: &Pressing, out: &Path) -> Args {
    let rate = pressing
        .bits_per_s
        .clamp(RATE_MIN_BITS_PER_S, RATE_MAX_BITS_PER_S);
    let mut args = Args::new(Program::Ffmpeg, "error");
    let frame_rate = format!("{}/{}", pressing.frame_rate.num, pressing.frame_rate.den);
    args.add(&["-y", "-progress", "pipe:2", "-noautorotate"]);
    // An input's rate renumbers its frames and leaves none out.
    args.add(&["-r", &frame_rate]).input(hd);
    args.add(&["-map", "0:V:0", "-map_metadata", "-1", "-map_chapters", "-1"]);
    args.add(&["-fps_mode", "passthrough", "-vf", &filters(pressing)]);
    // The same bytes whatever the machine.
    args.add(&[
        "-c:v",
        "mpeg2video",
        "-threads",
        "1",
        "-flags",
        "+bitexact",
        "-fflags",
        "+bitexact",
    ]);
    args.add(&["-g", GOP_FRAMES, "-bf", "2", "-b:v", &rate.to_string()]);
    args.add(&[
        "-maxrate",
        &RATE_MAX_BITS_PER_S.to_string(),
        "-bufsize",
        BUFFER_BITS,
    ]);
    args.add(&["-f", "matroska"]);
    args.file(out);
    args
}

/// In RGB all the way: with halved chroma, ffmpeg rounds odd offsets to even ones without a word.
fn filters(pressing: &Pressing) -> String {
    let Pressing {
        shown,
        width,
        height,
        active,
        sar,
        ..
    } = pressing;
    let [from, to] = [pressing.hd_matrix, pressing.matrix].map(|matrix| match matrix {
        Matrix::Bt601 => "bt601",
        Matrix::Bt709 => "bt709",
    });
    let cube = crate::restore::escaped(&pressing.cube);
    format!(
        "scale=in_color_matrix={from}:flags=bicubic+accurate_rnd+full_chroma_int,format=gbrp,\
         crop={}:{}:{}:{},scale={}:{}:flags=bicubic+accurate_rnd,lut3d=file={cube},\
         pad={width}:{height}:{}:{},setsar={}/{},\
         scale=out_color_matrix={to}:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p",
        shown.width,
        shown.height,
        shown.x,
        shown.y,
        active.width,
        active.height,
        active.x,
        active.y,
        sar.num,
        sar.den,
    )
}
