//! The main job with real processes, real film and real stores: from discs to episodes, through kills and bad input.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod kill;
mod season;
mod video;
