//! A picture for a page that people look at: JPEG with full chroma, where a PNG would make a page of a season too large.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::child::{Args, Program, Running};
use crate::{MediaError, RgbFrame};

/// ffmpeg's scale for JPEG, 2 (best) to 31; at 2 no block can be seen.
const QUALITY: &str = "2";

/// The picture as JPEG at 8 bits.
///
/// # Errors
/// [`MediaError::Tool`] and [`MediaError::Failed`].
pub fn jpeg_of(picture: &RgbFrame) -> Result<Vec<u8>, MediaError> {
    let mut args = Args::new(Program::Ffmpeg, "error");
    let size = format!("{}x{}", picture.width, picture.height);
    args.add(&["-f", "rawvideo", "-pix_fmt", "gbrp", "-s", &size, "-i", "pipe:0"]);
    args.add(&["-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-q:v", QUALITY]);
    args.add(&["-f", "image2pipe", "pipe:1"]);
    let failed = |detail: String| MediaError::Failed {
        what: "making a JPEG".to_owned(),
        detail,
    };
    let mut running = Running::start(Program::Ffmpeg, &args, Stdio::piped(), Stdio::piped(), |_| false)?;
    let mut stdin = running.stdin().expect("stdin was piped above");
    let mut stdout = running.stdout().expect("stdout was piped above");
    // Nothing comes out before the whole frame is in, so neither side waits for the other. A child that ended early is
    // judged by its status.
    let _ = stdin.write_all(&planes(picture));
    drop(stdin);
    let mut bytes = Vec::new();
    stdout
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    let (status, messages) = running.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() && !bytes.is_empty() {
        Ok(bytes)
    } else {
        Err(failed(messages))
    }
}

/// Green, blue, red at 8 bits, as ffmpeg's planar RGB has them.
fn planes(picture: &RgbFrame) -> Vec<u8> {
    let samples = picture.width as usize * picture.height as usize;
    let channels = [1, 2, 0].map(|channel| &picture.data[channel * samples..][..samples]);
    let level = |value: &f32| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    channels
        .into_iter()
        .flat_map(|channel| channel.iter().map(level))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_in_the_order_that_ffmpeg_wants() {
        let picture = RgbFrame {
            width: 1,
            height: 1,
            data: vec![1.0, 0.5, -0.1],
        };
        assert_eq!(planes(&picture), [128, 0, 255]);
    }
}
