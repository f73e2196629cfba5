//! upscale: from an SD episode and a model to an HD file with everything else that the SD file had.
//!
//! extract -> store -> train -> publish -> **upscale**. In flow order: plan the segments, make each one, assemble. `local`
//! runs the same steps for one file without a cluster. Only making frames needs a network, so only that needs libtorch.

mod assemble;
#[cfg(feature = "upscale")]
mod chain;
#[cfg(feature = "upscale")]
mod frame;
#[cfg(feature = "upscale")]
mod grade;
#[cfg(feature = "upscale")]
mod kept;
#[cfg(feature = "upscale")]
mod local;
#[cfg(feature = "upscale")]
mod lock;
#[cfg(feature = "upscale")]
mod model;
#[cfg(feature = "upscale")]
mod network;
#[cfg(feature = "upscale")]
mod noise;
mod plan;
#[cfg(feature = "upscale")]
mod reuse;
#[cfg(feature = "upscale")]
mod segment;
#[cfg(feature = "upscale")]
mod tiles;

pub(crate) use assemble::run as run_assemble;
#[cfg(feature = "upscale")]
pub(crate) use frame::sized;
#[cfg(feature = "upscale")]
pub(crate) use local::{UpscaleArgs, upscale};
#[cfg(feature = "upscale")]
pub(crate) use model::{DeviceChoice, LoadedModel, Models};
#[cfg(feature = "upscale")]
pub(crate) use network::{BatchChoice, BoundedModel, upscale_picture};
pub(crate) use plan::run as run_plan;
#[cfg(feature = "upscale")]
pub(crate) use segment::{SegmentJob, make_segment, run as run_upscale};
