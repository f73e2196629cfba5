//! Segments that ffmpeg wrote, or somebody else: packets that are named can be read, or there is an error.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use remaster_media::PacketFile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut file) = PacketFile::read(Cursor::new(bytes)) {
        for number in 0..file.packet_count() {
            let data = file.data(number).expect("a packet lies within the file");
            assert!(data.len() <= bytes.len());
        }
    }
});
