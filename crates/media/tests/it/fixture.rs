//! Makes short clips. Each test makes only what it needs.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use remaster_domain::{ContentHash, SourceIndex};

pub(crate) struct Clip {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

/// Runs ffmpeg on three seconds of film with sound.
pub(crate) fn clip(name: &str, encode: &str) -> Clip {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let cache = std::env::var("XDG_CACHE_HOME").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let film = cache.join("remaster/film/bbb.mp4");
    let mut input: Vec<String> = Vec::new();
    if film.exists() {
        input.extend(["-ss", "60", "-t", "3", "-i"].map(str::to_owned));
        input.push(film.display().to_string());
    } else {
        for source in ["testsrc2=s=640x360:r=24:d=3", "sine=d=3"] {
            input.extend(["-f", "lavfi", "-i", source].map(str::to_owned));
        }
    }
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error"])
        .args(input)
        .args(encode.split_whitespace())
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    Clip { folder, path }
}

/// The DVD of the demo, smaller.
pub(crate) const DVD: &str =
    "-vf fps=25,scale=240:192,setsar=64/45 -c:v mpeg2video -b:v 800k -bf 2 -g 12 -c:a ac3";

/// Runs ffmpeg on files that are there.
pub(crate) fn ffmpeg(args: &[&str]) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(args)
        .status()
        .unwrap();
    assert!(status.success(), "{args:?}");
}

pub(crate) fn index_of(path: &Path) -> (SourceIndex, Vec<u8>) {
    remaster_media::index(path, &ContentHash::of(b"fixture"), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}
