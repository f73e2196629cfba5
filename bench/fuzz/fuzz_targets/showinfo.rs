//! What ffmpeg says of each frame, line by line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remaster_media::FrameLine;

fuzz_target!(|bytes: &[u8]| {
    for line in String::from_utf8_lossy(bytes).lines() {
        let _ = FrameLine::parse(line);
    }
});
