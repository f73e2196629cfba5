//! The suite over a PostgreSQL server.

use crate::cluster::Kind;

const DATABASE: Kind = Kind::Postgres;

#[path = "../blame.rs"]
mod blame;
#[path = "../flow.rs"]
mod flow;
#[path = "../garbage.rs"]
mod garbage;
#[path = "../histories.rs"]
mod histories;
#[path = "../jobs.rs"]
mod jobs;
#[path = "../leases.rs"]
mod leases;
#[path = "../restart.rs"]
mod restart;
#[path = "../stragglers.rs"]
mod stragglers;
#[path = "../upkeep.rs"]
mod upkeep;
