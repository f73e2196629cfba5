//! The memory of tensors that are gone serves the next ones: the kernel clears its pages once.
#![allow(clippy::unwrap_used)]

use remaster_model::keep_freed_memory;
use tch::{Device, Kind, Tensor};

/// 128 MiB in 32,768 pages, of which the first thread fills its share.
const SAMPLES: i64 = 32 << 20;
/// Of the pages of a tensor, those that are its own anew: what lies around it.
const PAGES_MAX: u64 = 200;

fn main() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return;
    }
    // Threads come with the first tensor; what they ask for themselves is another matter.
    drop(Tensor::ones([1 << 20], (Kind::Float, Device::Cpu)));
    let before = pages_cleared_for_a_tensor();
    assert!(
        pages_cleared_for_a_tensor() > before / 2,
        "the C library keeps memory by itself, so nothing is shown here"
    );
    keep_freed_memory();
    let (first, second) = (pages_cleared_for_a_tensor(), pages_cleared_for_a_tensor());
    assert!(
        second < PAGES_MAX && first > PAGES_MAX,
        "{first} pages, then {second}"
    );
}

fn pages_cleared_for_a_tensor() -> u64 {
    let before = pages_cleared();
    drop(Tensor::ones([SAMPLES], (Kind::Float, Device::Cpu)));
    pages_cleared() - before
}

/// Minor faults of this thread so far.
fn pages_cleared() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}
