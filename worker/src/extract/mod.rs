//! extract: from two copies of an episode to shards of pairs.
//!
//! **extract** -> store -> train -> publish -> upscale. In flow order: index each source, make the DVDs that are missing, align
//! the copies, make the shards, curate the season. `local` runs the same steps for one episode without a cluster.

mod align;
mod cubes;
mod curate;
mod index;
mod local;
mod one_size;
mod pair;
mod places;
mod press;
mod reader;
mod records;
mod registration;
mod repeats;
mod shard;
mod sheet;

pub(crate) use align::run as run_align;
#[cfg(feature = "upscale")]
pub(crate) use align::{AlignSettings, align};
pub(crate) use curate::run as run_curate;
pub(crate) use index::{index_file, run as run_index};
pub(crate) use local::{ExtractArgs, extract};
pub(crate) use press::run as run_press;
#[cfg(feature = "upscale")]
pub(crate) use reader::{PairFrames, read_pairs};
pub(crate) use shard::run as run_extract;
