//! Says what a file is before anybody decodes it, and refuses what is no video file with an error that says why.
//!
//! Only headers are read here. Whether the frames are really there is found out by the index.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use remaster_domain::{Rational, VideoInfo};
use serde::Deserialize;

use crate::MediaError;
use crate::child::{Args, Program, run};
use crate::error::{lacks_something, with_last_words, without_name};
use crate::tools::require_decoder;

/// Byte offset of the volume descriptor's magic `CD001` in an ISO 9660 image (UDF bridge discs have it too).
const ISO_MAGIC_OFFSET: u64 = 32_769;
/// ffprobe's own score below which it is guessing (AVPROBE_SCORE_RETRY).
const PROBE_SCORE_MIN: u32 = 25;
/// Rates that television and film have; measured averages this close to one are that one.
const STANDARD_RATES: [(i64, i64); 9] = [
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (15, 1),
];
const RATE_TOLERANCE: f64 = 5e-4;

/// What the headers of a file say.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The main video stream: the first that is not a cover picture.
    pub video: VideoInfo,
    /// Its number among all streams.
    pub video_stream: u32,
    /// All streams in file order, the main video included.
    pub streams: Vec<StreamInfo>,
    /// Container name(s) as ffprobe gives them.
    pub format: String,
    /// Seconds that the container declares, or ffprobe estimates.
    pub duration_s: Option<f64>,
    /// Seconds declared for the video stream itself.
    pub video_duration_s: Option<f64>,
    /// Whether the stream says that its frames are made of two fields; many say so of whole pictures.
    pub is_flagged_interlaced: bool,
    /// Chapters.
    pub chapter_count: usize,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Moving picture.
    Video,
    /// A cover or thumbnail stored as a video stream.
    Picture,
    /// Sound.
    Audio,
    /// Subtitles, text or bitmap.
    Subtitle,
    /// An attached file, such as a font.
    Attachment,
    /// Anything else: navigation packets, timecodes.
    Data,
}

/// One stream of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Number among all streams.
    pub index: u32,
    /// What it carries.
    pub kind: StreamKind,
    /// Codec as ffmpeg names it; empty when unknown.
    pub codec: String,
    /// Language tag.
    pub language: Option<String>,
    /// Title tag.
    pub title: Option<String>,
    /// Start in seconds on the container's clock.
    pub start_s: Option<f64>,
    /// Sample format, for audio.
    pub sample_format: Option<String>,
}

/// Reads the headers of a file.
///
/// # Errors
/// See [`MediaError`]: each kind of bad input has a variant of its own.
pub fn probe(path: &Path) -> Result<Probe, MediaError> {
    refuse_by_sight(path)?;
    let mut args = Args::new(Program::Ffprobe, "error");
    args.add(&[
        "-print_format",
        "json",
        "-show_format",
        "-show_streams",
        "-show_chapters",
    ]);
    args.input(path);
    let finished = run(Program::Ffprobe, &args)?;
    if !finished.success {
        return Err(refusal(path, &finished.messages));
    }
    let report = Report::parse(&finished.stdout)?;
    let probed = from_report(path, &report, &finished.messages);
    if let (Err(MediaError::Undecodable { .. }), Some(main)) = (&probed, report.main_video()) {
        require_decoder(path, &main.codec_name)?;
    }
    probed
}

impl Probe {
    /// Reads what ffprobe answered of a file, in JSON, beside what it complained of.
    ///
    /// # Errors
    /// As [`probe`], where the answer says so; [`MediaError::Failed`] when it is none.
    pub fn from_ffprobe(path: &Path, answer: &[u8], messages: &str) -> Result<Self, MediaError> {
        from_report(path, &Report::parse(answer)?, messages)
    }
}

/// What the file system alone can tell.
fn refuse_by_sight(path: &Path) -> Result<(), MediaError> {
    let not_media = |reason: &str| MediaError::NotMedia {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let disc = || MediaError::DiscImage {
        path: path.to_owned(),
    };
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(MediaError::NotFound {
                path: path.to_owned(),
            });
        }
        other => other.map_err(MediaError::io(path))?,
    };
    if metadata.is_dir() {
        let named_disc = path
            .file_name()
            .is_some_and(|name| name == "VIDEO_TS" || name == "BDMV");
        let holds_disc = path.join("VIDEO_TS").is_dir() || path.join("BDMV").is_dir();
        let has_ifo = path.join("VIDEO_TS.IFO").is_file();
        return Err(if named_disc || holds_disc || has_ifo {
            disc()
        } else {
            not_media("it is a folder")
        });
    }
    if !metadata.is_file() {
        return Err(not_media("it is not a regular file"));
    }
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    if metadata.len() == 0 {
        return Err(not_media("it is empty"));
    }
    if extension == "iso" || has_iso_magic(path)? {
        return Err(disc());
    }
    Ok(())
}

fn has_iso_magic(path: &Path) -> Result<bool, MediaError> {
    let mut file = File::open(path).map_err(MediaError::io(path))?;
    file.seek(SeekFrom::Start(ISO_MAGIC_OFFSET))
        .map_err(MediaError::io(path))?;
    let mut magic = [0; 5];
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"CD001")
}

/// Why ffprobe gave up, in our words.
fn refusal(path: &Path, messages: &str) -> MediaError {
    let words = without_name(path, messages);
    let owned = path.to_owned();
    if words.contains("moov atom not found") {
        let detail = "its index (the moov atom) is missing".to_owned();
        MediaError::Truncated { path: owned, detail }
    } else if words.contains("Permission denied") || words.contains("Input/output error") {
        MediaError::Io {
            path: owned,
            source: std::io::Error::other(messages),
        }
    } else if lacks_something(&words) {
        MediaError::lacking(path, messages)
    } else {
        let reason = if words.contains("whitelist") {
            "ffmpeg takes it for a kind of file that holds no film".to_owned()
        } else {
            with_last_words("ffmpeg finds no known container in it", path, messages)
        };
        MediaError::NotMedia { path: owned, reason }
    }
}

fn from_report(path: &Path, report: &Report, messages: &str) -> Result<Probe, MediaError> {
    let not_media = |reason: &str| MediaError::NotMedia {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if report.format.probe_score < PROBE_SCORE_MIN || report.streams.is_empty() {
        return Err(not_media("ffmpeg finds no streams in it"));
    }
    let streams: Vec<StreamInfo> = report.streams.iter().map(RawStream::info).collect();
    let Some(main) = report.main_video() else {
        let kinds: Vec<&str> = report.streams.iter().map(|s| s.codec_type.as_str()).collect();
        return Err(MediaError::NoVideo {
            path: path.to_owned(),
            found: kinds.join(", "),
        });
    };
    let video = video_info(main).ok_or_else(|| MediaError::Undecodable {
        path: path.to_owned(),
        detail: with_last_words(
            &format!("its video ({}) has no readable picture", main.codec_name),
            path,
            messages,
        ),
    })?;
    let tagged = main
        .tags
        .iter()
        .find(|(key, _)| key.to_ascii_uppercase().starts_with("DURATION"));
    let video_duration_s =
        number(main.duration.as_deref()).or_else(|| tagged.and_then(|(_, value)| clock_seconds(value)));
    // The demuxer shortens a cut-off AVI's duration to what is there; the header's frame count stays.
    let video_duration_s = match number(main.nb_frames.as_deref()) {
        Some(frames) if report.format.format_name == "avi" => Some(frames / video.frame_rate.as_f64()),
        _ => video_duration_s,
    };
    // Numbers that a file made up multiply to no number.
    let video_duration_s = video_duration_s.filter(|seconds| seconds.is_finite());
    Ok(Probe {
        video,
        video_stream: main.index,
        streams,
        format: report.format.format_name.clone(),
        duration_s: number(report.format.duration.as_deref()),
        video_duration_s,
        is_flagged_interlaced: matches!(main.field_order.as_deref(), Some("tt" | "bb" | "tb" | "bt")),
        chapter_count: report.chapters.len(),
    })
}

fn video_info(stream: &RawStream) -> Option<VideoInfo> {
    let pix_fmt = stream.pix_fmt.clone()?;
    let (width, height) = (stream.width?, stream.height?);
    if width == 0 || height == 0 {
        return None;
    }
    let known = |tag: &Option<String>| {
        tag.clone()
            .filter(|text| text != "unknown" && text != "unspecified")
    };
    Some(VideoInfo {
        codec: stream.codec_name.clone(),
        width,
        height,
        pix_fmt,
        sar: ratio(stream.sample_aspect_ratio.as_deref()).unwrap_or(Rational { num: 1, den: 1 }),
        frame_rate: nominal_rate(
            ratio(stream.avg_frame_rate.as_deref()),
            ratio(stream.r_frame_rate.as_deref()),
        ),
        time_base: ratio(stream.time_base.as_deref())?,
        matrix: known(&stream.color_space),
        range: known(&stream.color_range),
    })
}

/// The rate that was meant: containers average over rounded timestamps, and `r_frame_rate` counts fields.
fn nominal_rate(average: Option<Rational>, base: Option<Rational>) -> Rational {
    let close = |a: Rational, b: Rational| (a.as_f64() / b.as_f64() - 1.0).abs() < RATE_TOLERANCE;
    let Some(rate) = average.or(base) else {
        return Rational { num: 25, den: 1 };
    };
    let standard = STANDARD_RATES.iter().map(|&(num, den)| Rational { num, den });
    let nearest = standard.filter(|&s| close(rate, s)).min_by(|a, b| {
        let distance = |r: &Rational| (r.as_f64() - rate.as_f64()).abs();
        distance(a).total_cmp(&distance(b))
    });
    nearest.or(base.filter(|&b| close(rate, b))).unwrap_or(rate)
}

/// `64:45` or `25/1`; `None` for anything that is not a positive ratio.
fn ratio(text: Option<&str>) -> Option<Rational> {
    let (num, den) = text?.split_once([':', '/'])?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then_some(Rational { num, den })
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `00:21:50.120000000` as Matroska tags write it.
fn clock_seconds(text: &str) -> Option<f64> {
    let mut parts = text.trim().rsplitn(3, ':');
    let seconds = number(parts.next())?;
    let minutes = number(parts.next())?;
    let hours = number(parts.next())?;
    Some((hours * 60.0 + minutes) * 60.0 + seconds)
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<RawStream>,
    #[serde(default)]
    chapters: Vec<serde_json::Value>,
    format: RawFormat,
}

#[derive(Deserialize)]
struct RawFormat {
    format_name: String,
    duration: Option<String>,
    #[serde(default)]
    probe_score: u32,
}

#[derive(Deserialize)]
struct RawStream {
    index: u32,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    codec_type: String,
    width: Option<u32>,
    height: Option<u32>,
    pix_fmt: Option<String>,
    sample_aspect_ratio: Option<String>,
    sample_fmt: Option<String>,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    time_base: Option<String>,
    color_space: Option<String>,
    color_range: Option<String>,
    field_order: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    nb_frames: Option<String>,
    #[serde(default)]
    disposition: std::collections::BTreeMap<String, i64>,
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
}

impl Report {
    fn parse(answer: &[u8]) -> Result<Self, MediaError> {
        serde_json::from_slice(answer).map_err(|error| MediaError::Failed {
            what: "reading ffprobe's answer".to_owned(),
            detail: error.to_string(),
        })
    }

    /// The first stream of moving pictures.
    fn main_video(&self) -> Option<&RawStream> {
        let mut streams = self.streams.iter();
        streams.find(|stream| stream.kind() == StreamKind::Video)
    }
}

impl RawStream {
    fn kind(&self) -> StreamKind {
        let is_set = |flag: &str| self.disposition.get(flag).is_some_and(|&value| value != 0);
        match self.codec_type.as_str() {
            "video" if is_set("attached_pic") || is_set("timed_thumbnails") => StreamKind::Picture,
            "video" => StreamKind::Video,
            "audio" => StreamKind::Audio,
            "subtitle" => StreamKind::Subtitle,
            "attachment" => StreamKind::Attachment,
            _ => StreamKind::Data,
        }
    }

    fn info(&self) -> StreamInfo {
        let tag = |name: &str| self.tags.get(name).cloned();
        StreamInfo {
            index: self.index,
            kind: self.kind(),
            codec: self.codec_name.clone(),
            language: tag("language"),
            title: tag("title"),
            start_s: number(self.start_time.as_deref()),
            sample_format: self.sample_fmt.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What ffprobe says of a DVD copy, shortened.
    const REPORT: &str = r#"{"streams":[{"index":0,"codec_name":"mpeg2video","codec_type":"video","width":480,"height":384,
        "pix_fmt":"yuv420p","sample_aspect_ratio":"64:45","avg_frame_rate":"25/1","r_frame_rate":"50/1","time_base":"1/1000",
        "color_space":"bt470bg","field_order":"progressive","disposition":{"attached_pic":0},
        "tags":{"DURATION":"00:00:14.040000000"}},{"index":1,"codec_name":"ac3","codec_type":"audio","start_time":"0.0"}],
        "chapters":[],"format":{"format_name":"matroska,webm","duration":"14.04","probe_score":100}}"#;

    fn read_report(text: &[u8]) -> Option<Probe> {
        Probe::from_ffprobe(Path::new("a.mkv"), text, "").ok()
    }

    #[test]
    fn the_report_that_is_mutated_below_is_one_that_is_read() {
        assert_eq!(
            read_report(REPORT.as_bytes()).unwrap().video_duration_s,
            Some(14.04)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_answer_of_ffprobe_makes_the_reader_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0..REPORT.len(),
            length in 0..16_usize,
        ) {
            let _ = read_report(&noise);
            let mut mutated = REPORT.as_bytes().to_vec();
            let end = (at + length).min(mutated.len());
            mutated.splice(at..end, noise);
            let _ = read_report(&mutated);
        }

        #[test]
        fn no_value_in_ffprobes_answer_makes_the_reader_panic(
            value in prop_oneof![".*", "-?[0-9]{1,22}[:/]-?[0-9]{1,22}", "(inf|nan|-1|1e999)(:inf)?(:nan)?"],
            which in 0..6_usize,
        ) {
            let known = ["64:45", "25/1", "50/1", "1/1000", "00:00:14.040000000", "14.04"][which];
            let value = serde_json::to_string(&value).unwrap();
            let text = REPORT.replace(&format!("\"{known}\""), &value);
            if let Some(probe) = read_report(text.as_bytes()) {
                prop_assert!(probe.video_duration_s.is_none_or(f64::is_finite));
                prop_assert!(probe.video.frame_rate.as_f64() > 0.0);
            }
        }
    }

    #[test]
    fn ffprobes_refusal_of_a_file_is_final_and_its_own_trouble_is_not() {
        let film = Path::new("/discs/error while loading shared libraries.mkv");
        let final_words = "file:/discs/error while loading shared libraries.mkv: End of file";
        let refused = refusal(film, final_words);
        assert!(
            matches!(&refused, MediaError::NotMedia { reason, .. } if reason.ends_with("in it: End of file")),
            "{refused}"
        );
        let own = "ffprobe: error while loading shared libraries: libavdevice.so.59: cannot open shared object file";
        let broken = refusal(film, own);
        assert!(
            broken.is_retryable() && broken.to_string().contains("libavdevice"),
            "{broken}"
        );
    }

    #[test]
    fn a_duration_past_all_numbers_is_none() {
        let told = REPORT.replace("00:00:14.040000000", "1e308:0:0");
        assert_eq!(read_report(told.as_bytes()).unwrap().video_duration_s, None);
    }

    #[test]
    fn a_rounded_average_is_recognised_as_the_rate_that_was_meant() {
        let rate = |num, den| Some(Rational { num, den });
        let film = Rational {
            num: 24_000,
            den: 1001,
        };
        assert_eq!(
            nominal_rate(rate(239, 10), rate(48_000, 1001)),
            Rational { num: 239, den: 10 }
        );
        assert_eq!(nominal_rate(rate(23_976, 1000), rate(24_000, 1001)), film);
        assert_eq!(
            nominal_rate(rate(25, 1), rate(50, 1)),
            Rational { num: 25, den: 1 }
        );
        assert_eq!(nominal_rate(None, rate(24, 1)), Rational { num: 24, den: 1 });
    }

    #[test]
    fn matroska_clocks_and_ratios_are_read() {
        assert_eq!(clock_seconds("00:01:02.500000000"), Some(62.5));
        assert_eq!(clock_seconds("soon"), None);
        assert_eq!(ratio(Some("64:45")), Some(Rational { num: 64, den: 45 }));
        assert_eq!(ratio(Some("0:1")), None);
    }
}
