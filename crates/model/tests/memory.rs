//! The memory of tensors that are gone serves the next ones, in large pages: the kernel clears each once.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use remaster_model::keep_freed_memory;
use tch::{Device, Kind, Tensor};

/// 128 MiB in 32,768 pages, of which the first thread fills its share.
const SAMPLES: i64 = 32 << 20;
/// What a tensor's neighbours may need anew while it needs nothing: a small part of its own pages.
const SMALL_PART: u64 = 50;

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
        second < before / SMALL_PART,
        "{before} pages, then {first}, then {second}"
    );
    if Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        let tensor = Tensor::ones([SAMPLES], (Kind::Float, Device::Cpu));
        // Its first bytes may lie before the first whole large page.
        let flags = flags_at(tensor.data_ptr() as usize + SAMPLES as usize);
        assert!(
            flags.split_whitespace().any(|flag| flag == "hg"),
            "not asked for in large pages: {flags}"
        );
    }
}

fn pages_cleared_for_a_tensor() -> u64 {
    let before = pages_cleared();
    drop(Tensor::ones([SAMPLES], (Kind::Float, Device::Cpu)));
    pages_cleared() - before
}

/// What the kernel says of the mapping that an address lies in.
fn flags_at(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lies_here = false;
    for line in maps.lines() {
        let range = line.split_whitespace().next().unwrap();
        if let Some((from, to)) = range.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            lies_here = (number(from)..number(to)).contains(&address);
        } else if lies_here && range == "VmFlags:" {
            return line.to_owned();
        }
    }
    panic!("the tensor lies in no mapping");
}

/// Minor faults of this thread so far.
fn pages_cleared() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}
