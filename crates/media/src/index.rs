//! Makes the index of a source by one linear decode: the only place where frames get their numbers.
//!
//! ffmpeg prints what it knows of each frame on stderr (`showinfo`) and writes its thumbnail to stdout. The thumbnail is
//! luma as coded: the scaler is told the same range on both sides, or it would stretch limited range to full. Where
//! frames look combed, [`crate::fields`] decides what they need.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::{ContentHash, FieldPlan, FrameInfo, SourceIndex, THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

use crate::child::{Args, Program, Running, ended_by_itself, run};
use crate::cuts::find_cuts;
use crate::fields::{self, Combing, Judged, parse_combing};
use crate::frame::RawFormat;
use crate::repeats::find_repeats;
use crate::showinfo::{FrameLine, PtsRepair};
use crate::thumbnail::THUMB_BYTES;
use crate::{MediaError, Probe, probe};

/// A file that lacks more than this, and more than [`MISSING_SHARE_MAX`], is cut off; less is how containers round.
const MISSING_SECONDS_MAX: f64 = 1.0;
/// See [`MISSING_SECONDS_MAX`].
const MISSING_SHARE_MAX: f64 = 0.02;
/// Tallest picture whose fields are always looked at; above it only where the stream says that it has fields.
const SD_LINES_MAX: u32 = 576;
/// Thumbnails that ffmpeg writes at once, one below the other: it and whoever reads spend more on a picture than on its bytes.
const THUMBS_AT_ONCE: usize = 32;
/// Format version of the index.
const INDEX_VERSION: u32 = 1;

/// Decodes the whole main video once, and combed video a second time. Gives the index and the thumbnails, one after the
/// other. `progress` hears the number of frames so far and may end it.
///
/// # Errors
/// All of [`probe`]'s; [`MediaError::Stopped`] when `progress` ended it; [`MediaError::Undecodable`] when no frame can be decoded; [`MediaError::Truncated`] when clearly
/// fewer can than the header promises; [`MediaError::TimeJump`] when timestamps start over in the middle;
/// [`MediaError::SizeChange`] when pictures are not all of one size.
pub fn index(
    path: &Path,
    source: &ContentHash,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(SourceIndex, Vec<u8>), MediaError> {
    let probed = probe(path)?;
    let Decoded {
        lines,
        combing,
        thumbs,
    } = decode(path, &probed, progress)?;
    let frames = number_frames(path, &probed, &lines)?;
    refuse_truncated(path, &probed, &frames)?;
    let cuts = find_cuts(&thumbs);
    let repeats = find_repeats(&thumbs);
    let judged = Judged::of(&combing);
    let fields = if judged.looks_combed() {
        fields::plan(path, &probed.video, (frames.len(), judged), progress)?
    } else {
        FieldPlan::default()
    };
    let index = SourceIndex {
        version: INDEX_VERSION,
        source: source.clone(),
        video: probed.video,
        frames,
        cuts,
        repeats,
        fields,
    };
    Ok((index, thumbs))
}

/// What the linear decode saw.
struct Decoded {
    /// One per frame.
    lines: Vec<FrameLine>,
    /// One per frame of the runs in which fields are looked at, and none where they never are.
    combing: Vec<Combing>,
    /// One per frame; whole sheets at first.
    thumbs: Vec<u8>,
}

fn decode(
    path: &Path,
    probed: &Probe,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Decoded, MediaError> {
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let sink = Arc::clone(&seen);
    let take = move |line: &str| {
        let mut seen = sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = FrameLine::parse(line) {
            seen.0.push(frame);
        } else if let Some(combing) = parse_combing(line) {
            seen.1.push(combing);
        } else {
            return line.contains("Parsed_showinfo") || line.contains("Parsed_metadata");
        }
        true
    };
    let args = index_args(path, probed);
    let mut running = Running::start(Program::Ffmpeg, &args, Stdio::null(), Stdio::piped(), take)?;
    let mut pipe = running.stdout().expect("stdout was piped above");
    let mut thumbs = Vec::new();
    let mut sheet = vec![0; THUMBS_AT_ONCE * THUMB_BYTES];
    while pipe.read_exact(&mut sheet).is_ok() {
        thumbs.extend_from_slice(&sheet);
        let announced = seen.lock().unwrap_or_else(PoisonError::into_inner).0.len();
        if progress(announced as u64).is_break() {
            return Err(MediaError::Stopped);
        }
    }
    let (status, messages) = running.wait().map_err(MediaError::io(path))?;
    let (lines, combing) = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let mut decoded = Decoded {
        lines,
        combing,
        thumbs,
    };
    check_decoded(path, status, &messages, &decoded)?;
    // The last sheet is filled up.
    decoded.thumbs.truncate(decoded.lines.len() * THUMB_BYTES);
    Ok(decoded)
}

fn check_decoded(
    path: &Path,
    status: ExitStatus,
    messages: &str,
    decoded: &Decoded,
) -> Result<(), MediaError> {
    let failed = |detail: String| MediaError::Failed {
        what: "decoding".to_owned(),
        detail,
    };
    if !ended_by_itself(status) {
        return Err(failed(format!("{status}; {messages}")));
    }
    let (announced, came) = (decoded.lines.len(), decoded.thumbs.len() / THUMB_BYTES);
    if announced == 0 || !status.success() {
        let found = format!("{announced} frames were readable");
        return Err(MediaError::over(path, messages, &found));
    }
    // ffmpeg begins anew with its filters there, and what had gathered in a sheet is lost.
    refuse_size_change(path, &decoded.lines)?;
    if announced.next_multiple_of(THUMBS_AT_ONCE) != came {
        return Err(failed(format!(
            "{announced} frames were announced and {came} came"
        )));
    }
    let (looked_at, expected) = (decoded.combing.len(), fields::frames_in_runs(announced));
    if looked_at != 0 && looked_at != expected {
        return Err(failed(format!(
            "the fields of {looked_at} frames were looked at where {expected} were to be"
        )));
    }
    Ok(())
}

fn refuse_size_change(path: &Path, lines: &[FrameLine]) -> Result<(), MediaError> {
    let sizes: Vec<_> = lines.iter().map(|line| line.size).collect();
    let Some(before) = sizes.windows(2).position(|pair| pair[0] != pair[1]) else {
        return Ok(());
    };
    let text = |size: Option<(u32, u32)>| {
        let known = size.map(|(width, height)| format!("{width}x{height}"));
        known.unwrap_or_else(|| "of no size".to_owned())
    };
    Err(MediaError::SizeChange {
        path: path.to_owned(),
        frame: before + 1,
        from: text(sizes[before]),
        to: text(sizes[before + 1]),
    })
}

fn index_args(path: &Path, probed: &Probe) -> Args {
    let raw = RawFormat::of(&probed.video);
    let has_fields = probed.video.height <= SD_LINES_MAX || probed.is_flagged_interlaced;
    let detect = if has_fields {
        format!(
            ",split[thumb][fields];[fields]{},nullsink;[thumb]",
            fields::detect()
        )
    } else {
        ",".to_owned()
    };
    // Scaling into gray leaves chroma alone, and luma as it is coded.
    let filters = format!(
        "format={},showinfo=checksum=0{detect}\
         scale={THUMB_WIDTH_PX}:{THUMB_HEIGHT_PX}:flags=area:in_range=full:out_range=full,format=gray,\
         tile=1x{THUMBS_AT_ONCE}",
        raw.pix_fmt
    );
    let mut args = Args::new(Program::Ffmpeg, "repeat+info");
    // A thumbnail is so little work that sharing it out among threads takes longer than doing it.
    args.add(&["-copyts", "-noautorotate", "-filter_threads", "1"])
        .input(path);
    args.add(&[
        "-map",
        "0:V:0",
        "-fps_mode",
        "passthrough",
        "-vf",
        &filters,
        "-f",
        "rawvideo",
        "pipe:1",
    ]);
    args
}

fn number_frames(path: &Path, probed: &Probe, lines: &[FrameLine]) -> Result<Vec<FrameInfo>, MediaError> {
    let mut repair = PtsRepair::new(probed.video.time_base.as_f64());
    let mut repaired = 0;
    let mut frames = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        let jumped = |_| MediaError::TimeJump {
            path: path.to_owned(),
            frame: number,
        };
        let pts = repair.next(line.pts).map_err(jumped)?;
        repaired += u32::from(line.pts != Some(pts));
        let FrameLine {
            pict_type,
            key,
            interlaced,
            ..
        } = *line;
        frames.push(FrameInfo {
            pts,
            pict_type,
            key,
            interlaced,
        });
    }
    if repaired > 0 {
        tracing::warn!(path = %path.display(), repaired, "frames without usable timestamps were given one");
    }
    Ok(frames)
}

fn refuse_truncated(path: &Path, probed: &Probe, frames: &[FrameInfo]) -> Result<(), MediaError> {
    let tick_s = probed.video.time_base.as_f64();
    let rate = probed.video.frame_rate.as_f64();
    let (first, last) = (
        frames[0].pts as f64 * tick_s,
        frames[frames.len() - 1].pts as f64 * tick_s,
    );
    // Some containers declare a length and some an end; the more lenient reading counts.
    let decoded_s = (last - first).max(last) + 1.0 / rate;
    let Some(declared_s) = probed.video_duration_s.or(probed.duration_s) else {
        return Ok(());
    };
    let falls_short = |have_s: f64| {
        let missing_s = declared_s - have_s;
        missing_s > MISSING_SECONDS_MAX && missing_s > MISSING_SHARE_MAX * declared_s
    };
    if !falls_short(decoded_s) {
        return Ok(());
    }
    // Without a length of the video's own, another stream may simply be longer: then its packets reach to the end.
    if probed.video_duration_s.is_none() && !falls_short(packets_end_s(path)?) {
        return Ok(());
    }
    let expected = (declared_s * rate).round();
    let detail = format!(
        "only {} of about {expected} frames are readable ({decoded_s:.1} s of {declared_s:.1} s)",
        frames.len()
    );
    let content = MediaError::Truncated {
        path: path.to_owned(),
        detail,
    };
    Err(MediaError::of_content(path, content))
}

/// Where the last packet of any sound or picture ends, in seconds; nothing is decoded.
fn packets_end_s(path: &Path) -> Result<f64, MediaError> {
    let mut args = Args::new(Program::Ffprobe, "error");
    args.add(&["-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .input(path);
    let finished = run(Program::Ffprobe, &args)?;
    let text = String::from_utf8_lossy(&finished.stdout);
    let times = text
        .lines()
        .filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
    Ok(times.fold(0.0, f64::max))
}
