//! Objects of a store, as another version or another hand wrote them: whatever is read can be asked and written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remaster_domain::{Alignment, DatasetManifest, ModelCard, PairRecord, RunManifest, SourceIndex};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is read again after it was written.
fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("it can be written");
    serde_json::from_slice::<T>(&written).expect("what was written is read");
    Some(read)
}

fn ask(alignment: &Alignment) {
    let _ = alignment.colour.inverse();
    for frame in [0, 1, u32::MAX] {
        let _ = alignment.transform_at(frame);
        for segment in &alignment.segments {
            let _ = (segment.hd_frame(frame), segment.sd.len());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read::<SourceIndex>(bytes);
    let _ = read::<PairRecord>(bytes);
    let _ = read::<RunManifest>(bytes);
    let _ = read::<ModelCard>(bytes).map(|card| card.pixels());
    let _ = read::<DatasetManifest>(bytes).map(|manifest| manifest.pair_count());
    let _ = read::<Alignment>(bytes).map(|alignment| ask(&alignment));
});
