//! What tests share: the film, simulated discs, an S3 server, a PostgreSQL server, a cluster of real processes.
//!
//! Nothing but tests and benches depends on this crate.

pub mod chaos;
mod cluster;
mod discs;
pub mod load;
mod postgres;
mod process;
mod s3;
mod s3_uploads;
mod store_faults;

pub use cluster::{Cluster, ClusterConfig, CoordinatorOnly, Finished, StoreAt, run_cli};
pub use discs::{Discs, film};
pub use postgres::{PostgresServer, Restart};
pub use process::{Process, binary, wait_until};
pub use s3::S3Server;
pub use store_faults::{StoreFault, StoreFaults};
