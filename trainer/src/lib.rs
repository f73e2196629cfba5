//! The trainer: shards in, model out.
//!
//! extract -> store -> **train -> publish** -> upscale.
//!
//! Promises: batches, rates and networks are functions of (manifest, recipe, seed, step), so a run that was stopped
//! anywhere and resumed elsewhere gives the very weights of an undisturbed one (bit for bit on a CPU at an equal
//! number of threads); what is wrong with the input shows before the first step. Left to others: networks and
//! weight files (model), who may train what and when (coordinator).

pub mod adam;
pub mod checkpoint;
pub mod data;
pub mod ema;
mod error;
pub mod events;
pub mod guard;
pub mod kept;
pub mod lease;
pub mod local;
pub mod look;
pub mod loss;
pub mod memory;
pub mod meter;
mod observer;
pub mod pretrained;
pub mod publish;
pub mod recipe;
pub mod run;
pub mod schedule;
mod start;
pub mod step;
pub mod validate;

pub use error::TrainError;
