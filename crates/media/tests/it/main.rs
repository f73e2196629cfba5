//! Tests of this crate on real files: short pieces of the film in the containers that people own.
//!
//! Every fixture is made by ffmpeg into a temporary folder. Without the film (see deploy/setup.sh) its test picture
//! stands in, so the tests never need a network.
#![allow(clippy::unwrap_used)]

mod assembling;
mod bad_input;
mod colour;
mod encoding;
mod fields;
mod fixture;
mod reading;
