//! What time to ask ffmpeg for, so that it starts decoding at a key frame and not a whole GOP before it.
//!
//! Where frames are reordered ffmpeg seeks a little earlier than it is told, because some containers know decoding times only.
//! Those that list their key frames by the time they are shown land on the one before, and everything from there is decoded
//! for nothing. They are asked for that much more. It is a guess like any seek: whoever reads proves what came.

use std::io::Read;
use std::path::Path;

use remaster_domain::SourceIndex;

/// How much earlier ffmpeg seeks, in seconds: three frames at 23 a second.
const STEPS_BACK_S: f64 = 3.0 / 23.0;
/// More than timestamps are rounded by, in seconds, and less than a frame.
const ROUNDING_S: f64 = 0.002;
/// First bytes of Matroska and WebM.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// The time in seconds to seek to so that decoding starts at `key`; none where the container or other key frames nearby do not
/// allow to aim so well.
pub(crate) fn time_of_key(path: &Path, index: &SourceIndex, key: u32) -> Option<f64> {
    let tick_s = index.video.time_base.as_f64();
    let time_s = |frame: usize| index.frames[frame].pts as f64 * tick_s;
    let aim_s = time_s(key as usize) + STEPS_BACK_S + ROUNDING_S;
    let after = index.frames.iter().enumerate().skip(key as usize + 1);
    let is_alone = after
        .take_while(|(number, _)| time_s(*number) <= aim_s + ROUNDING_S)
        .all(|(_, frame)| !frame.key);
    (is_alone && lists_key_frames(path)).then_some(aim_s)
}

/// Whether the container is Matroska or of MP4's family.
fn lists_key_frames(path: &Path) -> bool {
    let mut head = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && (head[..4] == EBML || &head[4..] == b"ftyp")
}
