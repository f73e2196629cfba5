//! What ffprobe says of a file: times are numbers and rates are positive, whatever the file made it say.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use remaster_media::Probe;

fuzz_target!(|answer: &[u8]| {
    let Ok(probe) = Probe::from_ffprobe(Path::new("a.mkv"), answer, "") else {
        return;
    };
    let times = [probe.duration_s, probe.video_duration_s];
    let starts = probe.streams.iter().map(|stream| stream.start_s);
    assert!(
        times.into_iter().chain(starts).flatten().all(f64::is_finite),
        "{probe:?}"
    );
    for ratio in [probe.video.frame_rate, probe.video.time_base, probe.video.sar] {
        assert!(ratio.as_f64() > 0.0 && ratio.as_f64().is_finite(), "{probe:?}");
    }
});
