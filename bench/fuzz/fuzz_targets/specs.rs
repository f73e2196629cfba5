//! Rows of a database and what workers hand in: jobs, tasks and their results.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remaster_domain::{Capabilities, JobSpec, TaskResult, TaskSpec, needs_are_met};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is read again after it was written.
fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("it can be written");
    serde_json::from_slice::<T>(&written).expect("what was written is read");
    Some(read)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(job) = read::<JobSpec>(bytes) {
        for needs in job.season.needs.values() {
            let _ = needs_are_met(needs, &Capabilities::default().labels);
        }
    }
    for spec in read::<Vec<TaskSpec>>(bytes).unwrap_or_default() {
        let written = serde_json::to_vec(&spec).expect("it can be written");
        let again: TaskSpec = serde_json::from_slice(&written).expect("what was written is read");
        assert_eq!(again.work_key(), spec.work_key(), "the same work");
    }
    let _ = read::<Vec<TaskResult>>(bytes);
});
