//! Segments: the same bytes every time, the colours that went in, nothing left of a failure.

use std::path::Path;
use std::process::Command;

use remaster_domain::{ContentHash, Encoder, FrameRange, Rational, UpscaleSettings};
use remaster_media::{
    ColourSpec, FrameReader, MediaError, RgbFrame, SegmentEncoder, SegmentFormat, YuvFrame, rgb_to_yuv420p10,
    try_encoder, yuv_to_rgb,
};

const SIZE: (u32, u32) = (256, 128);

fn settings(encoder: Encoder) -> UpscaleSettings {
    UpscaleSettings {
        encoder,
        crf: 4,
        preset: "veryfast".to_owned(),
        ..UpscaleSettings::default()
    }
}

fn format() -> SegmentFormat {
    let sar = Rational { num: 64, den: 45 };
    SegmentFormat {
        width: SIZE.0,
        height: SIZE.1,
        sar,
        frame_rate: Rational { num: 25, den: 1 },
    }
}

/// 75 % colour bars above a ramp that moves.
fn bars(number: u32) -> YuvFrame {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let mut data = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        for y in 0..height {
            data.extend((0..width).map(|x| match y < height / 2 {
                true => 0.75 * f32::from((7 - x / 32) as u8 >> (2 - channel) & 1),
                false => ((x + 2 * number as usize) % width) as f32 / width as f32,
            }));
        }
    }
    rgb_to_yuv420p10(
        &RgbFrame {
            width: SIZE.0,
            height: SIZE.1,
            data,
        },
        ColourSpec::HD,
        number,
    )
}

fn encode(path: &Path, encoder: Encoder, frames: u32) {
    let mut segment = SegmentEncoder::open(path, format(), &settings(encoder)).unwrap();
    for number in 0..frames {
        segment.push(&bars(number)).unwrap();
    }
    assert_eq!(segment.finish().unwrap(), frames);
}

#[test]
fn the_same_frames_make_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for encoder in [Encoder::X264, Encoder::X265] {
        let hashes = ["a.mkv", "b.mkv"].map(|name| {
            let path = folder.path().join(name);
            encode(&path, encoder, 40);
            ContentHash::of(&std::fs::read(path).unwrap())
        });
        assert_eq!(hashes[0], hashes[1], "{encoder:?}");
    }
}

#[test]
fn colour_bars_come_back_and_the_file_says_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for encoder in [Encoder::X264, Encoder::X265] {
        let path = folder.path().join("bars.mkv");
        encode(&path, encoder, 5);
        let (index, _) = crate::fixture::index_of(&path);
        assert_eq!(index.video.matrix.as_deref(), Some("bt709"));
        assert_eq!(index.video.range.as_deref(), Some("tv"));
        assert_eq!(index.video.pix_fmt, "yuv420p10le");
        assert_eq!(ColourSpec::guess(&index.video), ColourSpec::HD);
        assert!((index.video.sar.as_f64() - 64.0 / 45.0).abs() < 0.01);
        let range = FrameRange { start: 0, end: 5 };
        for frame in FrameReader::open(&path, &index, range).unwrap() {
            let frame = frame.unwrap();
            let expected = yuv_to_rgb(&bars(frame.index), ColourSpec::HD);
            let found = yuv_to_rgb(&frame, ColourSpec::HD);
            for bar in 0..8 {
                for channel in 0..3 {
                    let at = (channel * 128 + 32) * 256 + bar * 32 + 16;
                    let error = (found.data[at] - expected.data[at]).abs();
                    assert!(error < 0.01, "{encoder:?} bar {bar} channel {channel}: {error}");
                }
            }
        }
    }
}

#[test]
fn an_abandoned_segment_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abandoned.mkv");
    let mut segment = SegmentEncoder::open(&path, format(), &settings(Encoder::X264)).unwrap();
    segment.push(&bars(0)).unwrap();
    drop(segment);
    assert!(!path.exists());
}

#[test]
fn settings_that_no_encoder_takes_are_an_error() {
    let path = tempfile::tempdir().unwrap().path().join("never.mkv");
    let unknown = UpscaleSettings {
        preset: "warp".to_owned(),
        ..settings(Encoder::X264)
    };
    let tried = try_encoder(&unknown).unwrap_err();
    assert!(tried.to_string().contains("x264"), "{tried}");
    let mut segment = SegmentEncoder::open(&path, format(), &unknown).unwrap();
    let pushed = (0..50).try_for_each(|number| segment.push(&bars(number)));
    assert!(matches!(
        pushed.and_then(|()| segment.finish()),
        Err(MediaError::Failed { .. })
    ));
    let option = UpscaleSettings {
        preset: "-y".to_owned(),
        ..settings(Encoder::X264)
    };
    assert!(matches!(
        SegmentEncoder::open(&path, format(), &option),
        Err(MediaError::Usage { .. })
    ));
}

#[test]
fn segments_start_with_a_closed_key_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed.mkv");
    encode(&path, Encoder::X265, 40);
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "packet=pts,flags",
            "-of",
            "csv=p=0",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8(probe.stdout).unwrap();
    let packets: Vec<(i64, bool)> = text
        .lines()
        .map(|line| line.split_once(',').unwrap())
        .map(|(pts, flags)| (pts.parse().unwrap(), flags.contains('K')))
        .collect();
    assert!(packets[0].1);
    assert!(packets.iter().all(|packet| packet.0 >= packets[0].0));
}

#[test]
fn software_encoders_are_there_and_hardware_is_tried_before_it_is_believed() {
    for encoder in Encoder::ALL {
        let preset = if encoder == Encoder::HevcNvenc {
            "p4"
        } else {
            "medium"
        };
        let settings = UpscaleSettings {
            preset: preset.to_owned(),
            ..settings(encoder)
        };
        let is_hardware = matches!(encoder, Encoder::HevcNvenc | Encoder::HevcQsv);
        match try_encoder(&settings) {
            Ok(()) => {}
            Err(MediaError::Encoder { encoder: name, .. }) if is_hardware => {
                assert_eq!(name, encoder.name());
            }
            Err(error) => panic!("{encoder:?}: {error}"),
        }
    }
}

#[test]
fn the_lowest_quality_still_passes_for_the_same_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment.mkv");
    for encoder in [Encoder::X264, Encoder::X265] {
        let lowest = UpscaleSettings {
            crf: 51,
            ..settings(encoder)
        };
        let mut segment = SegmentEncoder::open(&path, format(), &lowest).unwrap();
        for number in 0..5 {
            segment.push(&bars(number)).unwrap();
        }
        assert_eq!(segment.finish().unwrap(), 5);
    }
}
