//! Episodes from segments: every frame at its time, every other stream as it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use remaster_domain::{
    Container, Encoder, FieldChoice, FrameRange, OutputList, Rational, SourceIndex, UpscaleSettings,
};
use remaster_media::{
    Assembled, Assembly, ColourSpec, FrameReader, FrameThumbs, MediaError, SegmentEncoder, SegmentFormat,
    StreamKind, assemble, check_streams, probe, rgb_to_yuv420p10, yuv_to_rgb,
};

use crate::fixture::{Clip, DVD, clip, ffmpeg, index_of};

/// "Upscales" by 1: every frame through RGB and the encoder, in as many segments as there are ends.
fn segments(
    source: &Path,
    index: &SourceIndex,
    encoder: Encoder,
    ends: &[u32],
    folder: &Path,
) -> Vec<(PathBuf, FrameRange)> {
    let video = &index.video;
    let outputs = OutputList::of(index, FieldChoice::Auto);
    let format = SegmentFormat {
        width: video.width,
        height: video.height,
        sar: video.sar,
        frame_rate: outputs.frame_rate,
    };
    // The fastest of each that still reorders pictures.
    let preset = match encoder {
        Encoder::X264 => "veryfast",
        Encoder::X265 => "ultrafast",
        Encoder::SvtAv1 => "12",
        _ => "medium",
    };
    let settings = UpscaleSettings {
        encoder,
        crf: 20,
        preset: preset.to_owned(),
        ..UpscaleSettings::default()
    };
    let mut start = 0;
    let mut made = Vec::new();
    for &end in ends {
        let range = FrameRange { start, end };
        let path = folder.join(format!("segment-{start}-{end}.mkv"));
        let mut segment = SegmentEncoder::open(&path, format, &settings).unwrap();
        let shown = outputs.within(range);
        for frame in FrameReader::filtered(source, index, range, outputs.filter).unwrap() {
            let frame = frame.unwrap();
            if !shown.iter().any(|output| output.source == frame.index) {
                continue;
            }
            let rgb = yuv_to_rgb(&frame, ColourSpec::guess(video));
            segment
                .push(&rgb_to_yuv420p10(&rgb, ColourSpec::HD, frame.index))
                .unwrap();
        }
        segment.finish().unwrap();
        made.push((path, range));
        start = end;
    }
    made
}

/// Assembles what [`segments`] made.
fn join(
    made: &[(PathBuf, FrameRange)],
    source: &Path,
    index: &SourceIndex,
    out: &Path,
) -> Result<Assembled, MediaError> {
    let assembly = Assembly {
        segments: made,
        source,
        index,
        thumbs: &FrameThumbs::new(0, index_of(source).1).unwrap(),
        outputs: &OutputList::of(index, FieldChoice::Auto),
        sar: index.video.sar,
        container: match out.extension() {
            Some(ending) if ending == "mp4" => Container::Mp4,
            _ => Container::Mkv,
        },
    };
    assemble(&assembly, out, &|| false)
}

/// Assembles and reads back: same count, same times, every frame at its place, sound still there.
fn assemble_and_compare(clip: &Clip, encoder: Encoder, pieces: u32) -> PathBuf {
    assemble_as(clip, encoder, pieces, "out.mkv")
}

fn assemble_as(clip: &Clip, encoder: Encoder, pieces: u32, name: &str) -> PathBuf {
    let (index, thumbs) = index_of(&clip.path);
    let count = index.frames.len() as u32;
    let ends: Vec<u32> = (1..=pieces).map(|piece| count * piece / pieces).collect();
    let made = segments(&clip.path, &index, encoder, &ends, clip.folder.path());
    let out = clip.folder.path().join(name);
    let assembled = join(&made, &clip.path, &index, &out).unwrap();
    assert_eq!(assembled.frame_count, count);
    let (after, after_thumbs) = index_of(&out);
    assert_eq!(after.frames.len(), index.frames.len());
    let seconds =
        |of: &SourceIndex, number: usize| of.frames[number].pts as f64 * of.video.time_base.as_f64();
    // MP4 sound may start before time zero, which Matroska cannot say: then all streams move together.
    let shift_s = seconds(&after, 0) - seconds(&index, 0);
    assert!(
        shift_s.abs() < 0.0011 || clip.path.ends_with("before.mp4"),
        "{shift_s}"
    );
    for (number, (found, expected)) in after.frames.iter().zip(&index.frames).enumerate() {
        let expected_s = expected.pts as f64 * index.video.time_base.as_f64();
        let found_s = found.pts as f64 * after.video.time_base.as_f64();
        assert!(
            (found_s - expected_s - shift_s).abs() < 0.0011,
            "frame {number}: {found_s} {expected_s}"
        );
    }
    let sum: u64 = thumbs
        .iter()
        .zip(&after_thumbs)
        .map(|(&a, &b)| u64::from(a.abs_diff(b)))
        .sum();
    let mean = sum as f64 / thumbs.len() as f64;
    assert!(mean < 3.0, "pictures moved: {mean}");
    assert!((after.video.sar.as_f64() - index.video.sar.as_f64()).abs() < 0.005);
    let kinds = |path: &Path| -> Vec<StreamKind> {
        let mut kinds: Vec<_> = probe(path)
            .unwrap()
            .streams
            .iter()
            .map(|stream| stream.kind)
            .collect();
        kinds.retain(|kind| !matches!(kind, StreamKind::Data | StreamKind::Video));
        kinds
    };
    assert_eq!(kinds(&out), kinds(&clip.path));
    let left: Vec<_> = std::fs::read_dir(clip.folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("partial")),
        "{left:?}"
    );
    out
}

#[test]
fn a_dvd_in_matroska_comes_back_in_one_two_and_three_pieces() {
    let dvd = clip("dvd.mkv", DVD);
    for pieces in 1..=3 {
        let out = assemble_and_compare(&dvd, Encoder::X264, pieces);
        let video = probe(&out).unwrap().video;
        assert_eq!(video.frame_rate, Rational { num: 25, den: 1 });
        assert_eq!(ColourSpec::guess(&video), ColourSpec::HD);
    }
}

#[test]
fn a_program_stream_keeps_its_start_and_its_sound() {
    let dvd = clip("dvd.mpg", &format!("{DVD} -f vob"));
    let out = assemble_and_compare(&dvd, Encoder::X265, 2);
    let starts = |path: &Path| -> Vec<f64> {
        probe(path)
            .unwrap()
            .streams
            .iter()
            .filter_map(|stream| stream.start_s)
            .collect()
    };
    let gap = |starts: &[f64]| starts[1] - starts[0];
    let (before, after) = (starts(&dvd.path), starts(&out));
    assert!(
        (gap(&before[before.len() - 2..]).abs() - gap(&after).abs()).abs() < 0.002,
        "{before:?} {after:?}"
    );
}

#[test]
fn a_transport_stream_comes_back() {
    assemble_and_compare(&clip("dvd.ts", DVD), Encoder::X264, 2);
}

#[test]
fn sound_from_before_time_zero_stays_in_step() {
    let clip = clip(
        "before.mp4",
        "-vf scale=320:180 -c:v libx264 -preset veryfast -c:a aac",
    );
    let out = assemble_and_compare(&clip, Encoder::X264, 2);
    let gap_s = |path: &Path| {
        let output = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "packet=codec_type,pts_time",
                "-of",
                "csv=p=0",
            ])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let first = |kind: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(kind)).unwrap();
            line.split(',').nth(1).unwrap().parse().unwrap()
        };
        first("video") - first("audio")
    };
    assert!(
        (gap_s(&out) - gap_s(&clip.path)).abs() < 0.002,
        "{} {}",
        gap_s(&out),
        gap_s(&clip.path)
    );
}

#[test]
fn uneven_timestamps_come_back_as_they_were() {
    let clip = clip(
        "vfr.mkv",
        "-vf select='not(eq(mod(n\\,7)\\,3))',scale=240:192 -fps_mode vfr -c:v libx264 -preset veryfast -c:a ac3",
    );
    assemble_and_compare(&clip, Encoder::X265, 3);
}

#[test]
fn subtitles_chapters_fonts_and_tags_go_along() {
    let dvd = clip("dvd.mkv", DVD);
    let at = |name: &str| dvd.folder.path().join(name);
    std::fs::write(at("text.srt"), "1\n00:00:00,500 --> 00:00:01,500\nHello\n").unwrap();
    std::fs::write(
        at("chapters.txt"),
        ";FFMETADATA1\ntitle=Pilot\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n\
         [CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n",
    )
    .unwrap();
    std::fs::write(at("font.ttf"), b"not really a font").unwrap();
    let full = Clip {
        path: at("full.mkv"),
        folder: dvd.folder,
    };
    let path = |name: &str| full.folder.path().join(name).display().to_string();
    ffmpeg(&[
        "-i",
        &path("dvd.mkv"),
        "-i",
        &path("text.srt"),
        "-i",
        &path("chapters.txt"),
        "-map",
        "0",
        "-map",
        "1",
        "-map_metadata",
        "2",
        "-map_chapters",
        "2",
        "-c",
        "copy",
        "-map",
        "0:a",
        "-metadata:s:a:0",
        "language=ger",
        "-metadata:s:a:1",
        "title=Director's words",
        "-disposition:a:0",
        "default",
        "-disposition:a:1",
        "comment",
        "-metadata:s:s:0",
        "title=Signs",
        "-metadata:s:s:0",
        "language=eng",
        "-disposition:s:0",
        "forced",
        "-attach",
        &path("font.ttf"),
        "-metadata:s:t:0",
        "mimetype=font/ttf",
        &path("full.mkv"),
    ]);
    let out = assemble_and_compare(&full, Encoder::X264, 2);
    let (kept, original) = (described(&out), described(&full.path));
    for word in [
        "forced",
        "comment",
        "Director's words",
        "Signs",
        "ger",
        "font.ttf",
        "font/ttf",
        "Pilot",
        "Two",
    ] {
        assert!(original.contains(word), "{word}: {original}");
    }
    assert_eq!(kept, original);
    let font = full.folder.path().join("font-again.ttf");
    // ffmpeg has nothing to write besides, and says so by its exit.
    let _ = Command::new("ffmpeg")
        .args(["-v", "quiet", "-dump_attachment:t:0"])
        .arg(&font)
        .arg("-i")
        .arg(&out)
        .status()
        .unwrap();
    assert_eq!(std::fs::read(font).unwrap(), b"not really a font");
}

/// What a player shows of a file besides its pictures: every other stream's kind, flags and tags, chapters and titles.
fn described(file: &Path) -> String {
    let shown = "stream=codec_type,codec_name:stream_disposition=default,forced,comment,original,dub:\
                 stream_tags=title,language,filename,mimetype:chapter=start_time,end_time:chapter_tags=title:\
                 format_tags=title";
    let said = Command::new("ffprobe")
        .args(["-v", "error", "-of", "compact", "-show_entries", shown])
        .arg(file)
        .output()
        .unwrap();
    assert!(said.status.success());
    let text = String::from_utf8(said.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.contains("codec_type=video"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn gaps_and_foreign_segments_are_refused_and_leave_the_old_output() {
    let dvd = clip("dvd.mkv", DVD);
    let (index, _) = index_of(&dvd.path);
    let count = index.frames.len() as u32;
    let mut made = segments(&dvd.path, &index, Encoder::X264, &[30, count], dvd.folder.path());
    let out = dvd.folder.path().join("out.mkv");
    std::fs::write(&out, b"old").unwrap();
    let gap = join(&made[1..], &dvd.path, &index, &out);
    assert!(matches!(gap, Err(MediaError::Usage { .. })));
    made[1].1.start = 31;
    assert!(join(&made, &dvd.path, &index, &out).is_err());
    made[1] = (
        dvd.path.clone(),
        FrameRange {
            start: 30,
            end: count,
        },
    );
    assert!(join(&made, &dvd.path, &index, &out).is_err());
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
}

#[test]
fn segments_that_show_something_else_are_refused_though_their_frames_are_as_many() {
    // Two halves that look different, of the same length.
    let encode = DVD.replace(
        "-vf ",
        "-vf drawbox=w=iw/2:color=white:t=fill:enable=lt(t\\,1.5),",
    );
    let dvd = clip("dvd.mkv", &encode);
    let (index, _) = index_of(&dvd.path);
    let count = index.frames.len() as u32;
    let half = count / 2;
    let mut made = segments(
        &dvd.path,
        &index,
        Encoder::X264,
        &[half, 2 * half, count],
        dvd.folder.path(),
    );
    let out = dvd.folder.path().join("out.mkv");
    join(&made, &dvd.path, &index, &out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let first = made[0].0.clone();
    made[0].0 = std::mem::replace(&mut made[1].0, first);
    let error = join(&made, &dvd.path, &index, &out).unwrap_err().to_string();
    assert!(
        error.contains("does not look like it") && !out.exists(),
        "{error}"
    );
}

#[test]
fn mp4_holds_the_same_frames_and_sound() {
    let dvd = clip("dvd.mkv", DVD);
    let out = assemble_as(&dvd, Encoder::X265, 2, "out.mp4");
    let probed = probe(&out).unwrap();
    assert!(probed.format.contains("mp4"), "{}", probed.format);
    assert!(probed.streams.iter().any(|stream| stream.codec == "ac3"));
    assert!(check_streams(&dvd.path, Container::Mp4).unwrap().is_empty());
}

#[test]
fn lossless_and_av1_segments_join_as_well() {
    let dvd = clip("dvd.mkv", DVD);
    for encoder in [Encoder::Ffv1, Encoder::SvtAv1, Encoder::Prores] {
        assemble_and_compare(&dvd, encoder, 2);
    }
}

#[test]
fn telecined_film_is_assembled_at_film_rate_in_any_pieces() {
    let encode = "-vf fps=24000/1001,scale=240:160,setsar=8/9,telecine=pattern=23 -r 30000/1001 -c:v mpeg2video \
                  -b:v 3M -flags +ildct+ilme -top 1 -bf 2 -g 15 -c:a ac3";
    let disc = clip("disc.mkv", encode);
    let (index, _) = index_of(&disc.path);
    let list = OutputList::of(&index, FieldChoice::Auto);
    assert!(list.frames.len() < index.frames.len());
    let count = index.frames.len() as u32;
    let mut hashes = Vec::new();
    for ends in [vec![count], vec![31, 58, count]] {
        let made = segments(&disc.path, &index, Encoder::Ffv1, &ends, disc.folder.path());
        let out = disc.folder.path().join("out.mkv");
        assert_eq!(
            join(&made, &disc.path, &index, &out).unwrap().frame_count as usize,
            list.frames.len()
        );
        let (after, thumbs) = index_of(&out);
        assert_eq!(
            after.video.frame_rate,
            Rational {
                num: 24_000,
                den: 1001
            }
        );
        let times: Vec<f64> = after
            .frames
            .iter()
            .map(|frame| frame.pts as f64 / 1000.0)
            .collect();
        let tick_s = index.video.time_base.as_f64();
        for (found_s, output) in times.iter().zip(&list.frames) {
            assert!((found_s - output.pts as f64 * tick_s).abs() < 0.0011);
        }
        hashes.push(thumbs);
    }
    assert!(hashes[0] == hashes[1], "frames depend on how the episode was cut");
}

#[test]
fn a_stopped_assembly_leaves_nothing_and_the_next_removes_what_a_killed_one_left() {
    let dvd = clip("dvd.mkv", DVD);
    let (index, thumbs) = index_of(&dvd.path);
    let count = index.frames.len() as u32;
    let made = segments(&dvd.path, &index, Encoder::X264, &[count], dvd.folder.path());
    let out = dvd.folder.path().join("out.mkv");
    let assembly = Assembly {
        segments: &made,
        source: &dvd.path,
        index: &index,
        thumbs: &FrameThumbs::new(0, thumbs).unwrap(),
        outputs: &OutputList::of(&index, FieldChoice::Auto),
        sar: index.video.sar,
        container: Container::Mkv,
    };
    for looks in [0, 1, 2] {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= looks;
        let stopped = assemble(&assembly, &out, &stop);
        assert!(matches!(stopped, Err(MediaError::Stopped)), "{stopped:?}");
    }
    // No process has this id, and another output's leftovers are not ours.
    let stale = dvd.folder.path().join(".out.mkv.whole.4194999.partial");
    let foreign = dvd.folder.path().join(".other.mkv.whole.4194999.partial");
    for left in [&stale, &foreign] {
        std::fs::write(left, b"half").unwrap();
    }
    assemble(&assembly, &out, &|| false).unwrap();
    assert!(out.exists() && !stale.exists() && foreign.exists());
    let names = std::fs::read_dir(dvd.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let partial = names.filter(|name| name.to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 1);
}
