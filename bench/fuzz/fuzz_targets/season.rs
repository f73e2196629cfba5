//! season.toml: a file that passes the checks is a season. What the command line adds to it, which reads files beside it and
//! says where an error stands, has tests of its own.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remaster_domain::{SeasonFile, needs_are_met};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = toml::from_str::<SeasonFile>(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    if file.check().is_err() {
        return;
    }
    let season = file
        .with_episodes(vec![], "demo".to_owned())
        .expect("it was checked");
    for needs in season.needs.values() {
        let _ = needs_are_met(needs, &[("gpu.vram_mib".to_owned(), "8000".to_owned())].into());
    }
    let written = serde_json::to_vec(&season).expect("it can be written");
    serde_json::from_slice::<remaster_domain::Season>(&written).expect("what was written is read");
});
