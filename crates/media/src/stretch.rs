//! A few seconds out of the middle of a file, for looks that must not wait for an index of all of it.
//!
//! The stretch is decoded once and kept as raw frames, so every picture is the one that the whole file has there, whatever
//! its codec makes of being cut. It is a source of its own: its frames are numbered from 0.

use std::collections::BTreeMap;
use std::path::Path;

use crate::child::{Args, Finished, Program, run_until};
use crate::{MediaError, Probe};

/// Writes the frames of `length_s` seconds from `start_s` seconds after the file's start to `out`, a NUT file.
///
/// # Errors
/// [`MediaError::Undecodable`] where no frame can be decoded there; [`MediaError::Stopped`].
pub fn copy_stretch(
    path: &Path,
    (start_s, length_s): (f64, f64),
    out: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    let mut args = Args::new(Program::Ffmpeg, "error");
    args.add(&["-y", "-noautorotate", "-ss", &format!("{start_s:.3}")])
        .input(path);
    args.add(&["-t", &format!("{length_s:.3}"), "-map", "0:V:0"]);
    // The source's tags say how long all of it is.
    args.add(&["-map_metadata", "-1", "-fps_mode", "passthrough"]);
    args.add(&["-c:v", "rawvideo", "-f", "nut"]);
    args.file(out);
    let Finished {
        success, messages, ..
    } = run_until(Program::Ffmpeg, &args, stop)?;
    if success {
        Ok(())
    } else {
        let found = format!("nothing could be read {start_s:.0} s after its start");
        Err(MediaError::over(path, &messages, &found))
    }
}

/// Bytes a second of everything but the main video, read off the packets of a stretch.
///
/// # Errors
/// [`MediaError::Undecodable`] where the packets cannot be read; [`MediaError::Stopped`].
pub fn other_streams_bytes_per_s(
    path: &Path,
    probed: &Probe,
    (start_s, length_s): (f64, f64),
    stop: &dyn Fn() -> bool,
) -> Result<f64, MediaError> {
    let mut args = Args::new(Program::Ffprobe, "error");
    let interval = format!("{start_s:.3}%+{length_s:.3}");
    args.add(&["-read_intervals", &interval, "-show_entries"]);
    args.add(&["packet=stream_index,size", "-of", "compact=p=0:nk=1"]);
    args.input(path);
    let finished = run_until(Program::Ffprobe, &args, stop)?;
    if !finished.success {
        let found = format!("no packets could be read {start_s:.0} s after its start");
        return Err(MediaError::over(path, &finished.messages, &found));
    }
    let bytes = bytes_by_stream(&String::from_utf8_lossy(&finished.stdout));
    let others = bytes.iter().filter(|(stream, _)| **stream != probed.video_stream);
    Ok(others.map(|(_, bytes)| *bytes as f64).sum::<f64>() / length_s)
}

/// Sums of lines `stream|size`.
fn bytes_by_stream(list: &str) -> BTreeMap<u32, u64> {
    let mut sums = BTreeMap::new();
    let packets = list.lines().filter_map(|line| {
        let (stream, size) = line.split_once('|')?;
        let size = size.split('|').next()?;
        Some((stream.parse::<u32>().ok()?, size.parse::<u64>().ok()?))
    });
    for (stream, bytes) in packets {
        *sums.entry(stream).or_default() += bytes;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_summed_by_stream_and_broken_lines_left_out() {
        let sums = bytes_by_stream("0|100\n1|20\n0|5|\n1|N/A\n\nx|3\n");
        assert_eq!(sums, BTreeMap::from([(0, 105), (1, 20)]));
    }
}
