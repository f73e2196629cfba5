//! The coordinator: decides who does what next, and remembers what was done. Moves no frames.
//!
//! extract -> store -> train -> publish -> upscale: every arrow is decided here.
//!
//! Promises: whatever was acknowledged is on disk; a restart at any moment loses nothing; a task has at most one commit.
//! Read downwards: [`state`] decides over one task, [`flow`] over what follows, `db` makes both true, `leases` and `jobs`
//! are the two halves of the service, `service` puts them on the wire. Left to others: all work on frames and tensors.

pub mod blame;
pub mod check;
pub mod flow;
pub mod needs;
pub mod state;
pub mod stragglers;

mod background;
mod clock;
mod config;
mod coordinator;
mod db;
mod error;
mod fair;
mod garbage;
mod granted;
mod grants;
mod groups;
mod jobs;
mod leases;
mod ready;
mod serve;
mod service;
mod signals;
mod web;

pub use clock::Clock;
pub use config::{Config, Database};
pub use coordinator::Coordinator;
pub use error::CoordinatorError;
pub use serve::serve;
pub use web::serve_http;
