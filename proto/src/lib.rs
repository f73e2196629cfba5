//! The protocol: generated wire types, fallible conversions to the domain, and the client half of the lease protocol.
//!
//! extract -> store -> train -> publish -> upscale: every arrow that crosses a process is one of these messages.
//!
//! Wire types stop here: callers see domain types. Left to others: deciding who gets a lease (coordinator), doing the
//! work (worker, trainer).

mod answer;
mod attempt;
mod carrying;
mod client;
mod convert;
mod heartbeat;
mod session;

pub use attempt::{Attempt, AttemptError, Completion, Settled, TaskRunner};
pub use client::{ClientError, LeaseClient, LeaseGrant, MESSAGE_BYTES_MAX, UnreadableLease, connect};
pub use convert::{WireError, from_json, to_json};
pub use session::{SessionConfig, SessionError, run_session};

/// Generated from `remaster/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::too_many_lines, reason = "generated code")]
pub mod pb {
    tonic::include_proto!("remaster.v1");
}

/// The compiled proto files, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/remaster_descriptor.bin"));

/// Version of messages and their meaning. Raised with every change that a peer could notice; a coordinator serves peers of
/// its own version and of the one before, to whom every message must still make sense, and refuses others in words.
pub const PROTOCOL_VERSION: u32 = 2;
