//! Pure picture maths: which frame is which, where its pixels lie, what was done to its colours, and whether the pair is good.
//!
//! extract -> store -> train -> publish -> upscale: this crate is the judgement inside `extract`, and lends its resampling
//! and its metrics to `upscale` and to reports.
//!
//! The way of a pair: thumbnails of two sources ([`Thumbs`]) -> a path through time ([`align_path`]) -> one transform
//! ([`solve_transform`]) -> the HD frame on the SD lattice ([`warp_hd_to_sd_lattice`]) -> its colours ([`fit_colour`]) ->
//! the gates ([`judge_pair`]), and where the pair lies on HD's pixels, SD brought onto them ([`warp_sd_to_hd_lattice`]).
//! [`choose_frames`] says which frames are worth that.
//!
//! Deterministic: the same input gives the same bytes for any number of threads. Absent on purpose: IO, decoding, time.

mod active;
mod choose;
mod coding;
mod colour;
mod cube;
mod curves;
mod fields;
mod foreign;
mod gates;
mod hd_lattice;
mod likeness;
mod metrics;
mod path;
mod picture;
mod place;
mod proof;
mod refusal;
mod register;
mod regression;
mod repeats;
mod resample;
mod search;
mod stretches;
mod system;
mod thumbs;
mod viterbi;
mod warp;

pub use active::masks_on_whole_frame;
pub use choose::{ChooseInput, PAIRS_PER_SHARD, choose_frames};
pub use coding::find_coding;
pub use colour::{ColourResidual, ColourSample, apply_colour, colour_residual, colour_samples, fit_colour};
pub use cube::{forward_cube, inverse_cube};
pub use curves::{apply_curves, curve_residual, fit_curves};
pub use fields::{FieldShares, Reweave, field_shares};
pub use gates::{Candidate, Gate, GateLimits, Verdict, judge_pair};
pub use hd_lattice::{hd_area_of, masks_on_hd_lattice, warp_sd_to_hd_lattice};
pub use likeness::{Sketch, likeness};
pub use metrics::{psnr_y, ssim_y};
pub use path::{EDGE_FRAMES, PathConfig, align_path, hd_frame, is_safe};
pub use picture::{Plane, Rgb};
pub use refusal::Refusal;
pub use register::{Registration, active_area, solve_transform};
pub use repeats::{Prints, SharedStretch, shared_stretches};
pub use stretches::{Stretch, solve_stretches};
pub use thumbs::Thumbs;
pub use warp::{resize_lanczos, warp_hd_to_sd_lattice, warp_luma_to_sd_lattice, warp_sd_to_hd};
