//! The main job with real processes, real film and real stores: from discs to episodes, through kills and bad input.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod chaos;
mod commands;
mod control;
mod kill;
mod season;
mod upscaling;
mod video;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A season has six processes; two at once on two cores would only wait for each other.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
