//! Each kind of bad input gets its own error.

use std::ops::ControlFlow;
use std::path::Path;

use remaster_domain::ContentHash;
use remaster_media::{MediaError, StreamKind, index, probe};

use crate::fixture::{DVD, clip};

fn index_error(path: &Path) -> MediaError {
    let error = index(path, &ContentHash::of(b""), &mut |_| ControlFlow::Continue(()))
        .map(drop)
        .unwrap_err();
    assert!(error.is_bad_input() && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn what_is_no_video_file_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(
        index_error(&at("missing.mkv")),
        MediaError::NotFound { .. }
    ));
    for (name, bytes) in [
        ("notes.txt", b"Dear diary, today I ripped a disc.\n".repeat(100)),
        ("text.mkv", b"Dear diary, today I ripped a disc.\n".repeat(100)),
        ("empty.mkv", Vec::new()),
        (
            "list.ffconcat",
            b"ffconcat version 1.0\nfile 'dvd.mkv'\n".to_vec(),
        ),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n".to_vec()),
    ] {
        std::fs::write(at(name), bytes).unwrap();
        let error = index_error(&at(name));
        assert!(matches!(error, MediaError::NotMedia { .. }), "{name}: {error:?}");
    }
    assert!(matches!(index_error(folder.path()), MediaError::NotMedia { .. }));
}

#[test]
fn discs_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let disc = folder.path().join("disc");
    std::fs::create_dir_all(disc.join("VIDEO_TS")).unwrap();
    let image = folder.path().join("disc.iso");
    std::fs::write(&image, [0; 4096]).unwrap();
    let renamed = folder.path().join("disc.mkv");
    let mut bytes = vec![0; 40_000];
    bytes[32_769..32_774].copy_from_slice(b"CD001");
    std::fs::write(&renamed, bytes).unwrap();
    for path in [disc.clone(), disc.join("VIDEO_TS"), image, renamed] {
        let error = index_error(&path);
        assert!(matches!(error, MediaError::DiscImage { .. }), "{error:?}");
        assert!(error.to_string().contains("MKV"));
    }
}

#[test]
fn sound_alone_is_refused() {
    let sound = clip("sound.mka", "-vn -c:a ac3 -f matroska");
    assert!(matches!(index_error(&sound.path), MediaError::NoVideo { .. }));
}

#[test]
fn pictures_that_change_their_size_are_refused_and_the_frame_is_named() {
    let sized = |name: &str, size: &str| {
        let part = clip(name, &format!("-an -vf scale={size} -c:v mpeg2video -q:v 6"));
        std::fs::read(&part.path).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    for (small, large) in [("704:576", "720:576"), ("1280:720", "1440:1080")] {
        let joined = folder.path().join("joined.ts");
        let parts = [sized("one.ts", small), sized("two.ts", large)];
        std::fs::write(&joined, parts.concat()).unwrap();
        let error = index_error(&joined);
        let MediaError::SizeChange { frame, from, to, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(*frame > 30, "{error}");
        assert_eq!(
            [from, to].map(|size| size.replace('x', ":")),
            [small.to_owned(), large.to_owned()]
        );
    }
}

#[test]
fn a_file_that_was_cut_off_is_noticed() {
    for (name, encode) in [
        ("cut.mkv", DVD.to_owned()),
        ("cut.avi", "-vf scale=320:180 -c:v mpeg4 -c:a mp2".to_owned()),
        (
            "cut.mp4",
            "-vf scale=320:180 -c:v libx264 -preset veryfast".to_owned(),
        ),
        (
            "fast.mp4",
            "-vf scale=320:180 -c:v libx264 -preset veryfast -movflags +faststart".to_owned(),
        ),
    ] {
        let whole = clip(name, &encode);
        let bytes = std::fs::read(&whole.path).unwrap();
        std::fs::write(&whole.path, &bytes[..bytes.len() * 2 / 5]).unwrap();
        let error = index_error(&whole.path);
        assert!(matches!(error, MediaError::Truncated { .. }), "{name}: {error:?}");
    }
}

#[test]
fn longer_sound_than_picture_is_not_a_cut_off_file() {
    let clip = clip(
        "long.mkv",
        "-vf trim=end=1,scale=240:192 -c:v mpeg2video -c:a ac3",
    );
    let (found, _) = crate::fixture::index_of(&clip.path);
    assert!((20..30).contains(&found.frames.len()));
}

#[test]
fn all_streams_are_told() {
    let dvd = clip("dvd.mpg", &format!("{DVD} -f vob"));
    let probed = probe(&dvd.path).unwrap();
    let kinds: Vec<StreamKind> = probed.streams.iter().map(|stream| stream.kind).collect();
    assert_eq!(kinds.iter().filter(|&&kind| kind == StreamKind::Audio).count(), 1);
    assert_eq!(probed.streams[probed.video_stream as usize].codec, "mpeg2video");
    assert!(probed.duration_s.unwrap() > 2.5);
}
