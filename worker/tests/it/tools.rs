//! An ffmpeg that is broken, too old or without a part is what is named, and never the file that it was to read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{path, text};

/// One whose libraries are not there, as the loader says it.
const WITHOUT_LIBRARY: &str =
    "echo 'ffprobe: error while loading shared libraries: libavdevice.so.59: cannot open shared object file' >&2
exit 127";

/// A folder with an ffmpeg that is new enough, and an ffprobe that does as told.
fn tools_with_ffprobe(does: &str) -> TempDir {
    let tools = tempfile::tempdir().unwrap();
    for (name, does) in [
        ("ffmpeg", "echo 'ffmpeg version 7.1 Copyright (c)'"),
        ("ffprobe", does),
    ] {
        let script = tools.path().join(name);
        std::fs::write(&script, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    }
    tools
}

/// Runs with no other tools than these.
fn worker_with(tools: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remaster-worker"))
        .args(arguments)
        .env("PATH", tools)
        .output()
        .unwrap()
}

#[test]
fn a_worker_without_a_whole_ffmpeg_says_so_and_does_not_start() {
    let missing = tools_with_ffprobe("");
    std::fs::remove_file(missing.path().join("ffprobe")).unwrap();
    let old = "echo 'ffprobe version 4.4.2-0ubuntu0.22.04.1 Copyright (c)'";
    for (tools, reason) in [
        (missing, "cannot use ffprobe: No such file"),
        (
            tools_with_ffprobe(old),
            "4.4.2-0ubuntu0.22.04.1 is older than 5.1",
        ),
        (tools_with_ffprobe(WITHOUT_LIBRARY), "libavdevice.so.59"),
    ] {
        // Nobody listens at port 9, and what is no store would be refused next.
        let options = ["--coordinator", "http://127.0.0.1:9", "--store", "nowhere"];
        let done = worker_with(tools.path(), &[&["run"], &options[..]].concat());
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert!(errors.len() == 1 && errors[0].contains(reason), "{stderr}");
        assert!(stderr.contains("\n\nhint: `ffmpeg -version`"), "{stderr}");
    }
}

#[test]
fn a_film_is_not_blamed_for_an_ffprobe_that_cannot_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mkv");
    std::fs::write(&film, b"film").unwrap();
    let too_old = r#"echo "Failed to set value 'json' for option 'print_format': Option not found" >&2
exit 1"#;
    // It knows the codec's name, and cannot look at a picture.
    let without_decoder = r#"case "$*" in
*decoder=hevc*) echo "Codec 'hevc' is known to FFmpeg, but no decoders for it are available." >&2 ;;
*) echo '{"streams":[{"index":0,"codec_name":"hevc","codec_type":"video","width":1280,"height":720}],
    "format":{"format_name":"matroska,webm","probe_score":100}}' ;;
esac"#;
    for (does, reason) in [
        (WITHOUT_LIBRARY, "libavdevice.so.59"),
        (too_old, "Option not found"),
        (without_decoder, "no decoders for it are available"),
    ] {
        let tools = tools_with_ffprobe(does);
        let done = worker_with(tools.path(), &["probe", path(&film)]);
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}
