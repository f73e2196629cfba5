//! The door: wire types in, a call of the core, wire types out. Nothing is decided here and nothing else speaks gRPC.

mod catalog;
mod jobs;
mod workers;

pub(crate) use catalog::CatalogService;
pub(crate) use jobs::JobsService;
pub(crate) use workers::WorkersService;
