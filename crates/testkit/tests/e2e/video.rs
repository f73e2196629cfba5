//! What a player would see of a file, asked of ffprobe and ffmpeg.

use std::path::Path;
use std::process::Command;

/// Presentation times of the video packets in ms, ascending.
pub(crate) fn video_times_ms(file: &Path) -> Vec<i64> {
    let file = file.to_string_lossy();
    let text = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            "packet=pts_time",
            "-of",
            "csv=p=0",
            &file,
        ],
    );
    let seconds = text
        .lines()
        .map(|line| line.trim_end_matches(',').parse::<f64>().unwrap());
    let mut times: Vec<_> = seconds.map(|seconds| (seconds * 1000.0).round() as i64).collect();
    times.sort_unstable();
    times
}

/// Hash of the packets of the streams that `map` names (`0:v`, `0:a`), as they lie in the file.
pub(crate) fn packet_hash(file: &Path, map: &str) -> String {
    let file = file.to_string_lossy();
    run(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-i",
            &file,
            "-map",
            map,
            "-c",
            "copy",
            "-f",
            "streamhash",
            "-hash",
            "sha256",
            "-",
        ],
    )
}

/// One field of the first video stream.
pub(crate) fn video_field(file: &Path, field: &str) -> String {
    let file = file.to_string_lossy();
    let entry = format!("stream={field}");
    run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            &entry,
            "-of",
            "csv=p=0",
            &file,
        ],
    )
    .trim()
    .to_owned()
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
