//! The final mux: which streams of the source go along with the new video, in which form, and the one command that does it.
//!
//! Everything is copied as it is. Only what the container cannot hold as it is gets another coat without loss: PCM and text
//! subtitles. Sound or subtitles are never lost silently: what cannot go along is an error
//! that names the stream. Navigation data and cover pictures stay behind with a warning.

use std::path::Path;

use remaster_domain::Container;

use crate::child::{Args, Program, run_until};
use crate::{MediaError, Probe, StreamInfo, StreamKind};

/// What happens to the source's other streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StreamPlan {
    /// Streams that go along, in file order, each with the codec it gets.
    pub(crate) kept: Vec<KeptStream>,
    /// What stays behind, in words.
    pub(crate) warnings: Vec<String>,
}

/// A stream that goes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptStream {
    pub(crate) index: u32,
    pub(crate) kind: StreamKind,
    /// `copy`, or the encoder of its new coat.
    pub(crate) codec: &'static str,
}

/// Decides for every stream but the main video.
pub(crate) fn plan_streams(
    source: &Path,
    probed: &Probe,
    container: Container,
) -> Result<StreamPlan, MediaError> {
    let mut plan = StreamPlan::default();
    for stream in probed
        .streams
        .iter()
        .filter(|stream| stream.index != probed.video_stream)
    {
        let StreamInfo {
            index, kind, codec, ..
        } = stream;
        let left_behind = match kind {
            StreamKind::Video => Some("only the main video is upscaled"),
            StreamKind::Picture => Some("cover pictures are not carried over"),
            StreamKind::Data => Some("navigation and other data streams are not carried over"),
            StreamKind::Attachment if container == Container::Mp4 => {
                Some("MP4 has no place for attached files")
            }
            StreamKind::Audio | StreamKind::Subtitle | StreamKind::Attachment => None,
        };
        if let Some(why) = left_behind {
            plan.warnings
                .push(format!("stream {index} ({kind:?} {codec}) was left out: {why}"));
            continue;
        }
        let Some(codec) = coat(stream, container) else {
            let (path, codec) = (source.to_owned(), codec.clone());
            return Err(MediaError::UnsupportedStream {
                path,
                stream: *index,
                codec,
                container: match container {
                    Container::Mkv => "MKV",
                    Container::Mp4 => "MP4",
                },
            });
        };
        plan.kept.push(KeptStream {
            index: *index,
            kind: *kind,
            codec,
        });
    }
    Ok(plan)
}

/// The form in which the container holds a stream; `None` when in no form without loss.
fn coat(stream: &StreamInfo, container: Container) -> Option<&'static str> {
    if stream.kind == StreamKind::Attachment {
        // Many kinds of attached file have no codec's name.
        return Some("copy");
    }
    match container {
        Container::Mkv => coat_for_matroska(stream),
        Container::Mp4 => coat_for_mp4(stream),
    }
}

fn coat_for_matroska(stream: &StreamInfo) -> Option<&'static str> {
    let is_wide = stream.sample_format.as_deref() == Some("s32");
    match stream.codec.as_str() {
        "pcm_dvd" | "pcm_bluray" | "pcm_s16be" | "pcm_s24be" if is_wide => Some("pcm_s24le"),
        "pcm_dvd" | "pcm_bluray" => Some("pcm_s16le"),
        "mov_text" | "text" => Some("subrip"),
        "" | "dvb_teletext" | "eia_608" | "xsub" => None,
        _ => Some("copy"),
    }
}

fn coat_for_mp4(stream: &StreamInfo) -> Option<&'static str> {
    match stream.codec.as_str() {
        "aac" | "ac3" | "eac3" | "mp3" | "mp2" | "dts" | "alac" | "opus" | "flac" => Some("copy"),
        "mov_text" | "dvd_subtitle" => Some("copy"),
        "subrip" | "text" | "webvtt" => Some("mov_text"),
        codec if codec.starts_with("pcm_") && !codec.starts_with("pcm_f") => Some("alac"),
        _ => None,
    }
}

/// Where the new video's clock stands against the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockShift {
    /// Milliseconds to add to the video file's timestamps.
    pub(crate) video_ms: i64,
}

/// What is joined.
pub(crate) struct Mux<'a> {
    /// File with the new video alone.
    pub(crate) video: &'a Path,
    /// Where its clock stands.
    pub(crate) shift: ClockShift,
    /// The source.
    pub(crate) source: &'a Path,
    /// What it has.
    pub(crate) probed: &'a Probe,
    /// What of it goes along.
    pub(crate) plan: &'a StreamPlan,
    /// Into what.
    pub(crate) container: Container,
}

impl Mux<'_> {
    /// Joins the new video with the source's other streams, all on the source's clock.
    pub(crate) fn write(&self, out: &Path, stop: &dyn Fn() -> bool) -> Result<(), MediaError> {
        let finished = run_until(Program::Ffmpeg, &self.args(out), stop)?;
        if finished.success {
            return Ok(());
        }
        Err(MediaError::writing("muxing", out, finished.messages))
    }

    fn args(&self, out: &Path) -> Args {
        let mut args = Args::new(Program::Ffmpeg, "warning");
        if self.shift.video_ms != 0 {
            args.add(&["-itsoffset", &format!("{}ms", self.shift.video_ms)]);
        }
        args.input(self.video).input(self.source);
        args.add(&["-copyts", "-map", "0:0"]);
        for stream in &self.plan.kept {
            args.add(&["-map", &format!("1:{}", stream.index)]);
        }
        args.add(&["-map_metadata", "1", "-map_chapters", "1", "-c", "copy"]);
        for (stream, position) in self.plan.kept.iter().zip(1..) {
            // Output stream 0 is the video.
            if stream.codec != "copy" {
                args.add(&[&format!("-c:{position}"), stream.codec]);
            }
        }
        let streams = &self.probed.streams;
        let main = streams
            .iter()
            .find(|stream| stream.index == self.probed.video_stream);
        let tags = main.map(|main| [("language", &main.language), ("title", &main.title)]);
        for (name, value) in tags.into_iter().flatten() {
            if let Some(value) = value {
                args.add(&["-metadata:s:0", &format!("{name}={value}")]);
            }
        }
        args.add(&["-disposition:0", "default", "-fflags", "+bitexact"]);
        match self.container {
            Container::Mkv => args.add(&["-f", "matroska"]),
            // Dolby Digital and DTS are not MP4's own, and yet every player reads them there.
            Container::Mp4 => args.add(&["-strict", "-2", "-movflags", "+faststart", "-f", "mp4"]),
        };
        args.add(&["-y"]).file(out);
        args
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use remaster_domain::{Rational, VideoInfo};

    fn probed(streams: &[(StreamKind, &str)]) -> Probe {
        let one = Rational { num: 1, den: 1 };
        let info = |(index, (kind, codec)): (usize, &(StreamKind, &str))| StreamInfo {
            index: index as u32,
            kind: *kind,
            codec: (*codec).to_owned(),
            language: None,
            title: None,
            start_s: None,
            sample_format: None,
        };
        Probe {
            video: VideoInfo {
                codec: "mpeg2video".to_owned(),
                width: 2,
                height: 2,
                pix_fmt: "yuv420p".to_owned(),
                sar: one,
                frame_rate: one,
                time_base: one,
                matrix: None,
                range: None,
            },
            video_stream: 0,
            streams: streams.iter().enumerate().map(info).collect(),
            format: String::new(),
            duration_s: None,
            video_duration_s: None,
            is_flagged_interlaced: false,
            chapter_count: 0,
        }
    }

    #[test]
    fn sound_and_subtitles_go_along_and_data_is_named() {
        let probed = probed(&[
            (StreamKind::Video, "mpeg2video"),
            (StreamKind::Data, "dvd_nav_packet"),
            (StreamKind::Audio, "ac3"),
            (StreamKind::Audio, "pcm_dvd"),
            (StreamKind::Subtitle, "mov_text"),
        ]);
        let plan = plan_streams(Path::new("a.vob"), &probed, Container::Mkv).unwrap();
        let kept: Vec<_> = plan
            .kept
            .iter()
            .map(|stream| (stream.index, stream.codec))
            .collect();
        assert_eq!(kept, [(2, "copy"), (3, "pcm_s16le"), (4, "subrip")]);
        assert_eq!(plan.warnings.len(), 1);
        assert!(plan.warnings[0].contains("dvd_nav_packet"));
    }

    #[test]
    fn a_subtitle_that_would_be_lost_is_an_error_that_names_it() {
        let probed = probed(&[
            (StreamKind::Video, "h264"),
            (StreamKind::Subtitle, "dvb_teletext"),
        ]);
        let error = plan_streams(Path::new("a.ts"), &probed, Container::Mkv).unwrap_err();
        assert!(
            error.is_bad_input() && error.to_string().contains("dvb_teletext"),
            "{error}"
        );
    }

    #[test]
    fn mp4_takes_sound_without_loss_and_refuses_what_it_cannot_hold() {
        let kept = probed(&[
            (StreamKind::Video, "mpeg2video"),
            (StreamKind::Audio, "ac3"),
            (StreamKind::Audio, "pcm_dvd"),
            (StreamKind::Subtitle, "subrip"),
            (StreamKind::Attachment, "ttf"),
        ]);
        let plan = plan_streams(Path::new("a.mkv"), &kept, Container::Mp4).unwrap();
        let codecs: Vec<_> = plan.kept.iter().map(|stream| stream.codec).collect();
        assert_eq!(codecs, ["copy", "alac", "mov_text"]);
        assert!(plan.warnings[0].contains("attached"));
        let lost = probed(&[
            (StreamKind::Video, "h264"),
            (StreamKind::Subtitle, "hdmv_pgs_subtitle"),
        ]);
        let error = plan_streams(Path::new("a.mkv"), &lost, Container::Mp4).unwrap_err();
        assert!(error.to_string().contains("choose MKV"), "{error}");
    }
}
