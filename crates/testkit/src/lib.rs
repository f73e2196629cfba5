//! What tests share: the film, simulated discs, an S3 server, a PostgreSQL server, a cluster of real processes.
//!
//! Nothing but tests and benches depends on this crate.

pub mod chaos;
mod cluster;
mod discs;
mod postgres;
mod s3;
mod store_faults;

pub use cluster::{
    Cluster, ClusterConfig, CoordinatorOnly, Finished, Process, StoreAt, binary, run_cli, wait_until,
};
pub use discs::{Discs, film};
pub use postgres::{PostgresServer, Restart};
pub use s3::S3Server;
pub use store_faults::{StoreFault, StoreFaults};
